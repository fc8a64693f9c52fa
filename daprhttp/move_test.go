package daprhttp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp/daprtest"
)

func TestIncompleteTopicIsAnError(t *testing.T) {
	s := newSubscriber()
	for _, incomplete := range []func(*Topic){func(t *Topic) { t.Sidecar = nil }, func(t *Topic) { t.PubsubName = "" }, func(t *Topic) { t.Name = "" }} {
		to := s.to("topic")
		incomplete(&to)
		_, err1 := DeadLetters(to, "app")
		_, err2 := Retries(to, time.Second)
		if err1 == nil || err2 == nil {
			t.Errorf("%+v: no error", to)
		}
	}
	if _, err := Retries(s.to("topic"), 0); err == nil {
		t.Error("tryFor is 0: no error")
	}
}

func TestDroppedEventBecomesOneDeadLetterWithTheReason(t *testing.T) {
	const attributes = `"deadlettertopic":"topic","deadletterapp":"app"`
	for _, tt := range []struct{ name, body, wantReason, wantLetter string }{
		{"refused by the handler", `{"specversion":"1.0","id":"e","source":"s","data":"never"} `, "not ever",
			`{"specversion":"1.0","id":"e","source":"s","data":"never","deadletterreason":"not ever",` + attributes + `}`},
		{"too long", event("e", strings.Repeat("x", 64<<10)), "the event is too large: it must not be longer than 65536 bytes", ""},
		{"without an id", `{"data":1}`, "not a CloudEvent: id is missing", ""},
		{"not an object", `[]`, "not a CloudEvent: it is not a JSON object", ""},
		{"empty", ``, "not a CloudEvent: it is not a JSON object", ""},
		{"a letter already", `{"specversion":"1.0","id":"e","source":"s","data":"never","deadletterreason":"x"}`, "not ever", ""},
		{"a letter with another body", `{"specversion":"1.0","id":"e","source":"s","data":"never","deadlettersize":7}`, "not ever", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			is := is.New(t)
			s := newSubscriber()
			s.wrap(t, time.Second)
			status, got := s.post(eventContentType, tt.body)
			is.Equal(status, 200)
			is.Equal(got, fmt.Sprintf(`{"status":"SUCCESS","error":%q}`, tt.wantReason))
			is.Equal(len(s.published()), 1)
			written, found := strings.CutPrefix(s.published()[0], "pubsub/dead ")
			is.True(found)
			if tt.wantLetter != "" {
				is.Equal(written, tt.wantLetter)
			}
			letter, err := DecodeDeadLetter([]byte(written))
			is.NoErr(err)
			is.Equal(letter.Reason, tt.wantReason)
			is.Equal(letter.From, "topic")
			is.Equal(letter.AppID, "app")
			is.Equal(string(letter.Body), strings.TrimSpace(tt.body))
			is.Equal(letter.Size, len(letter.Body))
			is.Equal(strings.Count(written, `"deadletterreason":`), 1)
			is.True(letter.Type != "" || tt.wantLetter != "")
			if strings.Contains(tt.body, `"id"`) {
				is.Equal(letter.ID, "e")
			}
			s.post(eventContentType, tt.body) // a redelivery gives the same letter
			is.Equal(s.published()[0], s.published()[1])
		})
	}
}

// A letter that the sidecar or the broker refuses is replaced by a short letter. If the app
// may not publish to the topic, the sidecar moves the event.
func TestRefusedDeadLetter(t *testing.T) {
	const moved, dropped, retried = `{"status":"SUCCESS","error":"`, `{"status":"DROP","error":"not ever"}`, `{"status":"RETRY","error":"daprhttp: `
	for _, tt := range []struct {
		name   string
		length int // of the event's data
		limit  int // the longest letter that is accepted; 0: none
		status int // of the other letters; 0: the connection breaks
		want   string
	}{
		{"too long for the sidecar", 20 << 10, 10 << 10, 413, moved},
		{"too long for the broker", 200 << 10, 10 << 10, 500, moved},
		{"too long to be read", 10 << 20, 100 << 20, 413, moved},
		{"malformed", 10, 0, 400, dropped},
		{"forbidden", 10, 0, 403, dropped},
		{"too many at a time", 10, 0, 429, retried},
		{"wrong token", 10, 0, 401, retried},
		{"the broker is down", 64 << 10, 10 << 10, 500, retried},
		{"the broker is down, and the event is long", 200 << 10, 0, 500, retried},
		{"a gateway is busy, and the event is long", 200 << 10, 10 << 10, 503, retried},
		{"the sidecar is down", 10, 0, 0, retried},
		{"the sidecar is down, and the event is long", 200 << 10, 10 << 10, 0, retried},
	} {
		t.Run(tt.name, func(t *testing.T) {
			is := is.New(t)
			s := newSubscriber()
			s.Handler = func(context.Context, Event) Outcome { return Drop(errors.New("not ever")) }
			s.DeadLetterTopic = "dead"
			s.wrap(t, time.Second)
			s.refuse(tt.status, tt.limit)
			body := event("e1", strings.Repeat("x", tt.length))
			_, got := s.post(eventContentType, body)
			is.True(strings.HasPrefix(got, tt.want))
			is.Equal(len(s.moved), 1)
			if tt.want != moved {
				is.Equal(len(s.published()), 0)
				return
			}
			letter, err := DecodeDeadLetter([]byte(strings.TrimPrefix(s.published()[0], "pubsub/dead ")))
			is.NoErr(err)
			is.Equal([]string{letter.ID, letter.Source, letter.Type, letter.Topic}, []string{"e1", "s", "t", "topic"})
			is.True(strings.HasPrefix(got, moved+letter.Reason))
			is.Equal(letter.Size, len(body))
			is.Equal(string(letter.Body), body[:1<<10])
		})
	}
}

func TestEventMovesWithoutAFurtherTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := newSubscriber()
		tries := 0
		s.Handler = func(context.Context, Event) Outcome {
			tries++
			return Outcome{Err: errors.New("not now"), MoveNow: true}
		}
		s.wrap(t, time.Hour)
		started := time.Now()
		_, got := s.post(eventContentType, event("e1", "x"))
		is.Equal(got, `{"status":"SUCCESS","error":"not now"}`)
		is.Equal(tries, 1)
		is.Equal(time.Since(started), time.Duration(0))
		is.Equal(len(s.published()), 1)
	})
}

// Without a dead-letter topic, the sidecar would lose an event that the program drops.
func TestRefusedDeadLetterOfASubscriptionWithoutDeadLetterTopicIsRetried(t *testing.T) {
	is := is.New(t)
	s := newSubscriber()
	s.wrap(t, time.Second)
	s.refuse(403, 0)
	status, got := s.post(eventContentType, event("e1", "never"))
	is.Equal(status, 500)
	is.True(strings.HasPrefix(got, `{"status":"RETRY","error":"daprhttp: `))
}

// An Event that was not delivered has no message that could be moved.
func TestOnlyDeliveredEventsAreMoved(t *testing.T) {
	is := is.New(t)
	s := newSubscriber()
	s.wrap(t, time.Millisecond)
	for _, data := range []string{"again", "never"} {
		o := s.Wrap(s.Handler)(t.Context(), Event{ID: "e1", Source: "s", Data: []byte(data)})
		is.Equal(o.Status, StatusRetry)
		is.True(o.Err != nil)
	}
	is.Equal(len(s.published()), 0)
}

func TestReasonOfADeadLetter(t *testing.T) {
	is := is.New(t)
	body := event("e", "never")
	for want, err := range map[string]error{"the handler gave no reason": nil, "<\u2028\uFFFD>": errors.New("<\u2028\xff>")} {
		s := newSubscriber()
		s.wrap(t, time.Second)
		s.Handler = func(context.Context, Event) Outcome { return Drop(err) }
		s.post(eventContentType, body)
		letter, err := DecodeDeadLetter(s.daprd.Published()[0].Event)
		is.NoErr(err)
		is.Equal(letter.Reason, want)
		is.Equal(string(letter.Body), body)
	}
	letter, err := DecodeDeadLetter(newDeadLetter(Event{ID: "e", Source: "s"}, "app", errors.New("<\xff>")).standIn([]byte("data")))
	is.NoErr(err)
	is.Equal(letter.Reason+string(letter.Body), "<\uFFFD>data")
	letter, err = DecodeDeadLetter([]byte(body)) // as a sidecar moves it
	is.NoErr(err)
	is.Equal(letter.Reason, "")
	is.Equal(string(letter.Body), body)
	letter, err = DecodeDeadLetter([]byte("\x00 not an event"))
	is.True(err != nil)
	is.Equal(string(letter.Body), "\x00 not an event")
}

// The publisher of an event may have set the attributes of a letter. When a sidecar moves
// such an event, the whole event stays the body.
func TestForgedAttributesDoNotShortenALetter(t *testing.T) {
	for _, attributes := range []string{
		`"deadlettersize":7`, `"deadletterreason":"x","deadlettersize":7`,
		`"deadletterapp":"a","deadletterreason":"x","deadlettersize":7,"deadlettertopic":"t"`,
	} {
		is := is.New(t)
		body := `{"specversion":"1.0","id":"e","source":"s","data":"never",` + attributes + `}`
		letter, err := DecodeDeadLetter([]byte(body))
		is.NoErr(err)
		is.Equal(string(letter.Body), body)
		is.Equal(letter.Size, len(body))
	}
}

