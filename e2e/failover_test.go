package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// A failover is a machine that is gone, and what takes its place.
type failover struct {
	text string // in e2e/README.md
	core bool   // make test tries it, not only make test-backends

	broker bool // the broker fails over, not the state store
	happen func(t *testing.T, s *harness.System, l *harness.Load)
}

var failovers = []failover{
	{"the RabbitMQ node that leads the queue killed with -9, for good", true, true, brokerNodeGone},
	{"two of three RabbitMQ nodes killed with -9, one of them back after 15 s", false, true, twoBrokerNodesGone},
	{"PostgreSQL's primary killed, for good, the standby promoted after 5 s", true, false, primaryGone},
	{"PostgreSQL's primary cut off and restarted, its standby promoted, one replica and its sidecar left on its side for 30 s", false, false, primaryCutOff},
	{"a machine gone for good: an inventory service, its sidecar, and the RabbitMQ node that leads the queue", false, true, machineGone},
}

// TestFailover demands that every accepted order is applied once when a machine is lost.
func TestFailover(t *testing.T) {
	t.Parallel()
	for _, f := range failovers {
		if !f.core && *promisesFile == "" {
			continue
		}
		t.Run(strings.NewReplacer(",", "", ":", "").Replace(f.text), func(t *testing.T) {
			t.Parallel()
			b := stack.Replicated
			if !f.broker { // a second copy of an event would hide what the state store loses
				b.Env = slices.DeleteFunc(slices.Clone(b.Env), func(variable string) bool { return variable == "PUBLISH_TWICE=true" })
			}
			options := harness.Options{Backend: b, Replicas: 2, Network: true}
			harness.UnderLoad(t, f.text, options, 50, func(s *harness.System, l *harness.Load) { f.happen(t, s, l) })
		})
	}
}

// leader returns the broker's node that leads the queue of orders.
func leader(s *harness.System) *stack.RabbitMQNode {
	s.T.Helper()
	ctx, cancel := context.WithTimeout(s.T.Context(), time.Minute)
	defer cancel()
	node, err := s.Broker.(*stack.RabbitMQ).Leader(ctx, "OrderPlaced", "inventory-service")
	harness.Must(s.T, err)
	return node
}

func brokerNodeGone(t *testing.T, s *harness.System, l *harness.Load) {
	leader(s).Kill()
	l.WhileAway(t, 50)
}

func twoBrokerNodesGone(t *testing.T, s *harness.System, l *harness.Load) {
	leader := leader(s)
	leader.Kill()
	for _, node := range s.Broker.(*stack.RabbitMQ).Nodes {
		if node != leader {
			node.Kill()
			break
		}
	}
	time.Sleep(15 * time.Second) // the fault itself
	harness.Must(t, leader.Restart(t.Context()))
}

func primaryGone(t *testing.T, s *harness.System, _ *harness.Load) {
	pair := s.State.(*stack.PostgreSQLPair)
	pair.Primary.Kill()
	time.Sleep(5 * time.Second) // until the operator has noticed
	harness.Must(t, pair.Standby.Promote(t.Context()))
}

func machineGone(t *testing.T, s *harness.System, l *harness.Load) {
	leader(s).Kill()
	s.Inventory[1].Sidecar.Kill()
	s.Inventory[1].Service.Kill()
	l.WhileAway(t, 50)
}

// primaryCutOff cuts the old primary off from the new one. The first replica reaches only the
// new primary, the second only the old one. Both reach the broker. The old primary acknowledges
// no write that its standby does not have. A replica that trusts what it reads there, and not
// only what was acknowledged, loses orders.
func primaryCutOff(t *testing.T, s *harness.System, l *harness.Load) {
	pair := s.State.(*stack.PostgreSQLPair)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	pair.Between.Set(stack.Cut)
	one, other := s.LinksOf(s.Inventory[0]), s.LinksOf(s.Inventory[1])
	one.State.Set(stack.Cut)
	other.Standby.Set(stack.Cut)
	harness.Must(t, pair.Standby.Promote(ctx))
	time.Sleep(10 * time.Second) // the fault itself
	pair.Primary.Kill()
	harness.Must(t, pair.Primary.Restart(ctx)) // and now shows what it could not acknowledge
	time.Sleep(20 * time.Second)
	old, err := pair.Primary.Query(ctx, "select count(*) from state")
	harness.Must(t, err)
	t.Logf("the old primary, which will be lost, has %s records and markers", old)
	pair.Primary.Kill()
	one.State.Set(stack.Weather{})
	other.Standby.Set(stack.Weather{})
}
