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

// A DeadLetter is an event that can never be handled, with the reason. [DeadLetters]
// publishes the event with the CloudEvents extension attributes deadletterreason,
// deadlettertopic and deadletterapp. If the body is not an event, or has one of these
// attributes already, it publishes another event, with the body as its data and the attribute
// deadlettersize. If the sidecar refuses the letter, it publishes such an event with only the
// beginning of the body. For a letter that is longer than 128 KiB, a 500 counts as a refusal.
type DeadLetter struct {
	Event         // the attributes that could be read
	Reason string // why the event can never be handled
	From   string // the Topic of the event
	AppID  string // the app that could not handle the event

	Body []byte // the event in the JSON format, or a body that is no event; only the beginning if it is too long
	Size int    // the length of the whole body in bytes; at least the first 16 MiB are counted
}

const (
	reasonAttribute = "deadletterreason"
	topicAttribute  = "deadlettertopic"
	appAttribute    = "deadletterapp"
	sizeAttribute   = "deadlettersize"
)

// DeadLetters returns a wrapper. Its handler publishes each event that the wrapped handler
// drops to a dead-letter topic, with the reason. The outcome is then StatusSuccess, and the
// answer to the sidecar has the reason as "error". appID is the program's Dapr app ID.
//
// When publishing fails, the outcome is StatusRetry. When the sidecar answers 400, 403 or 413,
// a retry would not help: the outcome stays StatusDrop if the [Subscription] has a
// DeadLetterTopic. The sidecar then moves the event there itself, if the app may publish to
// that topic. Without a DeadLetterTopic the outcome is StatusRetry: the sidecar would lose
// the event. An event that a person sent (see [Subscribe]) is not moved.
//
// The error says that a field of the Topic is missing.
func DeadLetters(to Topic, appID string) (func(Handler) Handler, error) {
	if err := to.check(); err != nil {
		return nil, err
	}
	return func(next Handler) Handler {
		return func(ctx context.Context, e Event) Outcome {
			o := next(ctx, e)
			switch {
			case o.Status != StatusDrop || e.byHand:
				return o
			case e.raw == nil:
				return Retry(errNotDelivered)
			}
			err := to.bury(ctx, newDeadLetter(e, appID, o.Err))
			to.moved(ctx, e, err)
			switch {
			case err == nil:
				return Outcome{Status: StatusSuccess, Err: o.Err}
			case isRefused(err) && e.hasDeadLetterTopic:
				return o
			}
			return Retry(err)
		}
	}, nil
}

func newDeadLetter(e Event, appID string, why error) DeadLetter {
	return DeadLetter{Event: e, Reason: cmp.Or(why, errors.New("the handler gave no reason")).Error(), From: e.Topic, AppID: appID, Body: e.raw, Size: e.size}
}

// bury publishes a dead letter. If the sidecar refuses it, bury publishes only the beginning
// of the body: the letter may be too long for the sidecar or the broker. A sidecar answers 413
// to a message that is too long for it, and 500 if the broker refuses the message or is down.
func (t Topic) bury(ctx context.Context, l DeadLetter) error {
	const short, beginning = 128 << 10, 1 << 10 // every broker takes a short message
	if len(l.Body) == l.Size {
		body, ok := l.withAttributes()
		if !ok {
			body = l.standIn(l.Body)
		}
		err := t.publish(ctx, body)
		if !isRefused(err) && !(len(body) > short && hasStatus(err, http.StatusInternalServerError)) {
			return err
		}
	}
	return t.publish(ctx, l.standIn(l.Body[:min(len(l.Body), beginning)]))
}

// isRefused reports whether the sidecar will never publish the message: because of its
// content, or because the app may not publish to the topic.
func isRefused(err error) bool {
	return hasStatus(err, http.StatusBadRequest, http.StatusForbidden, http.StatusRequestEntityTooLarge)
}

// hasStatus reports whether err is an answer of the sidecar with one of these statuses.
func hasStatus(err error, statuses ...int) bool {
	var refused *Error
	return errors.As(err, &refused) && slices.Contains(statuses, refused.StatusCode)
}

// withAttributes returns the event with the attributes of a letter at its end. It returns
// false when the body is not an event, or has one of these attributes already.
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

// attributes returns the attributes of a letter as the end of an event's JSON.
func (l DeadLetter) attributes() []byte {
	return fmt.Appendf(nil, ",%q:%s,%q:%s,%q:%s}",
		reasonAttribute, quoted(l.Reason), topicAttribute, quoted(l.From), appAttribute, quoted(l.AppID))
}

// quoted returns text as a JSON string. A decoded string is encoded as the same bytes again.
func quoted(text string) []byte {
	b, err := json.Marshal(strings.ToValidUTF8(text, "\uFFFD"))
	if err != nil {
		panic(err) // a string can always be encoded
	}
	return b
}

// standIn returns an event that takes the place of the letter's event. It has the same id,
// source and type, the attributes of a letter, and data.
func (l DeadLetter) standIn(data []byte) []byte {
	body, err := json.Marshal(map[string]any{
		"specversion":     "1.0",
		"id":              l.ID,
		"source":          cmp.Or(l.Source, "unknown"),
		"type":            cmp.Or(l.Type, "unknown"),
		"topic":           l.Topic,
		"datacontenttype": "application/octet-stream",
		"data_base64":     data,
		reasonAttribute:   json.RawMessage(quoted(l.Reason)),
		topicAttribute:    json.RawMessage(quoted(l.From)),
		appAttribute:      json.RawMessage(quoted(l.AppID)),
		sizeAttribute:     l.Size,
	})
	if err != nil {
		panic(err) // strings, bytes and an integer can always be encoded
	}
	return body
}

// DecodeDeadLetter reads a dead letter that [DeadLetters] published, or that a sidecar
// moved without a reason. The error is that of [DecodeEvent]: a letter that a sidecar moved
// need not be an event.
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
	// A publisher may have set these attributes: only what standIn wrote takes the event's place.
	standIn := l
	if json.Unmarshal(members[sizeAttribute], &standIn.Size) == nil && bytes.Equal(standIn.standIn(e.Data), body) {
		standIn.Body = e.Data
		return standIn, err
	}
	if event, found := bytes.CutSuffix(body, l.attributes()); found {
		l.Body = slices.Concat(event, []byte{'}'})
		l.Size = len(l.Body)
	}
	return l, err
}
