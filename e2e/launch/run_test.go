package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"example.com/dapr-orders/e2e/stack"
)

// testSystem returns the system of the README but for its ports and its data,
// which are its own.
func testSystem(t *testing.T, env map[string]string) system {
	t.Helper()
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	s := theSystem(root, func(name string) string { return env[name] })
	for _, port := range []*int{&s.orderPort, &s.orderDaprPort, &s.inventoryPort, &s.inventoryDaprPort, &s.redisPort} {
		if *port, err = stack.FreePort(); err != nil {
			t.Fatal(err)
		}
	}
	s.work = t.TempDir()
	s.resources = filepath.Join(s.work, "components")
	redis := &stack.Redis{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.redisPort))}
	if err := stack.WriteComponents(filepath.Join(root, "components"), s.resources, redis, redis); err != nil {
		t.Fatal(err)
	}
	return s
}

// What `make run` starts is what the README starts by hand.
func TestReadmeStartsTheSameSystem(t *testing.T) {
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	s := theSystem(root, func(string) string { return "" })
	if want := filepath.Join(root, "components"); s.resources != want {
		t.Errorf("the component files are in %s, want %s", s.resources, want)
	}
	for _, app := range []struct {
		folder, id     string
		port, daprPort int
	}{
		{"inventory", "inventory-service", s.inventoryPort, s.inventoryDaprPort},
		{"order", "order-service", s.orderPort, s.orderDaprPort},
	} {
		want := fmt.Sprintf("    cd %s\n    dapr run --app-id %s --app-port %d --dapr-http-port %d --resources-path ../components -- go run .\n",
			app.folder, app.id, app.port, app.daprPort)
		if !strings.Contains(string(readme), want) {
			t.Errorf("the README does not say\n%s", want)
		}
	}
}

// What `dapr run -f` starts is what `make run` starts. The names of the fields are
// those of https://docs.dapr.io/developing-applications/local-development/multi-app-dapr-run/multi-app-template/.
func TestRunFileStartsTheSameSystem(t *testing.T) {
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "components", "run")
	text, err := os.ReadFile(filepath.Join(dir, "dapr.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Version int
		Common  struct {
			ResourcesPath string `yaml:"resourcesPath"`
		}
		Apps []struct {
			AppID        string `yaml:"appID"`
			AppDirPath   string `yaml:"appDirPath"`
			AppPort      int    `yaml:"appPort"`
			DaprHTTPPort int    `yaml:"daprHTTPPort"`
			Command      []string
		}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		t.Fatal(err)
	}
	if file.Version != 1 {
		t.Errorf("the run file has version %d, want 1", file.Version)
	}
	var got, want [][]string
	for _, app := range file.Apps {
		got = append(got, []string{app.AppID, filepath.Join(dir, app.AppDirPath), strconv.Itoa(app.AppPort), strconv.Itoa(app.DaprHTTPPort),
			filepath.Join(dir, file.Common.ResourcesPath), strings.Join(app.Command, " ")})
	}
	for _, app := range theSystem(root, func(string) string { return "" }).apps(root) {
		want = append(want, []string{app.ID, app.Program, strconv.Itoa(app.Port), strconv.Itoa(app.DaprPort), app.Resources, "go run ."})
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the run file differs from what make run starts (-want +got):\n%s", diff)
	}
}

