package daprhttp

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"
)

// A queue is a topic in memory, and the sidecar that publishes to it.
type queue []string

func (q *queue) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	*q = append(*q, string(body))
	return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody}, err
}

// An event that is published twice, and goes round in the retry topic for as long as it is
// refused, stays two events there.
func TestRetryTopicDoesNotGrow(t *testing.T) {
	is := is.New(t)
	var waiting queue
	later := Topic{
		Sidecar:    &Client{HTTPClient: &http.Client{Transport: &waiting}, PublishTwice: true},
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
	is.Equal(len(waiting), 2) // the move to another topic is worth two
	for range 200 {
		next := waiting[0]
		waiting = waiting[1:]
		is.Equal(next, body)
		deliver("/later", next)
	}
	is.Equal(len(waiting), 2)
}
