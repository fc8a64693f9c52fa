package daprhttp

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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
		{name: "no object", body: `[]`, wantError: ""},
		{name: "no JSON", body: `{`, wantError: ""},
		{name: "nothing", body: ``, wantError: ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := DecodeEvent([]byte(tt.body))
			if tt.want.ID == "" {
				if !errors.Is(err, ErrNotEvent) || !strings.Contains(err.Error(), tt.wantError) {
					t.Errorf("got error %v, want ErrNotEvent and %q", err, tt.wantError)
				}
				return
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
				t.Errorf("error %v; event (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestIsEventContentType(t *testing.T) {
	for contentType, want := range map[string]bool{
		"application/cloudevents+json":                true,
		"application/cloudevents+json; charset=utf-8": true,
		"Application/CloudEvents+JSON":                true,
		"application/cloudevents-batch+json":          false,
		"application/json":                            false,
		"":                                            false,
		";":                                           false,
	} {
		if got := IsEventContentType(contentType); got != want {
			t.Errorf("%q: got %t, want %t", contentType, got, want)
		}
	}
}

func TestSubscribeHandler(t *testing.T) {
	is := is.New(t)
	get := func(h http.Handler) string {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/dapr/subscribe", nil))
		is.Equal(w.Code, 200)
		is.Equal(w.Header().Get("Content-Type"), "application/json")
		return strings.TrimSpace(w.Body.String())
	}
	is.Equal(get(SubscribeHandler()), `[]`)
	is.Equal(get(SubscribeHandler(
		Subscription{PubsubName: "p", Topic: "t", Route: "r"},
		Subscription{
			PubsubName: "p", Topic: "u", DeadLetterTopic: "d",
			Routes:        &Routes{Rules: []Rule{{`event.type == "x"`, "x"}}, Default: "y"},
			BulkSubscribe: &BulkSubscribe{Enabled: true, MaxMessagesCount: 10, MaxAwaitDurationMs: 20},
			Metadata:      map[string]string{MetadataRawPayload: "true"},
		},
	)), `[{"pubsubname":"p","topic":"t","route":"r"},`+
		`{"pubsubname":"p","topic":"u","routes":{"rules":[{"match":"event.type == \"x\"","path":"x"}],"default":"y"},"deadLetterTopic":"d",`+
		`"bulkSubscribe":{"enabled":true,"maxMessagesCount":10,"maxAwaitDurationMs":20},"metadata":{"rawPayload":"true"}}]`)
}

func TestRequireAppToken(t *testing.T) {
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) })
	for _, tt := range []struct {
		token string
		sent  []string
		want  int
	}{
		{"", nil, 204},
		{"", []string{"any"}, 204},
		{"secret", nil, 401},
		{"secret", []string{""}, 401},
		{"secret", []string{"secre"}, 401},
		{"secret", []string{"secret "}, 401},
		{"secret", []string{"wrong", "secret"}, 401},
		{"secret", []string{"secret"}, 204},
	} {
		r := httptest.NewRequest("POST", "/", nil)
		r.Header["Dapr-Api-Token"] = tt.sent
		w := httptest.NewRecorder()
		RequireAppToken(tt.token, next).ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("token %q, sent %q: got %d, want %d", tt.token, tt.sent, w.Code, tt.want)
		}
	}
}

func TestAppAddr(t *testing.T) {
	for _, tt := range []struct {
		env  map[string]string
		want string
	}{
		{nil, "127.0.0.1:5001"},
		{map[string]string{"APP_PORT": "6001"}, "127.0.0.1:6001"},
		{map[string]string{"APP_PORT": "6001", "PORT": "7001"}, "127.0.0.1:7001"},
		{map[string]string{"PORT": "7001", "APP_HOST": "0.0.0.0"}, "0.0.0.0:7001"},
		{map[string]string{"APP_HOST": "::1"}, "[::1]:5001"},
		{map[string]string{"PORT": "x"}, ""},
		{map[string]string{"APP_PORT": "99999"}, ""},
	} {
		got, err := AppAddr(func(name string) string { return tt.env[name] }, 5001)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%v: got %q, %v, want %q", tt.env, got, err, tt.want)
		}
	}
}

func TestMetadataOfSubscriptionsFromTheEnvironment(t *testing.T) {
	is := is.New(t)
	from := func(value string) (map[string]string, error) {
		return MetadataFromEnv(func(name string) string {
			is.Equal(name, "SUBSCRIPTION_METADATA")
			return value
		})
	}
	got, err := from("")
	is.NoErr(err)
	is.Equal(len(got), 0)
	got, err = from("queueType=quorum, a=b=c,empty=")
	is.NoErr(err)
	is.Equal(got, map[string]string{"queueType": "quorum", "a": "b=c", "empty": ""})
	for _, wrong := range []string{"quorum", "=quorum", "a=b,", ","} {
		_, err := from(wrong)
		is.True(err != nil && strings.Contains(err.Error(), "name=value"))
	}
}
