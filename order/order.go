package main

import (
	"errors"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/web"
)

// An order is a quantity of one item: what a client asks for, and the data of an
// OrderPlaced event.
type order struct {
	OrderID  string `json:"orderId"`
	ItemID   string `json:"itemId"`
	Quantity int64  `json:"quantity"`
}

var errIncomplete = errors.New("orderId, itemId, and quantity are required")

// parseOrder reads an order. Its errors are meant for the client.
//
// The sidecar publishes whatever it is given, and every subscriber would have to handle
// an order that is wrong. So this service checks it before.
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
