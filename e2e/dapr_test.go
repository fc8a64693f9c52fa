//go:build faults

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/stack"
)

// TestFaultsOfDapr shows each fault of Dapr that this project works around, over the
// sidecar that is used. One that is gone fails: what was done about it may go, too.
func TestFaultsOfDapr(t *testing.T) {
	for _, fault := range []struct {
		name  string // in components/README.md
		shown func(t *testing.T) bool
	}{
		{"an event on Redis whose handler fails once is lost", eventIsLost},
		{"a bulk that is delivered again moves the wrong event to the dead-letter topic, or none", wrongEventIsDead},
		{"an app that was unhealthy gets nothing more in bulk", bulksStop},
		{"an event is lost when RabbitMQ's connection breaks", unconfirmedIsLost},
		{"a bulk read that PostgreSQL breaks off finds nothing", readFindsNothing},
	} {
		t.Run(strings.ReplaceAll(fault.name, ",", ""), func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(document(t, "components/README.md"), "| "+fault.name+" |") {
				t.Errorf("components/README.md does not name the fault: %s", fault.name)
			}
			if !fault.shown(t) {
				t.Errorf("the fault is gone: %s", fault.name)
			}
		})
	}
}

// subscribeWith starts a subscriber whose answer to a delivery is a program's own.
func (s *system) subscribeWith(appID string, bulk *daprhttp.BulkSubscribe, deadLetters string, answer http.HandlerFunc) *stack.App {
	mux := http.NewServeMux()
	mux.Handle("GET /dapr/subscribe", daprhttp.SubscribeHandler(daprhttp.Subscription{
		PubsubName: "pubsub", Topic: "faults", Route: "/events", BulkSubscribe: bulk, DeadLetterTopic: deadLetters,
	}))
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /events", answer)
	return s.serve(appID, mux)
}

// admitAll takes from the component files who may publish and receive what.
func admitAll(t *testing.T) func(resources string) {
	return func(resources string) {
		file := filepath.Join(resources, "pubsub.yaml")
		text, err := os.ReadFile(file)
		must(t, err)
		before, _, found := strings.Cut(string(text), "    - name: protectedTopics")
		if !found {
			t.Fatalf("%s protects no topics", file)
		}
		must(t, os.WriteFile(file, []byte(before), 0o644))
	}
}

func eventIsLost(t *testing.T) bool {
	s := startSystem(t, systemOptions{prepare: func(resources string) {
		admitAll(t)(resources)
		must(t, os.Remove(filepath.Join(resources, "resiliency.yaml")))
	}})
	var failing atomic.Bool
	var came, handled atomic.Int32
	failing.Store(true)
	app := s.subscribeWith("faults", nil, "", func(w http.ResponseWriter, _ *http.Request) {
		came.Add(1)
		if failing.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		handled.Add(1)
	})
	const events = 20
	for i := range events {
		s.publish(app, "faults", daprhttp.Message{Data: fmt.Appendf(nil, `{"n":%d}`, i)})
	}
	waitFor(t, time.Minute, func() error { return s.Broker.Drained("faults", "faults") })
	failing.Store(false)
	t.Logf("of %d events %d came, and %d were handled", events, came.Load(), handled.Load())
	return came.Load() == events && handled.Load() == 0
}

func wrongEventIsDead(t *testing.T) bool {
	s := startSystem(t, systemOptions{prepare: admitAll(t)})
	var mu sync.Mutex
	seen := make(map[string]int)
	app := s.subscribeWith("faults", &daprhttp.BulkSubscribe{Enabled: true, MaxMessagesCount: 10, MaxAwaitDurationMs: 2000}, "faults-dead",
		func(w http.ResponseWriter, r *http.Request) {
			var bulk struct {
				Entries []struct {
					EntryID string
					Event   struct{ ID string }
				}
			}
			if err := json.NewDecoder(r.Body).Decode(&bulk); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			var answer daprhttp.BulkResponse
			for _, entry := range bulk.Entries {
				seen[entry.Event.ID]++
				status := daprhttp.StatusSuccess
				switch {
				case entry.Event.ID != "first" && seen[entry.Event.ID] == 1:
					status = daprhttp.StatusRetry
				case entry.Event.ID == "poison":
					status = daprhttp.StatusDrop
				}
				answer.Statuses = append(answer.Statuses, daprhttp.BulkStatus{EntryID: entry.EntryID, Status: status})
			}
			_ = json.NewEncoder(w).Encode(answer)
		})
	mux := http.NewServeMux()
	mux.Handle("GET /dapr/subscribe", daprhttp.SubscribeHandler(daprhttp.Subscription{PubsubName: "pubsub", Topic: "faults-dead", Route: "/events"}))
	var dead []string
	mux.Handle("POST /events", &daprhttp.DeliveryHandler{Handle: func(_ context.Context, events []daprhttp.Event) []daprhttp.Outcome {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range events {
			dead = append(dead, e.ID)
		}
		return slices.Repeat([]daprhttp.Outcome{daprhttp.Done()}, len(events))
	}})
	s.serve("faults-dead", mux)
	for _, id := range []string{"first", "second", "poison"} {
		s.publish(app, "faults", daprhttp.Message{Data: []byte(`{}`), Metadata: map[string]string{daprhttp.MetadataEventID: id}})
	}
	// Neither need ever be: the bulk may stay unacknowledged.
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		mu.Lock()
		found := len(dead) > 0
		mu.Unlock()
		if found && s.Broker.Drained("faults", "faults") == nil {
			break
		}
	}
	unhandled := s.Broker.Drained("faults", "faults")
	mu.Lock()
	defer mu.Unlock()
	t.Logf("deliveries: %v; dead: %q; %v", seen, dead, unhandled)
	return !slices.Equal(dead, []string{"poison"}) || unhandled != nil
}

