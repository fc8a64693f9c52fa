// Command sdk is what the benchmark compares the services with: the same, written
// with Dapr's Go SDK. It is a module of its own, so that nothing else requires the
// SDK. SDK in its environment says which it is:
//
//	order    takes orders as the order service does, and publishes over gRPC
//	careful  counts orders as a careful team would
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/dapr/go-sdk/client"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	// At DAPR_GRPC_PORT, and not before the first request: the sidecar is started
	// after its program.
	sidecar := sync.OnceValues(func() (client.Client, error) { return client.NewClient() })
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	switch kind := os.Getenv("SDK"); kind {
	case "order":
		mux.Handle("POST /order", order{sidecar})
	case "careful":
		newCareful(sidecar).handle(mux)
	default:
		return fmt.Errorf("SDK is %q: it must be order or careful", kind)
	}
	server := &http.Server{Addr: "127.0.0.1:" + os.Getenv("APP_PORT"), Handler: mux}
	go func() { <-ctx.Done(); _ = server.Shutdown(context.Background()) }()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		return err
	}
	return nil
}
