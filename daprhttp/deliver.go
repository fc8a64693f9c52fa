package daprhttp

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"sync"
	"time"
)

// A DeliveryHandler is the route of a [Subscription]. It takes what a sidecar
// delivers there, one event or many in bulk, lets the program handle the events, and
// tells the sidecar what to do with each:
//
//   - what is done is not delivered again;
//   - what can't be done now is delivered again, and if that goes on while others
//     get through, it is moved to the retry topic, so that these need not wait for it;
//   - what can never be done is moved to the dead-letter topic.
//
// Events are told from other requests by their content type, with which only a
// sidecar delivers. Whoever sends an event without it, by hand, is answered with
// plain HTTP statuses, and nothing is moved.
//
// A request of one event costs at most some 512 KiB of memory, whatever it holds, and
// a bulk some 32 MiB, of which two at a time are read; others wait. A sidecar
// delivers its bulks one after another.
//
// See https://docs.dapr.io/reference/api/pubsub_api/#provide-routes-for-dapr-to-deliver-topic-events.
type DeliveryHandler struct {
	// Handle handles events: one, or all of a bulk. It returns what became of each,
	// in their order. It may be called by many goroutines at once.
	Handle func(ctx context.Context, events []Event) []Outcome

	// Sidecar is what publishes the events that are moved, in the pub/sub component
	// called PubsubName.
	Sidecar    *Client
	PubsubName string

	// DeadLetterTopic takes the events of bulks that can never be done. It is the
	// same as that of the Subscription, where the sidecar moves to it those that
	// were delivered alone. Without it, they are answered with StatusDrop, too, and
	// so is one that the sidecar may not publish to the topic, not even abridged.
	DeadLetterTopic string

	// RetryTopic, of the component RetryPubsubName, takes the events for which
	// StatusRetry has been the answer for RetryAfter, 5 seconds if it is zero,
	// although Ready says that others can be handled. The program subscribes to it
	// too, not in bulk, with a DeliveryHandler that has Retrying set. It is best
	// a topic of a component of its own: many share among all topics how many events
	// are delivered at the same time. Without a RetryTopic, events are delivered again
	// where they are.
	RetryPubsubName, RetryTopic string
	RetryAfter                  time.Duration

	// Retrying says that this is the route of the RetryTopic itself: an event for which
	// StatusRetry has been the answer for RetryAfter, 20 seconds if it is zero, goes to
	// the end of the topic, so that others get their turn. Brokers take it ill when an
	// event is out for long.
	Retrying bool

	// Ready returns nil when what the program depends on works: then it is the
	// events that are at fault. Nil stands for a function that returns nil.
	Ready func(context.Context) error

	// BareData takes a body that is no CloudEvent, and was not sent as one, for the
	// data of an event, to which it gives a new ID.
	BareData bool

	// MaxEventBytes bounds an event. A longer one can never be handled. Zero means
	// 64 KiB.
	MaxEventBytes int

	// Refused is told of a request that is no event that Handle could be given, and
	// Moved of an event that was moved to a topic, or, with an error, was not. They
	// may be nil.
	Refused func(ctx context.Context, e Event, why error)
	Moved   func(ctx context.Context, e Event, topic string, err error)

	failing failingRun
	trying  trying
}

// An Outcome is what became of an event.
type Outcome struct {
	// Status is StatusSuccess: done; StatusRetry: again; StatusDrop: never.
	Status Status

	// Err says why it is not done.
	Err error

	// Answer, where it is not nil, is sent as JSON in answer to an event that was
	// delivered alone. Its field "status" must be the Status.
	Answer any

	// HTTPStatus is the status of the answer to whoever sent an event by hand. Zero
	// means 200 for done, 500 for again, 400 for never.
	HTTPStatus int
}

// Done returns the outcome of an event that was handled.
func Done() Outcome { return Outcome{Status: StatusSuccess} }

// Again returns the outcome of an event that can't be handled now.
func Again(err error) Outcome { return Outcome{Status: StatusRetry, Err: err} }

// Never returns the outcome of an event that can't be handled, however often it is
// delivered.
func Never(err error) Outcome { return Outcome{Status: StatusDrop, Err: err} }

const (
	maxEntries   = 1000     // handled of a bulk; the rest comes again
	maxBulkBytes = 8 << 20  // of events kept of a bulk; what has no room comes again
	maxSkipped   = 16 << 20 // of a body that is too large
)

// ErrEventTooLarge is wrapped by the error of an event beyond the limit.
var ErrEventTooLarge = errors.New("the event is too large")

