package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/once"
	"example.com/dapr-orders/daprhttp/web"
)

// An orderHandler counts the orders in delivered events, and tells the sidecar
// what to do with the events.
type orderHandler struct {
	stocks  *once.Inbox[stock]
	sidecar *daprhttp.Client
	logger  *log.Logger
}

// ServeHTTP takes what may come to the route: an event, which only a sidecar
// sends with the content type of CloudEvents; many of them, as the JSON of a bulk
// delivery; or, from whoever tries it by hand, the bare order.
func (h orderHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx := daprhttp.ContextWithTrace(r.Context(), r.Header)
	if daprhttp.IsEventContentType(r.Header.Get("Content-Type")) {
		body, err := web.ReadBody(r, maxBodyBytes)
		h.serveOne(ctx, w, body, err, true)
		return
	}
	// Only a bulk may be long. If it is none, what is short is read again.
	var read bytes.Buffer
	deliveries, err := h.readBulk(ctx, io.TeeReader(r.Body, &limitedWriter{&read, maxBodyBytes + 1}))
	if err == nil {
		h.serveBulk(ctx, w, deliveries)
		return
	}
	r.Body = io.NopCloser(io.MultiReader(&read, r.Body))
	body, err := web.ReadBody(r, maxBodyBytes)
	h.serveOne(ctx, w, body, err, false)
}

// limitedWriter keeps the beginning of what is written to it.
type limitedWriter struct {
	to   *bytes.Buffer
	left int
}

func (w *limitedWriter) Write(b []byte) (int, error) {
	n := min(len(b), w.left)
	w.left -= n
	w.to.Write(b[:n])
	return len(b), nil
}

// countTime bounds how long a delivery waits for its orders to be counted. A sidecar
// that gets no answer delivers them again.
const countTime = 30 * time.Second

// count counts orders, each once. It goes on when the sidecar that brought them has
// gone: others would count them, but later.
func (h orderHandler) count(ctx context.Context, orders ...orderPlaced) []once.Result[stock] {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), countTime)
	defer cancel()
	changes := make([]once.Change[stock], len(orders))
	for i, o := range orders {
		changes[i] = o.change()
	}
	return h.stocks.Apply(ctx, changes...)
}

// A delivery is an entry of a bulk on its way.
type delivery struct {
	daprhttp.BulkEntry
	order  orderPlaced
	status daprhttp.Status // empty until it is known
}

// readBulk reads a bulk delivery. What is no order goes to the dead-letter topic at
// once, so that it need not be kept in memory.
func (h orderHandler) readBulk(ctx context.Context, body io.Reader) ([]delivery, error) {
	var deliveries []delivery
	for entry, err := range daprhttp.BulkEntries(body) {
		if err != nil {
			return nil, err
		}
		d := delivery{BulkEntry: entry}
		if len(entry.Event) > maxBodyBytes {
			err = fmt.Errorf("the event is longer than %d bytes", maxBodyBytes)
		} else {
			d.order, err = parseOrderPlaced(entry.Event, true)
		}
		if err != nil {
			d.status = h.deadLetter(ctx, entry.Event, d.order, err)
			d.Event = nil
		}
		deliveries = append(deliveries, d)
	}
	return deliveries, nil
}

// serveBulk counts the orders of a bulk, all together.
func (h orderHandler) serveBulk(ctx context.Context, w http.ResponseWriter, deliveries []delivery) {
	var orders []orderPlaced
	for _, d := range deliveries {
		if d.status == "" {
			orders = append(orders, d.order)
		}
	}
	results := h.count(ctx, orders...)

	var lines bytes.Buffer // written together: one write for each would cost more than the counting
	logger := log.New(&lines, h.logger.Prefix(), h.logger.Flags())
	answer := daprhttp.BulkResponse{Statuses: make([]daprhttp.BulkStatus, len(deliveries))}
	for i, d := range deliveries {
		if d.status == "" {
			result := results[0]
			results = results[1:]
			if errors.Is(result.Err, once.ErrFinal) {
				d.status = h.deadLetter(ctx, d.Event, d.order, result.Err)
			} else {
				d.status = logResult(logger, d.order, result)
			}
		}
		answer.Statuses[i] = daprhttp.BulkStatus{EntryID: d.EntryID, Status: d.status}
	}
	_, _ = h.logger.Writer().Write(lines.Bytes())
	web.WriteJSON(w, http.StatusOK, answer)
}

