package main

import (
	"cmp"
	"errors"
	"fmt"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/once"
	"example.com/dapr-orders/daprhttp/web"
)

// An orderPlaced is the order in an OrderPlaced event.
type orderPlaced struct {
	OrderID  string
	ItemID   string
	Quantity int64

	EventID, Source string // these identify the event
	TraceID         string
}

// parseOrderPlaced reads the order in an event. Its errors are meant for the publisher.
func parseOrderPlaced(e daprhttp.Event) (orderPlaced, error) {
	var o orderPlaced
	fields, err := web.DecodeObject(e.Data)
	switch {
	case err == nil:
		o, err = orderFrom(fields)
	case e.Source != "":
		err = fmt.Errorf("the event's data is not an order: %w", err)
	}
	o.EventID, o.Source, o.TraceID = e.ID, e.Source, daprhttp.TraceID(e.TraceParent)
	return o, err
}

// orderFrom returns the order in the fields of an event's data. After an error it returns the
// fields that could be read.
func orderFrom(fields web.Object) (o orderPlaced, err error) {
	var errs [3]error
	o.OrderID, errs[0] = fields.Text("orderId", daprhttp.CheckKey)
	o.ItemID, errs[1] = fields.Text("itemId", daprhttp.CheckKey)
	o.Quantity, errs[2] = fields.Integer("quantity", daprhttp.MaxInteger)
	if o.OrderID == "" && errs[0] == nil {
		o.OrderID = "unknown" // the stock does not need it
	}
	switch err := cmp.Or(errs[:]...); {
	case err != nil:
		return o, err
	case o.ItemID == "":
		return o, errors.New("OrderPlaced event is missing itemId")
	case o.Quantity == 0:
		return o, errors.New("OrderPlaced event is missing quantity, an integer from 1")
	}
	return o, nil
}

// change returns the change of the stock by the order.
func (o orderPlaced) change() once.Change[stock] {
	return once.Change[stock]{
		Key:   o.ItemID,
		ID:    once.EventID(o.Source, o.EventID),
		Apply: func(s stock) (stock, error) { return s.less(o.Quantity) },
	}
}

// attributes returns the attributes of an order's log lines.
func (o orderPlaced) attributes() []any {
	return []any{web.LogEventID, o.EventID, web.LogTraceID, o.TraceID, "orderId", o.OrderID, "itemId", o.ItemID}
}
