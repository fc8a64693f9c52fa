module example.com/dapr-orders/e2e

go 1.25.0

replace example.com/dapr-orders/daprhttp => ../daprhttp

require (
	example.com/dapr-orders/daprhttp v0.0.0-00010101000000-000000000000
	github.com/google/go-cmp v0.7.0
	github.com/matryer/is v1.4.1
	go.yaml.in/yaml/v3 v3.0.4
	golang.org/x/perf v0.0.0-20250813145418-2f7363a06fe1
)

require github.com/aclements/go-moremath v0.0.0-20210112150236-f10218a38794 // indirect