// deadLetter publishes an event that can't be counted to the dead-letter topic, as
// it came. Of a bulk, a sidecar can't be trusted to do it: see BulkResponse.
func (h orderHandler) deadLetter(ctx context.Context, event []byte, o orderPlaced, why error) daprhttp.Status {
	logRefused(h.logger, o, why)
	err := h.sidecar.Publish(ctx, pubsubName, deadLetterTopic, daprhttp.Message{
		Data:     event,
		Metadata: map[string]string{daprhttp.MetadataRawPayload: "true"},
	})
	if err != nil {
		h.logger.Printf("eventId=%q Failed to publish to the dead-letter topic: %v", o.EventID, err)
		return daprhttp.StatusRetry
	}
	return daprhttp.StatusSuccess
}

// serveOne counts the order in one body.
//
// Only a sidecar knows what DROP means. Whoever tries the route by hand gets
// plain HTTP statuses.
func (h orderHandler) serveOne(ctx context.Context, w http.ResponseWriter, body []byte, err error, isEvent bool) {
	type processed struct {
		Status            daprhttp.Status `json:"status"`
		Message           string          `json:"message"`
		OrderID           string          `json:"orderId"`
		ItemID            string          `json:"itemId"`
		PreviousQuantity  stock           `json:"previousQuantity"`
		OrderedQuantity   int64           `json:"orderedQuantity"`
		RemainingQuantity stock           `json:"remainingQuantity"`
	}
	type repeated struct {
		Status          daprhttp.Status `json:"status"`
		Message         string          `json:"message"`
		OrderID         string          `json:"orderId"`
		ItemID          string          `json:"itemId"`
		OrderedQuantity int64           `json:"orderedQuantity"`
	}
	type refused struct {
		Status daprhttp.Status `json:"status,omitempty"`
		Error  string          `json:"error"`
	}
	var o orderPlaced
	switch {
	case err == nil:
		o, err = parseOrderPlaced(body, isEvent)
	case !errors.Is(err, web.ErrBodyTooLarge): // which says nothing against the event
		h.logger.Printf("Failed to process OrderPlaced event: %v", err)
		web.WriteJSON(w, http.StatusInternalServerError, refused{daprhttp.StatusRetry, err.Error()})
		return
	}
	if err != nil {
		logRefused(h.logger, o, err)
		if isEvent {
			web.WriteJSON(w, http.StatusOK, refused{daprhttp.StatusDrop, err.Error()})
		} else {
			web.WriteJSON(w, badRequest(err), refused{Error: err.Error()})
		}
		return
	}

	counted := h.count(ctx, o)[0]
	if errors.Is(counted.Err, once.ErrFinal) && isEvent {
		logRefused(h.logger, o, counted.Err)
		web.WriteJSON(w, http.StatusOK, refused{daprhttp.StatusDrop, counted.Err.Error()})
		return
	}
	status := logResult(h.logger, o, counted)
	switch {
	case counted.Err != nil:
		web.WriteJSON(w, http.StatusInternalServerError, refused{status, counted.Err.Error()})
	case counted.Duplicate:
		web.WriteJSON(w, http.StatusOK, repeated{
			status, "OrderPlaced event had been processed already", o.OrderID, o.ItemID, o.Quantity,
		})
	default:
		web.WriteJSON(w, http.StatusOK, processed{
			status, "Inventory updated from OrderPlaced event",
			o.OrderID, o.ItemID, counted.Before, o.Quantity, counted.After,
		})
	}
}

// logResult logs what became of an order, and returns what that means for the
// event.
func logResult(logger *log.Logger, o orderPlaced, r once.Result[stock]) daprhttp.Status {
	switch {
	case r.Err != nil:
		logger.Printf("eventId=%q Failed to process OrderPlaced event. orderId=%s, itemId=%s: %v", o.EventID, o.OrderID, o.ItemID, r.Err)
		return daprhttp.StatusRetry
	case r.Duplicate:
		logger.Printf("eventId=%q OrderPlaced event had been processed already. orderId=%s, itemId=%s", o.EventID, o.OrderID, o.ItemID)
	default:
		logger.Printf("eventId=%q Processed OrderPlaced event. orderId=%s, itemId=%s, ordered=%d, remaining=%d",
			o.EventID, o.OrderID, o.ItemID, o.Quantity, r.After)
	}
	return daprhttp.StatusSuccess
}

// logRefused logs that an event can't be counted, however often it is delivered.
func logRefused(logger *log.Logger, o orderPlaced, why error) {
	logger.Printf("eventId=%q Refused OrderPlaced event. orderId=%s, itemId=%s: %v", o.EventID, o.OrderID, o.ItemID, why)
}
