package daprhttp

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// A DeadLetter is what [DeadLetters] publishes: an event that can never be handled, and
// what is known about that. It travels as the event itself, with the CloudEvents
// extension attributes deadletterreason, deadlettertopic and deadletterapp. A body that is
// not an event, or too long with them, travels as the data of an event that stands in for it
// and has the attribute deadlettersize too.
type DeadLetter struct {
	Event         // what could be read of it
	Reason string // why it can never be handled
	From   string // the topic to which it was published first
	AppID  string // the app that could not handle it

	// Body is the body of the event as the app got it, or its beginning: Size is the
	// length of the whole body in bytes.
	Body []byte
	Size int
}

const (
	reasonAttribute = "deadletterreason"
	topicAttribute  = "deadlettertopic"
	appAttribute    = "deadletterapp"
	sizeAttribute   = "deadlettersize"
)

// DeadLetters returns a wrapper whose handler publishes each event that the wrapped
// handler drops to a dead-letter topic, with the reason. Then the event is done, and the
// answer to the sidecar has the reason as "error". appID is the program's Dapr app ID.
//
// When the topic can't be reached, the outcome is StatusRetry. When the sidecar refuses
// every letter for the topic, the outcome stays StatusDrop, so that the sidecar moves the
// event to the DeadLetterTopic of its [Subscription] by itself. Events that a person sent
// are not moved.
func DeadLetters(to Topic, appID string) (func(Handler) Handler, error) {
	if err := to.check(); err != nil {
		return nil, err
	}
	return func(next Handler) Handler {
		return func(ctx context.Context, e Event) Outcome {
			o := next(ctx, e)
			if o.Status != StatusDrop || e.byHand {
				return o
			}
			err := to.bury(ctx, newDeadLetter(e, appID, o.Err))
			to.moved(ctx, e, err)
			switch {
			case err == nil:
				return Outcome{Status: StatusSuccess, Err: o.Err}
			case isRefused(err):
				return o
			}
			return Retry(err)
		}
	}, nil
}

func newDeadLetter(e Event, appID string, why error) DeadLetter {
	return DeadLetter{Event: e, Reason: cmp.Or(why, errors.New("the handler does not say why")).Error(), From: e.Topic, AppID: appID, Body: e.raw, Size: e.size}
}

// bury publishes a dead letter, and in its place one that is short when it is too long
// for the sidecar or the broker. Sidecars answer 413 to a message that is too long; of
// a broker that refuses one they only say 500.
func (t Topic) bury(ctx context.Context, l DeadLetter) error {
	const short, beginning = 64 << 10, 1 << 10 // every broker takes a message that is short
	if len(l.Body) == l.Size {
		body, ok := l.withAttributes()
		if !ok {
			body = l.standIn(l.Body)
		}
		err := t.publish(ctx, body)
		if err == nil || len(body) <= short && !isRefused(err) {
			return err
		}
	}
	return t.publish(ctx, l.standIn(l.Body[:min(len(l.Body), beginning)]))
}

// isRefused reports whether a sidecar will never publish what it was given: because of
// what that is, or because the app may not publish to the topic.
func isRefused(err error) bool {
	var refused *Error
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.StatusCode {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusRequestEntityTooLarge:
		return true
	}
	return false
}

// withAttributes returns the event with the attributes of a letter behind its own. It
// returns false when the body is not an event, or has one of these attributes.
func (l DeadLetter) withAttributes() ([]byte, bool) {
	var members map[string]json.RawMessage
	if _, err := DecodeEvent(l.Body); err != nil || json.Unmarshal(l.Body, &members) != nil {
		return nil, false
	}
	for _, name := range []string{reasonAttribute, topicAttribute, appAttribute, sizeAttribute} {
		if members[name] != nil {
			return nil, false
		}
	}
	return slices.Concat(bytes.TrimSuffix(bytes.TrimSpace(l.Body), []byte{'}'}), l.attributes()), true
}

// attributes returns the end of an event that is a letter.
func (l DeadLetter) attributes() []byte {
	return fmt.Appendf(nil, ",%q:%s,%q:%s,%q:%s}",
		reasonAttribute, quoted(l.Reason), topicAttribute, quoted(l.From), appAttribute, quoted(l.AppID))
}

// quoted returns text as JSON, the same again when it was decoded.
func quoted(text string) []byte {
	b, err := json.Marshal(strings.ToValidUTF8(text, "\uFFFD"))
	if err != nil {
		panic(err) // a string always has a JSON
	}
	return b
}

// standIn returns an event that stands in for another: it has what identifies that, the
// attributes of a letter, and the body, or its beginning, as its data.
func (l DeadLetter) standIn(data []byte) []byte {
	body, err := json.Marshal(map[string]any{
		"specversion":     "1.0",
		"id":              l.ID,
		"source":          cmp.Or(l.Source, "unknown"),
		"type":            cmp.Or(l.Type, "unknown"),
		"topic":           l.Topic,
		"datacontenttype": "application/octet-stream",
		"data_base64":     data,
		reasonAttribute:   l.Reason,
		topicAttribute:    l.From,
		appAttribute:      l.AppID,
		sizeAttribute:     l.Size,
	})
	if err != nil {
		panic(err) // strings, bytes and an integer always have a JSON
	}
	return body
}

// DecodeDeadLetter reads what was published to a dead-letter topic, by [DeadLetters] or
// by a sidecar, which gives no reason. The error is that of [DecodeEvent]: a letter that
// a sidecar moved need not be an event.
func DecodeDeadLetter(body []byte) (DeadLetter, error) {
	e, err := DecodeEvent(body)
	l := DeadLetter{Event: e, Body: body, Size: len(body)}
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil {
		return l, err
	}
	// Attributes of other types were not written by DeadLetters.
	_ = json.Unmarshal(members[reasonAttribute], &l.Reason)
	_ = json.Unmarshal(members[topicAttribute], &l.From)
	_ = json.Unmarshal(members[appAttribute], &l.AppID)
	if json.Unmarshal(members[sizeAttribute], &l.Size) == nil {
		l.Body = e.Data
		return l, err
	}
	if event, found := bytes.CutSuffix(body, l.attributes()); found {
		l.Body = slices.Concat(event, []byte{'}'})
		l.Size = len(l.Body)
	}
	return l, err
}
