// Command subscriber is what the benchmark compares the inventory service with.
// SUBSCRIBER in its environment says which of them it is:
//
//	nothing  answers SUCCESS to every event at once
//	show     prints the event, and answers SUCCESS
//	usual    reads the stock, subtracts, and writes it back
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"example.com/dapr-orders/daprhttp/web"
)

func main() { web.Main("subscriber", run) }

func run(ctx context.Context, getenv func(string) string, stdout io.Writer) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /dapr/subscribe", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, `[{"pubsubname":"pubsub","topic":"OrderPlaced","route":"orders","deadLetterTopic":"OrderPlaced-dead-letter"}]`)
	})
	switch kind := getenv("SUBSCRIBER"); kind {
	case "nothing":
		mux.HandleFunc("POST /orders", func(w http.ResponseWriter, _ *http.Request) { answer(w, success) })
	case "show":
		mux.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(stdout, "%s\n", body)
			answer(w, success)
		})
	case "usual":
		u := newUsual("http://127.0.0.1:" + getenv("DAPR_HTTP_PORT"))
		mux.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) {
			if err := u.apply(r); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			answer(w, success)
		})
	default:
		return fmt.Errorf("SUBSCRIBER is %q: it must be nothing, show or usual", kind)
	}
	ln, err := web.Listen(web.NewEnv(getenv).Addr(5001))
	if err != nil {
		return err
	}
	return web.Serve(ctx, ln, mux, 20*time.Second)
}

const success = `{"status":"SUCCESS"}`

func answer(w http.ResponseWriter, json string) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, json)
}
