package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// Three replicas that count orders for the same item take turns: none of them
// starves, and no delivery is handed back for the others' sake.
func TestReplicasShareAHotItem(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]func(int) string{
		"UUIDv7":        func(int) string { return daprhttp.NewEventID() },
		"client's keys": func(n int) string { return harness.ClientKey("item1", n) },
	} {
		t.Run(name, func(t *testing.T) {
			s := harness.Start(t, harness.Options{Replicas: 3, SeparateState: harness.OwnRedis, Network: true})
			for _, app := range s.Inventory {
				s.LinksOf(app).State.Set(stack.Weather{Delay: 10 * time.Millisecond})
			}
			l := s.StartLoadWithKeys("item1", 300, nil, key)
			l.GoesOn(t, 3000)
			l.EndsExact(t)
			delays := l.Delays()
			at := func(percent int) time.Duration { return delays[(len(delays)-1)*percent/100] }
			figures := fmt.Sprintf("of %d orders half were counted within %v, 99 %% within %v, all within %v",
				len(delays), at(50).Round(time.Millisecond), at(99).Round(time.Millisecond), at(100).Round(time.Millisecond))
			t.Log(figures)
			// A promise, not a measurement: wide enough for a busy machine.
			if at(99) > 2*time.Second || at(100) > 5*time.Second {
				t.Errorf("%s; want 99 %% within 2s, all within 5s", figures)
			}
			for _, app := range s.Inventory {
				if n := strings.Count(app.Service.Log(), "Failed to process OrderPlaced event"); n > 0 {
					t.Errorf("a replica handed %d deliveries back", n)
				}
			}
		})
	}
}
