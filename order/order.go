package main

import (
	"errors"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/web"
)

// An order is a client's order of one item, and the data of an OrderPlaced event.
type order struct {
	OrderID  string `json:"orderId"`
	ItemID   string `json:"itemId"`
	Quantity int64  `json:"quantity"`
}

var errIncomplete = errors.New("orderId, itemId, and quantity are required")

// parseOrder reads an order. Its errors are meant for the client.
//
// The sidecar does not check the data. Without this check, an invalid order would reach every
// subscriber.
func parseOrder(fields web.Object) (o order, err error) {
	if o.OrderID, err = fields.Text("orderId", daprhttp.CheckKey); err != nil {
		return order{}, err
	}
	if o.ItemID, err = fields.Text("itemId", daprhttp.CheckKey); err != nil {
		return order{}, err
	}
	if o.Quantity, err = fields.Integer("quantity", daprhttp.MaxInteger); err != nil {
		return order{}, err
	}
	if o.OrderID == "" || o.ItemID == "" || o.Quantity == 0 {
		return order{}, errIncomplete
	}
	return o, nil
}
