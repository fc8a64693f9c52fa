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

// A letter is a message of the dead-letter topic: an event that an app could not handle, or
// another message, whose whole body is the data.
type letter struct {
	daprhttp.DeadLetter
	isEvent bool
}

// readLetter reads a message of a dead-letter topic.
func readLetter(body []byte) letter {
	l, err := daprhttp.DecodeDeadLetter(body)
	if err != nil {
		l.Data = body
	}
	return letter{l, err == nil}
}

// id returns the ID of a letter. All letters of an event with the same data have the same ID.
func (l letter) id() string {
	data := l.Data
	var compact bytes.Buffer
	if json.Compact(&compact, data) == nil {
		data = compact.Bytes()
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%s%d:%s%d:%s", len(l.Source), l.Source, len(l.ID), l.ID, len(data), data))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:10]))
}

// A summary is a letter in a list.
type summary struct {
	ID         string    `json:"id"`
	EventID    string    `json:"eventId"`
	Source     string    `json:"source"`
	Reason     string    `json:"reason"`
	From       string    `json:"from"`  // the topic of the event
	AppID      string    `json:"appId"` // the subscriber's app ID
	Bytes      int       `json:"bytes"`
	ReceivedAt time.Time `json:"receivedAt"`
	Data       string    `json:"data"` // the beginning of the data
}

func (l letter) summary(id string, receivedAt time.Time) summary {
	const most = 200
	s := summary{
		ID: id, EventID: l.ID, Source: l.Source, Reason: l.Reason, From: l.From, AppID: l.AppID, Bytes: l.Size, ReceivedAt: receivedAt,
		Data: strings.ToValidUTF8(string(l.Data[:min(len(l.Data), most)]), "\uFFFD"),
	}
	switch {
	case s.Reason != "":
	case l.isEvent:
		s.Reason = "unknown: a sidecar moved it; see the log of the subscriber"
	default:
		s.Reason = "it is not a CloudEvent"
	}
	return s
}
