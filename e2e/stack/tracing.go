package stack

import (
	"fmt"
	"os"
)

// A Span is a stretch of a request's way, as a sidecar reports it in Zipkin's format.
//
// See https://zipkin.io/zipkin-api/ (POST /api/v2/spans).
type Span struct {
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

// WriteTracing writes a Dapr Configuration that has sidecars report every span to a
// collector, "http://127.0.0.1:9411" say.
func WriteTracing(file, collector string) error {
	return os.WriteFile(file, fmt.Appendf(nil, `apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata:
  name: tracing
spec:
  tracing:
    samplingRate: "1"
    zipkin:
      endpointAddress: "%s/api/v2/spans"
`, collector), 0o644)
}

// SpansSoon, in a sidecar's environment, has it report its spans within so many
// milliseconds, not within 5,000.
const SpansSoon = "OTEL_BSP_SCHEDULE_DELAY=100"
