package e2e

import (
	"fmt"
	"testing"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// What Mosquitto has acknowledged in the last second before it is killed is gone: no
// program can make that good, and the table of promises says so.
func TestMosquittoForgetsTheLastSecond(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{Backend: stack.Backends[3]})
	harness.Must(t, s.Inventory[0].Sidecar.Freeze())
	const orders = 20
	for i := range orders {
		s.Place(fmt.Sprint("order-", i), "item1", 1)
	}
	s.Broker.Kill()
	s.Inventory[0].Sidecar.Kill()
	harness.Must(t, s.Broker.Restart(t.Context()))
	harness.Must(t, s.Inventory[0].StartSidecar(t.Context()))
	s.Drained("inventory-service")
	stock, err := s.Stock("item1")
	harness.Must(t, err)
	t.Logf("%d of %d orders were counted", -stock, orders)
	if -stock == orders {
		t.Error("nothing was lost: the table of promises says otherwise")
	}
}
