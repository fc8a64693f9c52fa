package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// A call is a request to a sidecar, which a person may type, too.
type call struct {
	method, url, body string
	idempotencyKey    string
}

// orderCall places an order. The body is what the order service gets.
func (s system) orderCall(body string) call {
	return call{method: http.MethodPost, body: body,
		url: fmt.Sprintf("http://localhost:%d/v1.0/invoke/%s/method/order", s.order.DaprPort, s.order.AppID)}
}

// stockCall asks for the stock of an item.
func (s system) stockCall(itemID string) call {
	// The sidecar takes one layer of escapes off the path.
	escaped := url.PathEscape(strings.ReplaceAll(url.PathEscape(itemID), "+", "%2B"))
	return call{method: http.MethodGet,
		url: fmt.Sprintf("http://localhost:%d/v1.0/invoke/%s/method/inventory/%s", s.inventory.DaprPort, s.inventory.AppID, escaped)}
}

// setStockCall sets the stock of an item.
func (s system) setStockCall(itemID, body string) call {
	c := s.stockCall(itemID)
	c.method, c.body = http.MethodPost, body
	return c
}

// recordCall asks for the record of an item in the state store.
func (s system) recordCall(itemID string) call {
	return call{method: http.MethodGet, url: fmt.Sprintf("http://localhost:%d/v1.0/state/statestore/%s",
		s.inventory.DaprPort, strings.ReplaceAll(url.PathEscape(itemID), "+", "%2B"))}
}

// curl returns the command with which a person makes the call. It names the token that
// the sidecar demands, and does not show it.
func (s system) curl(c call) string {
	command := "curl"
	if c.method != http.MethodGet {
		command += " -X " + c.method
	}
	command += " " + c.url
	if s.daprAPIToken != "" {
		command += ` -H "dapr-api-token: $DAPR_API_TOKEN"`
	}
	if c.idempotencyKey != "" {
		command += " -H " + quoted("Idempotency-Key: "+c.idempotencyKey)
	}
	if c.body != "" {
		command += ` -H "Content-Type: application/json" -d ` + quoted(c.body)
	}
	return command
}

// quoted returns a word of a shell's command.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// An answer is what a sidecar or a service has answered.
type answer struct {
	status int
	body   string
	etag   string
}

// do makes a call. The error says that there was no answer.
func (s system) do(ctx context.Context, c call) (answer, error) {
	// "localhost" is for people; some systems would take it for ::1.
	target := strings.Replace(c.url, "localhost", "127.0.0.1", 1)
	req, err := http.NewRequestWithContext(ctx, c.method, target, strings.NewReader(c.body))
	if err != nil {
		return answer{}, err
	}
	if s.daprAPIToken != "" {
		req.Header.Set("dapr-api-token", s.daprAPIToken)
	}
	if c.idempotencyKey != "" {
		req.Header.Set("Idempotency-Key", c.idempotencyKey)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return answer{resp.StatusCode, strings.TrimSpace(string(body)), resp.Header.Get("ETag")}, err
}

// stock returns the stock of an item.
func (s system) stock(ctx context.Context, itemID string) (int64, error) {
	c := s.stockCall(itemID)
	a, err := s.do(ctx, c)
	if err != nil {
		return 0, err
	}
	var stock struct{ Quantity *int64 }
	if err := json.Unmarshal([]byte(a.body), &stock); err != nil || stock.Quantity == nil {
		return 0, fmt.Errorf("GET %s answered %d: %s", c.url, a.status, a.body)
	}
	return *stock.Quantity, nil
}

// A load places many orders, each until it is accepted.
type load struct {
	system  system
	pending atomic.Int64 // orders that are not accepted yet
}

const (
	loadOrders  = 500
	loadRate    = 50   // orders a second
	loadPending = 2000 // at the most

	// A request that gets no answer is sent again.
	loadPatience = 5 * time.Second
	loadPause    = 500 * time.Millisecond
)

// place places so many orders for one piece of an item, and returns when all are
// accepted, or when ctx ends. What is refused or gets no answer is sent again with the
// same Idempotency-Key, as a careful client does: so it counts once.
func (l *load) place(ctx context.Context, name, itemID string, orders int) {
	every := time.NewTicker(time.Second / loadRate)
	defer every.Stop()
	for i := range orders {
		body, err := json.Marshal(struct {
			OrderID  string `json:"orderId"`
			ItemID   string `json:"itemId"`
			Quantity int    `json:"quantity"`
		}{fmt.Sprintf("%s-%d", name, i+1), itemID, 1})
		if err != nil {
			return
		}
		c := l.system.orderCall(string(body))
		c.idempotencyKey = fmt.Sprintf("%s-%d", name, i+1)
		go func() {
			defer l.pending.Add(-1)
			l.untilAccepted(ctx, c)
		}()
		select {
		case <-every.C:
		case <-ctx.Done():
			l.pending.Add(int64(i + 1 - orders)) // those that are not even begun
			return
		}
	}
}

func (l *load) untilAccepted(ctx context.Context, c call) {
	for {
		attempt, cancel := context.WithTimeout(ctx, loadPatience)
		a, err := l.system.do(attempt, c)
		cancel()
		switch {
		case err == nil && a.status == http.StatusOK && a.body != "": // a sidecar may say 200 for a service that has died
			return
		case err == nil && a.status == http.StatusBadRequest: // nor would it be accepted later
			return
		}
		select {
		case <-time.After(loadPause):
		case <-ctx.Done():
			return
		}
	}
}
