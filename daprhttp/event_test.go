package daprhttp

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/matryer/is"
)

func TestDecodeEvent(t *testing.T) {
	const whole = `{"id":"e1","source":"order-service","specversion":"1.0","type":"OrderPlaced","subject":"s","time":"2026-01-02T03:04:05Z",
		"datacontenttype":"application/json","pubsubname":"pubsub","topic":"OrderPlaced","traceid":"x","traceparent":"tp","tracestate":"ts",
		"data":{"n": 9007199254740993}}`
	got, err := DecodeEvent([]byte(whole))
	want := Event{
		ID: "e1", Source: "order-service", SpecVersion: "1.0", Type: "OrderPlaced", Subject: "s", Time: "2026-01-02T03:04:05Z",
		DataContentType: "application/json", PubsubName: "pubsub", Topic: "OrderPlaced", TraceParent: "tp", TraceState: "ts",
		Data: []byte(`{"n": 9007199254740993}`),
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Event{})); diff != "" || err != nil {
		t.Errorf("error %v; event (-want +got):\n%s", err, diff)
	}
}

// Attributes that a subscriber does not need may have any value.
func TestEventsThatAreAccepted(t *testing.T) {
	for members, wantData := range map[string]string{
		``:                                     "",
		`,"data":null`:                         "null",
		`,"data":{"a": 1}`:                     `{"a": 1}`,
		`,"data":{"a":1e400}`:                  `{"a":1e400}`,
		`,"data":"a"`:                          `"a"`,
		`,"Data":1,"ID":"e2"`:                  "",
		`,"data_base64":"AAE="`:                "\x00\x01",
		`,"data_base64":""`:                    "",
		`,"data":1,"data":2`:                   "2",
		`,"data_base64":null`:                  "",
		`,"data":1,"subject":"` + "\xff" + `"`: "1",
		`,"data":null,"data_base64":"AAE="`:    "\x00\x01",
		`,"data":1,"data_base64":null`:         "1",
		`,"datacontenttype":"application/json","data":"a"`:                                              `"a"`,
		`,"datacontenttype":"application/cloudevents+json","data":"a"`:                                  `"a"`,
		`,"datacontenttype":"text/plain; a=b","data":"a \"b\""`:                                         `a "b"`,
		`,"datacontenttype":"text/plain","data":{"a":1}`:                                                `{"a":1}`,
		`,"datacontenttype":";;","data":{"a":1}`:                                                        `{"a":1}`,
		`,"datacontenttype":7,"data":"a"`:                                                               `"a"`,
		`,"time":"yesterday","type":"","dataschema":"::","data":1`:                                      "1",
		`,"time":7,"type":null,"subject":{},"topic":[],"pubsubname":7,"traceparent":true,"data":1`:      "1",
		`,"traceparent":"` + strings.Repeat("x", 5000) + `","x y":{"z":[]},"":"","a":"\ud800","data":1`: "1",
	} {
		got, err := DecodeEvent([]byte(`{"specversion":"1.0","id":"e1","source":"s"` + members + `}`))
		if err != nil || got.ID != "e1" || got.Source != "s" || string(got.Data) != wantData {
			t.Errorf("%s: got %v, %q from %q with data %q, want %q", members, err, got.ID, got.Source, got.Data, wantData)
		}
	}
}

