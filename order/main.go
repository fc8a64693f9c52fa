// Command order takes orders over HTTP. It publishes an OrderPlaced event for each order
// through its Dapr sidecar.
//
//	POST /order    {"orderId":"order-1001","itemId":"item1","quantity":10}
//	GET  /healthz
//	GET  /metrics
//
// It reads these environment variables, with their defaults in brackets:
//
//	PORT; if not set, APP_PORT                   the port on which it listens (5002)
//	APP_HOST                                     the interface on which it listens (127.0.0.1)
//	DAPR_HTTP_ENDPOINT; if not, DAPR_HTTP_PORT   its sidecar (3501)
//	DAPR_API_TOKEN                               the token that it sends to the sidecar
//	APP_API_TOKEN                                the token that POST /order must have
//	PUBLISH_TWICE                                true: publish each event twice, for a component that
//	                                             may report a lost event as published
//	LOG_FORMAT                                   text, or json (text)
package main

import (
	"context"
	"io"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/web"
)

func main() { web.Main("order", run) }

// run is the program: it ends when ctx is done.
func run(ctx context.Context, getenv func(string) string, stdout io.Writer) error {
	s, addr, err := newService(getenv, stdout)
	if err != nil {
		return err
	}
	ln, err := web.Listen(addr)
	if err != nil {
		return err
	}
	return web.Run(ctx, ln, s.handler(), s.log, "order-service", "publishes through the sidecar at "+s.sidecar.Endpoint)
}

// newService returns the service that the environment describes, and its address.
func newService(getenv func(string) string, stdout io.Writer) (s *service, addr string, err error) {
	env := web.NewEnv(getenv)
	addr = env.Addr(5002)
	sidecar, err := daprhttp.ClientFromEnv(getenv, 3501)
	env.Fail(err)
	sidecar.PublishTwice = env.Flag("PUBLISH_TWICE")
	s = &service{
		sidecar:  sidecar,
		appToken: env.Secret("APP_API_TOKEN"),
		log:      web.NewLogger(stdout, env.OneOf("LOG_FORMAT", "text", "json")),
		metrics:  newMetrics(),
	}
	return s, addr, env.Err()
}
