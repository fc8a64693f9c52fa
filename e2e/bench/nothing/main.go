// Command nothing is a subscriber for the benchmark to compare with: it answers
// SUCCESS to every OrderPlaced event and does nothing. With BULK in its environment
// it has events delivered many at a time; with SHOW it prints them.
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
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	bulk, show := os.Getenv("BULK") != "", os.Getenv("SHOW") != ""
	subscription := daprhttp.Subscription{
		PubsubName: "pubsub", Topic: "OrderPlaced", Route: "orders", DeadLetterTopic: "OrderPlaced-dead-letter",
	}
	if bulk { // as the inventory service
		subscription.BulkSubscribe = &daprhttp.BulkSubscribe{Enabled: true, MaxMessagesCount: 200, MaxAwaitDurationMs: 1}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /dapr/subscribe", daprhttp.SubscribeHandler(subscription))
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) {
		if bulk {
			var answer daprhttp.BulkResponse
			for entry := range daprhttp.BulkEntries(r.Body) {
				answer.Statuses = append(answer.Statuses, daprhttp.BulkStatus{EntryID: entry.EntryID, Status: daprhttp.StatusSuccess})
			}
			daprhttp.WriteJSON(w, http.StatusOK, answer)
			return
		}
		if show {
			body, _ := io.ReadAll(r.Body)
			fmt.Printf("%s\n", body)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"status":"SUCCESS"}`)
	})
	addr, err := daprhttp.AppAddr(os.Getenv, 5001)
	if err != nil {
		log.Fatal(err)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		log.Fatal(err)
	}
	if err := daprhttp.Serve(ctx, ln, mux, 20*time.Second); err != nil {
		log.Fatal(err)
	}
}
