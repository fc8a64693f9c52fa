// Command order takes orders over HTTP. It publishes an OrderPlaced event for each order
// through its Dapr sidecar.
//
//	POST /order    {"orderId":"order-1001","itemId":"item1","quantity":10}
//	GET  /healthz
//	GET  /metrics
//
// It reads these environment variables:
//
//	PORT, or else APP_PORT                       the port on which it listens (5002)
//	APP_HOST                                     the interface on which it listens (127.0.0.1)
//	DAPR_HTTP_ENDPOINT, or else DAPR_HTTP_PORT   its sidecar (3501)
//	DAPR_API_TOKEN                               the token that it sends to the sidecar
//	APP_API_TOKEN                                the token that every request must have
//	PUBLISH_TWICE                                true: publish each event twice, for a broker that
//	                                             may lose an event that it acknowledged
//	LOG_FORMAT                                   text, or json (text)
package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/web"
)

func main() { web.Main("order", run) }

// run serves until ctx is done and every request under way has its answer.
func run(ctx context.Context, getenv func(string) string, stdout io.Writer) error {
	env := web.NewEnv(getenv)
	sidecar, err := daprhttp.ClientFromEnv(getenv, 3501)
	env.Fail(err)
	addr := env.Addr(5002)
	publishTwice := env.Flag("PUBLISH_TWICE")
	appToken := env.Secret("APP_API_TOKEN")
	log := web.NewLogger(stdout, env.OneOf("LOG_FORMAT", "text", "json"))
	if err := env.Err(); err != nil {
		return err
	}
	sidecar.PublishTwice = publishTwice
	ln, err := web.Listen(addr)
	if err != nil {
		return err
	}
	log.Info(fmt.Sprintf("order-service listens on http://%s and publishes through the sidecar at %s", ln.Addr(), sidecar.Endpoint))
	defer log.Info("order-service has stopped")
	s := &service{
		sidecar:  sidecar,
		appToken: appToken,
		log:      log,
		metrics:  newMetrics(),
	}
	return web.Serve(ctx, ln, s.handler(), 20*time.Second)
}