// The Kubernetes manifest has the same apps, on the same ports.
func TestKubernetesManifestHasTheSameApps(t *testing.T) {
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := os.Open(filepath.Join(root, "components", "kubernetes", "apps.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	defer manifest.Close()
	got := make(map[string]string)
	for decoder := yaml.NewDecoder(manifest); ; {
		var object struct {
			Kind string
			Spec struct {
				Template struct {
					Metadata struct{ Annotations map[string]string }
					Spec     struct {
						Containers []struct {
							Env   []struct{ Name, Value string }
							Ports []struct {
								ContainerPort int `yaml:"containerPort"`
							}
						}
					}
				}
			}
		}
		if err := decoder.Decode(&object); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if object.Kind != "Deployment" {
			continue
		}
		annotations, container := object.Spec.Template.Metadata.Annotations, object.Spec.Template.Spec.Containers[0]
		if annotations["dapr.io/enabled"] != "true" || strconv.Itoa(container.Ports[0].ContainerPort) != annotations["dapr.io/app-port"] {
			t.Errorf("%v does not fit the port %d", annotations, container.Ports[0].ContainerPort)
		}
		got[annotations["dapr.io/app-id"]] = annotations["dapr.io/app-port"]
	}
	want := make(map[string]string)
	for _, app := range theSystem(root, func(string) string { return "" }).apps(root) {
		want[app.ID] = strconv.Itoa(app.Port)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("apps and their ports (-launcher +manifest):\n%s", diff)
	}
}

// A screen is what a person sees.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// start runs a system until it is up. end is what Ctrl-C does.
func start(t *testing.T, s system) (shown *screen, end func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	shown = &screen{}
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx, shown) }()
	for !strings.Contains(shown.String(), "It is up") {
		select {
		case err := <-ended:
			cancel()
			t.Fatalf("the launcher ended: %v\n%s", err, shown)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return shown, func() error { cancel(); return <-ended }
}

func TestRunShowsTheStockFallAndLeavesNothingRunning(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"plain":       nil,
		"with tokens": {"DAPR_API_TOKEN": "secret one", "APP_API_TOKEN": "secret two"},
	} {
		t.Run(name, func(t *testing.T) {
			s := testSystem(t, env)
			for range 2 { // the second time with the data of the first
				shown, end := start(t, s)
				for _, want := range []string{
					fmt.Sprintf("curl -X POST http://localhost:%d/v1.0/invoke/inventory-service/method/inventory/item1", s.inventoryDaprPort),
					`-H "Content-Type: application/json" -d '{"quantity": 100}'`,
					`{"itemId":"item1","quantity":100}`,
					fmt.Sprintf("curl -X POST http://localhost:%d/v1.0/invoke/order-service/method/order", s.orderDaprPort),
					`-H "Content-Type: application/json" -d '{"orderId": "order-1001", "itemId": "item1", "quantity": 10}'`,
					`{"message":"OrderPlaced event published","event":{"orderId":"order-1001","itemId":"item1","quantity":10}}`,
					`{"itemId":"item1","quantity":90}`,
				} {
					if !strings.Contains(shown.String(), want) {
						t.Errorf("not shown: %s", want)
					}
				}
				if strings.Contains(shown.String(), "secret") {
					t.Error("a token was shown")
				}
				if err := end(); err != nil {
					t.Error(err)
				}
				if line := "Processed OrderPlaced event. orderId=order-1001, itemId=item1, ordered=10, remaining=90"; !strings.Contains(shown.String(), line) {
					t.Errorf("not shown: %s", line)
				}
				for _, port := range []int{s.orderPort, s.orderDaprPort, s.inventoryPort, s.inventoryDaprPort, s.redisPort} {
					if !stack.PortIsFree(port) {
						t.Errorf("port %d is still taken", port)
					}
				}
				if t.Failed() {
					t.Fatalf("what was shown:\n%s", shown)
				}
			}
		})
	}
}

func TestRunSaysWhatIsInTheWay(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	taken := ln.Addr().(*net.TCPAddr).Port
	go func() {
		for { // a program that is no Redis
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
			conn.Close()
		}
	}()

	t.Run("a port that is taken", func(t *testing.T) {
		s := testSystem(t, nil)
		s.inventoryPort = taken
		want := fmt.Sprintf("port %d is taken: stop the program that listens on it", taken)
		if err := s.run(t.Context(), &screen{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	})
	t.Run("no Redis on Redis's port", func(t *testing.T) {
		s := testSystem(t, nil)
		s.redisPort = taken
		want := fmt.Sprintf("port %d is taken, but not by a Redis", taken)
		if err := s.run(t.Context(), &screen{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	})
	t.Run("a service that can't be built", func(t *testing.T) {
		s := testSystem(t, nil)
		broken := t.TempDir()
		if err := stack.BuildServices(t.Context(), broken, s.work); err == nil || !strings.Contains(err.Error(), "the order service could not be built") {
			t.Errorf("got %v", err)
		}
	})
}

func TestRunUsesARedisThatRunsAlreadyAndLeavesItRunning(t *testing.T) {
	s := testSystem(t, nil)
	redis, err := s.startRedis(t.Context(), &console{w: &screen{}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := redis.Stop(10 * time.Second); err != nil {
			t.Error(err)
		}
	}()
	shown, end := start(t, s)
	if err := end(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(shown.String(), "Using the Redis that runs") {
		t.Errorf("the Redis that ran was not used:\n%s", shown)
	}
	if err := redis.Ping(); err != nil {
		t.Errorf("the Redis that ran was stopped: %v", err)
	}
}

func TestRunEndsWithAReasonWhenAProcessDoes(t *testing.T) {
	p, err := stack.Start(stack.Command{Name: "a service", Path: "go", Args: []string{"no-such-command"}})
	if err != nil {
		t.Fatal(err)
	}
	err = wait(t.Context(), []*stack.App{{Service: p, Sidecar: p}}, nil)
	if err == nil || !strings.Contains(err.Error(), "a service has ended (exit status 2); it wrote last:\ngo no-such-command: unknown command") {
		t.Errorf("got %v", err)
	}
}
