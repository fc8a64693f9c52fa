package daprhttp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/matryer/is"
)

// A subscriber is a DeliveryHandler of which each event says what becomes of it, and
// a sidecar that keeps what is published.
type subscriber struct {
	DeliveryHandler

	mu        sync.Mutex
	handled   []string // IDs
	refused   []string
	moved     []string
	published []string // topic and body

	publishing func(topic, body string) error // nil: all succeeds
}

// RoundTrip is the sidecar.
func (s *subscriber) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	topic := strings.TrimPrefix(r.URL.Path, "/v1.0/publish/pubsub/")
	if r.URL.RawQuery != "metadata.rawPayload=true" {
		topic += "?" + r.URL.RawQuery
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if s.publishing != nil {
		if err := s.publishing(topic, string(body)); err != nil {
			var answer *Error
			if errors.As(err, &answer) {
				return &http.Response{StatusCode: answer.StatusCode, Body: http.NoBody}, nil
			}
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.published = append(s.published, topic+" "+string(body))
	return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody}, nil
}

func newSubscriber() *subscriber {
	s := &subscriber{}
	s.DeliveryHandler = DeliveryHandler{
		Sidecar:         &Client{HTTPClient: &http.Client{Transport: s}},
		PubsubName:      "pubsub",
		DeadLetterTopic: "dead",
		RetryTopic:      "later",
		Handle: func(_ context.Context, events []Event) []Outcome {
			outcomes := make([]Outcome, len(events))
			s.mu.Lock()
			defer s.mu.Unlock()
			for i, e := range events {
				s.handled = append(s.handled, e.ID)
				switch data := strings.Trim(string(e.Data), `"`); data {
				case "again":
					outcomes[i] = Again(errors.New("not now"))
				case "never":
					outcomes[i] = Never(errors.New("not ever"))
				default:
					outcomes[i] = Done()
				}
			}
			return outcomes
		},
		Refused: func(_ context.Context, e Event, why error) { s.refused = append(s.refused, e.ID+": "+why.Error()) },
		Moved: func(_ context.Context, e Event, topic string, err error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.moved = append(s.moved, fmt.Sprintf("%s to %s: %v", e.ID, topic, err))
		},
	}
	return s
}

// post delivers a body, and returns the status and the answer.
func (s *subscriber) post(contentType, body string) (int, string) {
	r := httptest.NewRequest("POST", "/events", strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Code, strings.TrimSpace(w.Body.String())
}

// event returns an event that says what becomes of it.
func event(id, data string) string {
	return fmt.Sprintf(`{"id":%q,"source":"s","specversion":"1.0","type":"t","data":%q}`, id, data)
}

// bulk returns a bulk of events, whose entries are numbered.
func bulk(events ...string) string {
	var b strings.Builder
	for i, e := range events {
		fmt.Fprintf(&b, `,{"entryId":"%d","event":%s,"contentType":"application/cloudevents+json","metadata":{"x":["}"]}}`, i, e)
	}
	return `{"id":"b","entries":[` + strings.TrimPrefix(b.String(), ",") + `],"metadata":{"pubsubName":"pubsub"},"type":"com.dapr.event.sent.bulk"}`
}

// statuses returns the statuses of a bulk in the order of the entries.
func (s *subscriber) statuses(t *testing.T, body string) string {
	t.Helper()
	status, got := s.post("application/json", body)
	var answer BulkResponse
	if err := json.Unmarshal([]byte(got), &answer); err != nil || status != 200 {
		t.Fatalf("got %d %s", status, got)
	}
	var statuses []string
	for i, entry := range answer.Statuses {
		if entry.EntryID != fmt.Sprint(i) {
			t.Errorf("entry %d is called %s", i, entry.EntryID)
		}
		statuses = append(statuses, string(entry.Status))
	}
	return strings.Join(statuses, " ")
}

func TestDeliveryOfOneEvent(t *testing.T) {
	const sidecar, hand = eventContentType + "; charset=utf-8", "application/json"
	tests := []struct {
		contentType, body string
		wantStatus        int
		want              string
	}{
		{sidecar, event("e", "done"), 200, `{"status":"SUCCESS"}`},
		{sidecar, event("e", "again"), 500, `{"status":"RETRY","error":"not now"}`},
		{sidecar, event("e", "never"), 200, `{"status":"DROP","error":"not ever"}`},
		{sidecar, `{"data":1}`, 200, `{"status":"DROP","error":"not a CloudEvent: id is missing"}`},
		{sidecar, `no JSON`, 200, `{"status":"DROP","error":"not a CloudEvent: invalid character 'o' in literal null (expecting 'u')"}`},
		{sidecar, bulk(event("e", "done")), 200, `{"status":"SUCCESS"}`}, // an event with a field "entries" is one
		{sidecar, event("e", strings.Repeat("x", 64<<10)), 200, `{"status":"DROP","error":"the event is too large: it must not be longer than 65536 bytes"}`},

		{hand, event("e", "done"), 200, `{"status":"SUCCESS"}`},
		{hand, event("e", "again"), 500, `{"status":"RETRY","error":"not now"}`},
		{hand, event("e", "never"), 400, `{"error":"not ever"}`},
		{hand, `{"data":1}`, 400, `{"error":"not a CloudEvent: id is missing"}`},
		{hand, event("e", strings.Repeat("x", 64<<10)), 413, `{"error":"the event is too large: it must not be longer than 65536 bytes"}`},
		{hand, `"never"`, 400, `{"error":"not ever"}`}, // bare data
		{hand, `{"bare":1}`, 200, `{"status":"SUCCESS"}`},
		{hand, ``, 200, `{"status":"SUCCESS"}`},
		{hand, `{"bare":1,"data":null}`, 200, `{"status":"SUCCESS"}`},
		{hand, `{"entries":1}`, 200, `{"status":"SUCCESS"}`},
	}
	for _, tt := range tests {
		s := newSubscriber()
		s.BareData = true
		if status, got := s.post(tt.contentType, tt.body); status != tt.wantStatus || got != tt.want {
			t.Errorf("%.100s as %s:\ngot  %d %s\nwant %d %s", tt.body, tt.contentType, status, got, tt.wantStatus, tt.want)
		}
		// What is alone, the sidecar moves; before that it is said why.
		dropped := tt.contentType == sidecar && strings.Contains(tt.want, "not ever")
		if said := len(s.published) == 1 && strings.Contains(fmt.Sprint(s.published), `"deadletterreason":"not ever"`); said != dropped || len(s.published) > 1 {
			t.Errorf("%.100s: published %.200s", tt.body, s.published)
		}
		if len(s.handled)+len(s.refused) != 1 {
			t.Errorf("%.100s: handled %v, refused %v", tt.body, s.handled, s.refused)
		}
	}
}

func TestBareDataIsRefusedUnlessItIsWanted(t *testing.T) {
	is := is.New(t)
	s := newSubscriber()
	status, _ := s.post("application/json", `{"bare":1}`)
	is.Equal(status, 400)
	is.Equal(len(s.handled), 0)
}

func TestAnswerOfTheProgram(t *testing.T) {
	is := is.New(t)
	s := newSubscriber()
	s.Handle = func(context.Context, []Event) []Outcome {
		return []Outcome{{Status: StatusDrop, Err: errors.New("why"), Answer: map[string]int{"n": 1}, HTTPStatus: 409}}
	}
	status, got := s.post(eventContentType, event("e", ""))
	is.Equal(status, 200)
	is.Equal(got, `{"n":1}`)
	status, _ = s.post("application/json", event("e", ""))
	is.Equal(status, 409)
}

// A body that breaks off says nothing against the event.
func TestBodyThatBreaksOffComesAgain(t *testing.T) {
	for contentType, beginning := range map[string]string{
		eventContentType:   `{"id":"e"`,
		"application/json": `{"entries":[{"entryId":"0","event":` + event("e", strings.Repeat("x", 70<<10)) + `},`,
	} {
		s := newSubscriber()
		r := httptest.NewRequest("POST", "/events", io.MultiReader(strings.NewReader(beginning), iotest.ErrReader(io.ErrUnexpectedEOF)))
		r.Header.Set("Content-Type", contentType)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != 500 || !strings.Contains(w.Body.String(), `"status":"RETRY"`) || len(s.refused)+len(s.handled) > 0 {
			t.Errorf("%s: got %d %s, refused %v, handled %v", contentType, w.Code, w.Body, s.refused, s.handled)
		}
	}
}

// What can never be handled is moved when the rest is done, at the same time, and
// what was moved does not come again.
func TestDeadLettersHoldNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := newSubscriber()
		var events []string
		for i := range 199 {
			events = append(events, event(fmt.Sprint("bad", i), "never"))
		}
		events = append(events, event("good", "done"))
		failing := 3
		s.publishing = func(string, string) error {
			time.Sleep(100 * time.Millisecond)
			s.mu.Lock()
			defer s.mu.Unlock()
			if !slices.Contains(s.handled, "good") {
				t.Error("a dead letter was published before the good event was handled")
			}
			if failing--; failing >= 0 {
				return errors.New("away for a moment")
			}
			return nil
		}
		// Each letter is tried twice; these three fail at their first try.
		start := time.Now()
		got := s.statuses(t, bulk(events...))
		is.Equal(strings.Count(got, "SUCCESS"), 200)
		is.True(time.Since(start) < 2*time.Second)
		is.Equal(len(s.published), 199)
		slices.Sort(s.published)
		is.Equal(len(slices.Compact(s.published)), 199)
		is.Equal(s.published[0], `dead {"id":"bad0","source":"s","specversion":"1.0","type":"t","data":"never","deadletterreason":"not ever"}`)

		// A broker that is away: all come again, and in time.
		s.publishing = func(string, string) error { time.Sleep(time.Second); return errors.New("away") }
		s.published = nil
		start = time.Now()
		got = s.statuses(t, bulk(events...))
		is.Equal(strings.Count(got, "RETRY"), 199)
		is.True(strings.HasSuffix(got, "SUCCESS"))
		is.True(time.Since(start) <= moveTime+time.Second)
	})
}

