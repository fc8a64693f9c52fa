package e2e

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// numbers returns the integers in a text, such as 65,536.
func numbers(t *testing.T, text string) (all []int64) {
	t.Helper()
	for _, digits := range regexp.MustCompile(`-?\d[\d,]*\d|\d`).FindAllString(text, -1) {
		n, err := strconv.ParseInt(strings.ReplaceAll(digits, ",", ""), 10, 64)
		harness.Must(t, err)
		all = append(all, n)
	}
	return all
}

// checkLimits tries the page's limits, and compares those that take long with the code.
func checkLimits(s *harness.System) {
	t := s.T
	t.Helper()
	order := func(orderID, itemID, quantity string) string {
		return fmt.Sprintf(`{"orderId":%s,"itemId":%s,"quantity":%s}`, orderID, itemID, quantity)
	}
	// answers sends a request and compares the status.
	answers := func(want int, app *stack.App, path, body string, header http.Header) string {
		t.Helper()
		a := s.Send("POST", app.URL(path), body, header)
		if a.Status != want {
			t.Errorf("POST %s %.100s %.100v: got %d %s, want %d", path, body, header, a.Status, a.Body, want)
		}
		return a.Body
	}
	padded := func(body string, length int64) string { return body + strings.Repeat(" ", int(length)-len(body)) }
	says := func(file, format string, values ...any) {
		t.Helper()
		if want := fmt.Sprintf(format, values...); !strings.Contains(harness.Document(t, file), want) {
			t.Errorf("%s does not have %q", file, want)
		}
	}
	inventory := s.Inventory[0]
	delivery := http.Header{"Content-Type": {"application/cloudevents+json"}}
	checks := map[string]func(value string, n []int64){
		"body of `POST /order` and `POST /inventory/{itemId}`": func(_ string, n []int64) {
			answers(200, s.Order, "/order", padded(order(`"o"`, `"a"`, "1"), n[0]), nil)
			answers(413, s.Order, "/order", padded(order(`"o"`, `"a"`, "1"), n[0]+1), nil)
			answers(200, inventory, "/inventory/a", padded(`{"quantity":1}`, n[0]), nil)
			answers(413, inventory, "/inventory/a", padded(`{"quantity":1}`, n[0]+1), nil)
		},
		"event at `POST /orders` and `POST /orders/retry`": func(_ string, n []int64) {
			for _, path := range []string{"/orders", "/orders/retry"} {
				answers(200, inventory, path, padded(order(`"o"`, `"a"`, "1"), n[0]), nil)
				answers(413, inventory, path, padded(order(`"o"`, `"a"`, "1"), n[0]+1), nil)
				if got := answers(200, inventory, path, padded(`{}`, n[0]+1), delivery); !strings.Contains(got, fmt.Sprint("longer than ", n[0], " bytes")) {
					t.Errorf("an event that is too long: got %s", got)
				}
			}
		},
		"letter at `POST /letters/deliver`": func(_ string, n []int64) {
			says("daprhttp/deadletters/server.go", "maxLetterBytes = %d << 20", n[0])
		},
		"orderId, itemId and `Idempotency-Key`": func(value string, n []int64) {
			id := func(length int64) string { return strings.Repeat("x", int(length)) }
			for id, status := range map[string]int{id(n[0]): 200, id(n[1]): 200, id(n[1] + 1): 400, "a\u0085b": 400, code(value)[0]: 400, code(value)[1]: 400, code(value)[2]: 400, "\xff": 400} {
				quoted := `"` + id + `"` // as it is, valid or not
				answers(status, s.Order, "/order", order(quoted, `"a"`, "1"), nil)
				answers(status, s.Order, "/order", order(`"o"`, quoted, "1"), nil)
				answers(status, s.Order, "/order", order(`"o"`, `"a"`, "1"), http.Header{"Idempotency-Key": {id}})
			}
		},
		"quantity of an order, and of a stock that is set": func(_ string, n []int64) {
			for quantity, status := range map[int64]int{n[0] - 1: 400, n[0]: 200, n[2]: 200, n[2] + 1: 400} {
				answers(status, s.Order, "/order", order(`"o"`, `"b"`, strconv.FormatInt(quantity, 10)), nil)
			}
			for quantity, status := range map[int64]int{n[1] - 1: 400, n[1]: 200, n[2]: 200, n[2] + 1: 400} {
				answers(status, inventory, "/inventory/c", fmt.Sprintf(`{"quantity":%d}`, quantity), nil)
			}
		},
		"stock after an order": func(_ string, n []int64) {
			answers(200, inventory, "/orders", order(`"o"`, `"never seen"`, strconv.FormatInt(-n[0], 10)), nil)
			answers(500, inventory, "/orders", order(`"o"`, `"never seen"`, "1"), nil)
		},
		"headers of a request": func(_ string, n []int64) { says("daprhttp/web/serve.go", "maxHeaderBytes = %d << 20", n[0]) },
		"connections of a program": func(_ string, n []int64) {
			says("daprhttp/web/connections.go", "maxConnections = %d", n[0])
		},
		"time for the header of a request, the whole request, request and answer, and between requests": func(_ string, n []int64) {
			says("daprhttp/web/serve.go", "ReadHeaderTimeout: %d * time.Second", n[0])
			says("daprhttp/web/serve.go", "ReadTimeout:       %d * time.Second", n[1])
			says("daprhttp/web/serve.go", "WriteTimeout:      %d * time.Second", n[2])
			says("daprhttp/web/serve.go", "IdleTimeout:       %d * time.Second", n[3])
		},
		"time to apply a delivery, first and from the retry topic": func(_ string, n []int64) {
			says("inventory/events.go", "tryFor   = %d * time.Second", n[0])
			says("inventory/events.go", "retryFor = %d * time.Second", n[1])
		},
		"time to set a stock":            func(_ string, n []int64) { says("inventory/server.go", "setFor       = %d * time.Second", n[0]) },
		"time for a call of the sidecar": func(_ string, n []int64) { says("daprhttp/client.go", "cmp.Or(c.Timeout, %d*time.Second)", n[0]) },
		"time for requests under way when the program ends": func(_ string, n []int64) {
			for _, program := range stack.Services {
				says(program.Folder+"/main.go", "web.Serve(ctx, ln, %s, %d*time.Second)", map[bool]string{true: "s.handler()", false: "handler"}[program == stack.Order], n[0])
			}
		},
		"`error` in the answer to a delivery": func(_ string, n []int64) {
			says("daprhttp/receive.go", "maxErrorText = %d ", n[0])
		},
	}
	for _, row := range tableOf(t, httpPage, "limit") {
		check := checks[row[0]]
		if check == nil {
			t.Errorf("no check for the limit: %s", row[0])
			continue
		}
		check(row[1], numbers(t, row[1]))
		delete(checks, row[0])
	}
	for limit := range checks {
		t.Errorf("the page does not have the limit: %s", limit)
	}
}
