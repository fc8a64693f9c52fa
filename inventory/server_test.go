package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/daprtest"
	"example.com/dapr-orders/daprhttp/once"
	"example.com/dapr-orders/daprhttp/web"
)

const eventType = "application/cloudevents+json"

// A serviceTest is the inventory service beside a sidecar in memory.
type serviceTest struct {
	t *testing.T
	*service
	daprd *daprtest.Sidecar
	logs  bytes.Buffer
}

func newServiceTest(t *testing.T) *serviceTest {
	s := &serviceTest{t: t, daprd: &daprtest.Sidecar{AppID: "inventory-service", AppHeader: http.Header{"Dapr-Filter": {"answered"}}}}
	sidecar := &daprhttp.Client{HTTPClient: s.daprd.Client()}
	stocks := once.New[stock](sidecar, "statestore", once.Options{})
	s.service = &service{
		stocks: stocks, sidecar: sidecar, appID: "inventory-service", log: web.NewLogger(&s.logs, "text"), metrics: newMetrics(stocks),
	}
	return s
}

// put stores a value as another program would.
func (s *serviceTest) put(key, value string) { s.daprd.SetState("statestore", key, value) }

// written reports whether anything is stored.
func (s *serviceTest) written() bool { return len(s.daprd.State("statestore")) > 0 }

// published returns the component, the topic and the event of each message.
func (s *serviceTest) published() (all []string) {
	for _, m := range s.daprd.Published() {
		all = append(all, m.PubsubName+" "+m.Topic+" "+string(m.Event))
	}
	return all
}

// fail lets the sidecar fail calls whose path begins with path.
func (s *serviceTest) fail(path string) {
	s.daprd.Fault = func(r daprtest.Request) daprtest.Fault {
		if strings.HasPrefix(r.Path, path) {
			return daprtest.Fault{Status: http.StatusInternalServerError}
		}
		return daprtest.Fault{}
	}
}

// lines returns the log without the times.
func (s *serviceTest) lines() string {
	return regexp.MustCompile(`(?m)^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d `).ReplaceAllString(s.logs.String(), "")
}

// do makes a request by hand, or, with the content type of events, as a sidecar does.
func (s *serviceTest) do(method, path, contentType, body string) (int, string) {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	w := s.serve(r)
	return w.Code, strings.TrimSpace(w.Body.String())
}

func (s *serviceTest) serve(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.program().ServeHTTP(w, r)
	return w
}

func (s *serviceTest) program() http.Handler {
	h, err := s.handler()
	if err != nil {
		s.t.Fatal(err)
	}
	return h
}

// deliver lets the sidecar deliver a message once. It returns the status and the body of the
// answer.
func (s *serviceTest) deliver(m daprtest.Message) (status, answer string) {
	s.t.Helper()
	s.daprd.App = s.program()
	if m.Topic == "" {
		m.Topic = topic
	}
	d, err := s.daprd.Deliver(s.t.Context(), m)
	if err != nil {
		s.t.Fatal(err)
	}
	return d.Status, strings.TrimSpace(d.Body)
}

func TestEventLowersTheStock(t *testing.T) {
	is := is.New(t)
	s := newServiceTest(t)
	s.put("item1", `100`)
	event := daprtest.Message{
		Data: []byte(`{"orderId":"order-1001","itemId":"item1","quantity":10}`), Metadata: map[string]string{"cloudevent.id": "e1"},
	}
	result, answer := s.deliver(event)
	is.Equal(result, "SUCCESS")
	is.Equal(answer, `{"status":"SUCCESS","message":"Inventory updated from OrderPlaced event","orderId":"order-1001","itemId":"item1",`+
		`"previousQuantity":100,"orderedQuantity":10,"remainingQuantity":90}`)
	result, answer = s.deliver(event)
	is.Equal(result, "SUCCESS")
	is.Equal(answer, `{"status":"SUCCESS","message":"OrderPlaced event had been processed already","orderId":"order-1001","itemId":"item1","orderedQuantity":10}`)
	status, body := s.do("GET", "/inventory/item1", "", "")
	is.Equal(status, 200)
	is.Equal(body, `{"itemId":"item1","quantity":90}`)
	is.Equal(s.lines(), ""+
		"eventId=\"e1\" Processed OrderPlaced event. orderId=order-1001, itemId=item1, ordered=10, remaining=90\n"+
		"eventId=\"e1\" OrderPlaced event had been processed already. orderId=order-1001, itemId=item1\n")
}

