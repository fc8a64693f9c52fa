package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// A stream drops the events that are older than streamTTL.
func TestStreamsDropOldEvents(t *testing.T) {
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
		s.Drained("inventory-service") // the stream would drop waiting events, too
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

// The item is the key by which a broker with partitions chooses a partition. The key reaches
// the component. Redis keeps it with the event and does not use it.
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

// Logs in JSON have the same fields as logs in text, and the trace. The metrics count what
// has happened.
func TestLogsInJSONAndMetrics(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	s := harness.Start(t, harness.Options{Tokens: true, Each: func(o *stack.AppOptions) { o.Env = append(o.Env, "LOG_FORMAT=json") }})
	s.SetStock("item1", 100)
	for range 3 {
		s.Publish(s.Order, "OrderPlaced", daprhttp.Message{Data: []byte(`{"orderId":"order-1","itemId":"item1","quantity":10}`), ID: "the same"})
	}
	s.Publish(s.Order, "OrderPlaced", daprhttp.Message{Data: []byte(`{"itemId":"item1","quantity":"many"}`)})
	s.WaitForStock("item1", 90)
	const trace = "0af7651916cd43dd8448eb211c80319c"
	header := http.Header{"Traceparent": {"00-" + trace + "-b7ad6b7169203331-01"}}
	is.Equal(s.Send("POST", s.Order.URL("/order"), `{"orderId":"order-2","itemId":"item1","quantity":5}`, header).Status, 200)
	is.Equal(s.Send("POST", s.Order.URL("/order"), `{}`, nil).Status, 400)
	s.WaitForStock("item1", 85)
	s.Drained("inventory-service")
	harness.Said(t, s.Order.Service, `"orderId":"order-2"`)
	harness.Said(t, s.Inventory[0].Service, `"orderId":"order-2"`)

	for log, want := range map[string]map[string]any{
		s.Order.Service.Log(): {
			"level": "INFO", "msg": "Published OrderPlaced event.", "orderId": "order-2", "itemId": "item1", "quantity": 5.0, "traceId": trace,
		},
		s.Inventory[0].Service.Log(): {
			"level": "INFO", "msg": "Processed OrderPlaced event.", "orderId": "order-2", "itemId": "item1", "ordered": 5.0, "remaining": 85.0,
			"traceId": trace,
		},
	} {
		var got map[string]any
		for line := range strings.Lines(log) {
			var fields map[string]any
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Errorf("%s: %v", line, err)
			}
			if fields["orderId"] == "order-2" {
				got = fields
			}
		}
		is.True(got["time"] != nil && got["eventId"] != nil)
		delete(got, "time")
		delete(got, "eventId")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("a line in JSON (-want +got):\n%s", diff)
		}
	}

	orders, events := s.Metrics(s.Order.URL("/metrics")), s.Metrics(s.Inventory[0].URL("/metrics"))
	is.Equal(orders[`order_requests_total{outcome="published"}`], "1")
	is.Equal(orders[`order_requests_total{outcome="refused"}`], "1")
	is.Equal(events[`inventory_events_total{outcome="applied"}`], "2")
	is.Equal(events[`inventory_events_total{outcome="duplicate"}`], "2")
	is.Equal(events[`inventory_events_total{outcome="dead"}`], "1")
	is.Equal(events[`inventory_events_total{outcome="failed"}`], "0")
	is.Equal(events["inventory_conflicts_total"], "0")
	is.Equal(events["inventory_waiting_orders"], "0")
	is.True(events["inventory_commits_total"] != "0")

	// The sidecar has the metrics that components/operations.md names.
	var sidecars strings.Builder
	for name := range s.Metrics(fmt.Sprintf("http://127.0.0.1:%d/metrics", s.Inventory[0].MetricsPort)) {
		sidecars.WriteString(name + "\n")
	}
	named := regexp.MustCompile("`(dapr_\\w+)`").FindAllStringSubmatch(harness.Document(t, "components/operations.md"), -1)
	is.True(len(named) >= 3)
	for _, name := range named {
		if !strings.Contains(sidecars.String(), name[1]+"{") {
			t.Errorf("the sidecar does not have %s, but\n%s", name[1], &sidecars)
		}
	}
}
