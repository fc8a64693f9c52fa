package daprhttp

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/matryer/is"
)

func TestDecodeEvent(t *testing.T) {
	tests := []struct {
		name, body string
		want       Event
		wantError  string
	}{
		{
			name: "as a sidecar delivers it",
			body: `{"id":"e1","source":"order-service","specversion":"1.0","type":"OrderPlaced","subject":"s","time":"2026-01-02T03:04:05Z",
				"datacontenttype":"application/json","pubsubname":"pubsub","topic":"OrderPlaced","traceid":"x","traceparent":"tp","tracestate":"ts",
				"data":{"n": 9007199254740993}}`,
			want: Event{
				ID: "e1", Source: "order-service", SpecVersion: "1.0", Type: "OrderPlaced", Subject: "s", Time: "2026-01-02T03:04:05Z",
				DataContentType: "application/json", PubsubName: "pubsub", Topic: "OrderPlaced", TraceParent: "tp", TraceState: "ts",
				Data: []byte(`{"n": 9007199254740993}`),
			},
		},
		{name: "no data", body: `{"id":"e1"}`, want: Event{ID: "e1"}},
		{name: "text", body: `{"id":"e1","datacontenttype":"text/plain; charset=utf-8","data":"a \"text\""}`,
			want: Event{ID: "e1", DataContentType: "text/plain; charset=utf-8", Data: []byte(`a "text"`)}},
		{name: "a JSON string", body: `{"id":"e1","datacontenttype":"application/json","data":"a"}`,
			want: Event{ID: "e1", DataContentType: "application/json", Data: []byte(`"a"`)}},
		{name: "a JSON string that says nothing", body: `{"id":"e1","data":"a"}`, want: Event{ID: "e1", Data: []byte(`"a"`)}},
		{name: "bytes", body: `{"id":"e1","datacontenttype":"application/octet-stream","data_base64":"AAE="}`,
			want: Event{ID: "e1", DataContentType: "application/octet-stream", Data: []byte{0, 1}}},
		{name: "no bytes", body: `{"id":"e1","data_base64":""}`, want: Event{ID: "e1", Data: []byte{}}},

		{name: "bad base64", body: `{"id":"e1","data_base64":"?"}`, wantError: "data_base64"},
		{name: "both", body: `{"id":"e1","data_base64":"AAE=","data":1}`, wantError: "both"},
		{name: "no id", body: `{"data":1}`, wantError: "id is missing"},
		{name: "id of another type", body: `{"id":1}`, wantError: "id"},
		{name: "an attribute of another type", body: `{"id":"e1","subject":7,"data":1}`, want: Event{ID: "e1", Data: []byte("1")}},
		{name: "names in other letters", body: `{"id":"e1","ID":"e2","Data":1}`, want: Event{ID: "e1"}},
		{name: "no object", body: `[]`, wantError: ""},
		{name: "no JSON", body: `{`, wantError: ""},
		{name: "nothing", body: ``, wantError: ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := DecodeEvent([]byte(tt.body))
			if tt.want.ID == "" {
				if err == nil || !strings.HasPrefix(err.Error(), "not a CloudEvent: ") || !strings.Contains(err.Error(), tt.wantError) {
					t.Errorf("got error %v, want %q", err, tt.wantError)
				}
				return
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreUnexported(Event{})); diff != "" || err != nil {
				t.Errorf("error %v; event (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestEventIDTellsItsTime(t *testing.T) {
	const made = 0x017F22E279B0
	for id, want := range map[string]int64{
		"017f22e2-79b0-7cc3-98c4-dc0c0c07398f":      made, // the example of RFC 9562
		"017F22E2-79B0-7CC3-98C4-DC0C0C07398F":      made,
		"017f22e2-79b0-7cc3-98c4-dc0c0c07398f.more": made,
		"017f22e2-79b0-7cc3-98c4-dc0c0c07398f-more": 0,
		"017f22e2-79b0-4cc3-98c4-dc0c0c07398f":      0,
		"017f22e279b0-7cc3-98c4-dc0c0c07398f":       0,
		"-17f22e2-79b0-7cc3-98c4-dc0c0c07398f":      0,
		"+17f22e2-79b0-7cc3-98c4-dc0c0c07398f":      0,
		"01_f22e2-79b0-7cc3-98c4-dc0c0c07398f":      0,
		"00000000-0000-7cc3-98c4-dc0c0c07398f":      0,
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

// Subscribers rely on the form: a UUID of version 7 tells when it was made.
func TestNewEventIDsAreUUIDsThatBeginWithTheTime(t *testing.T) {
	is := is.New(t)
	form := regexp.MustCompile(`^([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := make(map[string]bool)
	for range 1000 {
		before := time.Now().UnixMilli()
		id := NewEventID()
		parts := form.FindStringSubmatch(id)
		if parts == nil {
			t.Fatalf("%s is no UUID of version 7", id)
		}
		ms, err := strconv.ParseInt(parts[1]+parts[2], 16, 64)
		is.NoErr(err)
		is.True(before <= ms && ms <= time.Now().UnixMilli())
		is.True(!seen[id])
		seen[id] = true
	}
}