// The log and the dead letter identify an order that can't be read.
func TestRefusedOrderIsIdentified(t *testing.T) {
	for _, tt := range []struct{ body, want string }{
		{`{"specversion":"1.0","id":"e1","source":"pos","data":{"orderId":"o1","itemId":"i1","quantity":-1}}`,
			`eventId="e1" Refused OrderPlaced event. orderId=o1, itemId=i1, source=pos: quantity must not be negative`},
		{`{"specversion":"1.0","id":"e1","source":"pos","data":{"orderId":7,"itemId":"i1","quantity":1}}`,
			`eventId="e1" Refused OrderPlaced event. orderId=, itemId=i1, source=pos: orderId must be a string`},
		{`{"specversion":"1.0","id":"e1","source":"pos","data":{"orderId":"o1","itemId":"i1","quantity":1},"x":"` + strings.Repeat("x", maxBodyBytes) + `"}`,
			`eventId="e1" Refused OrderPlaced event. orderId=o1, itemId=i1, source=pos: the event is too large: it must not be longer than 65536 bytes`},
		{`{"specversion":"1.0","id":"e1","source":"pos","data":{"orderId"`,
			`eventId="e1" Refused OrderPlaced event. orderId=, itemId=, source=pos: not a CloudEvent: unexpected end of JSON input`},
		{`[]`, `eventId="sha256-4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945" Refused OrderPlaced event. orderId=, itemId=, source=: not a CloudEvent: it is not a JSON object`},
	} {
		s := newServiceTest(t)
		s.do("POST", "/orders", eventType, tt.body)
		if line, _, _ := strings.Cut(s.lines(), "\n"); line != tt.want {
			t.Errorf("%.100s:\ngot  %s\nwant %s", tt.body, line, tt.want)
		}
		id := strings.Split(tt.want, `"`)[1]
		published := s.published()
		if len(published) != 1 || !strings.Contains(published[0], `"id":"`+id+`"`) || !strings.Contains(published[0], `"deadletterreason":"`) {
			t.Errorf("%.100s: published %.300s", tt.body, published)
		}
	}
}

func TestOrderMayHaveOtherMembers(t *testing.T) {
	for _, members := range []string{`"entries":[]`, `"entries":[{"entryId":"1","event":{}}]`, `"id":"x","source":"s"`, `"items":null`} {
		order := `{"orderId":"o","itemId":"item1","quantity":1,` + members + `}`
		for _, request := range [][2]string{
			{"", order}, {"application/json", order}, {eventType, `{"specversion":"1.0","id":"e","source":"s","data":` + order + `}`},
		} {
			s := newServiceTest(t)
			if status, body := s.do("POST", "/orders", request[0], request[1]); status != 200 || !strings.Contains(body, `"remainingQuantity":-1`) {
				t.Errorf("%s as %q: got %d %s", request[1], request[0], status, body)
			}
		}
	}
}

// The retry topic's subscription must not have rawPayload: a moved event has its envelope.
func TestRawPayloadsAreAppliedAndMovedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServiceTest(t)
		s.subscription = map[string]string{"rawPayload": "true", "queueType": "quorum"}
		_, subscriptions := s.do("GET", "/dapr/subscribe", "", "")
		is := is.New(t)
		is.True(strings.Contains(subscriptions, `"topic":"OrderPlaced","route":"orders","deadLetterTopic":"OrderPlaced-dead-letter","metadata":{"queueType":"quorum","rawPayload":"true"}`))
		is.True(strings.Contains(subscriptions, `"route":"orders/retry","metadata":{"queueType":"quorum"}`))

		const order = `{"orderId":"o","itemId":"item1","quantity":1}`
		deliver := func(m daprtest.Message, want string) {
			t.Helper()
			if status, got := s.deliver(m); status != "SUCCESS" || !strings.Contains(got, want) {
				t.Errorf("%+v: got %s, want %s", m, got, want)
			}
		}
		s.fail("/v1.0/state/")
		deliver(daprtest.Message{Event: []byte(order)}, `{"status":"SUCCESS","error":`)
		moved := s.daprd.Published()[0]
		s.fail("nothing")
		deliver(moved, `"remainingQuantity":-1`)
		deliver(moved, `processed already`)
		deliver(daprtest.Message{Event: moved.Event}, `processed already`) // sent again by hand
		event := daprtest.Message{Event: []byte(`{"specversion":"1.0","id":"e","source":"s","data":` + order + `}`)}
		deliver(event, `"remainingQuantity":-2`)
		deliver(event, `processed already`) // in another envelope
		time.Sleep(time.Hour)               // until no worker retries
	})
}

