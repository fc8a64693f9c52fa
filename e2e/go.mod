module example.com/dapr-orders/e2e

go 1.25.0

replace example.com/dapr-orders/daprhttp => ../daprhttp

require (
	example.com/dapr-orders/daprhttp v0.0.0-00010101000000-000000000000
	github.com/google/go-cmp v0.7.0
	github.com/matryer/is v1.4.1
	go.yaml.in/yaml/v3 v3.0.4
)
