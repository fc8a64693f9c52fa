package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"example.com/dapr-orders/daprhttp/daprtest"
	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// Package daprtest has a sidecar in memory for unit tests. It answers like a real sidecar.
func TestSidecarInMemoryAnswersLikeARealOne(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		backend stack.Backend
		calls   []string
	}{
		{stack.Backends[0], slices.Concat(stateCalls, redisCalls, otherCalls)},
		{stack.Backends[2], slices.Concat(stateCalls, sqliteCalls)},
	} {
		t.Run(tt.backend.Name, func(t *testing.T) {
			s := harness.Start(t, harness.Options{Tokens: true, Backend: tt.backend, Prepare: harness.AdmitAll(t), Each: func(o *stack.AppOptions) {
				o.SidecarArgs = append(o.SidecarArgs, "--app-max-concurrency", "7")
			}})
			memory := httptest.NewServer(&daprtest.Sidecar{
				AppID: "inventory-service", APIToken: s.DaprToken, MaxConcurrency: 7, Components: []string{"statestore", "pubsub"},
			})
			t.Cleanup(memory.Close)
			real, fake := talk{t: t, url: s.Inventory[0].DaprURL(""), token: s.DaprToken}, talk{t: t, url: memory.URL, token: s.DaprToken}
			same := func(calls ...string) {
				for _, call := range calls {
					want, got := real.send(call), fake.send(call)
					if diff := gocmp.Diff(want, got); diff != "" {
						t.Errorf("%s (-real +in memory):\n%s", call, diff)
					}
				}
			}
			same(tt.calls...)
			for _, side := range []*talk{&real, &fake} {
				side.send(`POST statestore [{"key":"short","value":1,"metadata":{"ttlInSeconds":"1"}}]`)
				harness.WaitFor(t, time.Minute, func() error {
					if a := side.send("GET statestore/short"); a.Status != http.StatusNoContent {
						return fmt.Errorf("%s: the value is still there: %+v", side.url, a)
					}
					return nil
				})
			}
			real.token, fake.token = "wrong", "wrong"
			same(`GET statestore/b`, `POST /publish/pubsub/free (application/json) {}`, `GET /healthz`, `GET /healthz/outbound`, `POST /healthz`)
		})
	}
}

// A call is a method, a path below /v1.0/state/ or below /v1.0/, the headers If-Match and
// Content-Type in parentheses, and a body. ETAG stands for the ETag of the last answer that
// had one.
var stateCalls = []string{
	`GET statestore/absent`,
	`POST statestore [{"key":"a/b+c d%","value":{"n":9007199254740993}},{"key":"b","value":"text"},{"key":"c","value":[1,2.5,null,true]},{"key":"d"}]`,
	`GET statestore/a%2Fb%2Bc%20d%25`,
	`GET statestore/b?consistency=strong`, `GET statestore/c`, `GET statestore/d`,
	`POST statestore/bulk {"keys":["b","absent","a/b+c d%",".."],"parallelism":2}`,
	`POST statestore/bulk {"keys":[]}`,
	`POST statestore []`,

	`POST statestore [{"key":"e","value":1,"options":{"concurrency":"first-write"}}]`,
	`GET statestore/e`,
	`POST statestore [{"key":"e","value":2,"etag":"ETAG","options":{"concurrency":"first-write"}}]`,
	`POST statestore [{"key":"e","value":3,"etag":"ETAG","options":{"concurrency":"first-write"}}]`, // an old ETag
	`DELETE statestore/e (ETAG)`,
	`GET statestore/e`,
	`DELETE statestore/e?concurrency=first-write (ETAG)`,
	`GET statestore/e`,
	`DELETE statestore/e`,
	`POST statestore [{"key":"f","value":1}]`,
	`POST statestore [{"key":"f","value":2}]`, // the last write wins
	`GET statestore/f`,

	`POST statestore/transaction {"operations":[{"operation":"upsert","request":{"key":"g","value":1}},{"operation":"delete","request":{"key":"f"}}]}`,
	`GET statestore/f`, `GET statestore/g`,
	`POST statestore/transaction {"operations":[]}`,
	`POST statestore/transaction {"operations":[{"operation":"read","request":{"key":"g"}}]}`,

	`GET no-such-store/a`, `POST no-such-store []`, `DELETE no-such-store/a`, `POST no-such-store/bulk {}`, `POST no-such-store/transaction {}`,
	`GET statestore/a||b`, `DELETE statestore/a||b`, `POST statestore [{"key":"a||b"}]`, `POST statestore/bulk {"keys":["a||b"]}`,
	`POST statestore [{"value":1}]`,
	`POST statestore {`, `POST statestore {}`, `POST statestore/bulk {`, `POST statestore/transaction {`,
	`POST statestore [{"key":"h","value":1,"metadata":{"ttlInSeconds":"-1"}}]`,
	`GET statestore/h`,
}

// Redis checks two things less strictly than the reference: the ETag of a missing key, and
// first-write over a key that was saved without it.
var sqliteCalls = []string{
	`POST statestore [{"key":"i","value":1,"etag":"4711","options":{"concurrency":"first-write"}}]`, // there is no such key
	`GET statestore/i`,
	`POST statestore [{"key":"i","value":1}]`,
	`DELETE statestore/i (4711)`,
}

