package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/stack"
)

// Each of these tests runs a load, lets something fail, and ends in an exact
// count: every order that was accepted is counted once.

func promiseProcessesKilled(t *testing.T, b stack.Backend) string {
	s := startSystem(t, systemOptions{backend: b, replicas: 2})
	l := s.startLoad("item1", 100, nil)
	l.goesOn(t, 50)
	for _, app := range []*stack.App{s.inventory[1], s.order} {
		app.Service.Kill()
		l.whileAway(t, 20)
		must(t, app.StartService(t.Context()))
		l.goesOn(t, 50)
		app.Sidecar.Kill()
		l.whileAway(t, 20)
		must(t, app.StartSidecar(t.Context()))
		l.goesOn(t, 50)
	}
	return l.endsExact(t)
}

// whileAway waits until so many more requests were answered or refused, so that
// a fault has been noticed.
func (l *load) whileAway(t *testing.T, requests int) {
	t.Helper()
	seen := func() int { return l.numAccepted() + int(l.refused.Load()) }
	before := seen()
	waitFor(t, 2*time.Minute, func() error {
		if n := seen() - before; n < requests {
			return fmt.Errorf("%d requests were made, want %d", n, requests)
		}
		return nil
	})
}

func TestOthersTakeOverFromAReplicaThatNeverComesBack(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{replicas: 3})
	l := s.startLoad("item1", 100, nil)
	l.goesOn(t, 50)
	gone := s.inventory[2]
	gone.Service.Kill() // first, so that the sidecar holds events that it can't deliver
	l.whileAway(t, 50)
	gone.Sidecar.Kill()
	l.goesOn(t, 50)
	l.endsExact(t)
}

// The sidecar has many more events in hand than with the component files, so that
// thousands of deliveries fail while the service is away.
func TestServiceAwayForTenSeconds(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{prepare: func(resources string) {
		edit(t, filepath.Join(resources, "pubsub.yaml"), `value: "50"`, `value: "400"`)
	}})
	l := s.startLoad("item1", 200, nil)
	l.goesOn(t, 50)
	s.inventory[0].Service.Kill()
	time.Sleep(10 * time.Second) // the fault itself
	must(t, s.inventory[0].StartService(t.Context()))
	l.goesOn(t, 50)
	l.endsExact(t)
}

func promiseStateStoreAway(t *testing.T, b stack.Backend) string {
	needsOwnRedis(t)
	s := startSystem(t, systemOptions{backend: b, replicas: 2, separateState: true})
	l := s.startLoad("item1", 50, nil)
	l.goesOn(t, 50)
	s.State.Kill()
	time.Sleep(10 * time.Second) // the fault itself
	must(t, s.State.Restart(t.Context()))
	l.goesOn(t, 50)
	figures := l.endsExact(t)
	if n := l.refused.Load(); n > 0 {
		t.Errorf("%d orders were refused: the order service has no need of the state store", n)
	}
	return figures
}

func TestBrokerAwayForTenSeconds(t *testing.T) {
	t.Parallel()
	needsOwnRedis(t)
	s := startSystem(t, systemOptions{replicas: 2, separateState: true})
	l := s.startLoad("item1", 50, nil)
	l.goesOn(t, 50)
	s.Broker.Kill()
	time.Sleep(10 * time.Second) // the fault itself
	must(t, s.Broker.Restart(t.Context()))
	l.goesOn(t, 50)
	l.endsExact(t)
	if l.refused.Load() == 0 {
		t.Error("no order was refused while the broker was away: the test has not shown what it should")
	}
}

func TestBothRedisStoppedAndResumed(t *testing.T) {
	t.Parallel()
	needsOwnRedis(t)
	s := startSystem(t, systemOptions{replicas: 2, separateState: true})
	l := s.startLoad("item1", 50, nil)
	l.goesOn(t, 50)
	for _, r := range []*stack.Redis{s.redis(), s.State.(*stack.Redis)} {
		must(t, r.Freeze())
	}
	time.Sleep(5 * time.Second) // the fault itself
	for _, r := range []*stack.Redis{s.redis(), s.State.(*stack.Redis)} {
		must(t, r.Thaw())
	}
	l.goesOn(t, 50)
	l.endsExact(t)
}

func promiseBrokerKilled(t *testing.T, b stack.Backend) string {
	needsOwnRedis(t)
	s := startSystem(t, systemOptions{backend: b, replicas: 2})
	l := s.startLoad("item1", 100, nil)
	s.killBroker(l)
	return l.endsExact(t)
}

// killBroker kills the broker three times under load, and starts it again.
func (s *system) killBroker(l *load) {
	s.t.Helper()
	for range 3 {
		l.goesOn(s.t, 50)
		s.Broker.Kill()
		must(s.t, s.Broker.Restart(s.t.Context()))
	}
	l.goesOn(s.t, 50)
}

// A sidecar that stands still for longer than processingTimeout (10 s) loses its
// events to another replica, and then wakes up with them in its hands.
func TestFrozenSidecarWakesUpWithEventsThatOthersHaveTaken(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{replicas: 2})
	l := s.startLoad("item1", 50, nil)
	l.goesOn(t, 50)
	frozen := s.inventory[1]
	must(t, frozen.Sidecar.Freeze())
	// What it held is claimed: nothing that was published before is left with it.
	published, err := s.redis().LastEntry("OrderPlaced")
	must(t, err)
	waitFor(t, time.Minute, func() error { return s.redis().Acknowledged("OrderPlaced", "inventory-service", published) })
	must(t, frozen.Sidecar.Thaw())
	l.goesOn(t, 50)
	l.endsExact(t)
}

