package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/stack"
)

// invokeFrom calls a method of an app through another app's sidecar.
func (s *system) invokeFrom(from, to *stack.App, method, path, contentType, body string, header http.Header) answer {
	s.t.Helper()
	header = header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if contentType != "" {
		header.Set("Content-Type", contentType)
	}
	header.Set("dapr-api-token", s.daprToken)
	return s.send(method, from.DaprURL("/v1.0/invoke/"+to.ID+"/method"+path), body, header)
}

// hidings are the headers with which a caller may try to pass for the app's own sidecar. The
// sidecar of the app strips what Connection names, and so the name of the caller.
func hidings(app *stack.App) []http.Header {
	const name = "dapr-caller-app-id"
	return []http.Header{
		nil,
		{"Dapr-Caller-App-Id": {app.ID}}, // says that it is another
		{"Connection": {name}},
		{"Connection": {"Dapr-Caller-App-Id"}},
		{"Connection": {strings.ToUpper(name)}},
		{"Connection": {"close, " + name}},
		{"Connection": {name + ",dapr-callee-app-id ,\tdapr-app-id"}},
		{"Connection": {"keep-alive", name}},
		{"Connection": {name, name}},
		{"Connection": {"te, proxy-authorization, keep-alive, " + name}, "Te": {"trailers"}, "Proxy-Authorization": {"Basic eA=="}, "Keep-Alive": {"timeout=5"}},
		{"Connection": {name}, "Dapr-Caller-App-Id": {app.ID}},
	}
}

// A sidecar puts its app's token on every service invocation, whoever calls, and a caller can
// hide its name. So the Configuration has the sidecar refuse other apps. Only the order
// service may be called.
func TestStrangersInTheMeshAreDenied(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{mesh: true, tokens: true})
	s.setStock("item1", 100)
	inventory := s.inventory[0]
	deadLetters := s.startDeadLetters("serve", deadLetterTopic, "OrderPlaced")
	s.publish(s.order, "OrderPlaced", daprhttp.Message{Data: []byte(`{"orderId":"poison","itemId":"item1","quantity":"many"}`)})
	letters := func() string { return s.send("GET", deadLetters.URL("/letters"), "", nil).body }
	waitFor(t, time.Minute, func() error {
		if !strings.Contains(letters(), `"id"`) {
			return fmt.Errorf("the dead letter has not come: %s", letters())
		}
		return nil
	})
	stranger := s.serve("stranger", http.NewServeMux())

	order := `{"orderId":"forged","itemId":"item1","quantity":50}`
	event := `{"specversion":"1.0","id":"forged","source":"order-service","type":"OrderPlaced","data":` + order + `}`
	type request struct{ method, path, contentType, body string }
	forgeries := map[*stack.App][]request{
		inventory: {
			{"POST", "/orders", eventsJSON, event},
			{"POST", "/orders", plainJSON, order},
			{"POST", "/orders/retry", eventsJSON, event},
			{"POST", "/inventory/item1", plainJSON, `{"quantity":1}`},
			{"GET", "/inventory/item1", "", ""},
			{"GET", "/dapr/subscribe", "", ""},
			{"GET", "/healthz", "", ""},
		},
		deadLetters: {
			{"GET", "/letters", "", ""},
			{"POST", "/letters/all/send", "", ""},
			{"DELETE", "/letters/all", "", ""},
			{"POST", "/letters/deliver", eventsJSON, event},
			{"GET", "/dapr/subscribe", "", ""},
		},
	}
	kept := letters()
	for to, requests := range forgeries {
		for caller, from := range map[string]*stack.App{"a stranger": stranger, "the order service": s.order} {
			waitFor(t, time.Minute, func() error { // until the sidecars know each other
				if a := s.invokeFrom(from, to, "GET", "/healthz", "", "", nil); a.status != 403 {
					return fmt.Errorf("%s asks %s: got %d %s, want 403", caller, to.ID, a.status, a.body)
				}
				return nil
			})
			for _, r := range requests {
				for _, header := range hidings(to) {
					a := s.invokeFrom(from, to, r.method, r.path, r.contentType, r.body, header)
					if a.status != 403 || !strings.Contains(a.body, "access control policy has denied access") {
						t.Errorf("%s: %s %s with %v: got %d %s, want the sidecar to deny it", caller, r.method, r.path, header, a.status, a.body)
					}
				}
			}
		}
	}
	s.waitForStock("item1", 100)
	if got := letters(); got != kept {
		t.Errorf("the dead letters are %s, and were %s", got, kept)
	}

	// The service's own sidecar may do all.
	for to, requests := range forgeries {
		for i, r := range requests {
			if r.path == "/orders/retry" || r.path == "/letters/deliver" {
				continue // the event counts once, whichever way it comes
			}
			if a := s.invokeFrom(to, to, r.method, r.path, r.contentType, strings.ReplaceAll(r.body, "forged", fmt.Sprint("own-", i)), nil); a.status != 200 {
				t.Errorf("the own sidecar of %s: %s %s: got %d %s", to.ID, r.method, r.path, a.status, a.body)
			}
		}
	}
	s.waitForStock("item1", 1)

	// And any app may place an order.
	if a := s.invokeFrom(stranger, s.order, "POST", "/order", plainJSON, `{"orderId":"order-1","itemId":"item1","quantity":10}`, nil); a.status != 200 {
		t.Errorf("another app places an order: got %d %s", a.status, a.body)
	}
	s.waitForStock("item1", -9)
}

