// Command subscriber is what the benchmark compares the inventory service with.
// SUBSCRIBER in its environment selects what it does with an event:
//
//	nothing  answers SUCCESS at once
//	show     prints the event, and answers SUCCESS
//	usual    reads the stock, subtracts, and writes the stock back
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/web"
	"example.com/dapr-orders/e2e/load"
)

func main() { web.Main("subscriber", run) }

func run(ctx context.Context, getenv func(string) string, stdout io.Writer) error {
	handlers := map[string]func(r *http.Request) error{
		"nothing": func(*http.Request) error { return nil },
		"show": func(r *http.Request) error {
			body, err := io.ReadAll(r.Body)
			fmt.Fprintf(stdout, "%s\n", body)
			return err
		},
		"usual": usual(&daprhttp.Client{Endpoint: "http://127.0.0.1:" + getenv("DAPR_HTTP_PORT")}, stdout),
	}
	handle, ok := handlers[getenv("SUBSCRIBER")]
	if !ok {
		return fmt.Errorf("SUBSCRIBER is %q: it must be nothing, show or usual", getenv("SUBSCRIBER"))
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /dapr/subscribe", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, `[{"pubsubname":"pubsub","topic":"OrderPlaced","route":"orders","deadLetterTopic":"OrderPlaced-dead-letter"}]`)
	})
	mux.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) {
		if err := handle(r); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		answer(w, `{"status":"SUCCESS"}`)
	})
	ln, err := web.Listen(web.NewEnv(getenv).Addr(5001))
	if err != nil {
		return err
	}
	return web.Serve(ctx, ln, mux, 20*time.Second)
}

func answer(w http.ResponseWriter, json string) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, json)
}

// usual returns the handler as it is usually written. Events of one item that are handled
// at the same time overwrite each other's result.
func usual(sidecar *daprhttp.Client, stdout io.Writer) func(*http.Request) error {
	return func(r *http.Request) error {
		var event struct{ Data load.Order }
		if err := json.NewDecoder(r.Body).Decode(&event); err != nil {
			return err
		}
		o := event.Data
		stored, err := sidecar.GetState(r.Context(), "statestore", o.ItemID, daprhttp.GetStateOptions{})
		if err != nil {
			return err
		}
		quantity := 0
		if stored.Value != nil {
			if err := json.Unmarshal(stored.Value, &quantity); err != nil {
				return err
			}
		}
		quantity -= o.Quantity
		if err := sidecar.SaveState(r.Context(), "statestore", daprhttp.StateItem{Key: o.ItemID, Value: quantity}); err != nil {
			return err
		}
		fmt.Fprintf(stdout, "Processed OrderPlaced event. orderId=%s, itemId=%s, ordered=%d, remaining=%d\n", o.ID, o.ItemID, o.Quantity, quantity)
		return nil
	}
}
