//go:build faults

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// TestFaultsOfDapr shows each fault of Dapr that this project works around, over the
// sidecar that is used. One that is gone fails: what was done about it may go, too.
func TestFaultsOfDapr(t *testing.T) {
	for _, fault := range []struct {
		name  string // in components/dapr-issues.md
		shown func(t *testing.T) bool
	}{
		{"an event on Redis whose handler fails once is lost", eventIsLost},
		{"an event whose delivery fails is taken for handled, when other events are delivered at the same time", failedIsHandled},
		{"an answer that breaks off in the middle counts as success", brokenOffIsHandled},
		{"a `redeliverInterval` on Redis that is a duration, such as `1s`, is ignored", durationIsIgnored},
		{"an event is lost when RabbitMQ's connection breaks", unconfirmedIsLost},
		{"an event that RabbitMQ refuses is answered as published", refusedIsPublished},
		{"metadata that no HTTP header can hold keeps a message from the app, and `accept: text/event-stream` ends the sidecar", metadataStopsDelivery},
		{"a bulk read that PostgreSQL breaks off finds nothing", readFindsNothing},
	} {
		t.Run(strings.ReplaceAll(fault.name, ",", ""), func(t *testing.T) {
			t.Parallel()
			if !strings.Contains(harness.Document(t, "components/dapr-issues.md"), "| "+fault.name+" |") {
				t.Errorf("components/dapr-issues.md does not name the fault: %s", fault.name)
			}
			if !fault.shown(t) {
				t.Errorf("the fault is gone: %s", fault.name)
			}
		})
	}
}

// metadataStopsDelivery shows what TestHeadersOfAPublisherRefuseNoDelivery does not see with
// the filter.
func metadataStopsDelivery(t *testing.T) bool {
	s := harness.Start(t, harness.Options{Unfiltered: true})
	sidecar := s.Inventory[0].Sidecar
	for _, tt := range []struct{ name, value, want string }{
		{"a name", "x", `invalid header field name`}, {"accept", "text/event-stream", "panic: "},
	} {
		write(s, "OrderPlaced", `{"specversion":"1.0","id":"e1","source":"pos","data":{"orderId":"o","itemId":"item1","quantity":1}}`, map[string]string{tt.name: tt.value})
		harness.WaitFor(t, time.Minute, func() error {
			if !strings.Contains(sidecar.Log(), tt.want) {
				return fmt.Errorf("the sidecar has not written %q", tt.want)
			}
			return nil
		})
	}
	return true
}

// failedIsHandled shows that a sidecar which delivers many events at the same time takes
// some for handled that it could not deliver, and that the filter ends this.
func failedIsHandled(t *testing.T) bool {
	const events, away = 2000, 15 * time.Second
	filtered, all := abortDeliveries(t, harness.Options{}, events, away)
	if filtered != events || !all {
		t.Errorf("with the filter %d of %d events came, and then nothing was left: %v", filtered, events, all)
	}
	for range 3 { // a busy machine has fewer deliveries at the same moment
		if came, drained := abortDeliveries(t, harness.Options{Unfiltered: true}, events, away); drained && came < events {
			return true
		}
	}
	return false
}

// brokenOffIsHandled shows that a sidecar takes an answer for success that ends before its
// end, though it is not even JSON.
func brokenOffIsHandled(t *testing.T) bool {
	s := harness.Start(t, harness.Options{Prepare: harness.AdmitAll(t)})
	var deliveries atomic.Int32
	app := s.Serve("faults", harness.Subscribing(daprhttp.Subscription{Topic: "faults"}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		deliveries.Add(1)
		w.Header().Set("Content-Length", "1000")
		fmt.Fprint(w, `{"status":"RET`)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})))
	const events = 5
	for i := range events {
		s.Publish(app, "faults", daprhttp.Message{Data: fmt.Appendf(nil, `{"n":%d}`, i)})
	}
	drained := drains(s, 15*time.Second)
	t.Logf("%d events were delivered %d times, each answer broke off, and then nothing was left: %v", events, deliveries.Load(), drained)
	return drained
}

func eventIsLost(t *testing.T) bool {
	s := harness.Start(t, harness.Options{Prepare: func(resources string) {
		harness.AdmitAll(t)(resources)
		harness.Must(t, os.Remove(filepath.Join(resources, "resiliency.yaml")))
	}})
	var came atomic.Int32
	app := s.Serve("faults", harness.Subscribing(daprhttp.Subscription{Topic: "faults"}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		came.Add(1)
		w.WriteHeader(http.StatusInternalServerError)
	})))
	const events = 20
	for i := range events {
		s.Publish(app, "faults", daprhttp.Message{Data: fmt.Appendf(nil, `{"n":%d}`, i)})
	}
	gone := drains(s, 30*time.Second)
	t.Logf("%d events came %d times, each time the handler failed, and then nothing was left: %v", events, came.Load(), gone)
	return gone && came.Load() == events
}

