package daprhttp

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp/daprtest"
)

// recorded is a request that a sidecar got.
type recorded struct {
	Line   string // method and escaped path
	Query  url.Values
	Header http.Header // without the headers of every request
	Body   string
}

// sidecar returns a client of a sidecar that gives the same answer to every call.
func sidecar(status int, header http.Header, body string) (*Client, *daprtest.Sidecar) {
	s := &daprtest.Sidecar{Fault: func(daprtest.Request) daprtest.Fault {
		return daprtest.Fault{Status: status, Header: header, Body: body}
	}}
	return &Client{HTTPClient: s.Client()}, s
}

// check fails the test unless the sidecar got one request, and that is want.
func check(t *testing.T, got *daprtest.Sidecar, want recorded) {
	t.Helper()
	if want.Query == nil {
		want.Query = url.Values{}
	}
	if want.Header == nil {
		want.Header = http.Header{}
	}
	if want.Body != "" && want.Header.Get("Content-Type") == "" {
		want.Header.Set("Content-Type", "application/json")
	}
	var all []recorded
	for _, r := range got.Requests() {
		r.Header.Del("Accept-Encoding")
		all = append(all, recorded{r.Method + " " + r.Path, r.Query, r.Header, r.Body})
	}
	if diff := cmp.Diff([]recorded{want}, all); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestPublish(t *testing.T) {
	is := is.New(t)
	c, got := sidecar(204, nil, "")
	is.NoErr(c.Publish(t.Context(), "pubsub", "topic", Message{Data: []byte(`{"a":1}`)}))
	check(t, got, recorded{Line: "POST /v1.0/publish/pubsub/topic", Body: `{"a":1}`})

	c, got = sidecar(204, nil, "")
	is.NoErr(c.Publish(t.Context(), "a pubsub", "a/topic+", Message{
		Data: []byte("text"), ContentType: "text/plain",
		ID:       "an id&",
		Raw:      true,
		Metadata: map[string]string{"ttlInSeconds": "60", "cloudevent.id": "another"},
	}))
	check(t, got, recorded{
		Line:   "POST /v1.0/publish/a%20pubsub/a%2Ftopic%2B",
		Query:  url.Values{"metadata.cloudevent.id": {"an id&"}, "metadata.ttlInSeconds": {"60"}, "metadata.rawPayload": {"true"}},
		Header: http.Header{"Content-Type": {"text/plain"}},
		Body:   "text",
	})
}

func TestGetState(t *testing.T) {
	is := is.New(t)
	c, got := sidecar(200, http.Header{"Etag": {"7"}}, `{"a":1}`)
	v, err := c.GetState(t.Context(), "statestore", "a/b+c d%", GetStateOptions{Consistency: Strong, Metadata: map[string]string{"partitionKey": "p"}})
	is.NoErr(err)
	is.Equal(string(v.Value), `{"a":1}`)
	is.Equal(v.ETag, "7")
	is.Equal(v.Key, "a/b+c d%")
	check(t, got, recorded{
		Line:  "GET /v1.0/state/statestore/a%2Fb%2Bc%20d%25",
		Query: url.Values{"consistency": {"strong"}, "metadata.partitionKey": {"p"}},
	})

	c, _ = sidecar(204, nil, "")
	v, err = c.GetState(t.Context(), "statestore", "key", GetStateOptions{})
	is.NoErr(err)
	is.True(v.Value == nil) // the store does not have the key
	is.Equal(v.ETag, "")

	for _, key := range []string{"", ".", ".."} {
		_, err := c.GetState(t.Context(), "statestore", key, GetStateOptions{})
		is.True(err != nil)
		is.True(c.DeleteState(t.Context(), "statestore", StateItem{Key: key}) != nil)
	}
}

func TestGetBulkState(t *testing.T) {
	is := is.New(t)
	c, got := sidecar(200, nil, `[{"key":"a","data":{"x":1},"etag":"7"},{"key":"b"},{"key":"c","error":"unreadable"}]`)
	values, err := c.GetBulkState(t.Context(), "statestore", []string{"a", "b", "c"}, GetBulkStateOptions{Parallelism: 5, Metadata: map[string]string{"m": "n"}})
	is.NoErr(err)
	want := []StateValue{
		{Key: "a", Value: []byte(`{"x":1}`), ETag: "7"},
		{Key: "b"},
		{Key: "c", Error: "unreadable"},
	}
	if diff := cmp.Diff(want, values); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	check(t, got, recorded{
		Line:  "POST /v1.0/state/statestore/bulk",
		Query: url.Values{"metadata.m": {"n"}},
		Body:  `{"keys":["a","b","c"],"parallelism":5}`,
	})

	c, _ = sidecar(200, nil, "") // as Dapr answers when a value is not JSON
	_, err = c.GetBulkState(t.Context(), "statestore", []string{"a", "b"}, GetBulkStateOptions{})
	is.True(err != nil)
}

func TestSaveState(t *testing.T) {
	is := is.New(t)
	c, got := sidecar(204, nil, "")
	is.NoErr(c.SaveState(t.Context(), "statestore",
		StateItem{Key: "a", Value: map[string]int{"x": 1}, ETag: "7", Options: StateOptions{Concurrency: FirstWrite, Consistency: Strong}},
		StateItem{Key: "b", Value: true, Metadata: TTL(60)},
	))
	check(t, got, recorded{
		Line: "POST /v1.0/state/statestore",
		Body: `[{"key":"a","value":{"x":1},"etag":"7","options":{"concurrency":"first-write","consistency":"strong"}},` +
			`{"key":"b","value":true,"metadata":{"ttlInSeconds":"60"}}]`,
	})
	is.True(c.SaveState(t.Context(), "statestore", StateItem{Key: "c", Value: func() {}}) != nil) // it can't be encoded
	is.Equal(len(got.Requests()), 1)
}

func TestDeleteState(t *testing.T) {
	is := is.New(t)
	c, got := sidecar(204, nil, "")
	is.NoErr(c.DeleteState(t.Context(), "statestore", StateItem{
		Key: "key", ETag: "7", Options: StateOptions{FirstWrite, Eventual}, Metadata: map[string]string{"m": "n"},
	}))
	check(t, got, recorded{
		Line:   "DELETE /v1.0/state/statestore/key",
		Query:  url.Values{"concurrency": {"first-write"}, "consistency": {"eventual"}, "metadata.m": {"n"}},
		Header: http.Header{"If-Match": {"7"}},
	})
}

func TestStateTransaction(t *testing.T) {
	is := is.New(t)
	c, got := sidecar(204, nil, "")
	is.NoErr(c.StateTransaction(t.Context(), "statestore", []StateOperation{
		{"upsert", StateItem{Key: "a", Value: 1}},
		{"delete", StateItem{Key: "b", ETag: "7", Options: StateOptions{Concurrency: FirstWrite}}},
		{"delete", StateItem{Key: "c"}},
	}, map[string]string{"m": "n"}))
	check(t, got, recorded{
		Line: "POST /v1.0/state/statestore/transaction",
		Body: `{"operations":[{"operation":"upsert","request":{"key":"a","value":1}},` +
			`{"operation":"delete","request":{"key":"b","etag":"7","options":{"concurrency":"first-write"}}},` +
			`{"operation":"delete","request":{"key":"c"}}],"metadata":{"m":"n"}}`,
	})
}

func TestEveryCallReturnsTheSidecarsError(t *testing.T) {
	calls := map[string]func(ctx context.Context, c *Client) error{
		"Publish": func(ctx context.Context, c *Client) error { return c.Publish(ctx, "p", "t", Message{}) },
		"GetState": func(ctx context.Context, c *Client) error {
			_, err := c.GetState(ctx, "s", "k", GetStateOptions{})
			return err
		},
		"GetBulkState": func(ctx context.Context, c *Client) error {
			_, err := c.GetBulkState(ctx, "s", []string{"k"}, GetBulkStateOptions{})
			return err
		},
		"SaveState":        func(ctx context.Context, c *Client) error { return c.SaveState(ctx, "s", StateItem{Key: "k"}) },
		"DeleteState":      func(ctx context.Context, c *Client) error { return c.DeleteState(ctx, "s", StateItem{Key: "k"}) },
		"StateTransaction": func(ctx context.Context, c *Client) error { return c.StateTransaction(ctx, "s", nil, nil) },
	}
	answers := []struct {
		status int
		body   string
		want   Error
		text   string
	}{
		{409, `{"errorCode":"ERR_STATE_SAVE","message":"etag mismatch","details":[]}`, Error{409, "ERR_STATE_SAVE", "etag mismatch"}, "sidecar answered 409 ERR_STATE_SAVE: etag mismatch"},
		{401, ``, Error{401, "", ""}, "sidecar answered 401"},
		{502, `<html>bad gateway</html>`, Error{502, "", "<html>bad gateway</html>"}, "sidecar answered 502: <html>bad gateway</html>"},
		{307, ``, Error{307, "", ""}, "sidecar answered 307"},
		{500, strings.Repeat("é", 999), Error{500, "", strings.Repeat("é", 256)}, "sidecar answered 500: " + strings.Repeat("é", 256)},
	}
	for name, call := range calls {
		for _, a := range answers {
			_, s := sidecar(a.status, http.Header{"Location": {"/elsewhere"}}, a.body)
			server := httptest.NewServer(s)
			err := call(t.Context(), &Client{Endpoint: server.URL})
			server.Close()
			var e *Error
			if !errors.As(err, &e) || *e != a.want || !strings.HasSuffix(err.Error(), a.text) {
				t.Errorf("%s, %d: got %v, want %v", name, a.status, err, a.text)
			}
		}
		c, _ := sidecar(204, nil, "")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := call(ctx, c); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: got %v", name, err)
		}
	}
}

