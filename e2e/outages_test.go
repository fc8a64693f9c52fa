package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// takeover is how long an event waits in a sidecar that has ended. An event may meet several
// such sidecars, one after another.
const takeover = 11 * time.Second

// Faults of processes and servers.
var outages = []fault{
	{"an inventory replica, service and sidecar, that never comes back", true, replicas(3), 100, time.Minute, replicaGone},
	{"a sidecar frozen until other sidecars have taken its events, then resumed", true, replicas(2), 50, time.Minute, sidecarFrozen},
	{"the inventory service frozen while 3,000 events arrive, then resumed", true, replicas(1), 1000, time.Minute, serviceFrozen},
	{"three inventory sidecars stopped with SIGTERM while the state store is away", true, replicas(3), 50, time.Minute, sidecarsStopped},
	{"each of three inventory sidecars stopped with SIGTERM and restarted, four times", false, replicas(3), 1000, 12 * takeover, sidecarsRestarted},
	{"the broker away for 10 s", true, replicas(2), 50, time.Minute, brokerAway},
	{"broker and state store stopped for 5 s and resumed", false, replicas(2), 50, time.Minute, serversFrozen},
	{"Redis as broker at its `maxmemory` for 10 s", false, replicas(2), 50, time.Minute, brokerWithoutMemory},
	{"Redis as state store at its `maxmemory` for 10 s", false, replicas(2), 50, time.Minute, stateStoreWithoutMemory},
	{"no space on the disk for Redis as broker, until it is started again with more", false, replicas(2), 100, time.Minute, brokerWithoutDisk},
	{"no space on the disk for Redis as state store, until it is started again with more", false, replicas(2), 100, time.Minute, stateStoreWithoutDisk},
}

func replicas(n int) harness.Options { return harness.Options{Replicas: n, SeparateState: true} }

func TestOutage(t *testing.T) { tryFaults(t, outages) }

func replicaGone(t *testing.T, s *harness.System, l *harness.Load) {
	gone := s.Inventory[2]
	gone.Service.Kill() // first, so that the sidecar holds events that it can't deliver
	l.WhileAway(t, 50)
	gone.Sidecar.Kill()
}

// takenOver waits until the sidecars of the inventory service have acknowledged each event
// that is published so far.
func takenOver(s *harness.System) {
	s.T.Helper()
	published, err := s.Redis().LastEntry("OrderPlaced")
	harness.Must(s.T, err)
	harness.WaitFor(s.T, time.Minute, func() error { return s.Redis().Acknowledged("OrderPlaced", "inventory-service", published) })
}

// A sidecar that stands still for longer than processingTimeout (10 s) loses its events to
// another replica, and wakes up with them in its hands.
func sidecarFrozen(t *testing.T, s *harness.System, l *harness.Load) {
	harness.Must(t, s.Inventory[1].Sidecar.Freeze())
	l.WhileAway(t, 50) // the broker gives the frozen sidecar the next event
	takenOver(s)
	if _, latest := l.Latest(); latest < 9*time.Second { // processingTimeout, and a second of tolerance
		t.Error("the frozen sidecar held no event: the test has not shown what it should")
	}
	harness.Must(t, s.Inventory[1].Sidecar.Thaw())
}

func serviceFrozen(t *testing.T, s *harness.System, l *harness.Load) {
	harness.Must(t, s.Inventory[0].Service.Freeze())
	l.WhileAway(t, 3000)
	harness.Must(t, s.Inventory[0].Service.Thaw())
}

// Each sidecar that stops has events that the service could not apply. It must not
// acknowledge them.
func sidecarsStopped(t *testing.T, s *harness.System, l *harness.Load) {
	s.State.Kill()
	l.WhileAway(t, 100)
	harness.InParallel(len(s.Inventory), len(s.Inventory), func(i int) {
		if err := s.Inventory[i].Sidecar.Stop(20 * time.Second); err != nil {
			t.Error(err)
		}
	})
	harness.Must(t, s.State.Restart(t.Context()))
	for _, app := range s.Inventory {
		harness.Must(t, app.StartSidecar(t.Context()))
	}
}

func sidecarsRestarted(t *testing.T, s *harness.System, l *harness.Load) {
	for i := range 4 * len(s.Inventory) {
		app := s.Inventory[i%len(s.Inventory)]
		harness.Must(t, app.Sidecar.Stop(20*time.Second))
		harness.Must(t, app.StartSidecar(t.Context()))
		l.GoesOn(t, 20)
	}
}

