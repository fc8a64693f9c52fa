package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"example.com/dapr-orders/daprhttp"
)

// A letter is what came to the dead-letter topic: an event, as it was delivered to
// whoever could not handle it, or whatever else was published there.
type letter struct {
	event   daprhttp.Event
	isEvent bool
	reason  string // "" if it does not say
	size    int    // of an event of which the letter has only the beginning, or 0
	body    []byte // without the reason
}

// readLetter reads what was published to a dead-letter topic.
func readLetter(body []byte) letter {
	l := letter{body: body}
	event, err := daprhttp.DecodeEvent(body)
	if err != nil {
		return l
	}
	l.event, l.isEvent = event, true
	var attributes map[string]json.RawMessage
	if json.Unmarshal(body, &attributes) != nil {
		return l
	}
	// What is none of these types is not from a daprhttp.DeliveryHandler.
	_ = json.Unmarshal(attributes[daprhttp.AttributeDeadLetterReason], &l.reason)
	_ = json.Unmarshal(attributes[daprhttp.AttributeDeadLetterSize], &l.size)
	delete(attributes, daprhttp.AttributeDeadLetterReason)
	if without, err := json.Marshal(attributes); err == nil {
		l.body = without
	}
	return l
}

// id names a letter. The same event has the same, whoever moved it and however often.
func (l letter) id() string {
	h := sha256.New()
	if l.isEvent {
		data := l.event.Data
		var compact bytes.Buffer
		if json.Compact(&compact, data) == nil {
			data = compact.Bytes()
		}
		fmt.Fprintf(h, "%d:%s%d:%s%d:%s", len(l.event.Source), l.event.Source, len(l.event.ID), l.event.ID, len(data), data)
	} else {
		h.Write(l.body)
	}
	return strings.ToLower(base32.StdEncoding.EncodeToString(h.Sum(nil)[:10]))
}

// A summary is a letter in a list.
type summary struct {
	ID         string    `json:"id"`
	EventID    string    `json:"eventId"`
	Source     string    `json:"source"`
	Reason     string    `json:"reason"`
	Bytes      int       `json:"bytes"`
	ReceivedAt time.Time `json:"receivedAt"`
	Data       string    `json:"data"` // its beginning
}

func (l letter) summary(id string, receivedAt time.Time) summary {
	const most = 200
	data := l.body
	if l.isEvent {
		data = l.event.Data
	}
	s := summary{
		ID: id, EventID: l.event.ID, Source: l.event.Source, Reason: l.reason, Bytes: len(l.body), ReceivedAt: receivedAt,
		Data: strings.ToValidUTF8(string(data[:min(len(data), most)]), "\uFFFD"),
	}
	switch {
	case s.Reason != "":
	case l.isEvent:
		s.Reason = "not said: the log of the subscriber has it"
	default:
		s.Reason = "it is not a CloudEvent"
	}
	if l.size > 0 {
		s.Bytes = l.size
	}
	return s
}

// message returns what is published to send a letter again.
func (l letter) message() (daprhttp.Message, error) {
	switch {
	case l.size > 0:
		return daprhttp.Message{}, fmt.Errorf("only the beginning of it is kept, of %d bytes: its publisher must send it", l.size)
	case l.isEvent:
		return daprhttp.Message{Data: l.body, ContentType: "application/cloudevents+json"}, nil
	default:
		return daprhttp.Message{Data: l.body, Metadata: map[string]string{daprhttp.MetadataRawPayload: "true"}}, nil
	}
}