// After an error the Event still has its id and source.
func TestEventsThatAreRefused(t *testing.T) {
	const id = `{"id":"e1","source":"s","specversion":"1.0"`
	for body, want := range map[string]struct{ err, id, source string }{
		id + `,"data_base64":"?"}`:                               {"data_base64: illegal", "e1", "s"},
		id + `,"data_base64":7}`:                                 {"data_base64 must be a string", "e1", "s"},
		id + `,"data_base64":"AAE=","data":1}`:                   {"it has both data and data_base64", "e1", "s"},
		id + `,"datacontenttype":"text/plain","data":"\ud800"}`:  {"data must be valid Unicode", "e1", "s"},
		id + `,"data":{"broken":`:                                {"unexpected end", "e1", "s"},
		id + `,"data":1}{}`:                                      {"after top-level value", "e1", "s"},
		id + `,data:1}`:                                          {"invalid character", "e1", "s"},
		`{"id":"e1","specversion":"1.0","data":1}`:               {"source is missing", "e1", ""},
		`{"id":"e1","source":"","specversion":"1.0"}`:            {"source is missing", "e1", ""},
		`{"id":"e1","source":7,"specversion":"1.0"}`:             {"source must be a string", "e1", ""},
		`{"id":"e1","source":"s"}`:                               {"specversion is missing", "e1", "s"},
		`{"id":"e1","source":"s","specversion":"0.3"}`:           {"specversion must be 1.0", "e1", "s"},
		`{"id":"e1","source":"s","specversion":1.0}`:             {"specversion must be a string", "e1", "s"},
		`{"id":7,"source":"s","specversion":"1.0"}`:              {"id must be a string", "7", "s"},
		`{"id":"\ud800","source":"s","specversion":"1.0"}`:       {"id must be valid Unicode", "\uFFFD", "s"},
		`{"id":"` + "\xff" + `","source":"s","specversion":"1"}`: {"id must be valid UTF-8", "\uFFFD", "s"},
		`{"id":"","source":"s","specversion":"1.0"}`:             {"id is missing", "", "s"},
		`{"id":null,"source":"s","specversion":"1.0"}`:           {"id is missing", "", "s"},
		`{"data":1}`: {"id is missing", "", ""},
		`[]`:         {"it is not a JSON object", "", ""},
		`null`:       {"it is not a JSON object", "", ""},
		`"text"`:     {"it is not a JSON object", "", ""},
		``:           {"it is not a JSON object", "", ""},
		`{`:          {"unexpected end", "", ""},
	} {
		got, err := DecodeEvent([]byte(body))
		if err == nil || !strings.HasPrefix(err.Error(), "not a CloudEvent: ") || !strings.Contains(err.Error(), want.err) {
			t.Errorf("%s: got error %v, want %s", body, err, want.err)
		}
		if want.id == "" {
			want.id = fmt.Sprintf("sha256-%x", sha256.Sum256([]byte(body)))
		}
		if got.ID != want.id || got.Source != want.source {
			t.Errorf("%s: got %q from %q, want %q from %q", body, got.ID, got.Source, want.id, want.source)
		}
	}
}

func TestEventTimeIsReadFromTheID(t *testing.T) {
	const made = 0x017F22E279B0
	for id, want := range map[string]int64{
		"017f22e2-79b0-7cc3-98c4-dc0c0c07398f":      made, // the example of RFC 9562
		"017F22E2-79B0-7CC3-98C4-DC0C0C07398F":      made,
		"017f22e2-79b0-7cc3-98c4-dc0c0c07398f.more": made,
		"017f22e2-79b0-7cc3-98c4-dc0c0c07398f-more": 0,
		"017f22e2-79b0-4cc3-98c4-dc0c0c07398f":      0,
		"017f22e2-79b0-7cc3-98c4":                   0,
		"017f22e2+79b0-7cc3-98c4-dc0c0c07398f":      0,
		"017f22e2-79b0+7cc3-98c4-dc0c0c07398f":      0,
		"-17f22e2-79b0-7cc3-98c4-dc0c0c07398f":      0,
		"+17f22e2-79b0-7cc3-98c4-dc0c0c07398f":      0,
		"01_f22e2-79b0-7cc3-98c4-dc0c0c07398f":      0,
		"00000000-0000-7cc3-98c4-dc0c0c07398f":      0,
		"017f22e2-79b0-7QQQ-QQQQ-QQQQQQQQQQQQ":      0,
		"017f22e2-79b0-7cc3-98c4+dc0c0c07398f":      0,
		"017f22e2-79b0-7cc3-18c4-dc0c0c07398f":      0, // another variant
		"order-1001-7":                              0,
		"":                                          0,
		"017f22e2-79b0-7cc3-98c4-dc0c0c07398f ":     0,
	} {
		madeAt, ok := EventTime(id)
		if ok != (want != 0) || ok && madeAt.UnixMilli() != want {
			t.Errorf("%q: got %v, %t", id, madeAt, ok)
		}
	}
}

func TestNewEventIDsAreUUIDsThatBeginWithTheTime(t *testing.T) {
	is := is.New(t)
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := make(map[string]bool)
	for range 1000 {
		before := time.Now().Truncate(time.Millisecond)
		id := NewEventID()
		madeAt, ok := EventTime(id)
		is.True(ok && !madeAt.Before(before) && !madeAt.After(time.Now()))
		is.True(form.MatchString(id))
		is.True(!seen[id])
		seen[id] = true
	}
}
