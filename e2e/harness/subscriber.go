package harness

import (
	"cmp"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/stack"
)

// A Subscriber receives the events of a topic in the test itself. The order service does not
// know it.
type Subscriber struct {
	App *stack.App // its sidecar

	mu       sync.Mutex
	received []daprhttp.Event
}

// Events returns what has been delivered.
func (s *Subscriber) Events() []daprhttp.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.received
}

// Subscribe starts a subscriber with a sidecar and an app ID of its own.
func (s *System) Subscribe(appID, topic string) *Subscriber {
	s.T.Helper()
	sub := &Subscriber{}
	sub.App = s.Serve(appID, Subscribing(daprhttp.Subscription{Topic: topic}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, readErr := io.ReadAll(r.Body)
		event, err := daprhttp.DecodeEvent(body)
		if err = cmp.Or(readErr, err); err != nil {
			s.T.Errorf("subscriber %s: %v", appID, err)
		}
		sub.mu.Lock()
		defer sub.mu.Unlock()
		sub.received = append(sub.received, event)
	})))
	return sub
}

// Subscribing returns a program that subscribes to a topic of the component pubsub, and
// what handles the events.
func Subscribing(to daprhttp.Subscription, events http.Handler) *http.ServeMux {
	to.PubsubName, to.Route = "pubsub", "/events"
	mux := http.NewServeMux()
	mux.HandleFunc("GET /dapr/subscribe", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode([]daprhttp.Subscription{to})
	})
	mux.Handle("POST /events", events)
	return mux
}

// Serve starts a sidecar for a program that is in the test itself.
func (s *System) Serve(appID string, program http.Handler) *stack.App {
	s.T.Helper()
	server := httptest.NewServer(program)
	s.T.Cleanup(server.Close)
	app := s.StartApp(stack.AppOptions{ID: appID, Port: server.Listener.Addr().(*net.TCPAddr).Port})
	s.T.Cleanup(func() { Must(s.T, app.Stop()) }) // before the program
	return app
}
