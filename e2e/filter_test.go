package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	wasm "github.com/http-wasm/http-wasm-host-go/handler/nethttp"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/harness"
)

// The modules that sidecars load are built from their texts.
func TestFiltersAreBuiltFromTheirTexts(t *testing.T) {
	t.Parallel()
	harness.NeedsProgram(t, "wat2wasm", "apt-get install wabt, or brew install wabt")
	for _, module := range []string{"components/answered", "e2e/launch/pages"} {
		built, err := exec.CommandContext(t.Context(), "wat2wasm", filepath.Join(harness.Project.Root, module+".wat"), "--output=-").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, built)
		}
		if diff := cmp.Diff(harness.Document(t, module+".wasm"), string(built)); diff != "" {
			t.Errorf("%s.wasm is not built from its text (-there +built):\n%s", module, diff)
		}
	}
}

// The filter runs here as in a sidecar, in the library that Dapr uses. It sets the status of
// each answer to 503, marks the request and calls the next handler. From a delivery, it
// removes the headers that would keep the delivery from the app.
func TestFilterMakes503OfARequestThatIsNotAnswered(t *testing.T) {
	t.Parallel()
	middleware, err := wasm.NewMiddleware(t.Context(), []byte(harness.Document(t, "components/answered.wasm")))
	harness.Must(t, err)
	defer middleware.Close(t.Context())
	good := http.Header{
		"Dapr-Api-Token": {"secret"}, "Traceparent": {"00-1-2-01"}, "Ce_id": {"e1"}, "Ce-Id": {"e%201"}, "X.y_z-0": {"a\tb \xc3\xa9 ~"}, "Empty": {""},
		"Long": {strings.Repeat("x", 64<<10)}, "Zz": {"last"}, "Twice": {"a", "b"}, "": {"Dapr panics when a filter removes this header"},
	}
	bad := http.Header{
		"Expect": {"a miracle"}, "Accept": {"text/event-stream"}, "a b": {"x"}, "cloudevents:id": {"x"}, "caf\xc3\xa9": {"x"}, "{": {"x"}, "@": {"x"}, "/": {"x"}, "\x7f": {"x"},
		"V1": {"a\nb"}, "V2": {"a\x7f"}, "V3": {"\x1f"}, "V4": {"a\x00b"}, "V5": {"a", "b\r"},
	}
	for _, tt := range []struct {
		contentType string
		delivery    bool
	}{
		{"application/cloudevents+json", true},
		{"application/json", false},
		{"application/cloudevents+json; charset=utf-8", true},
		{"multipart/form-data; boundary=" + strings.Repeat("x", 70), false},
		{"", false},
	} {
		for _, answer := range []int{0, 200, 202, 400, 503} { // 0 is no answer
			r := httptest.NewRequest("POST", "/orders", nil)
			r.Header = good.Clone()
			r.Header.Set("Content-Type", tt.contentType)
			want := r.Header.Clone()
			want.Set("Dapr-Filter", "answered")
			maps.Copy(r.Header, bad)
			if !tt.delivery {
				maps.Copy(want, bad)
			}
			var got http.Header
			w := httptest.NewRecorder()
			middleware.NewHandler(t.Context(), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got = r.Header.Clone()
				if answer != 0 {
					w.WriteHeader(answer)
					fmt.Fprint(w, "the answer")
				}
			})).ServeHTTP(w, r)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: headers (-want +got):\n%s", tt.contentType, diff)
			}
			status, body := answer, "the answer"
			if answer == 0 {
				status, body = http.StatusServiceUnavailable, ""
			}
			if w.Code != status || w.Body.String() != body {
				t.Errorf("%s: the answer %d became %d %q, want %d %q", tt.contentType, answer, w.Code, w.Body, status, body)
			}
		}
	}
}

// Events whose deliveries fail at the same time are delivered again. `make faults` shows that
// some are lost without the filter.
func TestNoEventIsLostWhenDeliveriesFail(t *testing.T) {
	t.Parallel()
	const events = 1000
	came, drained := abortDeliveries(t, harness.Options{}, events, 5*time.Second)
	if came < events || !drained {
		t.Errorf("%d of %d events came, and then nothing was left: %v", came, events, drained)
	}
}

// abortDeliveries publishes events to a subscriber that aborts every delivery for some time.
// The sidecar makes 400 deliveries at once, and repeats each every 100 ms. abortDeliveries
// returns how many events came afterwards, and whether the broker has none left.
func abortDeliveries(t *testing.T, o harness.Options, events int, away time.Duration) (came int, drained bool) {
	o.Prepare = func(resources string) {
		harness.AdmitAll(t)(resources)
		harness.Edit(t, filepath.Join(resources, "pubsub.yaml"), `value: "50"`, `value: "400"`)
		harness.Edit(t, filepath.Join(resources, "resiliency.yaml"), "duration: 1s", "duration: 100ms")
	}
	s := harness.Start(t, o)
	var mu sync.Mutex
	ids := make(map[string]bool)
	var failed atomic.Int64
	var back atomic.Bool
	app := s.Serve("faults", harness.Subscribing(daprhttp.Subscription{Topic: "faults"}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var event struct{ ID string }
		if !back.Load() || json.NewDecoder(r.Body).Decode(&event) != nil {
			failed.Add(1)
			panic(http.ErrAbortHandler) // the sidecar sees the connection fail
		}
		mu.Lock()
		defer mu.Unlock()
		ids[event.ID] = true
	})))
	end := time.Now().Add(away)
	harness.InParallel(events, 8, func(i int) {
		s.Publish(app, "faults", daprhttp.Message{Data: fmt.Appendf(nil, `{"n":%d}`, i)})
	})
	time.Sleep(time.Until(end)) // the fault itself
	back.Store(true)
	drained = drains(s, time.Minute)
	mu.Lock()
	defer mu.Unlock()
	t.Logf("%d events published, %d deliveries failed, %d events came, and then nothing was left: %v", events, failed.Load(), len(ids), drained)
	return len(ids), drained
}

// drains reports whether the broker gets rid of every event of the topic "faults" in time.
func drains(s *harness.System, within time.Duration) bool {
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if s.Broker.Drained("faults", "faults") == nil {
			return true
		}
	}
	return false
}
