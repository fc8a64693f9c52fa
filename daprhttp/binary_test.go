package daprhttp

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/matryer/is"
)

const order = `{"orderId":"o","itemId":"<i>","n":9007199254740993}`

// Headers identify an event in binary mode, from a sidecar and by hand.
func TestBinaryEvents(t *testing.T) {
	broker := map[string]string{"ce_specversion": "1.0", "ce_id": "e1", "ce_source": "/pos", "ce_type": "t", "ce_time": "now"}
	hand := map[string]string{"ce-specversion": "1.0", "ce-id": "e1", "ce-source": "/pos", "ce-type": "t"}
	with := func(attributes map[string]string, name, value string) map[string]string {
		attributes = maps.Clone(attributes)
		attributes[name] = value
		return attributes
	}
	for name, tt := range map[string]struct {
		contentType string
		header      map[string]string
		body        string
		want        string // id, source, datacontenttype and data of the event; empty: it is refused
	}{
		"from a broker":                     {eventContentType, broker, order, "e1 /pos " + order},
		"over HTTP, by hand":                {byHand, hand, order, "e1 /pos application/json " + order},
		"over HTTP, from a sidecar":         {eventContentType, hand, order, "e1 /pos " + order},
		"without a content type":            {"", hand, `"text"`, `e1 /pos "text"`},
		"both: HTTP wins":                   {eventContentType, with(broker, "ce-id", "e2"), order, "e2 /pos " + order},
		"percent-encoded over HTTP":         {byHand, with(hand, "ce-id", "a%20%E2%82%AC+"), order, "a €+ /pos application/json " + order},
		"not percent-encoded in a broker":   {eventContentType, with(broker, "ce_id", "a%20"), order, "a%20 /pos " + order},
		"a percent that encodes nothing":    {byHand, with(hand, "ce-id", "100%"), order, "100% /pos application/json " + order},
		"JSON text":                         {eventContentType, broker, `"text"`, `e1 /pos "text"`},
		"text/plain":                        {"text/plain", hand, `"text"`, `e1 /pos text/plain "text"`},
		"bytes":                             {eventContentType, broker, "\x00\xff", "e1 /pos \x00\xff"},
		"an array":                          {eventContentType, broker, "\n\t [1]", "e1 /pos [1]"},
		"broken JSON":                       {eventContentType, broker, `{"n":`, `e1 /pos {"n":`},
		"nothing":                           {eventContentType, broker, "", "e1 /pos"},
		"data with members of an event":     {eventContentType, broker, `{"data":1,"id":"x"}`, `e1 /pos {"data":1,"id":"x"}`},
		"a header called data":              {eventContentType, with(broker, "ce_data", "x"), "text", "e1 /pos text"},
		"a header called data_base64":       {eventContentType, with(broker, "ce_data_base64", "eA=="), order, "e1 /pos " + order},
		"attributes and a structured event": {eventContentType, broker, event("e9", "done"), `e9 s "done"`},
		"beyond the limit as JSON":          {eventContentType, broker, strings.Repeat("x", 60<<10), ""},
		"without an id":                     {eventContentType, with(broker, "ce_id", ""), order, ""},
		"without a source":                  {byHand, with(hand, "ce-source", ""), order, ""},
		"without specversion":               {byHand, with(hand, "ce-specversion", ""), order, ""},
		"an id alone":                       {byHand, map[string]string{"ce-id": "e1"}, order, ""},
		"a broker's id alone":               {byHand, map[string]string{"ce_id": "e1"}, order, ""},
		"a version alone":                   {byHand, map[string]string{"ce-specversion": "1.0"}, order, ""},
		"a broker's version alone":          {byHand, map[string]string{"ce_specversion": "1.0"}, order, ""},
		"an id that is not UTF-8":           {eventContentType, with(broker, "ce_id", "\xff"), order, ""},
		"an id that decodes to such an id":  {byHand, with(hand, "ce-id", "%FF"), order, ""},
		"another version of CloudEvents":    {eventContentType, with(broker, "ce_specversion", "0.3"), order, ""},
		"bare data with an extension":       {byHand, map[string]string{"ce-x": "1"}, order, "new " + order},
		"a bare order by hand":              {byHand, nil, order, "new " + order},
		"a bare order that a sidecar sends": {eventContentType, nil, order, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSubscriber()
			s.BareData = true
			got := ""
			s.Handler = func(_ context.Context, e Event) Outcome {
				if _, isNew := EventTime(e.ID); isNew && e.Source == "" {
					e.ID = "new"
				}
				if strings.Contains(string(e.raw), `"datacontenttype":""`) {
					t.Error("an attribute must not be empty")
				}
				parts := []string{e.ID, e.Source, e.DataContentType, string(e.Data)}
				got = strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), " ")
				return Success()
			}
			r := delivery(t.Context(), tt.contentType, strings.NewReader(tt.body))
			for name, value := range tt.header {
				r.Header.Set(name, value)
			}
			status, answer := s.serve(r)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("answered %d %s; event (-want +got):\n%s", status, answer, diff)
			}
		})
	}
}

