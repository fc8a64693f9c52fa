package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/matryer/is"
)

func TestLog(t *testing.T) {
	for format, want := range map[string]string{
		"text": `T eventId="e\n1" Counted. orderId=order-1, ordered=10
T Failed. itemId=item1: out of reach
T Started\u202e
`,
		"json": `{T,"level":"INFO","msg":"Counted.","traceId":"4bf9","eventId":"e\n1","orderId":"order-1","ordered":10}
{T,"level":"INFO","msg":"Failed.","itemId":"item1","error":"out of reach"}
{T,"level":"INFO","msg":"Started\u202e"}
`,
	} {
		var b bytes.Buffer
		l := NewLogger(&b, format)
		l.Info("Counted.", LogTraceID, "4bf9", LogEventID, "e\n1", "orderId", "order-1", "ordered", int64(10))
		l.Info("Failed.", "itemId", "item1", LogError, errors.New("out of reach"))
		l.Info("Started\u202e")
		got := regexp.MustCompile(`(?m)^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d|"time":"[^"]+"`).ReplaceAllString(b.String(), "T")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}
}

// oneAtATime fails the test when two goroutines write at the same time.
type oneAtATime struct {
	t       *testing.T
	writing atomic.Bool
	lines   atomic.Int64
}

func (w *oneAtATime) Write(line []byte) (int, error) {
	if w.writing.Swap(true) {
		w.t.Error("two lines were written at the same time")
	}
	runtime.Gosched()
	w.lines.Add(1)
	w.writing.Store(false)
	return len(line), nil
}

func TestLinesAreWrittenOneAtATime(t *testing.T) {
	w := &oneAtATime{t: t}
	l := NewLogger(w, "text")
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() { l.Info("Counted.") })
	}
	all.Wait()
	if w.lines.Load() != 100 {
		t.Errorf("%d lines were written", w.lines.Load())
	}
}

// invisible has one character of each kind that is invisible or moves other characters.
const invisible = "a\u202eb\u2028c\u2029d\u200be\u00adf\u00a0g\U000e0041h\ufeffi"

// An ID can neither forge, hide nor reverse a line of the log.
func TestLogCannotBeForged(t *testing.T) {
	const line = "Processed OrderPlaced event. orderId=order-1001, itemId=item1, ordered=10, remaining=90"
	for _, tt := range []struct{ id, want string }{
		{"order-1001", "order-1001"},
		{"größe/1,2=:;|#日本", "größe/1,2=:;|#日本"},
		{"o1, itemId=item1, ordered=5", `"o1, itemId\x3ditem1, ordered\x3d5"`},
		{line, `"Processed OrderPlaced event. orderId\x3dorder-1001, itemId\x3ditem1, ordered\x3d10, remaining\x3d90"`},
		{`"`, `"\""`},
		{`\u202e`, `"\\u202e"`},
		{"a: out of stock", `"a: out of stock"`},
		{"a\n" + line, `"a\nProcessed OrderPlaced event. orderId\x3dorder-1001, itemId\x3ditem1, ordered\x3d10, remaining\x3d90"`},
		{invisible, `"a\u202eb\u2028c\u2029d\u200be\u00adf\u00a0g\U000e0041h\ufeffi"`},
	} {
		is := is.New(t)
		var b bytes.Buffer
		NewLogger(&b, "text").Info("Failed.", LogEventID, tt.id, "orderId", tt.id, LogError, errors.New("no "+tt.id))
		text := b.String()[len("2026/11/24 04:33:12 "):]
		is.True(!strings.Contains(text, line))
		is.Equal(strings.Count(text, "\n"), 1)
		is.Equal(Visible(strings.TrimSuffix(text, "\n"))+"\n", text)
		id, rest, _ := strings.Cut(text, " Failed. orderId=")
		value, _, _ := strings.Cut(rest, ": no ")
		is.Equal(value, tt.want)
		id, err := strconv.Unquote(strings.TrimPrefix(id, "eventId="))
		is.NoErr(err)
		is.Equal(id, tt.id)

		b.Reset()
		NewLogger(&b, "json").Info("Failed.", "orderId", tt.id)
		is.Equal(Visible(strings.TrimSuffix(b.String(), "\n"))+"\n", b.String())
		var got map[string]string
		is.NoErr(json.Unmarshal(b.Bytes(), &got))
		is.Equal(got["orderId"], tt.id)
	}
}

// The error of a log line begins behind ": ", and so may begin with what looks like an
// attribute.
func TestErrorCannotForgeAnAttribute(t *testing.T) {
	is := is.New(t)
	var b bytes.Buffer
	NewLogger(&b, "text").Info("Failed.", LogError, errors.New("remaining=5: quantity=1"))
	is.Equal(b.String()[len("2026/11/24 04:33:12 "):], `Failed.: remaining\x3d5: quantity\x3d1`+"\n")
}

func TestAnswerIsVisible(t *testing.T) {
	is := is.New(t)
	w := httptest.NewRecorder()
	WriteJSON(w, 200, map[string]string{"itemId": invisible + "日本<"})
	is.Equal(w.Body.String(), `{"itemId":"a\u202eb\u2028c\u2029d\u200be\u00adf\u00a0g\udb40\udc41h\ufeffi日本<"}`+"\n")
	is.Equal(w.Header().Get("Content-Type"), "application/json")
	is.Equal(w.Header().Get("Content-Length"), strconv.Itoa(w.Body.Len()))
	var got map[string]string
	is.NoErr(json.Unmarshal(w.Body.Bytes(), &got))
	is.Equal(got["itemId"], invisible+"日本<")
}