func TestCallIsBoundedInTime(t *testing.T) {
	is := is.New(t)
	wait := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		w.(http.Flusher).Flush() // the header arrives, the body does not
		<-wait
	}))
	defer server.Close()
	defer close(wait)
	c := &Client{Endpoint: server.URL, Timeout: time.Millisecond}
	_, err := c.GetState(t.Context(), "s", "k", GetStateOptions{})
	is.True(errors.Is(err, context.DeadlineExceeded))
}

func TestAnswerIsBoundedInSize(t *testing.T) {
	is := is.New(t)
	c, _ := sidecar(200, nil, `"12345678"`)
	c.MaxResponseBytes = 10
	_, err := c.GetState(t.Context(), "s", "k", GetStateOptions{})
	is.NoErr(err)
	c.MaxResponseBytes = 9
	_, err = c.GetState(t.Context(), "s", "k", GetStateOptions{})
	is.True(err != nil)
	is.True(strings.Contains(err.Error(), "longer than 9 bytes"))
}

func TestTokenAndTraceArePassedOn(t *testing.T) {
	is := is.New(t)
	c, got := sidecar(204, nil, "")
	c.APIToken = "secret"
	incoming := http.Header{}
	incoming.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	incoming.Set("tracestate", "a=b")
	is.NoErr(c.DeleteState(ContextWithTrace(t.Context(), incoming), "s", StateItem{Key: "k"}))
	check(t, got, recorded{Line: "DELETE /v1.0/state/s/k", Header: http.Header{
		"Dapr-Api-Token": {"secret"},
		"Traceparent":    {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
		"Tracestate":     {"a=b"},
	}})

	c, got = sidecar(204, nil, "")
	is.NoErr(c.DeleteState(ContextWithTrace(t.Context(), http.Header{"Tracestate": {"a=b"}}), "s", StateItem{Key: "k"}))
	check(t, got, recorded{Line: "DELETE /v1.0/state/s/k"}) // tracestate without traceparent is ignored
}

// A header that is a list may be given several times.
func TestListsOfATraceArePassedOn(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	member := func(i int) string { return fmt.Sprintf("m%02d=%s", i, strings.Repeat("x", 96)) } // 100 bytes
	var long, short []string
	for i := range 80 {
		long = append(long, member(i))
		short = append(short, fmt.Sprintf("m%d=x", i))
	}
	for _, tt := range []struct {
		what           string
		incoming, want http.Header
	}{
		{"several headers", http.Header{"Traceparent": {parent}, "Tracestate": {"a=1, b=2", "c=3,,", ""}, "Baggage": {"k=v;p;q=1 , l=%20", "m="}},
			http.Header{"Traceparent": {parent}, "Tracestate": {"a=1,b=2,c=3"}, "Baggage": {"k=v;p;q=1,l=%20,m="}}},
		{"baggage without a trace", http.Header{"Baggage": {"k=v"}}, http.Header{"Baggage": {"k=v"}}},
		{"baggage that a sidecar refuses", http.Header{"Baggage": {`a,=b,c=%zz,d="e",f=g h,i=j;=,k=\,l=ä,ok=1`}}, http.Header{"Baggage": {"ok=1"}}},
		{"more than a sidecar takes", http.Header{"Traceparent": {parent}, "Tracestate": long, "Baggage": long},
			http.Header{"Traceparent": {parent}, "Tracestate": {strings.Join(long[:5], ",")}, "Baggage": {strings.Join(long[:20], ",")}}},
		{"more members than a sidecar takes", http.Header{"Baggage": {strings.Join(short, ",")}}, http.Header{"Baggage": {strings.Join(short[:64], ",")}}},
		{"a member that is longer than the limit", http.Header{"Baggage": {"a=" + strings.Repeat("x", 2046), "b=1"}}, http.Header{"Baggage": {"b=1"}}},
		{"a member that is as long as the limit", http.Header{"Baggage": {"a=" + strings.Repeat("x", 2045)}}, http.Header{"Baggage": {"a=" + strings.Repeat("x", 2045)}}},
		{"a list of megabytes", http.Header{"Baggage": {"a=1", strings.Repeat("b,", 1<<20)}}, nil},
		{"two traces", http.Header{"Traceparent": {parent, parent}, "Tracestate": {"a=1"}}, nil},
		{"a malformed trace", http.Header{"Traceparent": {strings.Repeat("x", 1<<15)}, "Tracestate": {"a=1"}}, nil},
		{"a trace that is too long", http.Header{"Traceparent": {parent + strings.Repeat("x", 1<<15)}}, nil},
	} {
		c, got := sidecar(204, nil, "")
		if err := c.DeleteState(ContextWithTrace(t.Context(), tt.incoming), "s", StateItem{Key: "k"}); err != nil {
			t.Error(tt.what, err)
		}
		t.Log(tt.what)
		check(t, got, recorded{Line: "DELETE /v1.0/state/s/k", Header: tt.want})
	}
}

// A gateway may compress an answer unless the request forbids it, and then removes the
// ETag.
func TestAnswersAreNotCompressed(t *testing.T) {
	is := is.New(t)
	obeys := true
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", "7")
		if !obeys || strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Header().Del("ETag")
			w.Header().Set("Content-Encoding", "gzip")
			zip := gzip.NewWriter(w)
			defer zip.Close()
			_, _ = io.WriteString(zip, `"value"`)
			return
		}
		_, _ = io.WriteString(w, `"value"`)
	}))
	defer gateway.Close()
	c := &Client{Endpoint: gateway.URL}
	v, err := c.GetState(t.Context(), "s", "k", GetStateOptions{})
	is.NoErr(err)
	is.Equal(v.ETag, "7")
	obeys = false
	_, err = c.GetState(t.Context(), "s", "k", GetStateOptions{})
	is.True(err != nil)
	is.True(strings.Contains(err.Error(), `a gateway before the sidecar has encoded the answer with "gzip"`))
}