// A letter that the sidecar does not take, or the broker, ends as one that says what it
// was; and where the topic takes nothing at all, that is the end.
func TestDeadLetterThatIsNotTakenEnds(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	tests := []struct {
		name  string
		data  string
		limit int // of the sidecar; 0: it takes nothing
		code  int
		want  string // status
		times int    // letters
	}{
		{"too long for the sidecar", long, 10 << 10, 413, "SUCCESS", 1},
		{"too long for the broker", long, 10 << 10, 500, "SUCCESS", 1},
		{"forbidden", "never", 0, 403, "DROP", 0},
		{"too many at a time", "never", 0, 429, "RETRY", 0},
		{"another token", "never", 0, 401, "RETRY", 0},
		{"the broker is away", "never", 0, 500, "RETRY", 0},
		{"the broker is away, and it is long", long, 0, 500, "RETRY", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			is := is.New(t)
			s := newSubscriber()
			s.publishing = func(_, body string) error {
				if len(body) > tt.limit {
					return &Error{StatusCode: tt.code}
				}
				return nil
			}
			is.Equal(s.statuses(t, bulk(event("e1", tt.data))), tt.want)
			is.Equal(len(s.published), tt.times)
			if tt.times > 0 {
				var letter struct {
					ID, Source, Type, Data, DeadLetterReason string
					DeadLetterSize                           int
				}
				is.NoErr(json.Unmarshal([]byte(strings.TrimPrefix(s.published[0], "dead ")), &letter))
				is.Equal(letter.ID, "e1")
				is.Equal(letter.Source, "s")
				is.Equal(letter.Type, "t")
				is.Equal(letter.DeadLetterReason, "the event is too large: it must not be longer than 65536 bytes")
				is.Equal(letter.DeadLetterSize, len(event("e1", tt.data)))
				is.Equal(letter.Data, event("e1", tt.data)[:1<<10])
			}
		})
	}
}

