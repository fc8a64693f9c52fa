package main

import (
	"errors"
	"log"
	"net/http"

	"example.com/dapr-orders/daprhttp"
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
func newServer(l *ledger, appToken string, logger *log.Logger) http.Handler {
	app := http.NewServeMux()
	// "..." because an item ID may have slashes, and a sidecar that is asked to
	// invoke /inventory/a%2Fb asks for /inventory/a/b.
	app.Handle("GET /inventory/{itemId...}", handleGetStock(l, logger))
	app.Handle("POST /inventory/{itemId...}", handleSetStock(l, logger))
	app.Handle("GET /dapr/subscribe", daprhttp.SubscribeHandler(daprhttp.Subscription{
		PubsubName:      pubsubName,
		Topic:           topic,
		Route:           "orders",
		DeadLetterTopic: deadLetterTopic,
	}))
	app.Handle("POST /orders", handleOrderPlaced(l, logger))

	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.Handle("/", daprhttp.RequireAppToken(appToken, app))
	return mux
}

type stockResponse struct {
	ItemID   string `json:"itemId"`
	Quantity int64  `json:"quantity"`
}

type failure struct {
	Error string `json:"error"`
}

// handleGetStock answers with the stock of an item.
func handleGetStock(l *ledger, logger *log.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		itemID, ok := pathItemID(w, r)
		if !ok {
			return
		}
		quantity, err := l.stock(daprhttp.ContextWithTrace(r.Context(), r.Header), itemID)
		if err != nil {
			logger.Printf("Failed to read inventory quantity. itemId=%s: %v", itemID, err)
			daprhttp.WriteJSON(w, http.StatusInternalServerError, failure{"Failed to read inventory quantity"})
			return
		}
		daprhttp.WriteJSON(w, http.StatusOK, stockResponse{itemID, quantity})
	})
}

// handleSetStock sets the stock of an item.
func handleSetStock(l *ledger, logger *log.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		itemID, ok := pathItemID(w, r)
		if !ok {
			return
		}
		quantity, err := readQuantity(r)
		if err != nil {
			daprhttp.WriteJSON(w, badRequest(err), failure{err.Error()})
			return
		}
		if err := l.set(daprhttp.ContextWithTrace(r.Context(), r.Header), itemID, quantity); err != nil {
			logger.Printf("Failed to save inventory quantity. itemId=%s, quantity=%d: %v", itemID, quantity, err)
			daprhttp.WriteJSON(w, http.StatusInternalServerError, failure{"Failed to save inventory quantity"})
			return
		}
		logger.Printf("Set inventory quantity. itemId=%s, quantity=%d", itemID, quantity)
		daprhttp.WriteJSON(w, http.StatusOK, stockResponse{itemID, quantity})
	})
}

// pathItemID returns the item ID in a request's path. When it is none, the
// request has its answer.
func pathItemID(w http.ResponseWriter, r *http.Request) (string, bool) {
	itemID := r.PathValue("itemId")
	if err := daprhttp.CheckKey(itemID); err != nil {
		daprhttp.WriteJSON(w, http.StatusBadRequest, failure{"itemId " + err.Error()})
		return "", false
	}
	return itemID, true
}

// readQuantity reads {"quantity":100}.
func readQuantity(r *http.Request) (int64, error) {
	body, err := daprhttp.ReadBody(r, maxBodyBytes)
	if err != nil {
		return 0, err
	}
	fields, err := daprhttp.DecodeObject(body)
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
	if errors.Is(err, daprhttp.ErrBodyTooLarge) {
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusBadRequest
}

// handleOrderPlaced counts the order in a delivered event, and tells the sidecar
// what to do with the event.
//
// Only a sidecar sends the content type of CloudEvents, and only a sidecar knows
// what DROP means. Whoever tries the route by hand gets plain HTTP statuses.
func handleOrderPlaced(l *ledger, logger *log.Logger) http.Handler {
	type processed struct {
		Status            daprhttp.Status `json:"status"`
		Message           string          `json:"message"`
		OrderID           string          `json:"orderId"`
		ItemID            string          `json:"itemId"`
		PreviousQuantity  int64           `json:"previousQuantity"`
		OrderedQuantity   int64           `json:"orderedQuantity"`
		RemainingQuantity int64           `json:"remainingQuantity"`
	}
	type repeated struct {
		Status          daprhttp.Status `json:"status"`
		Message         string          `json:"message"`
		OrderID         string          `json:"orderId"`
		ItemID          string          `json:"itemId"`
		OrderedQuantity int64           `json:"orderedQuantity"`
	}
	type refused struct {
		Status daprhttp.Status `json:"status,omitempty"`
		Error  string          `json:"error"`
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		isEvent := daprhttp.IsEventContentType(r.Header.Get("Content-Type"))
		var o orderPlaced
		body, err := daprhttp.ReadBody(r, maxBodyBytes)
		switch {
		case err == nil:
			o, err = parseOrderPlaced(body, isEvent)
		case !errors.Is(err, daprhttp.ErrBodyTooLarge): // which says nothing against the event
			logger.Printf("Failed to process OrderPlaced event: %v", err)
			daprhttp.WriteJSON(w, http.StatusInternalServerError, refused{daprhttp.StatusRetry, err.Error()})
			return
		}
		if err != nil {
			logger.Printf("eventId=%q Refused OrderPlaced event: %v", o.EventID, err)
			if isEvent {
				daprhttp.WriteJSON(w, http.StatusOK, refused{daprhttp.StatusDrop, err.Error()})
			} else {
				daprhttp.WriteJSON(w, badRequest(err), refused{Error: err.Error()})
			}
			return
		}

		counted, err := l.count(daprhttp.ContextWithTrace(r.Context(), r.Header), o)
		switch {
		case errors.Is(err, errUncountable) && isEvent:
			logger.Printf("eventId=%q Refused OrderPlaced event. orderId=%s, itemId=%s: %v", o.EventID, o.OrderID, o.ItemID, err)
			daprhttp.WriteJSON(w, http.StatusOK, refused{daprhttp.StatusDrop, err.Error()})
		case err != nil:
			logger.Printf("eventId=%q Failed to process OrderPlaced event. orderId=%s, itemId=%s: %v", o.EventID, o.OrderID, o.ItemID, err)
			daprhttp.WriteJSON(w, http.StatusInternalServerError, refused{daprhttp.StatusRetry, err.Error()})
		case counted.repeated:
			logger.Printf("eventId=%q OrderPlaced event had been processed already. orderId=%s, itemId=%s", o.EventID, o.OrderID, o.ItemID)
			daprhttp.WriteJSON(w, http.StatusOK, repeated{
				daprhttp.StatusSuccess, "OrderPlaced event had been processed already",
				o.OrderID, o.ItemID, o.Quantity,
			})
		default:
			logger.Printf("eventId=%q Processed OrderPlaced event. orderId=%s, itemId=%s, ordered=%d, remaining=%d",
				o.EventID, o.OrderID, o.ItemID, o.Quantity, counted.after)
			daprhttp.WriteJSON(w, http.StatusOK, processed{
				daprhttp.StatusSuccess, "Inventory updated from OrderPlaced event",
				o.OrderID, o.ItemID, counted.before, o.Quantity, counted.after,
			})
		}
	})
}
