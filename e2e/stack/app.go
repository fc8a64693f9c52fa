package stack

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// An App is a program and its sidecar, as `dapr run` starts them.
type App struct {
	ID       string // Dapr app ID
	Port     int    // of the program
	DaprPort int    // of the sidecar's HTTP API

	GRPCPort    int // of the sidecar's gRPC API
	MetricsPort int // of the sidecar

	internalPort int // where other sidecars reach it

	Service *Process // nil where the program runs elsewhere, in a test itself say
	Sidecar *Process

	o AppOptions
}

// AppOptions say what to start.
type AppOptions struct {
	ID        string
	Program   string   // path of the service; empty to start the sidecar alone
	Args      []string // of the service
	Env       []string // for the service, as "NAME=value"
	Daprd     string   // path of daprd
	Resources string   // the folder of component files
	Config    string   // a Dapr Configuration file, or empty; a System has its own folder of them
	Dir       string   // the folder in which the sidecar runs; empty for this process's own

	Port, DaprPort int // 0 for free ones

	// DaprAPIToken is what the sidecar demands of the service, AppAPIToken what
	// the service demands of the sidecar. Empty means none.
	DaprAPIToken, AppAPIToken string

	// SidecarArgs are added to the sidecar's command line, SidecarEnv to its
	// environment.
	SidecarArgs, SidecarEnv []string

	// Output takes every line that the service or the sidecar writes.
	Output func(name, line string)
}

// StartApp starts a service and its sidecar and waits until both are ready.
// When it fails, nothing is left running.
func StartApp(ctx context.Context, o AppOptions) (*App, error) {
	if strings.Contains(o.Resources, ",") {
		return nil, fmt.Errorf("a sidecar takes %s for more than one folder", o.Resources)
	}
	a := &App{ID: o.ID, Port: o.Port, DaprPort: o.DaprPort, o: o}
	for _, port := range []*int{&a.Port, &a.DaprPort, &a.GRPCPort, &a.MetricsPort, &a.internalPort} {
		if *port == 0 {
			free, err := FreePort()
			if err != nil {
				return nil, err
			}
			*port = free
		}
	}
	err := a.StartService(ctx)
	if err == nil {
		err = a.StartSidecar(ctx)
	}
	if err != nil {
		_ = a.Stop()
		return nil, err
	}
	return a, nil
}

// StartService starts the service, or starts it again, and waits until it is
// healthy.
func (a *App) StartService(ctx context.Context) error {
	if a.o.Program == "" {
		return nil
	}
	p, err := Start(Command{
		Name: a.ID,
		Path: a.o.Program,
		Args: a.o.Args,
		Env: append([]string{
			"APP_ID=" + a.ID,
			"APP_PORT=" + strconv.Itoa(a.Port),
			"DAPR_HTTP_PORT=" + strconv.Itoa(a.DaprPort),
			"DAPR_GRPC_PORT=" + strconv.Itoa(a.GRPCPort),
			"DAPR_API_TOKEN=" + a.o.DaprAPIToken,
			"APP_API_TOKEN=" + a.o.AppAPIToken,
		}, a.o.Env...),
		Output: a.output(a.ID),
	})
	if err != nil {
		return err
	}
	a.Service = p
	return p.WaitReady(ctx, httpReady(a.URL("/healthz")))
}

// sidecarArgs returns the sidecar's command line without the program: what
// `dapr run` passes for the same app, and the ports and addresses that let many
// sidecars run on one machine.
func (a *App) sidecarArgs() []string {
	args := []string{
		"--app-id", a.ID,
		"--app-port", strconv.Itoa(a.Port),
		"--dapr-http-port", strconv.Itoa(a.DaprPort),
		"--dapr-grpc-port", strconv.Itoa(a.GRPCPort),
		"--dapr-internal-grpc-port", strconv.Itoa(a.internalPort),
		"--metrics-port", strconv.Itoa(a.MetricsPort),
		"--resources-path", a.o.Resources,
		"--dapr-listen-addresses", "127.0.0.1",
		"--dapr-internal-grpc-listen-address", "127.0.0.1",
		"--metrics-listen-address", "127.0.0.1",
		"--log-level", "warn", // the filter makes a line at level info for each request
	}
	if a.o.Config != "" {
		args = append(args, "--config", a.o.Config)
	}
	return append(args, a.o.SidecarArgs...)
}

// StartSidecar starts the sidecar, or starts it again, and waits until it has
// loaded its components and the app's subscriptions.
func (a *App) StartSidecar(ctx context.Context) error {
	name := a.ID + " sidecar"
	p, err := Start(Command{
		Name: name,
		Path: a.o.Daprd,
		Args: a.sidecarArgs(),
		Dir:  a.o.Dir,
		Env: append([]string{
			"DAPR_API_TOKEN=" + a.o.DaprAPIToken,
			"APP_API_TOKEN=" + a.o.AppAPIToken,
			"DAPR_HOST_IP=127.0.0.1", // where other sidecars find it
		}, a.o.SidecarEnv...),
		Output: a.output(name),
	})
	if err != nil {
		return err
	}
	a.Sidecar = p
	if err := p.WaitReady(ctx, httpReady(a.DaprURL("/v1.0/healthz"))); err != nil {
		return err
	}
	return p.WaitReady(ctx, a.subscribed)
}

// subscribed returns nil once the sidecar has the subscriptions that the app
// declares. A program that declares none answers 404.
func (a *App) subscribed(ctx context.Context) error {
	var declared []struct{ Topic string }
	if err := getJSON(ctx, a.URL("/dapr/subscribe"), a.o.AppAPIToken, &declared); err != nil {
		return err
	}
	var metadata struct {
		Subscriptions []struct{ Topic string }
	}
	if err := getJSON(ctx, a.DaprURL("/v1.0/metadata"), a.o.DaprAPIToken, &metadata); err != nil {
		return err
	}
	if len(metadata.Subscriptions) < len(declared) {
		return fmt.Errorf("the sidecar has %d of %d subscriptions", len(metadata.Subscriptions), len(declared))
	}
	return nil
}

// getJSON reads the JSON at a URL into v, which stays as it is after a 404.
func getJSON(ctx context.Context, url, token string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("dapr-api-token", token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return json.NewDecoder(resp.Body).Decode(v)
	case http.StatusNotFound:
		return nil
	default:
		return fmt.Errorf("GET %s answered %s", url, resp.Status)
	}
}

// Stop ends the sidecar and then the service, each in its own good time.
func (a *App) Stop() error {
	var failed error
	for _, p := range []*Process{a.Sidecar, a.Service} {
		if p == nil {
			continue
		}
		if err := p.Stop(20 * time.Second); err != nil && failed == nil {
			failed = err
		}
	}
	return failed
}

// URL returns the URL of a path of the service.
func (a *App) URL(path string) string {
	return "http://127.0.0.1:" + strconv.Itoa(a.Port) + path
}

// DaprURL returns the URL of a path of the sidecar's HTTP API.
func (a *App) DaprURL(path string) string {
	return "http://127.0.0.1:" + strconv.Itoa(a.DaprPort) + path
}

func (a *App) output(name string) func(string) {
	if a.o.Output == nil {
		return nil
	}
	return func(line string) { a.o.Output(name, line) }
}
