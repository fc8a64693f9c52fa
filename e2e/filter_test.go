package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// The module that sidecars load is what its text says.
func TestFilterIsBuiltFromItsText(t *testing.T) {
	t.Parallel()
	harness.NeedsProgram(t, "wat2wasm", "apt-get install wabt, or brew install wabt")
	built := filepath.Join(t.TempDir(), "answered.wasm")
	output, err := exec.CommandContext(t.Context(), "wat2wasm", filepath.Join(harness.Project.Root, "components", "answered.wat"), "-o", built).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	got, err := os.ReadFile(built)
	harness.Must(t, err)
	if diff := cmp.Diff(filter(t), got); diff != "" {
		t.Errorf("components/answered.wasm is not built from answered.wat (-there +built):\n%s", diff)
	}
}

// For each request the filter asks for a buffered response, sets its status to 503, marks the
// request and has the next handler called. From a delivery it removes the headers that would
// keep it from the app. When the response is there it does nothing.
func TestFilterMakes503OfARequestThatIsNotAnswered(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	r := wazero.NewRuntime(ctx)
	defer r.Close(ctx)
	var calls []string
	var header http.Header
	// write gives the module texts, if there is room for them.
	write := func(m api.Module, buffer, limit uint32, texts []string) uint64 {
		all := strings.Join(append(texts, ""), "\x00")
		if len(all) <= int(limit) && !m.Memory().WriteString(buffer, all) {
			t.Error("the module gave no buffer of its memory")
		}
		return uint64(len(texts))<<32 | uint64(len(all))
	}
	_, err := r.NewHostModuleBuilder("http_handler").
		NewFunctionBuilder().WithFunc(func(_ context.Context, features uint32) uint32 {
		calls = append(calls, fmt.Sprint("enable_features ", features))
		return features
	}).Export("enable_features").
		NewFunctionBuilder().WithFunc(func(_ context.Context, status uint32) {
		calls = append(calls, fmt.Sprint("set_status_code ", status))
	}).Export("set_status_code").
		NewFunctionBuilder().WithFunc(func(_ context.Context, m api.Module, kind, name, nameLen, value, valueLen uint32) {
		nameText, _ := m.Memory().Read(name, nameLen)
		valueText, _ := m.Memory().Read(value, valueLen)
		calls = append(calls, fmt.Sprintf("set_header_value %d %s: %s", kind, nameText, valueText))
	}).Export("set_header_value").
		NewFunctionBuilder().WithFunc(func(_ context.Context, m api.Module, kind, buffer, limit uint32) uint64 {
		return write(m, buffer, limit, slices.Sorted(maps.Keys(header)))
	}).Export("get_header_names").
		NewFunctionBuilder().WithFunc(func(_ context.Context, m api.Module, kind, name, nameLen, buffer, limit uint32) uint64 {
		nameText, _ := m.Memory().Read(name, nameLen)
		return write(m, buffer, limit, header[string(nameText)])
	}).Export("get_header_values").
		NewFunctionBuilder().WithFunc(func(_ context.Context, m api.Module, kind, name, nameLen uint32) {
		nameText, _ := m.Memory().Read(name, nameLen)
		if nameLen == 0 || kind != 0 {
			t.Errorf("it removes %q of %d", nameText, kind) // with which Dapr panics
		}
		delete(header, string(nameText))
	}).Export("remove_header").
		Instantiate(ctx)
	harness.Must(t, err)
	module, err := r.Instantiate(ctx, filter(t)) // which fails if it wants more of its host
	harness.Must(t, err)
	if module.ExportedMemory("memory") == nil {
		t.Error("it exports no memory")
	}
	good := map[string]string{
		"dapr-api-token": "secret", "traceparent": "00-1-2-01", "ce_id": "e1", "ce-id": "e%201", "x.y_z-0": "a\tb \xc3\xa9 ~", "empty": "",
		"long": strings.Repeat("x", 64<<10), "zz": "last",
	}
	bad := map[string]string{
		"expect": "a miracle", "accept": "text/event-stream", "a b": "x", "cloudevents:id": "x", "caf\xc3\xa9": "x", "{": "x", "@": "x", "/": "x", "\x7f": "x",
		"v1": "a\nb", "v2": "a\x7f", "v3": "\x1f", "v4": "a\x00b",
	}
	for _, tt := range []struct {
		contentType string
		delivery    bool
	}{
		{"application/cloudevents+json", true},
		{"application/json", false}, // whatever was there before
		{"application/cloudevents+json; charset=utf-8", true},
		{"multipart/form-data; boundary=" + strings.Repeat("x", 70), false},
		{"", false},
	} {
		calls, header = nil, http.Header{"content-type": {tt.contentType}}
		for name, value := range good {
			header[name] = []string{value}
		}
		want := header.Clone()
		for name, value := range bad {
			header[name] = []string{value}
		}
		header[""] = []string{"a name that is none"}
		header["twice"], header["v5"] = []string{"a", "b"}, []string{"a", "b\r"}
		if want[""], want["twice"] = header[""], header["twice"]; !tt.delivery {
			want = header.Clone()
		}
		next, err := module.ExportedFunction("handle_request").Call(ctx)
		harness.Must(t, err)
		if diff := cmp.Diff([]uint64{1}, next); diff != "" {
			t.Errorf("handle_request (-want +got):\n%s", diff)
		}
		nothing, err := module.ExportedFunction("handle_response").Call(ctx, api.EncodeI32(0), api.EncodeI32(0))
		harness.Must(t, err)
		if diff := cmp.Diff([]string{"enable_features 2", "set_status_code 503", "set_header_value 0 dapr-filter: answered"}, calls); diff != "" || len(nothing) > 0 {
			t.Errorf("handle_response returns %v; calls (-want +got):\n%s", nothing, diff)
		}
		if diff := cmp.Diff(want, header); diff != "" {
			t.Errorf("%s: headers (-want +got):\n%s", tt.contentType, diff)
		}
	}
}

