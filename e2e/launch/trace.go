package main

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"example.com/dapr-orders/daprhttp/web"
	"example.com/dapr-orders/e2e/stack"
)

// words returns what a sidecar did.
func words(s stack.Span) string {
	method, path, _ := strings.Cut(s.Tags.API, " ")
	switch {
	case strings.HasPrefix(s.Name, "pubsub/"):
		return "delivers the event to the service, and waits for its answer"
	case strings.HasPrefix(path, "/v1.0/publish/"):
		return "hands the event to the broker: " + s.Tags.API + answered(s)
	case strings.HasPrefix(path, "/v1.0/invoke/"):
		return "calls the service: " + s.Tags.API + answered(s)
	case strings.HasPrefix(path, "/v1.0/state/") && method == http.MethodGet:
		return "reads from the state store: " + s.Tags.API + answered(s)
	case strings.HasPrefix(path, "/v1.0/state/"):
		return "writes to the state store: " + s.Tags.API + answered(s)
	default:
		return cmp.Or(s.Tags.API, s.Name) + answered(s)
	}
}

func answered(s stack.Span) string {
	if s.Tags.Status == "" {
		return ""
	}
	return ", answered " + s.Tags.Status
}

// takeSpans takes what a sidecar sends.
func (j *journal) takeSpans(w http.ResponseWriter, r *http.Request) {
	var spans []stack.Span
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 16<<20)).Decode(&spans); err != nil {
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

// traces are the spans of the latest traces.
type traces struct {
	spans map[string][]stack.Span // by trace ID
	ids   []string                // of spans, the oldest first
}

const (
	tracesKept = 10_000
	traceSpans = 40 // of one trace
)

func (t *traces) add(s stack.Span) {
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
func (t *traces) of(ids []string) []stack.Span {
	spans := []stack.Span{}
	for _, id := range ids {
		spans = append(spans, t.spans[id]...)
	}
	slices.SortFunc(spans, func(a, b stack.Span) int { return cmp.Compare(a.Timestamp, b.Timestamp) })
	return spans
}
