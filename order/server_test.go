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
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/daprtest"
	"example.com/dapr-orders/daprhttp/web"
)

// newService returns the service beside a sidecar in memory.
func newService(logs io.Writer) (*service, *daprtest.Sidecar) {
	sidecar := &daprtest.Sidecar{AppID: "order-service"}
	return &service{sidecar: &daprhttp.Client{HTTPClient: sidecar.Client()}, log: web.NewLogger(logs, "text"), metrics: newMetrics()}, sidecar
}

// eventIDs returns the IDs of the events that were published.
func eventIDs(t *testing.T, sidecar *daprtest.Sidecar) (ids []string) {
	for _, m := range sidecar.Published() {
		e, err := daprhttp.DecodeEvent(m.Event)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, e.ID)
	}
	return ids
}

const good = `{"orderId":"o","itemId":"i","quantity":1}`

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
	var logs bytes.Buffer
	s, sidecar := newService(&logs)
	w := post(s.handler(), ` {"orderId":"order-1001","itemId":"item1","quantity":10,"note":"ignored"} `, http.Header{
		"Idempotency-Key": {"key 1"},
		"Traceparent":     {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
	})
	is.Equal(w.Code, 200)
	is.Equal(w.Body.String(), `{"message":"OrderPlaced event published","event":{"orderId":"order-1001","itemId":"item1","quantity":10}}`+"\n")
	is.Equal(len(sidecar.Published()), 1)
	m := sidecar.Published()[0]
	is.Equal(m.Metadata["partitionKey"], "item1")
	event, err := daprhttp.DecodeEvent(m.Event)
	is.NoErr(err)
	want := daprhttp.Event{
		ID: "key 1.kr3YGV44j8rRObPR", Source: "order-service", SpecVersion: "1.0", Type: "OrderPlaced", DataContentType: "application/json",
		PubsubName: "pubsub", Topic: "OrderPlaced", TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		Data: []byte(`{"itemId":"item1","orderId":"order-1001","quantity":10}`),
	}
	if diff := cmp.Diff(want, event, cmpopts.IgnoreFields(want, "Time"), cmpopts.IgnoreUnexported(want)); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
	is.Equal(logs.String()[len("2026/11/24 04:33:12 "):], `eventId="key 1.kr3YGV44j8rRObPR" Published OrderPlaced event. orderId=order-1001, itemId=item1, quantity=10`+"\n")
}

// The same key and the same order make the same event. Another key or another order makes
// another event.
func TestKeyAndOrderMakeTheEvent(t *testing.T) {
	is := is.New(t)
	s, sidecar := newService(io.Discard)
	id := func(key, body string) string {
		t.Helper()
		is.Equal(post(s.handler(), body, http.Header{"Idempotency-Key": {key}}).Code, 200)
		ids := eventIDs(t, sidecar)
		return ids[len(ids)-1]
	}
	first := id("7f3a", good)
	is.True(strings.HasPrefix(first, "7f3a."))
	is.Equal(first, id("7f3a", ` {"quantity":1,"orderId":"o","itemId":"i","note":"ignored"}`))
	ids := map[string]bool{first: true}
	for _, other := range []string{
		id("7f3b", good), id("7f3a.", good),
		id("7f3a", `{"orderId":"p","itemId":"i","quantity":1}`),
		id("7f3a", `{"orderId":"o","itemId":"j","quantity":1}`),
		id("7f3a", `{"orderId":"o","itemId":"i","quantity":2}`),
		id("7f3a", `{"orderId":"oi","itemId":"i","quantity":1}`),
	} {
		is.True(!ids[other])
		ids[other] = true
	}
}

// A key from the future would raise a subscriber's watermark.
func TestKeyFromTheFutureIsRefused(t *testing.T) {
	s, _ := newService(io.Discard)
	for ahead, want := range map[time.Duration]int{-24 * time.Hour: 200, 0: 200, 4 * time.Minute: 200, 6 * time.Minute: 400, 365 * 24 * time.Hour: 400} {
		is := is.New(t)
		ms := time.Now().Add(ahead).UnixMilli()
		key := fmt.Sprintf("%08x-%04x-7cc3-98c4-dc0c0c07398f", ms>>16, ms&0xffff)
		w := post(s.handler(), good, http.Header{"Idempotency-Key": {key}})
		is.Equal(w.Code, want)
		if want == 400 {
			is.True(strings.Contains(w.Body.String(), "Idempotency-Key"))
			is.True(strings.Contains(w.Body.String(), "more than 5 minutes ahead"))
		}
	}
}

