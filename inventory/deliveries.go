package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/once"
	"example.com/dapr-orders/daprhttp/web"
)

// deliveries returns the route to which the sidecar delivers events: those of the
// retry topic, or the others.
func (s *service) deliveries(retrying bool) *daprhttp.DeliveryHandler {
	return &daprhttp.DeliveryHandler{
		Handle:          s.handle,
		Sidecar:         s.sidecar,
		PubsubName:      pubsubName,
		DeadLetterTopic: deadLetterTopic,
		RetryPubsubName: retryPubsubName,
		RetryTopic:      retryTopic,
		Retrying:        retrying,
		Ready:           s.stocks.Probe,
		BareData:        true,
		MaxEventBytes:   maxBodyBytes,
		Refused: func(_ context.Context, e daprhttp.Event, why error) {
			s.refused(s.log.Logger, orderPlaced{EventID: e.ID}, why)
		},
		Moved: s.moved,
	}
}

// countTime bounds how long a delivery waits for its orders to be counted. A sidecar
// that gets no answer delivers them again.
const countTime = 30 * time.Second

// handle counts the orders in events, each once, and all together.
func (s *service) handle(ctx context.Context, events []daprhttp.Event) []daprhttp.Outcome {
	outcomes := make([]daprhttp.Outcome, len(events))
	orders := make([]orderPlaced, len(events))
	changes := make([]once.Change[stock], 0, len(events))
	s.log.Together(func(log *slog.Logger) {
		for i, e := range events {
			var err error
			if orders[i], err = parseOrderPlaced(e); err != nil {
				s.refused(log, orders[i], err)
				outcomes[i] = daprhttp.Never(err)
				continue
			}
			changes = append(changes, orders[i].change())
		}
	})

	// It goes on when the sidecar that brought them has gone: others would count
	// them, but later.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), countTime)
	defer cancel()
	results := s.stocks.Apply(ctx, changes...)

	s.log.Together(func(log *slog.Logger) {
		for i, o := range orders {
			if outcomes[i].Status == "" {
				outcomes[i] = s.outcome(log, o, results[0])
				results = results[1:]
			}
		}
	})
	return outcomes
}

// outcome logs what became of an order, and returns what that means for its event.
func (s *service) outcome(log *slog.Logger, o orderPlaced, r once.Result[stock]) daprhttp.Outcome {
	type repeated struct {
		Status          daprhttp.Status `json:"status"`
		Message         string          `json:"message"`
		OrderID         string          `json:"orderId"`
		ItemID          string          `json:"itemId"`
		OrderedQuantity int64           `json:"orderedQuantity"`
	}
	type processed struct {
		Status            daprhttp.Status `json:"status"`
		Message           string          `json:"message"`
		OrderID           string          `json:"orderId"`
		ItemID            string          `json:"itemId"`
		PreviousQuantity  stock           `json:"previousQuantity"`
		OrderedQuantity   int64           `json:"orderedQuantity"`
		RemainingQuantity stock           `json:"remainingQuantity"`
	}
	outcome := daprhttp.Done()
	switch {
	case errors.Is(r.Err, once.ErrFinal):
		s.refused(log, o, r.Err)
		outcome = daprhttp.Never(r.Err)
		outcome.HTTPStatus = http.StatusInternalServerError // it is not the request that is wrong
	case r.Err != nil:
		s.metrics.handedBack.Add(1)
		log.Info("Failed to process OrderPlaced event.", append(o.attributes(), web.LogError, r.Err)...)
		outcome = daprhttp.Again(r.Err)
	case r.Duplicate:
		s.metrics.repeated.Add(1)
		log.Info("OrderPlaced event had been processed already.", o.attributes()...)
		outcome.Answer = repeated{
			outcome.Status, "OrderPlaced event had been processed already", o.OrderID, o.ItemID, o.Quantity,
		}
	default:
		s.metrics.counted.Add(1)
		log.Info("Processed OrderPlaced event.", append(o.attributes(), "ordered", o.Quantity, "remaining", int64(r.After))...)
		outcome.Answer = processed{
			outcome.Status, "Inventory updated from OrderPlaced event", o.OrderID, o.ItemID, r.Before, o.Quantity, r.After,
		}
	}
	return outcome
}

// refused logs that an event can't be counted, however often it is delivered.
func (s *service) refused(log *slog.Logger, o orderPlaced, why error) {
	s.metrics.dead.Add(1)
	log.Info("Refused OrderPlaced event.", append(o.attributes(), web.LogError, why)...)
}

// moved logs that an event was moved to a topic, or was not.
func (s *service) moved(_ context.Context, e daprhttp.Event, topic string, err error) {
	name := "retry"
	if topic == deadLetterTopic {
		name = "dead-letter"
	}
	attributes := []any{web.LogEventID, e.ID, web.LogTraceID, daprhttp.TraceID(e.TraceParent)}
	switch {
	case err != nil:
		s.log.Info("Failed to move OrderPlaced event to the "+name+" topic", append(attributes, web.LogError, err)...)
	case topic == retryTopic:
		s.metrics.moved.Add(1)
		s.log.Info("Moved OrderPlaced event to the "+name+" topic", attributes...)
	}
}
