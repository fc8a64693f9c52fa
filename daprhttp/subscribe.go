package daprhttp

import (
	"fmt"
	"net/http"
	"path"

	"example.com/dapr-orders/daprhttp/web"
)

// A Subscription asks the sidecar to deliver the events of one topic to one route of the
// program. Its Handler handles them. PubsubName, Topic, Route and Handler must be set.
//
// See https://docs.dapr.io/reference/api/pubsub_api/#provide-a-route-for-dapr-to-discover-topic-subscriptions.
type Subscription struct {
	PubsubName string `json:"pubsubname"`
	Topic      string `json:"topic"`
	Route      string `json:"route"` // the path to which events are POSTed

	// DeadLetterTopic is the topic to which the sidecar moves events after StatusDrop, or
	// when their retries have run out, and what it does not deliver: a message that is no
	// JSON object, and an expired event. It gives no reason: see DeadLetters. If the topic is
	// empty, a dropped or expired event is lost, and the broker's component decides about
	// the rest.
	DeadLetterTopic string `json:"deadLetterTopic,omitempty"`

	// Metadata is for the sidecar and the broker. With MetadataRawPayload, a
	// message that is a CloudEvent reaches the Handler as that event. Any other message is
	// the data of an event with a new ID at each delivery by the broker.
	Metadata map[string]string `json:"metadata,omitempty"`

	// Handler handles the events that can be decoded and are not too long.
	Handler Handler `json:"-"`

	// Wrap returns a handler that wraps another. It gets every event that the sidecar
	// delivers, even one that is dropped because it is invalid or too long. It may be nil.
	Wrap func(Handler) Handler `json:"-"`

	// MaxEventBytes bounds the body of an event in bytes. An event in binary mode must also
	// fit as JSON. A longer event is dropped. Zero means 64 KiB.
	MaxEventBytes int `json:"-"`

	// BareData accepts a person's request whose body is only the data of an event. The event
	// gets a new ID. Such a body has no member specversion, data or data_base64 other than
	// null, and the request has no header ce-id, ce-specversion, ce_id or ce_specversion.
	BareData bool `json:"-"`

	chain Handler
}

// Subscribe registers on mux the route of each subscription, and GET /dapr/subscribe, which
// tells the sidecar all subscriptions. A sidecar's deliveries have the content type
// application/cloudevents+json. A request with another content type comes from a person,
// and is answered with plain HTTP statuses. The body of either is an event in the JSON
// format, or the data of an event whose attributes are in the headers (binary mode).
//
// With the default limit, an event takes at most about 512 KiB of memory. An event beyond
// the limit takes up to about 32 MiB, until it is dropped. At most two such events are in
// memory at the same time. So a client that stops in the middle of one delays other long events.
//
// The error names a subscription without a required field. Subscribe panics, as mux does,
// if a route is malformed or mux has it already. Don't call it again for the same mux, even
// after an error.
//
// Subscribe does not check who sends a request: see [RequireAppToken] and
// [web.RefuseOtherSites].
//
// See https://docs.dapr.io/reference/api/pubsub_api/#provide-routes-for-dapr-to-deliver-topic-events.
func Subscribe(mux *http.ServeMux, subscriptions ...Subscription) error {
	subscriptions = append([]Subscription{}, subscriptions...) // without subscriptions the JSON is [] and not null
	for i := range subscriptions {
		s := &subscriptions[i]
		if s.PubsubName == "" || s.Topic == "" || s.Route == "" || s.Handler == nil {
			return fmt.Errorf("daprhttp: subscription to topic %q: PubsubName, Topic, Route and Handler must be set", s.Topic)
		}
		s.chain = refuse(s.Handler)
		if s.Wrap != nil {
			s.chain = s.Wrap(s.chain)
		}
		mux.HandleFunc("POST "+path.Clean("/"+s.Route), s.deliver) // a sidecar cleans the path, too
	}
	mux.HandleFunc("GET /dapr/subscribe", func(w http.ResponseWriter, _ *http.Request) {
		web.WriteJSON(w, http.StatusOK, subscriptions)
	})
	return nil
}
