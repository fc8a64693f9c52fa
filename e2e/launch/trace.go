package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"

	"example.com/dapr-orders/daprhttp/web"
)

// A span is a stretch of an order's way, as a sidecar tells of it in Zipkin's format.
//
// See https://zipkin.io/zipkin-api/ (POST /api/v2/spans).
type span struct {
	TraceID   string `json:"traceId"`
	Name      string `json:"name"`
	Timestamp int64  `json:"timestamp"` // microseconds since 1970
	Duration  int64  `json:"duration"`  // microseconds
	Endpoint  struct {
		ServiceName string `json:"serviceName"` // the Dapr app ID
	} `json:"localEndpoint"`
	Tags struct {
		API    string `json:"dapr.api"` // the request: "POST /v1.0/publish/pubsub/OrderPlaced"
		Status string `json:"dapr.status_code"`
	} `json:"tags"`
}

// words returns what a sidecar did.
func (s span) words() string {
	method, path, _ := strings.Cut(s.Tags.API, " ")
	switch {
	case strings.HasPrefix(s.Name, "pubsub/"):
		return "delivers the event to the service, and waits for its answer"
	case strings.HasPrefix(path, "/v1.0/publish/"):
		return "hands the event to the broker: " + s.Tags.API + s.status()
	case strings.HasPrefix(path, "/v1.0/invoke/"):
		return "calls the service: " + s.Tags.API + s.status()
	case strings.HasPrefix(path, "/v1.0/state/") && method == http.MethodGet:
		return "reads from the state store: " + s.Tags.API + s.status()
	case strings.HasPrefix(path, "/v1.0/state/"):
		return "writes to the state store: " + s.Tags.API + s.status()
	default:
		return cmp.Or(s.Tags.API, s.Name) + s.status()
	}
}

func (s span) status() string {
	if s.Tags.Status == "" {
		return ""
	}
	return ", answered " + s.Tags.Status
}

// takeSpans takes what a sidecar sends.
func (j *journal) takeSpans(w http.ResponseWriter, r *http.Request) {
	body, err := web.ReadBody(r, 16<<20)
	var spans []span
	if err == nil {
		err = json.Unmarshal(body, &spans)
	}
	if err != nil {
		web.WriteError(w, http.StatusBadRequest, err.Error())
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range spans {
		j.traces.add(s)
	}
	w.WriteHeader(http.StatusAccepted)
}

// writeTracing writes a Dapr Configuration that has sidecars send all spans to the page.
func writeTracing(file string, pagePort int) error {
	return os.WriteFile(file, fmt.Appendf(nil, `# Written by the launcher.
apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata:
  name: tracing
spec:
  tracing:
    samplingRate: "1"
    zipkin:
      endpointAddress: "http://127.0.0.1:%d/api/v2/spans"
`, pagePort), 0o644)
}

// spansSoon has a sidecar send its spans after so many milliseconds, not after 5,000.
const spansSoon = "OTEL_BSP_SCHEDULE_DELAY=100"

// traces are the spans of the latest traces.
type traces struct {
	spans map[string][]span // by trace ID
	ids   []string          // of spans, the oldest first
}

const (
	tracesKept = 10_000
	traceSpans = 40 // of one trace
)

func (t *traces) add(s span) {
	known := t.spans[s.TraceID]
	if known == nil {
		if len(t.ids) >= tracesKept {
			delete(t.spans, t.ids[0])
			t.ids = t.ids[1:]
		}
		t.ids = append(t.ids, s.TraceID)
	}
	if len(known) < traceSpans {
		t.spans[s.TraceID] = append(known, s)
	}
}

// of returns the spans of some traces by the time at which they began.
func (t *traces) of(ids []string) []span {
	spans := []span{}
	for _, id := range ids {
		spans = append(spans, t.spans[id]...)
	}
	slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.Timestamp, b.Timestamp) })
	return spans
}