// Events that must wait although others can be handled are moved after some seconds,
// all of them, and one by one what fails after them.
func TestEventsThatWaitLongAreMoved(t *testing.T) {
	for _, alone := range []bool{false, true} {
		t.Run(fmt.Sprint("alone ", alone), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				is := is.New(t)
				s := newSubscriber()
				deliver := func(again string) string {
					if alone {
						_, got := s.post(eventContentType, event(again, "again"))
						return strings.ToUpper(strings.Split(got, `"`)[3]) + " SUCCESS"
					}
					return s.statuses(t, bulk(event(again, "again"), event("good", "done")))
				}
				start := time.Now()
				for deliver("e1") == "RETRY SUCCESS" {
					is.Equal(len(s.published), 0)
					time.Sleep(time.Second)
				}
				is.Equal(time.Since(start), 5*time.Second)
				is.Equal(s.published, []string{"later " + event("e1", "again")}) // as it came
				is.Equal(deliver("e2"), "SUCCESS SUCCESS")                       // at once
				is.Equal(s.moved, []string{"e1 to later: <nil>", "e2 to later: <nil>"})

				s.publishing = func(string, string) error { return errors.New("away") }
				is.Equal(deliver("e3"), "RETRY SUCCESS")
				s.publishing = nil
				// It was over for a time: the next has to wait itself.
				time.Sleep(maxGap + time.Second)
				is.Equal(deliver("e4"), "RETRY SUCCESS")
				is.Equal(len(s.published), 2)
			})
		})
	}
}

