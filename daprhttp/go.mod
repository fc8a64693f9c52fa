module example.com/dapr-orders/daprhttp

go 1.25.0

require (
	github.com/google/go-cmp v0.7.0
	github.com/matryer/is v1.4.1
)