func TestDataOfAnEventComesInThreeForms(t *testing.T) {
	for _, contentType := range []string{"application/json", "text/plain", "application/octet-stream"} {
		is := is.New(t)
		s := newServiceTest(t)
		_, answer := s.deliver(daprtest.Message{ContentType: contentType, Data: []byte(`{"orderId":"o","itemId":"item1","quantity":1}`)})
		is.Equal(answer, `{"status":"SUCCESS","message":"Inventory updated from OrderPlaced event","orderId":"o","itemId":"item1",`+
			`"previousQuantity":0,"orderedQuantity":1,"remainingQuantity":-1}`)
	}
}

// The rules for JSON, keys, integers and events are tested in packages web and daprhttp.
func TestBadEventsAreDroppedAndBadRequestsAreRefused(t *testing.T) {
	// order returns a good order with one field changed.
	order := func(field, value string) string {
		fields := map[string]string{"orderId": `"o"`, "itemId": `"i"`, "quantity": `1`}
		fields[field] = value
		return fmt.Sprintf(`{"orderId":%s,"itemId":%s,"quantity":%s}`, fields["orderId"], fields["itemId"], fields["quantity"])
	}
	event := func(data string) string { return `{"specversion":"1.0","id":"e","source":"s","type":"t",` + data + `}` }
	tests := []struct{ body, wantError string }{
		{`{"orderId":"o","quantity":1}`, "OrderPlaced event is missing itemId"},
		{order("itemId", `""`), "OrderPlaced event is missing itemId"},
		{`{}`, "OrderPlaced event is missing itemId"},
		{`{"ITEMID":"i","quantity":1}`, "OrderPlaced event is missing itemId"},
		{order("quantity", `0`), "OrderPlaced event is missing quantity"},
		{order("quantity", `null`), "OrderPlaced event is missing quantity"},
		{order("quantity", `-1`), "quantity must not be negative"},
		{order("quantity", `9007199254740992`), "quantity must not be greater than 9007199254740991"},
		{order("orderId", `1`), "orderId must be a string"},
		{order("orderId", `"a||b"`), `orderId must not contain "||"`},
		{order("itemId", `1`), "itemId must be a string"},
		{order("itemId", `"a||b"`), `itemId must not contain "||"`},
		{`null`, ""},
		{`not JSON`, ""},
	}
	events := []struct{ body, wantError string }{ // with any content type, these are not bare orders
		{`{"specversion":"1.0","source":"s","type":"t","data":` + order("orderId", `"o"`) + `}`, "id is missing"},
		{event(`"subject":"no data"`), "the event's data is not an order"},
		{event(`"data":null`), "the event's data is not an order"},
		{event(`"datacontenttype":"text/plain","data":"text"`), "the event's data is not an order"},
		{event(`"data_base64":"!"`), "data_base64"},
	}
	for _, tt := range tests {
		if tt.wantError != "" {
			events = append(events, struct{ body, wantError string }{event(`"data":` + tt.body), tt.wantError})
		}
		checkRefused(t, "application/json", tt.body, 400, "", tt.wantError)
		checkRefused(t, "", tt.body, 400, "", tt.wantError)
	}
	for _, tt := range events {
		checkRefused(t, "application/json", tt.body, 400, "", tt.wantError)
		checkRefused(t, eventType, tt.body, 200, "SUCCESS", tt.wantError)
	}
	huge := event(`"data":{"itemId":"` + strings.Repeat("x", 5<<20) + `"}`)
	checkRefused(t, eventType, huge, 200, "SUCCESS", "must not be longer than 65536 bytes")
	checkRefused(t, "application/json", huge, 413, "", "must not be longer than 65536 bytes")
	checkRefused(t, eventType, `not JSON`, 200, "SUCCESS", "not a CloudEvent")
	checkRefused(t, eventType, order("orderId", `"o"`), 200, "SUCCESS", "id is missing")
}

