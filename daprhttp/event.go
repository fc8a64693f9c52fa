package daprhttp

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"unicode/utf8"

	"example.com/dapr-orders/daprhttp/web"
)

// eventContentType is the media type of the CloudEvents JSON format, with which a
// sidecar delivers every event.
const eventContentType = "application/cloudevents+json"

// An Event is a CloudEvent as a sidecar delivers it: the context attributes of
// CloudEvents 1.0, Dapr's extensions, and the data. A test of a Handler may make one itself.
// [DeadLetters] and [Retries] can't move such an event, because it has no message: the
// outcome is then StatusRetry.
//
// See https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md and
// https://docs.dapr.io/developing-applications/building-blocks/pubsub/pubsub-cloudevents/.
type Event struct {
	ID              string // identifies the event, together with Source
	Source          string // Dapr: the app ID of the publisher
	SpecVersion     string
	Type            string
	Subject         string
	Time            string // when the event was published, in the format of RFC 3339
	DataContentType string

	PubsubName  string // the attribute; without it, the component that delivered the event
	Topic       string // the attribute; without it, the topic that delivered the event
	TraceParent string
	TraceState  string

	// Data is the payload in its own format: JSON unchanged, text without the quotes
	// of JSON, bytes decoded from base64. It is empty, and may be nil, if the event has
	// no data. The JSON value null is the text "null".
	Data []byte

	deliveredBy        [2]string // the pub/sub component and the topic
	hasDeadLetterTopic bool      // the sidecar moves the event after StatusDrop

	raw     []byte // the event in the JSON format, or its beginning; nil if it was not delivered
	payload []byte // the message, if it is a raw payload and not an event
	size    int    // the length of raw in bytes before it was cut; a very long body is not read to its end
	byHand  bool   // the request did not come from a sidecar
	refused error  // why the program's handler does not get the event
}

// Message returns the message of the event, as it is in the broker. A message in binary mode
// is returned in the JSON format, with its attributes. Of an event that is longer than
// MaxEventBytes and than 8 MiB, the beginning is returned. For an Event that a program made
// itself, Message returns nil.
func (e Event) Message() []byte {
	if e.payload != nil {
		return e.payload
	}
	return e.raw
}

// DecodeEvent reads a CloudEvent in the JSON format. It checks id and source, which identify
// the event, specversion, and the data. Another attribute is left empty if it is not a
// string.
//
// After an error the Event has the attributes that could be read. If it has no id, a hash of
// the body is its ID.
func DecodeEvent(body []byte) (Event, error) {
	e := Event{raw: body, size: len(body)}
	members, err := decodeMembers(body)
	for name, attribute := range map[string]*string{
		"id": &e.ID, "source": &e.Source, "specversion": &e.SpecVersion, "type": &e.Type, "subject": &e.Subject, "time": &e.Time,
		"datacontenttype": &e.DataContentType, "pubsubname": &e.PubsubName, "topic": &e.Topic,
		"traceparent": &e.TraceParent, "tracestate": &e.TraceState,
	} {
		_ = json.Unmarshal(members[name], attribute)
	}
	if err == nil {
		err = checkAttributes(members)
	}
	if err == nil {
		e.Data, err = decodeData(members, e.DataContentType)
	}
	if err != nil {
		var number json.Number // instead of a string
		_ = json.Unmarshal(members["id"], &number)
		e.ID = cmp.Or(e.ID, number.String(), fmt.Sprintf("sha256-%x", sha256.Sum256(body)))
		err = fmt.Errorf("not a CloudEvent: %w", err)
	}
	return e, err
}

// decodeMembers returns the members of a JSON object. After an error it returns the members
// before the mistake.
func decodeMembers(body []byte) (web.Object, error) {
	var members web.Object
	err := json.Unmarshal(body, &members)
	if err == nil && members != nil {
		return members, nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if first, _ := d.Token(); first != json.Delim('{') {
		return nil, errors.New("it is not a JSON object")
	}
	members = make(web.Object)
	for d.More() {
		token, _ := d.Token()
		name, ok := token.(string)
		var value json.RawMessage
		if !ok || d.Decode(&value) != nil {
			break
		}
		members[name] = value
	}
	return members, err
}

// checkAttributes checks the attributes that a subscriber needs.
func checkAttributes(members web.Object) error {
	for _, name := range []string{"id", "source", "specversion"} {
		text, err := decodeText(members, name)
		switch {
		case err != nil:
			return err
		case text == "":
			return fmt.Errorf("%s is missing", name)
		case name == "specversion" && text != "1.0":
			return errors.New("specversion must be 1.0")
		}
	}
	return nil
}

// decodeText returns a string of valid UTF-8. Replacing invalid bytes could make two IDs
// equal.
func decodeText(members web.Object, name string) (string, error) {
	if !utf8.Valid(members[name]) {
		return "", fmt.Errorf("%s must be valid UTF-8", name)
	}
	return members.Text(name, func(string) error { return nil })
}

func decodeData(members web.Object, dataContentType string) ([]byte, error) {
	data := members["data"]
	switch {
	case members.Has("data") && members.Has("data_base64"):
		return nil, errors.New("it has both data and data_base64")
	case members.Has("data_base64"):
		text, err := decodeText(members, "data_base64")
		if err != nil {
			return nil, err
		}
		bytes, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, fmt.Errorf("data_base64: %w", err)
		}
		return bytes, nil
	case bytes.HasPrefix(data, []byte{'"'}) && !isJSONData(dataContentType):
		text, err := decodeText(members, "data")
		return []byte(text), err
	}
	return data, nil
}

// isJSONData reports whether the data of an event is JSON, which is the default.
func isJSONData(dataContentType string) bool {
	if dataContentType == "" {
		return true
	}
	mediaType, _, _ := mime.ParseMediaType(dataContentType)
	return mediaType == "application/json" || mediaType == eventContentType // the two that Dapr reads as JSON
}