func TestEventIsRetriedAndThenMovedToTheRetryTopic(t *testing.T) {
	for _, tt := range []struct {
		contentType, data string // the outcome: see newSubscriber
		unreached         bool   // the retry topic
		want              string // answer
		wantMoved         []string
	}{
		{eventContentType, "again", false, `{"status":"SUCCESS","error":"not now"}`, []string{"e1 to later: <nil>"}},
		{eventContentType, "forgotten", false, `{"status":"SUCCESS"}`, []string{"e1 to later: <nil>"}},
		{eventContentType, "again", true, `{"status":"RETRY","error":"not now"}`, []string{"e1 to later: daprhttp: POST /v1.0/publish/pubsub/later: sidecar answered 500"}},
		{byHand, "again", false, `{"status":"RETRY","error":"not now"}`, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			is := is.New(t)
			s := newSubscriber()
			s.wrap(t, time.Minute)
			if tt.unreached {
				s.refuse(500, 0)
			}
			start := time.Now()
			_, got := s.post(tt.contentType, event("e1", tt.data))
			is.Equal(got, tt.want)
			is.Equal(s.moved, tt.wantMoved)
			is.Equal(time.Since(start), time.Minute)
			is.True(len(s.handled) > 60 && len(s.handled) < 70) // with pauses that grow to a second
			if strings.Contains(tt.want, "SUCCESS") {
				is.Equal(s.published(), []string{"pubsub/later " + event("e1", tt.data)})
			}
		})
	}
}

func TestHandlerIsRetriedUntilItSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := newSubscriber()
		start := time.Now()
		s.Handler = func(context.Context, Event) Outcome {
			if time.Since(start) < 3*time.Second {
				return Retry(nil)
			}
			return Success()
		}
		s.wrap(t, time.Minute)
		_, got := s.post(eventContentType, event("e1", ""))
		is.Equal(got, `{"status":"SUCCESS"}`)
		is.True(time.Since(start) < 5*time.Second)
		is.Equal(len(s.published()), 0)
	})
}

// The handler's context ends after tryFor, and not when the delivery is broken off.
func TestTryForEndsTheHandlersContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := newSubscriber()
		s.Handler = func(ctx context.Context, _ Event) Outcome { <-ctx.Done(); return Retry(ctx.Err()) }
		s.wrap(t, 5*time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		_, got := s.serve(delivery(ctx, eventContentType, strings.NewReader(event("e1", ""))))
		is.Equal(got, `{"status":"SUCCESS","error":"context deadline exceeded"}`)
		is.Equal(time.Since(start), 5*time.Second)
	})
}

func TestDroppedEventOfAPersonIsNotMoved(t *testing.T) {
	is := is.New(t)
	s := newSubscriber()
	s.wrap(t, time.Second)
	status, _ := s.post(byHand, event("e1", "never"))
	is.Equal(status, 400)
	is.Equal(len(s.published()), 0)
}

// PublishTwice applies to an event's first move and to dead letters. An event that the retry
// topic delivers is published to it once: the topic does not grow.
func TestMovesWithPublishTwice(t *testing.T) {
	is := is.New(t)
	sidecar := new(daprtest.Sidecar)
	client := &Client{HTTPClient: sidecar.Client(), PublishTwice: true}
	retries, err := Retries(Topic{Sidecar: client, PubsubName: "pubsub-retry", Name: "topic"}, time.Microsecond)
	is.NoErr(err)
	dead, err := DeadLetters(Topic{Sidecar: client, PubsubName: "pubsub", Name: "dead"}, "app")
	is.NoErr(err)
	first := newSubscriber().Subscription
	first.Wrap = func(h Handler) Handler { return dead(retries(h)) }
	again := first
	again.PubsubName, again.Route = "pubsub-retry", "later"
	mux := http.NewServeMux()
	is.NoErr(Subscribe(mux, first, again))
	sidecar.App = mux

	deliver := func(m daprtest.Message) {
		_, err = sidecar.Deliver(t.Context(), m)
		is.NoErr(err)
	}
	deliver(daprtest.Message{Topic: "topic", Data: []byte(`"again"`)})
	is.Equal(len(sidecar.Published()), 2)
	for i := range 20 {
		next := sidecar.Published()[i]
		is.Equal(string(next.Event), string(sidecar.Published()[0].Event))
		deliver(next)
	}
	is.Equal(len(sidecar.Published()), 2+20)
	deliver(daprtest.Message{Topic: "topic", Data: []byte(`"again"`)})
	deliver(daprtest.Message{Topic: "topic", Data: []byte(`"never"`)})
	is.Equal(len(sidecar.Published()), 2+20+2+2)
}
