package main

import (
	"bytes"
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

	"example.com/dapr-orders/daprhttp/daprtest"
)

const (
	eventType = "application/cloudevents+json"
	trace     = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
)

// A serviceTest is the inventory service next to a sidecar in memory.
type serviceTest struct {
	*service
	t     *testing.T
	daprd *daprtest.Sidecar
	logs  bytes.Buffer
}

// newServiceTest returns the service with settings: names of environment variables and
// their values.
func newServiceTest(t *testing.T, settings ...string) *serviceTest {
	t.Helper()
	env := make(map[string]string)
	for i := 0; i < len(settings); i += 2 {
		env[settings[i]] = settings[i+1]
	}
	s := &serviceTest{t: t, daprd: &daprtest.Sidecar{APIToken: env["DAPR_API_TOKEN"], AppHeader: http.Header{"Dapr-Filter": {"answered"}}}}
	var err error
	if s.service, _, err = newService(func(name string) string { return env[name] }, &s.logs); err != nil {
		t.Fatal(err)
	}
	s.sidecar.HTTPClient = s.daprd.Client()
	if s.daprd.App, err = s.handler(); err != nil {
		t.Fatal(err)
	}
	return s
}

// written reports whether anything is stored.
func (s *serviceTest) written() bool { return len(s.daprd.State("statestore")) > 0 }

// published returns the component, the topic and the event of each message.
func (s *serviceTest) published() (all []string) {
	for _, m := range s.daprd.Published() {
		all = append(all, m.PubsubName+" "+m.Topic+" "+string(m.Event))
	}
	return all
}

// fail lets the sidecar answer calls whose path begins with path by a fault.
func (s *serviceTest) fail(path string, fault daprtest.Fault) {
	s.daprd.Fault = func(r daprtest.Request) daprtest.Fault {
		if strings.HasPrefix(r.Path, path) {
			return fault
		}
		return daprtest.Fault{}
	}
}

// lines returns the log without the times.
func (s *serviceTest) lines() string {
	return regexp.MustCompile(`(?m)^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d `).ReplaceAllString(s.logs.String(), "")
}

// do makes a request by hand, or, with the content type of events, as a sidecar does. The
// names and values of more headers follow the body.
func (s *serviceTest) do(method, path, contentType, body string, headers ...string) (int, string) {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("traceparent", trace)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.daprd.App.ServeHTTP(w, r)
	return w.Code, strings.TrimSpace(w.Body.String())
}

// checkMetrics compares figures of GET /metrics, such as `waiting_orders 1`.
func (s *serviceTest) checkMetrics(want ...string) {
	s.t.Helper()
	_, metrics := s.do("GET", "/metrics", "", "")
	for _, figure := range want {
		if !strings.Contains(metrics+"\n", "\ninventory_"+figure+"\n") {
			s.t.Errorf("the metrics have no %s:\n%s", figure, metrics)
		}
	}
}

func TestStockIsSetAndRead(t *testing.T) {
	is := is.New(t)
	s := newServiceTest(t)
	for _, itemID := range []string{"item1", "a/b", "a//b", "a b+", "%2F", "📦", "a?b#c", "~item"} {
		for _, quantity := range []string{"9007199254740991", "0"} {
			path := "/inventory/" + url.PathEscape(itemID)
			want := fmt.Sprintf(`{"itemId":"%s","quantity":%s}`, itemID, quantity)
			status, got := s.do("POST", path, "", `{"quantity":`+quantity+`}`)
			is.Equal(status, 200)
			is.Equal(got, want)
			status, got = s.do("GET", path, "", "")
			is.Equal(status, 200)
			is.Equal(got, want)
		}
	}
	_, got := s.do("GET", "/inventory/a/b", "", "") // as a sidecar invokes it
	is.Equal(got, `{"itemId":"a/b","quantity":0}`)
	for _, r := range s.daprd.Requests() {
		is.Equal(r.Header.Get("traceparent"), trace)
	}
	is.True(strings.HasPrefix(s.lines(), "Set inventory quantity. itemId=item1, quantity=9007199254740991\n"))
}

// The rules for JSON, keys and integers are tested in packages web and daprhttp.
func TestBadStockRequestsAreRefused(t *testing.T) {
	s := newServiceTest(t)
	for _, tt := range []struct {
		method, path, body string
		want               int
		text               string // the beginning of the error
	}{
		{"POST", "/inventory/item1", `100`, 400, "the body must be a JSON object"},
		{"POST", "/inventory/item1", `{"quantity":null}`, 400, "quantity is required: an integer from 0"},
		{"POST", "/inventory/item1", `{"quantity":"1"}`, 400, "quantity must be a number"},
		{"POST", "/inventory/item1", `{"quantity":9007199254740992}`, 400, "quantity must not be greater than"},
		{"POST", "/inventory/item1", strings.Repeat(" ", maxBodyBytes+1), 413, "the body is too large"},
		{"POST", "/inventory/", `{"quantity":1}`, 400, "itemId must not be empty"},
		{"POST", "/inventory/%2E%2E", `{"quantity":1}`, 400, `itemId must not be \".\"`},
		{"GET", "/inventory/a||b", ``, 400, `itemId must not contain \"||\"`},
	} {
		status, body := s.do(tt.method, tt.path, "", tt.body)
		if status != tt.want || !strings.HasPrefix(body, `{"error":"`+tt.text) {
			t.Errorf("%s %s %.40q: got %d %s, want %d %s", tt.method, tt.path, tt.body, status, body, tt.want, tt.text)
		}
	}
	if s.written() {
		t.Error("something was written")
	}
}

func TestStockThatCannotBeReadOrSetIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := newServiceTest(t)
		s.fail("/v1.0/state/", daprtest.Fault{Status: 500})
		status, body := s.do("GET", "/inventory/item1", "", "")
		is.Equal(status, 500)
		is.Equal(body, `{"error":"Failed to read inventory quantity"}`)
		start := time.Now()
		status, body = s.do("POST", "/inventory/item1", "", `{"quantity":1}`)
		is.Equal(status, 500)
		is.Equal(body, `{"error":"Failed to save inventory quantity"}`)
		is.Equal(time.Since(start), setFor)
		for i, want := range []string{
			"Failed to read inventory quantity. itemId=item1: ", "Failed to save inventory quantity. itemId=item1, quantity=1: ",
		} {
			line := strings.Split(s.lines(), "\n")[i]
			is.True(strings.HasPrefix(line, want))
			is.True(strings.Contains(line, "sidecar answered 500"))
		}
		time.Sleep(time.Hour) // until no worker retries
	})
}

// A page of another site may only read. A delivery is applied, whatever headers its
// publisher chose. Health check and metrics need no token.
func TestTokenIsRequiredAndOtherSitesMayOnlyRead(t *testing.T) {
	const event = `{"specversion":"1.0","id":"e1","source":"s","type":"t","data":{"orderId":"o","itemId":"item1","quantity":1}}`
	requests := []struct{ method, path, contentType, body string }{
		{"POST", "/orders", eventType, event},
		{"POST", "/orders/retry", eventType, event},
		{"POST", "/orders", "application/json", event},
		{"POST", "/inventory/item1", "application/json", `{"quantity":1}`},
		{"GET", "/dapr/subscribe", "", ""},
		{"GET", "/inventory/item1", "", ""},
		{"GET", "/healthz", "", ""},
		{"GET", "/metrics", "", ""},
	}
	for name, tt := range map[string]struct {
		headers []string
		want    []int // by request
	}{
		"without a token":       {nil, []int{401, 401, 401, 401, 401, 401, 200, 200}},
		"a page":                {[]string{"dapr-api-token", "secret", "sec-fetch-site", "cross-site"}, []int{200, 200, 403, 403, 200, 200, 200, 200}},
		"another app's request": {[]string{"dapr-api-token", "secret", "dapr-caller-app-id", "stranger"}, []int{200, 200, 200, 200, 200, 200, 200, 200}},
	} {
		s := newServiceTest(t, "APP_API_TOKEN", "secret")
		var got []int
		for _, r := range requests {
			status, _ := s.do(r.method, r.path, r.contentType, r.body, tt.headers...)
			got = append(got, status)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: statuses (-want +got):\n%s", name, diff)
		}
		refused := strings.Contains(s.lines(), "Refused a delivery. path=/orders, status=401\n")
		if want := tt.want[0] == 401; refused != want || s.written() == want {
			t.Errorf("%s: stored %v, logged:\n%s", name, s.daprd.State("statestore"), s.lines())
		}
	}
}

func TestSettings(t *testing.T) {
	is := is.New(t)
	s := newServiceTest(t, "DAPR_API_TOKEN", "sidecar's", "APP_ID", "stock-keeper", "STATE_CONSISTENCY", "default",
		"PUBLISH_TWICE", "true", "LOG_FORMAT", "json")
	s.do("GET", "/inventory/item1", "", "")
	is.Equal(s.daprd.Requests()[0].Query.Get("consistency"), "")
	s.do("POST", "/orders", eventType, `{"specversion":"1.0","id":"e1","source":"s","traceparent":"`+trace+`","data":{"quantity":-1}}`)
	is.Equal(len(s.published()), 2) // PUBLISH_TWICE
	is.True(strings.Contains(s.published()[0], `"deadletterapp":"stock-keeper"`))
	is.True(strings.Contains(s.lines(), `"msg":"Refused OrderPlaced event.","eventId":"e1","traceId":"0af7651916cd43dd8448eb211c80319c"`))
}

// The error names every wrong variable, and shows no token. The rules are tested in packages
// web and daprhttp.
func TestWrongSettingsAreReported(t *testing.T) {
	is := is.New(t)
	env := map[string]string{
		"PORT": "http", "APP_HOST": "[::1]", "DAPR_HTTP_ENDPOINT": "localhost", "DAPR_API_TOKEN": "secret\n", "APP_API_TOKEN": "secret ",
		"APP_ID": "a b", "MARKER_TTL": "0s", "STATE_CONSISTENCY": "weak", "PUBLISH_TWICE": "1", "SUBSCRIPTION_METADATA": "quorum", "LOG_FORMAT": "xml",
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
	is.True(strings.Contains(err.Error(), "192.0.2.1:5001")) // the default port
}

// Another method of a route is answered 405. Health check and metrics need no token.
func TestWrongMethod(t *testing.T) {
	s := newServiceTest(t, "APP_API_TOKEN", "secret")
	for path, wantWithout := range map[string]int{
		"/healthz": 405, "/metrics": 405, "/inventory/item1": 401, "/orders": 401, "/orders/retry": 401, "/dapr/subscribe": 401,
	} {
		with, _ := s.do("DELETE", path, "", "", "dapr-api-token", "secret")
		without, _ := s.do("DELETE", path, "", "")
		if with != 405 || without != wantWithout {
			t.Errorf("DELETE %s: got %d with the token and %d without, want 405 and %d", path, with, without, wantWithout)
		}
	}
}