// When what the program depends on is away for all, there is nothing to be gained, and
// what still fails when it is back has a time of its own.
func TestNothingIsMovedWhileAllWait(t *testing.T) {
	for _, seconds := range []int{3, 60} {
		t.Run(fmt.Sprint(seconds, " s"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				is := is.New(t)
				s := newSubscriber()
				var away error
				asked := 0
				s.Ready = func(context.Context) error { asked++; return away }
				failing := bulk(event("e1", "again"), event("e2", "again"))
				is.Equal(s.statuses(t, failing), "RETRY RETRY")
				time.Sleep(3 * time.Second)
				away = errors.New("away")
				for range seconds {
					is.Equal(s.statuses(t, failing), "RETRY RETRY")
					time.Sleep(time.Second)
				}
				away = nil
				for range 5 {
					is.Equal(s.statuses(t, failing), "RETRY RETRY")
					time.Sleep(time.Second)
				}
				is.Equal(asked, 1+seconds+5)
				is.Equal(s.statuses(t, failing), "SUCCESS SUCCESS")
				is.Equal(s.statuses(t, bulk(event("e3", "done"))), "SUCCESS")
				is.Equal(asked, 1+seconds+6) // not when all is well
			})
		})
	}
}

// An event of the retry topic is tried for a while, and then goes to its end.
func TestRetryTopicGivesEachItsTurn(t *testing.T) {
	retrying := func() *subscriber {
		s := newSubscriber()
		s.Retrying = true
		s.RetryPubsubName = "pubsub" // as the fake sidecar has it
		return s
	}
	run := func(name string, test func(is *is.I, s *subscriber)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { test(is.New(t), retrying()) }) })
	}
	run("to its end", func(is *is.I, s *subscriber) {
		for range 20 { // as a sidecar does
			status, got := s.post(eventContentType, event("e1", "again"))
			is.Equal(status, 500)
			is.Equal(got, `{"status":"RETRY","error":"not now"}`)
			time.Sleep(time.Second)
		}
		for range 2 { // and when it comes from there again, it has as long
			status, got := s.post(eventContentType, event("e1", "again"))
			is.Equal(status, 200)
			is.Equal(got, `{"status":"SUCCESS"}`)
			is.Equal(s.published, []string{"later " + event("e1", "again")})
			s.published = nil
			for range 20 {
				status, _ := s.post(eventContentType, event("e1", "again"))
				is.Equal(status, 500)
				time.Sleep(time.Second)
			}
		}
	})
	run("done meanwhile", func(is *is.I, s *subscriber) {
		status, _ := s.post(eventContentType, event("e1", "again"))
		is.Equal(status, 500)
		is.Equal(len(s.trying.first), 1)
		s.Handle = func(context.Context, []Event) []Outcome { return []Outcome{Done()} }
		time.Sleep(time.Minute)
		status, _ = s.post(eventContentType, event("e1", "again"))
		is.Equal(status, 200)
		is.Equal(len(s.published), 0)
		is.Equal(len(s.trying.first), 0)
	})
	run("never", func(is *is.I, s *subscriber) { // the retry topic's component may know no dead-letter topic
		_, got := s.post(eventContentType, event("e1", "never"))
		is.Equal(got, `{"status":"SUCCESS","error":"not ever"}`)
		is.Equal(len(s.published), 1)
		is.True(strings.HasPrefix(s.published[0], "dead "))
	})
	run("the broker is away", func(is *is.I, s *subscriber) {
		s.publishing = func(string, string) error { return errors.New("away") }
		for range 30 {
			status, got := s.post(eventContentType, event("e1", "again"))
			is.Equal(status, 500)
			is.Equal(got, `{"status":"RETRY","error":"not now"}`)
			time.Sleep(time.Second)
		}
	})
	run("many that others have taken over", func(is *is.I, s *subscriber) {
		for i := range maxTrying + 10 {
			s.trying.since(Event{ID: strconv.Itoa(i)}, true)
		}
		is.Equal(len(s.trying.first), 10)
	})
	run("by hand", func(is *is.I, s *subscriber) {
		start := time.Now()
		status, _ := s.post("application/json", event("e1", "again"))
		is.Equal(status, 500)
		is.Equal(time.Since(start), time.Duration(0))
	})
}

