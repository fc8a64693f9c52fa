package daprhttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp/daprtest"
)

// answering returns a client of a sidecar that gives the same answer to every call.
func answering(status int, header http.Header, body string) (*Client, *daprtest.Sidecar) {
	s := &daprtest.Sidecar{Fault: func(daprtest.Request) daprtest.Fault {
		return daprtest.Fault{Status: status, Header: header, Body: body}
	}}
	return &Client{HTTPClient: s.Client()}, s
}

// requests returns the requests that a sidecar got: method, path and query, headers and body.
func requests(s *daprtest.Sidecar) (all []string) {
	for _, r := range s.Requests() {
		text := r.Method + " " + r.Path
		if len(r.Query) > 0 {
			text += "?" + r.Query.Encode()
		}
		if r.Header.Get("Accept-Encoding") != "identity" {
			text += " [accepts a compressed answer]"
		}
		for _, name := range slices.Sorted(maps.Keys(r.Header)) {
			if name != "Accept-Encoding" {
				text += " [" + name + ": " + r.Header.Get(name) + "]"
			}
		}
		all = append(all, strings.TrimSpace(text+" "+r.Body))
	}
	return all
}

const key = "a/b+c d%"

var calls = []struct {
	name   string
	call   func(ctx context.Context, c *Client) (any, error)
	want   string // the request
	answer daprtest.Fault
	result any
}{
	{"Publish", func(ctx context.Context, c *Client) (any, error) {
		return nil, c.Publish(ctx, "pubsub", "topic", Message{Data: []byte(`{"a":1}`)})
	}, `POST /v1.0/publish/pubsub/topic [Content-Type: application/json] {"a":1}`, daprtest.Fault{}, nil},

	{"Publish with every field", func(ctx context.Context, c *Client) (any, error) {
		return nil, c.Publish(ctx, "a pubsub", "a/topic+", Message{
			Data: []byte("text"), ContentType: "text/plain", ID: "an id&", Type: "T", PartitionKey: "p", Raw: true,
			Metadata: map[string]string{"ttlInSeconds": "60", "cloudevent.id": "another"},
		})
	}, `POST /v1.0/publish/a%20pubsub/a%2Ftopic%2B?metadata.cloudevent.id=an+id%26&metadata.cloudevent.type=T` +
		`&metadata.partitionKey=p&metadata.rawPayload=true&metadata.ttlInSeconds=60 [Content-Type: text/plain] text`, daprtest.Fault{}, nil},

	{"GetState", func(ctx context.Context, c *Client) (any, error) {
		return c.GetState(ctx, "a store", key, GetStateOptions{Consistency: Strong, Metadata: map[string]string{"partitionKey": "p"}})
	}, `GET /v1.0/state/a%20store/a%2Fb%2Bc%20d%25?consistency=strong&metadata.partitionKey=p`,
		daprtest.Fault{Status: 200, Header: http.Header{"Etag": {"7"}}, Body: `{"a":1}`},
		StateValue{Key: key, Value: []byte(`{"a":1}`), ETag: "7"}},

	{"GetState of a key that the store does not have", func(ctx context.Context, c *Client) (any, error) {
		return c.GetState(ctx, "store", "k", GetStateOptions{})
	}, `GET /v1.0/state/store/k`, daprtest.Fault{}, StateValue{Key: "k"}},

	{"GetBulkState", func(ctx context.Context, c *Client) (any, error) {
		return c.GetBulkState(ctx, "store", []string{"a", "b", "c"}, GetBulkStateOptions{Parallelism: 5, Metadata: map[string]string{"m": "n"}})
	}, `POST /v1.0/state/store/bulk?metadata.m=n [Content-Type: application/json] {"keys":["a","b","c"],"parallelism":5}`,
		daprtest.Fault{Status: 200, Body: `[{"key":"a","data":{"x":1},"etag":"7"},{"key":"b"},{"key":"c","error":"unreadable"}]`},
		[]StateValue{{Key: "a", Value: []byte(`{"x":1}`), ETag: "7"}, {Key: "b"}, {Key: "c", Error: "unreadable"}}},

	{"SaveState", func(ctx context.Context, c *Client) (any, error) {
		return nil, c.SaveState(ctx, "store",
			StateItem{Key: "a", Value: map[string]int{"x": 1}, ETag: "7", Options: StateOptions{FirstWrite, Strong}},
			StateItem{Key: "b", Value: true, Metadata: TTL(60)})
	}, `POST /v1.0/state/store [Content-Type: application/json] ` +
		`[{"key":"a","value":{"x":1},"etag":"7","options":{"concurrency":"first-write","consistency":"strong"}},` +
		`{"key":"b","value":true,"metadata":{"ttlInSeconds":"60"}}]`, daprtest.Fault{}, nil},

	{"DeleteState", func(ctx context.Context, c *Client) (any, error) {
		return nil, c.DeleteState(ctx, "store", StateItem{Key: key, ETag: "7", Options: StateOptions{LastWrite, Eventual}, Metadata: map[string]string{"m": "n"}})
	}, `DELETE /v1.0/state/store/a%2Fb%2Bc%20d%25?concurrency=last-write&consistency=eventual&metadata.m=n [If-Match: 7]`, daprtest.Fault{}, nil},

	{"StateTransaction", func(ctx context.Context, c *Client) (any, error) {
		return nil, c.StateTransaction(ctx, "store", []StateOperation{
			{"upsert", StateItem{Key: "a", Value: 1}},
			{"delete", StateItem{Key: "b", ETag: "7", Options: StateOptions{Concurrency: FirstWrite}}},
			{"delete", StateItem{Key: "c"}},
		}, map[string]string{"m": "n"})
	}, `POST /v1.0/state/store/transaction [Content-Type: application/json] {"operations":[{"operation":"upsert","request":{"key":"a","value":1}},` +
		`{"operation":"delete","request":{"key":"b","etag":"7","options":{"concurrency":"first-write"}}},` +
		`{"operation":"delete","request":{"key":"c"}}],"metadata":{"m":"n"}}`, daprtest.Fault{}, nil},

	{"Metadata", func(ctx context.Context, c *Client) (any, error) { return c.Metadata(ctx) },
		`GET /v1.0/metadata`, daprtest.Fault{Status: 200, Body: `{"id":"app","appConnectionProperties":{"port":5001,"maxConcurrency":1}}`},
		Metadata{AppID: "app", AppConnection: AppConnection{Port: 5001, MaxConcurrency: 1}}},
}

