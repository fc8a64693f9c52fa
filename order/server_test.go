package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
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

func send(h http.Handler, method, path, body string, header http.Header) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for name, values := range header {
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func post(h http.Handler, body string, header http.Header) *httptest.ResponseRecorder {
	return send(h, "POST", "/order", body, header)
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

// The same key and the same order make the same event. Another key, another order or no key
// makes another event.
func TestKeyAndOrderMakeTheEvent(t *testing.T) {
	is := is.New(t)
	s, sidecar := newService(io.Discard)
	id := func(body string, keys ...string) string {
		t.Helper()
		is.Equal(post(s.handler(), body, http.Header{"Idempotency-Key": keys}).Code, 200)
		ids := eventIDs(t, sidecar)
		return ids[len(ids)-1]
	}
	first := id(good, "7f3a")
	is.True(strings.HasPrefix(first, "7f3a."))
	is.Equal(first, id(` {"quantity":1,"orderId":"o","itemId":"i","note":"ignored"}`, "7f3a"))
	ids := map[string]bool{first: true}
	for _, other := range []string{
		id(good, "7f3b"), id(good, "7f3a."),
		id(`{"orderId":"p","itemId":"i","quantity":1}`, "7f3a"),
		id(`{"orderId":"o","itemId":"j","quantity":1}`, "7f3a"),
		id(`{"orderId":"o","itemId":"i","quantity":2}`, "7f3a"),
		id(`{"orderId":"oi","itemId":"i","quantity":1}`, "7f3a"),
		id(`{"orderId":"o","itemId":"ii","quantity":1}`, "7f3a"), // the same letters as above
		id(good), id(good),
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
		is.Equal(strings.Contains(w.Body.String(), "Idempotency-Key is a UUID of version 7 whose time is more than 5 minutes ahead"), want == 400)
	}
}

func TestLegalOrdersArePublishedUnchanged(t *testing.T) {
	for _, o := range []order{{"a/b", `"\<&>`, 1}, {"100%", "\uFFFD📦", daprhttp.MaxInteger}, {strings.Repeat("x", 256), strings.Repeat("é", 128), 5}} {
		is := is.New(t)
		body, err := json.Marshal(o)
		is.NoErr(err)
		s, sidecar := newService(io.Discard)
		var answer struct{ Event order }
		is.NoErr(json.Unmarshal(post(s.handler(), string(body), nil).Body.Bytes(), &answer))
		is.Equal(answer.Event, o)
		var published order
		is.NoErr(json.Unmarshal(sidecar.Published()[0].Data, &published))
		is.Equal(published, o)
	}
}

// The rules for JSON, keys and integers are tested in packages web and daprhttp.
func TestBadOrdersAreRefused(t *testing.T) {
	const incomplete = "orderId, itemId, and quantity are required"
	s, sidecar := newService(io.Discard)
	for _, tt := range []struct {
		body string
		keys []string
		want int
		text string // the beginning of the error
	}{
		{`{}`, nil, 400, incomplete},
		{`{"itemId":"i","quantity":1}`, nil, 400, incomplete},
		{`{"orderId":"o","itemId":"","quantity":1}`, nil, 400, incomplete},
		{`{"orderId":"o","itemId":"i","quantity":0}`, nil, 400, incomplete},
		{`{"orderid":"o","ITEMID":"i","Quantity":1}`, nil, 400, incomplete},
		{`not JSON`, nil, 400, "the body is not valid JSON"},
		{`{"orderId":1,"itemId":"i","quantity":1}`, nil, 400, "orderId must be a string"},
		{`{"orderId":"||","itemId":"i","quantity":1}`, nil, 400, `orderId must not contain "||"`},
		{`{"orderId":"o","itemId":"||","quantity":1}`, nil, 400, `itemId must not contain "||"`},
		{`{"orderId":"o","itemId":"i","quantity":9007199254740992}`, nil, 400, "quantity must not be greater than 9007199254740991"},
		{good + strings.Repeat(" ", maxBodyBytes), nil, 413, "the body is too large: it must not be longer than 65536 bytes"},
		{good, []string{""}, 400, "the header Idempotency-Key must not be empty"},
		{good, []string{"a\tb"}, 400, "the header Idempotency-Key must not contain control characters"},
		{good, []string{"a", "b"}, 400, "the header Idempotency-Key must be given once"},
	} {
		w := post(s.handler(), tt.body, http.Header{"Idempotency-Key": tt.keys})
		var answer struct{ Error string }
		err := json.Unmarshal(w.Body.Bytes(), &answer)
		if err != nil || w.Code != tt.want || !strings.HasPrefix(answer.Error, tt.text) {
			t.Errorf("%.80s with keys %q: got %d %s, want %d %s", tt.body, tt.keys, w.Code, w.Body, tt.want, tt.text)
		}
	}
	if n := len(sidecar.Published()); n > 0 {
		t.Errorf("%d orders were published", n)
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
	is.True(strings.HasSuffix(answer.Details, "sidecar answered 403 ERR_PUBSUB_FORBIDDEN: topic OrderPlaced is not allowed"))
	is.True(strings.HasSuffix(logs.String(), "Failed to publish OrderPlaced event. orderId=order-1001, itemId=item1, quantity=10: "+answer.Details+"\n"))
}

// The health check and the metrics need no token.
func TestTokenIsRequiredAndOtherSitesAreRefused(t *testing.T) {
	is := is.New(t)
	s, sidecar := newService(io.Discard)
	s.appToken = "secret"
	token := http.Header{"Dapr-Api-Token": {"secret"}}
	is.Equal(post(s.handler(), good, nil).Code, 401)
	is.Equal(post(s.handler(), good, http.Header{"Dapr-Api-Token": {"secret"}, "Sec-Fetch-Site": {"cross-site"}}).Code, 403)
	is.Equal(len(sidecar.Published()), 0)
	is.Equal(post(s.handler(), good, token).Code, 200)
	is.Equal(post(s.handler(), good, token).Code, 200)
	is.Equal(post(s.handler(), `{}`, token).Code, 400)
	sidecar.Fault = func(daprtest.Request) daprtest.Fault { return daprtest.Fault{Unreached: true} }
	is.Equal(post(s.handler(), good, token).Code, 500)
	is.Equal(send(s.handler(), "GET", "/healthz", "", nil).Code, 200)
	metrics := send(s.handler(), "GET", "/metrics", "", nil).Body.String()
	for _, want := range []string{`{outcome="published"} 2`, `{outcome="refused"} 1`, `{outcome="failed"} 1`} {
		is.True(strings.Contains(metrics, "order_requests_total"+want+"\n"))
	}
}