func TestOrdersWithoutKeyAreDifferentEvents(t *testing.T) {
	is := is.New(t)
	s, sidecar := newService(io.Discard)
	for range 3 {
		is.Equal(post(s.handler(), good, nil).Code, 200)
	}
	ids := make(map[string]bool)
	for _, id := range eventIDs(t, sidecar) {
		ids[id] = true
	}
	is.Equal(len(ids), 3)
}

// Both messages are the same event, and the broker must acknowledge both.
func TestEventThatIsPublishedTwiceHasOneID(t *testing.T) {
	is := is.New(t)
	s, sidecar := newService(io.Discard)
	s.sidecar.PublishTwice = true
	is.Equal(post(s.handler(), good, nil).Code, 200)
	ids := eventIDs(t, sidecar)
	is.Equal(len(ids), 2)
	is.Equal(ids[0], ids[1])
	for failing := range 2 {
		before := len(sidecar.Requests())
		sidecar.Fault = func(daprtest.Request) daprtest.Fault {
			if len(sidecar.Requests()) > before+failing {
				return daprtest.Fault{Status: 500}
			}
			return daprtest.Fault{}
		}
		is.Equal(post(s.handler(), good, nil).Code, 500)
		is.Equal(len(sidecar.Requests()), before+failing+1)
	}
}

func TestLegalOrdersArePublishedUnchanged(t *testing.T) {
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
		s, sidecar := newService(io.Discard)
		w := post(s.handler(), string(body), nil)
		var answer struct{ Event order }
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.Event != o {
			t.Errorf("%s: got %d %s", body, w.Code, w.Body)
			continue
		}
		var event order
		if err := json.Unmarshal(sidecar.Published()[0].Data, &event); err != nil || event != o {
			t.Errorf("%s: published %s", body, sidecar.Published()[0].Data)
		}
	}
}

// The rules for JSON, keys and integers are tested in packages web and daprhttp.
func TestBadOrdersAreRefused(t *testing.T) {
	const incomplete = "orderId, itemId, and quantity are required"
	// with returns a good order with one field changed.
	with := func(field, value string) string {
		fields := map[string]string{"orderId": `"o"`, "itemId": `"i"`, "quantity": `1`}
		fields[field] = value
		return fmt.Sprintf(`{"orderId":%s,"itemId":%s,"quantity":%s}`, fields["orderId"], fields["itemId"], fields["quantity"])
	}
	s, sidecar := newService(io.Discard)
	for _, tt := range []struct {
		body      string
		wantError string // part of the error; for incomplete, the whole error
	}{
		{`{}`, incomplete},
		{`{"itemId":"i","quantity":1}`, incomplete},
		{`{"orderId":"o","quantity":1}`, incomplete},
		{`{"orderId":"o","itemId":"i"}`, incomplete},
		{with("orderId", `""`), incomplete},
		{with("itemId", `null`), incomplete},
		{with("quantity", `0`), incomplete},
		{with("quantity", `-0`), incomplete},
		{`{"orderid":"o","ITEMID":"i","Quantity":1}`, incomplete},
		{`not JSON`, "not valid JSON"},
		{with("orderId", `1`), "orderId must be a string"},
		{with("orderId", `"||"`), `orderId must not contain "||"`},
		{with("itemId", `1`), "itemId must be a string"},
		{with("itemId", `"||"`), `itemId must not contain "||"`},
		{with("quantity", `"10"`), "quantity must be a number"},
		{with("quantity", `9007199254740992`), "quantity must not be greater than 9007199254740991"},
	} {
		w := post(s.handler(), tt.body, nil)
		var answer map[string]string
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Errorf("%s: got %s, want JSON", tt.body, w.Body)
		}
		got := answer["error"]
		if w.Code != 400 || !strings.Contains(got, tt.wantError) || tt.wantError == incomplete && got != incomplete {
			t.Errorf("%s: got %d %q, want 400 %q", tt.body, w.Code, got, tt.wantError)
		}
	}
	if n := len(sidecar.Published()); n > 0 {
		t.Errorf("%d orders were published", n)
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
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
		{"key that is not UTF-8", good, []string{"\xff"}, 400, "Idempotency-Key must be valid UTF-8"},
	}
	s, sidecar := newService(io.Discard)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			is := is.New(t)
			w := post(s.handler(), tt.body, http.Header{"Idempotency-Key": tt.keys})
			is.Equal(w.Code, tt.want)
			is.True(strings.Contains(w.Body.String(), tt.wantError))
			is.Equal(len(sidecar.Published()), 0)
		})
	}
}

