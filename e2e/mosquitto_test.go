package e2e

import (
	"fmt"
	"testing"

	"example.com/dapr-orders/e2e/stack"
)

// What Mosquitto has acknowledged in the last second before it is killed is gone: no
// program can make that good, and the table of promises says so.
func TestMosquittoForgetsTheLastSecond(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{backend: stack.Backends[3]})
	must(t, s.inventory[0].Sidecar.Freeze())
	const orders = 20
	for i := range orders {
		s.place(fmt.Sprint("order-", i), "item1", 1)
	}
	s.Broker.Kill()
	s.inventory[0].Sidecar.Kill()
	must(t, s.Broker.Restart(t.Context()))
	must(t, s.inventory[0].StartSidecar(t.Context()))
	s.drained("inventory-service")
	stock, err := s.stock("item1")
	must(t, err)
	t.Logf("%d of %d orders were counted", -stock, orders)
	if -stock == orders {
		t.Error("nothing was lost: the table of promises says otherwise")
	}
}
