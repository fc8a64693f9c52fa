package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// A row is one row of the contract: a request and its answer.
type row struct {
	name         string
	app          *stack.App
	method, path string
	contentType  string
	body         string
	wantStatus   int
	want         string // JSON; fields of an object that it does not name may be there too
}

func check(s *harness.System, rows []row) {
	for _, r := range rows {
		s.T.Run(r.name, func(t *testing.T) {
			a := s.Invoke(r.app, r.method, r.path, r.contentType, r.body)
			if a.Status != r.wantStatus {
				t.Errorf("%s %s %s: got status %d, want %d", r.method, r.path, r.body, a.Status, r.wantStatus)
			}
			if diff := diffJSON(r.want, a.Body); diff != "" {
				t.Errorf("%s %s %s: (-want +got)\n%s", r.method, r.path, r.body, diff)
			}
		})
	}
}

// diffJSON compares two JSON texts. Fields that want does not name may be there
// or not, and "*" stands for any text that is not empty.
func diffJSON(want, got string) string {
	var w, g any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		panic(err)
	}
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		return "not JSON: " + got
	}
	return cmp.Diff(w, reduce(w, g))
}

// reduce takes out of got what want leaves open.
func reduce(want, got any) any {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return got
		}
		reduced := make(map[string]any)
		for name := range w {
			if value, ok := g[name]; ok {
				reduced[name] = reduce(w[name], value)
			}
		}
		return reduced
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return got
		}
		reduced := make([]any, len(g))
		for i := range g {
			reduced[i] = reduce(w[i], g[i])
		}
		return reduced
	case string:
		if text, ok := got.(string); ok && w == "*" && text != "" {
			return "*"
		}
	}
	return got
}