func bulksStop(t *testing.T) bool {
	s := startSystem(t, systemOptions{prepare: admitAll(t), each: checkHealth})
	var frozen atomic.Bool
	var handled atomic.Int32
	hold := func(r *http.Request) {
		for frozen.Load() && r.Context().Err() == nil {
			time.Sleep(10 * time.Millisecond) // stands still, as a frozen program does
		}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /dapr/subscribe", daprhttp.SubscribeHandler(daprhttp.Subscription{
		PubsubName: "pubsub", Topic: "faults", Route: "/events", BulkSubscribe: &daprhttp.BulkSubscribe{Enabled: true, MaxMessagesCount: 200, MaxAwaitDurationMs: 1},
	}))
	mux.HandleFunc("GET /healthz", func(_ http.ResponseWriter, r *http.Request) { hold(r) })
	mux.Handle("POST /events", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hold(r)
		(&daprhttp.DeliveryHandler{Handle: func(_ context.Context, events []daprhttp.Event) []daprhttp.Outcome {
			handled.Add(int32(len(events)))
			return slices.Repeat([]daprhttp.Outcome{daprhttp.Done()}, len(events))
		}}).ServeHTTP(w, r)
	}))
	app := s.serve("faults", mux)
	const events = 3000
	frozen.Store(true)
	inParallel(events, 16, func(i int) { s.publish(app, "faults", daprhttp.Message{Data: fmt.Appendf(nil, `{"n":%d}`, i)}) })
	waitFor(t, time.Minute, func() error {
		if !strings.Contains(app.Sidecar.Log(), "App entered un-healthy status") {
			return fmt.Errorf("the sidecar has not noticed that the app is not healthy")
		}
		return nil
	})
	frozen.Store(false)
	deadline := time.Now().Add(time.Minute)
	for s.Broker.Drained("faults", "faults") != nil {
		if time.Now().After(deadline) {
			t.Logf("a minute after the app was well again, %d of %d events have been handled", handled.Load(), events)
			return true
		}
		time.Sleep(100 * time.Millisecond)
	}
	return false
}

func unconfirmedIsLost(t *testing.T) bool {
	b := stack.Backends[1]
	b.Env = nil // publishes once
	for range 3 {
		s := startSystem(t, systemOptions{backend: b})
		l := s.startLoad("item1", 100, nil)
		s.killBroker(l)
		close(l.stopping)
		l.workers.Wait()
		waitFor(t, 2*time.Minute, func() error { return s.Broker.Drained("OrderPlaced", "inventory-service") })
		stock, err := s.stock("item1")
		must(t, err)
		counted, accepted := l.stock-stock, l.numAccepted()
		t.Logf("%d orders accepted, %d counted", accepted, counted)
		if counted < accepted {
			return true
		}
	}
	return false
}

func readFindsNothing(t *testing.T) bool {
	s := startSystem(t, systemOptions{backend: stack.Backends[1]})
	database := s.State.(*stack.PostgreSQL)
	_, err := database.Query(t.Context(), "alter database postgres set statement_timeout = '1s'")
	must(t, err)
	s.inventory = append(s.inventory, s.start(project.App(stack.Inventory))) // whose connections have that
	sidecar := s.sidecar(s.inventory[1])
	ctx := t.Context()
	must(t, sidecar.SaveState(ctx, "statestore", daprhttp.StateItem{Key: "a", Value: 1}))
	read := func() []daprhttp.StateValue {
		values, err := sidecar.GetBulkState(ctx, "statestore", []string{"a", "b"}, daprhttp.GetBulkStateOptions{})
		t.Logf("%+v, %v", values, err)
		if err != nil {
			return nil
		}
		return values
	}
	read() // the connection has the statement prepared
	release, err := database.Lock(ctx, "state")
	must(t, err)
	values := read()
	must(t, release())
	return len(values) == 0 || !slices.ContainsFunc(values, func(v daprhttp.StateValue) bool { return v.Value != nil || v.Error != "" })
}
