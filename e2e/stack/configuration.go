package stack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"
)

// FilterFile is the component file of the filter, beside those of each backend. A sidecar
// needs both: the file, and the Configuration that names the component.
const FilterFile = "answered.yaml"

// filterIn returns the filter's component file with the full path of the module, for
// sidecars that don't run in their apps' folders.
func filterIn(root, text string) (string, error) {
	const users = "file://../components/answered.wasm"
	if strings.Count(text, users) != 1 {
		return "", fmt.Errorf("%s does not name %s once", FilterFile, users)
	}
	return strings.Replace(text, users, "file://"+filepath.ToSlash(filepath.Join(root, "components", "answered.wasm")), 1), nil
}

// addFilter writes the filter's component file into a folder that may have none.
func addFilter(root, dir string) error {
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(Backends[0].Folder), FilterFile))
	if err != nil {
		return err
	}
	filter, err := filterIn(root, string(text))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, FilterFile), []byte(filter), 0o644)
}

// DefaultConfig is the file in components/ with the Configuration of a sidecar whose
// options name no other.
const DefaultConfig = "config.yaml"

// Extras are what copies of Configurations have beside what the project's have.
type Extras struct {
	// Collector takes every span, "http://127.0.0.1:9411" say. Without one the copies have
	// no tracing: a sidecar without its collector writes an error for each trace.
	Collector string

	// APIFilter is the name of a component of the type middleware.http.wasm, through which
	// each request to the sidecar's API goes. It may be empty.
	APIFilter string
}

// WriteConfigs copies the project's Configurations for sidecars, components/config*.yaml,
// into a folder.
func WriteConfigs(root, dir string, extras Extras) error {
	files, err := filepath.Glob(filepath.Join(root, "components", "config*.yaml"))
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if text, err = extras.addTo(text); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (e Extras) addTo(text []byte) ([]byte, error) {
	var config map[string]any
	if err := yaml.Unmarshal(text, &config); err != nil {
		return nil, err
	}
	spec, ok := config["spec"].(map[string]any)
	if !ok || spec["appHttpPipeline"] == nil {
		return nil, errors.New("it has no spec with an appHttpPipeline")
	}
	delete(spec, "tracing")
	if e.Collector != "" {
		spec["tracing"] = map[string]any{
			"samplingRate": "1",
			"zipkin":       map[string]any{"endpointAddress": e.Collector + "/api/v2/spans"},
		}
	}
	if e.APIFilter != "" {
		spec["httpPipeline"] = map[string]any{
			"handlers": []any{map[string]any{"name": e.APIFilter, "type": "middleware.http.wasm"}},
		}
	}
	return yaml.Marshal(config)
}

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

// SpansSoon, in a sidecar's environment, has it report its spans within so many
// milliseconds, not within 5,000.
const SpansSoon = "OTEL_BSP_SCHEDULE_DELAY=100"