func TestRequestAndResultOfEveryCall(t *testing.T) {
	for _, tt := range calls {
		t.Run(tt.name, func(t *testing.T) {
			if tt.answer.Status == 0 {
				tt.answer.Status = http.StatusNoContent
			}
			c, s := answering(tt.answer.Status, tt.answer.Header, tt.answer.Body)
			result, err := tt.call(t.Context(), c)
			if diff := cmp.Diff(tt.result, result); diff != "" || err != nil {
				t.Errorf("error %v; result (-want +got):\n%s", err, diff)
			}
			if diff := cmp.Diff([]string{tt.want}, requests(s)); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEveryCallReturnsTheSidecarsError(t *testing.T) {
	answers := []struct {
		status int
		body   string
		want   Error
		text   string
	}{
		{409, `{"errorCode":"ERR_STATE_SAVE","message":"etag mismatch","details":[]}`, Error{409, "ERR_STATE_SAVE", "etag mismatch"}, "sidecar answered 409 ERR_STATE_SAVE: etag mismatch"},
		{403, `{"errorCode":"ERR"}`, Error{403, "ERR", ""}, "sidecar answered 403 ERR"},
		{500, `{"message":"why"}`, Error{500, "", "why"}, "sidecar answered 500: why"},
		{401, ``, Error{401, "", ""}, "sidecar answered 401"},
		{502, "<html>\nbad gateway</html>", Error{502, "", "<html>\nbad gateway</html>"}, `sidecar answered 502: <html>\u000abad gateway</html>`},
		{500, "1" + strings.Repeat("é", 999), Error{500, "", "1" + strings.Repeat("é", 255)}, "sidecar answered 500: 1" + strings.Repeat("é", 255)},
	}
	for _, tt := range calls {
		for _, a := range answers {
			c, _ := answering(a.status, nil, a.body)
			_, err := tt.call(t.Context(), c)
			var e *Error
			if !errors.As(err, &e) || *e != a.want || !strings.HasSuffix(err.Error(), a.text) {
				t.Errorf("%s, %d: got %v, want %v", tt.name, a.status, err, a.text)
			}
		}
		c, _ := answering(204, nil, "")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := tt.call(ctx, c); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: got %v", tt.name, err)
		}
	}
}

// Otherwise, a sidecar would make two events of the message.
func TestPublishTwiceMakesOneEvent(t *testing.T) {
	sidecar := new(daprtest.Sidecar)
	c := &Client{HTTPClient: sidecar.Client(), PublishTwice: true}
	for _, tt := range []struct {
		m      Message
		id     string // of the event; empty: any
		itsOwn bool   // the message is published as it is
	}{
		{Message{Data: []byte("1")}, "", false},
		{Message{Data: []byte("1"), ID: "e1"}, "e1", false},
		{Message{Data: []byte("1"), Metadata: map[string]string{"cloudevent.id": "e2"}}, "e2", false},
		{Message{Data: []byte("1"), Metadata: map[string]string{"CloudEvent.ID": "e3"}}, "", true},
		{Message{Data: []byte(`{"id":"e4","data":1}`), ContentType: "Application/CloudEvents+json; charset=utf-8"}, "e4", true},
		{Message{Data: []byte("1"), Raw: true}, "", true},
	} {
		before := len(sidecar.Published())
		if err := c.Publish(t.Context(), "pubsub", "topic", tt.m); err != nil {
			t.Fatal(err)
		}
		got := sidecar.Published()[before:]
		if len(got) != 2 {
			t.Fatalf("%+v: published %d times", tt.m, len(got))
		}
		first, _ := DecodeEvent(got[0].Event)
		second, _ := DecodeEvent(got[1].Event)
		_, given := got[0].Metadata["cloudevent.id"]
		if !tt.itsOwn && first.ID != second.ID || tt.id != "" && first.ID != tt.id || tt.itsOwn == given {
			t.Errorf("%+v: published with the IDs %q and %q, %v", tt.m, first.ID, second.ID, got[0].Metadata)
		}
	}
}

func TestPublishTwiceReturnsTheErrorOfEitherCall(t *testing.T) {
	for failing, wantCalls := range map[int]int{0: 2, 1: 1, 2: 2} {
		sidecar := new(daprtest.Sidecar)
		sidecar.Fault = func(daprtest.Request) daprtest.Fault {
			return daprtest.Fault{Unreached: len(sidecar.Requests()) == failing}
		}
		c := &Client{HTTPClient: sidecar.Client(), PublishTwice: true}
		err := c.Publish(t.Context(), "pubsub", "topic", Message{})
		if calls := len(sidecar.Requests()); (err == nil) != (failing == 0) || calls != wantCalls {
			t.Errorf("call %d fails: got error %v after %d calls", failing, err, calls)
		}
	}
}

func TestCallsThatCannotBeSentOrUnderstoodAreErrors(t *testing.T) {
	is := is.New(t)
	c, s := answering(200, nil, "") // Dapr answers a bulk read so when a value is not JSON
	_, err := c.GetBulkState(t.Context(), "store", []string{"a", "b"}, GetBulkStateOptions{})
	is.True(err != nil)
	_, err = c.Metadata(t.Context())
	is.True(err != nil)
	is.Equal(len(s.Requests()), 2)
	for _, key := range []string{"", ".", ".."} { // they can't be part of a path
		_, err := c.GetState(t.Context(), "store", key, GetStateOptions{})
		is.True(err != nil)
		is.True(c.DeleteState(t.Context(), "store", StateItem{Key: key}) != nil)
	}
	is.True(c.SaveState(t.Context(), "store", StateItem{Key: "c", Value: func() {}}) != nil) // it has no JSON
	is.Equal(len(s.Requests()), 2)
}

// A transport is the way to a sidecar.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A stalledBody is a body that does not arrive.
type stalledBody struct {
	ctx    context.Context
	closed bool
}

func (b *stalledBody) Read([]byte) (int, error) { <-b.ctx.Done(); return 0, b.ctx.Err() }
func (b *stalledBody) Close() error             { b.closed = true; return nil }

func TestZeroClientCallsTheDefaultPortAndBoundsTheTime(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{0: 10 * time.Second, time.Minute: time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			is := is.New(t)
			for _, status := range []int{200, 500} {
				var body stalledBody
				c := &Client{Timeout: timeout, HTTPClient: &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
					is.Equal(r.URL.String(), "http://127.0.0.1:3500/v1.0/state/s/k")
					body.ctx = r.Context()
					return &http.Response{StatusCode: status, Body: &body}, nil
				})}}
				start := time.Now()
				_, err := c.GetState(t.Context(), "s", "k", GetStateOptions{})
				is.True(errors.Is(err, context.DeadlineExceeded))
				is.Equal(errors.As(err, new(*Error)), status == 500)
				is.Equal(time.Since(start), want)
				is.True(body.closed)
			}
		})
	}
}

