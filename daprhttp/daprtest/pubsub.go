package daprtest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Message is a message that was published to a topic. For [Sidecar.Deliver], only Topic
// must be set.
type Message struct {
	PubsubName string // the pub/sub component; in Deliver, empty means "pubsub"
	Topic      string

	Data        []byte            // the payload
	ContentType string            // of Data; in Deliver, empty means "application/json"
	Metadata    map[string]string // of the call, such as "cloudevent.id", "cloudevent.source" and "rawPayload"

	// Event is the message as the broker has it: Data in the envelope of a CloudEvent, or
	// Data itself with the metadata rawPayload. When it is nil, Deliver makes it, with a new
	// ID unless Metadata has "cloudevent.id".
	Event []byte
}

// Published returns the messages that were published so far, in the order of the calls: by
// the program, and by Deliver to a dead-letter topic.
func (s *Sidecar) Published() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.published)
}

func (s *Sidecar) publish(pubsubName, topic string, r Request) answer {
	if !s.has(pubsubName) {
		return refuse(http.StatusNotFound, "ERR_PUBSUB_NOT_FOUND", fmt.Sprintf("pubsub %s is not found", pubsubName))
	}
	m := Message{
		PubsubName: pubsubName, Topic: topic,
		Data: []byte(r.Body), ContentType: r.Header.Get("Content-Type"), Metadata: metadataOf(r),
	}
	_, err := isRaw(m.Metadata)
	if err != nil {
		return refuse(http.StatusBadRequest, "ERR_PUBSUB_REQUEST_METADATA", "failed deserializing metadata. Error: "+err.Error())
	}
	if m.Event, err = s.event(m, r.Header); err != nil {
		return refuse(http.StatusInternalServerError, "ERR_PUBSUB_CLOUD_EVENTS_SER", "cannot create cloudevent")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.published = append(s.published, m)
	return noContent
}

// event returns the message as the broker gets it: as a CloudEvent, or unchanged with the
// metadata rawPayload. The sidecar adds attributes that are missing. The trace comes from
// the headers of the call.
func (s *Sidecar) event(m Message, h http.Header) ([]byte, error) {
	if raw, err := isRaw(m.Metadata); raw || err != nil {
		return m.Data, err
	}
	event := make(map[string]any)
	isEvent := isType(m.ContentType, eventType)
	if isEvent {
		if err := decodePrecisely(m.Data, &event); err != nil || event == nil {
			return nil, errors.New("the data is not a CloudEvent")
		}
	} else {
		event["id"] = cmp.Or(m.Metadata["cloudevent.id"], newID())
		event["source"] = cmp.Or(m.Metadata["cloudevent.source"], s.appID())
		event["datacontenttype"] = cmp.Or(m.ContentType, "text/plain")
		for _, name := range []string{"type", "subject", "traceparent", "tracestate"} {
			if value := m.Metadata["cloudevent."+name]; value != "" {
				event[name] = value
			}
		}
		event["data"] = string(m.Data)
		switch {
		case isType(m.ContentType, "application/json"):
			var data any
			if decodePrecisely(m.Data, &data) == nil { // a sidecar takes malformed JSON for text
				event["data"] = data
			}
		case isType(m.ContentType, "application/octet-stream"):
			delete(event, "data")
			event["data_base64"] = base64.StdEncoding.EncodeToString(m.Data)
		}
	}
	defaults := map[string]any{
		"specversion": "1.0", "source": "Dapr", "type": "com.dapr.event.sent",
		"time": time.Now().Format(time.RFC3339), "tracestate": h.Get("tracestate"),
	}
	if event["traceid"] == nil {
		if event["traceparent"] == nil || isEvent { // a sidecar replaces the traceparent of a CloudEvent
			event["traceparent"] = h.Get("traceparent")
		}
		defaults["traceid"] = event["traceparent"]
	}
	for name, value := range defaults {
		if event[name] == nil {
			event[name] = value
		}
	}
	event["pubsubname"], event["topic"] = m.PubsubName, m.Topic
	return json.Marshal(event)
}

// isRaw reports whether the metadata rawPayload is true.
func isRaw(metadata map[string]string) (bool, error) {
	return strconv.ParseBool(cmp.Or(metadata["rawPayload"], "false"))
}

const eventType = "application/cloudevents+json"

func isType(contentType, want string) bool {
	contentType, _, _ = strings.Cut(contentType, ";")
	return strings.EqualFold(contentType, want)
}

// decodePrecisely decodes JSON and leaves numbers as they are.
func decodePrecisely(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return d.Decode(v)
}

// newID returns a UUID of version 4, as sidecars give them to events.
func newID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// A Delivery is the result of [Sidecar.Deliver].
type Delivery struct {
	// Status is "SUCCESS", "DROP" or "RETRY", as a sidecar understands the answer. After
	// "RETRY", a sidecar delivers the message again. To do so, call Deliver again with the
	// same Event or the same "cloudevent.id".
	Status string

	HTTPStatus int    // of App's answer; zero: App got no delivery, or broke off without an answer
	Body       string // of App's answer

	// DeadLetterTopic is the topic to which Deliver moved the message after "DROP". Empty
	// means that it moved it nowhere.
	DeadLetterTopic string
}

// Deliver delivers m once to the route to which App has subscribed for its topic. As a
// sidecar does, it delivers m as a CloudEvent, with the metadata of m as headers, and moves
// it to the subscription's dead-letter topic after DROP. An expired event in the JSON format,
// and a message that is not a JSON object, are moved there without a delivery. A message in
// binary mode (content-type application/octet-stream in its metadata) is delivered, and so is
// any message if the subscription has the metadata rawPayload.
//
// Before the first delivery, Deliver asks App for its subscriptions with GET /dapr/subscribe.
//
// The error says that App is nil or does not list its subscriptions, that App has no
// subscription for m, or that m can't be made an event. What App answers is no error. A
// panic of App passes through, except [http.ErrAbortHandler].
//
// See https://docs.dapr.io/reference/api/pubsub_api/#provide-routes-for-dapr-to-deliver-topic-events.
func (s *Sidecar) Deliver(ctx context.Context, m Message) (Delivery, error) {
	m.PubsubName = cmp.Or(m.PubsubName, "pubsub")
	m.ContentType = cmp.Or(m.ContentType, "application/json")
	sub, err := s.subscription(ctx, m)
	if err == nil && m.Event == nil {
		m.Event, err = s.event(m, nil)
	}
	if err != nil {
		return Delivery{}, fmt.Errorf("daprtest: %w", err)
	}
	d := Delivery{Status: "DROP"}
	if body, err := sub.body(m); err == nil {
		d = s.deliver(ctx, sub.Route, m, body)
	}
	if d.Status == "DROP" && sub.DeadLetterTopic != "" {
		d.DeadLetterTopic = sub.DeadLetterTopic
		s.mu.Lock()
		defer s.mu.Unlock()
		s.published = append(s.published, Message{
			PubsubName: m.PubsubName, Topic: sub.DeadLetterTopic, Data: m.Event, Metadata: m.Metadata, Event: m.Event,
		})
	}
	return d, nil
}

// A subscription is what a program answers to GET /dapr/subscribe.
type subscription struct {
	PubsubName      string            `json:"pubsubname"`
	Topic           string            `json:"topic"`
	Route           string            `json:"route"`
	DeadLetterTopic string            `json:"deadLetterTopic"`
	Metadata        map[string]string `json:"metadata"`
}

// subscription returns the subscription of App for a message.
func (s *Sidecar) subscription(ctx context.Context, m Message) (subscription, error) {
	s.mu.Lock()
	subscriptions := s.subscriptions
	s.mu.Unlock()
	if subscriptions == nil {
		var err error
		if subscriptions, err = s.subscribe(ctx); err != nil {
			return subscription{}, err
		}
	}
	for _, sub := range subscriptions {
		if sub.PubsubName == m.PubsubName && sub.Topic == m.Topic {
			return sub, nil
		}
	}
	return subscription{}, fmt.Errorf("the app has no subscription for topic %q of %q", m.Topic, m.PubsubName)
}

// subscribe asks App for its subscriptions.
func (s *Sidecar) subscribe(ctx context.Context) (subscriptions []subscription, err error) {
	if s.App == nil {
		return nil, errors.New("the sidecar has no App")
	}
	w, answered := s.callApp(ctx, "GET", "dapr/subscribe", nil, http.Header{
		"Content-Type": {"application/json"}, "Dapr-App-Id": {s.appID()},
	})
	if !answered || w.Code != http.StatusOK {
		return nil, errors.New("the app does not answer GET /dapr/subscribe with 200")
	}
	if err := json.Unmarshal(w.Body.Bytes(), &subscriptions); err != nil {
		return nil, fmt.Errorf("GET /dapr/subscribe: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subscriptions = subscriptions
	return subscriptions, nil
}

// body returns the body of a delivery. The error says that the sidecar can't make one.
func (sub subscription) body(m Message) ([]byte, error) {
	raw, err := isRaw(sub.Metadata)
	switch {
	case err != nil:
		return nil, err
	case raw:
		return json.Marshal(map[string]string{
			"id": newID(), "specversion": "1.0", "datacontenttype": "application/octet-stream", "source": "Dapr", "type": "com.dapr.event.sent",
			"topic": m.Topic, "pubsubname": m.PubsubName, "data_base64": base64.StdEncoding.EncodeToString(m.Event),
		})
	case isType(m.Metadata["content-type"], "application/octet-stream"):
		return m.Event, nil // a CloudEvent in binary mode: its attributes are metadata
	}
	var event map[string]any
	if err := json.Unmarshal(m.Event, &event); err != nil {
		return nil, err
	}
	expiration, _ := event["expiration"].(string)
	if end, err := time.Parse(time.RFC3339, expiration); err == nil && end.Before(time.Now()) {
		return nil, errors.New("the event has expired")
	}
	return m.Event, nil
}

// deliver delivers a message to a route of App.
func (s *Sidecar) deliver(ctx context.Context, route string, m Message, body []byte) Delivery {
	header := make(http.Header)
	for name, value := range m.Metadata {
		switch strings.ToLower(name) {
		case "content-length", "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade":
		default:
			header.Set(name, value)
		}
	}
	header.Set("pubsubName", m.PubsubName)
	header.Set("Content-Type", eventType)
	var event struct{ TraceParent string }
	if json.Unmarshal(body, &event) == nil && event.TraceParent != "" {
		header.Set("traceparent", event.TraceParent)
	}
	w, answered := s.callApp(ctx, "POST", route, body, header)
	if !answered {
		return Delivery{Status: "RETRY"}
	}
	return Delivery{Status: meaning(w.Code, w.Body.Bytes()), HTTPStatus: w.Code, Body: w.Body.String()}
}

// callApp sends a request to App. It returns false if App breaks off without an answer.
func (s *Sidecar) callApp(ctx context.Context, method, route string, body []byte, header http.Header) (*httptest.ResponseRecorder, bool) {
	r := httptest.NewRequestWithContext(ctx, method, "http://127.0.0.1"+path.Clean("/"+route), bytes.NewReader(body))
	r.Header = header
	maps.Copy(r.Header, s.AppHeader)
	if s.AppAPIToken != "" {
		r.Header.Set(tokenHeader, s.AppAPIToken)
	}
	return serve(s.App, r)
}

// meaning returns how a sidecar understands an answer to a delivery.
//
// See https://docs.dapr.io/reference/api/pubsub_api/#expected-http-response.
func meaning(status int, body []byte) string {
	var answer struct{ Status string }
	switch {
	case status == http.StatusNotFound:
		return "DROP"
	case status < 200 || status > 299:
		return "RETRY"
	case json.NewDecoder(bytes.NewReader(body)).Decode(&answer) != nil || answer.Status == "":
		return "SUCCESS"
	case answer.Status == "SUCCESS" || answer.Status == "DROP":
		return answer.Status
	}
	return "RETRY"
}
