package daprtest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/matryer/is"
)

// What the sidecar answers, and how it delivers, is held against a real one in
// e2e/daprtest_test.go. Here is what a real one doesn't have.

// call makes a call, and returns the status and the body of its answer.
func call(ctx context.Context, c *http.Client, method, path, body string) (int, string, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://sidecar/v1.0/"+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	resp, err := c.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		name       string
		fault      Fault
		wantStatus int
		wantBody   string
		wantErr    error
		saved      bool
	}{
		{name: "none", wantStatus: 204, saved: true},
		{name: "refusal", fault: Refusal(403, "ERR", "no"), wantStatus: 403, wantBody: `{"errorCode":"ERR","message":"no"}`},
		{name: "any answer", fault: Fault{Status: 502, Body: "<html>"}, wantStatus: 502, wantBody: "<html>"},
		{name: "unreached", fault: Fault{Unreached: true}, wantErr: io.ErrUnexpectedEOF},
		{name: "unanswered", fault: Fault{Unanswered: true}, wantErr: io.ErrUnexpectedEOF, saved: true},
		{name: "late", fault: Fault{Delay: time.Second}, wantStatus: 204, saved: true},
		{name: "too late", fault: Fault{Delay: time.Hour}, wantErr: context.DeadlineExceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				is := is.New(t)
				s := &Sidecar{Fault: func(Request) Fault { return tt.fault }}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				start := time.Now()
				status, body, err := call(ctx, s.Client(), "POST", "state/store", `[{"key":"k","value":1}]`)
				is.True(errors.Is(err, tt.wantErr))
				is.Equal(status, tt.wantStatus)
				is.Equal(body, tt.wantBody)
				is.Equal(time.Since(start), min(tt.fault.Delay, time.Minute))
				is.Equal(s.State("store")["k"] == "1", tt.saved)
				is.Equal(len(s.Requests()), 1)
			})
		})
	}
}

// A connection breaks on a network too.
func TestFaultsOverANetwork(t *testing.T) {
	is := is.New(t)
	s := &Sidecar{Fault: func(Request) Fault { return Fault{Unanswered: true} }}
	server := httptest.NewServer(s)
	defer server.Close()
	_, err := http.Post(server.URL+"/v1.0/state/store", "", strings.NewReader(`[{"key":"k","value":1}]`))
	is.True(err != nil)
	is.Equal(s.State("store")["k"], "1")
}

func TestCallsThatAreCancelledOrUnknown(t *testing.T) {
	is := is.New(t)
	s := new(Sidecar)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := call(ctx, s.Client(), "GET", "metadata", "")
	is.True(errors.Is(err, context.Canceled))
	is.Equal(len(s.Requests()), 0)
	status, body, err := call(t.Context(), s.Client(), "POST", "state-store/x", "")
	is.NoErr(err)
	is.Equal(status, 501)
	is.True(strings.Contains(body, "POST /v1.0/state-store/x"))
	s.MaxConcurrency = 7
	_, body, err = call(t.Context(), s.Client(), "GET", "metadata", "")
	is.NoErr(err)
	is.True(strings.Contains(body, `"maxConcurrency":7`))
}

func TestStateExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := new(Sidecar)
		_, _, err := call(t.Context(), s.Client(), "POST", "state/store", `[{"key":"k","value":1,"metadata":{"ttlInSeconds":"60"}}]`)
		is.NoErr(err)
		time.Sleep(time.Minute - 1)
		is.Equal(s.State("store"), map[string]string{"k": "1"})
		time.Sleep(time.Nanosecond)
		is.Equal(s.State("store"), map[string]string{})
		s.SetState("store", "k", `{"a":1}`)
		time.Sleep(time.Hour)
		_, body, err := call(t.Context(), s.Client(), "GET", "state/store/k", "")
		is.NoErr(err)
		is.Equal(body, `{"a":1}`)
	})
}

// subscriber is a program that answers each delivery with what f returns.
func subscriber(deadLetters string, f func(r *http.Request) string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /dapr/subscribe", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `[{"pubsubname":"pubsub","topic":"t","route":"r","deadLetterTopic":"`+deadLetters+`"}]`)
	})
	mux.HandleFunc("POST /r", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, f(r)) })
	return mux
}

