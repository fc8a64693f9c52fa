package main

import (
	"context"
	"errors"
	"net/http"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/once"
	"example.com/dapr-orders/daprhttp/web"
)

// An answer is the answer to the delivery of an order.
type answer struct {
	Status            daprhttp.Status `json:"status"`
	Message           string          `json:"message"`
	OrderID           string          `json:"orderId"`
	ItemID            string          `json:"itemId"`
	PreviousQuantity  *stock          `json:"previousQuantity,omitempty"` // nil after a duplicate
	OrderedQuantity   int64           `json:"orderedQuantity"`
	RemainingQuantity *stock          `json:"remainingQuantity,omitempty"`
}

// handle applies the order in an event to the stock, once. Apply retries until ctx ends. first
// means that the order has not been in the retry topic. It then moves there without a try if
// its item is stuck.
func (s *service) handle(ctx context.Context, e daprhttp.Event, first bool) daprhttp.Outcome {
	o, err := parseOrderPlaced(e)
	if err != nil {
		return daprhttp.Drop(err)
	}
	if first && s.stuck.has(o.ItemID) {
		return daprhttp.Outcome{Status: daprhttp.StatusRetry, Err: errStuck, MoveNow: true}
	}
	result := answer{Status: daprhttp.StatusSuccess, OrderID: o.OrderID, ItemID: o.ItemID, OrderedQuantity: o.Quantity}
	r, err := s.stocks.Apply(ctx, o.change())
	// An order that fails in the retry topic does not make its item stuck: only a first delivery does.
	if answered := err == nil || errors.Is(err, once.ErrFinal); answered || first {
		s.stuck.note(o.ItemID, answered)
	}
	switch {
	case errors.Is(err, once.ErrFinal):
		outcome := daprhttp.Drop(err)
		outcome.HTTPStatus = http.StatusInternalServerError // the stock is at fault, not the request
		return outcome
	case err != nil:
		s.metrics.failed.Add(1)
		s.log.Error("Failed to process OrderPlaced event.", append(o.attributes(), web.LogError, err)...)
		return daprhttp.Retry(err)
	case r.Duplicate:
		s.metrics.duplicate.Add(1)
		s.log.Info("OrderPlaced event had been processed already.", o.attributes()...)
		result.Message = "OrderPlaced event had been processed already"
	default:
		s.metrics.applied.Add(1)
		s.log.Info("Processed OrderPlaced event.", append(o.attributes(), "ordered", o.Quantity, "remaining", int64(r.After))...)
		result.Message = "Inventory updated from OrderPlaced event"
		result.PreviousQuantity, result.RemainingQuantity = &r.Before, &r.After
	}
	return daprhttp.Outcome{Status: result.Status, Answer: result}
}

// refused returns a handler that logs why next drops an event.
func (s *service) refused(next daprhttp.Handler) daprhttp.Handler {
	return func(ctx context.Context, e daprhttp.Event) daprhttp.Outcome {
		outcome := next(ctx, e)
		if outcome.Status == daprhttp.StatusDrop {
			o, _ := parseOrderPlaced(e)
			s.log.Info("Refused OrderPlaced event.", append(o.attributes(), "source", o.Source, web.LogError, outcome.Err)...)
		}
		return outcome
	}
}

// moved returns a function that logs and counts events moved to a topic. If the sidecar has
// no component for the retry topic, the event stays in its own topic, and the log is silent.
func (s *service) moved(name string, count *web.Counter) func(context.Context, daprhttp.Event, error) {
	return func(_ context.Context, e daprhttp.Event, err error) {
		attributes := []any{web.LogEventID, e.ID, web.LogTraceID, daprhttp.TraceID(e.TraceParent)}
		var refused *daprhttp.Error
		switch {
		case err == nil:
			count.Add(1)
			s.log.Info("Moved OrderPlaced event to the "+name+" topic", attributes...)
		case errors.As(err, &refused) && refused.ErrorCode == "ERR_PUBSUB_NOT_FOUND":
		default:
			s.log.Error("Failed to move OrderPlaced event to the "+name+" topic", append(attributes, web.LogError, err)...)
		}
	}
}