// bulkSlots has an element for each long body that is being read or handled.
var bulkSlots = make(chan struct{}, 2)

// ServeHTTP answers one delivery.
func (h *DeliveryHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx := ContextWithTrace(r.Context(), r.Header)
	most := cmp.Or(h.MaxEventBytes, 64<<10)
	body, err := io.ReadAll(io.LimitReader(r.Body, int64(most)+1))
	isEvent := IsEventContentType(r.Header.Get("Content-Type"))
	if err != nil { // which says nothing against the event
		h.answer(w, isEvent, Again(fmt.Errorf("the body could not be read: %w", err)))
		return
	}
	long := len(body) > most
	if !isEvent && long {
		select { // only a bulk may be so long
		case bulkSlots <- struct{}{}:
			defer func() { <-bulkSlots }()
		case <-ctx.Done():
			return
		}
	}
	if !isEvent {
		bulk, err := readBulk(io.MultiReader(bytes.NewReader(body), r.Body), most)
		switch {
		case err == nil:
			writeJSON(w, http.StatusOK, BulkResponse{h.serveBulk(ctx, bulk)})
			return
		case long && bulk != nil: // it has begun like one
			h.answer(w, false, Again(fmt.Errorf("the body could not be read: %w", err)))
			return
		}
	}
	if long {
		_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, maxSkipped)) // a sender that is cut off may not see the answer
		tooLarge := Never(tooLarge(most))
		tooLarge.HTTPStatus = http.StatusRequestEntityTooLarge
		h.refuse(ctx, w, isEvent, Event{}, tooLarge)
		return
	}
	h.serveOne(ctx, w, body, isEvent)
}

func tooLarge(most int) error {
	return fmt.Errorf("%w: it must not be longer than %d bytes", ErrEventTooLarge, most)
}

// refuse answers what Handle could not be given.
func (h *DeliveryHandler) refuse(ctx context.Context, w http.ResponseWriter, isEvent bool, e Event, o Outcome) {
	if h.Refused != nil {
		h.Refused(ctx, e, o.Err)
	}
	h.answer(w, isEvent, o)
}

// serveOne handles the event in a body.
func (h *DeliveryHandler) serveOne(ctx context.Context, w http.ResponseWriter, body []byte, isEvent bool) {
	event, err := h.decode(body, isEvent)
	if err != nil {
		h.refuse(ctx, w, isEvent, event, Never(err))
		return
	}
	o := h.Handle(ctx, []Event{event})[0]
	switch {
	case !isEvent: // somebody waits for the answer
	case h.Retrying:
		o = h.retry(ctx, event, body, o)
	case o.Status == StatusRetry && h.stuck(ctx) && h.move(ctx, h.RetryPubsubName, h.RetryTopic, event, body):
		o = Done()
	case o.Status == StatusDrop && h.DeadLetterTopic != "":
		// The sidecar moves it there, but can't say why. So that is said first, by a copy
		// under the same id; if it can't be, the sidecar's will do.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), moveTime)
		defer cancel()
		_ = h.deadLetter(ctx, &entry{body: body, size: len(body), event: event, Outcome: o})
	}
	h.answer(w, isEvent, o)
}

// retry has an event of the retry topic tried again, and at last moves it to the end of
// its topic, or to the dead-letter topic, of which the retry topic's component need not
// know.
func (h *DeliveryHandler) retry(ctx context.Context, event Event, body []byte, o Outcome) Outcome {
	tried := h.trying.since(event, o.Status == StatusRetry)
	switch {
	case o.Status == StatusRetry && tried >= cmp.Or(h.RetryAfter, 20*time.Second) && h.move(ctx, h.RetryPubsubName, h.RetryTopic, event, body):
		h.trying.since(event, false)
		return Done()
	case o.Status == StatusDrop && h.DeadLetterTopic != "":
		o.Status = h.deadLetter(ctx, &entry{body: body, size: len(body), event: event, Outcome: o})
	}
	return o
}

// decode returns the event in a body.
func (h *DeliveryHandler) decode(body []byte, isEvent bool) (Event, error) {
	if !isEvent && h.BareData && isBare(body) {
		return Event{ID: rand.Text(), Data: body}, nil
	}
	return DecodeEvent(body)
}

// isBare reports whether a body has nothing of an event.
func isBare(body []byte) bool {
	bare := true
	s := newScanner(bytes.NewReader(body))
	_ = s.members(func(name string) error {
		switch name {
		case "specversion", "data", "data_base64":
			value, size, err := s.value(nil, len("null"))
			bare = bare && err == nil && size == len("null") && string(value) == "null"
			return err
		}
		return s.skip()
	})
	return bare
}

