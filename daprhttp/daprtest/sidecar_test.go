package daprtest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/matryer/is"
)

// e2e/daprtest_test.go compares the answers and deliveries with those of a real sidecar. The
// tests here are for what a real sidecar can't show.

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
	s.APIToken = "secret"
	status, _, err = call(t.Context(), s.Client(), "GET", "metadata", "")
	is.NoErr(err)
	is.Equal(status, 401)
	for _, path := range []string{"healthz", "healthz/outbound"} {
		status, _, err = call(t.Context(), s.Client(), "GET", path, "")
		is.NoErr(err)
		is.Equal(status, 204)
	}
	s.APIToken, s.MaxConcurrency = "", 7
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
		_, _, err = call(t.Context(), s.Client(), "POST", "state/store?metadata.ttlInSeconds=60", `[{"key":"l","value":2}]`)
		is.NoErr(err)
		time.Sleep(time.Minute - 1)
		is.Equal(s.State("store"), map[string]string{"k": "1", "l": "2"})
		time.Sleep(time.Nanosecond)
		is.Equal(s.State("store"), map[string]string{})
		s.SetState("store", "a b", `{"a":1}`)
		time.Sleep(time.Hour)
		_, body, err := call(t.Context(), s.Client(), "GET", "state/store/a+b", "") // a sidecar takes "+" for a space
		is.NoErr(err)
		is.Equal(body, `{"a":1}`)
	})
}

// subscriber is a program that subscribes to topic "t". Its handler answers deliveries.
func subscriber(handler http.HandlerFunc) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /dapr/subscribe", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `[{"pubsubname":"pubsub","topic":"t","route":"r","deadLetterTopic":"dead"}]`)
	})
	mux.HandleFunc("POST /r", handler)
	return mux
}

func TestDeliverMakesAnEventOfData(t *testing.T) {
	is := is.New(t)
	var got map[string]any
	s := &Sidecar{App: subscriber(func(_ http.ResponseWriter, r *http.Request) { is.NoErr(json.NewDecoder(r.Body).Decode(&got)) })}
	_, err := s.Deliver(t.Context(), Message{Topic: "t", Data: []byte(`{"a":1}`), Metadata: map[string]string{"cloudevent.id": "1", "cloudevent.source": "s"}})
	is.NoErr(err)
	delete(got, "time")
	is.Equal(got, map[string]any{
		"specversion": "1.0", "id": "1", "source": "s", "type": "com.dapr.event.sent", "datacontenttype": "application/json", "data": map[string]any{"a": 1.0},
		"pubsubname": "pubsub", "topic": "t", "traceid": "", "traceparent": "", "tracestate": "",
	})
}

// A sidecar takes "1", "T" and the like for true.
func TestRawPayloadIsABoolean(t *testing.T) {
	is := is.New(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /dapr/subscribe", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `[{"pubsubname":"pubsub","topic":"t","route":"r","metadata":{"rawPayload":"True"}}]`)
	})
	var got struct{ Data_base64 []byte }
	mux.HandleFunc("POST /r", func(_ http.ResponseWriter, r *http.Request) { is.NoErr(json.NewDecoder(r.Body).Decode(&got)) })
	s := &Sidecar{App: mux}
	_, _, err := call(t.Context(), s.Client(), "POST", "publish/pubsub/t?metadata.rawPayload=1", "x")
	is.NoErr(err)
	is.Equal(string(s.Published()[0].Event), "x")
	_, err = s.Deliver(t.Context(), s.Published()[0])
	is.NoErr(err)
	is.Equal(string(got.Data_base64), "x")
}

// The attributes of a CloudEvent in binary mode are in headers.
func TestHeadersOfADelivery(t *testing.T) {
	is := is.New(t)
	var got http.Header
	s := &Sidecar{
		AppAPIToken: "secret", AppHeader: http.Header{"Dapr-Filter": {"answered"}},
		App: subscriber(func(_ http.ResponseWriter, r *http.Request) { got = r.Header }),
	}
	_, err := s.Deliver(t.Context(), Message{Topic: "t", Event: []byte("\x00"), Metadata: map[string]string{"content-type": "application/octet-stream", "ce_id": "1"}})
	is.NoErr(err)
	is.Equal(got, http.Header{
		"Ce_id": {"1"}, "Content-Type": {eventType}, "Dapr-Api-Token": {"secret"}, "Dapr-Filter": {"answered"}, "Pubsubname": {"pubsub"},
	})
}

func TestMessageThatIsNotACloudEventIsDroppedWithoutADelivery(t *testing.T) {
	is := is.New(t)
	s := &Sidecar{App: subscriber(func(http.ResponseWriter, *http.Request) { t.Error("it is delivered") })}
	d, err := s.Deliver(t.Context(), Message{Topic: "t", Event: []byte("x")})
	is.NoErr(err)
	is.Equal(d, Delivery{Status: "DROP", DeadLetterTopic: "dead"})
}

// A sidecar delivers an event again after RETRY.
func TestEventThatBrokeOffIsNotADeadLetter(t *testing.T) {
	is := is.New(t)
	s := &Sidecar{App: subscriber(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })}
	d, err := s.Deliver(t.Context(), Message{Topic: "t"})
	is.NoErr(err)
	is.Equal(d, Delivery{Status: "RETRY"})
	is.Equal(len(s.Published()), 0)
}

func TestDeliverMovesAnExpiredEvent(t *testing.T) {
	is := is.New(t)
	s := Sidecar{App: subscriber(func(http.ResponseWriter, *http.Request) { t.Error("the event was delivered") })}
	d, err := s.Deliver(t.Context(), Message{Topic: "t", Event: []byte(`{"id":"e1","expiration":"2001-01-01T00:00:00Z"}`)})
	is.NoErr(err)
	is.Equal(d, Delivery{Status: "DROP", DeadLetterTopic: "dead"})
}

func TestDeliverPanicsWithTheProgram(t *testing.T) {
	s := &Sidecar{App: subscriber(func(http.ResponseWriter, *http.Request) { panic("mistake") })}
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	_, _ = s.Deliver(t.Context(), Message{Topic: "t"})
}

func TestMessageWithoutASubscriberIsAnError(t *testing.T) {
	program := subscriber(func(http.ResponseWriter, *http.Request) { t.Error("it is delivered") })
	for _, tt := range []struct {
		app     http.Handler
		message Message
		want    string
	}{
		{nil, Message{Topic: "t"}, "the sidecar has no App"},
		{program, Message{Topic: "u"}, `no subscription for topic "u" of "pubsub"`},
		{program, Message{PubsubName: "p", Topic: "t"}, `no subscription for topic "t" of "p"`},
		{http.NotFoundHandler(), Message{Topic: "t"}, "does not answer GET /dapr/subscribe with 200"},
	} {
		s := &Sidecar{App: tt.app}
		if d, err := s.Deliver(t.Context(), tt.message); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %+v, %v, want %s", tt.message, d, err, tt.want)
		}
	}
}
