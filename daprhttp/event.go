package daprhttp

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
)

// eventContentType is the media type of the CloudEvents JSON format, with which a
// sidecar delivers every event.
const eventContentType = "application/cloudevents+json"

// An Event is a CloudEvent as a sidecar delivers it: the context attributes of
// CloudEvents 1.0, Dapr's extensions, and the data.
//
// See https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md and
// https://docs.dapr.io/developing-applications/building-blocks/pubsub/pubsub-cloudevents/.
type Event struct {
	ID              string // with Source, tells two events apart
	Source          string // Dapr: the app ID of the publisher
	SpecVersion     string
	Type            string
	Subject         string
	Time            string // RFC 3339: when the event was published
	DataContentType string

	PubsubName  string
	Topic       string // where the event was published first
	TraceParent string
	TraceState  string

	// Data is the payload in its own format: JSON as it stood in the event, text
	// without the quotes that JSON put around it, bytes out of base64.
	Data []byte

	deliveredBy [2]string // the pub/sub component and the topic

	raw     []byte // the body of the delivery, or its beginning
	size    int    // of the whole body, in bytes
	byHand  bool   // the request did not come from a sidecar
	refused error  // why the event is not given to the program's handler
}

// DecodeEvent reads a CloudEvent in the JSON format. An event must have an id, without
// which a redelivery can't be told from a new event, and not both data and
// data_base64. An attribute that is not a string is left empty.
//
// After an error the Event has the attributes that could be read.
func DecodeEvent(body []byte) (Event, error) {
	e, err := decodeEvent(body)
	if err != nil {
		err = fmt.Errorf("not a CloudEvent: %w", err)
	}
	return e, err
}

func decodeEvent(body []byte) (Event, error) {
	e := Event{raw: body, size: len(body)}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return e, err
	}
	for name, attribute := range map[string]*string{
		"id": &e.ID, "source": &e.Source, "specversion": &e.SpecVersion, "type": &e.Type, "subject": &e.Subject, "time": &e.Time,
		"datacontenttype": &e.DataContentType, "pubsubname": &e.PubsubName, "topic": &e.Topic,
		"traceparent": &e.TraceParent, "tracestate": &e.TraceState,
	} {
		if value := members[name]; len(value) > 0 && value[0] == '"' {
			if err := json.Unmarshal(value, attribute); err != nil {
				return e, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	if e.ID == "" {
		return e, errors.New("id is missing")
	}
	data, base64Data := members["data"], members["data_base64"]
	if data != nil && base64Data != nil {
		return e, errors.New("it has both data and data_base64")
	}
	switch {
	case base64Data != nil:
		var text string
		err := json.Unmarshal(base64Data, &text)
		if err == nil {
			e.Data, err = base64.StdEncoding.DecodeString(text)
		}
		if err != nil {
			return e, fmt.Errorf("data_base64: %w", err)
		}
	case bytes.HasPrefix(data, []byte{'"'}) && !isJSONData(e.DataContentType):
		var text string
		if err := json.Unmarshal(data, &text); err != nil {
			return e, fmt.Errorf("data: %w", err)
		}
		e.Data = []byte(text)
	default:
		e.Data = data
	}
	return e, nil
}

// isJSONData reports whether the data of an event is JSON. It is so too when the event
// does not say.
func isJSONData(dataContentType string) bool {
	if dataContentType == "" {
		return true
	}
	mediaType, _, _ := mime.ParseMediaType(dataContentType)
	return mediaType == "application/json" || mediaType == eventContentType // the two that Dapr reads as JSON
}
