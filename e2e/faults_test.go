package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// Each of these tests runs a load, lets something fail, and ends in an exact
// count: every order that was accepted is counted once.

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

func TestOthersTakeOverFromAReplicaThatNeverComesBack(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{Replicas: 3})
	l := s.StartLoad("item1", 100, nil)
	l.GoesOn(t, 50)
	gone := s.Inventory[2]
	gone.Service.Kill() // first, so that the sidecar holds events that it can't deliver
	l.WhileAway(t, 50)
	gone.Sidecar.Kill()
	l.GoesOn(t, 50)
	l.EndsExact(t)
}

// The sidecar has many more events in hand than with the component files, so that
// thousands of deliveries fail while the service is away.
func TestServiceAwayForTenSeconds(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{Prepare: func(resources string) {
		harness.Edit(t, filepath.Join(resources, "pubsub.yaml"), `value: "50"`, `value: "400"`)
	}})
	l := s.StartLoad("item1", 200, nil)
	l.GoesOn(t, 50)
	s.Inventory[0].Service.Kill()
	time.Sleep(10 * time.Second) // the fault itself
	harness.Must(t, s.Inventory[0].StartService(t.Context()))
	l.GoesOn(t, 50)
	l.EndsExact(t)
}

func promiseStateStoreAway(t *testing.T, b stack.Backend) string {
	harness.NeedsOwnRedis(t)
	s := harness.Start(t, harness.Options{Backend: b, Replicas: 2, SeparateState: true})
	l := s.StartLoad("item1", 50, nil)
	l.GoesOn(t, 50)
	s.State.Kill()
	back := time.After(10 * time.Second)
	for _, app := range s.Inventory {
		harness.WaitFor(t, time.Minute, func() error {
			if !strings.Contains(app.Service.Log(), "Failed to process OrderPlaced event") {
				return fmt.Errorf("%s has not noticed that the state store is away", app.ID)
			}
			return nil
		})
	}
	_, readable := s.State.(*stack.SQLite) // it is locked, for those who write
	if a := s.Send("GET", s.Inventory[0].URL("/inventory/item1"), "", nil); !readable && (a.Status != 500 || !strings.Contains(a.Body, `"error"`)) {
		t.Errorf("GET /inventory/item1 without a state store: got %d %s, want 500 and an error", a.Status, a.Body)
	}
	<-back // the fault itself
	harness.Must(t, s.State.Restart(t.Context()))
	l.GoesOn(t, 50)
	figures := l.EndsExact(t)
	if n := l.Refused.Load(); n > 0 {
		t.Errorf("%d orders were refused: the order service has no need of the state store", n)
	}
	return figures
}

func TestBrokerAwayForTenSeconds(t *testing.T) {
	t.Parallel()
	harness.NeedsOwnRedis(t)
	s := harness.Start(t, harness.Options{Replicas: 2, SeparateState: true})
	l := s.StartLoad("item1", 50, nil)
	l.GoesOn(t, 50)
	s.Broker.Kill()
	time.Sleep(10 * time.Second) // the fault itself
	harness.Must(t, s.Broker.Restart(t.Context()))
	l.GoesOn(t, 50)
	l.EndsExact(t)
	if l.Refused.Load() == 0 {
		t.Error("no order was refused while the broker was away: the test has not shown what it should")
	}
}

func TestBothRedisStoppedAndResumed(t *testing.T) {
	t.Parallel()
	harness.NeedsOwnRedis(t)
	s := harness.Start(t, harness.Options{Replicas: 2, SeparateState: true})
	l := s.StartLoad("item1", 50, nil)
	l.GoesOn(t, 50)
	for _, r := range []*stack.Redis{s.Redis(), s.State.(*stack.Redis)} {
		harness.Must(t, r.Freeze())
	}
	time.Sleep(5 * time.Second) // the fault itself
	for _, r := range []*stack.Redis{s.Redis(), s.State.(*stack.Redis)} {
		harness.Must(t, r.Thaw())
	}
	l.GoesOn(t, 50)
	l.EndsExact(t)
}

func promiseBrokerKilled(t *testing.T, b stack.Backend) string {
	harness.NeedsOwnRedis(t)
	s := harness.Start(t, harness.Options{Backend: b, Replicas: 2})
	l := s.StartLoad("item1", 100, nil)
	s.KillBroker(l)
	return l.EndsExact(t)
}

