package main

import (
	"context"
	"encoding/json"
	"log"
	"net/http"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/web"
)

// usual is the subscriber as it is usually written. Events of one item that are
// handled at the same time overwrite each other's result.
type usual struct{ sidecar *daprhttp.Client }

func (u usual) handle(mux *http.ServeMux) {
	mux.HandleFunc("GET /inventory/{itemId}", func(w http.ResponseWriter, r *http.Request) {
		quantity, err := u.read(r.Context(), r.PathValue("itemId"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		web.WriteJSON(w, http.StatusOK, map[string]int64{"quantity": quantity})
	})
	mux.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) {
		if err := u.count(r); err != nil {
			log.Print(err)
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		succeed(w)
	})
}

func (u usual) count(r *http.Request) error {
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
	o := event.Data
	quantity, err := u.read(r.Context(), o.ItemID)
	if err != nil {
		return err
	}
	quantity -= o.Quantity
	if err := u.sidecar.SaveState(r.Context(), "statestore", daprhttp.StateItem{Key: o.ItemID, Value: quantity}); err != nil {
		return err
	}
	log.Printf("Processed OrderPlaced event. orderId=%s, itemId=%s, ordered=%d, remaining=%d", o.OrderID, o.ItemID, o.Quantity, quantity)
	return nil
}

// read returns the stock of an item.
func (u usual) read(ctx context.Context, itemID string) (quantity int64, err error) {
	v, err := u.sidecar.GetState(ctx, "statestore", itemID, daprhttp.GetStateOptions{})
	if err != nil || v.Value == nil {
		return 0, err
	}
	err = json.Unmarshal(v.Value, &quantity)
	return quantity, err
}
