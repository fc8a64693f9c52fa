// Package daprtest is a Dapr sidecar in memory, for the unit tests of programs that use
// Dapr over HTTP, as package net/http/httptest is for programs that use HTTP. It needs
// the standard library alone. It works with any client of the part of the Dapr HTTP API that
// package daprhttp uses.
//
// The zero [Sidecar] is ready to use. A program calls it through [Sidecar.Client], without
// a network, or through an [httptest.Server]:
//
//	sidecar := new(daprtest.Sidecar)
//	client := &daprhttp.Client{HTTPClient: sidecar.Client()}
//
// The sidecar keeps state and what is published. [Sidecar.Deliver] delivers an event to
// the program as a sidecar does. [Sidecar.Fault] lets calls fail, or take long.
//
// It starts no goroutines and reads the time from package time alone. In a bubble of package
// testing/synctest, values expire and delayed calls return without waiting.
//
// It has the endpoints for state (without queries), publishing (without bulk), metadata
// and health of https://docs.dapr.io/reference/api/. An end-to-end test of this project
// compares its answers with those of a real sidecar (1.18.2). Stores differ in what they
// refuse. This one refuses with 409 an ETag that is not the stored one, unless a save asks
// for last-write. It refuses with 500 a first-write without an ETag to a key that exists.
// Redis answers so, too, but is less strict: see FirstWrite in package daprhttp. A
// transaction with a refused operation answers 500, and is not rolled back.
package daprtest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Sidecar is a Dapr sidecar in memory: a handler of the Dapr HTTP API. The zero value
// has every state store and pub/sub component that it is asked for, all of them empty.
// Many goroutines may call its methods at the same time. Its fields must not change while
// a call is under way.
type Sidecar struct {
	// App is the program next to the sidecar. Deliver delivers events to it and needs it;
	// calls of the API do not. Deliver asks it once for its subscriptions.
	App http.Handler

	AppID       string // Dapr app ID of App, the source of its events; empty means "app"
	APIToken    string // demanded of all calls but health checks in the header dapr-api-token; empty demands none
	AppAPIToken string // sent to App in the header dapr-api-token; empty sends none

	// AppHeader is added to every request to App, as a middleware in the sidecar's app
	// pipeline can do.
	AppHeader http.Header

	// Components are the names of the state stores and pub/sub components. Nil means
	// every name.
	Components []string

	// MaxConcurrency is the field appConnectionProperties.maxConcurrency of
	// GET /v1.0/metadata. Zero means no limit. Deliver ignores it.
	MaxConcurrency int

	// Fault returns the fault of a call of the API. Many goroutines may call it at the
	// same time. A nil function, or a zero Fault, lets the call succeed.
	Fault func(Request) Fault

	mu            sync.Mutex
	requests      []Request
	published     []Message
	state         map[stateKey]stateValue
	writes        int            // of state, so far: the last ETag
	subscriptions []subscription // nil: App has not listed them
}

// A Request is a call of the sidecar's API.
type Request struct {
	Method string
	Path   string // escaped, as the program sent it: "/v1.0/state/statestore/item%201"
	Query  url.Values
	Header http.Header
	Body   string
}

// A Fault delays a call, answers it in the sidecar's place, or breaks its connection. The
// zero value does nothing.
type Fault struct {
	Delay time.Duration // the call waits this long, or until the caller gives up

	// Status, when it is not zero, is the status of the answer, with Header and Body. The
	// call is not carried out.
	Status int
	Header http.Header
	Body   string

	Unreached  bool // the connection breaks before the call is carried out
	Unanswered bool // the connection breaks after the call was carried out
}

// Refusal returns the Fault of a call that the sidecar refuses with a status, such as 403,
// and Dapr's error JSON: an error code, such as "ERR_PUBSUB_FORBIDDEN", and a message.
//
// See https://docs.dapr.io/reference/api/error_codes/.
func Refusal(status int, errorCode, message string) Fault {
	a := refuse(status, errorCode, message)
	return Fault{Status: a.status, Header: a.header, Body: string(a.body)}
}

// Client returns an HTTP client that sends every request to s, without a network and
// with any host in the request. A fault that breaks the connection is an error of the
// client.
func (s *Sidecar) Client() *http.Client { return &http.Client{Transport: transport{s}} }

