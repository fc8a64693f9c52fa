package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// An App is a program and its sidecar, as `dapr run` starts them.
type App struct {
	AppOptions // with the ports that are used

	GRPCPort    int // of the sidecar's gRPC API
	MetricsPort int // of the sidecar

	internalPort int // where other sidecars reach the sidecar

	Service *Process // the latest one; nil if Program is empty
	Sidecar *Process // the latest one
}

// AppOptions say what to start.
type AppOptions struct {
	ID        string   // Dapr app ID
	Program   string   // path of the service; empty to start the sidecar alone
	Args      []string // of the service
	Env       []string // for the service, as "NAME=value"
	Daprd     string   // path of daprd
	Resources string   // the folder of component files
	Config    string   // a Dapr Configuration file, or empty; in a System: the file's name in System.Configs
	Dir       string   // the folder in which the sidecar runs; empty for this process's own

	Port     int // of the service; 0 for a free one
	DaprPort int // of the sidecar's HTTP API; 0 for a free one

	// The sidecar demands DaprAPIToken of the service, and the service demands AppAPIToken
	// of the sidecar. Empty means no token.
	DaprAPIToken, AppAPIToken string

	// SidecarArgs are added to the sidecar's command line, SidecarEnv to its environment.
	SidecarArgs, SidecarEnv []string

	// Output takes every line that the service or the sidecar writes. It may be nil.
	Output func(name, line string)
}

// StartApp starts a service and its sidecar and waits until both are ready.
// When it fails, nothing is left running.
func StartApp(ctx context.Context, o AppOptions) (*App, error) {
	if strings.Contains(o.Resources, ",") {
		return nil, fmt.Errorf("a sidecar takes %s for more than one folder", o.Resources)
	}
	a := &App{AppOptions: o}
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

// StartService starts the service, or starts it again, and waits until it is healthy.
func (a *App) StartService(ctx context.Context) (err error) {
	if a.Program == "" {
		return nil
	}
	a.Service, err = startReady(ctx, Command{
		Name: a.ID,
		Path: a.Program,
		Args: a.Args,
		Env: append([]string{
			"APP_ID=" + a.ID,
			"APP_PORT=" + strconv.Itoa(a.Port),
			"DAPR_HTTP_PORT=" + strconv.Itoa(a.DaprPort),
			"DAPR_GRPC_PORT=" + strconv.Itoa(a.GRPCPort),
			"DAPR_API_TOKEN=" + a.DaprAPIToken,
			"APP_API_TOKEN=" + a.AppAPIToken,
		}, a.Env...),
		Output: a.Output,
	}, httpReady(a.URL("/healthz")))
	return err
}

// sidecarArgs returns the sidecar's command line without the program: what `dapr run`
// passes for the same app, and the ports and addresses that let many sidecars run on one
// machine.
func (a *App) sidecarArgs() []string {
	args := []string{
		"--app-id", a.ID,
		"--app-port", strconv.Itoa(a.Port),
		"--dapr-http-port", strconv.Itoa(a.DaprPort),
		"--dapr-grpc-port", strconv.Itoa(a.GRPCPort),
		"--dapr-internal-grpc-port", strconv.Itoa(a.internalPort),
		"--metrics-port", strconv.Itoa(a.MetricsPort),
		"--resources-path", a.Resources,
		"--dapr-listen-addresses", "127.0.0.1",
		"--dapr-internal-grpc-listen-address", "127.0.0.1",
		"--metrics-listen-address", "127.0.0.1",
		"--log-level", "warn", // the filter makes a line at level info for each request
	}
	if a.Config != "" {
		args = append(args, "--config", a.Config)
	}
	return append(args, a.SidecarArgs...)
}

// StartSidecar starts the sidecar, or starts it again, and waits until it has loaded its
// components and the app's subscriptions.
func (a *App) StartSidecar(ctx context.Context) (err error) {
	a.Sidecar, err = startReady(ctx, Command{
		Name: a.ID + " sidecar",
		Path: a.Daprd,
		Args: a.sidecarArgs(),
		Dir:  a.Dir,
		Env: append([]string{
			"DAPR_API_TOKEN=" + a.DaprAPIToken,
			"APP_API_TOKEN=" + a.AppAPIToken,
			"DAPR_HOST_IP=127.0.0.1", // where other sidecars find it
		}, a.SidecarEnv...),
		Output: a.Output,
	}, a.subscribed)
	return err
}

// subscribed returns nil once the sidecar is healthy and has the subscriptions that the
// app declares. A program that declares none answers 404.
func (a *App) subscribed(ctx context.Context) error {
	if err := httpReady(a.DaprURL("/v1.0/healthz"))(ctx); err != nil {
		return err
	}
	var declared []struct{ Topic string }
	if err := getJSON(ctx, a.URL("/dapr/subscribe"), a.AppAPIToken, &declared); err != nil {
		return err
	}
	var metadata struct {
		Subscriptions []struct{ Topic string }
	}
	if err := getJSON(ctx, a.DaprURL("/v1.0/metadata"), a.DaprAPIToken, &metadata); err != nil {
		return err
	}
	if len(metadata.Subscriptions) < len(declared) {
		return fmt.Errorf("the sidecar has %d of %d subscriptions", len(metadata.Subscriptions), len(declared))
	}
	return nil
}

// httpReady returns a readiness check: GET url answers with a 2xx.
func httpReady(url string) func(context.Context) error {
	return func(ctx context.Context) error { return getJSON(ctx, url, "", nil) }
}

// getJSON reads the JSON that a GET of url answers into v, if that is not nil. An answer
// of 404 leaves v as it is.
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
	switch {
	case resp.StatusCode == http.StatusNotFound && v != nil:
		return nil
	case resp.StatusCode/100 != 2:
		return fmt.Errorf("GET %s answered %s", url, resp.Status)
	case v == nil:
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(v)
}

// Stop asks the sidecar and then the service to end, and waits until both have ended.
func (a *App) Stop() error {
	return errors.Join(a.Sidecar.Stop(20*time.Second), a.Service.Stop(20*time.Second))
}

// URL returns the URL of a path of the service.
func (a *App) URL(path string) string {
	return "http://127.0.0.1:" + strconv.Itoa(a.Port) + path
}

// DaprURL returns the URL of a path of the sidecar's HTTP API.
func (a *App) DaprURL(path string) string {
	return "http://127.0.0.1:" + strconv.Itoa(a.DaprPort) + path
}