func filter(t *testing.T) []byte {
	t.Helper()
	module, err := os.ReadFile(filepath.Join(harness.Project.Root, "components", "answered.wasm"))
	harness.Must(t, err)
	return module
}

// Events whose deliveries fail at the same time are delivered again. `make faults` shows
// more of them lost without the filter.
func TestNoEventIsLostWhenDeliveriesFail(t *testing.T) {
	t.Parallel()
	const events = 1000
	came, drained := abortDeliveries(t, harness.Options{}, events, 5*time.Second)
	if came < events || !drained {
		t.Errorf("%d of %d events came, and then nothing was left: %v", came, events, drained)
	}
}

// A service whose sidecar may lose events says so when it starts, and what to do.
func TestServiceWarnsOfASidecarThatMayLoseEvents(t *testing.T) {
	t.Parallel()
	oneAtATime := func(o *stack.AppOptions) { o.SidecarArgs = append(o.SidecarArgs, "--app-max-concurrency", "1") }
	for name, o := range map[string]struct {
		harness.Options
		warned bool
	}{
		"with the filter": {harness.Options{}, false},
		"without":         {harness.Options{Unfiltered: true}, true},
		"one at a time":   {harness.Options{Unfiltered: true, Each: oneAtATime}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := harness.Start(t, o.Options)
			if got := strings.Contains(s.Inventory[0].Service.Log(), "WARNING: this sidecar may lose events"); got != o.warned {
				t.Errorf("warned %t, want %t:\n%s", got, o.warned, s.Inventory[0].Service.Log())
			}
		})
	}
}

// What an app really answers goes through the filter as it is.
func TestFilterLeavesAnswersAsTheyAre(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{Prepare: harness.AdmitAll(t)})
	var deliveries atomic.Int32
	mux := harness.Subscribing(daprhttp.Subscription{Topic: "faults"}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		deliveries.Add(1) // and answers 200 without a body, which is success
	}))
	mux.HandleFunc("/answer/{status}", func(w http.ResponseWriter, r *http.Request) {
		var status int
		_, _ = fmt.Sscan(r.PathValue("status"), &status)
		w.Header().Set("X-Own", "kept")
		w.WriteHeader(status)
		fmt.Fprint(w, "the answer")
	})
	app := s.Serve("faults", mux)
	for _, status := range []int{200, 202, 400, 404, 500, 503} {
		a := s.Invoke(app, "GET", fmt.Sprint("/answer/", status), "", "")
		if a.Status != status || a.Body != "the answer" {
			t.Errorf("an app's answer %d comes as %d %q", status, a.Status, a.Body)
		}
	}
	for range 3 {
		s.Publish(app, "faults", daprhttp.Message{Data: []byte(`{}`)})
	}
	if !drains(s, 30*time.Second) || deliveries.Load() != 3 {
		t.Errorf("3 events that were answered 200 without a body were delivered %d times", deliveries.Load())
	}
}

// abortDeliveries publishes events to a subscriber that aborts every delivery for some
// time, of which the sidecar makes 400 at once and repeats each every 100 ms. It returns
// how many events came afterwards, and whether the broker has none left.
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

// drains reports whether the topic "faults" has nothing left for its subscriber, within
// so much time. That need not ever be.
func drains(s *harness.System, within time.Duration) bool {
	for deadline := time.Now().Add(within); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if s.Broker.Drained("faults", "faults") == nil {
			return true
		}
	}
	return false
}
