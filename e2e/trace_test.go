package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// reportingTo makes each sidecar report its spans to a collector.
func reportingTo(t *testing.T, collector string) func(*stack.AppOptions) {
	t.Helper()
	configs := t.TempDir()
	harness.Must(t, stack.WriteConfigs(harness.Project.Root, configs, stack.Extras{Collector: collector}))
	return func(o *stack.AppOptions) {
		o.Config, o.SidecarEnv = filepath.Join(configs, filepath.Base(o.Config)), append(o.SidecarEnv, stack.SpansSoon)
	}
}

// The sidecars report their spans to the test. Every step of an order is in the trace of its
// request.
func TestOneTraceFromTheRequestToTheStateWrite(t *testing.T) {
	t.Parallel()
	const trace = "0af7651916cd43dd8448eb211c80319c"
	var mu sync.Mutex
	var seen []string // the service of each span of the trace, and what it did
	zipkin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var spans []stack.Span
		if err := json.NewDecoder(r.Body).Decode(&spans); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, s := range spans {
			if s.TraceID == trace {
				seen = append(seen, s.Endpoint.ServiceName+": "+cmp.Or(s.Tags.API, s.Name))
			}
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	defer zipkin.Close()
	s := harness.Start(t, harness.Options{Each: reportingTo(t, zipkin.URL)})
	a := s.Send("POST", s.Order.DaprURL("/v1.0/invoke/order-service/method/order"), `{"orderId":"order-1001","itemId":"item1","quantity":10}`, http.Header{
		"Traceparent": {"00-" + trace + "-b7ad6b7169203331-01"},
	})
	if a.Status != 200 {
		t.Fatalf("POST /order: got %d %s", a.Status, a.Body)
	}
	s.WaitForStock("item1", -10)

	for _, step := range []string{
		"order-service: POST /v1.0/invoke/order-service/method/order",
		"order-service: POST /v1.0/publish/pubsub/OrderPlaced",
		"inventory-service: pubsub/orderplaced", // the delivery
		"inventory-service: GET /v1.0/state/statestore/item1",
		"inventory-service: POST /v1.0/state/statestore",
	} {
		harness.WaitFor(t, time.Minute, func() error {
			mu.Lock()
			defer mu.Unlock()
			if !slices.Contains(seen, step) {
				return fmt.Errorf("the trace has no span %q; it has %q", step, seen)
			}
			return nil
		})
	}
}
