package e2e

import (
	"testing"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// Three replicas that apply orders for one item take turns. A replica that starved would move
// its orders to the retry topic after two seconds. That shows in the time of more than 1 % of
// the orders.
func TestReplicasShareAHotItem(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]func(int) string{
		"UUIDv7":        func(int) string { return daprhttp.NewEventID() },
		"client's keys": func(n int) string { return harness.ClientKey("item1", n) },
	} {
		t.Run(name, func(t *testing.T) {
			s := harness.Start(t, harness.Options{Replicas: 3, SeparateState: true, Network: true})
			for _, app := range s.Inventory {
				s.LinksOf(app).State.Set(stack.Weather{Delay: 10 * time.Millisecond})
			}
			l := s.StartLoadWithKeys("item1", 300, nil, key)
			l.GoesOn(t, 1500)
			l.EndsExact(t)
			delays := l.Delays()
			p99, longest := delays[(len(delays)-1)*99/100], delays[len(delays)-1]
			// A promise, not a measurement: wide enough for a busy machine.
			if p99 > 2*time.Second || longest > 5*time.Second {
				t.Errorf("99 %% of the orders were applied within %v, all within %v; want 2s and 5s", p99, longest)
			}
		})
	}
}
