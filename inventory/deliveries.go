package main

import (
	"context"
	"errors"
	"net/http"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/once"
	"example.com/dapr-orders/daprhttp/web"
)

// The answers to the delivery of an order.
type (
	processed struct {
		Status            daprhttp.Status `json:"status"`
		Message           string          `json:"message"`
		OrderID           string          `json:"orderId"`
		ItemID            string          `json:"itemId"`
		PreviousQuantity  stock           `json:"previousQuantity"`
		OrderedQuantity   int64           `json:"orderedQuantity"`
		RemainingQuantity stock           `json:"remainingQuantity"`
	}
	repeated struct {
		Status          daprhttp.Status `json:"status"`
		Message         string          `json:"message"`
		OrderID         string          `json:"orderId"`
		ItemID          string          `json:"itemId"`
		OrderedQuantity int64           `json:"orderedQuantity"`
	}
)

// handle applies the order in an event to the stock, once, and tries until ctx ends.
func (s *service) handle(ctx context.Context, e daprhttp.Event) daprhttp.Outcome {
	o, err := parseOrderPlaced(e)
	if err != nil {
		return daprhttp.Drop(err)
	}
	outcome := daprhttp.Success()
	r := s.stocks.Apply(ctx, o.change())[0]
	err = r.Err
	switch {
	case errors.Is(err, once.ErrFinal):
		outcome = daprhttp.Drop(err)
		outcome.HTTPStatus = http.StatusInternalServerError // the stock is at fault, not the request
	case err != nil:
		s.metrics.failed.Add(1)
		s.log.Info("Failed to process OrderPlaced event.", append(o.attributes(), web.LogError, err)...)
		outcome = daprhttp.Retry(err)
	case r.Duplicate:
		s.metrics.duplicate.Add(1)
		s.log.Info("OrderPlaced event had been processed already.", o.attributes()...)
		outcome.Answer = repeated{
			outcome.Status, "OrderPlaced event had been processed already", o.OrderID, o.ItemID, o.Quantity,
		}
	default:
		s.metrics.applied.Add(1)
		s.log.Info("Processed OrderPlaced event.", append(o.attributes(), "ordered", o.Quantity, "remaining", int64(r.After))...)
		outcome.Answer = processed{
			outcome.Status, "Inventory updated from OrderPlaced event", o.OrderID, o.ItemID, r.Before, o.Quantity, r.After,
		}
	}
	return outcome
}

// refused logs the events that can never be applied.
func (s *service) refused(next daprhttp.Handler) daprhttp.Handler {
	return func(ctx context.Context, e daprhttp.Event) daprhttp.Outcome {
		outcome := next(ctx, e)
		if outcome.Status == daprhttp.StatusDrop {
			o, _ := parseOrderPlaced(e)
			s.metrics.dead.Add(1)
			s.log.Info("Refused OrderPlaced event.", append(o.attributes(), web.LogError, outcome.Err)...)
		}
		return outcome
	}
}

// movedToRetry logs that an event was moved to the retry topic, or was not. Where the
// sidecar has no such component, the event waits in its own topic.
func (s *service) movedToRetry(_ context.Context, e daprhttp.Event, err error) {
	var refused *daprhttp.Error
	switch {
	case err == nil:
		s.metrics.moved.Add(1)
		s.log.Info("Moved OrderPlaced event to the retry topic", eventAttributes(e)...)
	case errors.As(err, &refused) && refused.ErrorCode == "ERR_PUBSUB_NOT_FOUND":
	default:
		s.log.Info("Failed to move OrderPlaced event to the retry topic", append(eventAttributes(e), web.LogError, err)...)
	}
}

// movedToDeadLetters logs that a dead letter was not published.
func (s *service) movedToDeadLetters(_ context.Context, e daprhttp.Event, err error) {
	if err != nil {
		s.log.Info("Failed to move OrderPlaced event to the dead-letter topic", append(eventAttributes(e), web.LogError, err)...)
	}
}

func eventAttributes(e daprhttp.Event) []any {
	return []any{web.LogEventID, e.ID, web.LogTraceID, daprhttp.TraceID(e.TraceParent)}
}
