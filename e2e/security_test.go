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
)

// components/ lets an app do what it must and no more.
func TestComponentsRefuseStrangers(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	s := startSystem(t, systemOptions{})
	s.setStock("item1", 100)
	stranger := s.subscribe("stranger", "OrderPlaced")

	publish := func(c *daprhttp.Client, pubsubName, topic string) *daprhttp.Error {
		err := c.Publish(t.Context(), pubsubName, topic, daprhttp.Message{Data: []byte(`{"orderId":"forged","itemId":"item1","quantity":50}`)})
		var refused *daprhttp.Error
		if err != nil && !errors.As(err, &refused) {
			t.Error(err)
		}
		return refused
	}
	for app, topics := range map[*daprhttp.Client][]string{
		s.sidecar(stranger.app):   {"OrderPlaced", "OrderPlaced-retry", "OrderPlaced-dead-letter"},
		s.sidecar(s.order):        {"OrderPlaced-retry", "OrderPlaced-dead-letter", "another"},
		s.sidecar(s.inventory[0]): {"OrderPlaced", "OrderPlaced-retry", "another"},
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
	for _, app := range []*daprhttp.Client{s.sidecar(stranger.app), s.sidecar(s.order)} {
		is.Equal(publish(app, "pubsub-retry", "OrderPlaced-retry").ErrorCode, "ERR_PUBSUB_NOT_FOUND")
	}
	for _, topic := range []string{"OrderPlaced", "OrderPlaced-dead-letter", "another"} {
		is.Equal(publish(s.sidecar(s.inventory[0]), "pubsub-retry", topic).ErrorCode, "ERR_PUBSUB_FORBIDDEN")
	}
	// Without the component Dapr knows of no state store at all, hence no 403.
	for _, c := range []*daprhttp.Client{s.sidecar(stranger.app), s.sidecar(s.order)} {
		var refused *daprhttp.Error
		_, err := c.GetState(t.Context(), "statestore", "item1", daprhttp.GetStateOptions{})
		is.True(errors.As(err, &refused))
		is.Equal(refused.ErrorCode, "ERR_STATE_STORE_NOT_CONFIGURED")
	}

	s.place("order-1001", "item1", 1)
	s.waitForStock("item1", 99)
	s.drained("inventory-service")
	is.Equal(len(stranger.events()), 0)
	waitFor(t, time.Minute, func() error {
		if !strings.Contains(stranger.app.Sidecar.Log(), "subscription to topic 'OrderPlaced' on pubsub 'pubsub' is not allowed") {
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
	s := startSystem(t, systemOptions{tokens: true})
	s.setStock("item1", 100)
	s.place("order-1001", "item1", 10)
	s.waitForStock("item1", 90)

	delivery := `{"specversion":"1.0","id":"forged","source":"order-service","type":"OrderPlaced","data":{"orderId":"o","itemId":"item1","quantity":50}}`
	for _, token := range []string{"", "wrong", s.daprToken} {
		header := http.Header{"Content-Type": {"application/cloudevents+json"}, "Dapr-Api-Token": {token}}
		a := s.send("POST", s.inventory[0].URL("/orders"), delivery, header)
		is.Equal(a.status, 401)
		a = s.send("POST", s.order.URL("/order"), `{"orderId":"o","itemId":"item1","quantity":50}`, header)
		is.Equal(a.status, 401)
		is.True(!strings.Contains(a.body, s.appAPIToken))
	}
	for _, token := range []string{"", "wrong", s.appAPIToken} {
		c := &daprhttp.Client{Endpoint: s.order.DaprURL(""), APIToken: token}
		var refused *daprhttp.Error
		is.True(errors.As(c.Publish(t.Context(), "pubsub", "OrderPlaced", daprhttp.Message{Data: []byte(delivery)}), &refused))
		is.Equal(refused.StatusCode, 401)
	}
	s.drained("inventory-service")
	s.waitForStock("item1", 90)
	for _, log := range []string{s.order.Service.Log(), s.inventory[0].Service.Log()} {
		is.True(!strings.Contains(log, s.daprToken))
		is.True(!strings.Contains(log, s.appAPIToken))
		is.True(!strings.Contains(log, `{"orderId"`)) // nor the body of an event
	}
}