// rawPayload returns a message as a sidecar delivers it to a subscription to raw payloads.
func rawPayload(message string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":"random","source":"Dapr","type":"t","data_base64":%q}`, base64.StdEncoding.EncodeToString([]byte(message)))
}

// A moved event keeps its attributes and its data. So does a dead letter that is sent again.
func TestMovedEventIsTheSameEvent(t *testing.T) {
	binary := http.Header{"Ce_specversion": {"1.0"}, "Ce_id": {"b"}, "Ce_source": {"s"}, "Ce_ext": {"kept"}}
	for name, tt := range map[string]struct {
		raw    bool // the body is the payload of a raw message
		header http.Header
		body   string
		wantID string // empty: the hash of the body, which is not an event
	}{
		"an event":                       {false, nil, event("e", "never"), "e"},
		"with extensions":                {false, nil, `{"specversion":"1.0","id":"e","source":"s","ext":"kept","n":{"x":"<"},"data":"never"}`, "e"},
		"in binary mode":                 {false, binary, order, "b"},
		"bytes in binary mode":           {false, binary, "\x00\xff", "b"},
		"long, in binary mode":           {false, binary, strings.Repeat("x", 60<<10), "b"},
		"a raw payload":                  {true, nil, order, "random"},
		"bytes in a raw payload":         {true, nil, "\x00\xff", "random"},
		"nothing in a raw payload":       {true, nil, "", "random"},
		"an event in a raw payload":      {true, nil, `{"specversion":"1.0","id":"inner","source":"s"}`, "inner"},
		"in binary mode, and raw":        {true, binary, order, "b"},
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
					if raw {
						body = rawPayload(body)
					}
					r := delivery(t.Context(), eventContentType, strings.NewReader(body))
					maps.Copy(r.Header, header)
					status, _ := s.serve(r)
					is.Equal(status, 200)
				}
				deliver(tt.raw, tt.header, tt.body)
				is.Equal(len(s.published()), 1)
				topic, moved, _ := strings.Cut(s.published()[0], " ")
				if topic == "pubsub/dead" {
					letter, err := DecodeDeadLetter([]byte(moved))
					is.NoErr(err)
					moved = string(letter.Body)
				}
				deliver(false, nil, moved)
				first, second := seen[0], seen[len(seen)-1]
				if tt.wantID != "" {
					is.Equal(first.ID, tt.wantID)
				}
				if diff := cmp.Diff(first, second, cmpopts.IgnoreUnexported(Event{})); diff != "" {
					t.Errorf("event (-first +moved):\n%s", diff)
				}
				if tt.header != nil {
					is.True(strings.Contains(string(second.raw), `"ext":"kept"`))
				} else {
					is.Equal(string(first.Message()), tt.body) // the message in the broker
				}
			})
		}
	}
}
