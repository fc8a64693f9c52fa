package daprhttp

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// AttributeDeadLetterReason is the CloudEvents extension attribute in which an event
// that a [DeliveryHandler] has moved to a dead-letter topic says why.
// AttributeDeadLetterSize is that of a letter which is only the beginning of an
// event: how many bytes that has.
const (
	AttributeDeadLetterReason = "deadletterreason"
	AttributeDeadLetterSize   = "deadlettersize"
)

const (
	moveTime  = 10 * time.Second // for all that is moved of a delivery
	maxMoving = 32               // events that are moved at the same time
)

// moveAll moves what can never be done to the dead-letter topic, and, if it is stuck,
// what is to be done again to the retry topic. What was moved is done; what could
// not be moved comes again.
func (h *DeliveryHandler) moveAll(ctx context.Context, entries []entry, stuck bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), moveTime)
	defer cancel()
	moving := make(chan struct{}, maxMoving)
	var wg sync.WaitGroup
	for i := range entries {
		e := &entries[i]
		never := e.Status == StatusDrop && h.DeadLetterTopic != ""
		if !never && (e.Status != StatusRetry || !stuck) {
			continue
		}
		moving <- struct{}{}
		wg.Go(func() {
			defer func() { <-moving }()
			if never {
				e.Status = h.deadLetter(ctx, e)
			} else if h.move(ctx, h.RetryPubsubName, h.RetryTopic, e.event, e.body) {
				e.Status = StatusSuccess
			}
		})
	}
	wg.Wait()
}

// deadLetter moves an event that can never be done to the dead-letter topic, and
// returns its status.
//
// Events grow on their way, so that what was taken as an event may not be taken as a
// letter. Then the topic gets what identifies it. The sidecar says so at once; a
// broker that refuses a letter for its length is a 500, as is one that is away.
func (h *DeliveryHandler) deadLetter(ctx context.Context, e *entry) Status {
	const small = 64 << 10 // which every broker takes
	var err error
	if len(e.body) == e.size {
		letter := withAttribute(e.body, AttributeDeadLetterReason, e.Err.Error())
		for try := 0; try < 2; try++ {
			if err = h.publish(ctx, h.PubsubName, h.DeadLetterTopic, letter); err == nil || isRefused(err) {
				break
			}
		}
		if err == nil || len(letter) <= small && !isRefused(err) {
			h.moved(ctx, e.event, h.DeadLetterTopic, err)
			return moveStatus(err)
		}
	}
	err = h.publish(ctx, h.PubsubName, h.DeadLetterTopic, abridged(e))
	h.moved(ctx, e.event, h.DeadLetterTopic, err)
	if isRefused(err) {
		return StatusDrop // the topic takes nothing at all: it must end
	}
	return moveStatus(err)
}

// isRefused reports whether the sidecar will never publish what it was given: because
// of what it is, or because the app may not publish to the topic.
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

func moveStatus(err error) Status {
	if err != nil {
		return StatusRetry
	}
	return StatusSuccess
}

// move publishes an event to a topic as it came, and reports whether it is there.
func (h *DeliveryHandler) move(ctx context.Context, pubsubName, topic string, e Event, body []byte) bool {
	err := h.publish(ctx, cmp.Or(pubsubName, h.PubsubName), topic, body)
	h.moved(ctx, e, topic, err)
	return err == nil
}

func (h *DeliveryHandler) moved(ctx context.Context, e Event, topic string, err error) {
	if h.Moved != nil {
		h.Moved(ctx, e, topic, err)
	}
}

func (h *DeliveryHandler) publish(ctx context.Context, pubsubName, topic string, event []byte) error {
	return h.Sidecar.Publish(ctx, pubsubName, topic, Message{
		Data:     event,
		Metadata: map[string]string{MetadataRawPayload: "true"},
	})
}

