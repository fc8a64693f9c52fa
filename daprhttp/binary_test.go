package daprhttp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/matryer/is"
)

const order = `{"orderId":"o","itemId":"<i>","n": 9007199254740993}`

// wrapped returns a message as a sidecar delivers it to a subscription to raw payloads.
func wrapped(id, message string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"Dapr","type":"t","datacontenttype":"application/octet-stream","data_base64":%q}`, id, message)
}

// Headers identify an event in binary mode, from a sidecar and by hand.
func TestBinaryEvents(t *testing.T) {
	broker := map[string]string{"ce_specversion": "1.0", "ce_id": "e1", "ce_source": "/pos", "ce_type": "t", "ce_time": "now"}
	hand := map[string]string{"ce-specversion": "1.0", "ce-id": "e1", "ce-source": "/pos", "ce-type": "t"}
	with := func(attributes map[string]string, name, value string) map[string]string {
		changed := map[string]string{name: value}
		for name, value := range attributes {
			if _, ok := changed[name]; !ok {
				changed[name] = value
			}
		}
		return changed
	}
	const plain, none = "application/json", "[]"
	for name, tt := range map[string]struct {
		contentType string
		header      map[string]string
		body        string
		want        string // the event: id, source, data
	}{
		"from a broker":                     {eventContentType, broker, order, "e1 /pos " + order},
		"from a broker, with capitals":      {eventContentType, with(broker, "CE_ID", "e1"), order, "e1 /pos " + order},
		"over HTTP, by hand":                {plain, hand, order, "e1 /pos " + order},
		"over HTTP, from a sidecar":         {eventContentType, hand, order, "e1 /pos " + order},
		"without a content type":            {"", hand, order, "e1 /pos " + order},
		"both: HTTP wins":                   {eventContentType, with(broker, "ce-id", "e2"), order, "e2 /pos " + order},
		"percent-encoded over HTTP":         {plain, with(hand, "ce-id", "a%20%E2%82%AC"), order, "a € /pos " + order},
		"not percent-encoded in a broker":   {eventContentType, with(broker, "ce_id", "a%20"), order, "a%20 /pos " + order},
		"a percent that encodes nothing":    {plain, with(hand, "ce-id", "100%"), order, "100% /pos " + order},
		"text":                              {eventContentType, broker, `"text"`, `e1 /pos "text"`},
		"text/plain":                        {"text/plain", hand, `"text"`, `e1 /pos "text"`},
		"bytes":                             {eventContentType, broker, "\x00\xff", "e1 /pos \x00\xff"},
		"an array":                          {eventContentType, broker, ` [1]`, "e1 /pos [1]"},
		"nothing":                           {eventContentType, broker, "", "e1 /pos "},
		"data with members of an event":     {eventContentType, broker, `{"data":1,"id":"x"}`, `e1 /pos {"data":1,"id":"x"}`},
		"a header called data":              {eventContentType, with(broker, "ce_data", "x"), order, "e1 /pos " + order},
		"a header called data_base64":       {eventContentType, with(broker, "ce_data_base64", "eA=="), order, "e1 /pos " + order},
		"attributes and a structured event": {eventContentType, broker, event("e9", "done"), `e9 s "done"`},
		"without an id":                     {eventContentType, with(broker, "ce_id", ""), order, none},
		"without a source":                  {plain, with(hand, "ce-source", ""), order, none},
		"without specversion":               {plain, with(hand, "ce-specversion", ""), order, none},
		"an id that is not UTF-8":           {eventContentType, with(broker, "ce_id", "\xff"), order, none},
		"an id that decodes to such an id":  {plain, with(hand, "ce-id", "%FF"), order, none},
		"another version of CloudEvents":    {eventContentType, with(broker, "ce_specversion", "0.3"), order, none},
		"bare data with an extension":       {plain, map[string]string{"ce-x": "1"}, order, "new  " + order},
		"a bare order by hand":              {plain, nil, order, "new  " + order},
		"a bare order that a sidecar sends": {eventContentType, nil, order, none},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSubscriber()
			s.BareData = true
			got := none
			s.Handler = func(_ context.Context, e Event) Outcome {
				if e.Source == "" {
					e.ID = "new"
				}
				got = e.ID + " " + e.Source + " " + string(e.Data)
				return Success()
			}
			r := httptest.NewRequest("POST", "/events", strings.NewReader(tt.body))
			r.Header.Set("Content-Type", tt.contentType)
			for name, value := range tt.header {
				r.Header.Set(name, value)
			}
			w := s.serve(r)
			// JSON with and without blanks between its tokens is the same data.
			if diff := cmp.Diff(strings.ReplaceAll(tt.want, `"n": `, `"n":`), strings.ReplaceAll(got, `"n": `, `"n":`)); diff != "" {
				t.Errorf("answered %d %s; event (-want +got):\n%s", w.Code, w.Body, diff)
			}
		})
	}
}

// A moved event keeps its ID, its source and its data. So does a dead letter that is sent
// again.
func TestMovedEventIsTheSameEvent(t *testing.T) {
	binary := http.Header{"Ce_specversion": {"1.0"}, "Ce_id": {"b"}, "Ce_source": {"s"}, "Ce_ext": {"kept"}}
	for name, tt := range map[string]struct {
		raw    bool // the subscription
		header http.Header
		body   string
		wantID string // empty: the body is not an event, and its hash is the ID
	}{
		"an event":                       {false, nil, event("e", "never"), "e"},
		"with extensions":                {false, nil, `{"specversion":"1.0","id":"e","source":"s","ext":"kept","n":{"x":"<"},"data":"never"}`, "e"},
		"in binary mode":                 {false, binary, order, "b"},
		"bytes in binary mode":           {false, binary, "\x00\xff", "b"},
		"long, in binary mode":           {false, binary, strings.Repeat("x", 100<<10), "b"},
		"a raw payload":                  {true, nil, wrapped("random", "eyJuIjoxfQ=="), "random"},
		"an event in a raw payload":      {true, nil, wrapped("random", "eyJzcGVjdmVyc2lvbiI6IjEuMCIsImlkIjoiaW5uZXIiLCJzb3VyY2UiOiJzIn0="), "inner"},
		"in binary mode, and raw":        {true, binary, wrapped("random", "eyJuIjoxfQ=="), "b"},
		"without an id":                  {false, nil, `{"data":1}`, ""},
		"not JSON":                       {false, nil, "\x00\xff", ""},
		"not JSON, and long":             {false, nil, strings.Repeat("\xff", 50<<10), ""},
		"too long":                       {false, nil, event("e", strings.Repeat("x", 100<<10)), "e"},
		"with the attributes of letters": {false, nil, `{"specversion":"1.0","id":"e","source":"s","deadletterreason":"x","deadlettersize":1}`, "e"},
	} {
		for _, outcome := range []Outcome{Drop(errors.New("why")), Retry(nil)} {
			t.Run(fmt.Sprint(name, " ", outcome.Status), func(t *testing.T) {
				is := is.New(t)
				s := newSubscriber()
				s.wrap(t, time.Nanosecond)
				chain := s.Wrap
				var seen []Event
				s.Wrap = func(h Handler) Handler {
					return chain(func(ctx context.Context, e Event) Outcome { seen = append(seen, e); return h(ctx, e) })
				}
				s.Handler = func(context.Context, Event) Outcome { return outcome }
				deliver := func(raw bool, header http.Header, body string) {
					s.Metadata = map[string]string{MetadataRawPayload: fmt.Sprint(raw)}
					r := httptest.NewRequest("POST", "/events", strings.NewReader(body))
					for name, values := range header {
						r.Header[name] = values
					}
					r.Header.Set("Content-Type", eventContentType)
					is.Equal(s.serve(r).Code, 200)
				}
				deliver(tt.raw, tt.header, tt.body)
				is.Equal(len(s.published()), 1)
				topic, moved, _ := strings.Cut(s.published()[0], " ")
				if topic == "pubsub/dead" {
					letter, err := DecodeDeadLetter([]byte(moved))
					is.NoErr(err)
					is.True(letter.Reason != "")
					is.Equal(letter.Size, len(letter.Body)) // the letter has the whole body
					moved = string(letter.Body)
				}
				deliver(false, nil, moved)
				first, second := seen[0], seen[len(seen)-1]
				if tt.wantID != "" {
					is.Equal(first.ID, tt.wantID)
				}
				is.Equal(first.ID, second.ID)
				is.Equal(first.Source, second.Source)
				is.Equal(string(first.Data), string(second.Data))
				is.True(!strings.Contains(tt.body+fmt.Sprint(tt.header), "kept") || tt.raw || strings.Contains(string(second.raw), `"ext":"kept"`))
			})
		}
	}
}

func TestMessageOfARawPayload(t *testing.T) {
	for message, want := range map[string]string{
		"eyJuIjoxfQ==": `{"n":1}`,
		"eyJzcGVjdmVyc2lvbiI6IjEuMCIsImlkIjoiaW5uZXIiLCJzb3VyY2UiOiJzIn0=": `{"specversion":"1.0","id":"inner","source":"s"}`,
		"AP8=": "\x00\xff",
		"":     "",
	} {
		s := newSubscriber()
		s.Metadata = map[string]string{MetadataRawPayload: "true"}
		got := "none"
		s.Handler = func(_ context.Context, e Event) Outcome { got = string(e.Message()); return Success() }
		s.post(eventContentType, wrapped("random", message))
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
