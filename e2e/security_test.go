package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// A sidecar adds its app's token to every service invocation, and a caller can hide its name.
// So the Configuration lets the sidecar refuse other apps. Only the order service may be
// called.
func TestStrangersInTheMeshAreDenied(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{Mesh: true, Tokens: true})
	s.SetStock("item1", 100)
	inventory := s.Inventory[0]
	deadLetters := s.StartDeadLetters("serve", harness.DeadLetterTopic, "OrderPlaced")
	for range 2 {
		s.Publish(s.Order, "OrderPlaced", daprhttp.Message{Data: []byte(`{"orderId":"poison","itemId":"item1","quantity":"many"}`)})
	}
	letters := func() string { return s.Send("GET", deadLetters.URL("/letters"), "", nil).Body }
	var ids []struct{ ID string }
	harness.WaitFor(t, time.Minute, func() error {
		if err := json.Unmarshal([]byte(letters()), &ids); err != nil || len(ids) < 2 {
			return fmt.Errorf("the dead letters have not come: %s", letters())
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
			{"POST", "/letters/" + ids[0].ID + "/send", "", ""},
			{"DELETE", "/letters/" + ids[1].ID, "", ""},
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
				for _, header := range harness.Disguises(to) {
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

	// The service's own sidecar may send each request.
	for to, requests := range forgeries {
		for i, r := range requests {
			if a := s.InvokeFrom(to, to, r.method, r.path, r.contentType, strings.ReplaceAll(r.body, "forged", fmt.Sprint("own-", i)), nil); a.Status != 200 {
				t.Errorf("the own sidecar of %s: %s %s: got %d %s", to.ID, r.method, r.path, a.Status, a.Body)
			}
		}
	}
	s.WaitForStock("item1", 1)

	// Any app may place an order.
	if a := s.InvokeFrom(stranger, s.Order, "POST", "/order", harness.PlainJSON, `{"orderId":"order-1","itemId":"item1","quantity":10}`, nil); a.Status != 200 {
		t.Errorf("another app places an order: got %d %s", a.Status, a.Body)
	}
	s.WaitForStock("item1", -9)
	for _, app := range []*stack.App{s.Order, inventory, deadLetters} {
		for _, secret := range []string{s.DaprToken, s.AppAPIToken, `{"orderId"`} { // the last is the body of an event
			if strings.Contains(app.Service.Log(), secret) {
				t.Errorf("the log of %s has %q", app.ID, secret)
			}
		}
	}
}

// components/security.md says what the project does not protect. Without the Configuration,
// any app sets the stock, and a token does not help. Without a token for the sidecar, a page
// of another site writes the state store.
func TestWhatIsNotProtected(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{Mesh: true, Tokens: true, Unfiltered: true})
	stranger := s.Serve("stranger", http.NewServeMux())
	harness.WaitFor(t, time.Minute, func() error {
		if a := s.InvokeFrom(stranger, s.Inventory[0], "POST", "/inventory/item1", harness.PlainJSON, `{"quantity":1}`, nil); a.Status != 200 {
			return fmt.Errorf("a stranger sets the stock: got %d %s", a.Status, a.Body)
		}
		return nil
	})

	s = harness.Start(t, harness.Options{Each: func(o *stack.AppOptions) {
		o.SidecarArgs = append(o.SidecarArgs, "--allowed-origins", "https://example.org")
	}})
	page := http.Header{"Origin": {"https://example.com"}, "Content-Type": {"text/plain"}}
	if a := s.Send("POST", s.Inventory[0].DaprURL("/v1.0/state/statestore"), `[{"key":"page","value":1}]`, page); a.Status != 204 {
		t.Errorf("a page writes the state store: got %d %s", a.Status, a.Body)
	}
}

// The component files let an app publish to its topics, and only the inventory service receive
// orders and use the state store.
func TestComponentsRefuseStrangers(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	s := harness.Start(t, harness.Options{})
	s.SetStock("item1", 100)
	stranger := s.Subscribe("stranger", "OrderPlaced")
	inventory := s.Inventory[0]

	code := func(err error) string {
		var refused *daprhttp.Error
		errors.As(err, &refused)
		if refused == nil {
			return fmt.Sprint(err)
		}
		return refused.ErrorCode
	}
	for _, tt := range []struct {
		app             *stack.App
		component, want string
		topics          []string
	}{
		// By another name, an app could reach a stock in Redis, and orders in RabbitMQ and MQTT.
		{stranger.App, "pubsub", "ERR_PUBSUB_FORBIDDEN", []string{"OrderPlaced", "OrderPlaced-retry", "OrderPlaced-dead-letter", "inventory-service||item9", "#"}},
		{s.Order, "pubsub", "ERR_PUBSUB_FORBIDDEN", []string{"OrderPlaced-retry", "OrderPlaced-dead-letter", "another"}},
		{inventory, "pubsub", "ERR_PUBSUB_FORBIDDEN", []string{"OrderPlaced", "OrderPlaced-retry", "another"}},
		{stranger.App, "pubsub-retry", "ERR_PUBSUB_NOT_FOUND", []string{"OrderPlaced-retry"}},
		{s.Order, "pubsub-retry", "ERR_PUBSUB_NOT_FOUND", []string{"OrderPlaced-retry"}},
		{inventory, "pubsub-retry", "ERR_PUBSUB_FORBIDDEN", []string{"OrderPlaced", "OrderPlaced-dead-letter", "another"}},
	} {
		for _, topic := range tt.topics {
			order := daprhttp.Message{Data: []byte(`{"orderId":"forged","itemId":"item1","quantity":50}`)}
			if got := code(s.Sidecar(tt.app).Publish(t.Context(), tt.component, topic, order)); got != tt.want {
				t.Errorf("%s publishes to %s, %s: got %s, want %s", tt.app.ID, tt.component, topic, got, tt.want)
			}
		}
	}
	for _, app := range []*stack.App{stranger.App, s.Order} {
		_, err := s.Sidecar(app).GetState(t.Context(), "statestore", "item1", daprhttp.GetStateOptions{})
		is.Equal(code(err), "ERR_STATE_STORE_NOT_CONFIGURED") // its sidecar loads no state store
	}

	s.Place("order-1001", "item1", 1)
	s.WaitForStock("item1", 99)
	s.Drained("inventory-service")
	is.Equal(len(stranger.Events()), 0)
	harness.Said(t, stranger.App.Sidecar, "subscription to topic 'OrderPlaced' on pubsub 'pubsub' is not allowed")
	is.True(s.Broker.Drained("OrderPlaced", "stranger") != nil) // the broker does not know the stranger
}
