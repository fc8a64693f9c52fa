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

// maxConcurrency returns how many requests at a time a service's sidecar may send it, or
// "" if as many as it likes.
func maxConcurrency(s stack.Service) string {
	if s.OneAtATime {
		return "1"
	}
	return ""
}

// daprRun returns how a service is started by hand, from its folder, with the project's
// component files or without, as in many a tutorial.
func daprRun(s stack.Service, resources string) string {
	command := fmt.Sprintf("dapr run --app-id %s --app-port %d --dapr-http-port %d ", s.AppID, s.Port, s.DaprPort)
	if most := maxConcurrency(s); most != "" && resources != "" {
		command += "--app-max-concurrency " + most + " "
	}
	return command + resources + "-- go run ."
}

// What the README types for `dapr run` starts what `make run` does, in both shells, with
// the project's component files and without.
func TestReadmeStartsTheSameServices(t *testing.T) {
	t.Parallel()
	// Lines that go on in the next one, as both shells have it.
	text := regexp.MustCompile("(?: \\\\| `)\n *").ReplaceAllString(readme(t), " ")
	for _, s := range started {
		for resources, times := range map[string]int{"--resources-path ../components ": 2, "": 1} {
			if n := strings.Count(text, daprRun(s, resources)); n != times {
				t.Errorf("the README has %d times, not %d:\n%s", n, times, daprRun(s, resources))
			}
		}
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
			ResourcesPath string `json:"resourcesPath"`
		}
		Apps []struct {
			AppID        string `json:"appID"`
			AppDirPath   string `json:"appDirPath"`
			AppPort      int    `json:"appPort"`
			DaprHTTPPort int    `json:"daprHTTPPort"`
			Max          int    `json:"appMaxConcurrency"`
			Command      []string
		}
	}
	must(t, yaml.UnmarshalStrict(text, &file))
	if file.Version != 1 {
		t.Errorf("the run file has version %d, want 1", file.Version)
	}
	var got, want [][]string
	for _, app := range file.Apps {
		most := ""
		if app.Max > 0 {
			most = strconv.Itoa(app.Max)
		}
		got = append(got, []string{app.AppID, filepath.Join(dir, app.AppDirPath), strconv.Itoa(app.AppPort), strconv.Itoa(app.DaprHTTPPort), most,
			filepath.Join(dir, file.Common.ResourcesPath), strings.Join(app.Command, " ")})
	}
	for _, s := range started {
		want = append(want, []string{s.AppID, filepath.Join(project.Root, s.Folder), strconv.Itoa(s.Port), strconv.Itoa(s.DaprPort), maxConcurrency(s),
			filepath.Join(project.Root, "components"), "go run ."})
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
	deployments, err := readManifest(text)
	must(t, err)
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
		got[pod.Annotations["dapr.io/app-id"]] = port + " " + pod.Annotations["dapr.io/app-max-concurrency"]
	}
	for _, s := range started {
		want[s.AppID] = strconv.Itoa(s.Port) + " " + maxConcurrency(s)
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

// readManifest decodes a manifest as Kubernetes does, and takes nothing that it does
// not know.
func readManifest(text []byte) (deployments []*appsv1.Deployment, err error) {
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
		if d, ok := object.(*appsv1.Deployment); ok {
			deployments = append(deployments, d)
		}
	}
	return deployments, nil
}
