package daprhttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp/daprtest"
)

// A subscriber has a handler that returns the outcome in the event's data, and a sidecar in
// memory.
type subscriber struct {
	Subscription
	daprd   daprtest.Sidecar
	mu      sync.Mutex
	handled []string // IDs
	moved   []string // the calls of Moved
}

func newSubscriber() *subscriber {
	s := &subscriber{}
	s.Subscription = Subscription{
		PubsubName: "pubsub", Topic: "topic", Route: "/events",
		Handler: func(_ context.Context, e Event) Outcome {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.handled = append(s.handled, e.ID)
			switch data := strings.Trim(string(e.Data), `"`); data {
			case "again":
				return Retry(errors.New("not now"))
			case "never":
				return Drop(errors.New("not ever"))
			case "forgotten":
				return Outcome{}
			default:
				return Success()
			}
		},
	}
	return s
}

// refuse lets the sidecar refuse each request whose body is longer than limit: with a status,
// or, if that is 0, by breaking the connection.
func (s *subscriber) refuse(status, limit int) {
	s.daprd.Fault = func(r daprtest.Request) daprtest.Fault {
		if len(r.Body) > limit {
			return daprtest.Fault{Status: status, Unreached: status == 0}
		}
		return daprtest.Fault{}
	}
}

// published returns the component, the topic and the event of each message. It marks the
// messages that were not published raw.
func (s *subscriber) published() (all []string) {
	for _, m := range s.daprd.Published() {
		text := m.PubsubName + "/" + m.Topic + " " + string(m.Data)
		if !bytes.Equal(m.Data, m.Event) {
			text = "not raw: " + text
		}
		all = append(all, text)
	}
	return all
}

// to returns the topic to which a wrapper moves events.
func (s *subscriber) to(topic string) Topic {
	return Topic{
		Sidecar: &Client{HTTPClient: s.daprd.Client()}, PubsubName: "pubsub", Name: topic,
		Moved: func(_ context.Context, e Event, err error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.moved = append(s.moved, fmt.Sprintf("%s to %s: %v", e.ID, topic, err))
		},
	}
}

// wrap puts dead letters and retries around the handler.
func (s *subscriber) wrap(t *testing.T, tryFor time.Duration) {
	t.Helper()
	dead, err := DeadLetters(s.to("dead"), "app")
	if err != nil {
		t.Fatal(err)
	}
	retries, err := Retries(s.to("later"), tryFor)
	if err != nil {
		t.Fatal(err)
	}
	s.Wrap = func(h Handler) Handler { return dead(retries(h)) }
}