func TestContractThroughTheSidecars(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{Tokens: true})
	order, inventory := s.Order, s.Inventory[0]
	event := `{"specversion":"1.0","id":"e1","source":"test","type":"OrderPlaced","data":{"orderId":"order-1001","itemId":"item2","quantity":10}}`
	check(s, []row{
		{"an item never seen has 0", inventory, "GET", "/inventory/item1", "", "", 200, `{"itemId":"item1","quantity":0}`},
		{"set the stock", inventory, "POST", "/inventory/item1", harness.PlainJSON, `{"quantity":100}`, 200, `{"itemId":"item1","quantity":100}`},
		{"get the stock", inventory, "GET", "/inventory/item1", "", "", 200, `{"itemId":"item1","quantity":100}`},
		{"set the stock to 0", inventory, "POST", "/inventory/item0", harness.PlainJSON, `{"quantity":0}`, 200, `{"itemId":"item0","quantity":0}`},
		{"a stock that is none", inventory, "POST", "/inventory/item1", harness.PlainJSON, `{"quantity":-1}`, 400, `{"error":"*"}`},

		{"place an order", order, "POST", "/order", harness.PlainJSON, `{"orderId":"order-1001","itemId":"item1","quantity":10}`, 200,
			`{"message":"OrderPlaced event published","event":{"orderId":"order-1001","itemId":"item1","quantity":10}}`},
		{"an incomplete order", order, "POST", "/order", harness.PlainJSON, `{"orderId":"order-1001","quantity":10}`, 400,
			`{"error":"orderId, itemId, and quantity are required"}`},
		{"an order of nothing", order, "POST", "/order", harness.PlainJSON, `{"orderId":"order-1001","itemId":"item1","quantity":0}`, 400,
			`{"error":"orderId, itemId, and quantity are required"}`},
		{"no order at all", order, "POST", "/order", harness.PlainJSON, `{"orderId":`, 400, `{"error":"*"}`},
		{"an order too large", order, "POST", "/order", harness.PlainJSON, strings.Repeat(" ", 1<<20), 413, `{"error":"*"}`},

		{"subscriptions", inventory, "GET", "/dapr/subscribe", "", "", 200,
			`[{"pubsubname":"pubsub","topic":"OrderPlaced","route":"orders","deadLetterTopic":"*"},
			  {"pubsubname":"pubsub-retry","topic":"OrderPlaced-retry","route":"orders/retry"}]`},
		{"stock for what is delivered", inventory, "POST", "/inventory/item2", harness.PlainJSON, `{"quantity":100}`, 200, `{"itemId":"item2","quantity":100}`},
		{"an event", inventory, "POST", "/orders", harness.EventsJSON, event, 200,
			`{"status":"SUCCESS","message":"Inventory updated from OrderPlaced event","orderId":"order-1001","itemId":"item2",
			  "previousQuantity":100,"orderedQuantity":10,"remainingQuantity":90}`},
		{"the event again", inventory, "POST", "/orders", harness.EventsJSON, event, 200,
			`{"status":"SUCCESS","message":"OrderPlaced event had been processed already","orderId":"order-1001","itemId":"item2"}`},
		{"the event again, by hand", inventory, "POST", "/orders", harness.PlainJSON, event, 200, `{"status":"SUCCESS","message":"OrderPlaced event had been processed already"}`},
		{"a bare order", inventory, "POST", "/orders", harness.PlainJSON, `{"orderId":"order-1002","itemId":"item2","quantity":1}`, 200,
			`{"status":"SUCCESS","previousQuantity":90,"orderedQuantity":1,"remainingQuantity":89}`},
		{"a bare order again is another", inventory, "POST", "/orders", harness.PlainJSON, `{"orderId":"order-1002","itemId":"item2","quantity":1}`, 200,
			`{"status":"SUCCESS","previousQuantity":89,"orderedQuantity":1,"remainingQuantity":88}`},
		{"an order without an ID", inventory, "POST", "/orders", harness.PlainJSON, `{"itemId":"item2","quantity":1}`, 200, `{"orderId":"unknown","remainingQuantity":87}`},
		{"more than there is", inventory, "POST", "/orders", harness.PlainJSON, `{"orderId":"order-1003","itemId":"item2","quantity":100}`, 200, `{"remainingQuantity":-13}`},
		{"an unusable order", inventory, "POST", "/orders", harness.PlainJSON, `{"orderId":"order-1001","quantity":10}`, 400, `{"error":"OrderPlaced event is missing itemId"}`},
		{"an unusable event", inventory, "POST", "/orders", harness.EventsJSON, `{"specversion":"1.0","id":"e2","source":"test","type":"OrderPlaced","data":{"orderId":"order-1001","quantity":10}}`, 200,
			`{"status":"SUCCESS","error":"OrderPlaced event is missing itemId"}`},
		{"an event without an ID", inventory, "POST", "/orders", harness.EventsJSON, `{"specversion":"1.0","source":"test","type":"OrderPlaced","data":{"orderId":"o","itemId":"item2","quantity":10}}`, 200,
			`{"status":"SUCCESS","error":"*"}`},
		{"an event too large", inventory, "POST", "/orders", harness.EventsJSON, `{"data":"` + strings.Repeat("x", 1<<20) + `"}`, 200, `{"status":"SUCCESS","error":"*"}`},
		{"a bare order too large", inventory, "POST", "/orders", harness.PlainJSON, `{"x":"` + strings.Repeat("x", 1<<20) + `"}`, 413, `{"error":"*"}`},
	})
	s.WaitForStock("item1", 90)
	s.WaitForStock("item2", -13)
	const line = "Processed OrderPlaced event. orderId=order-1001, itemId=item1, ordered=10, remaining=90\n"
	if log := inventory.Service.Log(); !strings.Contains(log, line) {
		t.Errorf("the log has no line %q:\n%s", line, log)
	}

	// Who comes without the sidecar's token is sent away; anyone may ask for health.
	for _, app := range []*stack.App{order, inventory} {
		for path, want := range map[string]int{"/healthz": 200, "/order": 401, "/orders": 401, "/dapr/subscribe": 401, "/inventory/item1": 401} {
			a := s.Send("GET", app.URL(path), "", http.Header{"Dapr-Api-Token": {"a wrong one"}})
			if a.Status != want {
				t.Errorf("GET %s of %s with a wrong token: got %d, want %d", path, app.ID, a.Status, want)
			}
		}
	}
}

// without starts a service beside a sidecar that lacks a component file.
func without(s *harness.System, component string, service stack.Service) *stack.App {
	s.T.Helper()
	o := harness.Project.App(service)
	o.Resources = s.T.TempDir()
	harness.Must(s.T, stack.WriteComponents(filepath.Join(harness.Project.Root, "components", "redis"), o.Resources, s.Broker, s.State))
	harness.Must(s.T, os.Remove(filepath.Join(o.Resources, component)))
	return s.StartApp(o)
}