// Without a topic for them, events wait where they are.
func TestWithoutTopicsNothingIsMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := newSubscriber()
		s.RetryTopic, s.DeadLetterTopic = "", ""
		for range 20 {
			is.Equal(s.statuses(t, bulk(event("e1", "again"), event("e2", "never"))), "RETRY DROP")
			time.Sleep(time.Second)
		}
		is.Equal(len(s.published), 0)
	})
}

func TestMovedEventsArePublishedTwice(t *testing.T) {
	is := is.New(t)
	s := newSubscriber()
	s.Sidecar.PublishTwice = true
	is.Equal(s.statuses(t, bulk(event("e1", "never"))), "SUCCESS")
	is.Equal(len(s.published), 2)
	is.Equal(s.published[0], s.published[1])
}

// A bulk beyond the bounds is handled in parts: what has no room comes again.
func TestBulkBeyondTheBoundsComesInParts(t *testing.T) {
	is := is.New(t)
	s := newSubscriber()
	var many []string
	for i := range maxEntries + 7 {
		many = append(many, event(fmt.Sprint("e", i), "done"))
	}
	is.Equal(strings.Count(s.statuses(t, bulk(many...)), "SUCCESS"), maxEntries) // and no status for the rest
	is.Equal(len(s.handled), maxEntries)

	// Four events of 3 MiB, of which two have room, and a good one behind them.
	s = newSubscriber()
	huge := func(id string) string { return event(id, strings.Repeat("x", 3<<20)) }
	is.Equal(s.statuses(t, bulk(huge("h1"), huge("h2"), huge("h3"), huge("h4"), event("good", "done"))), "SUCCESS SUCCESS RETRY RETRY SUCCESS")
	is.Equal(len(s.published), 2)
	is.Equal(s.handled, []string{"good"})
	is.Equal(s.statuses(t, bulk(huge("h3"), huge("h4"))), "SUCCESS SUCCESS")
	is.Equal(len(s.published), 4)

	// One that is beyond all bounds.
	s = newSubscriber()
	beyond := `{"data":"` + strings.Repeat(`\u003c`, 2<<20) + `","datacontenttype":"text/plain","id":"beyond","source":"s","topic":"orders","type":"t"}`
	is.Equal(s.statuses(t, bulk(beyond, event("good", "done"))), "SUCCESS SUCCESS")
	is.Equal(len(s.published), 1)
	is.True(len(s.published[0]) < 4<<10)
	is.True(strings.Contains(s.published[0], `"id":"beyond"`))
	is.True(strings.Contains(s.published[0], `"topic":"orders"`))
	is.True(strings.Contains(s.published[0], fmt.Sprintf(`"deadlettersize":%d`, len(beyond))))
	is.Equal(s.refused, []string{"beyond: the event is too large: it must not be longer than 65536 bytes"})
}

