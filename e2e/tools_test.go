package e2e

import (
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

// F5 in Visual Studio Code starts each service, and before it the sidecar that the README
// starts, in the same folder.
func TestEditorStartsTheSameServices(t *testing.T) {
	t.Parallel()
	var launch struct {
		Configurations []struct{ Name, Program, PreLaunchTask, PostDebugTask string }
	}
	harness.Must(t, json.Unmarshal([]byte(harness.Document(t, ".vscode/launch.json")), &launch))
	var tasks struct {
		Tasks []struct {
			Label, Command string
			Args           []string
			Options        struct{ Cwd string }
		}
	}
	harness.Must(t, json.Unmarshal([]byte(harness.Document(t, ".vscode/tasks.json")), &tasks))
	commands, folders := make(map[string]string), make(map[string]string) // by label
	for _, task := range tasks.Tasks {
		commands[task.Label], folders[task.Label] = task.Command+" "+strings.Join(task.Args, " "), task.Options.Cwd
	}

	got, want := make(map[string][]string), make(map[string][]string)
	for _, c := range launch.Configurations {
		got[c.Name] = []string{folders[c.PreLaunchTask], commands[c.PreLaunchTask], c.Program, commands[c.PostDebugTask]}
	}
	for _, s := range started {
		folder := "${workspaceFolder}/" + s.Folder
		want[s.Folder] = []string{folder, strings.TrimSuffix(daprRun(s), " -- go run ."), folder, "dapr stop --app-id " + s.AppID}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf(".vscode (-want +got):\n%s", diff)
	}
	for _, file := range []string{".vscode/extensions.json", ".devcontainer/devcontainer.json"} {
		if !json.Valid([]byte(harness.Document(t, file))) {
			t.Errorf("%s is not JSON", file)
		}
	}
}

// The servers of the Compose file listen where the component files expect them, with the
// settings that the component files ask for. Every file that the Compose file mounts is there.
func TestComposeServersAreWhereComponentsLook(t *testing.T) {
	t.Parallel()
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
		if want := fmt.Sprintf("127.0.0.1:%s:%[1]s", look.port); !slices.Contains(file.Services[service].Ports, want) {
			t.Errorf("%s has the ports %q, want %q", service, file.Services[service].Ports, want)
		}
		for _, volume := range file.Services[service].Volumes {
			if from, _, _ := strings.Cut(volume, ":"); strings.HasPrefix(from, ".") {
				_, err := os.Stat(filepath.Join(harness.Project.Root, "components", from))
				harness.Must(t, err)
			}
		}
	}

	// The settings are in a comment, each on its own line after "#" and a tab.
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
	if !json.Valid([]byte(file.Configs["guest"].Content)) {
		t.Errorf("RabbitMQ's user is not JSON: %s", file.Configs["guest"].Content)
	}
}
