package stack

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// StartSentry starts Dapr's certificate authority on free ports of the loopback
// interface, with its keys in dir, and waits until it is ready. It returns what
// makes a sidecar use it: arguments and environment variables.
func StartSentry(ctx context.Context, program, dir string) (p *Process, args, env []string, err error) {
	var ports [3]int
	for i := range ports {
		if ports[i], err = FreePort(); err != nil {
			return nil, nil, nil, err
		}
	}
	config := filepath.Join(dir, "config.yaml")
	const defaults = "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata:\n  name: defaults\nspec: {}\n"
	if err := os.WriteFile(config, []byte(defaults), 0o644); err != nil {
		return nil, nil, nil, err
	}
	port, health := strconv.Itoa(ports[0]), strconv.Itoa(ports[1])
	p, err = Start(Command{
		Name: "sentry",
		Path: program,
		Args: []string{"--config", config, "--issuer-credentials", dir, "--trust-domain", "localhost",
			"--listen-address", "127.0.0.1", "--port", port,
			"--healthz-listen-address", "127.0.0.1", "--healthz-port", health,
			"--metrics-listen-address", "127.0.0.1", "--metrics-port", strconv.Itoa(ports[2])},
	})
	if err != nil {
		return nil, nil, nil, err
	}
	if err = p.WaitReady(ctx, httpReady("http://127.0.0.1:"+health+"/healthz")); err != nil {
		p.Kill()
		return nil, nil, nil, err
	}
	anchors, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		p.Kill()
		return nil, nil, nil, fmt.Errorf("sentry has made no certificate: %w", err)
	}
	args = []string{"--enable-mtls", "--sentry-address", "127.0.0.1:" + port, "--control-plane-trust-domain", "localhost"}
	return p, args, []string{"DAPR_TRUST_ANCHORS=" + string(anchors), "NAMESPACE=default"}, nil
}
