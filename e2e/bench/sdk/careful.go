package main

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"strconv"
	"sync"

	"github.com/dapr/go-sdk/client"
)

// careful counts as a careful team would: one event of an item at a time, with a
// compare-and-swap on the item's stock, and with it a marker for each event.
type careful struct {
	sidecar func() (client.Client, error)
	items   sync.Map // of *sync.Mutex, by item
}

func newCareful(sidecar func() (client.Client, error)) *careful { return &careful{sidecar: sidecar} }

const storeName = "statestore"

func (c *careful) handle(mux *http.ServeMux) {
	mux.HandleFunc("GET /dapr/subscribe", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `[{"pubsubname":"pubsub","topic":"OrderPlaced","route":"orders"}]`)
	})
	mux.HandleFunc("GET /inventory/{itemId}", func(w http.ResponseWriter, r *http.Request) {
		stock, _, err := c.stock(r.Context(), r.PathValue("itemId"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]int64{"quantity": stock})
	})
	mux.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) {
		if err := c.count(r); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError) // and it is delivered again
			return
		}
		_, _ = io.WriteString(w, `{"status":"SUCCESS"}`)
	})
}

func (c *careful) count(r *http.Request) error {
	var event struct {
		ID   string      `json:"id"`
		Data orderPlaced `json:"data"`
	}
	if err := json.NewDecoder(r.Body).Decode(&event); err != nil {
		return err
	}
	o := event.Data
	lock, _ := c.items.LoadOrStore(o.ItemID, new(sync.Mutex))
	lock.(*sync.Mutex).Lock()
	defer lock.(*sync.Mutex).Unlock()
	sidecar, err := c.sidecar()
	if err != nil {
		return err
	}
	marker := "seen-" + event.ID
	for {
		seen, err := sidecar.GetState(r.Context(), storeName, marker, nil)
		if err != nil || len(seen.Value) > 0 {
			return err
		}
		stock, etag, err := c.stock(r.Context(), o.ItemID)
		if err != nil {
			return err
		}
		stock -= o.Quantity
		item := &client.SetStateItem{Key: o.ItemID, Value: []byte(strconv.FormatInt(stock, 10)),
			Options: &client.StateOptions{Concurrency: client.StateConcurrencyFirstWrite, Consistency: client.StateConsistencyStrong}}
		if etag != "" {
			item.Etag = &client.ETag{Value: etag}
		}
		err = sidecar.ExecuteStateTransaction(r.Context(), storeName, nil, []*client.StateOperation{
			{Type: client.StateOperationTypeUpsert, Item: item},
			{Type: client.StateOperationTypeUpsert, Item: &client.SetStateItem{Key: marker, Value: []byte("1"), Metadata: map[string]string{"ttlInSeconds": "86400"}}},
		})
		if err == nil {
			log.Printf("Processed OrderPlaced event. orderId=%s, itemId=%s, ordered=%d, remaining=%d", o.OrderID, o.ItemID, o.Quantity, stock)
			return nil
		}
		if r.Context().Err() != nil {
			return err
		}
	}
}

// stock returns the stock of an item and its ETag.
func (c *careful) stock(ctx context.Context, itemID string) (stock int64, etag string, err error) {
	sidecar, err := c.sidecar()
	if err != nil {
		return 0, "", err
	}
	item, err := sidecar.GetStateWithConsistency(ctx, storeName, itemID, nil, client.StateConsistencyStrong)
	if err != nil || len(item.Value) == 0 {
		return 0, "", err
	}
	stock, err = strconv.ParseInt(string(item.Value), 10, 64)
	return stock, item.Etag, err
}