// SQLite gives other answers to these calls.
var redisCalls = []string{
	`POST statestore [{"key":"b","value":"<&>"}]`,
	`GET statestore/b`,
	`POST statestore [{"key":"b","value":3,"etag":"4711","options":{"concurrency":"last-write"}}]`,
	`GET statestore/b`,
	`POST statestore [{"key":"j","value":1,"options":{"concurrency":"first-write"}}]`,
	`POST statestore [{"key":"j","value":2,"options":{"concurrency":"first-write"}}]`, // it exists
	`POST statestore [{"key":"j","value":3,"etag":"4711"},{"key":"k","value":1}]`,
	`GET statestore/j`, `GET statestore/k`,
	`POST statestore/transaction {"operations":[{"operation":"upsert","request":{"key":"j","value":4,"etag":"4711"}},{"operation":"upsert","request":{"key":"k","value":2}}]}`,
	`GET statestore/j`, `GET statestore/k`,
}

var otherCalls = []string{
	`POST /publish/pubsub/free (application/json) {"a":1}`,
	`POST /publish/pubsub/free (application/json) {`,
	`POST /publish/pubsub/free?metadata.rawPayload=true {`,
	`POST /publish/pubsub/free?metadata.rawPayload=1 (application/cloudevents+json) {`,
	`POST /publish/pubsub/free?metadata.rawPayload=yes {`,
	`POST /publish/pubsub/free (application/cloudevents+json) {`,
	`POST /publish/no-such-pubsub/free {}`,
	`GET /healthz`,
	`GET /metadata`,
}

// talk makes calls to one sidecar.
type talk struct {
	t          *testing.T
	url, token string
	etag       string // of the last answer that had one
}

// An apiAnswer has the parts of an answer that are the same from every sidecar.
type apiAnswer struct {
	Status      int
	ContentType string
	HasETag     bool
	ErrorCode   string
	Body        any
}

var callForm = regexp.MustCompile(`^(\S+) (.*?)(?: \((.*?)\))?(?: ([\[{].*))?$`)

func (s *talk) send(call string) apiAnswer {
	s.t.Helper()
	part := callForm.FindStringSubmatch(strings.ReplaceAll(call, "ETAG", s.etag))
	path, found := strings.CutPrefix(part[2], "/")
	if !found {
		path = "state/" + path
	}
	r, err := http.NewRequestWithContext(s.t.Context(), part[1], s.url+"/v1.0/"+path, strings.NewReader(part[4]))
	harness.Must(s.t, err)
	r.Header.Set("dapr-api-token", s.token)
	switch {
	case part[3] == "":
	case strings.Contains(part[3], "/"):
		r.Header.Set("Content-Type", part[3])
	default:
		r.Header.Set("If-Match", part[3])
	}
	resp, err := harness.Client.Do(r)
	harness.Must(s.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	harness.Must(s.t, err)
	if etag := resp.Header.Get("ETag"); etag != "" {
		s.etag = etag
	}
	a := apiAnswer{Status: resp.StatusCode, ContentType: resp.Header.Get("Content-Type"), HasETag: resp.Header.Get("ETag") != ""}
	switch {
	case resp.StatusCode > 299:
		var failed struct{ ErrorCode string }
		_ = json.Unmarshal(text, &failed)
		a.ErrorCode = failed.ErrorCode
	case path == "metadata":
		var m struct {
			ID         string
			Connection struct {
				Protocol, ChannelAddress string
				MaxConcurrency           int
			} `json:"appConnectionProperties"`
		}
		harness.Must(s.t, json.Unmarshal(text, &m))
		a.Body = m
	case strings.HasSuffix(path, "/bulk") && resp.StatusCode == http.StatusOK:
		var values []map[string]any
		harness.Must(s.t, json.Unmarshal(text, &values))
		for _, v := range values {
			if v["etag"] != nil {
				v["etag"] = "some"
			}
		}
		slices.SortFunc(values, func(a, b map[string]any) int { return cmp.Compare(a["key"].(string), b["key"].(string)) })
		a.Body = values
	default:
		a.Body = string(text)
	}
	return a
}

// The sidecar in memory delivers the same events as a real one, as often, with the same headers.
func TestSidecarInMemoryDeliversLikeARealOne(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{Tokens: true, Prepare: harness.AdmitAll(t)})
	real, fake := &deliveries{}, &deliveries{}
	app := s.Serve("reader", real)
	memory := &daprtest.Sidecar{
		AppID: "reader", App: fake, AppAPIToken: s.AppAPIToken, APIToken: s.DaprToken,
		AppHeader: http.Header{"Dapr-Filter": {"answered"}},
	}
	server := httptest.NewServer(memory)
	t.Cleanup(server.Close)
	messages := []string{
		`(application/json) {"answer":"SUCCESS","n":9007199254740993,"html":"<&>"}`,
		`?metadata.cloudevent.id=1&metadata.cloudevent.type=T&metadata.partitionKey=p&metadata.origin=o&metadata.connection=c (application/json) {"answer":"nothing"}`,
		`(application/json) no JSON {"answer":"no JSON"}`,
		`(text/plain; charset=utf-8) a "text" {"answer":"RETRY"}`,
		`(application/octet-stream) bytes`,
		`(application/cloudevents+json) {"id":"e1","source":"elsewhere","data":{"answer":"DROP"},"own":1}`,
		`(application/cloudevents+json) {"id":"e2","data":{"answer":"UNKNOWN"},"traceparent":"00-11111111111111111111111111111111-b7ad6b7169203331-01"}`,
		`(application/cloudevents+json) {"id":"e3","data":{"answer":"late"},"expiration":"2001-01-01T00:00:00Z"}`,
		`(application/cloudevents+json) {"id":"e4","data":{"answer":"never"},"expiration":"never"}`,
		`?metadata.rawPayload=true (application/json) {"id":"raw","data":{"answer":"404"}}`,
		`?metadata.rawPayload=true (application/json) no JSON`,
		`(application/json) {"answer":"no status"}`,
		`(application/json) {"answer":"500"}`,
		`(application/json) {"answer":"abort"}`,
		`() {"answer":"201"}`,
	}
	for _, message := range messages {
		part := regexp.MustCompile(`^(\S*?) ?\((.*?)\) (.*)$`).FindStringSubmatch(message)
		for _, endpoint := range []string{app.DaprURL(""), server.URL} {
			a := s.Send("POST", endpoint+"/v1.0/publish/pubsub/letters"+part[1], part[3], http.Header{
				"Content-Type": {part[2]}, "Dapr-Api-Token": {s.DaprToken},
				"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
			})
			if a.Status != http.StatusNoContent {
				t.Fatalf("%s: got %+v", message, a)
			}
		}
	}
	for i := 0; i < len(memory.Published()); i++ {
		for status := "RETRY"; status == "RETRY"; {
			d, err := memory.Deliver(t.Context(), memory.Published()[i])
			harness.Must(t, err)
			status = d.Status
		}
	}
	want := fake.all()
	harness.WaitFor(t, time.Minute, func() error {
		if diff := gocmp.Diff(want, real.all()); diff != "" {
			return fmt.Errorf("deliveries (-in memory +real):\n%s", diff)
		}
		return nil
	})
}

