package e2e

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// checkLimits tries the page's limits, and compares those that take long with the code.
func checkLimits(s *harness.System) {
	t := s.T
	t.Helper()
	limits := make(map[string][]int64) // the numbers of each
	for _, row := range harness.TableOf(t, httpPage, "limit") {
		for _, digits := range regexp.MustCompile(`-?\d[\d,]*`).FindAllString(row[1], -1) {
			n, err := strconv.ParseInt(strings.ReplaceAll(digits, ",", ""), 10, 64)
			harness.Must(t, err)
			limits[row[0]] = append(limits[row[0]], n)
		}
	}
	order := func(orderID, itemID string, quantity int64) string {
		return fmt.Sprintf(`{"orderId":%q,"itemId":%q,"quantity":%d}`, orderID, itemID, quantity)
	}
	stock := func(quantity int64) string { return fmt.Sprintf(`{"quantity":%d}`, quantity) }
	padded := func(body string) func(int64) string {
		return func(length int64) string { return body + strings.Repeat(" ", int(length)-len(body)) }
	}
	text := func(length int64) string { return strings.Repeat("x", int(length)) }
	inventory := s.Inventory[0]
	const body, event = "body of `POST /order` and `POST /inventory/{itemId}`", "event at `POST /orders` and `POST /orders/retry`"
	const ids, quantity = "orderId, itemId and `Idempotency-Key`", "quantity of an order, and of a stock that is set"

	// The greatest value is accepted, and the next one is not.
	for _, try := range []struct {
		limit  string
		app    *stack.App
		path   string
		body   func(n int64) string
		beyond int // status
	}{
		{body, s.Order, "/order", padded(order("o", "a", 1)), 413},
		{body, inventory, "/inventory/a", padded(stock(1)), 413},
		{event, inventory, "/orders", padded(order("o", "a", 1)), 413},
		{event, inventory, "/orders/retry", padded(order("o", "a", 1)), 413},
		{ids, s.Order, "/order", func(n int64) string { return order(text(n), "a", 1) }, 400},
		{ids, s.Order, "/order", func(n int64) string { return order("o", text(n), 1) }, 400},
		{quantity, s.Order, "/order", func(n int64) string { return order("o", "b", n) }, 400},
		{quantity, inventory, "/inventory/c", stock, 400},
	} {
		if limits[try.limit] == nil {
			t.Fatalf("the page does not have the limit: %s", try.limit)
		}
		most := slices.Max(limits[try.limit])
		for n, want := range map[int64]int{most: 200, most + 1: try.beyond} {
			if a := s.Send("POST", try.app.URL(try.path), try.body(n), nil); a.Status != want {
				t.Errorf("%s, %d: POST %s: got %d %s, want %d", try.limit, n, try.path, a.Status, a.Body, want)
			}
		}
	}
	tooLong, delivered := padded("{}")(limits[event][0]+1), http.Header{"Content-Type": {harness.EventsJSON}}
	if a := s.Send("POST", inventory.URL("/orders"), tooLong, delivered); a.Status != 200 || !strings.Contains(a.Body, "too large") {
		t.Errorf("an event that is too long: got %d %s", a.Status, a.Body)
	}
	const least = "stock after an order"
	s.Send("POST", inventory.URL("/orders"), order("o", "never seen", -limits[least][0]), nil)
	if a := s.Send("POST", inventory.URL("/orders"), order("o", "never seen", 1), nil); a.Status != 500 {
		t.Errorf("an order below the least stock: got %d %s", a.Status, a.Body)
	}
	for _, name := range []string{body, event, ids, quantity, least} {
		delete(limits, name)
	}

	// The code has the other numbers.
	const times = "time for the header of a request, the whole request, request and answer, and between requests"
	const delivery = "time to apply a delivery, first and from the retry topic"
	for _, code := range []struct{ limit, file, text string }{
		{"delivery at `POST /letters/deliver`, which has the letter in base64", "daprhttp/deadletters/server.go", "maxLetterBytes = %d << 20"},
		{"headers of a request", "daprhttp/web/serve.go", "maxHeaderBytes = %d << 20"},
		{"connections of a program", "daprhttp/web/connections.go", "maxConnections = %d"},
		{times, "daprhttp/web/serve.go", "ReadHeaderTimeout: %d * time.Second"},
		{times, "daprhttp/web/serve.go", "ReadTimeout:       %d * time.Second"},
		{times, "daprhttp/web/serve.go", "WriteTimeout:      %d * time.Second"},
		{times, "daprhttp/web/serve.go", "IdleTimeout:       %d * time.Second"},
		{delivery, "inventory/events.go", "tryFor   = %d * time.Second"},
		{delivery, "inventory/events.go", "retryFor = %d * time.Second"},
		{"time to set a stock", "inventory/server.go", "setFor       = %d * time.Second"},
		{"time for a call to the sidecar", "daprhttp/client.go", "cmp.Or(c.Timeout, %d*time.Second)"},
		{"time for requests under way when the program ends", "daprhttp/web/serve.go", ", %d*time.Second)"},
		{"`error` in the answer to a delivery", "daprhttp/receive.go", "maxErrorText = %d "},
	} {
		numbers := limits[code.limit]
		if len(numbers) == 0 {
			t.Errorf("the page does not have the limit: %s", code.limit)
			continue
		}
		if want := fmt.Sprintf(code.text, numbers[0]); !strings.Contains(harness.Document(t, code.file), want) {
			t.Errorf("%s does not have %q", code.file, want)
		}
		limits[code.limit] = numbers[1:]
	}
	for limit, numbers := range limits {
		if len(numbers) > 0 {
			t.Errorf("no check for the limit: %s", limit)
		}
	}
}
