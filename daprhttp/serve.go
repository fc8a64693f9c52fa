package daprhttp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"
)

// AppAddr returns the address at which the program listens for its sidecar:
// the port in PORT, or else in APP_PORT (which `dapr run --app-port` sets), or
// else defaultPort; on the host in APP_HOST, or else on 127.0.0.1, since a
// sidecar runs on the same machine. getenv is usually [os.Getenv].
//
// The error says which variable is wrong and what it may hold.
func AppAddr(getenv func(string) string, defaultPort int) (string, error) {
	name := "PORT"
	if getenv(name) == "" {
		name = "APP_PORT"
	}
	port, err := portFromEnv(getenv, name, defaultPort)
	if err != nil {
		return "", err
	}
	host := getenv("APP_HOST")
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), nil
}

// Serve answers requests on ln with h until ctx is done. Then it takes no new
// ones, lets those under way finish for as long as drain, and returns nil. It
// returns an error when the server fails, or when requests were still under way
// at the end of drain.
//
// Slow and silent clients are cut off: a request's header must arrive within 5
// seconds, the whole request within 15, and an idle connection is kept for two
// minutes.
func Serve(ctx context.Context, ln net.Listener, h http.Handler, drain time.Duration) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(ln) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	drained, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	if err := server.Shutdown(drained); err != nil {
		return errors.Join(fmt.Errorf("requests were still under way after %v: %w", drain, err), server.Close())
	}
	return nil
}