// A sidecar that stands still for longer than processingTimeout (10 s) loses its
// events to another replica, and then wakes up with them in its hands.
func TestFrozenSidecarWakesUpWithEventsThatOthersHaveTaken(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{Replicas: 2})
	l := s.StartLoad("item1", 50, nil)
	l.GoesOn(t, 50)
	frozen := s.Inventory[1]
	harness.Must(t, frozen.Sidecar.Freeze())
	// What it held is claimed: nothing that was published before is left with it.
	published, err := s.Redis().LastEntry("OrderPlaced")
	harness.Must(t, err)
	harness.WaitFor(t, time.Minute, func() error { return s.Redis().Acknowledged("OrderPlaced", "inventory-service", published) })
	harness.Must(t, frozen.Sidecar.Thaw())
	l.GoesOn(t, 50)
	l.EndsExact(t)
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
		// Only when others have taken over what it left is it the next one's turn:
		// an event that is claimed by a replica that is restarted itself would wait
		// twice.
		if redis, ok := s.Broker.(*stack.Redis); ok { // others see a replica go
			published, err := redis.LastEntry("OrderPlaced")
			harness.Must(t, err)
			harness.WaitFor(t, time.Minute, func() error { return redis.Acknowledged("OrderPlaced", "inventory-service", published) })
		}
	}
	l.GoesOn(t, 100)
	figures := l.EndsExact(t)
	if n := l.Refused.Load(); n > 0 {
		t.Errorf("%d requests were cut off or refused", n)
	}
	// Another replica takes an event over after processingTimeout and
	// redeliverInterval, 11 s together. A sidecar may take 5 s to shut down, and the
	// rest is for a machine that is busy.
	if orderID, late := l.Latest(); late > 30*time.Second {
		t.Errorf("%s was counted %v after it was accepted", orderID, late)
	} else {
		t.Logf("the latest order was counted %v after it was accepted", late.Round(time.Millisecond))
	}
	return figures
}

// A sidecar that is told to stop may have events in its hands that the service could
// not count: they are not acknowledged.
func TestSidecarsStoppedWhileTheStateStoreIsAway(t *testing.T) {
	t.Parallel()
	harness.NeedsOwnRedis(t)
	s := harness.Start(t, harness.Options{Replicas: 3, SeparateState: true})
	l := s.StartLoad("item1", 50, nil)
	l.GoesOn(t, 50)
	for range 3 {
		s.State.Kill()
		l.WhileAway(t, 100) // every sidecar has events that are handed back to it
		harness.InParallel(len(s.Inventory), len(s.Inventory), func(i int) {
			if err := s.Inventory[i].Sidecar.Stop(20 * time.Second); err != nil {
				t.Error(err)
			}
		})
		harness.Must(t, s.State.Restart(t.Context()))
		for _, app := range s.Inventory {
			harness.Must(t, app.StartSidecar(t.Context()))
		}
		l.GoesOn(t, 50)
	}
	l.EndsExact(t)
}

// While an app does not answer its health check the sidecar delivers nothing,
// and when it answers again nothing has been lost.
func TestUnhealthyAppPausesDeliveries(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{Each: harness.CheckHealth})
	app := s.Inventory[0]
	s.SetStock("item1", 100)
	s.Place("order-1", "item1", 1)
	s.WaitForStock("item1", 99)
	s.Drained("inventory-service")
	harness.Must(t, app.Service.Stop(20*time.Second))
	harness.WaitFor(t, time.Minute, func() error { // three probes, 5 s from one to the next
		if !strings.Contains(app.Sidecar.Log(), "App entered un-healthy status") {
			return fmt.Errorf("the sidecar has not noticed that the app is not healthy")
		}
		return nil
	})
	// A fetch that was under way may still bring an event or two; then none comes.
	placed := 1
	var before string
	harness.WaitFor(t, time.Minute, func() (err error) {
		before, err = s.Redis().LastDelivered("OrderPlaced", "inventory-service")
		harness.Must(t, err)
		for range 10 {
			placed++
			s.Place(fmt.Sprintf("order-%d", placed), "item1", 1)
		}
		after, err := s.Redis().LastDelivered("OrderPlaced", "inventory-service")
		if err == nil && before != after {
			err = fmt.Errorf("the sidecar still fetches events, up to %s", after)
		}
		return err
	})
	for range 50 {
		placed++
		s.Place(fmt.Sprintf("order-%d", placed), "item1", 1)
	}
	after, err := s.Redis().LastDelivered("OrderPlaced", "inventory-service")
	harness.Must(t, err)
	if before != after {
		t.Errorf("the sidecar fetched events, up to %s, for an app that is not healthy", after)
	}
	harness.Must(t, app.StartService(t.Context()))
	s.WaitForStock("item1", 100-placed)
	s.Drained("inventory-service")
	s.WaitForStock("item1", 100-placed)
}

// A subscriber that answers nothing for long while many events wait, and then goes
// on, gets all of them, whether or not its sidecar has noticed.
func TestFrozenServiceWakesUpWithManyEventsWaiting(t *testing.T) {
	for name, healthCheck := range map[string]bool{"with a health check": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var each func(*stack.AppOptions)
			if healthCheck {
				each = harness.CheckHealth
			}
			s := harness.Start(t, harness.Options{Each: each})
			const orders = 3000
			app := s.Inventory[0]
			s.SetStock("item1", orders)
			harness.Must(t, app.Service.Freeze())
			harness.InParallel(orders, 16, func(i int) { s.Place(fmt.Sprint("order-", i), "item1", 1) })
			if healthCheck {
				harness.WaitFor(t, time.Minute, func() error {
					if !strings.Contains(app.Sidecar.Log(), "App entered un-healthy status") {
						return fmt.Errorf("the sidecar has not noticed that the app is not healthy")
					}
					return nil
				})
			}
			harness.Must(t, app.Service.Thaw())
			s.WaitForStock("item1", 0)
			s.Drained("inventory-service")
			s.WaitForStock("item1", 0)
		})
	}
}