func checkRefused(t *testing.T, contentType, body string, wantStatus int, want, wantError string) {
	t.Helper()
	s := newServiceTest(t)
	status, got := s.do("POST", "/orders", contentType, body)
	var answer struct{ Status, Error string }
	if err := json.Unmarshal([]byte(got), &answer); err != nil {
		t.Errorf("%.80q as %q: got %s, want JSON", body, contentType, got)
	}
	if status != wantStatus || answer.Status != want || answer.Error == "" || !strings.Contains(answer.Error, wantError) {
		t.Errorf("%.80q as %q: got %d %s, want %d %s %s", body, contentType, status, got, wantStatus, want, wantError)
	}
	if s.written() {
		t.Errorf("%.80q as %q: something was written", body, contentType)
	}
	letters := 0 // a sidecar's delivery becomes one dead letter, with the reason
	if contentType == eventType {
		letters = 1
	}
	published := s.published()
	if len(published) != letters || letters == 1 && !strings.Contains(published[0], `"deadletterreason":"`) {
		t.Errorf("%.80q as %q: published %.200q", body, contentType, published)
	}
}

func TestOrderThatCanNeverBeAppliedIsDropped(t *testing.T) {
	is := is.New(t)
	s := newServiceTest(t)
	s.put("item1", `"a dozen"`)
	const data = `{"orderId":"o","itemId":"item1","quantity":1}`
	result, answer := s.deliver(daprtest.Message{Data: []byte(data)})
	is.Equal(result, "SUCCESS")
	is.True(strings.Contains(answer, `"status":"SUCCESS","error":`))
	is.Equal(len(s.published()), 1) // the dead letter
	status, body := s.do("POST", "/orders", "", data)
	is.Equal(status, 500)
	is.True(strings.Contains(body, "the stored stock must be an integer"))
	status, _ = s.do("GET", "/inventory/item1", "", "")
	is.Equal(status, 500)
}

// An order that can't be applied now moves to the retry topic. If it can't be moved, the
// sidecar retries it.
func TestFailingStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := newServiceTest(t)
		s.fail("/v1.0/state/")
		const event = `{"specversion":"1.0","id":"e1","source":"s","data":{"orderId":"o","itemId":"item1","quantity":1}}`
		result, answer := s.deliver(daprtest.Message{Event: []byte(event)})
		is.Equal(result, "SUCCESS")
		is.True(strings.HasPrefix(answer, `{"status":"SUCCESS","error":`))
		is.Equal(s.published(), []string{"pubsub-retry OrderPlaced-retry " + event})
		s.fail("/") // publishing fails too
		result, _ = s.deliver(daprtest.Message{Event: []byte(event)})
		is.Equal(result, "RETRY")

		status, body := s.do("GET", "/inventory/item1", "", "")
		is.Equal(status, 500)
		is.Equal(body, `{"error":"Failed to read inventory quantity"}`)
		status, body = s.do("POST", "/inventory/item1", "", `{"quantity":1}`)
		is.Equal(status, 500)
		is.Equal(body, `{"error":"Failed to save inventory quantity"}`)
		is.True(strings.Count(s.logs.String(), "sidecar answered 500") >= 4) // the log says why
		time.Sleep(time.Hour)                                                // until no worker retries
	})
}

func TestStockIsSetAndRead(t *testing.T) {
	s := newServiceTest(t)
	for _, itemID := range []string{"item1", "a/b", "a b", "100%", "%2F", "📦", "a?b#c", "~item", "a+b", "a//b", strings.Repeat("x", 256)} {
		for _, quantity := range []string{"100", "0", "9007199254740991"} {
			path := "/inventory/" + url.PathEscape(itemID)
			id, _ := json.Marshal(itemID)
			want := fmt.Sprintf(`{"itemId":%s,"quantity":%s}`, id, quantity)
			if status, got := s.do("POST", path, "", `{"quantity":`+quantity+`}`); status != 200 || got != want {
				t.Errorf("POST %s: got %d %s, want %s", path, status, got, want)
			}
			if status, got := s.do("GET", path, "", ""); status != 200 || got != want {
				t.Errorf("GET %s: got %d %s, want %s", path, status, got, want)
			}
		}
	}
}

