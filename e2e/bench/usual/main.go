// Command usual is the subscriber as it is usually written, for the benchmark to
// compare with: for every OrderPlaced event it reads the stock of the item,
// subtracts, and writes it back. Events of one item that are handled at the same
// time overwrite each other's result.
package main

import (
	"context"
	"encoding/json"
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
	sidecar, err := daprhttp.ClientFromEnv(os.Getenv, 3500)
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /dapr/subscribe", daprhttp.SubscribeHandler(daprhttp.Subscription{
		PubsubName: "pubsub", Topic: "OrderPlaced", Route: "orders", DeadLetterTopic: "OrderPlaced-dead-letter",
	}))
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /inventory/{itemId}", func(w http.ResponseWriter, r *http.Request) {
		quantity, err := read(r.Context(), sidecar, r.PathValue("itemId"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		daprhttp.WriteJSON(w, http.StatusOK, map[string]int64{"quantity": quantity})
	})
	mux.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) {
		if err := handle(r, sidecar); err != nil {
			log.Print(err)
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
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

func handle(r *http.Request, sidecar *daprhttp.Client) error {
	var event struct {
		Data struct {
			OrderID  string `json:"orderId"`
			ItemID   string `json:"itemId"`
			Quantity int64  `json:"quantity"`
		} `json:"data"`
	}
	if err := json.NewDecoder(r.Body).Decode(&event); err != nil {
		return err
	}
	quantity, err := read(r.Context(), sidecar, event.Data.ItemID)
	if err != nil {
		return err
	}
	err = sidecar.SaveState(r.Context(), "statestore", daprhttp.StateItem{Key: event.Data.ItemID, Value: quantity - event.Data.Quantity})
	if err != nil {
		return err
	}
	log.Printf("Processed OrderPlaced event. orderId=%s, itemId=%s, ordered=%d, remaining=%d",
		event.Data.OrderID, event.Data.ItemID, event.Data.Quantity, quantity-event.Data.Quantity)
	return nil
}

// read returns the stock of an item.
func read(ctx context.Context, sidecar *daprhttp.Client, itemID string) (quantity int64, err error) {
	v, err := sidecar.GetState(ctx, "statestore", itemID, daprhttp.GetStateOptions{})
	if err != nil || v.Value == nil {
		return 0, err
	}
	return quantity, json.Unmarshal(v.Value, &quantity)
}
