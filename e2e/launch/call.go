package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// A call is a request to a sidecar. A person may make the same call with curl.
type call struct{ method, url, body string }

// orderCall places an order. The body is what the order service gets.
func (s system) orderCall(body string) call {
	return call{http.MethodPost, fmt.Sprintf("http://localhost:%d/v1.0/invoke/%s/method/order", s.order.DaprPort, s.order.AppID), body}
}

// stockCall asks for the stock of an item.
func (s system) stockCall(itemID string) call {
	// The sidecar takes one layer of escapes off the path.
	escaped := url.PathEscape(strings.ReplaceAll(url.PathEscape(itemID), "+", "%2B"))
	return call{http.MethodGet, fmt.Sprintf("http://localhost:%d/v1.0/invoke/%s/method/inventory/%s", s.inventory.DaprPort, s.inventory.AppID, escaped), ""}
}

// setStockCall sets the stock of an item.
func (s system) setStockCall(itemID, body string) call {
	return call{http.MethodPost, s.stockCall(itemID).url, body}
}

// recordCall asks for the record of an item in the state store.
func (s system) recordCall(itemID string) call {
	escaped := strings.ReplaceAll(url.PathEscape(itemID), "+", "%2B")
	return call{http.MethodGet, fmt.Sprintf("http://localhost:%d/v1.0/state/statestore/%s", s.inventory.DaprPort, escaped), ""}
}

// curl returns the command with which a person makes the call. It names the sidecar's token,
// and does not show it.
func (s system) curl(c call) string {
	command := "curl"
	if c.method != http.MethodGet {
		command += " -X " + c.method
	}
	command += " " + c.url
	if s.daprAPIToken != "" {
		command += ` -H "dapr-api-token: $DAPR_API_TOKEN"`
	}
	if c.body != "" {
		command += ` -H "Content-Type: application/json" -d '` + strings.ReplaceAll(c.body, "'", `'\''`) + "'"
	}
	return command
}

// An answer is what a sidecar or a service has answered.
type answer struct {
	status int
	body   string
	etag   string
}

// do makes a call. The error says that there was no answer.
func (s system) do(ctx context.Context, c call) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, c.method, onIPv4(c.url), strings.NewReader(c.body))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("dapr-api-token", s.daprAPIToken)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return answer{resp.StatusCode, strings.TrimSpace(string(body)), resp.Header.Get("ETag")}, err
}

// onIPv4 returns a URL of this machine for programs. People read "localhost", which means ::1
// on some systems.
func onIPv4(url string) string { return strings.Replace(url, "localhost", "127.0.0.1", 1) }

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
