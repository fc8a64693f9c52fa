package e2e

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// Unusual IDs pass through the order, the event, the state store and the query unchanged. A
// second subscriber receives each event, too.
func promiseUnusualIDs(t *testing.T, b stack.Backend) string {
	s := harness.Start(t, harness.Options{Backend: b, Admit: "audit-service=OrderPlaced"})
	audit := s.Subscribe("audit-service", "OrderPlaced")
	ids := []string{
		"a/b", "/", "a//b", "a/../b", "a b", " ", "100%", "%2F", "%", "📦", "ünï/cöde", "a?b=c&d#e", "a+b", `a"b\c`, "<i>", "~", "~~", "...", "a..b", "|", "a|b|c",
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
		check := func(a harness.Answer) error {
			var got struct {
				ItemID   string
				Quantity int
			}
			if err := json.Unmarshal([]byte(a.Body), &got); err != nil || got.ItemID != id || got.Quantity != 100-i-1 {
				return fmt.Errorf("GET /inventory/{itemId} of %q: got %d %s, want a quantity of %d", id, a.Status, a.Body, 100-i-1)
			}
			return nil
		}
		harness.WaitFor(t, time.Minute, func() error {
			return check(s.Send("GET", s.Inventory[0].URL("/inventory/"+url.PathEscape(id)), "", nil))
		})
		// A sidecar removes one layer of escapes from the path that it invokes.
		if err := check(s.Invoke(s.Inventory[0], "GET", "/inventory/"+url.PathEscape(url.PathEscape(id)), "", "")); err != nil {
			t.Errorf("through the sidecar: %v", err)
		}
	}
	s.Drained("audit-service")
	seen := make(map[string]bool)
	for _, event := range audit.Events() {
		var order struct{ ItemID string }
		if err := json.Unmarshal(event.Data, &order); err != nil || event.Source != s.Order.ID || event.Type != "OrderPlaced" {
			t.Errorf("the event is %+v, %v", event, err)
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