func brokerAway(t *testing.T, s *harness.System, l *harness.Load) {
	s.Broker.Kill()
	time.Sleep(10 * time.Second) // the fault itself
	harness.Must(t, s.Broker.Restart(t.Context()))
	if l.Refused.Load() == 0 {
		t.Error("no order was refused while the broker was away: the test has not shown what it should")
	}
}

func serversFrozen(t *testing.T, s *harness.System, _ *harness.Load) {
	servers := []*stack.Redis{s.Redis(), s.State.(*stack.Redis)}
	for _, r := range servers {
		harness.Must(t, r.Freeze())
	}
	time.Sleep(5 * time.Second) // the fault itself
	for _, r := range servers {
		harness.Must(t, r.Thaw())
	}
}

// demandRefusal demands that an order is refused, clearly and in bounded time: a client may
// send it again.
func demandRefusal(s *harness.System) {
	s.T.Helper()
	began := time.Now()
	a := s.Send("POST", s.Order.URL("/order"), `{"orderId":"order-1","itemId":"refused","quantity":1}`, nil)
	if a.Status != http.StatusInternalServerError || !strings.Contains(a.Body, `"error":"Failed to publish OrderPlaced event","details":`) {
		s.T.Errorf("an order for which there is no room: got %d %s, want 500 and why", a.Status, a.Body)
	}
	// A request to the sidecar may take ten seconds, and the machine may be busy.
	if took := time.Since(began); took > 20*time.Second {
		s.T.Errorf("the order was refused after %v", took)
	}
}

func withoutMemory(t *testing.T, r *stack.Redis, meanwhile func()) {
	limit := func(bytes string) { harness.Must(t, r.Client().ConfigSet(t.Context(), "maxmemory", bytes).Err()) }
	limit("1") // and maxmemory-policy is "noeviction"
	meanwhile()
	time.Sleep(10 * time.Second) // the fault itself
	limit("0")
}

func brokerWithoutMemory(t *testing.T, s *harness.System, _ *harness.Load) {
	withoutMemory(t, s.Redis(), func() { demandRefusal(s) })
	if n, err := s.Stock("refused"); err != nil || n != 0 {
		t.Errorf("the order that was refused was applied: %d, %v", n, err)
	}
}

func stateStoreWithoutMemory(t *testing.T, s *harness.System, l *harness.Load) {
	withoutMemory(t, s.State.(*stack.Redis), func() { harness.Said(t, s.Inventory[0].Service, "OOM command not allowed") })
	if n := l.Refused.Load(); n > 0 {
		t.Errorf("%d orders were refused: the order service does not need the state store", n)
	}
}

// withoutDisk leaves Redis so little space that it ends: it can't write what it is about to
// acknowledge.
func withoutDisk(t *testing.T, r *stack.Redis, l *harness.Load, meanwhile func()) {
	r.Kill()
	harness.Must(t, r.RestartWithin(t.Context(), 256<<10))
	harness.WaitFor(t, 2*time.Minute, func() error {
		if r.Ended() == nil {
			return fmt.Errorf("the disk is not full yet")
		}
		return nil
	})
	if !strings.Contains(r.Log(), "AOF write error") {
		t.Fatalf("Redis has ended for another reason:\n%s", r.Log())
	}
	meanwhile()
	l.WhileAway(t, 50)
	harness.Must(t, r.Restart(t.Context()))
}

func brokerWithoutDisk(t *testing.T, s *harness.System, l *harness.Load) {
	withoutDisk(t, s.Redis(), l, func() { demandRefusal(s) })
}

func stateStoreWithoutDisk(t *testing.T, s *harness.System, l *harness.Load) {
	withoutDisk(t, s.State.(*stack.Redis), l, func() {})
}

// RabbitMQ stops reading from a publisher while its memory is full. The publisher gets no
// answer.
func TestRabbitMQWithoutMemory(t *testing.T) {
	t.Parallel()
	leftToBackends(t)
	options := harness.Options{Backend: stack.Backends[1], Replicas: 2}
	harness.UnderLoad(t, "RabbitMQ's memory alarm for 20 s", options, 50, func(s *harness.System, _ *harness.Load) {
		watermark := func(fraction string) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := s.Broker.(*stack.RabbitMQ).Control(ctx, "set_vm_memory_high_watermark", fraction) // of this machine's memory
			harness.Must(t, err)
		}
		watermark("0.00001")
		demandRefusal(s)             // after 10 s
		time.Sleep(10 * time.Second) // the fault itself
		watermark("0.4")
	})
}
