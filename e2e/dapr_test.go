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
		{"an event whose delivery fails is taken for handled, when others are delivered at the same time", failedIsHandled},
		{"a bulk that is delivered again moves the wrong event to the dead-letter topic, or none", wrongEventIsDead},
		{"an app that was unhealthy gets nothing more in bulk", bulksStop},
		{"an event is lost when RabbitMQ's connection breaks", unconfirmedIsLost},
		{"an event that RabbitMQ refuses is answered as published", refusedIsPublished},
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

// failedIsHandled shows that a sidecar which delivers many events at the same time takes
// some for handled that it could not deliver, because nothing listened.
func failedIsHandled(t *testing.T) bool {
	s := startSystem(t, systemOptions{prepare: func(resources string) {
		admitAll(t)(resources)
		manyInHand(t)(resources)
	}})
	var mu sync.Mutex
	came := make(map[string]bool)
	var away atomic.Bool
	app := s.serve("faults", subscribing(daprhttp.Subscription{Topic: "faults"}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var event struct{ ID string }
		if away.Load() || json.NewDecoder(r.Body).Decode(&event) != nil {
			panic(http.ErrAbortHandler) // the sidecar sees the connection fail
		}
		mu.Lock()
		defer mu.Unlock()
		came[event.ID] = true
	})))
	const events = 2000
	away.Store(true)
	end := time.Now().Add(10 * time.Second)
	for i := range events {
		s.publish(app, "faults", daprhttp.Message{Data: fmt.Appendf(nil, `{"n":%d}`, i)})
	}
	time.Sleep(time.Until(end)) // the fault itself
	away.Store(false)
	drained := s.drains(60 * time.Second)
	mu.Lock()
	defer mu.Unlock()
	t.Logf("%d events were published, %d came, and then nothing was left: %v", events, len(came), drained)
	return drained && len(came) < events
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
	var came atomic.Int32
	app := s.serve("faults", subscribing(daprhttp.Subscription{Topic: "faults"}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		came.Add(1)
		w.WriteHeader(http.StatusInternalServerError)
	})))
	const events = 20
	for i := range events {
		s.publish(app, "faults", daprhttp.Message{Data: fmt.Appendf(nil, `{"n":%d}`, i)})
	}
	gone := s.drains(30 * time.Second)
	t.Logf("%d events came %d times, each time the handler failed, and then nothing was left: %v", events, came.Load(), gone)
	return gone && came.Load() == events
}

// drains reports whether the topic "faults" has nothing left for its subscriber, within
// so much time. That need not ever be.
func (s *system) drains(within time.Duration) bool {
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if s.Broker.Drained("faults", "faults") == nil {
			return true
		}
	}
	return false
}

func wrongEventIsDead(t *testing.T) bool {
	s := startSystem(t, systemOptions{prepare: admitAll(t)})
	var mu sync.Mutex
	seen := make(map[string]int)
	dead := s.subscribe("faults-dead", "faults-dead")
	to := daprhttp.Subscription{
		Topic: "faults", DeadLetterTopic: "faults-dead",
		BulkSubscribe: &daprhttp.BulkSubscribe{Enabled: true, MaxMessagesCount: 10, MaxAwaitDurationMs: 2000},
	}
	app := s.serve("faults", subscribing(to,
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
		})))
	for _, id := range []string{"first", "second", "poison"} {
		s.publish(app, "faults", daprhttp.Message{Data: []byte(`{}`), Metadata: map[string]string{daprhttp.MetadataEventID: id}})
	}
	handled := s.drains(30 * time.Second)
	if handled { // and what is in the dead-letter topic has been read, too
		if n, err := s.Broker.Len("faults-dead", "faults-dead"); err == nil && n > 0 {
			s.drainedOf("faults-dead", "faults-dead")
		}
	}
	mu.Lock()
	defer mu.Unlock()
	var ids []string
	for _, event := range dead.events() {
		ids = append(ids, event.ID)
	}
	t.Logf("deliveries: %v; dead: %q; nothing left: %v", seen, ids, handled)
	return !slices.Equal(ids, []string{"poison"}) || !handled
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
	to := daprhttp.Subscription{Topic: "faults", BulkSubscribe: &daprhttp.BulkSubscribe{Enabled: true, MaxMessagesCount: 200, MaxAwaitDurationMs: 1}}
	mux := subscribing(to, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hold(r)
		(&daprhttp.DeliveryHandler{Handle: func(_ context.Context, events []daprhttp.Event) []daprhttp.Outcome {
			handled.Add(int32(len(events)))
			return slices.Repeat([]daprhttp.Outcome{daprhttp.Done()}, len(events))
		}}).ServeHTTP(w, r)
	}))
	mux.HandleFunc("GET /healthz", func(_ http.ResponseWriter, r *http.Request) { hold(r) })
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
	drained := s.drains(time.Minute)
	t.Logf("after the app was well again, %d of %d events were handled, at most a minute later", handled.Load(), events)
	return !drained
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

func refusedIsPublished(t *testing.T) bool {
	s := startSystem(t, systemOptions{backend: stack.Backends[1], prepare: admitAll(t)})
	full := filepath.Join(t.TempDir(), "definitions.json") // a queue that has no room, and says so
	must(t, os.WriteFile(full, []byte(`{
		"exchanges": [{"vhost": "/", "name": "faults", "type": "fanout", "durable": true, "auto_delete": false, "internal": false, "arguments": {}}],
		"queues": [{"vhost": "/", "name": "faults-faults", "durable": true, "auto_delete": false, "arguments": {"x-max-length": 1, "x-overflow": "reject-publish"}}],
		"bindings": [{"vhost": "/", "source": "faults", "destination": "faults-faults", "destination_type": "queue", "routing_key": "", "arguments": {}}]
	}`), 0o644))
	rabbit := s.Broker.(*stack.RabbitMQ)
	must(t, rabbit.ImportDefinitions(t.Context(), full))
	const events = 5
	for i := range events {
		s.publish(s.order, "faults", daprhttp.Message{Data: fmt.Appendf(nil, `{"n":%d}`, i)})
	}
	n, err := rabbit.Len("faults", "faults")
	must(t, err)
	t.Logf("%d events published, of which the broker has %d", events, n)
	return n < events
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
