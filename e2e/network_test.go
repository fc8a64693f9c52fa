package e2e

import (
	"slices"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// storm returns a fault of the network. No process dies of it.
func storm(text string, core bool, lasts time.Duration, weather stack.Weather, links func(s *harness.System) []*stack.Link) fault {
	options := harness.Options{Replicas: 2, SeparateState: true, Network: true}
	return fault{text: text, core: core, options: options, perSecond: 50, happen: func(t *testing.T, s *harness.System, _ *harness.Load) {
		links := links(s)
		harness.Rage(weather, lasts, links...)
		if !slices.ContainsFunc(links, func(l *stack.Link) bool { return l.Held() > 0 }) {
			t.Error("the links have held up nothing: the test has not shown what it should")
		}
	}}
}

var storms = []fault{
	storm("packets to and from the broker dropped for 20 s", false, 20*time.Second, stack.Cut, (*harness.System).BrokerLinks),
	storm("packets to and from the state store dropped for 20 s", false, 20*time.Second, stack.Cut, (*harness.System).StateLinks),
	storm("packets to the broker dropped for 10 s, none from it", false, 10*time.Second, stack.Weather{CutThere: true}, (*harness.System).BrokerLinks),
	storm("packets from the broker dropped for 10 s, none to it", false, 10*time.Second, stack.Weather{CutBack: true}, (*harness.System).BrokerLinks),
	storm("packets to the state store dropped for 10 s, none from it", false, 10*time.Second, stack.Weather{CutThere: true}, (*harness.System).StateLinks),
	storm("packets from the state store dropped for 10 s, none to it", true, 10*time.Second, stack.Weather{CutBack: true}, (*harness.System).StateLinks),
	storm("30 % of all packets lost for 20 s, wherever they go", false, 20*time.Second, stack.Weather{Loss: 0.3}, (*harness.System).AllLinks),
	storm("the state store's answers 2 s late, for 20 s", false, 20*time.Second, stack.Weather{Delay: 2 * time.Second}, (*harness.System).StateLinks),
	storm("the broker's answers 2 s late, for 20 s", false, 20*time.Second, stack.Weather{Delay: 2 * time.Second}, (*harness.System).BrokerLinks),
	storm("all answers 2 s late, wherever they come from, for 20 s", false, 20*time.Second, stack.Weather{Delay: 2 * time.Second}, (*harness.System).AllLinks),
	storm("one replica cut off from the state store for 15 s, not from the broker", true, 15*time.Second, stack.Cut, func(s *harness.System) []*stack.Link {
		return []*stack.Link{s.LinksOf(s.Inventory[1]).State}
	}),
	storm("one replica cut off from the broker for 30 s, not from the state store", false, 30*time.Second, stack.Cut, func(s *harness.System) []*stack.Link {
		return []*stack.Link{s.LinksOf(s.Inventory[1]).Broker}
	}),
	storm("one inventory service and its sidecar cut off from each other for 30 s", false, 30*time.Second, stack.Cut, func(s *harness.System) []*stack.Link {
		l := s.LinksOf(s.Inventory[1])
		return []*stack.Link{l.Service, l.Sidecar}
	}),
	storm("the order service cut off from its sidecar for 10 s", false, 10*time.Second, stack.Cut, func(s *harness.System) []*stack.Link {
		return []*stack.Link{s.LinksOf(s.Order).Sidecar}
	}),
}

func TestNetwork(t *testing.T) { tryFaults(t, storms) }
