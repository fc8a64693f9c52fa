package main

import (
	"errors"
	"log"
	"net/http"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/once"
	"example.com/dapr-orders/daprhttp/web"
)

const (
	pubsubName      = "pubsub"
	topic           = "OrderPlaced"
	deadLetterTopic = "OrderPlaced-dead-letter"

	maxBodyBytes = 64 << 10
)

// newServer returns the service: all its routes, behind the sidecar's token
// when there is one. The health check needs no token, so that anything that
// watches the process may ask.
func newServer(stocks *once.Inbox[stock], sidecar *daprhttp.Client, appToken string, logger *log.Logger) http.Handler {
	app := http.NewServeMux()
	// "..." because an item ID may have slashes, and a sidecar that is asked to
	// invoke /inventory/a%2Fb asks for /inventory/a/b.
	app.Handle("GET /inventory/{itemId...}", handleGetStock(stocks, logger))
	app.Handle("POST /inventory/{itemId...}", handleSetStock(stocks, logger))
	app.Handle("GET /dapr/subscribe", handleSubscribe(sidecar, logger))
	app.Handle("POST /orders", orderHandler{stocks, sidecar, logger})

	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.Handle("/", daprhttp.RequireAppToken(appToken, app))
	return mux
}

// handleSubscribe tells the sidecar what to deliver, and how.
//
// A sidecar spends most of its time for an event on the request, so it is asked
// to deliver many with one, and to wait for more no longer than a millisecond,
// the least that it knows. Not so a sidecar that checks the app's health: when an
// app that has been unhealthy is well again, Dapr 1.18 never ends the deliveries
// in bulk that were under way, and after enough of them delivers nothing more.
func handleSubscribe(sidecar *daprhttp.Client, logger *log.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		subscription := daprhttp.Subscription{
			PubsubName:      pubsubName,
			Topic:           topic,
			Route:           "orders",
			DeadLetterTopic: deadLetterTopic,
		}
		switch metadata, err := sidecar.Metadata(r.Context()); {
		case err != nil:
			logger.Printf("Events are delivered one by one: the sidecar does not say whether it checks the app's health: %v", err)
		case metadata.AppConnection.Health != nil:
			logger.Print("Events are delivered one by one, since the sidecar checks the app's health")
		default:
			subscription.BulkSubscribe = &daprhttp.BulkSubscribe{Enabled: true, MaxMessagesCount: 200, MaxAwaitDurationMs: 1}
		}
		daprhttp.SubscribeHandler(subscription).ServeHTTP(w, r)
	})
}

type stockResponse struct {
	ItemID   string `json:"itemId"`
	Quantity stock  `json:"quantity"`
}

type failure struct {
	Error string `json:"error"`
}

// handleGetStock answers with the stock of an item.
func handleGetStock(stocks *once.Inbox[stock], logger *log.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		itemID, ok := pathItemID(w, r)
		if !ok {
			return
		}
		quantity, err := stocks.Get(daprhttp.ContextWithTrace(r.Context(), r.Header), itemID)
		if err != nil {
			logger.Printf("Failed to read inventory quantity. itemId=%s: %v", itemID, err)
			web.WriteJSON(w, http.StatusInternalServerError, failure{"Failed to read inventory quantity"})
			return
		}
		web.WriteJSON(w, http.StatusOK, stockResponse{itemID, quantity})
	})
}

// handleSetStock sets the stock of an item.
func handleSetStock(stocks *once.Inbox[stock], logger *log.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		itemID, ok := pathItemID(w, r)
		if !ok {
			return
		}
		quantity, err := readQuantity(r)
		if err != nil {
			web.WriteJSON(w, badRequest(err), failure{err.Error()})
			return
		}
		if err := stocks.Set(daprhttp.ContextWithTrace(r.Context(), r.Header), itemID, stock(quantity)); err != nil {
			logger.Printf("Failed to save inventory quantity. itemId=%s, quantity=%d: %v", itemID, quantity, err)
			web.WriteJSON(w, http.StatusInternalServerError, failure{"Failed to save inventory quantity"})
			return
		}
		logger.Printf("Set inventory quantity. itemId=%s, quantity=%d", itemID, quantity)
		web.WriteJSON(w, http.StatusOK, stockResponse{itemID, stock(quantity)})
	})
}

// pathItemID returns the item ID in a request's path. When it is none, the
// request has its answer.
func pathItemID(w http.ResponseWriter, r *http.Request) (string, bool) {
	itemID := r.PathValue("itemId")
	if err := daprhttp.CheckKey(itemID); err != nil {
		web.WriteJSON(w, http.StatusBadRequest, failure{"itemId " + err.Error()})
		return "", false
	}
	return itemID, true
}

// readQuantity reads {"quantity":100}.
func readQuantity(r *http.Request) (int64, error) {
	body, err := web.ReadBody(r, maxBodyBytes)
	if err != nil {
		return 0, err
	}
	fields, err := web.DecodeObject(body)
	if err != nil {
		return 0, err
	}
	if !fields.Has("quantity") {
		return 0, errors.New("quantity is required: an integer from 0")
	}
	return fields.Integer("quantity")
}

// badRequest returns the status for a request that can't be read.
func badRequest(err error) int {
	if errors.Is(err, web.ErrBodyTooLarge) {
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusBadRequest
}
