package e2e

import (
	"strings"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// A fault happens while clients place orders. In the end, every accepted order is applied once.
type fault struct {
	text      string // in e2e/README.md
	core      bool   // make test tries it, not only make test-backends
	options   harness.Options
	perSecond int           // orders
	within    time.Duration // from accepted to applied, for each order; 0: no bound
	happen    func(t *testing.T, s *harness.System, l *harness.Load)
}

// tryFaults demands that every accepted order is applied once, and that new orders are applied
// when the fault is over.
func tryFaults(t *testing.T, faults []fault) {
	t.Parallel()
	for _, f := range faults {
		t.Run(strings.NewReplacer(",", "", ":", "").Replace(f.text), func(t *testing.T) {
			if !f.core {
				leftToBackends(t)
			}
			t.Parallel()
			latest := harness.UnderLoad(t, f.text, f.options, f.perSecond, func(s *harness.System, l *harness.Load) { f.happen(t, s, l) })
			if f.within > 0 && latest > f.within {
				t.Errorf("an order was applied %v after it was accepted, want at most %v", latest, f.within)
			}
		})
	}
}

func promiseProcessesKilled(t *testing.T, b stack.Backend) string {
	s := harness.Start(t, harness.Options{Backend: b, Replicas: 2})
	l := s.StartLoad("item1", 100, nil)
	l.GoesOn(t, 50)
	for _, app := range []*stack.App{s.Inventory[1], s.Order} {
		app.Service.Kill()
		l.WhileAway(t, 20)
		harness.Must(t, app.StartService(t.Context()))
		l.GoesOn(t, 50)
		app.Sidecar.Kill()
		l.WhileAway(t, 20)
		harness.Must(t, app.StartSidecar(t.Context()))
		l.GoesOn(t, 50)
	}
	return l.EndsExact(t)
}

func promiseStateStoreAway(t *testing.T, b stack.Backend) string {
	s := harness.Start(t, harness.Options{Backend: b, Replicas: 2, SeparateState: true})
	l := s.StartLoad("item1", 50, nil)
	l.GoesOn(t, 50)
	s.State.Kill()
	back := time.After(10 * time.Second)
	for _, app := range s.Inventory {
		harness.Said(t, app.Service, "Failed to process OrderPlaced event")
	}
	_, readable := s.State.(*stack.SQLite) // which is locked for writers only
	if a := s.Send("GET", s.Inventory[0].URL("/inventory/item1"), "", nil); !readable && (a.Status != 500 || !strings.Contains(a.Body, `"error"`)) {
		t.Errorf("GET /inventory/item1 without a state store: got %d %s, want 500 and an error", a.Status, a.Body)
	}
	<-back // the fault itself
	harness.Must(t, s.State.Restart(t.Context()))
	l.GoesOn(t, 50)
	figures := l.EndsExact(t)
	if n := l.Refused.Load(); n > 0 {
		t.Errorf("%d orders were refused: the order service does not need the state store", n)
	}
	return figures
}

func promiseBrokerKilled(t *testing.T, b stack.Backend) string {
	s := harness.Start(t, harness.Options{Backend: b, Replicas: 2})
	l := s.StartLoad("item1", 100, nil)
	s.KillBroker(l)
	return l.EndsExact(t)
}

func promiseRollingRestart(t *testing.T, b stack.Backend) string {
	s := harness.Start(t, harness.Options{Backend: b, Replicas: 3})
	l := s.StartLoad("item1", 100, nil)
	for _, app := range s.Inventory {
		l.GoesOn(t, 100)
		harness.Must(t, app.Stop()) // SIGTERM; an error if it does not end by itself
		if log := app.Service.Log(); !strings.Contains(log, "inventory-service has stopped") || strings.Contains(log, "still under way") {
			t.Errorf("the service was not done when it ended:\n%s", log)
		}
		l.WhileAway(t, 100)
		harness.Must(t, app.StartService(t.Context()))
		harness.Must(t, app.StartSidecar(t.Context()))
		// The next replica stops when the other replicas have taken over what this one
		// left. An event that a replica claims just before it stops would wait twice.
		if _, ok := s.Broker.(*stack.Redis); ok { // other brokers see a replica go
			takenOver(s)
		}
	}
	l.GoesOn(t, 100)
	figures := l.EndsExact(t)
	if n := l.Refused.Load(); n > 0 {
		t.Errorf("%d requests were cut off or refused", n)
	}
	// Another replica takes an event over after processingTimeout and redeliverInterval,
	// 11 s together. A sidecar may take 5 s to shut down. The rest is for a busy machine.
	if orderID, late := l.Latest(); late > 30*time.Second {
		t.Errorf("%s was applied %v after it was accepted", orderID, late)
	}
	return figures
}