// withAttribute returns an event with one more attribute. What is no JSON object is
// left as it is.
func withAttribute(event []byte, name, value string) []byte {
	event = bytes.TrimSpace(event)
	if !bytes.HasPrefix(event, []byte{'{'}) || !json.Valid(event) {
		return event
	}
	text, err := json.Marshal(value)
	if err != nil {
		return event
	}
	before := event[:len(event)-1]
	separator := ","
	if len(bytes.TrimSpace(before)) == 1 {
		separator = ""
	}
	return fmt.Appendf(nil, "%s%s%q:%s}", before, separator, name, text)
}

// maxBeginning is how many bytes an abridged letter has of its event.
const maxBeginning = 1 << 10

// abridged returns an event that says of another what it is, why it could not be
// handled, and how it begins.
func abridged(e *entry) []byte {
	beginning := e.body[:min(len(e.body), maxBeginning)]
	letter, err := json.Marshal(map[string]any{
		"specversion":             "1.0",
		"id":                      cmp.Or(e.event.ID, "unknown"),
		"source":                  cmp.Or(e.event.Source, "unknown"),
		"type":                    cmp.Or(e.event.Type, "unknown"),
		"topic":                   e.event.Topic,
		AttributeDeadLetterReason: e.Err.Error(),
		AttributeDeadLetterSize:   e.size,
		"datacontenttype":         "text/plain",
		"data":                    strings.ToValidUTF8(string(beginning), "\uFFFD"),
	})
	if err != nil {
		panic(err) // strings and an integer always have a JSON
	}
	return letter
}

// identify returns what tells an event from others, out of the event or its end: a
// sidecar writes the attributes in the order of their names, and so all of these
// behind the data. Where they are inside the data, their quotes are escaped, or they
// come first.
func identify(event []byte) Event {
	attribute := func(name string) (value string) {
		prefix := fmt.Appendf(nil, "%q:", name)
		if i := bytes.LastIndex(event, prefix); i >= 0 {
			value, _ = newScanner(bytes.NewReader(event[i+len(prefix):])).text(maxBeginning)
		}
		return value
	}
	return Event{ID: attribute("id"), Source: attribute("source"), Type: attribute("type"), Topic: attribute("topic")}
}

// A failingRun is a time in which events had to be delivered again, although others
// could be handled.
type failingRun struct {
	mu    sync.Mutex
	asked time.Time // when Ready was asked the last time
	ready error     // what it answered
	since time.Time // when the run began; zero: there is none
	last  time.Time
}

// maxGap is how far apart failures of one run are: a sidecar that is told to retry
// does so after a second, or a few.
const maxGap = 10 * time.Second

// stuck reports whether events that must be delivered again are to be moved out of the
// others' way. The time runs only while what the program depends on works: when it
// is away for all, nothing would be gained.
func (h *DeliveryHandler) stuck(ctx context.Context) bool {
	if h.RetryTopic == "" {
		return false
	}
	failed := time.Now()
	f := &h.failing
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.asked.After(failed) { // the answer of one that was asked since serves all
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), moveTime)
		defer cancel()
		f.asked = time.Now()
		f.ready = nil
		if h.Ready != nil {
			f.ready = h.Ready(ctx)
		}
	}
	now := time.Now()
	switch {
	case f.ready != nil:
		f.since = time.Time{}
		return false
	case f.since.IsZero() || now.Sub(f.last) > maxGap:
		f.since = now
	}
	f.last = now
	return now.Sub(f.since) >= cmp.Or(h.RetryAfter, 5*time.Second)
}

// trying are the events of the retry topic that a sidecar tries again and again.
type trying struct {
	mu    sync.Mutex
	first map[[2]string]time.Time // by source and id
}

// maxTrying bounds trying. It is far more than a sidecar tries at the same time: what is
// beyond it was taken over by another.
const maxTrying = 10_000

// since returns for how long an event has been tried, and forgets it unless it goes on.
func (t *trying) since(e Event, goesOn bool) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := [2]string{e.Source, e.ID}
	first, known := t.first[key]
	switch {
	case !goesOn:
		delete(t.first, key)
	case !known:
		if t.first == nil || len(t.first) >= maxTrying {
			t.first = make(map[[2]string]time.Time)
		}
		t.first[key] = time.Now()
		return 0
	}
	return time.Since(first)
}