// durationIsIgnored shows that a sidecar which is to look for pending events every second
// does not: it asks Redis for them when it starts, and every 15 s.
func durationIsIgnored(t *testing.T) bool {
	s := harness.Start(t, harness.Options{Prepare: func(resources string) {
		harness.Edit(t, filepath.Join(resources, "pubsub.yaml"), `value: "1000"`, `value: "1s"`)
		harness.Must(t, os.Remove(filepath.Join(resources, "retry.yaml")))
	}})
	asked := func() (calls int) {
		stats, err := s.Redis().Client().Info(t.Context(), "commandstats").Result()
		harness.Must(t, err)
		_, rest, _ := strings.Cut(stats, "cmdstat_xpending:calls=")
		_, _ = fmt.Sscan(strings.ReplaceAll(rest, ",", " "), &calls)
		return calls
	}
	before := asked()
	time.Sleep(6 * time.Second) // the fault itself
	n := asked() - before
	t.Logf("a sidecar that is to look for pending events every second looked %d times in 6 s", n)
	return n < 3
}

func unconfirmedIsLost(t *testing.T) bool {
	b := stack.Backends[1]
	b.Env = nil // publishes once
	for range 3 {
		s := harness.Start(t, harness.Options{Backend: b})
		l := s.StartLoad("item1", 100, nil)
		s.KillBroker(l)
		l.Stop()
		harness.WaitFor(t, 2*time.Minute, func() error { return s.Broker.Drained("OrderPlaced", "inventory-service") })
		stock, err := s.Stock("item1")
		harness.Must(t, err)
		counted, accepted := l.Stock-stock, l.NumAccepted()
		t.Logf("%d orders accepted, %d counted", accepted, counted)
		if counted < accepted {
			return true
		}
	}
	return false
}

func refusedIsPublished(t *testing.T) bool {
	s := harness.Start(t, harness.Options{Backend: stack.Backends[1], Prepare: harness.AdmitAll(t)})
	full := filepath.Join(t.TempDir(), "definitions.json") // a queue that has no room, and says so
	harness.Must(t, os.WriteFile(full, []byte(`{
		"exchanges": [{"vhost": "/", "name": "faults", "type": "fanout", "durable": true, "auto_delete": false, "internal": false, "arguments": {}}],
		"queues": [{"vhost": "/", "name": "faults-faults", "durable": true, "auto_delete": false, "arguments": {"x-max-length": 1, "x-overflow": "reject-publish"}}],
		"bindings": [{"vhost": "/", "source": "faults", "destination": "faults-faults", "destination_type": "queue", "routing_key": "", "arguments": {}}]
	}`), 0o644))
	rabbit := s.Broker.(*stack.RabbitMQ)
	_, err := rabbit.Control(t.Context(), "import_definitions", full)
	harness.Must(t, err)
	const events = 5
	for i := range events {
		s.Publish(s.Order, "faults", daprhttp.Message{Data: fmt.Appendf(nil, `{"n":%d}`, i)})
	}
	n, err := rabbit.Len("faults", "faults")
	harness.Must(t, err)
	t.Logf("%d events published, of which the broker has %d", events, n)
	return n < events
}

func readFindsNothing(t *testing.T) bool {
	s := harness.Start(t, harness.Options{Backend: stack.Backends[1]})
	database := s.State.(*stack.PostgreSQL)
	_, err := database.Query(t.Context(), "alter database postgres set statement_timeout = '1s'")
	harness.Must(t, err)
	s.Inventory = append(s.Inventory, s.StartApp(harness.Project.App(stack.Inventory))) // whose connections have that
	sidecar := s.Sidecar(s.Inventory[1])
	ctx := t.Context()
	harness.Must(t, sidecar.SaveState(ctx, "statestore", daprhttp.StateItem{Key: "a", Value: 1}))
	read := func() ([]daprhttp.StateValue, error) {
		values, err := sidecar.GetBulkState(ctx, "statestore", []string{"a", "b"}, daprhttp.GetBulkStateOptions{})
		t.Logf("%+v, %v", values, err)
		return values, err
	}
	_, err = read() // the connection has the statement prepared
	harness.Must(t, err)
	release, err := database.Hold(ctx, "lock table state in access exclusive mode")
	harness.Must(t, err)
	values, err := read()
	harness.Must(t, release())
	if err != nil {
		return false // a read that is broken off says so
	}
	return !slices.ContainsFunc(values, func(v daprhttp.StateValue) bool { return v.Value != nil || v.Error != "" })
}
