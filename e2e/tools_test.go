package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"example.com/dapr-orders/e2e/harness"
)

// readJSON reads a file of the project's. JSON with comments, which some editors take, and
// fields that v does not have are errors.
func readJSON(t *testing.T, name string, v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(harness.Document(t, name)))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// F5 in Visual Studio Code starts each service, and before it the sidecar that the README
// starts, in the same folder.
func TestEditorStartsTheSameServices(t *testing.T) {
	t.Parallel()
	var launch struct {
		Version   string
		Compounds []struct {
			Name           string
			Configurations []string
			StopAll        bool
			Presentation   any
		}
		Configurations []struct {
			Name, Type, Request, Mode, Program string
			PreLaunchTask, PostDebugTask       string
			Presentation                       any
		}
	}
	readJSON(t, ".vscode/launch.json", &launch)
	var tasks struct {
		Version string
		Tasks   []struct {
			Label, Type, Command string
			Args                 []string
			Options              struct{ Cwd string }
			IsBackground         bool
			ProblemMatcher       any
			Group                any
		}
	}
	readJSON(t, ".vscode/tasks.json", &tasks)

	// got is what a configuration runs: the command and its folder before it, the program,
	// and the command after it.
	got := make(map[string][]string)
	for _, c := range launch.Configurations {
		run := []string{"", "", c.Program, ""}
		for _, task := range tasks.Tasks {
			command := task.Command + " " + strings.Join(task.Args, " ")
			switch task.Label {
			case c.PreLaunchTask:
				run[0], run[1] = task.Options.Cwd, command
			case c.PostDebugTask:
				run[3] = command
			}
		}
		got[c.Name] = run
	}
	want := make(map[string][]string)
	for _, s := range started {
		folder := "${workspaceFolder}/" + s.Folder
		want[s.Folder] = []string{folder, strings.TrimSuffix(daprRun(s), " -- go run ."), folder, "dapr stop --app-id " + s.AppID}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf(".vscode (-want +got):\n%s", diff)
	}
	if len(launch.Compounds) != 1 || len(launch.Compounds[0].Configurations) != len(started) {
		t.Errorf("no compound starts all services: %+v", launch.Compounds)
	}
	var other any
	readJSON(t, ".vscode/extensions.json", &other)
	readJSON(t, ".devcontainer/devcontainer.json", &other)
}

// The servers of the Compose file listen where the component files expect them, with the
// settings that these ask for, and every file that it mounts is there.
func TestComposeServersAreWhereComponentsLook(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(harness.Project.Root, "components")
	var file struct {
		Services map[string]struct{ Ports, Volumes []string }
		Configs  map[string]struct{ Content string }
	}
	harness.Must(t, yaml.Unmarshal([]byte(harness.Document(t, "components/compose.yaml")), &file))
	for service, look := range map[string]struct{ component, address, port string }{
		"rabbitmq":  {"rabbitmq-postgres/pubsub.yaml", "localhost:5672", "5672"},
		"mosquitto": {"mqtt-postgres/pubsub.yaml", "localhost:1883", "1883"},
		"postgres":  {"rabbitmq-postgres/statestore.yaml", "host=localhost port=5432", "5432"},
	} {
		if !strings.Contains(harness.Document(t, "components/"+look.component), look.address) {
			t.Errorf("%s does not look at %s", look.component, look.address)
		}
		if want := []string{fmt.Sprintf("127.0.0.1:%s:%[1]s", look.port)}; !slices.Equal(file.Services[service].Ports, want) {
			t.Errorf("%s has the ports %q, want %q", service, file.Services[service].Ports, want)
		}
		for _, volume := range file.Services[service].Volumes {
			if from, _, _ := strings.Cut(volume, ":"); strings.HasPrefix(from, ".") {
				if _, err := os.Stat(filepath.Join(dir, from)); err != nil {
					t.Error(err)
				}
			}
		}
	}

	// The settings stand in a comment, each on a line of its own behind "#" and a tab.
	settings := 0
	for line := range strings.Lines(harness.Document(t, "components/mqtt-postgres/pubsub.yaml")) {
		if setting, found := strings.CutPrefix(line, "#\t"); found {
			settings++
			if !strings.Contains(file.Configs["mosquitto"].Content, setting) {
				t.Errorf("Mosquitto has no setting %s", setting)
			}
		}
	}
	if settings != 4 {
		t.Errorf("mqtt-postgres/pubsub.yaml has %d settings, want 4", settings)
	}
	if user := []byte(file.Configs["guest"].Content); !json.Valid(user) || !bytes.Contains(user, []byte(`"guest"`)) {
		t.Errorf("RabbitMQ's user is not JSON: %s", user)
	}
}
