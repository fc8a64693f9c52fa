package daprhttp

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"example.com/dapr-orders/daprhttp/web"
)

// A Handler handles one event and returns the outcome. Many goroutines may call it at the
// same time, because a sidecar delivers many events at the same time. The context carries
// the trace of the delivery, and is done when the sidecar breaks off the delivery.
//
// After a panic of the handler, net/http breaks off the answer. Then the sidecar delivers the
// event again, if it has the filter: without it, Dapr 1.18.2 may lose the event (see
// components/dapr-issues.md).
type Handler func(ctx context.Context, e Event) Outcome

// An Outcome is the result of handling an event. The zero value is Retry(nil).
type Outcome struct {
	// Status is the answer to the sidecar. Empty means StatusRetry.
	Status Status

	// Err says why the event was not handled, or why it is a dead letter.
	Err error

	// Answer, unless it is nil, is the answer to the request, as JSON. A sidecar gets it only
	// if its field "status" is the Status, and if its JSON is shorter than 2 KiB: Dapr
	// (1.18.2) takes an answer without a status, and an incomplete answer, for success.
	// Otherwise, or if Answer has no JSON, the answer has the Status and the beginning of
	// Err. A person (see [Subscribe]) gets every Answer that can be encoded. Without one, a
	// person gets the Status and Err; after StatusDrop, Err only.
	Answer any

	// MoveNow lets [Retries] move the event without a further try. It matters only after
	// StatusRetry.
	MoveNow bool

	// HTTPStatus is the status of the answer to a request that did not come from a
	// sidecar. Zero means 200 for success, 500 for retry, 400 for drop.
	HTTPStatus int
}

// isAnswer reports whether a sidecar takes this JSON for the Status.
func (o Outcome) isAnswer(text string) bool {
	var answer struct{ Status Status }
	return len(text) < 2<<10 && json.Unmarshal([]byte(text), &answer) == nil && answer.Status == o.Status
}

func (o Outcome) isRetry() bool { return o.Status == StatusRetry || o.Status == "" }

// Success returns the outcome of an event that was handled.
func Success() Outcome { return Outcome{Status: StatusSuccess} }

// Retry returns the outcome of an event that can't be handled now: the sidecar delivers
// it again, as its retry policy says. err may be nil.
func Retry(err error) Outcome { return Outcome{Status: StatusRetry, Err: err} }

// Drop returns the outcome of an event that can never be handled. err may be nil.
func Drop(err error) Outcome { return Outcome{Status: StatusDrop, Err: err} }

// Status is a subscriber's answer to a delivery: the field "status" of a JSON object. In an
// answer with a 2xx, Dapr takes a missing or empty field for StatusSuccess, and an unknown
// value for StatusRetry. It takes a 404 for StatusDrop, and any other HTTP status for
// StatusRetry.
//
// See https://docs.dapr.io/reference/api/pubsub_api/#expected-http-response.
type Status string

const (
	StatusSuccess Status = "SUCCESS" // the event was handled
	StatusRetry   Status = "RETRY"   // deliver it again, as the resiliency policy says
	StatusDrop    Status = "DROP"    // move it to the dead-letter topic, if there is one
)

const (
	maxLongEvent = 8 << 20 // bytes of an event that are kept, if it is longer than its limit
	maxDiscarded = 8 << 20 // further bytes that are read and discarded
	maxErrorText = 256     // bytes of an error in an answer
)

// longEvents has an element for each event in memory that is beyond its limit.
var longEvents = make(chan struct{}, 2)

