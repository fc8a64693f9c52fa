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

const (
	maxBodyBytes = 64 << 10
	setFor       = 5 * time.Second // how long the service tries to set a stock
)

// A service is the inventory service.
type service struct {
	stocks       *once.Inbox[stock]
	stuck        stuckItems
	sidecar      *daprhttp.Client
	appID        string            // the service's Dapr app ID
	appToken     string            // the token that the sidecar sends; empty: none
	subscription map[string]string // metadata of the subscriptions
	log          *slog.Logger
	metrics      metrics
}

// handler returns all routes. The health check and the metrics need no token: the programs
// that ask for them don't have it.
func (s *service) handler() (http.Handler, error) {
	app := http.NewServeMux()
	if err := s.subscribe(app); err != nil {
		return nil, err
	}
	// An item ID may have slashes: for an invocation of /inventory/a%2Fb, a sidecar
	// requests /inventory/a/b.
	app.HandleFunc("GET /inventory/{itemId...}", s.getStock)
	app.HandleFunc("POST /inventory/{itemId...}", s.setStock)
	app.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	app.Handle("GET /metrics", s.metrics.all)
	return web.LogRefused(s.log, web.RefuseOtherSites(daprhttp.RequireAppToken(s.appToken, s.whenSidecarStarts(app), "/healthz", "/metrics"))), nil
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
		s.log.Error("Failed to read inventory quantity.", "itemId", itemID, web.LogError, err)
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
		web.WriteBodyError(w, err)
		return
	}
	ctx, cancel := context.WithTimeout(daprhttp.ContextWithTrace(r.Context(), r.Header), setFor)
	defer cancel()
	if err := s.stocks.Set(ctx, itemID, stock(quantity)); err != nil {
		s.log.Error("Failed to save inventory quantity.", "itemId", itemID, "quantity", quantity, web.LogError, err)
		web.WriteError(w, http.StatusInternalServerError, "Failed to save inventory quantity")
		return
	}
	s.log.Info("Set inventory quantity.", "itemId", itemID, "quantity", quantity)
	web.WriteJSON(w, http.StatusOK, stockResponse{itemID, stock(quantity)})
}

// pathItemID returns the item ID in a request's path. When the ID breaks a rule, it
// answers the request and returns false.
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
	fields, err := web.ReadObject(r, maxBodyBytes)
	if err != nil {
		return 0, err
	}
	if !fields.Has("quantity") {
		return 0, errors.New("quantity is required: an integer from 0")
	}
	return fields.Integer("quantity", daprhttp.MaxInteger)
}
