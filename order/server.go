package main

import (
	"encoding/json"
	"errors"
	"log"
	"net/http"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/web"
)

const (
	pubsubName = "pubsub"
	topic      = "OrderPlaced"

	maxBodyBytes = 64 << 10
)

// newServer returns the service, which publishes each event so many times: all
// its routes, behind the sidecar's token when there is one. The health check needs
// no token, so that anything that watches the process may ask.
func newServer(sidecar *daprhttp.Client, times int, appToken string, logger *log.Logger) http.Handler {
	app := http.NewServeMux()
	app.Handle("POST /order", handlePlaceOrder(sidecar, times, logger))

	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.Handle("/", daprhttp.RequireAppToken(appToken, app))
	return mux
}

// handlePlaceOrder publishes the order in the request as an OrderPlaced event. One
// that is published several times has the same id each time, and counts once.
func handlePlaceOrder(sidecar *daprhttp.Client, times int, logger *log.Logger) http.Handler {
	type response struct {
		Message string `json:"message"`
		Event   order  `json:"event"`
	}
	type failure struct {
		Error   string `json:"error"`
		Details string `json:"details,omitempty"`
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o, eventID, err := readOrder(r)
		switch {
		case errors.Is(err, web.ErrBodyTooLarge):
			web.WriteJSON(w, http.StatusRequestEntityTooLarge, failure{Error: err.Error()})
			return
		case err != nil:
			web.WriteJSON(w, http.StatusBadRequest, failure{Error: err.Error()})
			return
		}
		data, err := json.Marshal(o)
		if err != nil {
			panic(err) // two strings and an integer always have a JSON
		}
		event := daprhttp.Message{
			Data: data,
			Metadata: map[string]string{
				daprhttp.MetadataEventID:   eventID,
				daprhttp.MetadataEventType: topic,
			},
		}
		ctx := daprhttp.ContextWithTrace(r.Context(), r.Header)
		for range times {
			if err = sidecar.Publish(ctx, pubsubName, topic, event); err != nil {
				break
			}
		}
		if err != nil {
			logger.Printf("eventId=%q Failed to publish OrderPlaced event. orderId=%s: %v", eventID, o.OrderID, err)
			web.WriteJSON(w, http.StatusInternalServerError, failure{"Failed to publish OrderPlaced event", err.Error()})
			return
		}
		logger.Printf("eventId=%q Published OrderPlaced event. orderId=%s, itemId=%s, quantity=%d", eventID, o.OrderID, o.ItemID, o.Quantity)
		web.WriteJSON(w, http.StatusOK, response{"OrderPlaced event published", o})
	})
}

// readOrder returns the order in a request and the id of the event that it leads
// to.
func readOrder(r *http.Request) (o order, id string, err error) {
	body, err := web.ReadBody(r, maxBodyBytes)
	if err != nil {
		return order{}, "", err
	}
	if o, err = parseOrder(body); err != nil {
		return order{}, "", err
	}
	id, err = eventID(r.Header, o)
	return o, id, err
}