func TestRefusedPublishIsReported(t *testing.T) {
	is := is.New(t)
	var logs bytes.Buffer
	s, sidecar := newService(&logs)
	sidecar.Fault = func(daprtest.Request) daprtest.Fault {
		return daprtest.Refusal(403, "ERR_PUBSUB_FORBIDDEN", "topic OrderPlaced is not allowed")
	}
	w := post(s.handler(), `{"orderId":"order-1001","itemId":"item1","quantity":10}`, nil)
	is.Equal(w.Code, 500)
	var answer struct{ Error, Details string }
	is.NoErr(json.Unmarshal(w.Body.Bytes(), &answer))
	is.Equal(answer.Error, "Failed to publish OrderPlaced event")
	is.True(strings.Contains(answer.Details, "403 ERR_PUBSUB_FORBIDDEN: topic OrderPlaced is not allowed"))
	is.True(strings.Contains(logs.String(), "Failed to publish OrderPlaced event. orderId=order-1001"))
}

func TestUnreachableSidecarIsReported(t *testing.T) {
	is := is.New(t)
	s, _ := newService(io.Discard)
	s.sidecar = &daprhttp.Client{Endpoint: "http://127.0.0.1:" + freePort(t)}
	w := post(s.handler(), good, nil)
	is.Equal(w.Code, 500)
	is.True(strings.Contains(w.Body.String(), "refused")) // the operating system's message, in part
}

func TestTokenIsRequired(t *testing.T) {
	is := is.New(t)
	s, sidecar := newService(io.Discard)
	s.appToken = "secret"
	h := s.handler()
	is.Equal(post(h, good, nil).Code, 401)
	is.Equal(post(h, good, http.Header{"Dapr-Api-Token": {"wrong"}}).Code, 401)
	is.Equal(len(sidecar.Published()), 0)
	is.Equal(post(h, good, http.Header{"Dapr-Api-Token": {"secret"}}).Code, 200)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/healthz", nil))
	is.Equal(w.Code, 200)
}

// A request under way gets its answer when the service stops.
func TestStopLetsRequestsFinish(t *testing.T) {
	is := is.New(t)
	publishing, goOn := make(chan struct{}), make(chan struct{})
	sidecar := httptest.NewServer(&daprtest.Sidecar{Fault: func(daprtest.Request) daprtest.Fault {
		close(publishing)
		<-goOn
		return daprtest.Fault{}
	}})
	defer sidecar.Close()
	port := freePort(t)
	env := map[string]string{"PORT": port, "APP_PORT": "1", "DAPR_HTTP_ENDPOINT": sidecar.URL + "/"}
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
		resp, err := http.Post(base+"/order", "application/json", strings.NewReader(good))
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
	for { // until the service accepts no connection
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

func TestWrongSettingsAreReported(t *testing.T) {
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
	s, sidecar := newService(io.Discard)
	s.appToken = "secret" // not required for the metrics
	h := s.handler()
	token := http.Header{"Dapr-Api-Token": {"secret"}}
	post(h, good, token)
	post(h, good, token)
	post(h, `{}`, token)
	sidecar.Fault = func(daprtest.Request) daprtest.Fault { return daprtest.Fault{Unreached: true} }
	post(h, good, token)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{`{outcome="published"} 2`, `{outcome="refused"} 1`, `{outcome="failed"} 1`} {
		is.True(strings.Contains(w.Body.String(), "order_requests_total"+want+"\n"))
	}
}

func TestOtherSitesAreRefused(t *testing.T) {
	is := is.New(t)
	s, sidecar := newService(io.Discard)
	w := post(s.handler(), good, http.Header{"Sec-Fetch-Site": {"cross-site"}})
	is.Equal(w.Code, 403)
	is.Equal(len(sidecar.Published()), 0)
}
