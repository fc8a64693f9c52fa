package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp"

	"example.com/dapr-orders/e2e/harness"
)

// components/ lets an app do what it must and no more.
func TestComponentsRefuseStrangers(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	s := harness.Start(t, harness.Options{})
	s.SetStock("item1", 100)
	stranger := s.Subscribe("stranger", "OrderPlaced")

	publish := func(c *daprhttp.Client, pubsubName, topic string) *daprhttp.Error {
		err := c.Publish(t.Context(), pubsubName, topic, daprhttp.Message{Data: []byte(`{"orderId":"forged","itemId":"item1","quantity":50}`)})
		var refused *daprhttp.Error
		if err != nil && !errors.As(err, &refused) {
			t.Error(err)
		}
		return refused
	}
	for app, topics := range map[*daprhttp.Client][]string{
		s.Sidecar(stranger.App):   {"OrderPlaced", "OrderPlaced-retry", "OrderPlaced-dead-letter"},
		s.Sidecar(s.Order):        {"OrderPlaced-retry", "OrderPlaced-dead-letter", "another"},
		s.Sidecar(s.Inventory[0]): {"OrderPlaced", "OrderPlaced-retry", "another"},
	} {
		for _, topic := range topics {
			refused := publish(app, "pubsub", topic)
			if refused == nil || refused.StatusCode != 403 || refused.ErrorCode != "ERR_PUBSUB_FORBIDDEN" {
				t.Errorf("publishing to %s: got %v, want 403 ERR_PUBSUB_FORBIDDEN", topic, refused)
			}
		}
	}
	// The component of the retry topic is the inventory service's alone, and for that
	// topic alone.
	for _, app := range []*daprhttp.Client{s.Sidecar(stranger.App), s.Sidecar(s.Order)} {
		is.Equal(publish(app, "pubsub-retry", "OrderPlaced-retry").ErrorCode, "ERR_PUBSUB_NOT_FOUND")
	}
	for _, topic := range []string{"OrderPlaced", "OrderPlaced-dead-letter", "another"} {
		is.Equal(publish(s.Sidecar(s.Inventory[0]), "pubsub-retry", topic).ErrorCode, "ERR_PUBSUB_FORBIDDEN")
	}
	// Without the component Dapr knows of no state store at all, hence no 403.
	for _, c := range []*daprhttp.Client{s.Sidecar(stranger.App), s.Sidecar(s.Order)} {
		var refused *daprhttp.Error
		_, err := c.GetState(t.Context(), "statestore", "item1", daprhttp.GetStateOptions{})
		is.True(errors.As(err, &refused))
		is.Equal(refused.ErrorCode, "ERR_STATE_STORE_NOT_CONFIGURED")
	}

	s.Place("order-1001", "item1", 1)
	s.WaitForStock("item1", 99)
	s.Drained("inventory-service")
	is.Equal(len(stranger.Events()), 0)
	harness.WaitFor(t, time.Minute, func() error {
		if !strings.Contains(stranger.App.Sidecar.Log(), "subscription to topic 'OrderPlaced' on pubsub 'pubsub' is not allowed") {
			return fmt.Errorf("the sidecar has not said why it does not subscribe")
		}
		return nil
	})
	is.True(s.Broker.Drained("OrderPlaced", "stranger") != nil) // not even a consumer group
}

// With tokens both ways everything works, and whoever has none is sent away.
func TestForgedDeliveryIsRefused(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	s := harness.Start(t, harness.Options{Tokens: true})
	s.SetStock("item1", 100)
	s.Place("order-1001", "item1", 10)
	s.WaitForStock("item1", 90)

	delivery := `{"specversion":"1.0","id":"forged","source":"order-service","type":"OrderPlaced","data":{"orderId":"o","itemId":"item1","quantity":50}}`
	for _, token := range []string{"", "wrong", s.DaprToken} {
		header := http.Header{"Content-Type": {"application/cloudevents+json"}, "Dapr-Api-Token": {token}}
		a := s.Send("POST", s.Inventory[0].URL("/orders"), delivery, header)
		is.Equal(a.Status, 401)
		a = s.Send("POST", s.Order.URL("/order"), `{"orderId":"o","itemId":"item1","quantity":50}`, header)
		is.Equal(a.Status, 401)
		is.True(!strings.Contains(a.Body, s.AppAPIToken))
	}
	for _, token := range []string{"", "wrong", s.AppAPIToken} {
		c := &daprhttp.Client{Endpoint: s.Order.DaprURL(""), APIToken: token}
		var refused *daprhttp.Error
		is.True(errors.As(c.Publish(t.Context(), "pubsub", "OrderPlaced", daprhttp.Message{Data: []byte(delivery)}), &refused))
		is.Equal(refused.StatusCode, 401)
	}
	s.Drained("inventory-service")
	s.WaitForStock("item1", 90)
	for _, log := range []string{s.Order.Service.Log(), s.Inventory[0].Service.Log()} {
		is.True(!strings.Contains(log, s.DaprToken))
		is.True(!strings.Contains(log, s.AppAPIToken))
		is.True(!strings.Contains(log, `{"orderId"`)) // nor the body of an event
	}
}
