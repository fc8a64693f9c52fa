package daprhttp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
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

// refuse lets the sidecar refuse requests whose body is longer than limit.
func (s *subscriber) refuse(status, limit int) {
	s.daprd.Fault = func(r daprtest.Request) daprtest.Fault {
		if len(r.Body) > limit {
			return daprtest.Fault{Status: status}
		}
		return daprtest.Fault{}
	}
}

func newSubscriber() *subscriber {
	s := &subscriber{}
	s.Subscription = Subscription{
		PubsubName: "pubsub", Topic: "topic", Route: "events",
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

func (s *subscriber) serve(r *http.Request) *httptest.ResponseRecorder {
	mux := http.NewServeMux()
	if err := Subscribe(mux, s.Subscription); err != nil {
		panic(err)
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	return w
}

// post delivers a body, and returns the status and the answer.
func (s *subscriber) post(contentType, body string) (int, string) {
	r := httptest.NewRequest("POST", "/events", strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	w := s.serve(r)
	return w.Code, strings.TrimSpace(w.Body.String())
}

// event returns an event whose data is the outcome: see newSubscriber.
func event(id, data string) string {
	return fmt.Sprintf(`{"id":%q,"source":"s","specversion":"1.0","type":"t","data":%q}`, id, data)
}

func TestDeliveryOfAnEvent(t *testing.T) {
	const sidecar, hand = "application/cloudevents+json; charset=utf-8", "application/json"
	tests := []struct {
		contentType, body string
		wantStatus        int
		want              string
	}{
		{sidecar, event("e", "done"), 200, `{"status":"SUCCESS"}`},
		{"Application/CloudEvents+JSON", event("e", "never"), 200, `{"status":"DROP","error":"not ever"}`},
		{sidecar, event("e", "again"), 500, `{"status":"RETRY","error":"not now"}`},
		{sidecar, event("e", "forgotten"), 500, `{"status":"RETRY"}`},
		{sidecar, event("e", "never"), 200, `{"status":"DROP","error":"not ever"}`},
		{sidecar, `{"data":1}`, 200, `{"status":"DROP","error":"not a CloudEvent: id is missing"}`},
		{sidecar, `no JSON`, 200, `{"status":"DROP","error":"not a CloudEvent: it is not a JSON object"}`},
		{sidecar, event("e", strings.Repeat("x", 64<<10)), 200, `{"status":"DROP","error":"the event is too large: it must not be longer than 65536 bytes"}`},

		{hand, event("e", "done"), 200, `{"status":"SUCCESS"}`},
		{hand, event("e", "again"), 500, `{"status":"RETRY","error":"not now"}`},
		{hand, event("e", "forgotten"), 500, `{"status":"RETRY"}`},
		{hand, event("e", "never"), 400, `{"error":"not ever"}`},
		{hand, `{"data":1}`, 400, `{"error":"not a CloudEvent: id is missing"}`},
		{hand, event("e", strings.Repeat("x", 64<<10)), 413, `{"error":"the event is too large: it must not be longer than 65536 bytes"}`},
		{hand, `"never"`, 400, `{"error":"not ever"}`}, // bare data
		{hand, `{"bare":1}`, 200, `{"status":"SUCCESS"}`},
		{hand, ``, 200, `{"status":"SUCCESS"}`},
		{hand, `{"bare":1,"data":null}`, 200, `{"status":"SUCCESS"}`},
		{hand, `{"entries":[{"entryId":"1"}]}`, 200, `{"status":"SUCCESS"}`},
	}
	for _, tt := range tests {
		s := newSubscriber()
		s.BareData = true
		if status, got := s.post(tt.contentType, tt.body); status != tt.wantStatus || got != tt.want {
			t.Errorf("%.100s as %s:\ngot  %d %s\nwant %d %s", tt.body, tt.contentType, status, got, tt.wantStatus, tt.want)
		}
		refused := strings.Contains(tt.want, "CloudEvent") || strings.Contains(tt.want, "too large")
		if refused == (len(s.handled) > 0) {
			t.Errorf("%.100s: handled %v", tt.body, s.handled)
		}
	}
}

func TestBareDataIsRefusedByDefault(t *testing.T) {
	is := is.New(t)
	s := newSubscriber()
	status, _ := s.post("application/json", `{"bare":1}`)
	is.Equal(status, 400)
	is.Equal(len(s.handled), 0)
}

func TestAnswerOfTheHandler(t *testing.T) {
	is := is.New(t)
	s := newSubscriber()
	s.Handler = func(context.Context, Event) Outcome {
		return Outcome{Status: StatusDrop, Err: errors.New("why"), Answer: map[string]int{"n": 1}, HTTPStatus: 409}
	}
	status, got := s.post(eventContentType, event("e", ""))
	is.Equal(status, 200)
	is.Equal(got, `{"n":1}`)
	status, _ = s.post("application/json", event("e", ""))
	is.Equal(status, 409)
	// Dapr takes an incomplete answer for success, so that the answer must be short.
	s.Handler = func(context.Context, Event) Outcome { return Retry(errors.New(strings.Repeat("x", 10<<10))) }
	_, got = s.post(eventContentType, event("e", ""))
	is.True(len(got) < 2<<10)
}

// The next delivery may have the whole body.
func TestIncompleteBodyIsDeliveredAgain(t *testing.T) {
	for _, beginning := range []string{`{"id":"e"`, event("e", strings.Repeat("x", 70<<10))[:66<<10]} {
		s := newSubscriber()
		s.wrap(t, time.Second)
		r := httptest.NewRequest("POST", "/events", io.MultiReader(strings.NewReader(beginning), iotest.ErrReader(io.ErrUnexpectedEOF)))
		r.Header.Set("Content-Type", eventContentType)
		w := s.serve(r)
		if w.Code != 500 || !strings.Contains(w.Body.String(), `"status":"RETRY"`) || len(s.published())+len(s.handled) > 0 {
			t.Errorf("got %d %s, published %v, handled %v", w.Code, w.Body, s.published(), s.handled)
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
}

func TestIncompleteSubscriptionsAndTopicsAreErrors(t *testing.T) {
	whole := newSubscriber()
	for _, incomplete := range []func(*Subscription){
		func(s *Subscription) { s.PubsubName = "" }, func(s *Subscription) { s.Topic = "" },
		func(s *Subscription) { s.Route = "" }, func(s *Subscription) { s.Handler = nil },
	} {
		s := whole.Subscription
		incomplete(&s)
		if Subscribe(http.NewServeMux(), s) == nil {
			t.Errorf("%+v: no error", s)
		}
	}
	for _, incomplete := range []func(*Topic){func(t *Topic) { t.Sidecar = nil }, func(t *Topic) { t.PubsubName = "" }, func(t *Topic) { t.Name = "" }} {
		to := whole.to("topic")
		incomplete(&to)
		_, err1 := DeadLetters(to, "app")
		_, err2 := Retries(to, time.Second)
		if err1 == nil || err2 == nil {
			t.Errorf("%+v: no error", to)
		}
	}
	if _, err := Retries(whole.to("topic"), 0); err == nil {
		t.Error("tryFor is 0: no error")
	}
}

func TestDroppedEventBecomesOneDeadLetterWithTheReason(t *testing.T) {
	const attributes = `"deadlettertopic":"topic","deadletterapp":"app"`
	for _, tt := range []struct{ name, body, wantAnswer, wantLetter string }{
		{"refused by the program", `{"specversion":"1.0","id":"e","source":"s","data":"never"} `, "not ever",
			`{"specversion":"1.0","id":"e","source":"s","data":"never","deadletterreason":"not ever",` + attributes + `}`},
		{"too long", event("e", strings.Repeat("x", 64<<10)), "the event is too large: it must not be longer than 65536 bytes", ""},
		{"without an id", `{"data":1}`, "not a CloudEvent: id is missing", ""},
		{"not an object", `[]`, "not a CloudEvent: it is not a JSON object", ""},
		{"empty", ``, "not a CloudEvent: it is not a JSON object", ""},
		{"a letter already", `{"specversion":"1.0","id":"e","source":"s","data":"never","deadletterreason":"x"}`, "not ever", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			is := is.New(t)
			s := newSubscriber()
			s.wrap(t, time.Second)
			status, got := s.post(eventContentType, tt.body)
			is.Equal(status, 200)
			is.Equal(got, fmt.Sprintf(`{"status":"SUCCESS","error":%q}`, tt.wantAnswer))
			is.Equal(len(s.published()), 1)
			written, found := strings.CutPrefix(s.published()[0], "pubsub/dead ")
			is.True(found)
			if tt.wantLetter != "" {
				is.Equal(written, tt.wantLetter)
			}
			letter, err := DecodeDeadLetter([]byte(written))
			is.NoErr(err)
			is.Equal(letter.Reason, tt.wantAnswer)
			is.Equal(letter.From, "topic")
			is.Equal(letter.AppID, "app")
			is.Equal(letter.Size, len(letter.Body))
			if tt.wantLetter == "" && len(tt.body) < 1<<10 {
				is.Equal(string(letter.Body), tt.body)
			}
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
	long := strings.Repeat("x", 100<<10)
	for _, tt := range []struct {
		name  string
		data  string
		limit int // the longest letter that is accepted; 0: none
		code  int
		want  string // status
		times int    // letters
	}{
		{"too long for the sidecar", long, 10 << 10, 413, "SUCCESS", 1},
		{"too long for the broker", long, 10 << 10, 500, "SUCCESS", 1},
		{"forbidden", "never", 0, 403, "DROP", 0},
		{"too many at a time", "never", 0, 429, "RETRY", 0},
		{"wrong token", "never", 0, 401, "RETRY", 0},
		{"the broker is down", "never", 0, 500, "RETRY", 0},
		{"the broker is down, and the event is long", long, 0, 500, "RETRY", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			is := is.New(t)
			s := newSubscriber()
			s.wrap(t, time.Second)
			s.refuse(tt.code, tt.limit)
			_, got := s.post(eventContentType, event("e1", tt.data))
			is.True(strings.HasPrefix(got, `{"status":"`+tt.want+`"`))
			is.Equal(len(s.published()), tt.times)
			is.Equal(len(s.moved), 1)
			if tt.times > 0 {
				letter, err := DecodeDeadLetter([]byte(strings.TrimPrefix(s.published()[0], "pubsub/dead ")))
				is.NoErr(err)
				is.Equal(letter.ID, "e1")
				is.Equal(letter.Source, "s")
				is.Equal(letter.Type, "t")
				is.Equal(letter.Reason, "the event is too large: it must not be longer than 65536 bytes")
				is.Equal(letter.Size, len(event("e1", tt.data)))
				is.Equal(string(letter.Body), event("e1", tt.data)[:1<<10])
			}
		})
	}
}

func TestEventThatCannotBeHandledNowIsMovedToTheRetryTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := newSubscriber()
		s.wrap(t, 5*time.Second)
		start := time.Now()
		_, got := s.post(eventContentType, event("e1", "again"))
		is.Equal(got, `{"status":"SUCCESS","error":"not now"}`)
		is.Equal(time.Since(start), 5*time.Second)
		is.True(len(s.handled) > 5 && len(s.handled) < 15) // retried, with pauses
		is.Equal(s.published(), []string{"pubsub/later " + event("e1", "again")})
		is.Equal(s.moved, []string{"e1 to later: <nil>"})
	})
}

func TestHandlerIsRetriedUntilItSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := newSubscriber()
		start := time.Now()
		s.Handler = func(context.Context, Event) Outcome {
			if time.Since(start) < 3*time.Second {
				return Outcome{} // the zero value is RETRY too
			}
			return Success()
		}
		s.wrap(t, 5*time.Second)
		_, got := s.post(eventContentType, event("e1", ""))
		is.Equal(got, `{"status":"SUCCESS"}`)
		is.True(time.Since(start) < 5*time.Second)
		is.Equal(len(s.published()), 0)
	})
}

// The handler's context ends after tryFor, and not when the delivery is cancelled.
func TestTryForEndsTheHandlersContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := newSubscriber()
		s.Handler = func(ctx context.Context, _ Event) Outcome { <-ctx.Done(); return Retry(ctx.Err()) }
		s.wrap(t, 5*time.Second)
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		r := httptest.NewRequestWithContext(cancelled, "POST", "/events", strings.NewReader(event("e1", "")))
		r.Header.Set("Content-Type", eventContentType)
		w := s.serve(r)
		is.Equal(strings.TrimSpace(w.Body.String()), `{"status":"SUCCESS","error":"context deadline exceeded"}`)
		is.Equal(time.Since(start), 5*time.Second)
	})
}