// serve answers a request. It returns the status and the answer.
func (s *subscriber) serve(r *http.Request) (int, string) {
	mux := http.NewServeMux()
	if err := Subscribe(mux, s.Subscription); err != nil {
		panic(err)
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	return w.Code, strings.TrimSpace(w.Body.String())
}

// delivery returns a request that delivers a body.
func delivery(ctx context.Context, contentType string, body io.Reader) *http.Request {
	r := httptest.NewRequestWithContext(ctx, "POST", "/events", body)
	r.Header.Set("Content-Type", contentType)
	return r
}

// post delivers a body. It returns the status and the answer.
func (s *subscriber) post(contentType, body string) (int, string) {
	return s.serve(delivery(context.Background(), contentType, strings.NewReader(body)))
}

// event returns an event whose data is the outcome: see newSubscriber.
func event(id, data string) string {
	return fmt.Sprintf(`{"id":%q,"source":"s","specversion":"1.0","type":"t","data":%q}`, id, data)
}

const byHand = "application/json" // the content type of a person's request

func TestDeliveryOfAnEvent(t *testing.T) {
	const sidecar, tooLarge = "application/cloudevents+json; charset=utf-8", "the event is too large: it must not be longer than 65536 bytes"
	overLimit := event("e", strings.Repeat("x", 64<<10))
	for _, tt := range []struct {
		contentType, body string
		wantStatus        int
		want              string
		refused           bool // before the handler
	}{
		{sidecar, event("e", "done"), 200, `{"status":"SUCCESS"}`, false},
		{sidecar, event("e", "again"), 500, `{"status":"RETRY","error":"not now"}`, false},
		{sidecar, event("e", "forgotten"), 500, `{"status":"RETRY"}`, false},
		{"Application/CloudEvents+JSON", event("e", "never"), 200, `{"status":"DROP","error":"not ever"}`, false},
		{sidecar, `{"data":1}`, 200, `{"status":"DROP","error":"not a CloudEvent: id is missing"}`, true},
		{sidecar, `no JSON`, 200, `{"status":"DROP","error":"not a CloudEvent: it is not a JSON object"}`, true},
		{sidecar, overLimit, 200, `{"status":"DROP","error":"` + tooLarge + `"}`, true},
		{sidecar, event("e", "") + strings.Repeat(" ", 64<<10-len(event("e", ""))), 200, `{"status":"SUCCESS"}`, false},

		{byHand, event("e", "done"), 200, `{"status":"SUCCESS"}`, false},
		{byHand, event("e", "again"), 500, `{"status":"RETRY","error":"not now"}`, false},
		{byHand, event("e", "never"), 400, `{"error":"not ever"}`, false},
		{byHand, overLimit, 413, `{"error":"` + tooLarge + `"}`, true},
		{byHand, `"never"`, 400, `{"error":"not ever"}`, false}, // bare data
		{byHand, `{"bare":1,"data":null}`, 200, `{"status":"SUCCESS"}`, false},
		{byHand, ``, 200, `{"status":"SUCCESS"}`, false},
		{byHand, `{"data":1}`, 400, `{"error":"not a CloudEvent: id is missing"}`, true}, // with members of an event
		{byHand, `{"data_base64":""}`, 400, `{"error":"not a CloudEvent: id is missing"}`, true},
		{byHand, `{"specversion":"1.0"}`, 400, `{"error":"not a CloudEvent: id is missing"}`, true},
	} {
		s := newSubscriber()
		s.BareData = true
		status, got := s.post(tt.contentType, tt.body)
		if status != tt.wantStatus || got != tt.want || tt.refused != (len(s.handled) == 0) {
			t.Errorf("%.100s as %s:\ngot  %d %s, handled %v\nwant %d %s", tt.body, tt.contentType, status, got, s.handled, tt.wantStatus, tt.want)
		}
	}
}

func TestLimitsOfASubscription(t *testing.T) {
	is := is.New(t)
	s := newSubscriber()
	status, _ := s.post(byHand, `{"bare":1}`) // without BareData
	is.Equal(status, 400)
	s.MaxEventBytes = 10
	status, _ = s.post(byHand, event("e", "done"))
	is.Equal(status, 413)
	status, _ = s.serve(httptest.NewRequest("GET", "/events", nil))
	is.Equal(status, 405)
	is.Equal(len(s.handled), 0)
	s.MaxEventBytes = math.MaxInt
	status, _ = s.post(byHand, event("e", "done"))
	is.Equal(status, 200)
}

func TestDeliveryOfARawPayload(t *testing.T) {
	for body, want := range map[string]string{
		rawPayload(event("e", "never")):                     `{"status":"DROP","error":"not ever"}`,
		rawPayload(event("e", strings.Repeat("x", 60<<10))): `{"status":"DROP","error":"the event is too large: it must not be longer than 65536 bytes"}`,
		rawPayload(event("e", "again"))[1:]:                 `{"status":"DROP","error":"not a CloudEvent: it is not a JSON object"}`,
	} {
		s := newSubscriber()
		s.Metadata = map[string]string{MetadataRawPayload: "1"}
		if _, got := s.post(eventContentType, body); got != want {
			t.Errorf("%.100s: got %s, want %s", body, got, want)
		}
	}
}

func TestAnswerOfTheHandler(t *testing.T) {
	is := is.New(t)
	s := newSubscriber()
	s.Handler = func(context.Context, Event) Outcome {
		return Outcome{Status: StatusDrop, Err: errors.New("why"), Answer: map[string]any{"n": 1, "status": "DROP"}, HTTPStatus: 409}
	}
	status, got := s.post(eventContentType, event("e", ""))
	is.Equal(status, 200)
	is.Equal(got, `{"n":1,"status":"DROP"}`)
	status, _ = s.post(byHand, event("e", ""))
	is.Equal(status, 409)
	// Dapr takes an answer without a status for success.
	for _, answer := range []any{map[string]int{"n": 1}, map[string]any{"status": "SUCCESS"}, "DROP", func() {}, map[string]string{"status": "DROP", "n": strings.Repeat("x", 2<<10)}, map[string]string{"status": "DROP", "n": strings.Repeat("\U000E0041", 490)}} {
		s.Handler = func(context.Context, Event) Outcome { return Outcome{Status: StatusDrop, Answer: answer} }
		_, got = s.post(eventContentType, event("e", ""))
		is.Equal(got, `{"status":"DROP"}`)
	}
	// Dapr takes an incomplete answer for success, so that the answer must be short.
	s.Handler = func(context.Context, Event) Outcome { return Retry(errors.New(strings.Repeat("x", 10<<10))) }
	_, got = s.post(eventContentType, event("e", ""))
	is.True(len(got) < 2<<10)
}

func TestHandlerGetsTheTopicAndTheTraceAndTheEndOfTheDelivery(t *testing.T) {
	is := is.New(t)
	s := newSubscriber()
	s.Handler = func(ctx context.Context, e Event) Outcome {
		is.Equal(e.PubsubName+"/"+e.Topic, "pubsub/topic")
		is.Equal(ctx.Err(), context.Canceled)
		return Retry(s.to("topic").publish(ctx, nil))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := delivery(ctx, eventContentType, strings.NewReader(event("e", "")))
	r.Header.Set("Traceparent", traceParent)
	s.serve(r)
	is.Equal(s.daprd.Requests()[0].Header.Get("Traceparent"), traceParent)
}

// The next delivery may have the whole body.
func TestIncompleteBodyIsDeliveredAgain(t *testing.T) {
	for _, beginning := range []string{`{"id":"e"`, event("e", strings.Repeat("x", 70<<10))[:66<<10]} {
		s := newSubscriber()
		s.wrap(t, time.Second)
		body := io.MultiReader(strings.NewReader(beginning), iotest.ErrReader(io.ErrUnexpectedEOF))
		status, got := s.serve(delivery(t.Context(), eventContentType, body))
		if status != 500 || !strings.Contains(got, `"status":"RETRY"`) || len(s.published())+len(s.handled) > 0 {
			t.Errorf("got %d %s, published %v, handled %v", status, got, s.published(), s.handled)
		}
	}
}

func TestSubscriptionsAreDeclared(t *testing.T) {
	is := is.New(t)
	h := newSubscriber().Handler
	get := func(subscriptions ...Subscription) string {
		mux := http.NewServeMux()
		is.NoErr(Subscribe(mux, subscriptions...))
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", "/dapr/subscribe", nil))
		is.Equal(w.Code, 200)
		return strings.TrimSpace(w.Body.String())
	}
	is.Equal(get(), `[]`)
	is.Equal(get(
		Subscription{PubsubName: "p", Topic: "t", Route: "r", Handler: h},
		Subscription{PubsubName: "p", Topic: "u", Route: "/s", DeadLetterTopic: "d", Metadata: map[string]string{MetadataRawPayload: "true"}, Handler: h},
	), `[{"pubsubname":"p","topic":"t","route":"r"},{"pubsubname":"p","topic":"u","route":"/s","deadLetterTopic":"d","metadata":{"rawPayload":"true"}}]`)

	for route, path := range map[string]string{"r/": "/r", "//r": "/r", "a//b": "/a/b", "a/../b/.": "/b"} { // as a sidecar cleans it
		mux := http.NewServeMux()
		is.NoErr(Subscribe(mux, Subscription{PubsubName: "p", Topic: "t", Route: route, Handler: h}))
		_, pattern := mux.Handler(httptest.NewRequest("POST", path, nil))
		is.Equal(pattern, "POST "+path)
	}

	metadata := map[string]string{MetadataRawPayload: "true", "queueType": "quorum"}
	is.Equal(BrokerMetadata(metadata), map[string]string{"queueType": "quorum"})
	is.Equal(len(metadata), 2)
}

func TestIncompleteSubscriptionIsAnError(t *testing.T) {
	for _, incomplete := range []func(*Subscription){
		func(s *Subscription) { s.PubsubName = "" }, func(s *Subscription) { s.Topic = "" },
		func(s *Subscription) { s.Route = "" }, func(s *Subscription) { s.Handler = nil },
	} {
		s := newSubscriber().Subscription
		incomplete(&s)
		if Subscribe(http.NewServeMux(), s) == nil {
			t.Errorf("%+v: no error", s)
		}
	}
}

// The documentation of Subscribe gives these bounds. The test measures the heap while the
// event is handled.
func TestMemoryOfADeliveryIsBounded(t *testing.T) {
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // a sync.Pool is emptied in two cycles
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	const short, long, mostRead = 512 << 10, 32 << 20, 16 << 20
	full := event("e", strings.Repeat("x", 64<<10-200))
	megabytes := strings.Repeat("x", 15<<20)
	for name, tt := range map[string]struct {
		contentType, body string
		most              int64
	}{
		"an event":                {eventContentType, full, short},
		"an event of many fields": {eventContentType, `{"id":"e"` + strings.Repeat(`,"a":[]`, 9000) + `}`, short},
		"bare data":               {byHand, full[1:], short},
		"an event of 4 MiB":       {eventContentType, event("e", megabytes[:4<<20]), long},
		"an event of 15 MiB":      {eventContentType, event("e", megabytes), long},
		"unknown fields":          {byHand, `{"a":"` + megabytes + `","b":["` + megabytes + `"]}`, long},
	} {
		s := newSubscriber()
		s.BareData = true
		var most, before int64
		s.Wrap = func(next Handler) Handler {
			return func(ctx context.Context, e Event) Outcome {
				most = max(most, heap()-before)
				runtime.KeepAlive(e.raw)
				return next(ctx, e)
			}
		}
		body := strings.NewReader(tt.body)
		before = heap()
		s.serve(delivery(t.Context(), tt.contentType, body))
		if most == 0 || most > tt.most || body.Len() != max(0, len(tt.body)-mostRead) {
			t.Errorf("%s: a body of %d bytes took %d KiB, want %d at most; %d bytes were not read", name, len(tt.body), most>>10, tt.most>>10, body.Len())
		}
	}
}

// At most two long events are in memory. Short events do not wait for them.
func TestLongEventsWaitForOneAnother(t *testing.T) {
	s := newSubscriber()
	long := event("e", strings.Repeat("x", 70<<10))
	var now, most atomic.Int64
	s.Wrap = func(next Handler) Handler {
		return func(ctx context.Context, e Event) Outcome {
			if e.size > 64<<10 {
				most.Store(max(most.Load(), now.Add(1)))
				defer now.Add(-1)
				if status, _ := s.post(eventContentType, event("e", "short")); status != 200 {
					t.Errorf("got %d", status)
				}
				time.Sleep(50 * time.Millisecond) // a third long event would arrive by now
			}
			return next(ctx, e)
		}
	}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { s.post(eventContentType, long) })
	}
	wg.Wait()
	if most.Load() != 2 {
		t.Errorf("%d long events were in memory at the same time, want 2", most.Load())
	}
}

func TestLongEventStopsWaitingWhenItsDeliveryIsBrokenOff(t *testing.T) {
	for range cap(longEvents) {
		longEvents <- struct{}{}
		defer func() { <-longEvents }()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	status, got := newSubscriber().serve(delivery(ctx, eventContentType, strings.NewReader(event("e", strings.Repeat("x", 70<<10)))))
	if status != 500 || got != `{"status":"RETRY","error":"context canceled"}` {
		t.Errorf("got %d %s", status, got)
	}
}
