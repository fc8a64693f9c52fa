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

// TestFaultsOfDapr shows each fault in the first table of components/dapr-issues.md, on the
// sidecar that is used. A subtest fails when its fault is gone: then the workaround may go, too.
func TestFaultsOfDapr(t *testing.T) {
	for _, fault := range []struct {
		name  string // in components/dapr-issues.md
		shown func(t *testing.T) bool
	}{
		{"an event on Redis whose handler fails once is lost, if its subscription has no dead-letter topic", eventIsLost},
		{"an event whose delivery fails is taken for handled, when other events are delivered at the same time", failedIsHandled},
		{"an answer that breaks off in the middle counts as success", brokenOffIsHandled},
		{"a `redeliverInterval` on Redis that is a duration, such as `1s`, is ignored", durationIsIgnored},
		{"an event is lost when RabbitMQ's connection breaks", unconfirmedIsLost},
		{"an event that RabbitMQ refuses is answered as published", refusedIsPublished},
		{"a message whose metadata is no valid HTTP header never reaches the app, and the metadata `accept: text/event-stream` ends the sidecar", metadataStopsDelivery},
		{"a bulk read that PostgreSQL breaks off finds nothing", readFindsNothing},
		{"events that Mosquitto keeps while a sidecar is down are not delivered when it starts", backlogWaits},
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

// metadataStopsDelivery shows the faults that the filter prevents in
// TestHeadersOfAPublisherRefuseNoDelivery.
func metadataStopsDelivery(t *testing.T) bool {
	s := harness.Start(t, harness.Options{Unfiltered: true})
	sidecar := s.Inventory[0].Sidecar
	for _, tt := range []struct{ name, value, want string }{
		{"a name", "x", `invalid header field name`}, {"accept", "text/event-stream", "panic: "},
	} {
		write(s, "OrderPlaced", `{"specversion":"1.0","id":"e1","source":"pos","data":{"orderId":"o","itemId":"item1","quantity":1}}`, map[string]string{tt.name: tt.value})
		harness.Said(t, sidecar, tt.want)
	}
	return true
}

// failedIsHandled shows that a sidecar that delivers many events at the same time loses some
// whose delivery fails, and that the filter ends this.
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

// brokenOffIsHandled shows that a sidecar takes an answer that breaks off in the middle for
// success, though the answer is not even JSON.
func brokenOffIsHandled(t *testing.T) bool {
	s := harness.Start(t, harness.Options{Prepare: harness.AdmitAll(t)})
	_, gone := subscriberFails(s, func(w http.ResponseWriter) {
		w.Header().Set("Content-Length", "1000")
		fmt.Fprint(w, `{"status":"RET`)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	return gone
}

func eventIsLost(t *testing.T) bool {
	s := harness.Start(t, harness.Options{Prepare: func(resources string) {
		harness.AdmitAll(t)(resources)
		harness.Must(t, os.Remove(filepath.Join(resources, "resiliency.yaml")))
	}})
	once, gone := subscriberFails(s, func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) })
	return once && gone
}

// subscriberFails publishes events to a subscriber that fails. It tells whether each event was
// delivered once, and whether the broker has no event left.
func subscriberFails(s *harness.System, fail func(http.ResponseWriter)) (once, gone bool) {
	const events = 20
	var deliveries atomic.Int32
	app := s.Serve("faults", harness.Subscribing(daprhttp.Subscription{Topic: "faults"}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		deliveries.Add(1)
		fail(w)
	})))
	for i := range events {
		s.Publish(app, "faults", daprhttp.Message{Data: fmt.Appendf(nil, `{"n":%d}`, i)})
	}
	gone = drains(s, 30*time.Second)
	s.T.Logf("%d events were delivered %d times, each delivery failed, and then nothing was left: %v", events, deliveries.Load(), gone)
	return deliveries.Load() == events, gone
}

// durationIsIgnored shows that a sidecar with the interval "1s" asks Redis for pending events
// only when it starts, and every 15 s.
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
	t.Logf("the sidecar asked for pending events %d times in 6 s", n)
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
		s.Drained("inventory-service")
		stock, err := s.Stock("item1")
		harness.Must(t, err)
		applied, accepted := l.Stock-stock, l.NumAccepted()
		t.Logf("%d orders accepted, %d applied", accepted, applied)
		if applied < accepted {
			return true
		}
	}
	return false
}

func refusedIsPublished(t *testing.T) bool {
	s := harness.Start(t, harness.Options{Backend: stack.Backends[1], Prepare: harness.AdmitAll(t)})
	full := filepath.Join(t.TempDir(), "definitions.json") // a queue without room refuses events
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
	t.Logf("%d events published, and the broker has %d", events, n)
	return n < events
}

// readFindsNothing shows that a bulk read that PostgreSQL breaks off finds nothing. A read of
// one key, with which package once looks for markers, is an error then.
func readFindsNothing(t *testing.T) bool {
	s := harness.Start(t, harness.Options{Backend: stack.Backends[1]})
	database := s.State.(*stack.PostgreSQL)
	_, err := database.Query(t.Context(), "alter database postgres set statement_timeout = '1s'")
	harness.Must(t, err)
	sidecar := s.Sidecar(s.StartApp(harness.Project.App(stack.Inventory))) // whose connections have that timeout
	ctx := t.Context()
	harness.Must(t, sidecar.SaveState(ctx, "statestore", daprhttp.StateItem{Key: "a", Value: 1}))
	read := func() ([]daprhttp.StateValue, error) {
		values, err := sidecar.GetBulkState(ctx, "statestore", []string{"a", "b"}, daprhttp.GetBulkStateOptions{})
		t.Logf("%+v, %v", values, err)
		return values, err
	}
	_, err = read() // now the statement is prepared
	harness.Must(t, err)
	release, err := database.Hold(ctx, "lock table state in access exclusive mode")
	harness.Must(t, err)
	values, err := read()
	if one, oneErr := sidecar.GetState(ctx, "statestore", "a", daprhttp.GetStateOptions{}); oneErr == nil {
		t.Errorf("a read of one key that was broken off found %+v, want an error", one)
	}
	harness.Must(t, release())
	return err == nil && !slices.ContainsFunc(values, func(v daprhttp.StateValue) bool { return v.Value != nil || v.Error != "" })
}

// backlogWaits shows that a sidecar drops the events that Mosquitto sends before the sidecar
// subscribes. Mosquitto keeps them, and a restart of Mosquitto delivers them.
func backlogWaits(t *testing.T) bool {
	s := harness.Start(t, harness.Options{Backend: stack.Backends[3]})
	app := s.Inventory[0]
	harness.Must(t, app.Stop())
	const orders = 20
	for i := range orders {
		s.Place(fmt.Sprint("waiting-", i), "item1", 1)
	}
	harness.Must(t, app.StartService(t.Context()))
	harness.Must(t, app.StartSidecar(t.Context()))
	s.Place("new", "item1", 1)
	harness.Said(t, app.Service, "Processed OrderPlaced event. orderId=new,")
	s.Drained(app.ID)
	stock, err := s.Stock("item1")
	harness.Must(t, err)
	t.Logf("%d of %d orders were applied when the sidecar had started again", -stock-1, orders)
	harness.Must(t, s.Broker.(*stack.Mosquitto).Stop(20*time.Second))
	harness.Must(t, s.Broker.Restart(t.Context()))
	s.WaitForStock("item1", -orders-1) // the workaround
	return stock > -orders-1
}
