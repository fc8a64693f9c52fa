module example.com/dapr-orders/order

go 1.25.0

require example.com/dapr-orders/daprhttp v0.0.0

replace example.com/dapr-orders/daprhttp => ../daprhttp
