package main

import (
	"errors"
	"net/http"
	"slices"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/once"
	"example.com/dapr-orders/daprhttp/web"
)

const (
	pubsubName      = "pubsub"
	retryPubsubName = "pubsub-retry"
	topic           = "OrderPlaced"
	retryTopic      = "OrderPlaced-retry"
	deadLetterTopic = "OrderPlaced-dead-letter"

	maxBodyBytes = 64 << 10
)

// A service is the inventory service.
type service struct {
	stocks       *once.Inbox[stock]
	sidecar      *daprhttp.Client
	appID        string            // its own Dapr app ID
	stockWriters []string          // app IDs of others that may set the stock
	appToken     string            // which the sidecar sends; empty for none
	bulk         bool              // the sidecar is asked to deliver many events with one request
	subscription map[string]string // metadata of what is subscribed to
	log          *web.Logger
	metrics      metrics
}

// handler returns all routes, behind the sidecar's token when there is one. The
// health check and the metrics need no token, so that anything that watches the
// process may ask.
func (s *service) handler() http.Handler {
	own := []string{s.appID}
	fromSidecar := func(h http.Handler) http.Handler { return daprhttp.RequireCaller(own, h) }

	app := http.NewServeMux()
	// "..." because an item ID may have slashes, and a sidecar that is asked to
	// invoke /inventory/a%2Fb asks for /inventory/a/b.
	app.HandleFunc("GET /inventory/{itemId...}", s.getStock)
	app.Handle("POST /inventory/{itemId...}", daprhttp.RequireCaller(append(own, s.stockWriters...), http.HandlerFunc(s.setStock)))
	app.Handle("GET /dapr/subscribe", fromSidecar(http.HandlerFunc(s.subscriptions)))
	app.Handle("POST /orders", fromSidecar(s.deliveries(false)))
	app.Handle("POST /orders/retry", fromSidecar(s.deliveries(true)))

	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.Handle("GET /metrics", s.metrics.all)
	mux.Handle("/", daprhttp.RequireAppToken(s.appToken, app))
	return web.RefuseOtherSites(mux)
}

// subscriptions tells the sidecar what to deliver, and how.
//
// A sidecar spends most of its time for an event on the request. It may be asked to
// deliver many with one, and to wait for more no longer than a millisecond, the least
// that it knows. It is not asked unless the user says so: a sidecar that is told to
// stop breaks off a bulk, and some of Dapr's pub/sub components (seen in 1.18.2)
// acknowledge to the broker what was broken off. An event that is delivered alone they
// do not; but of these a sidecar may take one for handled that it could not deliver,
// unless it is started with --app-max-concurrency 1. Nor is a sidecar asked that checks
// the app's health: when an app that has been unhealthy is well again, Dapr never ends
// the deliveries in bulk that were under way, and after enough of them delivers nothing
// more.
//
// A bulk is handled before the next is delivered. So what must be tried for long
// is moved to the retry topic, where it is delivered alone. That is a topic of a
// component of its own, so that its deliveries do not take the others' places; a
// sidecar that has not loaded it is not asked to deliver from it.
func (s *service) subscriptions(w http.ResponseWriter, r *http.Request) {
	orders := daprhttp.Subscription{
		PubsubName:      pubsubName,
		Topic:           topic,
		Route:           "orders",
		DeadLetterTopic: deadLetterTopic,
		Metadata:        s.subscription,
	}
	retries := daprhttp.Subscription{PubsubName: retryPubsubName, Topic: retryTopic, Route: "orders/retry", Metadata: s.subscription}
	metadata, err := s.sidecar.Metadata(r.Context())
	switch {
	case s.bulk && err != nil:
		s.log.Info("Events are delivered one by one: the sidecar does not say whether it checks the app's health", web.LogError, err)
	case s.bulk && metadata.AppConnection.Health != nil:
		s.log.Info("Events are delivered one by one, since the sidecar checks the app's health")
	case s.bulk:
		orders.BulkSubscribe = &daprhttp.BulkSubscribe{Enabled: true, MaxMessagesCount: 200, MaxAwaitDurationMs: 1}
	}
	subscriptions := []daprhttp.Subscription{orders}
	if err != nil || slices.ContainsFunc(metadata.Components, func(c daprhttp.Component) bool { return c.Name == retryPubsubName }) {
		subscriptions = append(subscriptions, retries)
	}
	daprhttp.SubscribeHandler(subscriptions...).ServeHTTP(w, r)
}

type stockResponse struct {
	ItemID   string `json:"itemId"`
	Quantity stock  `json:"quantity"`
}

// getStock answers with the stock of an item.
func (s *service) getStock(w http.ResponseWriter, r *http.Request) {
	itemID, ok := pathItemID(w, r)
	if !ok {
		return
	}
	quantity, err := s.stocks.Get(daprhttp.ContextWithTrace(r.Context(), r.Header), itemID)
	if err != nil {
		s.log.Info("Failed to read inventory quantity.", "itemId", itemID, web.LogError, err)
		web.WriteError(w, http.StatusInternalServerError, "Failed to read inventory quantity")
		return
	}
	web.WriteJSON(w, http.StatusOK, stockResponse{itemID, quantity})
}

// setStock sets the stock of an item.
func (s *service) setStock(w http.ResponseWriter, r *http.Request) {
	itemID, ok := pathItemID(w, r)
	if !ok {
		return
	}
	quantity, err := readQuantity(r)
	if err != nil {
		status := http.StatusBadRequest
		if errors.Is(err, web.ErrBodyTooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		web.WriteError(w, status, err.Error())
		return
	}
	if err := s.stocks.Set(daprhttp.ContextWithTrace(r.Context(), r.Header), itemID, stock(quantity)); err != nil {
		s.log.Info("Failed to save inventory quantity.", "itemId", itemID, "quantity", quantity, web.LogError, err)
		web.WriteError(w, http.StatusInternalServerError, "Failed to save inventory quantity")
		return
	}
	s.log.Info("Set inventory quantity.", "itemId", itemID, "quantity", quantity)
	web.WriteJSON(w, http.StatusOK, stockResponse{itemID, stock(quantity)})
}

// pathItemID returns the item ID in a request's path. When it is none, the
// request has its answer.
func pathItemID(w http.ResponseWriter, r *http.Request) (string, bool) {
	itemID := r.PathValue("itemId")
	if err := daprhttp.CheckKey(itemID); err != nil {
		web.WriteError(w, http.StatusBadRequest, "itemId "+err.Error())
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
