package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// A storm is a fault of the network. No process dies of it.
type storm struct {
	text    string // in e2e/README.md
	core    bool   // make test tries it, not only make test-backends
	lasts   time.Duration
	weather stack.Weather
	links   func(s *harness.System) []*stack.Link
}

var storms = []storm{
	{"packets to and from the broker dropped for 20 s", false, 20 * time.Second, stack.Cut, (*harness.System).BrokerLinks},
	{"packets to and from the state store dropped for 20 s", false, 20 * time.Second, stack.Cut, (*harness.System).StateLinks},
	{"packets to the broker dropped for 10 s, none from it", false, 10 * time.Second, stack.Weather{CutThere: true}, (*harness.System).BrokerLinks},
	{"packets from the broker dropped for 10 s, none to it", false, 10 * time.Second, stack.Weather{CutBack: true}, (*harness.System).BrokerLinks},
	{"packets to the state store dropped for 10 s, none from it", false, 10 * time.Second, stack.Weather{CutThere: true}, (*harness.System).StateLinks},
	{"packets from the state store dropped for 10 s, none to it", true, 10 * time.Second, stack.Weather{CutBack: true}, (*harness.System).StateLinks},
	{"30 % of all packets lost for 20 s, wherever they go", false, 20 * time.Second, stack.Weather{Loss: 0.3}, (*harness.System).AllLinks},
	{"the state store's answers 2 s late, for 20 s", false, 20 * time.Second, stack.Weather{Delay: 2 * time.Second}, (*harness.System).StateLinks},
	{"the broker's answers 2 s late, for 20 s", false, 20 * time.Second, stack.Weather{Delay: 2 * time.Second}, (*harness.System).BrokerLinks},
	{"all answers 2 s late, wherever they come from, for 20 s", false, 20 * time.Second, stack.Weather{Delay: 2 * time.Second}, (*harness.System).AllLinks},
	{"one replica cut off from the state store for 15 s, not from the broker", true, 15 * time.Second, stack.Cut, func(s *harness.System) []*stack.Link {
		return []*stack.Link{s.LinksOf(s.Inventory[1]).State}
	}},
	{"one replica cut off from the broker for 30 s, not from the state store", false, 30 * time.Second, stack.Cut, func(s *harness.System) []*stack.Link {
		return []*stack.Link{s.LinksOf(s.Inventory[1]).Broker}
	}},
	{"one inventory service and its sidecar cut off from each other for 30 s", false, 30 * time.Second, stack.Cut, func(s *harness.System) []*stack.Link {
		l := s.LinksOf(s.Inventory[1])
		return []*stack.Link{l.Service, l.Sidecar}
	}},
	{"the order service cut off from its sidecar for 10 s", false, 10 * time.Second, stack.Cut, func(s *harness.System) []*stack.Link {
		return []*stack.Link{s.LinksOf(s.Order).Sidecar}
	}},
}

// TestNetwork demands that every accepted order is applied once when the network fails.
func TestNetwork(t *testing.T) {
	t.Parallel()
	for _, st := range storms {
		if !st.core && *promisesFile == "" {
			continue
		}
		t.Run(strings.ReplaceAll(st.text, ",", ""), func(t *testing.T) {
			t.Parallel()
			harness.NeedsOwnRedis(t)
			options := harness.Options{Replicas: 2, SeparateState: true, Network: true}
			harness.UnderLoad(t, st.text, options, 50, func(s *harness.System, _ *harness.Load) {
				links := st.links(s)
				harness.Rage(st.weather, st.lasts, links...)
				if !slices.ContainsFunc(links, func(l *stack.Link) bool { return l.Held() > 0 }) {
					t.Error("the links have held up nothing: the test has not shown what it should")
				}
			})
		})
	}
}
