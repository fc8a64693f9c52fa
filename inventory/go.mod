module example.com/dapr-orders/inventory

go 1.25.0

require (
	example.com/dapr-orders/daprhttp v0.0.0
	github.com/matryer/is v1.4.1
)

require github.com/google/go-cmp v0.7.0

replace example.com/dapr-orders/daprhttp => ../daprhttp
