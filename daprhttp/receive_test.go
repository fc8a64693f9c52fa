package daprhttp

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

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

func TestReadBody(t *testing.T) {
	is := is.New(t)
	body, err := ReadBody(httptest.NewRequest("POST", "/", strings.NewReader("12345")), 5)
	is.NoErr(err)
	is.Equal(string(body), "12345")

	rest := strings.NewReader("123456" + strings.Repeat("x", 1<<20))
	_, err = ReadBody(httptest.NewRequest("POST", "/", rest), 5)
	is.True(errors.Is(err, ErrBodyTooLarge))
	is.Equal(rest.Len(), 0) // read to its end, so that the sender gets to see the answer

	_, err = ReadBody(httptest.NewRequest("POST", "/", io.MultiReader(strings.NewReader("1"), broken{})), 5)
	is.True(err != nil)
	is.True(!errors.Is(err, ErrBodyTooLarge))
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestObject(t *testing.T) {
	is := is.New(t)
	o, err := DecodeObject([]byte(`{"key":"a\\ud800 \ud83d\ude00","n":5,"none":null,"empty":"","Key":"b","escape":"\\\\u\\ud83d"}`))
	is.NoErr(err)
	is.True(o.Has("key"))
	is.True(!o.Has("KEY"))
	is.True(!o.Has("none"))
	for field, want := range map[string]string{"key": `a\ud800 😀`, "none": "", "missing": "", "empty": "", "escape": `\\u\ud83d`} {
		got, err := o.Key(field)
		is.NoErr(err)
		is.Equal(got, want)
	}
	n, err := o.Integer("n")
	is.NoErr(err)
	is.Equal(n, int64(5))
	for _, field := range []string{"none", "missing"} {
		n, err := o.Integer(field)
		is.NoErr(err)
		is.Equal(n, int64(0))
	}
}

// What CheckKey lets through, and it alone, comes back from JSON as it went in.
func TestCheckKey(t *testing.T) {
	for _, key := range []string{"a", "a/b", "a b", "%", "📦", "|", "...", "\uFFFD", strings.Repeat("x", 256)} {
		if err := CheckKey(key); err != nil {
			t.Errorf("%q: %v", key, err)
		}
		raw, err := json.Marshal(map[string]string{"key": key})
		if err != nil {
			t.Fatal(err)
		}
		o, err := DecodeObject(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := o.Key("key"); err != nil || got != key {
			t.Errorf("%q: came back as %q, %v", key, got, err)
		}
	}
	for _, key := range []string{"", ".", "..", "a||b", "a\x00", "\x7f", "\u0080", "\xff", strings.Repeat("x", 257)} {
		if CheckKey(key) == nil {
			t.Errorf("%q: no error", key)
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

func TestServeReportsWhatItCouldNotFinish(t *testing.T) {
	is := is.New(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(err)
	ctx, stop := context.WithCancel(t.Context())
	hang := make(chan struct{})
	defer close(hang)
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { stop(); <-hang })
	go func() { _, _ = http.Get("http://" + ln.Addr().String()) }()
	err = Serve(ctx, ln, h, time.Millisecond)
	is.True(errors.Is(err, context.DeadlineExceeded))
	is.True(strings.Contains(err.Error(), "still under way"))
}

func TestServeReportsAListenerThatFails(t *testing.T) {
	is := is.New(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(err)
	is.NoErr(ln.Close())
	is.True(Serve(t.Context(), ln, http.NotFoundHandler(), time.Second) != nil)
}

// Clients that open connections and say little are cut off, and the others get
// their answers.
func TestServeOutlastsSlowClients(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Serve(ctx, ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, err := io.Copy(io.Discard, r.Body)
			if err != nil {
				w.WriteHeader(http.StatusRequestTimeout)
			}
		}), time.Second)
	}()
	beginnings := []string{
		"", // half open: never a byte
		"POST / HTTP/1.1\r\nHost: x\r\nA-Header-That-Never-",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\na body that never",
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n", // and no other request after the first
	}
	var slow []net.Conn
	for i := range maxConnections {
		conn, err := net.Dial("tcp", ln.Addr().String())
		is.NoErr(err)
		defer conn.Close()
		_, err = io.WriteString(conn, beginnings[i%len(beginnings)])
		is.NoErr(err)
		slow = append(slow, conn)
	}
	resp, err := (&http.Client{Timeout: time.Minute}).Get("http://" + ln.Addr().String())
	is.NoErr(err)
	is.NoErr(resp.Body.Close())
	is.Equal(resp.StatusCode, 200)
	for _, conn := range slow { // the server closes every one of them
		is.NoErr(conn.SetReadDeadline(time.Now().Add(time.Minute)))
		_, err := io.Copy(io.Discard, conn)
		var timeout net.Error
		is.True(!errors.As(err, &timeout) || !timeout.Timeout())
	}
	stop()
	is.NoErr(<-ended)
}

func TestServeAnswersAHeaderThatIsTooLarge(t *testing.T) {
	is := is.New(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(err)
	go func() { _ = Serve(t.Context(), ln, http.NotFoundHandler(), time.Second) }()
	req, err := http.NewRequest("GET", "http://"+ln.Addr().String(), nil)
	is.NoErr(err)
	req.Header.Set("X", strings.Repeat("x", 128<<10))
	resp, err := http.DefaultClient.Do(req)
	is.NoErr(err)
	is.NoErr(resp.Body.Close())
	is.Equal(resp.StatusCode, http.StatusRequestHeaderFieldsTooLarge)
}
