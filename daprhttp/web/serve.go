// Package web has what a small HTTP service needs besides Dapr's API: a server with limits,
// JSON bodies, settings from environment variables, logs and metrics. It knows the content
// type of a sidecar's delivery, and the variable APP_PORT of `dapr run`.
package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// maxHeaderBytes is more than the 4 MiB that a sidecar takes to publish. The metadata of a
// message becomes headers of its delivery. net/http answers 431 to longer headers, and no
// handler sees the delivery.
const maxHeaderBytes = 5 << 20

// Listen listens for TCP connections on an address such as that of [Env.Addr]. The error
// says which variable to set when this machine has no such address, or another program has
// the port.
func Listen(addr string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err == nil {
		return ln, nil
	}
	// The codes of these errors depend on the operating system. Another port of the host
	// tells the errors apart.
	host, _, _ := net.SplitHostPort(addr)
	other, hostErr := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if hostErr != nil {
		return nil, fmt.Errorf("%w (set APP_HOST to an address of this machine, such as 127.0.0.1 or 0.0.0.0)", err)
	}
	other.Close()
	return nil, fmt.Errorf("%w (set PORT, or --app-port of dapr run, to another port, or stop the program that has this one)", err)
}

// Run calls [Serve] with 20 seconds for the requests under way. First, it logs that the
// program called name listens, and what it does. At the end, if every request has its
// answer, it logs that the program has stopped.
func Run(ctx context.Context, ln net.Listener, h http.Handler, log *slog.Logger, name, does string) error {
	log.Info(fmt.Sprintf("%s listens on http://%s and %s", name, ln.Addr(), does))
	err := Serve(ctx, ln, h, 20*time.Second)
	if err == nil {
		log.Info(name + " has stopped")
	}
	return err
}

// Serve answers requests on ln with h until ctx is done. Then it closes ln, waits at most
// drain for the requests under way, and returns nil. It returns an error when the server
// fails. It also returns one if, after drain, a request is under way, or a connection that
// was opened less than 5 seconds ago has sent nothing. Their connections are closed.
//
// A slow or silent client can't keep out others, unless clients have sent 512 requests and
// read none of the answers. The header of a request must arrive within 5 seconds, and the
// whole request within 15. The answer must be written within 60 seconds of the header. A
// connection is closed when no further request begins within 30 seconds. Beyond 512
// connections, a new one takes the place of the one that has been idle or incomplete longest.
// A request is incomplete until h has read its body to the end: h should do so before other
// work. Longer headers than 5 MiB get 431.
func Serve(ctx context.Context, ln net.Listener, h http.Handler, drain time.Duration) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    maxHeaderBytes,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(limit(server, ln)) }()
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
