package e2e

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/stack"
)

// startMesh starts a system whose inventory service has an ID that no other has, so
// that what is sent to it by service invocation reaches no other system's.
func startMesh(t *testing.T, o systemOptions) *system {
	t.Helper()
	o.inventoryID = fmt.Sprintf("inventory-service-%d-%d", os.Getpid(), time.Now().UnixNano()%1e9)
	return startSystem(t, o)
}

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

// A sidecar puts its app's token on every service invocation, whoever calls. So
// with tokens on, a stranger in the mesh looks like the sidecar itself but for the
// name of the caller.
func TestStrangersInTheMeshCanOnlyRead(t *testing.T) {
	t.Parallel()
	s := startMesh(t, systemOptions{tokens: true})
	s.setStock("item1", 100)
	inventory := s.inventory[0]
	stranger := s.serve("stranger", http.NewServeMux())

	// The mesh works: else nothing would be shown.
	waitFor(t, time.Minute, func() error {
		if a := s.invokeFrom(stranger, inventory, "GET", "/inventory/item1", "", "", nil); a.status != 200 {
			return fmt.Errorf("a stranger who reads the stock gets %d %s", a.status, a.body)
		}
		return nil
	})

	order := `{"orderId":"forged","itemId":"item1","quantity":50}`
	event := `{"specversion":"1.0","id":"forged","source":"order-service","type":"OrderPlaced","data":` + order + `}`
	forgeries := []struct{ name, method, path, contentType, body string }{
		{"an event", "POST", "/orders", eventsJSON, event},
		{"a bare order", "POST", "/orders", plainJSON, order},
		{"the stock", "POST", "/inventory/item1", plainJSON, `{"quantity":1}`},
		{"subscriptions", "GET", "/dapr/subscribe", "", ""},
		{"an event by way of the retry topic", "POST", "/orders/retry", eventsJSON, event},
	}
	for caller, from := range map[string]*stack.App{"a stranger": stranger, "the order service": s.order} {
		for _, forged := range forgeries {
			for _, header := range []http.Header{nil, {"Dapr-Caller-App-Id": {inventory.ID}}} { // says that it is somebody else
				a := s.invokeFrom(from, inventory, forged.method, forged.path, forged.contentType, forged.body, header)
				if a.status != 403 || !strings.Contains(a.body, `"error"`) {
					t.Errorf("%s sends %s (%v): got %d %s, want 403", caller, forged.name, header, a.status, a.body)
				}
			}
		}
		if a := s.invokeFrom(from, inventory, "GET", "/inventory/item1", "", "", nil); a.status != 200 {
			t.Errorf("%s reads the stock: got %d %s", caller, a.status, a.body)
		}
	}
	s.waitForStock("item1", 100)

	// The service's own sidecar may do all.
	for i, f := range forgeries {
		if f.path == "/orders/retry" {
			continue // the event counts once, whichever way it comes
		}
		if a := s.invokeFrom(inventory, inventory, f.method, f.path, f.contentType, strings.ReplaceAll(f.body, "forged", fmt.Sprint("own-", i)), nil); a.status != 200 {
			t.Errorf("the service's own sidecar sends %s: got %d %s", f.name, a.status, a.body)
		}
	}
	s.waitForStock("item1", 1)
}

// Who is named in STOCK_WRITERS may set the stock by service invocation, and no
// more than that.
func TestStockWritersAreNamed(t *testing.T) {
	t.Parallel()
	s := startMesh(t, systemOptions{each: func(o *stack.AppOptions) {
		o.Env = append(o.Env, "STOCK_WRITERS=warehouse, order-service")
	}})
	inventory := s.inventory[0]
	waitFor(t, time.Minute, func() error {
		if a := s.invokeFrom(s.order, inventory, "POST", "/inventory/item1", plainJSON, `{"quantity":7}`, nil); a.status != 200 {
			return fmt.Errorf("an app that is named sets the stock: got %d %s", a.status, a.body)
		}
		return nil
	})
	s.waitForStock("item1", 7)
	a := s.invokeFrom(s.order, inventory, "POST", "/orders", plainJSON, `{"orderId":"o","itemId":"item1","quantity":1}`, nil)
	if a.status != 403 {
		t.Errorf("an app that is named delivers an order: got %d %s, want 403", a.status, a.body)
	}
	s.waitForStock("item1", 7)
}

// Any page that is open in a browser can send requests to this machine.
func TestOtherSitesInABrowserAreRefused(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{})
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
	own := http.Header{"Sec-Fetch-Site": {"same-origin"}}
	if a := s.send("POST", s.inventory[0].URL("/inventory/item1"), `{"quantity":1}`, own); a.status != 200 {
		t.Errorf("a page of the service's own: got %d %s, want 200", a.status, a.body)
	}
}
