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
)

// start returns the service next to a sidecar in memory. Settings are names of environment
// variables and their values.
func start(t *testing.T, logs io.Writer, settings ...string) (http.Handler, *daprtest.Sidecar) {
	t.Helper()
	env := make(map[string]string)
	for i := 0; i < len(settings); i += 2 {
		env[settings[i]] = settings[i+1]
	}
	s, _, err := newService(func(name string) string { return env[name] }, logs)
	if err != nil {
		t.Fatal(err)
	}
	sidecar := &daprtest.Sidecar{AppID: "order-service", APIToken: env["DAPR_API_TOKEN"]}
	s.sidecar.HTTPClient = sidecar.Client()
	return s.handler(), sidecar
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

const (
	good  = `{"orderId":"o","itemId":"i","quantity":1}`
	trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
)

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
	h, sidecar := start(t, &logs)
	w := post(h, ` {"orderId":"order-1001","itemId":"item1","quantity":10,"note":"ignored"} `, http.Header{
		"Idempotency-Key": {"key 1"},
		"Traceparent":     {trace},
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
		PubsubName: "pubsub", Topic: "OrderPlaced", TraceParent: trace,
		Data: []byte(`{"itemId":"item1","orderId":"order-1001","quantity":10}`),
	}
	if diff := cmp.Diff(want, event, cmpopts.IgnoreFields(want, "Time"), cmpopts.IgnoreUnexported(want)); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
	is.Equal(logs.String()[len("2026/11/24 04:33:12 "):],
		`eventId="key 1.kr3YGV44j8rRObPR" Published OrderPlaced event. orderId=order-1001, itemId=item1, quantity=10`+"\n")
}

// The same key and the same order make the same event. Another key, another order or no key
// makes another event.
func TestKeyAndOrderMakeTheEvent(t *testing.T) {
	is := is.New(t)
	h, sidecar := start(t, io.Discard)
	id := func(body string, keys ...string) string {
		t.Helper()
		is.Equal(post(h, body, http.Header{"Idempotency-Key": keys}).Code, 200)
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
	h, _ := start(t, io.Discard)
	for ahead, want := range map[time.Duration]int{-24 * time.Hour: 200, 0: 200, 4 * time.Minute: 200, 6 * time.Minute: 400, 365 * 24 * time.Hour: 400} {
		is := is.New(t)
		ms := time.Now().Add(ahead).UnixMilli()
		key := fmt.Sprintf("%08x-%04x-7cc3-98c4-dc0c0c07398f", ms>>16, ms&0xffff)
		w := post(h, good, http.Header{"Idempotency-Key": {key}})
		is.Equal(w.Code, want)
		is.Equal(strings.Contains(w.Body.String(), "Idempotency-Key is a UUID of version 7 whose time is more than 5 minutes ahead"), want == 400)
	}
}

func TestLegalOrdersArePublishedUnchanged(t *testing.T) {
	for _, o := range []order{
		{"a/b", `"\<&>`, 1}, {"100%", "\uFFFD📦", daprhttp.MaxInteger}, {strings.Repeat("x", 256), strings.Repeat("é", 128), 5},
	} {
		is := is.New(t)
		body, err := json.Marshal(o)
		is.NoErr(err)
		h, sidecar := start(t, io.Discard)
		var answer struct{ Event order }
		is.NoErr(json.Unmarshal(post(h, string(body), nil).Body.Bytes(), &answer))
		is.Equal(answer.Event, o)
		var published order
		is.NoErr(json.Unmarshal(sidecar.Published()[0].Data, &published))
		is.Equal(published, o)
	}
}

// The rules for JSON, keys and integers are tested in packages web and daprhttp.
func TestBadOrdersAreRefused(t *testing.T) {
	const incomplete = "orderId, itemId, and quantity are required"
	h, sidecar := start(t, io.Discard)
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
		w := post(h, tt.body, http.Header{"Idempotency-Key": tt.keys})
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
	h, sidecar := start(t, &logs)
	sidecar.Fault = func(daprtest.Request) daprtest.Fault {
		return daprtest.Refusal(403, "ERR_PUBSUB_FORBIDDEN", "topic OrderPlaced is not allowed")
	}
	w := post(h, `{"orderId":"order-1001","itemId":"item1","quantity":10}`, nil)
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
	h, sidecar := start(t, io.Discard, "APP_API_TOKEN", "secret")
	token := http.Header{"Dapr-Api-Token": {"secret"}}
	is.Equal(post(h, good, nil).Code, 401)
	is.Equal(post(h, good, http.Header{"Dapr-Api-Token": {"secret"}, "Sec-Fetch-Site": {"cross-site"}}).Code, 403)
	is.Equal(len(sidecar.Published()), 0)
	is.Equal(post(h, good, token).Code, 200)
	is.Equal(post(h, good, token).Code, 200)
	is.Equal(post(h, `{}`, token).Code, 400)
	sidecar.Fault = func(daprtest.Request) daprtest.Fault { return daprtest.Fault{Unreached: true} }
	is.Equal(post(h, good, token).Code, 500)
	is.Equal(send(h, "GET", "/healthz", "", nil).Code, 200)
	metrics := send(h, "GET", "/metrics", "", nil).Body.String()
	for _, want := range []string{`{outcome="published"} 2`, `{outcome="refused"} 1`, `{outcome="failed"} 1`} {
		is.True(strings.Contains(metrics, "order_requests_total"+want+"\n"))
	}
}

func TestSettings(t *testing.T) {
	is := is.New(t)
	var logs bytes.Buffer
	h, sidecar := start(t, &logs, "DAPR_API_TOKEN", "sidecar's", "PUBLISH_TWICE", "true", "LOG_FORMAT", "json")
	is.Equal(post(h, good, http.Header{"Traceparent": {trace}}).Code, 200)
	ids := eventIDs(t, sidecar)
	is.Equal(len(ids), 2) // PUBLISH_TWICE
	is.Equal(ids[0], ids[1])
	is.True(strings.Contains(logs.String(), `"msg":"Published OrderPlaced event.","eventId":"`+ids[0]+`","traceId":"0af7651916cd43dd8448eb211c80319c"`))
}

// The error names every wrong variable, and shows no token. The rules are tested in packages
// web and daprhttp.
func TestWrongSettingsAreReported(t *testing.T) {
	is := is.New(t)
	env := map[string]string{
		"PORT": "http", "APP_HOST": "127.0.0.1:5002", "DAPR_HTTP_ENDPOINT": "localhost", "DAPR_API_TOKEN": "secret\n", "APP_API_TOKEN": "secret ",
		"PUBLISH_TWICE": "yes", "LOG_FORMAT": "JSON",
	}
	err := run(t.Context(), func(name string) string { return env[name] }, io.Discard)
	is.True(err != nil)
	is.Equal(strings.Count(err.Error(), "\n"), len(env)-1)
	for name := range env {
		is.True(strings.Contains(err.Error(), name+" "))
	}
	is.True(!strings.Contains(err.Error(), "secret"))

	env = map[string]string{"APP_HOST": "192.0.2.1"} // no address of this machine
	err = run(t.Context(), func(name string) string { return env[name] }, io.Discard)
	is.True(err != nil)
	is.True(strings.Contains(err.Error(), "192.0.2.1:5002")) // the default port
}

// Another method of a route is answered 405. Health check and metrics need no token.
func TestWrongMethod(t *testing.T) {
	is := is.New(t)
	h, _ := start(t, io.Discard, "APP_API_TOKEN", "secret")
	for _, path := range []string{"/healthz", "/metrics", "/order"} {
		w := send(h, "DELETE", path, "", http.Header{"Dapr-Api-Token": {"secret"}})
		is.Equal(w.Code, 405)
		is.True(w.Header().Get("Allow") != "")
	}
	for path, want := range map[string]int{"/healthz": 405, "/metrics": 405, "/order": 401, "/nothing": 401} {
		is.Equal(send(h, "DELETE", path, "", nil).Code, want)
	}
}