func TestEventIsRetriedWhenTheRetryTopicCannotBeReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := newSubscriber()
		s.wrap(t, 5*time.Second)
		s.refuse(500, 0)
		status, got := s.post(eventContentType, event("e1", "again"))
		is.Equal(status, 500)
		is.Equal(got, `{"status":"RETRY","error":"not now"}`)
		is.Equal(len(s.moved), 1)
	})
}

func TestEventsOfAPersonAreNotMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := newSubscriber()
		s.wrap(t, 5*time.Second)
		status, _ := s.post("application/json", event("e1", "again"))
		is.Equal(status, 500)
		status, _ = s.post("application/json", event("e1", "never"))
		is.Equal(status, 400)
		is.Equal(len(s.published()), 0)
	})
}

func TestDeadLettersObeyPublishTwice(t *testing.T) {
	is := is.New(t)
	s := newSubscriber()
	to := s.to("dead")
	to.Sidecar.PublishTwice = true
	dead, err := DeadLetters(to, "app")
	is.NoErr(err)
	s.Wrap = dead
	s.post(eventContentType, event("e1", "never"))
	is.Equal(len(s.published()), 2)
	is.Equal(s.published()[0], s.published()[1])
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
	const one, long = 512 << 10, 32 << 20
	full := event("e", strings.Repeat("x", 64<<10-200))
	megabytes := strings.Repeat("x", 15<<20)
	for name, tt := range map[string]struct {
		contentType, body string
		most              int64
	}{
		"an event":                {eventContentType, full, one},
		"an event of many fields": {eventContentType, `{"id":"e"` + strings.Repeat(`,"a":[]`, 9000) + `}`, one},
		"bare data":               {"application/json", full[1:], one},
		"an event of 4 MiB":       {eventContentType, event("e", megabytes[:4<<20]), long},
		"an event of 15 MiB":      {eventContentType, event("e", megabytes), long},
		"unknown fields":          {"application/json", `{"a":"` + megabytes + `","b":["` + megabytes + `"]}`, long},
	} {
		t.Run(name, func(t *testing.T) {
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
			status, answer := s.post(tt.contentType, tt.body)
			runtime.KeepAlive(body)
			t.Logf("%d bytes took %d KiB; answered %d %.80s", len(tt.body), most>>10, status, answer)
			if most == 0 || most > tt.most {
				t.Errorf("a body of %d bytes took %d KiB, want %d at most", len(tt.body), most>>10, tt.most>>10)
			}
		})
	}
}

// At most two long events are in memory. Short events do not wait for them.
func TestLongEventsWaitForOneAnother(t *testing.T) {
	s := newSubscriber()
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
		wg.Go(func() { s.post(eventContentType, event("e", strings.Repeat("x", 70<<10))) })
	}
	wg.Wait()
	if most.Load() != 2 {
		t.Errorf("%d long events were in memory at the same time, want 2", most.Load())
	}
}

func TestDeadLetterOfASidecarHasNoReason(t *testing.T) {
	is := is.New(t)
	body := event("e", "never")
	letter, err := DecodeDeadLetter([]byte(body))
	is.NoErr(err)
	is.Equal(letter.Reason, "")
	is.Equal(string(letter.Body), body)
	letter, err = DecodeDeadLetter([]byte("\x00 not an event"))
	is.True(err != nil)
	is.Equal(string(letter.Body), "\x00 not an event")
}
