package daprhttp

import (
	"fmt"
	"net/http"
	"strings"

	"example.com/dapr-orders/daprhttp/web"
)

// A Subscription asks the sidecar to deliver the events of one topic to one route of the
// program, and says what handles them there.
//
// See https://docs.dapr.io/reference/api/pubsub_api/#provide-a-route-for-dapr-to-discover-topic-subscriptions.
type Subscription struct {
	PubsubName string `json:"pubsubname"`
	Topic      string `json:"topic"`
	Route      string `json:"route"` // the path to which events are POSTed

	// DeadLetterTopic takes the events that were answered with StatusDrop, or whose
	// retries have run out. Without it they are gone. The sidecar does not say there
	// why: see DeadLetters.
	DeadLetterTopic string `json:"deadLetterTopic,omitempty"`

	// Metadata is for the sidecar and the broker. With MetadataRawPayload, a message that is
	// a CloudEvent is delivered to the Handler as that event. Any other is the data of an
	// event whose ID is new each time that the broker delivers it.
	Metadata map[string]string `json:"metadata,omitempty"`

	// Handler handles the events. It gets those alone that could be decoded.
	Handler Handler `json:"-"`

	// Wrap returns a handler around another. It gets every event of the subscription,
	// those that are dropped because they can't be decoded too. Nil wraps nothing.
	Wrap func(Handler) Handler `json:"-"`

	// MaxEventBytes bounds the body of an event. A longer one is dropped. Zero means
	// 64 KiB.
	MaxEventBytes int `json:"-"`

	// BareData takes a request that has nothing of a CloudEvent, in its body or its
	// headers, for the data of one, and gives it a new ID. Sidecars don't send such
	// requests; people do.
	BareData bool `json:"-"`

	chain Handler
}

// Subscribe registers on mux the route of each subscription, and GET /dapr/subscribe,
// with which the sidecar asks for all of them. Events are told from requests of people by
// their content type, application/cloudevents+json: a request without it is answered
// with plain HTTP statuses. Events come in the JSON format or in binary mode.
//
// With the default limit, an event takes at most some 512 KiB of memory. A longer one
// takes some 32 MiB, two at a time.
//
// The error says what a subscription lacks.
//
// See https://docs.dapr.io/reference/api/pubsub_api/#provide-routes-for-dapr-to-deliver-topic-events.
func Subscribe(mux *http.ServeMux, subscriptions ...Subscription) error {
	subscriptions = append([]Subscription{}, subscriptions...) // [] and not null, if there are none
	for i := range subscriptions {
		s := &subscriptions[i]
		if s.PubsubName == "" || s.Topic == "" || s.Route == "" || s.Handler == nil {
			return fmt.Errorf("daprhttp: subscription to topic %q: PubsubName, Topic, Route and Handler must be set", s.Topic)
		}
		s.chain = refuse(s.Handler)
		if s.Wrap != nil {
			s.chain = s.Wrap(s.chain)
		}
		mux.HandleFunc("POST /"+strings.TrimPrefix(s.Route, "/"), s.deliver)
	}
	mux.HandleFunc("GET /dapr/subscribe", func(w http.ResponseWriter, _ *http.Request) {
		web.WriteJSON(w, http.StatusOK, subscriptions)
	})
	return nil
}
