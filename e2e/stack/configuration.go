package stack

import (
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

// WriteConfig copies the project's Configuration for sidecars, components/config.yaml,
// to a file. In the copy sidecars report every span to a collector,
// "http://127.0.0.1:9411" say, or none if that is empty: a sidecar without its
// collector writes an error for each trace.
func WriteConfig(root, file, collector string) error {
	text, err := os.ReadFile(filepath.Join(root, "components", "config.yaml"))
	if err != nil {
		return err
	}
	var config map[string]any
	if err := yaml.Unmarshal(text, &config); err != nil {
		return err
	}
	spec, ok := config["spec"].(map[string]any)
	if !ok || spec["appHttpPipeline"] == nil {
		return fmt.Errorf("components/config.yaml has no spec with an appHttpPipeline")
	}
	delete(spec, "tracing")
	if collector != "" {
		spec["tracing"] = map[string]any{
			"samplingRate": "1",
			"zipkin":       map[string]any{"endpointAddress": collector + "/api/v2/spans"},
		}
	}
	if text, err = yaml.Marshal(config); err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
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