func TestBadStockRequestsAreRefused(t *testing.T) {
	const good = `{"quantity":1}`
	tests := []struct {
		path, body string
		want       int
		wantError  string
	}{
		{"/inventory/item1", `quantity=1`, 400, "not valid JSON"},
		{"/inventory/item1", `100`, 400, "must be a JSON object"},
		{"/inventory/item1", `{}`, 400, "quantity is required"},
		{"/inventory/item1", `{"quantity":null}`, 400, "quantity is required"},
		{"/inventory/item1", `{"Quantity":1}`, 400, "quantity is required"},
		{"/inventory/item1", `{"quantity":"1"}`, 400, "quantity must be a number"},
		{"/inventory/item1", `{"quantity":9007199254740992}`, 400, "quantity must not be greater than"},
		{"/inventory/item1", `{"quantity":1,"x":"` + strings.Repeat("x", maxBodyBytes) + `"}`, 413, "must not be longer than"},
		{"/inventory/", good, 400, "itemId must not be empty"},
		{"/inventory/%2E%2E", good, 400, `itemId must not be "."`},
		{"/inventory/a||b", good, 400, `itemId must not contain "||"`},
		{"/inventory/a%00b", good, 400, "itemId must not contain control characters"},
		{"/inventory/%FF", good, 400, "itemId must be valid UTF-8"},
		{"/inventory/" + strings.Repeat("%C3%A9", 129), good, 400, "itemId must not be longer than 256 bytes"},
	}
	for _, tt := range tests {
		s := newServiceTest(t)
		methods := []string{"POST"}
		if tt.body == good {
			methods = append(methods, "GET")
		}
		for _, method := range methods {
			status, body := s.do(method, tt.path, "", tt.body)
			var answer struct{ Error string }
			if err := json.Unmarshal([]byte(body), &answer); err != nil || status != tt.want || !strings.Contains(answer.Error, tt.wantError) {
				t.Errorf("%s %.40s %.40q: got %d %s, want %d %s", method, tt.path, tt.body, status, body, tt.want, tt.wantError)
			}
		}
		if s.written() {
			t.Errorf("POST %.40s %.40q: something was written", tt.path, tt.body)
		}
	}
}

func TestSubscriptionIsDeclared(t *testing.T) {
	is := is.New(t)
	status, body := newServiceTest(t).do("GET", "/dapr/subscribe", "", "")
	is.Equal(status, 200)
	is.Equal(body, `[{"pubsubname":"pubsub","topic":"OrderPlaced","route":"orders","deadLetterTopic":"OrderPlaced-dead-letter"},`+
		`{"pubsubname":"pubsub-retry","topic":"OrderPlaced-retry","route":"orders/retry"}]`)
}

func TestSidecarThatMayLoseEventsCausesAWarning(t *testing.T) {
	for _, tt := range []struct {
		maxConcurrency int
		header         http.Header
		fault          daprtest.Fault
		want           bool
	}{
		{want: true},
		{maxConcurrency: -1, want: true},
		{maxConcurrency: 2, want: true},
		{maxConcurrency: 1, want: false},
		{header: http.Header{"Dapr-Filter": {"answered"}}, want: false},
		{maxConcurrency: 1, fault: daprtest.Fault{Status: 500}, want: true}, // unknown
	} {
		s := newServiceTest(t)
		s.daprd.MaxConcurrency, s.daprd.AppHeader = tt.maxConcurrency, tt.header
		s.daprd.Fault = func(r daprtest.Request) daprtest.Fault {
			if r.Path == "/v1.0/metadata" {
				return tt.fault
			}
			return daprtest.Fault{}
		}
		s.do("GET", "/dapr/subscribe", "", "") // by hand: no warning
		for range 2 {
			s.deliver(daprtest.Message{Data: []byte(`{"itemId":"item1","quantity":1}`)})
		}
		if got := strings.Count(s.logs.String(), "--app-max-concurrency 1") == 1; got != tt.want {
			t.Errorf("%+v: warned %t", tt, got)
		}
	}
}

