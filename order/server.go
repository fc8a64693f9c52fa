package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/web"
)

const (
	pubsubName = "pubsub"
	topic      = "OrderPlaced"

	maxBodyBytes = 64 << 10
)

// A service is the order service.
type service struct {
	sidecar  *daprhttp.Client
	appToken string // empty: none
	log      *slog.Logger
	metrics  metrics
}

// metrics are the answer to GET /metrics.
type metrics struct {
	all *web.Metrics

	published, refused, failed *web.Counter
}

func newMetrics() metrics {
	all := new(web.Metrics)
	orders := func(outcome string) *web.Counter {
		return all.Counter(`order_requests_total{outcome="`+outcome+`"}`, "Requests to place an order, by outcome.")
	}
	return metrics{
		all:       all,
		published: orders("published"),
		refused:   orders("refused"), // not a valid order
		failed:    orders("failed"),  // not published by the sidecar
	}
}

// handler returns all routes. The health check and the metrics need no token: the programs
// that ask for them don't have it.
func (s *service) handler() http.Handler {
	app := http.NewServeMux()
	app.HandleFunc("POST /order", s.placeOrder)
	app.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	app.Handle("GET /metrics", s.metrics.all)
	return web.RefuseOtherSites(daprhttp.RequireAppToken(s.appToken, app, "/healthz", "/metrics"))
}

// placeOrder publishes the order in the request as an OrderPlaced event.
func (s *service) placeOrder(w http.ResponseWriter, r *http.Request) {
	type response struct {
		Message string `json:"message"`
		Event   order  `json:"event"`
	}
	type failure struct {
		Error   string `json:"error"`
		Details string `json:"details"`
	}
	o, eventID, err := readOrder(r)
	if err != nil {
		s.metrics.refused.Add(1)
		web.WriteBodyError(w, err)
		return
	}
	attributes := []any{
		web.LogEventID, eventID, web.LogTraceID, daprhttp.TraceID(r.Header.Get("traceparent")),
		"orderId", o.OrderID, "itemId", o.ItemID, "quantity", o.Quantity,
	}
	if err := s.publish(daprhttp.ContextWithTrace(r.Context(), r.Header), o, eventID); err != nil {
		s.metrics.failed.Add(1)
		s.log.Error("Failed to publish OrderPlaced event.", append(attributes, web.LogError, err)...)
		web.WriteJSON(w, http.StatusInternalServerError, failure{"Failed to publish OrderPlaced event", err.Error()})
		return
	}
	s.metrics.published.Add(1)
	s.log.Info("Published OrderPlaced event.", attributes...)
	web.WriteJSON(w, http.StatusOK, response{"OrderPlaced event published", o})
}

// publish publishes an order. A broker with partitions keeps the orders of one item in
// sequence.
func (s *service) publish(ctx context.Context, o order, eventID string) error {
	data, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return s.sidecar.Publish(ctx, pubsubName, topic, daprhttp.Message{Data: data, ID: eventID, Type: topic, PartitionKey: o.ItemID})
}

// readOrder returns the order in a request and the id of its event.
func readOrder(r *http.Request) (o order, id string, err error) {
	fields, err := web.ReadObject(r, maxBodyBytes)
	if err != nil {
		return order{}, "", err
	}
	if o, err = parseOrder(fields); err != nil {
		return order{}, "", err
	}
	id, err = eventID(r.Header, o)
	return o, id, err
}
