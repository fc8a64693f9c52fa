package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/web"
)

const (
	pubsubName = "pubsub"
	topic      = "OrderPlaced"

	maxBodyBytes = 64 << 10
)

// newServer returns the service, which publishes each event so many times: all
// its routes, behind the sidecar's token when there is one. The health check needs no token, so that anything that
// watches the process may ask.
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

// readOrder returns the order in a request and the id of the event that it
// leads to: the Idempotency-Key, or a new one. A client that repeats a request
// with the same key gets an event with the same id, which subscribers count
// once.
func readOrder(r *http.Request) (order, string, error) {
	body, err := web.ReadBody(r, maxBodyBytes)
	if err != nil {
		return order{}, "", err
	}
	o, err := parseOrder(body)
	if err != nil {
		return order{}, "", err
	}
	const header = "Idempotency-Key"
	switch keys := r.Header.Values(header); len(keys) {
	case 0:
		return o, newEventID(), nil
	case 1:
		if err := daprhttp.CheckKey(keys[0]); err != nil {
			return order{}, "", fmt.Errorf("the header %s %w", header, err)
		}
		return o, keys[0], nil
	default:
		return order{}, "", fmt.Errorf("the header %s must be given once", header)
	}
}

// newEventID returns a UUID of version 7. It begins with the time, which lets a
// subscriber that remembers many events keep those of a moment together.
//
// See https://www.rfc-editor.org/rfc/rfc9562#section-5.7.
func newEventID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	ms := time.Now().UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	id[6] = id[6]&0x0F | 0x70 // version
	id[8] = id[8]&0x3F | 0x80 // variant
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}
