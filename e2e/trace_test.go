package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// TestOneTraceFromTheRequestToTheStateWrite lets the sidecars report their spans
// to the test, and finds every step of an order under the trace of its request.
func TestOneTraceFromTheRequestToTheStateWrite(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var spans []stack.Span
	zipkin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var reported []stack.Span
		if err := json.NewDecoder(r.Body).Decode(&reported); err != nil {
			t.Error(err)
		}
		mu.Lock()
		spans = append(spans, reported...)
		mu.Unlock()
		w.WriteHeader(http.StatusAccepted)
	}))
	defer zipkin.Close()
	configs := t.TempDir()
	harness.Must(t, stack.WriteConfigs(harness.Project.Root, configs, stack.Extras{Collector: zipkin.URL}))

	s := harness.Start(t, harness.Options{Each: func(o *stack.AppOptions) {
		o.Config, o.SidecarEnv = filepath.Join(configs, filepath.Base(o.Config)), append(o.SidecarEnv, stack.SpansSoon)
	}})
	const trace = "0af7651916cd43dd8448eb211c80319c"
	order := `{"orderId":"order-1001","itemId":"item1","quantity":10}`
	a := s.Send("POST", s.Order.DaprURL("/v1.0/invoke/order-service/method/order"), order, http.Header{
		"Traceparent": {"00-" + trace + "-b7ad6b7169203331-01"},
	})
	if a.Status != 200 {
		t.Fatalf("POST /order: got %d %s", a.Status, a.Body)
	}
	s.WaitForStock("item1", -10)

	steps := []string{ // service and a part of the span's name
		"order-service", "order", // the request
		"order-service", "publish",
		"inventory-service", "pubsub/orderplaced", // the delivery
		"inventory-service", "state", // the record, read and written
	}
	harness.WaitFor(t, time.Minute, func() error {
		mu.Lock()
		defer mu.Unlock()
		var seen []string
		for _, s := range spans {
			if s.TraceID == trace {
				seen = append(seen, s.Endpoint.ServiceName+": "+strings.ToLower(s.Name))
			}
		}
		for i := 0; i < len(steps); i += 2 {
			if !slices.ContainsFunc(seen, func(s string) bool {
				return strings.HasPrefix(s, steps[i]+": ") && strings.Contains(s, steps[i+1])
			}) {
				return fmt.Errorf("trace %s has no span %s of %s; it has %q", trace, steps[i+1], steps[i], seen)
			}
		}
		return nil
	})
}
