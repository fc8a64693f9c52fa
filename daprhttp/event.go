package daprhttp

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
)

// eventContentType is how a sidecar marks the events that it delivers: the
// media type of the CloudEvents JSON format.
const eventContentType = "application/cloudevents+json"

// IsEventContentType reports whether a Content-Type header, with or without
// parameters, says that the body is a CloudEvent in JSON. A sidecar delivers
// every event with it; people with curl seldom do.
func IsEventContentType(contentType string) bool {
	mediaType, _, err := mime.ParseMediaType(contentType)
	return err == nil && mediaType == eventContentType
}

// An Event is a CloudEvent as a sidecar delivers it: the context attributes of
// CloudEvents 1.0, Dapr's extensions, and the data.
//
// See https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md and
// https://docs.dapr.io/developing-applications/building-blocks/pubsub/pubsub-cloudevents/.
type Event struct {
	ID              string `json:"id"`     // with Source, what tells two events apart
	Source          string `json:"source"` // Dapr: the app ID of the publisher
	SpecVersion     string `json:"specversion"`
	Type            string `json:"type"`
	Subject         string `json:"subject"`
	Time            string `json:"time"` // RFC 3339; when it was published
	DataContentType string `json:"datacontenttype"`

	PubsubName  string `json:"pubsubname"`
	Topic       string `json:"topic"`
	TraceParent string `json:"traceparent"`
	TraceState  string `json:"tracestate"`

	// Data is the payload in its own format: JSON as it stood in the event,
	// text without the quotes that JSON put around it, bytes out of base64.
	Data []byte `json:"-"`
}

// ErrNotEvent is wrapped by every error of [DecodeEvent].
var ErrNotEvent = errors.New("not a CloudEvent")

// DecodeEvent reads a CloudEvent in the JSON format. It must have an id, since
// without it no one can tell a redelivery from a new event, and not both data
// and data_base64. The other attributes are left to the caller: Dapr fills in
// those that the specification requires.
func DecodeEvent(body []byte) (Event, error) {
	var envelope struct {
		Event
		Data       json.RawMessage `json:"data"`
		DataBase64 *string         `json:"data_base64"`
	}
	if err := json.Unmarshal(body, &envelope); err != nil {
		return Event{}, fmt.Errorf("%w: %w", ErrNotEvent, err)
	}
	e := envelope.Event
	if e.ID == "" {
		return Event{}, fmt.Errorf("%w: id is missing", ErrNotEvent)
	}
	switch {
	case envelope.DataBase64 != nil && envelope.Data != nil:
		return Event{}, fmt.Errorf("%w: it has both data and data_base64", ErrNotEvent)
	case envelope.DataBase64 != nil:
		data, err := base64.StdEncoding.DecodeString(*envelope.DataBase64)
		if err != nil {
			return Event{}, fmt.Errorf("%w: data_base64: %w", ErrNotEvent, err)
		}
		e.Data = data
	case bytes.HasPrefix(envelope.Data, []byte{'"'}) && !isJSONData(e.DataContentType):
		var text string
		if err := json.Unmarshal(envelope.Data, &text); err != nil {
			return Event{}, fmt.Errorf("%w: data: %w", ErrNotEvent, err)
		}
		e.Data = []byte(text)
	default:
		e.Data = envelope.Data
	}
	return e, nil
}

// isJSONData reports whether the data of an event is JSON, which it also is
// when the event does not say.
func isJSONData(dataContentType string) bool {
	if dataContentType == "" {
		return true
	}
	mediaType, _, _ := mime.ParseMediaType(dataContentType)
	return isJSON(mediaType)
}
