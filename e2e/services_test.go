package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"sigs.k8s.io/yaml"

	"example.com/dapr-orders/e2e/stack"
)

// There are four ways to start the services: `make run`, `dapr run`, `dapr run -f`, and
// Kubernetes. The table in package stack is what the first has.
var started = []stack.Service{stack.Inventory, stack.Order}

// daprRun returns how a service is started by hand, from its folder, with the project's
// component files and filter or without, as in many a tutorial.
func daprRun(s stack.Service, flags string) string {
	return fmt.Sprintf("dapr run --app-id %s --app-port %d --dapr-http-port %d %s-- go run .", s.AppID, s.Port, s.DaprPort, flags)
}

// projectFlags start a sidecar with the project's component files and filter.
const projectFlags = "--config ../components/config.yaml --resources-path ../components/redis --log-level warn "

// What the README types for `dapr run` starts what `make run` does, in both shells, with
// the project's component files and without.
func TestReadmeStartsTheSameServices(t *testing.T) {
	t.Parallel()
	// Lines that go on in the next one, as both shells have it.
	text := regexp.MustCompile("(?: \\\\| `)\n *").ReplaceAllString(readme(t), " ")
	for _, s := range started {
		for flags, times := range map[string]int{projectFlags: 2, "": 1} {
			if n := strings.Count(text, daprRun(s, flags)); n != times {
				t.Errorf("the README has %d times, not %d:\n%s", n, times, daprRun(s, flags))
			}
		}
	}
}

