package e2e

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/stack"
)

// A subscriber takes the events of a topic in the test itself: a program that
// the order service knows nothing of.
type subscriber struct {
	app *stack.App // its sidecar

	mu       sync.Mutex
	received []daprhttp.Event
}

func (s *subscriber) events() []daprhttp.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.received
}

// subscribe starts a subscriber with a sidecar and an app ID of its own.
func (s *system) subscribe(appID, topic string) *subscriber {
	s.t.Helper()
	sub := &subscriber{}
	sub.app = s.serve(appID, subscribing(daprhttp.Subscription{Topic: topic}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("dapr-api-token") != s.appAPIToken {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		event, err := daprhttp.DecodeEvent(body)
		if err != nil {
			s.t.Errorf("subscriber %s: %v", appID, err)
		}
		sub.mu.Lock()
		defer sub.mu.Unlock()
		sub.received = append(sub.received, event)
	})))
	return sub
}

// subscribing returns a program that subscribes to a topic of the component pubsub, and
// what handles the events.
func subscribing(to daprhttp.Subscription, events http.Handler) *http.ServeMux {
	to.PubsubName, to.Route = "pubsub", "/events"
	mux := http.NewServeMux()
	mux.HandleFunc("GET /dapr/subscribe", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode([]daprhttp.Subscription{to})
	})
	mux.Handle("POST /events", events)
	return mux
}

// serve starts a sidecar for a program that is in the test itself.
func (s *system) serve(appID string, program http.Handler) *stack.App {
	s.t.Helper()
	server := httptest.NewServer(program)
	s.t.Cleanup(server.Close)
	app := s.start(stack.AppOptions{ID: appID, Port: server.Listener.Addr().(*net.TCPAddr).Port})
	s.t.Cleanup(func() { must(s.t, app.Stop()) }) // before the program
	return app
}
