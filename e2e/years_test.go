package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/stack"
)

// A stream loses what is older than streamTTL, and so does not grow for ever.
func TestStreamsDoNotGrowForEver(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	s := startSystem(t, systemOptions{prepare: func(resources string) {
		edit(t, filepath.Join(resources, "pubsub.yaml"), `"168h"`, `"2s"`)
	}})
	const batch = 400 // Redis takes entries out by the hundred
	placed := 0
	s.setStock("item1", 100*batch) // more than are placed
	place := func(n int) {
		inParallel(n, 8, func(i int) { s.place(fmt.Sprintf("order-%d-%d", placed, i), "item1", 1) })
		placed += n
		s.drained("inventory-service") // what is not handled would be lost, too
	}
	place(batch)
	before, err := s.Broker.Len("OrderPlaced", "")
	must(t, err)
	is.Equal(before, batch)
	waitFor(t, time.Minute, func() error {
		place(batch / 4)
		n, err := s.Broker.Len("OrderPlaced", "")
		if err == nil && n > placed/2 {
			err = fmt.Errorf("the stream has %d entries of %d orders", n, placed)
		}
		return err
	})
	s.waitForStock("item1", 100*batch-placed)
}

// The item is the key by which a broker with partitions chooses one. It reaches the
// component, which in the case of Redis keeps it beside the event and makes nothing
// of it.
func TestItemIsThePartitionKey(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{})
	s.place("order-1", "item 1", 1)
	s.waitForStock("item%201", -1)
	entries, err := s.redis().Client().XRange(t.Context(), "OrderPlaced", "-", "+").Result()
	must(t, err)
	if text := fmt.Sprint(entries); !strings.Contains(text, `"partitionKey":"item 1"`) {
		t.Errorf("the component was not given the key: %s", text)
	}
}

// metrics returns what is read at a URL, without the comments.
func metrics(t *testing.T, url string) map[string]string {
	t.Helper()
	resp, err := http.Get(url)
	must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	found := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name != "#" {
			found[name] = value
		}
	}
	return found
}

// Logs in JSON have the same fields as those for people, and the trace; the metrics
// count what has happened.
func TestLogsInJSONAndMetrics(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	s := startSystem(t, systemOptions{tokens: true, each: func(o *stack.AppOptions) { o.Env = append(o.Env, "LOG_FORMAT=json") }})
	event := daprhttp.Message{
		Data: []byte(`{"orderId":"order-1","itemId":"item1","quantity":10}`),
		ID:   "the same",
	}
	s.setStock("item1", 100)
	for range 3 {
		s.publish(s.order, "OrderPlaced", event)
	}
	s.publish(s.order, "OrderPlaced", daprhttp.Message{Data: []byte(`{"itemId":"item1","quantity":"many"}`)})
	a := s.send("POST", s.order.URL("/order"), `{"orderId":"order-2","itemId":"item1","quantity":5}`, http.Header{
		"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
	})
	is.Equal(a.status, 200)
	s.send("POST", s.order.URL("/order"), `{}`, nil)
	s.waitForStock("item1", 85)
	s.drained("inventory-service")

	for log, want := range map[string]map[string]any{
		s.order.Service.Log(): {
			"level": "INFO", "msg": "Published OrderPlaced event.", "orderId": "order-2", "itemId": "item1", "quantity": 5.0,
			"traceId": "0af7651916cd43dd8448eb211c80319c",
		},
		s.inventory[0].Service.Log(): {
			"level": "INFO", "msg": "Processed OrderPlaced event.", "orderId": "order-2", "itemId": "item1", "ordered": 5.0, "remaining": 85.0,
			"traceId": "0af7651916cd43dd8448eb211c80319c",
		},
	} {
		found := false
		for line := range strings.Lines(log) {
			var fields map[string]any
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Errorf("%s: %v", line, err)
			}
			if fields["orderId"] == "order-2" {
				found = true
				is.True(fields["time"] != "" && fields["eventId"] != "")
				delete(fields, "time")
				delete(fields, "eventId")
				if want["remaining"] != nil && fields["remaining"] == 95.0 { // it came first
					want["remaining"] = 95.0
				}
				if diff := cmp.Diff(want, fields); diff != "" {
					t.Errorf("a line in JSON (-want +got):\n%s", diff)
				}
			}
		}
		is.True(found)
	}

	got := metrics(t, s.order.URL("/metrics"))
	is.Equal(got[`order_requests_total{outcome="published"}`], "1")
	is.Equal(got[`order_requests_total{outcome="refused"}`], "1")
	got = metrics(t, s.inventory[0].URL("/metrics"))
	is.Equal(got[`inventory_events_total{outcome="applied"}`], "2")
	is.Equal(got[`inventory_events_total{outcome="duplicate"}`], "2")
	is.Equal(got[`inventory_events_total{outcome="dead"}`], "1")
	is.Equal(got[`inventory_events_total{outcome="failed"}`], "0")
	is.Equal(got["inventory_conflicts_total"], "0")
	is.Equal(got["inventory_waiting_orders"], "0")
	is.True(got["inventory_commits_total"] != "0")

	// components/operations.md names these of the sidecar's.
	text := document(t, "components/operations.md")
	var names []string
	for name := range metrics(t, fmt.Sprintf("http://127.0.0.1:%d/metrics", s.inventory[0].MetricsPort)) {
		name, _, _ = strings.Cut(name, "{")
		names = append(names, name)
	}
	for _, name := range []string{"dapr_component_pubsub_ingress_count", "dapr_component_pubsub_egress_count", "dapr_component_state_count"} {
		is.True(strings.Contains(text, "`"+name+"`"))
		if !slices.Contains(names, name) {
			t.Errorf("the sidecar does not have %s, but %s", name, slices.Compact(slices.Sorted(slices.Values(names))))
		}
	}
}