// deliveries is a program that keeps what a sidecar sends. The data of an event tells how the
// program answers its first delivery. The program answers 200 to later deliveries.
type deliveries struct {
	mu    sync.Mutex
	times map[string]int // deliveries of an event
	got   []string
}

func (d *deliveries) all() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(slices.Values(d.got))
}

var (
	now    = regexp.MustCompile(`"time":"[^"]*"`)
	span   = regexp.MustCompile(`("trace(?:id|parent)":"00-.{32})-[^"]*"`)
	random = regexp.MustCompile(`"id":"[0-9a-f]{8}-[^"]*"`)
	wanted = regexp.MustCompile(`answer\\?":\\?"([\w ]*)`)
)

func (d *deliveries) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	header := maps.Clone(r.Header)
	for _, name := range []string{"User-Agent", "Accept-Encoding", "Content-Length"} {
		delete(header, name)
	}
	if trace := header.Get("Traceparent"); len(trace) > 35 {
		header.Set("Traceparent", trace[:35]) // each delivery has its own span
	} else {
		delete(header, "Traceparent")
	}
	text := now.ReplaceAllString(span.ReplaceAllString(string(body), `$1"`), `"time":""`)
	text = random.ReplaceAllString(text, `"id":""`)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.times == nil {
		d.times = make(map[string]int)
	}
	key := r.URL.Path + text
	d.times[key]++
	if r.Method == http.MethodPost || r.Header.Get("dapr-app-id") != "" && r.URL.Path == "/dapr/subscribe" {
		d.got = append(d.got, fmt.Sprintf("%s %s, time %d: %s\n%v", r.Method, r.URL.Path, d.times[key], text, header))
	}
	if r.URL.Path == "/dapr/subscribe" {
		_, _ = io.WriteString(w, `[{"pubsubname":"pubsub","topic":"letters","route":"x/..//letters/","deadLetterTopic":"dead"},`+
			`{"pubsubname":"pubsub","topic":"dead","route":"/dead","metadata":{"rawPayload":"true"}}]`)
		return
	}
	answer := ""
	if m := wanted.FindStringSubmatch(text); m != nil && r.URL.Path == "/letters" && d.times[key] == 1 {
		answer = m[1]
	}
	var status int
	switch n, _ := fmt.Sscanf(answer, "%d", &status); {
	case answer == "" || answer == "nothing":
	case answer == "abort":
		panic(http.ErrAbortHandler)
	case answer == "no JSON":
		_, _ = io.WriteString(w, answer)
	case answer == "no status":
		_, _ = io.WriteString(w, "{}")
	case n == 1:
		w.WriteHeader(status)
	default:
		fmt.Fprintf(w, `{"status":%q}`, answer)
	}
}