func TestMetrics(t *testing.T) {
	is := is.New(t)
	var m Metrics
	counted := m.Counter(`events_total{outcome="counted"}`, "Events.")
	m.Counter(`events_total{outcome="dead"}`, "Events.").Add(1)
	m.GaugeFunc("oldest_seconds", "Age.", func() float64 { return 0.25 })
	m.CounterFunc("commits_total", "Commits.", func() float64 { return 1234567 })
	counted.Add(2)
	counted.Add(3)
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	is.Equal(w.Header().Get("Content-Type"), "text/plain; version=0.0.4; charset=utf-8")
	is.Equal(w.Body.String(), `# HELP events_total Events.
# TYPE events_total counter
events_total{outcome="counted"} 5
events_total{outcome="dead"} 1
# HELP oldest_seconds Age.
# TYPE oldest_seconds gauge
oldest_seconds 0.25
# HELP commits_total Commits.
# TYPE commits_total counter
commits_total 1.234567e+06
`)
}

// A publisher can give a delivery any header, as metadata of its message. Which other
// requests pass is up to net/http.
func TestOtherSitesAreRefused(t *testing.T) {
	h := RefuseOtherSites(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }))
	for _, tt := range []struct {
		method, contentType, site, origin string
		want                              int
	}{
		{"POST", "application/json", "", "", 204}, // curl, a sidecar
		{"POST", "application/json", "cross-site", "", 403},
		{"POST", "application/json", "", "https://example.org", 403},
		{"POST", "", "cross-site", "pos-7", 403},
		{"GET", "", "cross-site", "", 204},
		{"POST", "application/cloudevents+json", "cross-site", "pos-7", 204},
		{"POST", "application/cloudevents+json; charset=utf-8", "cross-site", "pos-7", 204},
		{"POST", "text/plain, application/cloudevents+json", "cross-site", "pos-7", 403},
	} {
		r := httptest.NewRequest(tt.method, "http://example.com/", nil)
		for name, value := range map[string]string{"Content-Type": tt.contentType, "Sec-Fetch-Site": tt.site, "Origin": tt.origin} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != tt.want || w.Code == 403 && w.Body.String() != `{"error":"a page of another site may not send this"}`+"\n" {
			t.Errorf("%+v: got %d %s", tt, w.Code, w.Body)
		}
	}
}

// A page of evil.example can make that name resolve to 127.0.0.1 (DNS rebinding): then its
// requests are not from another site.
func TestOtherNamesOfALoopbackAddressAreRefused(t *testing.T) {
	const refused = `{"error":"the header Host must be an IP address or a name without a dot (such as localhost)"}` + "\n"
	h := RefuseOtherSites(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }))
	for _, tt := range []struct {
		local, host string
		want        int
	}{
		{"127.0.0.1", "localhost:5001", 204},
		{"127.0.0.1", "localhost", 204},
		{"127.0.1.1", "my-machine:5001", 204},
		{"127.0.0.1", "127.0.0.1:5001", 204},
		{"::1", "[::1]:5001", 204},
		{"::1", "[::1]", 204},
		{"127.0.0.1", "", 204}, // HTTP/1.0
		{"127.0.0.1", "evil.example:5001", 403},
		{"127.0.0.1", "evil.example", 403},
		{"::1", "localhost.evil.example", 403},
		{"127.0.0.1", "127.0.0.1.evil.example:5001", 403},
		{"192.0.2.1", "shop.example", 204},
	} {
		for _, contentType := range []string{"", "application/cloudevents+json"} {
			for _, method := range []string{"GET", "POST"} {
				local := &net.TCPAddr{IP: net.ParseIP(tt.local), Port: 5001}
				r := httptest.NewRequestWithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, local), method, "/", nil)
				r.Host = tt.host
				r.Header.Set("Content-Type", contentType)
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if w.Code != tt.want || w.Code == 403 && w.Body.String() != refused {
					t.Errorf("%s %q for %s: got %d %s", method, tt.host, tt.local, w.Code, w.Body)
				}
			}
		}
	}
}

// The log shows a delivery that was refused before its handler.
func TestRefusedDeliveryIsLogged(t *testing.T) {
	is := is.New(t)
	var log bytes.Buffer
	mux := http.NewServeMux()
	mux.HandleFunc("POST /events", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("dapr-api-token") == "" {
			WriteError(w, http.StatusUnauthorized, "no token")
		}
	})
	mux.HandleFunc("POST /later", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }) // the sidecar retries it
	h := LogRefused(NewLogger(&log, "text"), mux)
	for _, contentType := range []string{"application/cloudevents+json; charset=utf-8", "application/json"} {
		for _, path := range []string{"/events", "/elsewhere%0Aforged", "/events?token", "/later"} {
			r := httptest.NewRequest("POST", path, nil)
			r.Header.Set("Content-Type", contentType)
			r.Header.Set("dapr-api-token", r.URL.RawQuery)
			h.ServeHTTP(httptest.NewRecorder(), r)
		}
	}
	lines := regexp.MustCompile(`(?m)^.{20}`).ReplaceAllString(log.String(), "")
	is.Equal(lines, "Refused a delivery. path=/events, status=401\nRefused a delivery. path=/elsewhere%0Aforged, status=404\n")
}