func TestRedeliveries(t *testing.T) {
	const success, retry = `{"status":"SUCCESS"}`, `{"status":"RETRY"}`
	answers := func(n int) []Answer { // the last of n
		all := make([]Answer, n)
		for i := range all {
			all[i] = Answer{200, retry}
		}
		return all
	}
	for _, tt := range []struct {
		name         string
		redeliveries int
		deadLetters  string
		failures     int
		want         Delivery
		wantErr      error
		wantTime     time.Duration
	}{
		{name: "none", want: Delivery{Status: "SUCCESS", Answers: []Answer{{200, success}}}},
		{name: "none, and it fails", failures: 1, want: Delivery{Status: "RETRY", Answers: answers(1)}},
		{name: "they run out", redeliveries: 2, failures: 3, deadLetters: "dead", want: Delivery{"RETRY", answers(3), "dead"}, wantTime: 2 * time.Second},
		{name: "for ever", redeliveries: -1, failures: 99, want: Delivery{Status: "SUCCESS", Answers: append(answers(99), Answer{200, success})}, wantTime: 99 * time.Second},
		{name: "until ctx is done", redeliveries: -1, failures: 1000, deadLetters: "dead", want: Delivery{Status: "RETRY", Answers: answers(120)}, wantErr: context.DeadlineExceeded, wantTime: 119500 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				left := tt.failures
				s := &Sidecar{Redeliveries: tt.redeliveries, RedeliverAfter: time.Second, App: subscriber(tt.deadLetters, func(*http.Request) string {
					if left--; left >= 0 {
						return retry
					}
					return success
				})}
				ctx, cancel := context.WithTimeout(t.Context(), 119500*time.Millisecond)
				defer cancel()
				start := time.Now()
				got, err := s.Deliver(ctx, Message{Topic: "t"})
				if diff := cmp.Diff(tt.want, got); diff != "" || !errors.Is(err, tt.wantErr) || time.Since(start) != tt.wantTime {
					t.Errorf("error %v, after %v (-want +got):\n%s", err, time.Since(start), diff)
				}
			})
		})
	}
}

// An event that is published without an ID keeps the one that the sidecar gave it.
func TestPublishedEventIsTheSameInEachDelivery(t *testing.T) {
	is := is.New(t)
	var bodies []string
	s := &Sidecar{App: subscriber("", func(r *http.Request) string {
		body, _ := io.ReadAll(r.Body)
		bodies = append(bodies, string(body))
		return ""
	})}
	_, _, err := call(t.Context(), s.Client(), "POST", "publish/pubsub/t", `{}`)
	is.NoErr(err)
	for range 2 {
		_, err = s.Deliver(t.Context(), s.Published()[0])
		is.NoErr(err)
	}
	is.Equal(len(bodies), 2)
	is.Equal(bodies[0], bodies[1])
}

// A CloudEvent in the binary format has its attributes in headers.
func TestBinaryEventIsDeliveredWithItsHeaders(t *testing.T) {
	is := is.New(t)
	var got *http.Request
	s := &Sidecar{App: subscriber("", func(r *http.Request) string { got = r; return "" })}
	_, err := s.Deliver(t.Context(), Message{Topic: "t", Event: []byte("\x00"), Metadata: map[string]string{"content-type": "application/octet-stream", "ce_id": "1"}})
	is.NoErr(err)
	is.Equal(got.Header.Get("ce_id"), "1")
	is.Equal(got.Header.Get("Content-Type"), eventType)
}

func TestMessageThatNobodySubscribesToIsAnError(t *testing.T) {
	for name, tt := range map[string]struct {
		app     http.Handler
		message Message
	}{
		"no App":           {nil, Message{Topic: "t"}},
		"another topic":    {subscriber("", nil), Message{Topic: "u"}},
		"another pub/sub":  {subscriber("", nil), Message{PubsubName: "p", Topic: "t"}},
		"no subscriptions": {http.NotFoundHandler(), Message{Topic: "t"}},
	} {
		s := &Sidecar{App: tt.app}
		if d, err := s.Deliver(t.Context(), tt.message); err == nil {
			t.Errorf("%s: got %+v", name, d)
		}
	}
}
