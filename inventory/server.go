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

const (
	pubsubName      = "pubsub"
	topic           = "OrderPlaced"
	deadLetterTopic = "OrderPlaced-dead-letter"

	maxBodyBytes = 64 << 10
)

// newServer returns the service: all its routes, behind the sidecar's token
// when there is one. The health check needs no token, so that anything that
// watches the process may ask.
func newServer(stocks *once.Inbox[stock], sidecar *daprhttp.Client, appToken string, logger *log.Logger) http.Handler {
	app := http.NewServeMux()
	// "..." because an item ID may have slashes, and a sidecar that is asked to
	// invoke /inventory/a%2Fb asks for /inventory/a/b.
	app.Handle("GET /inventory/{itemId...}", handleGetStock(stocks, logger))
	app.Handle("POST /inventory/{itemId...}", handleSetStock(stocks, logger))
	app.Handle("GET /dapr/subscribe", handleSubscribe(sidecar, logger))
	app.Handle("POST /orders", orderHandler{stocks, sidecar, logger})

	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.Handle("/", daprhttp.RequireAppToken(appToken, app))
	return mux
}

// handleSubscribe tells the sidecar what to deliver, and how.
//
// A sidecar spends most of its time for an event on the request, so it is asked
// to deliver many with one, and to wait for more no longer than a millisecond,
// the least that it knows. Not so a sidecar that checks the app's health: when an
// app that has been unhealthy is well again, Dapr 1.18 never ends the deliveries
// in bulk that were under way, and after enough of them delivers nothing more.
func handleSubscribe(sidecar *daprhttp.Client, logger *log.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		subscription := daprhttp.Subscription{
			PubsubName:      pubsubName,
			Topic:           topic,
			Route:           "orders",
			DeadLetterTopic: deadLetterTopic,
		}
		switch metadata, err := sidecar.Metadata(r.Context()); {
		case err != nil:
			logger.Printf("Events are delivered one by one: the sidecar does not say whether it checks the app's health: %v", err)
		case metadata.AppConnection.Health != nil:
			logger.Print("Events are delivered one by one, since the sidecar checks the app's health")
		default:
			subscription.BulkSubscribe = &daprhttp.BulkSubscribe{Enabled: true, MaxMessagesCount: 200, MaxAwaitDurationMs: 1}
		}
		daprhttp.SubscribeHandler(subscription).ServeHTTP(w, r)
	})
}

type stockResponse struct {
	ItemID   string `json:"itemId"`
	Quantity stock  `json:"quantity"`
}

type failure struct {
	Error string `json:"error"`
}

// handleGetStock answers with the stock of an item.
func handleGetStock(stocks *once.Inbox[stock], logger *log.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		itemID, ok := pathItemID(w, r)
		if !ok {
			return
		}
		quantity, err := stocks.Get(daprhttp.ContextWithTrace(r.Context(), r.Header), itemID)
		if err != nil {
			logger.Printf("Failed to read inventory quantity. itemId=%s: %v", itemID, err)
			web.WriteJSON(w, http.StatusInternalServerError, failure{"Failed to read inventory quantity"})
			return
		}
		web.WriteJSON(w, http.StatusOK, stockResponse{itemID, quantity})
	})
}

// handleSetStock sets the stock of an item.
func handleSetStock(stocks *once.Inbox[stock], logger *log.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		itemID, ok := pathItemID(w, r)
		if !ok {
			return
		}
		quantity, err := readQuantity(r)
		if err != nil {
			web.WriteJSON(w, badRequest(err), failure{err.Error()})
			return
		}
		if err := stocks.Set(daprhttp.ContextWithTrace(r.Context(), r.Header), itemID, stock(quantity)); err != nil {
			logger.Printf("Failed to save inventory quantity. itemId=%s, quantity=%d: %v", itemID, quantity, err)
			web.WriteJSON(w, http.StatusInternalServerError, failure{"Failed to save inventory quantity"})
			return
		}
		logger.Printf("Set inventory quantity. itemId=%s, quantity=%d", itemID, quantity)
		web.WriteJSON(w, http.StatusOK, stockResponse{itemID, stock(quantity)})
	})
}

// pathItemID returns the item ID in a request's path. When it is none, the
// request has its answer.
func pathItemID(w http.ResponseWriter, r *http.Request) (string, bool) {
	itemID := r.PathValue("itemId")
	if err := daprhttp.CheckKey(itemID); err != nil {
		web.WriteJSON(w, http.StatusBadRequest, failure{"itemId " + err.Error()})
		return "", false
	}
	return itemID, true
}

// readQuantity reads {"quantity":100}.
func readQuantity(r *http.Request) (int64, error) {
	body, err := web.ReadBody(r, maxBodyBytes)
	if err != nil {
		return 0, err
	}
	fields, err := web.DecodeObject(body)
	if err != nil {
		return 0, err
	}
	if !fields.Has("quantity") {
		return 0, errors.New("quantity is required: an integer from 0")
	}
	return fields.Integer("quantity")
}

// badRequest returns the status for a request that can't be read.
func badRequest(err error) int {
	if errors.Is(err, web.ErrBodyTooLarge) {
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusBadRequest
}

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

// readBulk reads a bulk delivery. What is no order is set aside at once, so that
// it need not be kept in memory.
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
			d.status = h.setAside(ctx, entry.Event, d.order, err)
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
				d.status = h.setAside(ctx, d.Event, d.order, result.Err)
			} else {
				d.status = logResult(logger, d.order, result)
			}
		}
		answer.Statuses[i] = daprhttp.BulkStatus{EntryID: d.EntryID, Status: d.status}
	}
	_, _ = h.logger.Writer().Write(lines.Bytes())
	web.WriteJSON(w, http.StatusOK, answer)
}

// setAside publishes an event that can't be counted to the dead-letter topic, as
// it came. Of a bulk, a sidecar can't be trusted to do it: see BulkResponse.
func (h orderHandler) setAside(ctx context.Context, event []byte, o orderPlaced, why error) daprhttp.Status {
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
