module example.com/dapr-orders/inventory

go 1.25.0

require (
	example.com/dapr-orders/daprhttp v0.0.0
	github.com/matryer/is v1.4.1
)

replace example.com/dapr-orders/daprhttp => ../daprhttp