// The documentation says what a request costs at most. Here it is handled, and holds
// on to all that it has, while the memory is measured.
func TestMemoryOfARequestIsBounded(t *testing.T) {
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // a pool is emptied in two steps
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	const one, long = 512 << 10, 32 << 20
	full := event("e", strings.Repeat("x", 64<<10-200))
	var entries, many []string
	for range maxEntries {
		entries = append(entries, full)
	}
	for range 300_001 {
		many = append(many, event("e", "done"))
	}
	megabytes := strings.Repeat("x", 15<<20)
	for name, tt := range map[string]struct {
		contentType, body string
		most              int64
	}{
		"an event":                      {eventContentType, full, one},
		"an event of many fields":       {eventContentType, `{"id":"e"` + strings.Repeat(`,"a":[]`, 9000) + `}`, one},
		"an event too long":             {eventContentType, event("e", megabytes), one},
		"bare data":                     {"application/json", full[1:], one},
		"fields that nobody knows":      {"application/json", `{"a":"` + megabytes + `","b":["` + megabytes + `"]}`, one},
		"a bulk":                        {"application/json", bulk(entries...), long},
		"a bulk of too many":            {"application/json", bulk(many...), long},
		"a bulk of huge events":         {"application/json", bulk(event("e", megabytes), event("f", megabytes), full), long},
		"a bulk of fields nobody knows": {"application/json", `{"x":"` + megabytes + `","entries":[{"y":"` + megabytes + `"}]}`, long},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSubscriber()
			s.BareData = true
			body := strings.NewReader(tt.body)
			var most, before int64
			seen := false
			s.Handle = func(_ context.Context, events []Event) []Outcome {
				most, seen = max(most, heap()-before), true
				runtime.KeepAlive(events)
				return make([]Outcome, len(events))
			}
			s.Refused = func(context.Context, Event, error) { most, seen = max(most, heap()-before), true }
			r := httptest.NewRequest("POST", "/events", body)
			r.Header.Set("Content-Type", tt.contentType)
			w := httptest.NewRecorder()
			before = heap()
			s.ServeHTTP(w, r)
			t.Logf("%d bytes cost %d KiB; answered %d %.80s", len(tt.body), most>>10, w.Code, w.Body)
			if !seen || most > tt.most {
				t.Errorf("a body of %d bytes cost %d KiB, want %d at most, and to be seen", len(tt.body), most>>10, tt.most>>10)
			}
		})
	}
}

// No more than two long bodies are read and handled at the same time; short ones need
// not wait for them.
func TestLongBodiesWaitForOneAnother(t *testing.T) {
	s := newSubscriber()
	var now, most atomic.Int64
	long := bulk(event("e", strings.Repeat("x", 40<<10)), event("f", strings.Repeat("x", 40<<10)))
	s.Handle = func(_ context.Context, events []Event) []Outcome {
		if len(events) == 2 {
			most.Store(max(most.Load(), now.Add(1)))
			if status, _ := s.post("application/json", bulk(event("e", "short"))); status != 200 {
				t.Errorf("got %d", status)
			}
			time.Sleep(50 * time.Millisecond) // for others to come in, who must not
			now.Add(-1)
		}
		return slices.Repeat([]Outcome{Done()}, len(events))
	}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if status, got := s.post("application/json", long); status != 200 {
				t.Errorf("got %d %s", status, got)
			}
		})
	}
	wg.Wait()
	if most.Load() != 2 {
		t.Errorf("%d long bodies were handled at the same time, want 2", most.Load())
	}
}

func TestRequireCaller(t *testing.T) {
	h := RequireCaller([]string{"own", "friend"}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }))
	for _, tt := range []struct {
		callers []string
		want    int
	}{
		{nil, 204}, {[]string{"own"}, 204}, {[]string{"friend"}, 204},
		{[]string{"stranger"}, 403}, {[]string{"own", "stranger"}, 403}, {[]string{""}, 403}, {[]string{"OWN"}, 403},
	} {
		r := httptest.NewRequest("POST", "/", nil)
		r.Header["Dapr-Caller-App-Id"] = tt.callers
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("%q: got %d, want %d", tt.callers, w.Code, tt.want)
		}
	}
}

func TestTraceID(t *testing.T) {
	is := is.New(t)
	is.Equal(TraceID("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), "0af7651916cd43dd8448eb211c80319c")
	for _, none := range []string{"", "x", "00-0af7-b7ad-01", strings.Repeat("-", 60)[:3]} {
		is.Equal(TraceID(none), "")
	}
}
