package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
)

// usual is the subscriber as it is usually written, over the state API. Events of one
// item that are handled at the same time overwrite each other's result.
type usual struct {
	store  string // URL of the state store
	client *http.Client
}

func newUsual(sidecar string) usual {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 100 // the default, 2, closes most connections after each request
	return usual{sidecar + "/v1.0/state/statestore", &http.Client{Transport: transport}}
}

// apply lowers the stock by the order in a delivery.
func (u usual) apply(r *http.Request) error {
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
	quantity, err := u.read(o.ItemID)
	if err != nil {
		return err
	}
	quantity -= o.Quantity
	resp, err := u.client.Post(u.store, "application/json", strings.NewReader(fmt.Sprintf(`[{"key":%q,"value":%d}]`, o.ItemID, quantity)))
	if err == nil {
		_, err = body(resp)
	}
	if err == nil {
		log.Printf("Processed OrderPlaced event. orderId=%s, itemId=%s, ordered=%d, remaining=%d", o.OrderID, o.ItemID, o.Quantity, quantity)
	}
	return err
}

// read returns the stock of an item.
func (u usual) read(itemID string) (quantity int64, err error) {
	resp, err := u.client.Get(u.store + "/" + itemID)
	if err != nil {
		return 0, err
	}
	text, err := body(resp)
	if err != nil || len(text) == 0 {
		return 0, err
	}
	err = json.Unmarshal(text, &quantity)
	return quantity, err
}

// body reads an answer to its end, so that its connection is used again.
func body(resp *http.Response) ([]byte, error) {
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("the sidecar answered %s: %s", resp.Status, text)
	}
	return text, err
}
