package main

import (
	"errors"

	"example.com/dapr-orders/daprhttp/web"
)

// An order is what a client asks for and what an OrderPlaced event tells the
// world: so many of one item.
type order struct {
	OrderID  string `json:"orderId"`
	ItemID   string `json:"itemId"`
	Quantity int64  `json:"quantity"`
}

var errIncomplete = errors.New("orderId, itemId, and quantity are required")

// parseOrder reads an order from JSON. Its errors are meant for the client.
//
// The rules are stricter than those of the sidecar, which publishes whatever it
// is given: once published, an order that nobody can count is everybody's
// trouble.
func parseOrder(body []byte) (order, error) {
	fields, err := web.DecodeObject(body)
	if err != nil {
		return order{}, err
	}
	var o order
	if o.OrderID, err = fields.Key("orderId"); err != nil {
		return order{}, err
	}
	if o.ItemID, err = fields.Key("itemId"); err != nil {
		return order{}, err
	}
	if o.Quantity, err = fields.Integer("quantity"); err != nil {
		return order{}, err
	}
	if o.OrderID == "" || o.ItemID == "" || o.Quantity == 0 {
		return order{}, errIncomplete
	}
	return o, nil
}
