package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// A stream loses what is older than streamTTL, and so does not grow for ever.
func TestStreamsDoNotGrowForEver(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	s := harness.Start(t, harness.Options{Prepare: func(resources string) {
		harness.Edit(t, filepath.Join(resources, "pubsub.yaml"), `"168h"`, `"2s"`)
	}})
	const batch = 400 // Redis takes entries out by the hundred
	placed := 0
	s.SetStock("item1", 100*batch) // more than are placed
	place := func(n int) {
		harness.InParallel(n, 8, func(i int) { s.Place(fmt.Sprintf("order-%d-%d", placed, i), "item1", 1) })
		placed += n
		s.Drained("inventory-service") // what is not handled would be lost, too
	}
	place(batch)
	before, err := s.Broker.Len("OrderPlaced", "")
	harness.Must(t, err)
	is.Equal(before, batch)
	harness.WaitFor(t, time.Minute, func() error {
		place(batch / 4)
		n, err := s.Broker.Len("OrderPlaced", "")
		if err == nil && n > placed/2 {
			err = fmt.Errorf("the stream has %d entries of %d orders", n, placed)
		}
		return err
	})
	s.WaitForStock("item1", 100*batch-placed)
}

// The item is the key by which a broker with partitions chooses one. It reaches the
// component, which in the case of Redis keeps it beside the event and makes nothing
// of it.
func TestItemIsThePartitionKey(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{})
	s.Place("order-1", "item 1", 1)
	s.WaitForStock("item%201", -1)
	entries, err := s.Redis().Client().XRange(t.Context(), "OrderPlaced", "-", "+").Result()
	harness.Must(t, err)
	if text := fmt.Sprint(entries); !strings.Contains(text, `"partitionKey":"item 1"`) {
		t.Errorf("the component was not given the key: %s", text)
	}
}

// Logs in JSON have the same fields as those for people, and the trace; the metrics
// count what has happened.
func TestLogsInJSONAndMetrics(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	s := harness.Start(t, harness.Options{Tokens: true, Each: func(o *stack.AppOptions) { o.Env = append(o.Env, "LOG_FORMAT=json") }})
	event := daprhttp.Message{
		Data: []byte(`{"orderId":"order-1","itemId":"item1","quantity":10}`),
		ID:   "the same",
	}
	s.SetStock("item1", 100)
	for range 3 {
		s.Publish(s.Order, "OrderPlaced", event)
	}
	s.Publish(s.Order, "OrderPlaced", daprhttp.Message{Data: []byte(`{"itemId":"item1","quantity":"many"}`)})
	a := s.Send("POST", s.Order.URL("/order"), `{"orderId":"order-2","itemId":"item1","quantity":5}`, http.Header{
		"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
	})
	is.Equal(a.Status, 200)
	s.Send("POST", s.Order.URL("/order"), `{}`, nil)
	s.WaitForStock("item1", 85)
	s.Drained("inventory-service")

	for log, want := range map[string]map[string]any{
		s.Order.Service.Log(): {
			"level": "INFO", "msg": "Published OrderPlaced event.", "orderId": "order-2", "itemId": "item1", "quantity": 5.0,
			"traceId": "0af7651916cd43dd8448eb211c80319c",
		},
		s.Inventory[0].Service.Log(): {
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

	got := harness.Metrics(t, s.Order.URL("/metrics"))
	is.Equal(got[`order_requests_total{outcome="published"}`], "1")
	is.Equal(got[`order_requests_total{outcome="refused"}`], "1")
	got = harness.Metrics(t, s.Inventory[0].URL("/metrics"))
	is.Equal(got[`inventory_events_total{outcome="applied"}`], "2")
	is.Equal(got[`inventory_events_total{outcome="duplicate"}`], "2")
	is.Equal(got[`inventory_events_total{outcome="dead"}`], "1")
	is.Equal(got[`inventory_events_total{outcome="failed"}`], "0")
	is.Equal(got["inventory_conflicts_total"], "0")
	is.Equal(got["inventory_waiting_orders"], "0")
	is.True(got["inventory_commits_total"] != "0")

	// components/operations.md names these of the sidecar's.
	text := harness.Document(t, "components/operations.md")
	var names []string
	for name := range harness.Metrics(t, fmt.Sprintf("http://127.0.0.1:%d/metrics", s.Inventory[0].MetricsPort)) {
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
