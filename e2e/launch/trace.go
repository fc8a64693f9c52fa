package main

import (
	"cmp"
	"encoding/json"
	"net/http"
	"strings"

	"example.com/dapr-orders/daprhttp/web"
	"example.com/dapr-orders/e2e/stack"
)

// takeSpans takes the spans that a sidecar sends.
func (j *journal) takeSpans(w http.ResponseWriter, r *http.Request) {
	var spans []stack.Span
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 16<<20)).Decode(&spans); err != nil {
		web.WriteError(w, http.StatusBadRequest, err.Error())
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range spans {
		if steps, _ := j.traces.Peek(s.TraceID); len(steps) < traceSteps {
			j.traces.Add(s.TraceID, append(steps, step{s.Timestamp, s.Duration, s.Endpoint.ServiceName + "'s sidecar", words(s)}))
		}
	}
	w.WriteHeader(http.StatusAccepted)
}

// words says what a sidecar did.
func words(s stack.Span) string {
	method, path, _ := strings.Cut(s.Tags.API, " ")
	what := cmp.Or(s.Tags.API, s.Name)
	switch {
	case strings.HasPrefix(s.Name, "pubsub/"):
		return "delivers the event to the service, and waits for its answer"
	case strings.HasPrefix(path, "/v1.0/publish/"):
		what = "hands the event to the broker: " + what
	case strings.HasPrefix(path, "/v1.0/invoke/"):
		what = "calls the service: " + what
	case strings.HasPrefix(path, "/v1.0/state/") && method == http.MethodGet:
		what = "reads from the state store: " + what
	case strings.HasPrefix(path, "/v1.0/state/"):
		what = "writes to the state store: " + what
	}
	if s.Tags.Status != "" {
		what += ", answered " + s.Tags.Status
	}
	return what
}
