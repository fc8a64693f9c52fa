// Command order takes orders over HTTP and publishes an OrderPlaced event for
// each through its Dapr sidecar.
//
//	POST /order    {"orderId":"order-1001","itemId":"item1","quantity":10}
//	GET  /healthz
//
// It reads PORT or APP_PORT (5002), APP_HOST (127.0.0.1), DAPR_HTTP_ENDPOINT or
// DAPR_HTTP_PORT (3501), DAPR_API_TOKEN, APP_API_TOKEN and PUBLISH_TWICE (false),
// which publishes each event two times, one after the other, for a broker whose
// word that it has an event can't be relied on.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/web"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400) // a heap of a few megabytes would be collected many times a second
	}
	if err := run(ctx, os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "order:", err)
		os.Exit(1)
	}
}

// run serves until ctx is done and every request under way has its answer.
func run(ctx context.Context, getenv func(string) string, stdout io.Writer) error {
	sidecar, err := daprhttp.ClientFromEnv(getenv, 3501)
	if err != nil {
		return err
	}
	addr, err := daprhttp.AppAddr(getenv, 5002)
	if err != nil {
		return err
	}
	times, err := publishTimes(getenv("PUBLISH_TWICE"))
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("%w (set PORT to another port, or stop the program that has this one)", err)
	}
	logger := log.New(stdout, "", log.LstdFlags)
	logger.Printf("order-service listens on http://%s and publishes through the sidecar at %s", ln.Addr(), sidecar.Endpoint)
	defer logger.Print("order-service has stopped")
	return web.Serve(ctx, ln, newServer(sidecar, times, getenv("APP_API_TOKEN"), logger), 20*time.Second)
}

// publishTimes returns how often each event is published.
func publishTimes(twice string) (int, error) {
	switch twice {
	case "", "false":
		return 1, nil
	case "true":
		return 2, nil
	default:
		return 0, fmt.Errorf("PUBLISH_TWICE is %q: it must be true or false", twice)
	}
}