func promiseRollingRestart(t *testing.T, b stack.Backend) string {
	s := startSystem(t, systemOptions{backend: b, replicas: 3})
	l := s.startLoad("item1", 100, nil)
	for _, app := range s.inventory {
		l.goesOn(t, 100)
		must(t, app.Stop()) // SIGTERM; an error if it does not end by itself
		if log := app.Service.Log(); !strings.Contains(log, "inventory-service has stopped") || strings.Contains(log, "still under way") {
			t.Errorf("the service was not done when it ended:\n%s", log)
		}
		l.whileAway(t, 100)
		must(t, app.StartService(t.Context()))
		must(t, app.StartSidecar(t.Context()))
		// Only when others have taken over what it left is it the next one's turn:
		// an event that is claimed by a replica that is restarted itself would wait
		// twice.
		if redis, ok := s.Broker.(*stack.Redis); ok { // others see a replica go
			published, err := redis.LastEntry("OrderPlaced")
			must(t, err)
			waitFor(t, time.Minute, func() error { return redis.Acknowledged("OrderPlaced", "inventory-service", published) })
		}
	}
	l.goesOn(t, 100)
	figures := l.endsExact(t)
	if n := l.refused.Load(); n > 0 {
		t.Errorf("%d requests were cut off or refused", n)
	}
	// Another replica takes an event over after processingTimeout and
	// redeliverInterval, 11 s together. A sidecar may take 5 s to shut down, and the
	// rest is for a machine that is busy.
	if orderID, late := l.latest(); late > 30*time.Second {
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
	needsOwnRedis(t)
	s := startSystem(t, systemOptions{replicas: 3, separateState: true})
	l := s.startLoad("item1", 50, nil)
	l.goesOn(t, 50)
	for range 3 {
		s.State.Kill()
		l.whileAway(t, 100) // every sidecar has events that are handed back to it
		inParallel(len(s.inventory), len(s.inventory), func(i int) {
			if err := s.inventory[i].Sidecar.Stop(20 * time.Second); err != nil {
				t.Error(err)
			}
		})
		must(t, s.State.Restart(t.Context()))
		for _, app := range s.inventory {
			must(t, app.StartSidecar(t.Context()))
		}
		l.goesOn(t, 50)
	}
	l.endsExact(t)
}

// checkHealth lets a sidecar check its app's health.
func checkHealth(o *stack.AppOptions) {
	o.SidecarArgs = append(o.SidecarArgs, "--enable-app-health-check")
}

// While an app does not answer its health check the sidecar delivers nothing,
// and when it answers again nothing has been lost.
func TestUnhealthyAppPausesDeliveries(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{each: checkHealth})
	app := s.inventory[0]
	s.setStock("item1", 100)
	s.place("order-1", "item1", 1)
	s.waitForStock("item1", 99)
	s.drained("inventory-service")
	must(t, app.Service.Stop(20*time.Second))
	waitFor(t, time.Minute, func() error { // three probes, 5 s from one to the next
		if !strings.Contains(app.Sidecar.Log(), "App entered un-healthy status") {
			return fmt.Errorf("the sidecar has not noticed that the app is not healthy")
		}
		return nil
	})
	// A fetch that was under way may still bring an event or two; then none comes.
	placed := 1
	var before string
	waitFor(t, time.Minute, func() (err error) {
		before, err = s.redis().LastDelivered("OrderPlaced", "inventory-service")
		must(t, err)
		for range 10 {
			placed++
			s.place(fmt.Sprintf("order-%d", placed), "item1", 1)
		}
		after, err := s.redis().LastDelivered("OrderPlaced", "inventory-service")
		if err == nil && before != after {
			err = fmt.Errorf("the sidecar still fetches events, up to %s", after)
		}
		return err
	})
	for range 50 {
		placed++
		s.place(fmt.Sprintf("order-%d", placed), "item1", 1)
	}
	after, err := s.redis().LastDelivered("OrderPlaced", "inventory-service")
	must(t, err)
	if before != after {
		t.Errorf("the sidecar fetched events, up to %s, for an app that is not healthy", after)
	}
	must(t, app.StartService(t.Context()))
	s.waitForStock("item1", 100-placed)
	s.drained("inventory-service")
	s.waitForStock("item1", 100-placed)
}

// A subscriber that answers nothing for long while many events wait, and then goes
// on, gets all of them, whether or not its sidecar has noticed.
func TestFrozenServiceWakesUpWithManyEventsWaiting(t *testing.T) {
	for name, healthCheck := range map[string]bool{"with a health check": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var each func(*stack.AppOptions)
			if healthCheck {
				each = checkHealth
			}
			s := startSystem(t, systemOptions{each: each})
			const orders = 3000
			app := s.inventory[0]
			s.setStock("item1", orders)
			must(t, app.Service.Freeze())
			inParallel(orders, 16, func(i int) { s.place(fmt.Sprint("order-", i), "item1", 1) })
			if healthCheck {
				waitFor(t, time.Minute, func() error {
					if !strings.Contains(app.Sidecar.Log(), "App entered un-healthy status") {
						return fmt.Errorf("the sidecar has not noticed that the app is not healthy")
					}
					return nil
				})
			}
			must(t, app.Service.Thaw())
			s.waitForStock("item1", 0)
			s.drained("inventory-service")
			s.waitForStock("item1", 0)
		})
	}
}