// Without the Configuration nothing keeps a stranger out, tokens or not.
func TestStrangersNeedTheConfigurationToBeDenied(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{mesh: true, tokens: true, unfiltered: true})
	stranger := s.serve("stranger", http.NewServeMux())
	waitFor(t, time.Minute, func() error {
		if a := s.invokeFrom(stranger, s.inventory[0], "POST", "/inventory/item1", plainJSON, `{"quantity":1}`, nil); a.status != 200 {
			return fmt.Errorf("a stranger sets the stock: got %d %s", a.status, a.body)
		}
		return nil
	})
}

// Any page that is open in a browser can send requests to this machine. The services refuse
// them.
func TestOtherSitesInABrowserAreRefused(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{each: func(o *stack.AppOptions) {
		o.SidecarArgs = append(o.SidecarArgs, "--allowed-origins", "https://example.org")
	}})
	s.setStock("item1", 100)
	for _, header := range []http.Header{
		{"Sec-Fetch-Site": {"cross-site"}, "Origin": {"https://example.com"}},
		{"Sec-Fetch-Site": {"same-site"}, "Origin": {"http://localhost:8080"}},
		{"Origin": {"https://example.com"}}, // an old browser
		{"Origin": {"null"}},
	} {
		header.Set("Content-Type", "text/plain") // for which a browser asks nobody's leave
		for url, body := range map[string]string{
			s.inventory[0].URL("/inventory/item1"): `{"quantity":1}`,
			s.inventory[0].URL("/orders"):          `{"orderId":"o","itemId":"item1","quantity":1}`,
			s.order.URL("/order"):                  `{"orderId":"o","itemId":"item1","quantity":1}`,
		} {
			if a := s.send("POST", url, body, header); a.status != 403 || !strings.Contains(a.body, `"error"`) {
				t.Errorf("POST %s with %v: got %d %s, want 403", url, header, a.status, a.body)
			}
		}
	}
	s.drained("inventory-service")
	s.waitForStock("item1", 100)
	// A sidecar without a token takes them, as components/security.md says.
	page := http.Header{"Origin": {"https://example.com"}, "Content-Type": {"text/plain"}}
	if a := s.send("POST", s.inventory[0].DaprURL("/v1.0/state/statestore"), `[{"key":"page","value":1}]`, page); a.status != 204 {
		t.Errorf("a page writes the state store: got %d %s", a.status, a.body)
	}
	own := http.Header{"Sec-Fetch-Site": {"same-origin"}}
	if a := s.send("POST", s.inventory[0].URL("/inventory/item1"), `{"quantity":1}`, own); a.status != 200 {
		t.Errorf("a page of the service's own: got %d %s, want 200", a.status, a.body)
	}
}