// Requests returns the calls of the API so far, in their order. It includes calls that
// failed.
func (s *Sidecar) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// ServeHTTP answers a call of the Dapr HTTP API. An endpoint that s does not have answers
// 501.
//
// See https://docs.dapr.io/reference/api/.
func (s *Sidecar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// A body that breaks off is handled up to the break: the client does not read the answer.
	body, _ := io.ReadAll(r.Body)
	call := Request{r.Method, r.URL.EscapedPath(), r.URL.Query(), r.Header.Clone(), string(body)}
	s.mu.Lock()
	s.requests = append(s.requests, call)
	s.mu.Unlock()

	var fault Fault
	if s.Fault != nil {
		fault = s.Fault(call)
	}
	if fault.Delay > 0 {
		select {
		case <-time.After(fault.Delay):
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	if fault.Unreached {
		panic(http.ErrAbortHandler)
	}
	var a answer
	switch {
	case fault.Status != 0:
		a = answer{fault.Status, fault.Header, []byte(fault.Body)}
	case s.APIToken != "" && r.Header.Get(tokenHeader) != s.APIToken && !isHealthCheck(call):
		a = answer{status: http.StatusUnauthorized, body: []byte("invalid api token\n")}
	default:
		a = s.carryOut(call)
	}
	if fault.Unanswered {
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

const tokenHeader = "Dapr-Api-Token"

type answer struct {
	status int
	header http.Header
	body   []byte
}

var noContent = answer{status: http.StatusNoContent}

func jsonAnswer(status int, body []byte) answer {
	return answer{status, http.Header{"Content-Type": {"application/json"}}, body}
}

func refuse(status int, errorCode, message string) answer {
	return jsonAnswer(status, encode(map[string]string{"errorCode": errorCode, "message": message}))
}

// carryOut does what a call asks for. Like a sidecar, it takes a "+" in the path for a
// space.
func (s *Sidecar) carryOut(r Request) answer {
	segments := strings.Split(strings.TrimPrefix(r.Path, "/v1.0/"), "/")
	for i, segment := range segments {
		if text, err := url.QueryUnescape(segment); err == nil {
			segments[i] = text
		}
	}
	if segments[0] == "state" && len(segments) > 1 && !s.has(segments[1]) {
		return refuse(http.StatusBadRequest, "ERR_STATE_STORE_NOT_FOUND", "state store "+segments[1]+" is not found")
	}
	is := func(method string, path ...string) bool {
		return r.Method == method && slices.EqualFunc(path, segments, func(want, got string) bool { return want == "*" || want == got })
	}
	switch {
	case is("GET", "state", "*", "*"):
		return s.getState(segments[1], segments[2])
	case is("DELETE", "state", "*", "*"):
		return s.deleteState(segments[1], segments[2], r)
	case is("POST", "state", "*"):
		return s.saveState(segments[1], r)
	case is("POST", "state", "*", "bulk"):
		return s.getBulkState(segments[1], r)
	case is("POST", "state", "*", "transaction"):
		return s.stateTransaction(segments[1], r)
	case is("POST", "publish", "*", "*"):
		return s.publish(segments[1], segments[2], r)
	case is("GET", "metadata"):
		return s.metadata()
	case isHealthCheck(r):
		return noContent
	}
	return refuse(http.StatusNotImplemented, "ERR_DAPRTEST", "package daprtest has no "+r.Method+" "+r.Path)
}

func isHealthCheck(r Request) bool {
	return r.Method == "GET" && (r.Path == "/v1.0/healthz" || r.Path == "/v1.0/healthz/outbound")
}

// metadata tells what the sidecar is.
func (s *Sidecar) metadata() answer {
	connection := map[string]any{"protocol": "http", "channelAddress": "127.0.0.1"}
	if s.MaxConcurrency != 0 {
		connection["maxConcurrency"] = s.MaxConcurrency
	}
	return jsonAnswer(http.StatusOK, encode(map[string]any{"id": s.appID(), "appConnectionProperties": connection}))
}

func (s *Sidecar) appID() string { return cmp.Or(s.AppID, "app") }

// has reports whether the sidecar has a component.
func (s *Sidecar) has(component string) bool {
	return s.Components == nil || slices.Contains(s.Components, component)
}

// metadataOf returns the metadata in the query of a call.
func metadataOf(r Request) map[string]string {
	metadata := make(map[string]string)
	for name, values := range r.Query {
		if name, ok := strings.CutPrefix(name, "metadata."); ok {
			metadata[name] = values[0]
		}
	}
	return metadata
}

// encode returns the JSON of a value that has one.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// transport carries the requests of a client to a sidecar.
type transport struct{ sidecar *Sidecar }

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	defer r.Body.Close()
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w, answered := serve(t.sidecar, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if !answered {
		return nil, io.ErrUnexpectedEOF // as net/http returns when a connection breaks
	}
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

// serve calls a handler. It returns false if the handler aborts, as net/http lets it.
func serve(h http.Handler, r *http.Request) (w *httptest.ResponseRecorder, answered bool) {
	defer func() {
		if e := recover(); e != nil && e != http.ErrAbortHandler {
			panic(e)
		}
	}()
	w = httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w, true
}