// Every command in the documents that names component files starts a sidecar with the
// filter, and lets it deliver many events at a time.
func TestDocumentsStartSidecarsWithTheFilter(t *testing.T) {
	t.Parallel()
	commands := 0
	for _, page := range []string{"README.md", "components/README.md", "daprhttp/README.md"} {
		text := regexp.MustCompile("(?: \\\\| `)\n *").ReplaceAllString(document(t, page), " ")
		for _, command := range regexp.MustCompile(`(?m)^ *(?:GOWORK=off )?dapr run .*--resources-path.*$`).FindAllString(text, -1) {
			commands++
			if !strings.Contains(command, " "+projectFlags+"-- ") || strings.Contains(command, "--app-max-concurrency") {
				t.Errorf("%s: %s\ndoes not have the flags %s", page, command, projectFlags)
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
	dir := filepath.Join(project.Root, "components", "run")
	text, err := os.ReadFile(filepath.Join(dir, "dapr.yaml"))
	must(t, err)
	var file struct {
		Version int
		Common  struct {
			ResourcesPaths []string `json:"resourcesPaths"`
			ConfigFilePath string   `json:"configFilePath"`
			LogLevel       string   `json:"logLevel"`
		}
		Apps []struct {
			AppID        string `json:"appID"`
			AppDirPath   string `json:"appDirPath"`
			AppPort      int    `json:"appPort"`
			DaprHTTPPort int    `json:"daprHTTPPort"`
			Command      []string
		}
	}
	must(t, yaml.UnmarshalStrict(text, &file))
	if file.Version != 1 {
		t.Errorf("the run file has version %d, want 1", file.Version)
	}
	var got, want [][]string
	for _, app := range file.Apps {
		got = append(got, []string{app.AppID, filepath.Join(dir, app.AppDirPath), strconv.Itoa(app.AppPort), strconv.Itoa(app.DaprHTTPPort), strings.Join(app.Command, " ")})
	}
	for _, s := range started {
		want = append(want, []string{s.AppID, filepath.Join(project.Root, s.Folder), strconv.Itoa(s.Port), strconv.Itoa(s.DaprPort), "go run ."})
	}
	// The flags, of which the paths are as seen from the run file.
	flags := fmt.Sprintf("--config ../components/%s --resources-path ../components/%s --log-level %s ",
		strings.TrimPrefix(file.Common.ConfigFilePath, "../"), strings.TrimPrefix(strings.Join(file.Common.ResourcesPaths, ","), "../"), file.Common.LogLevel)
	if flags != projectFlags {
		t.Errorf("the run file has the flags %s, want %s", flags, projectFlags)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the run file differs from what make run starts (-want +got):\n%s", diff)
	}
}

// The Kubernetes manifest is what Kubernetes takes, and has the same services, on the
// same ports.
func TestKubernetesManifestHasTheSameServices(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(project.Root, "components", "kubernetes", "apps.yaml"))
	must(t, err)
	objects, err := readManifest(text)
	must(t, err)
	deployments := only[*appsv1.Deployment](objects)
	got, want := make(map[string]string), make(map[string]string)
	for _, d := range deployments {
		pod := d.Spec.Template
		container := pod.Spec.Containers[0]
		port := strconv.Itoa(int(container.Ports[0].ContainerPort))
		if pod.Annotations["dapr.io/enabled"] != "true" || pod.Annotations["dapr.io/app-port"] != port ||
			container.LivenessProbe.HTTPGet.Port.String() != port {
			t.Errorf("%s: %v does not fit the port %s, or the probe", d.Name, pod.Annotations, port)
		}
		if diff := cmp.Diff(d.Spec.Selector.MatchLabels, pod.Labels); diff != "" {
			t.Errorf("%s does not select its pods (-selector +pod):\n%s", d.Name, diff)
		}
		got[pod.Annotations["dapr.io/app-id"]] = port
	}
	for _, s := range started {
		want[s.AppID] = strconv.Itoa(s.Port)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("services and their ports (-make run +manifest):\n%s", diff)
	}
	for _, wrong := range []struct{ old, new string }{
		{"  replicas: 3", "  replica: 3"},
		{"  replicas: 3", "  replicas: three"},
		{"containerPort: 5001", "containerport: 5001"},
		{"secretKeyRef: {name:", "secretKeyRef: {names:"},
		{"kind: Service", "kind: Servant"},
	} {
		if !bytes.Contains(text, []byte(wrong.old)) {
			t.Fatalf("the manifest does not have %s", wrong.old)
		}
		if _, err := readManifest(bytes.ReplaceAll(text, []byte(wrong.old), []byte(wrong.new))); err == nil {
			t.Errorf("%q for %q is not noticed", wrong.new, wrong.old)
		}
	}
}

// On Kubernetes each sidecar has the filter: its Configuration names the component, the
// component names the module, and the module is mounted there.
func TestKubernetesSidecarsHaveTheFilter(t *testing.T) {
	t.Parallel()
	read := func(file string) []byte {
		text, err := os.ReadFile(filepath.Join(project.Root, "components", filepath.FromSlash(file)))
		must(t, err)
		return text
	}
	documents := bytes.Split(read("kubernetes/answered.yaml"), []byte("\n---\n"))
	if len(documents) != 3 {
		t.Fatalf("kubernetes/answered.yaml has %d documents", len(documents))
	}
	objects, err := readManifest(documents[0])
	must(t, err)
	module := only[*corev1.ConfigMap](objects)[0]
	if !bytes.Equal(module.BinaryData["answered.wasm"], read("answered.wasm")) {
		t.Error("the ConfigMap does not hold components/answered.wasm: put `base64 -w0 components/answered.wasm` there")
	}
	if err := checkComponent(documents[1], readSchemas(t)); err != nil {
		t.Error(err)
	}
	var filter componentFile
	must(t, yaml.Unmarshal(documents[1], &filter))
	if want := "file:///answered/answered.wasm"; *filter.Spec.Metadata[0].Value != want {
		t.Errorf("the filter is looked for at %s, want %s", *filter.Spec.Metadata[0].Value, want)
	}

	filtered := make(map[string]bool) // Configurations with the filter, by name
	for _, text := range [][]byte{documents[2], read("kubernetes/configuration.yaml"), read("config.yaml")} {
		var configuration struct {
			Metadata struct{ Name string }
			Spec     struct {
				AppHTTPPipeline struct{ Handlers []struct{ Name, Type string } } `json:"appHttpPipeline"`
			}
		}
		must(t, yaml.Unmarshal(text, &configuration))
		handlers := configuration.Spec.AppHTTPPipeline.Handlers
		filtered[configuration.Metadata.Name] = len(handlers) == 1 && handlers[0].Name == filter.Metadata.Name && handlers[0].Type == filter.Spec.Type
	}
	if len(filtered) != 3 {
		t.Errorf("there are the Configurations %v", filtered)
	}
	for name, has := range filtered {
		if !has {
			t.Errorf("the Configuration %s does not have the filter", name)
		}
	}

	apps, err := readManifest(read("kubernetes/apps.yaml"))
	must(t, err)
	for _, d := range only[*appsv1.Deployment](apps) {
		pod := d.Spec.Template
		if !filtered[pod.Annotations["dapr.io/config"]] || pod.Annotations["dapr.io/log-level"] != "warn" ||
			pod.Annotations["dapr.io/volume-mounts"] != "answered:/answered" || pod.Annotations["dapr.io/app-max-concurrency"] != "" {
			t.Errorf("the sidecar of %s has not the filter, or too much of a log: %v", d.Name, pod.Annotations)
		}
		if v := pod.Spec.Volumes; len(v) != 1 || v[0].Name != "answered" || v[0].ConfigMap == nil || v[0].ConfigMap.Name != module.Name {
			t.Errorf("%s does not mount the ConfigMap: %v", d.Name, v)
		}
	}
}

// only returns the objects of one type.
func only[T runtime.Object](objects []runtime.Object) (all []T) {
	for _, object := range objects {
		if one, ok := object.(T); ok {
			all = append(all, one)
		}
	}
	return all
}

// readManifest decodes a manifest as Kubernetes does, and takes nothing that it does
// not know.
func readManifest(text []byte) (objects []runtime.Object, err error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(appsv1.AddToScheme(scheme), corev1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	serializer := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
	for i, document := range bytes.Split(text, []byte("\n---\n")) {
		object, _, err := serializer.Decode(document, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", i, err)
		}
		objects = append(objects, object)
	}
	return objects, nil
}