func TestConnectionsAreReused(t *testing.T) {
	is := is.New(t)
	var opened atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(500)
		_, _ = io.WriteString(w, "an answer that must be read to its end")
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	for range 10 {
		c := &Client{Endpoint: server.URL}
		is.True(c.DeleteState(t.Context(), "s", StateItem{Key: "k"}) != nil)
	}
	is.Equal(opened.Load(), int32(1))
}

func TestClientFromEnv(t *testing.T) {
	tests := []struct {
		env       map[string]string
		want      Client
		wantError string
	}{
		{nil, Client{Endpoint: "http://127.0.0.1:3501"}, ""},
		{map[string]string{"DAPR_HTTP_PORT": "4000", "DAPR_API_TOKEN": "t"}, Client{Endpoint: "http://127.0.0.1:4000", APIToken: "t"}, ""},
		{map[string]string{"DAPR_HTTP_ENDPOINT": "https://dapr.example:443/", "DAPR_HTTP_PORT": "4000"}, Client{Endpoint: "https://dapr.example:443"}, ""},
		{map[string]string{"DAPR_HTTP_PORT": "a"}, Client{}, `DAPR_HTTP_PORT is "a": it must be a port number`},
		{map[string]string{"DAPR_HTTP_PORT": "65536"}, Client{}, `DAPR_HTTP_PORT is "65536": it must be a port number`},
		{map[string]string{"DAPR_HTTP_ENDPOINT": "localhost:3500"}, Client{}, `DAPR_HTTP_ENDPOINT is "localhost:3500": it must be a URL`},
		{map[string]string{"DAPR_HTTP_ENDPOINT": "http://"}, Client{}, `DAPR_HTTP_ENDPOINT is "http://": it must be a URL`},
		{map[string]string{"DAPR_HTTP_PORT": "0"}, Client{}, `DAPR_HTTP_PORT is "0": it must be a port number from 1`},
		{map[string]string{"DAPR_HTTP_ENDPOINT": "http://gateway/dapr//"}, Client{Endpoint: "http://gateway/dapr"}, ""},
		{map[string]string{"DAPR_HTTP_ENDPOINT": "http://[::1]:3500"}, Client{Endpoint: "http://[::1]:3500"}, ""},
		{map[string]string{"DAPR_API_TOKEN": "correct horse"}, Client{Endpoint: "http://127.0.0.1:3501", APIToken: "correct horse"}, ""},
	}
	for _, tt := range tests {
		got, err := ClientFromEnv(func(name string) string { return tt.env[name] }, 3501)
		switch {
		case tt.wantError != "":
			if err == nil || !strings.Contains(err.Error(), tt.wantError) {
				t.Errorf("%v: got error %v, want %s", tt.env, err, tt.wantError)
			}
		case err != nil:
			t.Errorf("%v: %v", tt.env, err)
		case *got != tt.want:
			t.Errorf("%v: got %+v, want %+v", tt.env, *got, tt.want)
		}
	}
}

