module example.com/dapr-orders/daprhttp

go 1.25.0
