package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// placeOrder stocks item1 with 100, orders 10 and waits until 90 are left, all of it
// through the sidecars. It shows each request as a person would type it.
func (s system) placeOrder(ctx context.Context, out *console) error {
	c := caller{ctx, s.daprAPIToken, out}
	stock := fmt.Sprintf("http://localhost:%d/v1.0/invoke/%s/method/inventory/item1", s.inventory.DaprPort, s.inventory.AppID)
	if _, err := c.show("POST", stock, `{"quantity": 100}`); err != nil {
		return err
	}
	if _, err := c.show("POST", fmt.Sprintf("http://localhost:%d/v1.0/invoke/%s/method/order", s.order.DaprPort, s.order.AppID),
		`{"orderId": "order-1001", "itemId": "item1", "quantity": 10}`); err != nil {
		return err
	}
	if err := c.waitForStock(stock, 90); err != nil {
		return err
	}
	_, err := c.show("GET", stock, "")
	return err
}

type caller struct {
	ctx   context.Context
	token string // which the sidecars demand
	out   *console
}

// show prints a request as a curl command, carries it out, and prints the answer.
func (c caller) show(method, url, body string) (string, error) {
	command := "curl"
	if method != http.MethodGet {
		command += " -X " + method
	}
	command += " " + url
	if c.token != "" {
		command += ` -H "dapr-api-token: $DAPR_API_TOKEN"`
	}
	if body != "" {
		command += ` -H "Content-Type: application/json" -d '` + body + "'"
	}
	c.out.printf("\n$ %s", command)
	answer, err := c.do(method, url, body)
	if err != nil {
		return "", err
	}
	c.out.printf("%s", answer)
	return answer, nil
}

func (c caller) do(method, url, body string) (string, error) {
	// "localhost" is for people; some systems would take it for ::1.
	target := strings.Replace(url, "localhost", "127.0.0.1", 1)
	req, err := http.NewRequestWithContext(c.ctx, method, target, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	if c.token != "" {
		req.Header.Set("dapr-api-token", c.token)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s answered %s: %s", method, url, resp.Status, answer)
	}
	return strings.TrimSpace(string(answer)), err
}

// waitForStock waits until the stock is as expected: a published event takes a
// moment to get there.
func (c caller) waitForStock(url string, want int64) error {
	deadline := time.Now().Add(15 * time.Second)
	for {
		answer, err := c.do(http.MethodGet, url, "")
		if err != nil {
			return err
		}
		var stock struct{ Quantity int64 }
		if err := json.Unmarshal([]byte(answer), &stock); err != nil {
			return err
		}
		if stock.Quantity == want {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the stock of item1 is %d and not %d: has another program on this Redis ordered item1 too?", stock.Quantity, want)
		}
		select {
		case <-c.ctx.Done():
			return c.ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
