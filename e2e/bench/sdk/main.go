// Command sdk has the services that the benchmark compares this project with, written with
// Dapr's Go SDK, over gRPC. It is a module of its own, so that no other module requires
// the SDK. SDK in its environment selects the service:
//
//	order    takes orders as the order service does, and publishes them
//	careful  applies orders as a careful team would
package main

import (
	"log"
	"net/http"
	"os"
	"runtime/debug"
	"sync"

	"github.com/dapr/go-sdk/client"
)

func main() {
	debug.SetGCPercent(400) // as the services have it
	// At DAPR_GRPC_PORT, and with the first request: the sidecar starts after its program.
	sidecar := sync.OnceValues(func() (client.Client, error) { return client.NewClient() })
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	switch kind := os.Getenv("SDK"); kind {
	case "order":
		mux.Handle("POST /order", order{sidecar})
	case "careful":
		go func() { log.Fatal((&careful{sidecar: sidecar}).serve("127.0.0.1:" + os.Getenv("GRPC_PORT"))) }()
		// The benchmark waits until the sidecar has as many subscriptions as this answer.
		mux.HandleFunc("GET /dapr/subscribe", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`[{"topic":"OrderPlaced"}]`))
		})
	default:
		log.Fatalf("SDK is %q: it must be order or careful", kind)
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("APP_PORT"), mux))
}
