package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/web"
)

// A fakeSidecar keeps what is published to it. It answers 204, or what the test
// says.
type fakeSidecar struct {
	*httptest.Server
	mu        sync.Mutex
	published []published
	answer    func(w http.ResponseWriter)
}

type published struct {
	Path        string
	Query       url.Values
	ContentType string
	Traceparent string
	Body        string
}

func newFakeSidecar(t *testing.T) *fakeSidecar {
	f := &fakeSidecar{answer: func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) }}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		f.mu.Lock()
		f.published = append(f.published, published{
			r.Method + " " + r.URL.Path, r.URL.Query(), r.Header.Get("Content-Type"), r.Header.Get("Traceparent"), string(body),
		})
		f.mu.Unlock()
		f.answer(w)
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *fakeSidecar) server(logs io.Writer) http.Handler { return f.service(logs).handler() }

func (f *fakeSidecar) service(logs io.Writer) *service {
	return &service{sidecar: &daprhttp.Client{Endpoint: f.URL}, log: web.NewLogger(logs, "text"), metrics: newMetrics()}
}

func post(h http.Handler, body string, header http.Header) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", "/order", strings.NewReader(body))
	for name, values := range header {
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestOrderIsPublished(t *testing.T) {
	is := is.New(t)
	f := newFakeSidecar(t)
	var logs bytes.Buffer
	w := post(f.server(&logs), ` {"orderId":"order-1001","itemId":"item1","quantity":10,"note":"ignored"} `, http.Header{
		"Idempotency-Key": {"key 1"},
		"Traceparent":     {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
	})
	is.Equal(w.Code, 200)
	is.Equal(w.Body.String(), `{"message":"OrderPlaced event published","event":{"orderId":"order-1001","itemId":"item1","quantity":10}}`+"\n")
	want := []published{{
		Path:        "POST /v1.0/publish/pubsub/OrderPlaced",
		Query:       url.Values{"metadata.cloudevent.id": {"key 1.kr3YGV44j8rRObPR"}, "metadata.cloudevent.type": {"OrderPlaced"}, "metadata.partitionKey": {"item1"}},
		ContentType: "application/json",
		Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		Body:        `{"orderId":"order-1001","itemId":"item1","quantity":10}`,
	}}
	if diff := cmp.Diff(want, f.published); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
	is.Equal(logs.String()[len("2026/11/24 04:33:12 "):], `eventId="key 1.kr3YGV44j8rRObPR" Published OrderPlaced event. orderId=order-1001, itemId=item1, quantity=10`+"\n")
}

// A key and an order together are an event: the same twice, and another with the
// same key or for another client not.
func TestKeyAndOrderMakeTheEvent(t *testing.T) {
	is := is.New(t)
	f := newFakeSidecar(t)
	id := func(key, body string) string {
		t.Helper()
		is.Equal(post(f.server(io.Discard), body, http.Header{"Idempotency-Key": {key}}).Code, 200)
		return f.published[len(f.published)-1].Query.Get("metadata.cloudevent.id")
	}
	const body = `{"orderId":"o","itemId":"i","quantity":1}`
	first := id("7f3a", body)
	is.True(strings.HasPrefix(first, "7f3a."))
	is.Equal(first, id("7f3a", ` {"quantity":1,"orderId":"o","itemId":"i","note":"ignored"}`))
	ids := map[string]bool{first: true}
	for _, other := range []string{
		id("7f3b", body), id("7f3a.", body),
		id("7f3a", `{"orderId":"p","itemId":"i","quantity":1}`),
		id("7f3a", `{"orderId":"o","itemId":"j","quantity":1}`),
		id("7f3a", `{"orderId":"o","itemId":"i","quantity":2}`),
		id("7f3a", `{"orderId":"oi","itemId":"i","quantity":1}`),
	} {
		is.True(!ids[other])
		ids[other] = true
	}
}

// IDs sort by time: a key from the future would sort behind all to come.
func TestKeyFromTheFutureIsRefused(t *testing.T) {
	f := newFakeSidecar(t)
	for ahead, want := range map[time.Duration]int{-24 * time.Hour: 200, 0: 200, 4 * time.Minute: 200, 6 * time.Minute: 400, 365 * 24 * time.Hour: 400} {
		is := is.New(t)
		ms := time.Now().Add(ahead).UnixMilli()
		key := fmt.Sprintf("%08x-%04x-7cc3-98c4-dc0c0c07398f", ms>>16, ms&0xffff)
		w := post(f.server(io.Discard), `{"orderId":"o","itemId":"i","quantity":1}`, http.Header{"Idempotency-Key": {key}})
		is.Equal(w.Code, want)
		if want == 400 {
			is.True(strings.Contains(w.Body.String(), "Idempotency-Key"))
			is.True(strings.Contains(w.Body.String(), "more than 5 minutes ahead"))
		}
	}
}

func TestEachOrderWithoutKeyIsAnEventOfItsOwn(t *testing.T) {
	is := is.New(t)
	f := newFakeSidecar(t)
	ids := make(map[string]bool)
	for range 3 {
		is.Equal(post(f.server(io.Discard), `{"orderId":"order-1001","itemId":"item1","quantity":10}`, nil).Code, 200)
	}
	for _, p := range f.published {
		ids[p.Query.Get("metadata.cloudevent.id")] = true
	}
	is.Equal(len(ids), 3)
	is.True(!ids[""])
}

// Published twice, it is one event, and both times must succeed.
func TestEventThatIsPublishedTwiceHasOneID(t *testing.T) {
	is := is.New(t)
	f := newFakeSidecar(t)
	s := f.service(io.Discard)
	s.sidecar.PublishTwice = true
	h := s.handler()
	const body = `{"orderId":"order-1001","itemId":"item1","quantity":10}`
	is.Equal(post(h, body, nil).Code, 200)
	is.Equal(len(f.published), 2)
	is.Equal(cmp.Diff(f.published[0], f.published[1]), "")
	for failing := range 2 {
		f.published = nil
		f.answer = func(w http.ResponseWriter) {
			if len(f.published) > failing {
				w.WriteHeader(http.StatusInternalServerError)
			} else {
				w.WriteHeader(http.StatusNoContent)
			}
		}
		is.Equal(post(h, body, nil).Code, 500)
		is.Equal(len(f.published), failing+1)
	}
}

func TestLegalOrdersArePublishedUnchanged(t *testing.T) {
	f := newFakeSidecar(t)
	for _, o := range []order{
		{"a/b", "c d", 1},
		{"100%", "%2F", 2},
		{"📦", "ünï", 3},
		{`"\`, "<&>", 4},
		{"a|b", "...", daprhttp.MaxInteger},
		{strings.Repeat("x", 256), strings.Repeat("é", 128), 5},
		{"\uFFFD", "\u2028", 6},
	} {
		body, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		w := post(f.server(io.Discard), string(body), nil)
		var answer struct{ Event order }
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.Event != o {
			t.Errorf("%s: got %d %s", body, w.Code, w.Body)
			continue
		}
		var event order
		if err := json.Unmarshal([]byte(f.published[len(f.published)-1].Body), &event); err != nil || event != o {
			t.Errorf("%s: published %s", body, f.published[len(f.published)-1].Body)
		}
	}
}

func TestBadOrdersAreRefused(t *testing.T) {
	const incomplete = "orderId, itemId, and quantity are required"
	// with returns a good order but for one field.
	with := func(field, value string) string {
		fields := map[string]string{"orderId": `"o"`, "itemId": `"i"`, "quantity": `1`}
		fields[field] = value
		return fmt.Sprintf(`{"orderId":%s,"itemId":%s,"quantity":%s}`, fields["orderId"], fields["itemId"], fields["quantity"])
	}
	tests := []struct {
		body      string
		wantError string // a part of it; the whole of it for incomplete
	}{
		{`{}`, incomplete},
		{`{"itemId":"i","quantity":1}`, incomplete},
		{`{"orderId":"o","quantity":1}`, incomplete},
		{`{"orderId":"o","itemId":"i"}`, incomplete},
		{with("orderId", `""`), incomplete},
		{with("itemId", `""`), incomplete},
		{with("quantity", `0`), incomplete},
		{with("quantity", `-0`), incomplete},
		{with("orderId", `null`), incomplete},
		{with("itemId", `null`), incomplete},
		{with("quantity", `null`), incomplete},
		{`{"orderid":"o","ITEMID":"i","Quantity":1}`, incomplete},

		{``, "not valid JSON"},
		{` `, "not valid JSON"},
		{`{`, "not valid JSON"},
		{`{"orderId":"o","itemId":"i","quantity":1`, "not valid JSON"},
		{`{"orderId":"o","itemId":"i","quantity":1}{}`, "not valid JSON"},
		{`{"orderId":"o","itemId":"i","quantity":1} x`, "not valid JSON"},
		{`{'orderId':'o','itemId':'i','quantity':1}`, "not valid JSON"},
		{`orderId=o&itemId=i&quantity=1`, "not valid JSON"},
		{`<order/>`, "not valid JSON"},
		{"{\"orderId\":\"a\nb\",\"itemId\":\"i\",\"quantity\":1}", "not valid JSON"},
		{with("quantity", `01`), "not valid JSON"},
		{with("quantity", `+1`), "not valid JSON"},
		{with("quantity", `NaN`), "not valid JSON"},
		{with("quantity", `0x10`), "not valid JSON"},
		{`null`, "must be a JSON object"},
		{`[]`, "must be a JSON object"},
		{`[{"orderId":"o","itemId":"i","quantity":1}]`, "must be a JSON object"},
		{`"order"`, "must be a JSON object"},
		{`10`, "must be a JSON object"},
		{`true`, "must be a JSON object"},

		{with("quantity", `"10"`), "quantity must be a number"},
		{with("quantity", `true`), "quantity must be a number"},
		{with("quantity", `[1]`), "quantity must be a number"},
		{with("quantity", `{}`), "quantity must be a number"},
		{with("quantity", `-1`), "quantity must not be negative"},
		{with("quantity", `-9223372036854775809`), "quantity must not be negative"},
		{with("quantity", `1.5`), "quantity must be an integer"},
		{with("quantity", `1e2`), "quantity must be an integer"},
		{with("quantity", `9007199254740992`), "quantity must not be greater than 9007199254740991"},
		{with("quantity", `9223372036854775808`), "quantity must not be greater than 9007199254740991"},
		{with("quantity", `1`+strings.Repeat("0", 400)), "quantity must not be greater than 9007199254740991"},

		{with("orderId", `1`), "orderId must be a string"},
		{with("itemId", `1`), "itemId must be a string"},
		{with("itemId", `["i"]`), "itemId must be a string"},
		{with("itemId", `{"id":"i"}`), "itemId must be a string"},
		{with("itemId", `false`), "itemId must be a string"},
		{with("itemId", `"a||b"`), `itemId must not contain "||"`},
		{with("orderId", `"||"`), `orderId must not contain "||"`},
		{with("itemId", `"."`), `itemId must not be "." or ".."`},
		{with("itemId", `".."`), `itemId must not be "." or ".."`},
		{with("itemId", `"a\nb"`), "itemId must not contain control characters"},
		{with("orderId", `"\u0000"`), "orderId must not contain control characters"},
		{with("itemId", `"\u007f"`), "itemId must not contain control characters"},
		{with("itemId", `"\u0085"`), "itemId must not contain control characters"},
		{with("itemId", `"`+strings.Repeat("x", 257)+`"`), "itemId must not be longer than 256 bytes"},
		{with("itemId", `"`+strings.Repeat("é", 129)+`"`), "itemId must not be longer than 256 bytes"},
		{with("itemId", "\"\xff\""), "not valid UTF-8"},
		{with("itemId", "\"\xed\xa0\x80\""), "not valid UTF-8"},
		{with("itemId", `"\ud800"`), "itemId must be valid Unicode"},
		{with("itemId", `"\udc00\ud800"`), "itemId must be valid Unicode"},
		{with("orderId", `"\\\ud83d!"`), "orderId must be valid Unicode"},
	}
	f := newFakeSidecar(t)
	for _, tt := range tests {
		w := post(f.server(io.Discard), tt.body, nil)
		var answer map[string]string
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Errorf("%s: got %s, want JSON", tt.body, w.Body)
		}
		got := answer["error"]
		if w.Code != 400 || !strings.Contains(got, tt.wantError) || tt.wantError == incomplete && got != incomplete {
			t.Errorf("%.80s: got %d %q, want 400 %q", tt.body, w.Code, got, tt.wantError)
		}
	}
	if len(f.published) > 0 {
		t.Errorf("published nevertheless: %+v", f.published)
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	const good = `{"orderId":"o","itemId":"i","quantity":1}`
	tests := []struct {
		name      string
		body      string
		keys      []string
		want      int
		wantError string
	}{
		{"oversized body", `{"orderId":"` + strings.Repeat("x", maxBodyBytes), nil, 413, "must not be longer than 65536 bytes"},
		{"oversized in blanks", good + strings.Repeat(" ", maxBodyBytes), nil, 413, "must not be longer than 65536 bytes"},
		{"empty key", good, []string{""}, 400, "Idempotency-Key must not be empty"},
		{"two keys", good, []string{"a", "b"}, 400, "Idempotency-Key must be given once"},
		{"long key", good, []string{strings.Repeat("x", 257)}, 400, "Idempotency-Key must not be longer than 256 bytes"},
		{"key with tab", good, []string{"a\tb"}, 400, "Idempotency-Key must not contain control characters"},
		{"key that is no UTF-8", good, []string{"\xff"}, 400, "Idempotency-Key must be valid UTF-8"},
	}
	f := newFakeSidecar(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			is := is.New(t)
			w := post(f.server(io.Discard), tt.body, http.Header{"Idempotency-Key": tt.keys})
			is.Equal(w.Code, tt.want)
			is.True(strings.Contains(w.Body.String(), tt.wantError))
			is.Equal(len(f.published), 0)
		})
	}
}

func TestRefusedPublishIsReported(t *testing.T) {
	is := is.New(t)
	f := newFakeSidecar(t)
	f.answer = func(w http.ResponseWriter) {
		web.WriteJSON(w, 403, map[string]string{"errorCode": "ERR_PUBSUB_FORBIDDEN", "message": "topic OrderPlaced is not allowed"})
	}
	var logs bytes.Buffer
	w := post(f.server(&logs), `{"orderId":"order-1001","itemId":"item1","quantity":10}`, nil)
	is.Equal(w.Code, 500)
	var answer struct{ Error, Details string }
	is.NoErr(json.Unmarshal(w.Body.Bytes(), &answer))
	is.Equal(answer.Error, "Failed to publish OrderPlaced event")
	is.True(strings.Contains(answer.Details, "403 ERR_PUBSUB_FORBIDDEN: topic OrderPlaced is not allowed"))
	is.True(strings.Contains(logs.String(), "Failed to publish OrderPlaced event. orderId=order-1001"))
}

func TestUnreachableSidecarIsReported(t *testing.T) {
	is := is.New(t)
	f := newFakeSidecar(t)
	f.Close()
	w := post(f.server(io.Discard), `{"orderId":"order-1001","itemId":"item1","quantity":10}`, nil)
	is.Equal(w.Code, 500)
	is.True(strings.Contains(w.Body.String(), "connection refused"))
}

func TestTokenIsDemanded(t *testing.T) {
	is := is.New(t)
	f := newFakeSidecar(t)
	s := f.service(io.Discard)
	s.appToken = "secret"
	h := s.handler()
	const good = `{"orderId":"o","itemId":"i","quantity":1}`
	is.Equal(post(h, good, nil).Code, 401)
	is.Equal(post(h, good, http.Header{"Dapr-Api-Token": {"wrong"}}).Code, 401)
	is.Equal(len(f.published), 0)
	is.Equal(post(h, good, http.Header{"Dapr-Api-Token": {"secret"}}).Code, 200)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/healthz", nil))
	is.Equal(w.Code, 200)
}

// Whoever has been let in gets an answer, even if the service is told to stop
// meanwhile.
func TestStopLetsRequestsFinish(t *testing.T) {
	is := is.New(t)
	f := newFakeSidecar(t)
	publishing, goOn := make(chan struct{}), make(chan struct{})
	f.answer = func(w http.ResponseWriter) {
		close(publishing)
		<-goOn
		w.WriteHeader(http.StatusNoContent)
	}
	port := freePort(t)
	env := map[string]string{"PORT": port, "APP_PORT": "1", "DAPR_HTTP_ENDPOINT": f.URL + "/"}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, func(name string) string { return env[name] }, io.Discard) }()
	base := "http://127.0.0.1:" + port
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		resp, err := http.Get(base + "/healthz")
		if err == nil {
			resp.Body.Close()
			is.Equal(resp.StatusCode, 200)
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	answered := make(chan int, 1)
	go func() {
		resp, err := http.Post(base+"/order", "application/json", strings.NewReader(`{"orderId":"o","itemId":"i","quantity":1}`))
		if err != nil {
			t.Error(err)
			answered <- 0
			return
		}
		resp.Body.Close()
		answered <- resp.StatusCode
	}()
	<-publishing
	stop()
	for { // until nobody else is let in
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			break
		}
		conn.Close()
	}
	select {
	case err := <-ended:
		t.Fatalf("run returned (%v) with a request under way", err)
	case <-answered:
		t.Fatal("the request was answered before the sidecar had")
	default:
	}
	close(goOn)
	is.Equal(<-answered, 200)
	is.NoErr(<-ended)
}

func TestRunSaysWhatIsWrongWithTheEnvironment(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, taken, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, value, want string }{
		{"PORT", "http", "PORT is \"http\""},
		{"APP_PORT", "70000", "APP_PORT is \"70000\""},
		{"DAPR_HTTP_PORT", "-1", "DAPR_HTTP_PORT is \"-1\""},
		{"DAPR_HTTP_ENDPOINT", "localhost:3500", "DAPR_HTTP_ENDPOINT is \"localhost:3500\""},
		{"PUBLISH_TWICE", "yes", "PUBLISH_TWICE is \"yes\""},
		{"PORT", taken, "set PORT to another port"},
		{"APP_HOST", "127.0.0.1:5002", "APP_HOST is \"127.0.0.1:5002\""},
		{"DAPR_HTTP_ENDPOINT", "http://me:secret@h:1", "DAPR_HTTP_ENDPOINT must be a URL"},
		{"DAPR_API_TOKEN", "secret\n", "DAPR_API_TOKEN must be"},
		{"APP_API_TOKEN", "secret ", "APP_API_TOKEN must be"},
		{"LOG_FORMAT", "JSON", "LOG_FORMAT is \"JSON\": it must be text or json"},
	}
	for _, tt := range tests {
		getenv := func(name string) string {
			if name == tt.name {
				return tt.value
			}
			return ""
		}
		if err := run(t.Context(), getenv, io.Discard); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s=%s: got %v, want %s", tt.name, tt.value, err, tt.want)
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func TestMetricsCountRequests(t *testing.T) {
	is := is.New(t)
	f := newFakeSidecar(t)
	s := f.service(io.Discard)
	s.appToken = "secret" // which the metrics do not ask for
	h := s.handler()
	token := http.Header{"Dapr-Api-Token": {"secret"}}
	const good = `{"orderId":"o","itemId":"i","quantity":1}`
	post(h, good, token)
	post(h, good, token)
	post(h, `{}`, token)
	f.Close()
	post(h, good, token)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{`{outcome="published"} 2`, `{outcome="refused"} 1`, `{outcome="failed"} 1`} {
		is.True(strings.Contains(w.Body.String(), "order_requests_total"+want+"\n"))
	}
}

func TestOtherSitesAreRefused(t *testing.T) {
	is := is.New(t)
	f := newFakeSidecar(t)
	w := post(f.server(io.Discard), `{"orderId":"o","itemId":"i","quantity":1}`, http.Header{"Sec-Fetch-Site": {"cross-site"}})
	is.Equal(w.Code, 403)
	is.Equal(len(f.published), 0)
}
