package e2e

import (
	"context"
	"slices"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// failover returns the fault that a machine is gone.
func failover(text string, core bool, env []string, happen func(*testing.T, *harness.System, *harness.Load)) fault {
	b := stack.Replicated
	b.Env = env
	return fault{text: text, core: core, options: harness.Options{Backend: b, Replicas: 2, Network: true}, perSecond: 50, happen: happen}
}

var (
	publishTwice = stack.Replicated.Env
	publishOnce  = slices.DeleteFunc(slices.Clone(publishTwice), func(variable string) bool { return variable == "PUBLISH_TWICE=true" })

	// A second copy of an event would hide what the state store loses.
	failovers = []fault{
		failover("the RabbitMQ node that leads the queue killed with -9, for good", true, publishTwice, brokerNodeGone),
		failover("two of three RabbitMQ nodes killed with -9, one of them back after 15 s", false, publishTwice, twoBrokerNodesGone),
		failover("PostgreSQL's primary killed, for good, the standby promoted after 5 s", true, publishOnce, primaryGone),
		failover("PostgreSQL's primary cut off and restarted, its standby promoted, one replica and its sidecar left on its side for 30 s", false, publishOnce, primaryCutOff),
		failover("a machine gone for good: an inventory service, its sidecar, and the RabbitMQ node that leads the queue", false, publishTwice, machineGone),
	}
)

func TestFailover(t *testing.T) { tryFaults(t, failovers) }

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