// A gateway that compresses an answer removes the ETag. A status other than 2xx is in the
// error, even if the body can't be read.
func TestAnswersThatAreTooLongOrCompressedAreErrors(t *testing.T) {
	for _, tt := range []struct {
		most     int64 // 0: the default
		length   int
		encoding string
		want     string
	}{
		{0, 16 << 20, "", "<nil>"},
		{0, 16<<20 + 1, "", "longer than 16777216 bytes"},
		{10, 10, "identity", "<nil>"},
		{math.MaxInt64, 10, "", "<nil>"},
		{10, 11, "identity", "longer than 10 bytes"},
		{10, 10, "gzip", `a gateway before the sidecar has encoded the answer with "gzip"`},
	} {
		for _, status := range []int{200, 413} {
			c, _ := answering(status, http.Header{"Content-Encoding": {tt.encoding}}, strings.Repeat("1", tt.length))
			c.MaxResponseBytes = tt.most
			found, err := c.GetState(t.Context(), "s", "k", GetStateOptions{})
			var refused *Error
			isRefused := errors.As(err, &refused) && refused.StatusCode == status
			hasReason := strings.Contains(fmt.Sprint(err), tt.want)
			if isRefused != (status == 413) || !hasReason && (tt.want != "<nil>" || status == 200) || err == nil && len(found.Value) != tt.length {
				t.Errorf("%d with %d bytes of %q, at most %d: got %v", status, tt.length, tt.encoding, tt.most, err)
			}
		}
	}
}

