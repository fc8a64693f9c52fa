package main

import (
	"crypto/rand"
	"errors"
	"fmt"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/once"
	"example.com/dapr-orders/daprhttp/web"
)

// An orderPlaced is what the service reads of an OrderPlaced event.
type orderPlaced struct {
	OrderID  string
	ItemID   string
	Quantity int64

	// EventID and Source tell the event from all others.
	EventID, Source string
}

// parseOrderPlaced reads a delivery: a CloudEvent whose data is the order, or,
// unless it must be an event, the bare order. A bare order gets a new event ID:
// nothing tells two of them apart. Errors are meant for whoever sent it.
func parseOrderPlaced(body []byte, mustBeEvent bool) (orderPlaced, error) {
	if !mustBeEvent {
		fields, err := web.DecodeObject(body)
		if err != nil {
			return orderPlaced{}, err
		}
		if !fields.Has("specversion") && !fields.Has("data") && !fields.Has("data_base64") {
			o, err := orderFrom(fields)
			o.EventID = rand.Text()
			return o, err
		}
	}
	event, err := daprhttp.DecodeEvent(body)
	if err != nil {
		return orderPlaced{}, err
	}
	fields, err := web.DecodeObject(event.Data)
	if err != nil {
		return orderPlaced{}, fmt.Errorf("the event's data is no order: %w", err)
	}
	o, err := orderFrom(fields)
	o.EventID, o.Source = event.ID, event.Source
	return o, err
}

func orderFrom(fields web.Object) (orderPlaced, error) {
	var o orderPlaced
	var err error
	if o.OrderID, err = fields.Key("orderId"); err != nil {
		return o, err
	}
	if o.ItemID, err = fields.Key("itemId"); err != nil {
		return o, err
	}
	if o.Quantity, err = fields.Integer("quantity"); err != nil {
		return o, err
	}
	switch {
	case o.ItemID == "":
		return o, errors.New("OrderPlaced event is missing itemId")
	case o.Quantity == 0:
		return o, errors.New("OrderPlaced event is missing quantity, an integer from 1")
	case o.OrderID == "":
		o.OrderID = "unknown" // the stock can be counted without it
	}
	return o, nil
}

// change returns what the order does to the stock.
func (o orderPlaced) change() once.Change[stock] {
	return once.Change[stock]{
		Key:   o.ItemID,
		ID:    once.EventID(o.Source, o.EventID),
		Apply: func(s stock) (stock, error) { return s.less(o.Quantity) },
	}
}
