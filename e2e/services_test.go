package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// The services that each way of starting the project starts: `make run`, `dapr run`,
// `dapr run -f`, and Kubernetes (see kubernetes_test.go). `make run` uses the table in package
// stack.
var started = []stack.Service{stack.Inventory, stack.Order}

// daprRun returns the command that starts a service in its folder.
func daprRun(s stack.Service) string {
	return fmt.Sprintf("dapr run --app-id %s --app-port %d --dapr-http-port %d %s-- go run .", s.AppID, s.Port, s.DaprPort, projectFlags(s))
}

// projectFlags start a service's sidecar with the project's component files and Configuration.
func projectFlags(s stack.Service) string {
	return "--config ../components/" + s.Config + " --resources-path ../components/redis --log-level warn "
}

// oneLine joins the lines that bash and PowerShell continue in the next line.
func oneLine(text string) string {
	return regexp.MustCompile("(?: \\\\| `)\n *").ReplaceAllString(text, " ")
}

// Every `dapr run` in the documents that names component files starts a sidecar with the
// filter, and lets it deliver many events at a time. The README and the page for Windows start
// the services that `make run` starts.
func TestDocumentsStartTheSameServices(t *testing.T) {
	t.Parallel()
	commands := 0
	for _, page := range documents(t) {
		text := oneLine(harness.Document(t, page))
		for _, command := range regexp.MustCompile(`(?m)^ *dapr run .*--resources-path.*$`).FindAllString(text, -1) {
			commands++
			flags := projectFlags(stack.Inventory) // as every app that other apps may not call
			if strings.Contains(command, " --app-id "+stack.Order.AppID+" ") {
				flags = projectFlags(stack.Order)
			}
			if !strings.Contains(command, " "+flags+"-- ") || strings.Contains(command, "--app-max-concurrency") {
				t.Errorf("%s: %s\ndoes not have the flags %s", page, command, flags)
			}
		}
		for _, s := range started {
			if n := strings.Count(text, daprRun(s)); n != 1 && (page == "README.md" || page == windows) {
				t.Errorf("%s has %d times, not once:\n%s", page, n, daprRun(s))
			}
		}
	}
	if commands < 7 {
		t.Errorf("the documents have only %d commands that name component files", commands)
	}
}

// What `dapr run -f` starts is what `make run` starts. The names of the fields are
// those of https://docs.dapr.io/developing-applications/local-development/multi-app-dapr-run/multi-app-template/.
func TestRunFileStartsTheSameServices(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(harness.Project.Root, "components", "run")
	text, err := os.ReadFile(filepath.Join(dir, "dapr.yaml"))
	harness.Must(t, err)
	var file struct {
		Version int
		Common  struct {
			ResourcesPaths []string `json:"resourcesPaths"`
			ConfigFilePath string   `json:"configFilePath"`
			LogLevel       string   `json:"logLevel"`
		}
		Apps []struct {
			AppID          string `json:"appID"`
			AppDirPath     string `json:"appDirPath"`
			AppPort        int    `json:"appPort"`
			DaprHTTPPort   int    `json:"daprHTTPPort"`
			ConfigFilePath string `json:"configFilePath"`
			Command        []string
		}
	}
	harness.Must(t, yaml.UnmarshalStrict(text, &file))
	if file.Version != 1 {
		t.Errorf("the run file has version %d, want 1", file.Version)
	}
	var got, want [][]string
	for _, app := range file.Apps {
		// The flags. Common paths are as seen from the run file, those of an app from the app's folder.
		config := app.ConfigFilePath
		if config == "" {
			config = "../components/" + strings.TrimPrefix(file.Common.ConfigFilePath, "../")
		}
		flags := fmt.Sprintf("--config %s --resources-path ../components/%s --log-level %s ",
			config, strings.TrimPrefix(strings.Join(file.Common.ResourcesPaths, ","), "../"), file.Common.LogLevel)
		got = append(got, []string{app.AppID, filepath.Join(dir, app.AppDirPath), strconv.Itoa(app.AppPort), strconv.Itoa(app.DaprHTTPPort), flags, strings.Join(app.Command, " ")})
	}
	for _, s := range started {
		want = append(want, []string{s.AppID, filepath.Join(harness.Project.Root, s.Folder), strconv.Itoa(s.Port), strconv.Itoa(s.DaprPort), projectFlags(s), "go run ."})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the run file differs from what make run starts (-want +got):\n%s", diff)
	}
}