// A proxy or the target of a redirect would see the token.
func TestCallsGoToTheSidecarAlone(t *testing.T) {
	is := is.New(t)
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("another server got the call") }))
	defer other.Close()
	t.Setenv("HTTP_PROXY", other.URL)
	sidecar := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer sidecar.Close()
	var refused *Error
	is.True(errors.As((&Client{Endpoint: sidecar.URL}).DeleteState(t.Context(), "s", StateItem{Key: "k"}), &refused))
	is.Equal(refused.StatusCode, 307)
	is.True((&Client{Endpoint: "http://0.0.0.0:1"}).DeleteState(t.Context(), "s", StateItem{Key: "k"}) != nil) // unlike 127.0.0.1, not exempt from proxies
}

func TestEndpointMayEndWithASlash(t *testing.T) {
	client, sidecar := answering(204, nil, "")
	client.Endpoint = "http://127.0.0.1:3500/"
	is.New(t).NoErr(client.DeleteState(t.Context(), "s", StateItem{Key: "k"}))
	is.New(t).Equal(sidecar.Requests()[0].Path, "/v1.0/state/s/k")
}

// All clients together keep as many connections as they have calls at a time.
func TestConnectionsAreReused(t *testing.T) {
	const atOnce = 20
	var opened atomic.Int32
	var arrived sync.WaitGroup
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived.Done()
		arrived.Wait()
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
	for range 3 {
		arrived.Add(atOnce)
		var calls sync.WaitGroup
		for range atOnce {
			calls.Go(func() { _ = (&Client{Endpoint: server.URL}).DeleteState(t.Context(), "s", StateItem{Key: "k"}) })
		}
		calls.Wait()
	}
	if n := opened.Load(); n != atOnce {
		t.Errorf("%d connections for %d calls at a time", n, atOnce)
	}
}

func TestClientFromEnv(t *testing.T) {
	for _, tt := range []struct {
		env  map[string]string
		want Client
	}{
		{nil, Client{Endpoint: "http://127.0.0.1:3501"}},
		{map[string]string{"DAPR_HTTP_PORT": "4000", "DAPR_API_TOKEN": "correct horse"}, Client{Endpoint: "http://127.0.0.1:4000", APIToken: "correct horse"}},
		{map[string]string{"DAPR_HTTP_ENDPOINT": "https://dapr.example:443/", "DAPR_HTTP_PORT": "4000"}, Client{Endpoint: "https://dapr.example:443"}},
	} {
		got, err := ClientFromEnv(func(name string) string { return tt.env[name] }, 3501)
		if err != nil || *got != tt.want {
			t.Errorf("%v: got %+v, %v, want %+v", tt.env, *got, err, tt.want)
		}
	}
}

// A wrong setting fails at the start and not at the first call. The error shows no secret. The
// rules are tested in package web.
func TestClientFromEnvRefusesWrongSettings(t *testing.T) {
	for name, value := range map[string]string{
		"DAPR_HTTP_PORT": "0", "DAPR_HTTP_ENDPOINT": "http://me:secret@h:1", "DAPR_API_TOKEN": "secret ",
	} {
		_, err := ClientFromEnv(func(n string) string { return map[string]string{name: value}[n] }, 3501)
		if text := fmt.Sprint(err); !strings.HasPrefix(text, name) || !strings.Contains(text, "must be") || strings.Contains(text, "secret") {
			t.Errorf("%s=%q: got %v", name, value, err)
		}
	}
}
