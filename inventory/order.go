package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"

	"example.com/dapr-orders/daprhttp"
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
		fields, err := daprhttp.DecodeObject(body)
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
	fields, err := daprhttp.DecodeObject(event.Data)
	if err != nil {
		return orderPlaced{}, fmt.Errorf("the event's data is no order: %w", err)
	}
	o, err := orderFrom(fields)
	o.EventID, o.Source = event.ID, event.Source
	return o, err
}

func orderFrom(fields daprhttp.Object) (orderPlaced, error) {
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

// changeID returns what the ledger knows the event by. CloudEvents are the same
// event if, and only if, they have the same source and id.
func (o orderPlaced) changeID() string {
	return newChangeID(uuidTime(o.EventID), fmt.Appendf(nil, "%d:%s%s", len(o.Source), o.Source, o.EventID))
}

// uuidTime returns when a UUID of version 7 was made, in milliseconds since 1970,
// and 0 for any other text. See https://www.rfc-editor.org/rfc/rfc9562#section-5.7.
func uuidTime(id string) uint64 {
	if len(id) != 36 || id[8] != '-' || id[13] != '-' || id[14] != '7' {
		return 0
	}
	ms, err := strconv.ParseUint(id[:8]+id[9:13], 16, 64)
	if err != nil {
		return 0
	}
	return ms
}
