package stack

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// StartSentry starts Dapr's certificate authority on free ports of the loopback
// interface, with its keys in dir, and waits until it is ready. program is its path, see
// [Sentry]. It returns the arguments and environment variables with which a sidecar uses
// it.
func StartSentry(ctx context.Context, program, dir string) (p *Process, args, env []string, err error) {
	var ports [3]int
	for i := range ports {
		if ports[i], err = FreePort(); err != nil {
			return nil, nil, nil, err
		}
	}
	port, health, metrics := fmt.Sprint(ports[0]), fmt.Sprint(ports[1]), fmt.Sprint(ports[2])
	config := filepath.Join(dir, "config.yaml")
	const defaults = "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata:\n  name: defaults\nspec: {}\n"
	if err := os.WriteFile(config, []byte(defaults), 0o644); err != nil {
		return nil, nil, nil, err
	}
	p, err = startReady(ctx, Command{
		Name: "sentry",
		Path: program,
		Args: []string{"--config", config, "--issuer-credentials", dir, "--trust-domain", "localhost",
			"--listen-address", "127.0.0.1", "--port", port,
			"--healthz-listen-address", "127.0.0.1", "--healthz-port", health,
			"--metrics-listen-address", "127.0.0.1", "--metrics-port", metrics},
	}, httpReady("http://127.0.0.1:"+health+"/healthz"))
	if err != nil {
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
