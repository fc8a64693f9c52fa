// Command inventory keeps the stock of items in a Dapr state store. Each OrderPlaced event
// that its Dapr sidecar delivers lowers the stock once.
//
//	GET  /inventory/{itemId}
//	POST /inventory/{itemId}   {"quantity":100}
//	GET  /dapr/subscribe       for the sidecar
//	POST /orders               for the sidecar
//	POST /orders/retry         for the sidecar
//	GET  /healthz
//	GET  /metrics
//
// It reads these environment variables, with their defaults in brackets:
//
//	PORT; if not set, APP_PORT                   the port on which it listens (5001)
//	APP_HOST                                     the interface on which it listens (127.0.0.1)
//	DAPR_HTTP_ENDPOINT; if not, DAPR_HTTP_PORT   its sidecar (3500)
//	DAPR_API_TOKEN                               the token that it sends to the sidecar
//	APP_API_TOKEN                                the token of every request but GET /healthz, /metrics
//	APP_ID                                       its Dapr app ID (inventory-service)
//	MARKER_TTL                                   how long a redelivered event is recognised (24h)
//	STATE_CONSISTENCY                            strong, or default: the store decides (strong)
//	PUBLISH_TWICE                                true: publish moved events twice
//	SUBSCRIPTION_METADATA                        metadata of its subscriptions: name=value,…
//	LOG_FORMAT                                   text, or json (text)
package main

import (
	"context"
	"io"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/once"
	"example.com/dapr-orders/daprhttp/web"
)

func main() { web.Main("inventory", run) }

// run is the program: it ends when ctx is done.
func run(ctx context.Context, getenv func(string) string, stdout io.Writer) error {
	s, addr, err := newService(getenv, stdout)
	if err != nil {
		return err
	}
	handler, err := s.handler()
	if err != nil {
		return err
	}
	ln, err := web.Listen(addr)
	if err != nil {
		return err
	}
	return web.Run(ctx, ln, handler, s.log, "inventory-service", "keeps its stock through the sidecar at "+s.sidecar.Endpoint)
}

// newService returns the service that the environment describes, and its address.
func newService(getenv func(string) string, stdout io.Writer) (s *service, addr string, err error) {
	env := web.NewEnv(getenv)
	addr = env.Addr(5001)
	sidecar, err := daprhttp.ClientFromEnv(getenv, 3500)
	env.Fail(err)
	sidecar.PublishTwice = env.Flag("PUBLISH_TWICE")
	stocks := once.New[stock](sidecar, "statestore", once.Options{
		MarkerTTL:          env.Duration("MARKER_TTL", 24*time.Hour, time.Second, 10*365*24*time.Hour),
		DefaultConsistency: env.OneOf("STATE_CONSISTENCY", "strong", "default") == "default",
	})
	s = &service{
		stocks:       stocks,
		sidecar:      sidecar,
		appID:        env.Name("APP_ID", "inventory-service"),
		appToken:     env.Secret("APP_API_TOKEN"),
		subscription: env.Pairs("SUBSCRIPTION_METADATA"),
		log:          web.NewLogger(stdout, env.OneOf("LOG_FORMAT", "text", "json")),
		metrics:      newMetrics(stocks),
	}
	return s, addr, env.Err()
}