// answer answers the delivery of one event.
func (h *DeliveryHandler) answer(w http.ResponseWriter, isEvent bool, o Outcome) {
	status := http.StatusOK
	switch {
	case o.Status == StatusRetry:
		status = cmp.Or(o.HTTPStatus, http.StatusInternalServerError)
	case o.Status == StatusDrop && !isEvent: // only a sidecar knows what DROP means
		status = cmp.Or(o.HTTPStatus, http.StatusBadRequest)
	}
	if o.Answer != nil {
		writeJSON(w, status, o.Answer)
		return
	}
	answer := struct {
		Status Status `json:"status,omitempty"`
		Error  string `json:"error,omitempty"`
	}{Status: o.Status}
	if o.Err != nil {
		answer.Error = o.Err.Error()
	}
	if o.Status == StatusDrop && !isEvent {
		answer.Status = ""
	}
	writeJSON(w, status, answer)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(v) // fails only when the client has gone
}

// An entry is an event of a bulk on its way.
type entry struct {
	id      string
	body    []byte // as it came, or its beginning
	size    int    // of all of it
	event   Event
	refused bool // Handle is not given it
	Outcome      // no Status: it comes again
}

// readBulk reads a bulk. It returns no entries, and an error, for a body that does not
// begin like one.
func readBulk(body io.Reader, most int) (entries []entry, err error) {
	var arena []byte
	type place struct{ from, to int }
	var places []place
	err = scanBulk(body, func() ([]byte, int) {
		if entries == nil {
			entries = []entry{}
		}
		return arena, min(len(arena)+maxEntryBytes, maxBulkBytes)
	}, func(e scannedEntry) error {
		one := entry{id: e.id, size: e.size}
		from := len(arena)
		kept := max(0, len(e.event)-from)
		switch {
		case len(entries) >= maxEntries:
			return nil // has no status in the answer, and so comes again
		case kept == e.size:
			arena = e.event
		case e.size > maxEntryBytes: // beyond all bounds: its beginning will do
			kept = min(kept, maxBeginning)
			arena = e.event[:from+kept]
			one.event = identify(e.tail)
		default: // no room: comes again, with less before it
			one.refused = true
			kept = 0
		}
		entries = append(entries, one)
		places = append(places, place{from, from + kept})
		return nil
	})
	for i, p := range places {
		entries[i].body = arena[p.from:p.to:p.to]
		if e := &entries[i]; !e.refused && e.size > most {
			e.refused = true
			e.Outcome = Never(tooLarge(most))
			if len(e.body) == e.size {
				e.event = identify(e.body)
			}
		}
	}
	return entries, err
}

// serveBulk handles the events of a bulk, all together, and moves those that can't be
// handled.
func (h *DeliveryHandler) serveBulk(ctx context.Context, entries []entry) []BulkStatus {
	decodeAll(entries)
	events := make([]Event, 0, len(entries))
	for i := range entries {
		if e := &entries[i]; !e.refused {
			events = append(events, e.event)
		} else if e.Err != nil && h.Refused != nil {
			h.Refused(ctx, e.event, e.Err)
		}
	}
	outcomes := h.Handle(ctx, events)
	again := false
	for i := range entries {
		if e := &entries[i]; !e.refused {
			e.Outcome, outcomes = outcomes[0], outcomes[1:]
			again = again || e.Status == StatusRetry
		}
	}
	h.moveAll(ctx, entries, again && h.stuck(ctx))

	statuses := make([]BulkStatus, 0, len(entries))
	for _, e := range entries {
		statuses = append(statuses, BulkStatus{e.id, cmp.Or(e.Status, StatusRetry)})
	}
	return statuses
}

// decodeAll decodes the events of a bulk, on all processors: the sidecar does nothing
// else meanwhile.
func decodeAll(entries []entry) {
	const least = 16 // entries that are worth a goroutine
	workers := max(1, min(runtime.GOMAXPROCS(0), len(entries)/least))
	var wg sync.WaitGroup
	for n := range workers {
		decode := func() {
			for i := n; i < len(entries); i += workers {
				if e := &entries[i]; !e.refused {
					var err error
					if e.event, err = DecodeEvent(e.body); err != nil {
						e.refused = true
						e.Outcome = Never(err)
					}
				}
			}
		}
		if n == workers-1 {
			decode()
		} else {
			wg.Go(decode)
		}
	}
	wg.Wait()
}
