// Command inventory keeps the stock of items in a Dapr state store and lowers it
// by every OrderPlaced event that its Dapr sidecar delivers, each event once.
//
//	GET  /inventory/{itemId}
//	POST /inventory/{itemId}   {"quantity":100}
//	GET  /dapr/subscribe       for the sidecar
//	POST /orders               for the sidecar
//	POST /orders/retry         for the sidecar
//	GET  /healthz
//	GET  /metrics
//
// It reads these environment variables:
//
//	PORT, or else APP_PORT                       where it listens (5001)
//	APP_HOST                                     and on which interface (127.0.0.1)
//	DAPR_HTTP_ENDPOINT, or else DAPR_HTTP_PORT   its sidecar (3500)
//	DAPR_API_TOKEN                               sent to the sidecar
//	APP_API_TOKEN                                demanded of it
//	APP_ID                                       its Dapr app ID (inventory-service)
//	STOCK_WRITERS                                app IDs that may set the stock by service invocation
//	MARKER_TTL                                   for how long a repeated event is recognised (24h)
//	STATE_CONSISTENCY                            of state calls: strong, or default, the store's own (strong)
//	PUBLISH_TWICE                                true: events that are moved to another topic
//	BULK_SUBSCRIBE                               true: many events with one request, where the broker allows it
//	SUBSCRIPTION_METADATA                        what the broker is told of its subscriptions: name=value,…
//	LOG_FORMAT                                   text, or json (text)
package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
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
	if sidecar.PublishTwice, err = web.Flag(getenv, "PUBLISH_TWICE"); err != nil {
		return err
	}
	bulk, err := web.Flag(getenv, "BULK_SUBSCRIBE")
	if err != nil {
		return err
	}
	subscription, err := daprhttp.MetadataFromEnv(getenv)
	if err != nil {
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
	log.Info(fmt.Sprintf("inventory-service listens on http://%s and keeps its stock through the sidecar at %s", ln.Addr(), sidecar.Endpoint))
	defer log.Info("inventory-service has stopped")
	stocks := once.New[stock](sidecar, "statestore", once.Options{MarkerTTL: markerTTL, DefaultConsistency: consistency == "default"})
	s := &service{
		stocks:       stocks,
		sidecar:      sidecar,
		appID:        cmp.Or(getenv("APP_ID"), "inventory-service"),
		stockWriters: strings.FieldsFunc(getenv("STOCK_WRITERS"), func(r rune) bool { return r == ',' || r == ' ' }),
		appToken:     getenv("APP_API_TOKEN"),
		bulk:         bulk,
		subscription: subscription,
		log:          log,
		metrics:      newMetrics(stocks),
	}
	return web.Serve(ctx, ln, s.handler(), 20*time.Second)
}