func TestTokenIsRequired(t *testing.T) {
	s := newServiceTest(t)
	s.appToken = "secret"
	got := make(map[string]int)
	for _, request := range []string{"GET /inventory/item1", "POST /inventory/item1", "GET /dapr/subscribe", "POST /orders", "GET /healthz"} {
		method, path, _ := strings.Cut(request, " ")
		got[request], _ = s.do(method, path, "", `{"itemId":"item1","quantity":1}`)
	}
	want := map[string]int{
		"GET /inventory/item1": 401, "POST /inventory/item1": 401, "GET /dapr/subscribe": 401, "POST /orders": 401,
		"GET /healthz": 200,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("statuses without a token (-want +got):\n%s", diff)
	}
	if s.written() {
		t.Error("something was written")
	}
	r := httptest.NewRequest("GET", "/inventory/item1", nil)
	r.Header.Set("dapr-api-token", "secret")
	w := s.serve(r)
	if w.Code != 200 {
		t.Errorf("with the token: got %d, want 200", w.Code)
	}
}

// A page of another site may only read. A delivery is applied, whatever headers its
// publisher chose.
func TestPagesOfOtherSitesMayOnlyRead(t *testing.T) {
	const event = `{"specversion":"1.0","id":"e1","source":"s","type":"t","data":{"orderId":"o","itemId":"item1","quantity":1}}`
	requests := []struct{ method, path, contentType, body string }{
		{"POST", "/orders", eventType, event},
		{"POST", "/orders", "application/json", `{"orderId":"o","itemId":"item1","quantity":1}`},
		{"POST", "/orders/retry", eventType, event},
		{"POST", "/inventory/item1", "application/json", `{"quantity":1}`},
		{"GET", "/dapr/subscribe", "", ""},
		{"GET", "/inventory/item1", "", ""},
	}
	for _, tt := range []struct {
		header, value string
		want          []int // by request
	}{
		{"sec-fetch-site", "cross-site", []int{200, 403, 200, 403, 200, 200}},
		{"dapr-caller-app-id", "stranger", []int{200, 200, 200, 200, 200, 200}}, // a caller can remove this header
	} {
		s := newServiceTest(t)
		for i, request := range requests {
			r := httptest.NewRequest(request.method, request.path, strings.NewReader(request.body))
			r.Header.Set("Content-Type", request.contentType)
			r.Header.Set(tt.header, tt.value)
			w := s.serve(r)
			if w.Code != tt.want[i] {
				t.Errorf("%s: %s, %s %s: got %d, want %d", tt.header, tt.value, request.method, request.path, w.Code, tt.want[i])
			}
		}
	}
}

func TestWrongSettingsAreReported(t *testing.T) {
	for _, tt := range []struct{ name, value string }{
		{"PORT", "http"}, {"APP_PORT", "70000"}, {"DAPR_HTTP_PORT", "x"}, {"DAPR_HTTP_ENDPOINT", "localhost"}, {"MARKER_TTL", "a day"}, {"MARKER_TTL", "0s"}, {"STATE_CONSISTENCY", "weak"},
		{"MARKER_TTL", "100000h"}, {"APP_HOST", "[::1]"}, {"APP_ID", "a b"}, {"SUBSCRIPTION_METADATA", "quorum"}, {"PUBLISH_TWICE", "1"}, {"LOG_FORMAT", "xml"},
		{"APP_API_TOKEN", "secret "}, {"DAPR_API_TOKEN", "secret\n"}, {"DAPR_HTTP_ENDPOINT", "http://h:1?key=secret"},
	} {
		getenv := func(name string) string {
			if name == tt.name {
				return tt.value
			}
			return ""
		}
		want := fmt.Sprintf("%s is %q: it must be", tt.name, tt.value)
		if strings.Contains(tt.value, "secret") {
			want = tt.name + " must be"
		}
		if err := run(t.Context(), getenv, io.Discard); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s=%s: got %v, want %s", tt.name, tt.value, err, want)
		}
	}
}
