// Command order takes orders over HTTP and publishes an OrderPlaced event for
// each through its Dapr sidecar.
//
//	POST /order    {"orderId":"order-1001","itemId":"item1","quantity":10}
//	GET  /healthz
//	GET  /metrics
//
// It reads these environment variables:
//
//	PORT, or else APP_PORT                       where it listens (5002)
//	APP_HOST                                     and on which interface (127.0.0.1)
//	DAPR_HTTP_ENDPOINT, or else DAPR_HTTP_PORT   its sidecar (3501)
//	DAPR_API_TOKEN                               sent to the sidecar
//	APP_API_TOKEN                                demanded of every request
//	PUBLISH_TWICE                                true: each event, one time after the other, for a
//	                                             broker whose word that it has it can't be relied on
//	LOG_FORMAT                                   text, or json (text)
package main

import (
	"context"
	"fmt"
	"io"
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
	if sidecar.PublishTwice, err = web.Flag(getenv, "PUBLISH_TWICE"); err != nil {
		return err
	}
	log, err := web.NewLogger(stdout, getenv("LOG_FORMAT"))
	if err != nil {
		return err
	}
	ln, err := web.Listen(addr)
	if err != nil {
		return err
	}
	log.Info(fmt.Sprintf("order-service listens on http://%s and publishes through the sidecar at %s", ln.Addr(), sidecar.Endpoint))
	defer log.Info("order-service has stopped")
	s := &service{
		sidecar:  sidecar,
		appToken: getenv("APP_API_TOKEN"),
		log:      log,
		metrics:  newMetrics(),
	}
	return web.Serve(ctx, ln, s.handler(), 20*time.Second)
}
