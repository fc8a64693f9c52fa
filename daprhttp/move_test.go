package daprhttp

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp/daprtest"
)

// An event that is published twice and retried again and again stays two events in the
// retry topic.
func TestRetryTopicDoesNotGrow(t *testing.T) {
	is := is.New(t)
	sidecar := new(daprtest.Sidecar)
	later := Topic{
		Sidecar:    &Client{HTTPClient: sidecar.Client(), PublishTwice: true},
		PubsubName: "pubsub-retry", Name: "later",
	}
	retries, err := Retries(later, time.Microsecond)
	is.NoErr(err)
	first := newSubscriber().Subscription
	first.Wrap = retries
	again := first
	again.PubsubName, again.Topic, again.Route = later.PubsubName, later.Name, "later"
	mux := http.NewServeMux()
	is.NoErr(Subscribe(mux, first, again))
	deliver := func(route, event string) {
		r := httptest.NewRequest("POST", route, strings.NewReader(event))
		r.Header.Set("Content-Type", "application/cloudevents+json")
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		is.Equal(w.Code, 200)
	}
	body := strings.Replace(event("e1", "again"), "{", `{"pubsubname":"pubsub","topic":"topic",`, 1)
	deliver("/events", body)
	is.Equal(len(sidecar.Published()), 2) // PublishTwice applies to the move to another topic
	for i := range 200 {
		next := sidecar.Published()[i]
		is.Equal(string(next.Event), body)
		deliver("/later", string(next.Event))
	}
	is.Equal(len(sidecar.Published()), 202)
}
