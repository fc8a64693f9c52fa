module example.com/dapr-orders/e2e

go 1.25.0

replace example.com/dapr-orders/daprhttp => ../daprhttp