// deliver answers the delivery of one event to a subscription.
func (s *Subscription) deliver(w http.ResponseWriter, r *http.Request) {
	ctx := ContextWithTrace(r.Context(), r.Header)
	byHand := !web.IsCloudEvent(r.Header) // only a sidecar sends this content type
	limit := cmp.Or(s.MaxEventBytes, 64<<10)
	body, err := io.ReadAll(io.LimitReader(r.Body, max(int64(limit), int64(limit)+1)))
	long := err == nil && len(body) > limit
	if long {
		select {
		case longEvents <- struct{}{}:
			defer func() { <-longEvents }()
		case <-ctx.Done():
			reply(w, byHand, Retry(ctx.Err()))
			return
		}
		var rest []byte
		rest, err = io.ReadAll(io.LimitReader(r.Body, int64(maxLongEvent-len(body))))
		body = append(body, rest...)
	}
	if err != nil { // the next delivery may have the whole body
		reply(w, byHand, Retry(fmt.Errorf("the body could not be read: %w", err)))
		return
	}
	e, err := s.decode(r.Header, body, byHand)
	e.byHand, e.refused = byHand, err
	if long {
		// Read the rest too: a sender that is cut off may not see the answer.
		discarded, _ := io.Copy(io.Discard, io.LimitReader(r.Body, maxDiscarded))
		e.size += int(discarded)
	}
	if long || len(e.raw) > limit { // an event in binary mode is longer in the JSON format
		e.refused = tooLargeError(limit)
	}
	e.deliveredBy = [2]string{s.PubsubName, s.Topic}
	e.hasDeadLetterTopic = s.DeadLetterTopic != ""
	e.PubsubName, e.Topic = cmp.Or(e.PubsubName, s.PubsubName), cmp.Or(e.Topic, s.Topic)
	reply(w, byHand, s.chain(ctx, e))
}

// A tooLargeError is the error of an event that is longer than this limit in bytes.
type tooLargeError int

func (limit tooLargeError) Error() string {
	return fmt.Sprintf("the event is too large: it must not be longer than %d bytes", int(limit))
}

// decode returns the event in a delivery.
func (s *Subscription) decode(h http.Header, body []byte, byHand bool) (Event, error) {
	if byHand && s.BareData && !isBinary(h) && isBare(body) {
		return Event{ID: NewEventID(), Data: body, raw: body, size: len(body)}, nil
	}
	e, err := decodeMessage(h, body)
	if raw, _ := strconv.ParseBool(s.Metadata[MetadataRawPayload]); !raw || err != nil {
		return e, err
	}
	if message, err := decodeMessage(h, e.Data); err == nil {
		return message, nil // the message is an event itself
	}
	e.payload = e.Data
	return e, nil
}

// isBare reports whether a body has none of the members specversion, data and data_base64.
func isBare(body []byte) bool {
	var members map[string]any
	_ = json.Unmarshal(body, &members) // a body that is not an object has none
	return members["specversion"] == nil && members["data"] == nil && members["data_base64"] == nil
}

// refuse returns a handler that drops an event that is too long or can't be decoded, and
// passes any other event to next.
func refuse(next Handler) Handler {
	return func(ctx context.Context, e Event) Outcome {
		if e.refused == nil {
			return next(ctx, e)
		}
		o := Drop(e.refused)
		if errors.As(e.refused, new(tooLargeError)) {
			o.HTTPStatus = http.StatusRequestEntityTooLarge
		}
		return o
	}
}

// reply writes the answer to a delivery.
func reply(w http.ResponseWriter, byHand bool, o Outcome) {
	o.Status = cmp.Or(o.Status, StatusRetry)
	status := http.StatusOK
	shown := o.Status
	switch {
	case o.Status == StatusRetry:
		status = http.StatusInternalServerError
	case o.Status == StatusDrop && byHand: // only a sidecar knows what DROP means
		status, shown = http.StatusBadRequest, ""
	}
	if byHand {
		status = cmp.Or(o.HTTPStatus, status)
	}
	if o.Answer != nil {
		answer, err := web.EncodeJSON(o.Answer)
		if err == nil && (byHand || o.isAnswer(answer)) {
			web.WriteEncoded(w, status, answer)
			return
		}
	}
	text := ""
	if o.Err != nil {
		text = o.Err.Error()
		text = text[:min(len(text), maxErrorText)]
	}
	web.WriteJSON(w, status, struct {
		Status Status `json:"status,omitempty"`
		Error  string `json:"error,omitempty"`
	}{shown, text})
}