// Sidecars without the component that a service needs stand for all that a
// sidecar may refuse.
func TestContractWhenTheSidecarRefuses(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{})
	order := without(s, "pubsub.yaml", stack.Order)
	inventory := without(s, "statestore.yaml", stack.Inventory)
	check(s, []row{
		{"publish", order, "POST", "/order", harness.PlainJSON, `{"orderId":"order-1001","itemId":"item1","quantity":10}`, 500,
			`{"error":"Failed to publish OrderPlaced event","details":"*"}`},
		{"read the stock", inventory, "GET", "/inventory/item1", "", "", 500, `{"error":"*"}`},
		{"save the stock", inventory, "POST", "/inventory/item1", harness.PlainJSON, `{"quantity":1}`, 500, `{"error":"Failed to save inventory quantity"}`},
		{"move an event that can't be applied now", inventory, "POST", "/orders", harness.EventsJSON,
			`{"specversion":"1.0","id":"e1","source":"test","type":"OrderPlaced","data":{"orderId":"o","itemId":"item1","quantity":1}}`, 200,
			`{"status":"SUCCESS","error":"*"}`},
	})
}

// Legal IDs that make trouble elsewhere go through everything unchanged: order,
// event, state and query.
func promiseUnusualIDs(t *testing.T, b stack.Backend) string {
	s := harness.Start(t, harness.Options{Backend: b, Admit: "audit-service=OrderPlaced"})
	audit := s.Subscribe("audit-service", "OrderPlaced")
	ids := []string{
		"a/b", "/", "a b", " ", "100%", "%2F", "%", "📦", "ünï/cöde", "a?b=c&d#e", "a+b", `a"b\c`, "<i>", "~", "~~", "...", "a..b", "|", "a|b|c",
		strings.Repeat("x", 256), strings.Repeat("é", 128), "\uFFFD", "null", "0",
	}
	for i, id := range ids {
		escaped := url.PathEscape(id)
		if a := s.Send("POST", s.Inventory[0].URL("/inventory/"+escaped), `{"quantity":100}`, nil); a.Status != 200 {
			t.Errorf("POST /inventory/%s: got %d %s, want 200", escaped, a.Status, a.Body)
		}
		s.Place("order "+id[:min(len(id), 200)], id, i+1)
	}
	for i, id := range ids {
		want := `{"itemId":` + harness.Quote(id) + `,"quantity":` + strconv.Itoa(100-i-1) + `}`
		harness.WaitFor(t, time.Minute, func() error {
			a, err := s.TrySend("GET", s.Inventory[0].URL("/inventory/"+url.PathEscape(id)), "", nil)
			if err == nil && a.Body != want {
				err = fmt.Errorf("got %s, want %s", a.Body, want)
			}
			return err
		})
		// A sidecar that is asked to invoke a method takes one layer of escapes off.
		a := s.Invoke(s.Inventory[0], "GET", "/inventory/"+url.PathEscape(url.PathEscape(id)), "", "")
		if a.Body != want {
			t.Errorf("invoking GET /inventory/%s: got %d %s, want %s", url.PathEscape(id), a.Status, a.Body, want)
		}
	}
	s.Drained("audit-service")
	seen := make(map[string]bool)
	for _, event := range audit.Events() {
		var order struct{ ItemID string }
		if err := json.Unmarshal(event.Data, &order); err != nil {
			t.Error(err)
		}
		seen[order.ItemID] = true
	}
	for _, id := range ids {
		if !seen[id] {
			t.Errorf("no event has the item ID %q", id)
		}
	}
	return fmt.Sprintf("%d of %d", len(seen), len(ids))
}

// What another program has left in the state store, as a bare number, is a stock.
func TestBareNumberInTheStoreIsAStock(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{})
	err := s.Sidecar(s.Inventory[0]).SaveState(t.Context(), "statestore", daprhttp.StateItem{Key: "item1", Value: 100})
	if err != nil {
		t.Fatal(err)
	}
	s.WaitForStock("item1", 100)
	s.Place("order-1001", "item1", 10)
	s.WaitForStock("item1", 90)
}
