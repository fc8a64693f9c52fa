package stack

import (
	"errors"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// FilterFile is the component file of the filter in the folder of each backend. A sidecar
// needs the file, and a Configuration that names the component.
const FilterFile = "answered.yaml"

// filterIn takes the text of the filter's component file, and returns it with the full path
// of the filter, for sidecars that don't run in their apps' folders.
func filterIn(component string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	before, after, found := strings.Cut(component, "file://../components/answered.wasm")
	if !found {
		return "", errors.New("it does not name file://../components/answered.wasm")
	}
	return before + "file://" + filepath.ToSlash(root) + "/components/answered.wasm" + after, nil
}

// DefaultConfig is the file of the default Configuration of a sidecar, in components/.
const DefaultConfig = "config.yaml"

// Extras are what copies of the project's Configurations have in addition.
type Extras struct {
	// Collector takes every span, as "http://127.0.0.1:9411". Without it the copies have no
	// tracing: a sidecar without its collector writes an error for each trace.
	Collector string

	// APIFilter is the name of a component of the type middleware.http.wasm. Each request to
	// the sidecar's API goes through it. It may be empty.
	APIFilter string
}

// WriteConfigs copies the project's Configurations for sidecars, components/config*.yaml,
// into a folder.
func WriteConfigs(root, dir string, extras Extras) error {
	return copyFiles(filepath.Join(root, "components", "config*.yaml"), dir, func(_, text string) (string, error) {
		var config map[string]any
		if err := yaml.Unmarshal([]byte(text), &config); err != nil {
			return "", err
		}
		spec, ok := config["spec"].(map[string]any)
		if !ok || spec["appHttpPipeline"] == nil {
			return "", errors.New("it has no spec with an appHttpPipeline")
		}
		delete(spec, "tracing")
		if extras.Collector != "" {
			spec["tracing"] = map[string]any{
				"samplingRate": "1",
				"zipkin":       map[string]any{"endpointAddress": extras.Collector + "/api/v2/spans"},
			}
		}
		if extras.APIFilter != "" {
			spec["httpPipeline"] = map[string]any{
				"handlers": []any{map[string]any{"name": extras.APIFilter, "type": "middleware.http.wasm"}},
			}
		}
		edited, err := yaml.Marshal(config)
		return string(edited), err
	})
}

// A Span is one step of a request, as a sidecar reports it in Zipkin's format.
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

// SpansSoon, in a sidecar's environment, has it report its spans within 100 ms, and not
// within 5 s.
const SpansSoon = "OTEL_BSP_SCHEDULE_DELAY=100"
