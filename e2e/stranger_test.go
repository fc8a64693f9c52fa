package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// A sidecar puts its app's token on every service invocation, whoever calls, and a caller can
// hide its name. So the Configuration has the sidecar refuse other apps. Only the order
// service may be called.
func TestStrangersInTheMeshAreDenied(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{Mesh: true, Tokens: true})
	s.SetStock("item1", 100)
	inventory := s.Inventory[0]
	deadLetters := s.StartDeadLetters("serve", harness.DeadLetterTopic, "OrderPlaced")
	s.Publish(s.Order, "OrderPlaced", daprhttp.Message{Data: []byte(`{"orderId":"poison","itemId":"item1","quantity":"many"}`)})
	letters := func() string { return s.Send("GET", deadLetters.URL("/letters"), "", nil).Body }
	harness.WaitFor(t, time.Minute, func() error {
		if !strings.Contains(letters(), `"id"`) {
			return fmt.Errorf("the dead letter has not come: %s", letters())
		}
		return nil
	})
	stranger := s.Serve("stranger", http.NewServeMux())

	order := `{"orderId":"forged","itemId":"item1","quantity":50}`
	event := `{"specversion":"1.0","id":"forged","source":"order-service","type":"OrderPlaced","data":` + order + `}`
	type request struct{ method, path, contentType, body string }
	forgeries := map[*stack.App][]request{
		inventory: {
			{"POST", "/orders", harness.EventsJSON, event},
			{"POST", "/orders", harness.PlainJSON, order},
			{"POST", "/orders/retry", harness.EventsJSON, event},
			{"POST", "/inventory/item1", harness.PlainJSON, `{"quantity":1}`},
			{"GET", "/inventory/item1", "", ""},
			{"GET", "/dapr/subscribe", "", ""},
			{"GET", "/healthz", "", ""},
		},
		deadLetters: {
			{"GET", "/letters", "", ""},
			{"POST", "/letters/all/send", "", ""},
			{"DELETE", "/letters/all", "", ""},
			{"POST", "/letters/deliver", harness.EventsJSON, event},
			{"GET", "/dapr/subscribe", "", ""},
		},
	}
	kept := letters()
	for to, requests := range forgeries {
		for caller, from := range map[string]*stack.App{"a stranger": stranger, "the order service": s.Order} {
			harness.WaitFor(t, time.Minute, func() error { // until the sidecars know each other
				if a := s.InvokeFrom(from, to, "GET", "/healthz", "", "", nil); a.Status != 403 {
					return fmt.Errorf("%s asks %s: got %d %s, want 403", caller, to.ID, a.Status, a.Body)
				}
				return nil
			})
			for _, r := range requests {
				for _, header := range harness.Hidings(to) {
					a := s.InvokeFrom(from, to, r.method, r.path, r.contentType, r.body, header)
					if a.Status != 403 || !strings.Contains(a.Body, "access control policy has denied access") {
						t.Errorf("%s: %s %s with %v: got %d %s, want the sidecar to deny it", caller, r.method, r.path, header, a.Status, a.Body)
					}
				}
			}
		}
	}
	s.WaitForStock("item1", 100)
	if got := letters(); got != kept {
		t.Errorf("the dead letters are %s, and were %s", got, kept)
	}

	// The service's own sidecar may do all.
	for to, requests := range forgeries {
		for i, r := range requests {
			if r.path == "/orders/retry" || r.path == "/letters/deliver" {
				continue // the event counts once, whichever way it comes
			}
			if a := s.InvokeFrom(to, to, r.method, r.path, r.contentType, strings.ReplaceAll(r.body, "forged", fmt.Sprint("own-", i)), nil); a.Status != 200 {
				t.Errorf("the own sidecar of %s: %s %s: got %d %s", to.ID, r.method, r.path, a.Status, a.Body)
			}
		}
	}
	s.WaitForStock("item1", 1)

	// And any app may place an order.
	if a := s.InvokeFrom(stranger, s.Order, "POST", "/order", harness.PlainJSON, `{"orderId":"order-1","itemId":"item1","quantity":10}`, nil); a.Status != 200 {
		t.Errorf("another app places an order: got %d %s", a.Status, a.Body)
	}
	s.WaitForStock("item1", -9)
}

// Without the Configuration nothing keeps a stranger out, tokens or not.
func TestStrangersNeedTheConfigurationToBeDenied(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{Mesh: true, Tokens: true, Unfiltered: true})
	stranger := s.Serve("stranger", http.NewServeMux())
	harness.WaitFor(t, time.Minute, func() error {
		if a := s.InvokeFrom(stranger, s.Inventory[0], "POST", "/inventory/item1", harness.PlainJSON, `{"quantity":1}`, nil); a.Status != 200 {
			return fmt.Errorf("a stranger sets the stock: got %d %s", a.Status, a.Body)
		}
		return nil
	})
}

// Any page that is open in a browser can send requests to this machine. The services refuse
// them.
func TestOtherSitesInABrowserAreRefused(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{Each: func(o *stack.AppOptions) {
		o.SidecarArgs = append(o.SidecarArgs, "--allowed-origins", "https://example.org")
	}})
	s.SetStock("item1", 100)
	for _, header := range []http.Header{
		{"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://example.com"}},
		{"Sec-Fetch-Site": {"same-site"}, "Origin": {"http://localhost:8080"}},
		{"Origin": {"https://example.com"}}, // an old browser
		{"Origin": {"null"}},
	} {
		header.Set("Content-Type", "text/plain") // for which a browser asks nobody's leave
		for url, body := range map[string]string{
			s.Inventory[0].URL("/inventory/item1"): `{"quantity":1}`,
			s.Inventory[0].URL("/orders"):          `{"orderId":"o","itemId":"item1","quantity":1}`,
			s.Order.URL("/order"):                  `{"orderId":"o","itemId":"item1","quantity":1}`,
		} {
			if a := s.Send("POST", url, body, header); a.Status != 403 || !strings.Contains(a.Body, `"error"`) {
				t.Errorf("POST %s with %v: got %d %s, want 403", url, header, a.Status, a.Body)
			}
		}
	}
	s.Drained("inventory-service")
	s.WaitForStock("item1", 100)
	// A sidecar without a token takes them, as components/security.md says.
	page := http.Header{"Origin": {"https://example.com"}, "Content-Type": {"text/plain"}}
	if a := s.Send("POST", s.Inventory[0].DaprURL("/v1.0/state/statestore"), `[{"key":"page","value":1}]`, page); a.Status != 204 {
		t.Errorf("a page writes the state store: got %d %s", a.Status, a.Body)
	}
	own := http.Header{"Sec-Fetch-Site": {"same-origin"}}
	if a := s.Send("POST", s.Inventory[0].URL("/inventory/item1"), `{"quantity":1}`, own); a.Status != 200 {
		t.Errorf("a page of the service's own: got %d %s, want 200", a.Status, a.Body)
	}
}
