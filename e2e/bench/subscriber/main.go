// Command subscriber is what the benchmark compares the inventory service with.
// SUBSCRIBER in its environment says which of them it is:
//
//	nothing  answers SUCCESS to every event and does nothing
//	show     the same, and prints the events
//	bulk     does nothing with events that are delivered many at a time
//	usual    reads the stock, subtracts, and writes it back
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/web"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	subscription := daprhttp.Subscription{
		PubsubName: "pubsub", Topic: "OrderPlaced", Route: "orders", DeadLetterTopic: "OrderPlaced-dead-letter",
	}
	mux := http.NewServeMux()
	switch kind := os.Getenv("SUBSCRIBER"); kind {
	case "nothing":
		mux.HandleFunc("POST /orders", func(w http.ResponseWriter, _ *http.Request) { succeed(w) })
	case "show":
		mux.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			fmt.Printf("%s\n", body)
			succeed(w)
		})
	case "bulk": // as the inventory service
		subscription.BulkSubscribe = &daprhttp.BulkSubscribe{Enabled: true, MaxMessagesCount: 200, MaxAwaitDurationMs: 1}
		mux.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) {
			var answer daprhttp.BulkResponse
			for entry := range daprhttp.BulkEntries(r.Body) {
				answer.Statuses = append(answer.Statuses, daprhttp.BulkStatus{EntryID: entry.EntryID, Status: daprhttp.StatusSuccess})
			}
			web.WriteJSON(w, http.StatusOK, answer)
		})
	case "usual":
		sidecar, err := daprhttp.ClientFromEnv(os.Getenv, 3500)
		if err != nil {
			return err
		}
		usual{sidecar}.handle(mux)
	default:
		return fmt.Errorf("SUBSCRIBER is %q: it must be nothing, show, bulk or usual", kind)
	}
	mux.Handle("GET /dapr/subscribe", daprhttp.SubscribeHandler(subscription))
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	addr, err := daprhttp.AppAddr(os.Getenv, 5001)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return web.Serve(ctx, ln, mux, 20*time.Second)
}

func succeed(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"status":"SUCCESS"}`)
}