// A wrong setting fails at the start and not at the first call. The error shows no secret.
func TestClientFromEnvShowsNoSecret(t *testing.T) {
	for _, tt := range []struct{ name, value string }{
		{"DAPR_HTTP_ENDPOINT", "http://h:1?key=secret"}, {"DAPR_HTTP_ENDPOINT", "http://h:1?"},
		{"DAPR_HTTP_ENDPOINT", "http://h:1#secret"}, {"DAPR_HTTP_ENDPOINT", "http://h:1#"},
		{"DAPR_HTTP_ENDPOINT", "http://me:secret@h:1"}, {"DAPR_HTTP_ENDPOINT", "http://@h:1"}, {"DAPR_HTTP_ENDPOINT", "http://me:secret@h:x"},
		{"DAPR_HTTP_ENDPOINT", "unix:///run/dapr.sock"}, {"DAPR_HTTP_ENDPOINT", "grpc://h:1"}, {"DAPR_HTTP_ENDPOINT", "HTTP//h:1"},
		{"DAPR_HTTP_ENDPOINT", "http://h:0"}, {"DAPR_HTTP_ENDPOINT", "http://h:65536"}, {"DAPR_HTTP_ENDPOINT", "http://h:"}, {"DAPR_HTTP_ENDPOINT", "http://:1"},
		{"DAPR_HTTP_ENDPOINT", " http://h:1"}, {"DAPR_HTTP_ENDPOINT", "http://h:1 "}, {"DAPR_HTTP_ENDPOINT", "http://h:1/ "}, {"DAPR_HTTP_ENDPOINT", "http://h:1\n"},
		{"DAPR_HTTP_ENDPOINT", "http://h,i:1"}, {"DAPR_HTTP_ENDPOINT", "http://h\u202e:1"}, {"DAPR_HTTP_ENDPOINT", "http://h/%zz"}, {"DAPR_HTTP_ENDPOINT", "/"},
		{"DAPR_API_TOKEN", "secret "}, {"DAPR_API_TOKEN", " secret"}, {"DAPR_API_TOKEN", "secret\n"}, {"DAPR_API_TOKEN", "sec\nret"}, {"DAPR_API_TOKEN", "secret\x00"},
		{"DAPR_API_TOKEN", "secret\u00a0"}, {"DAPR_API_TOKEN", "sécret"}, {"DAPR_API_TOKEN", "\t"}, {"DAPR_API_TOKEN", strings.Repeat("s", 1<<20)},
	} {
		_, err := ClientFromEnv(func(name string) string { return map[string]string{tt.name: tt.value}[name] }, 3501)
		if err == nil || !strings.Contains(err.Error(), tt.name) || !strings.Contains(err.Error(), "must be") || strings.Contains(err.Error(), "secret") || len(err.Error()) > 300 {
			t.Errorf("%s=%.80q: got %v", tt.name, tt.value, err)
		}
	}
}
