package main

import (
	"encoding/json"
	"io"
	"log"
	"net/http"

	"github.com/dapr/go-sdk/client"
)

// An orderPlaced is the body of a request, and the data of the event.
type orderPlaced struct {
	OrderID  string `json:"orderId"`
	ItemID   string `json:"itemId"`
	Quantity int64  `json:"quantity"`
}

// order is the order service over the SDK: it checks an order, publishes it, logs it, and
// answers.
type order struct {
	sidecar func() (client.Client, error)
}

func (s order) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	var o orderPlaced
	if err == nil {
		err = json.Unmarshal(body, &o)
	}
	if err != nil || o.OrderID == "" || o.ItemID == "" || o.Quantity < 1 {
		http.Error(w, `{"error":"orderId, itemId, and quantity are required"}`, http.StatusBadRequest)
		return
	}
	data, err := json.Marshal(o)
	var sidecar client.Client
	if err == nil {
		sidecar, err = s.sidecar()
	}
	if err == nil {
		err = sidecar.PublishEvent(r.Context(), "pubsub", "OrderPlaced", data,
			client.PublishEventWithContentType("application/json"),
			client.PublishEventWithMetadata(map[string]string{"cloudevent.type": "OrderPlaced"}))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	log.Printf("Published OrderPlaced event. orderId=%s, itemId=%s, quantity=%d", o.OrderID, o.ItemID, o.Quantity)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"message": "OrderPlaced event published", "event": o})
}
