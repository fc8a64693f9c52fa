// Command inventory keeps the stock of items in a Dapr state store and lowers it
// by every OrderPlaced event that its Dapr sidecar delivers, each event once.
//
//	GET  /inventory/{itemId}
//	POST /inventory/{itemId}   {"quantity":100}
//	GET  /dapr/subscribe       for the sidecar
//	POST /orders               for the sidecar
//	GET  /healthz
//
// It reads PORT or APP_PORT (5001), APP_HOST (127.0.0.1), DAPR_HTTP_ENDPOINT or
// DAPR_HTTP_PORT (3500), DAPR_API_TOKEN, APP_API_TOKEN, MARKER_TTL (24h), the time
// for which a repeated event is recognised, and STATE_CONSISTENCY (strong), which
// with "default" leaves the consistency of state calls to the state store.
package main

import (
	"cmp"
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
	"example.com/dapr-orders/daprhttp/once"
	"example.com/dapr-orders/daprhttp/web"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400) // a heap of a few megabytes would be collected many times a second
	}
	if err := run(ctx, os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "inventory:", err)
		os.Exit(1)
	}
}

// run serves until ctx is done and every request under way has its answer.
func run(ctx context.Context, getenv func(string) string, stdout io.Writer) error {
	sidecar, err := daprhttp.ClientFromEnv(getenv, 3500)
	if err != nil {
		return err
	}
	addr, err := daprhttp.AppAddr(getenv, 5001)
	if err != nil {
		return err
	}
	markerTTL, err := time.ParseDuration(cmp.Or(getenv("MARKER_TTL"), "24h"))
	if err != nil || markerTTL < time.Second {
		return fmt.Errorf("MARKER_TTL is %q: it must be a duration of a second or more, such as 24h", getenv("MARKER_TTL"))
	}
	consistency := cmp.Or(getenv("STATE_CONSISTENCY"), "strong")
	if consistency != "strong" && consistency != "default" {
		return fmt.Errorf("STATE_CONSISTENCY is %q: it must be strong, or default", consistency)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("%w (set PORT to another port, or stop the program that has this one)", err)
	}
	logger := log.New(stdout, "", log.LstdFlags)
	logger.Printf("inventory-service listens on http://%s and keeps its stock through the sidecar at %s", ln.Addr(), sidecar.Endpoint)
	defer logger.Print("inventory-service has stopped")
	stocks := once.New[stock](sidecar, "statestore", once.Options{MarkerTTL: markerTTL, DefaultConsistency: consistency == "default"})
	return web.Serve(ctx, ln, newServer(stocks, sidecar, getenv("APP_API_TOKEN"), logger), 20*time.Second)
}
