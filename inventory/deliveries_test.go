package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp/daprtest"
)

// deliver lets the sidecar deliver a message once. It returns the status and the body of the
// answer.
func (s *serviceTest) deliver(m daprtest.Message) (status, answer string) {
	s.t.Helper()
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
	s.daprd.SetState("statestore", "item1", `100`)
	event := daprtest.Message{
		Data: []byte(`{"orderId":"order-1001","itemId":"item1","quantity":10}`), Metadata: map[string]string{"cloudevent.id": "e1"},
	}
	result, answer := s.deliver(event)
	is.Equal(result, "SUCCESS")
	is.Equal(answer, `{"status":"SUCCESS","message":"Inventory updated from OrderPlaced event","orderId":"order-1001","itemId":"item1",`+
		`"previousQuantity":100,"orderedQuantity":10,"remainingQuantity":90}`)
	result, answer = s.deliver(event)
	is.Equal(result, "SUCCESS")
	is.Equal(answer, `{"status":"SUCCESS","message":"OrderPlaced event had been processed already","orderId":"order-1001","itemId":"item1",`+
		`"orderedQuantity":10}`)
	event.Metadata["cloudevent.source"] = "another" // the same id from another publisher
	_, answer = s.deliver(event)
	is.True(strings.Contains(answer, `"previousQuantity":90,"orderedQuantity":10,"remainingQuantity":80}`))
	for i := range 2 { // by hand: each request is another order
		status, answer := s.do("POST", "/orders", "", `{"itemId":"item1","quantity":1}`)
		is.Equal(status, 200)
		want := fmt.Sprintf(`"orderId":"unknown","itemId":"item1","previousQuantity":%d,"orderedQuantity":1,"remainingQuantity":%d}`, 80-i, 79-i)
		is.True(strings.HasSuffix(answer, want))
	}
	status, body := s.do("GET", "/inventory/item1", "", "")
	is.Equal(status, 200)
	is.Equal(body, `{"itemId":"item1","quantity":78}`)
	is.True(strings.HasPrefix(s.lines(), ""+
		"eventId=\"e1\" Processed OrderPlaced event. orderId=order-1001, itemId=item1, ordered=10, remaining=90\n"+
		"eventId=\"e1\" OrderPlaced event had been processed already. orderId=order-1001, itemId=item1\n"))
	s.checkMetrics(`events_total{outcome="applied"} 4`, `events_total{outcome="duplicate"} 1`)
	s.checkMetrics(`commits_total 5`, `conflicts_total 0`, `waiting_orders 0`)
}

// A sidecar's delivery becomes one dead letter, with the reason. A person's request gets 400.
// The rules for JSON, keys, integers and events are tested in packages web and daprhttp.
func TestUnusableOrderIsRefused(t *testing.T) {
	for _, tt := range []struct{ order, wantError, logged string }{
		{`{"orderId":"o","quantity":1}`, "OrderPlaced event is missing itemId", "orderId=o, itemId="},
		{`{"orderId":"o","itemId":"","quantity":0}`, "OrderPlaced event is missing itemId", "orderId=o, itemId="},
		{`{"orderId":"o","itemId":"i","Quantity":1}`, "OrderPlaced event is missing quantity, an integer from 1", "orderId=o, itemId=i"},
		{`{"orderId":"o","itemId":"i","quantity":-1}`, "quantity must not be negative", "orderId=o, itemId=i"},
		{`{"orderId":"o","itemId":"i","quantity":9007199254740992}`, "quantity must not be greater than 9007199254740991", "orderId=o, itemId=i"},
		{`{"orderId":7,"itemId":"i","quantity":1}`, "orderId must be a string", "orderId=, itemId=i"},
		{`{"orderId":"a||b","itemId":"i","quantity":1}`, `orderId must not contain "||"`, "orderId=, itemId=i"},
		{`{"orderId":"o","itemId":"a||b","quantity":1}`, `itemId must not contain "||"`, "orderId=o, itemId="},
		{`"a dozen"`, "the body must be a JSON object, not a JSON string", "orderId=, itemId="},
		{`{"x":"` + strings.Repeat("x", maxBodyBytes) + `"}`, "the event is too large: it must not be longer than 65536 bytes", "orderId=unknown, itemId="},
	} {
		event := `{"specversion":"1.0","id":"e1","source":"pos","data":` + tt.order + `}`
		reason := tt.wantError
		if strings.HasPrefix(reason, "the body") {
			reason = "the event's data is not an order: " + reason
		}
		text, _ := json.Marshal(reason)
		for _, message := range []daprtest.Message{{Event: []byte(event)}, {Event: []byte(event), PubsubName: "pubsub-retry", Topic: "OrderPlaced-retry"}} {
			s := newServiceTest(t)
			if status, answer := s.deliver(message); status != "SUCCESS" || answer != `{"status":"SUCCESS","error":`+string(text)+`}` {
				t.Errorf("%.80s: got %s", tt.order, answer)
			}
			letter := strings.Join(s.published(), "\n")
			for _, part := range []string{`"id":"e1"`, `"deadletterreason":` + string(text), `"deadletterapp":"inventory-service"`} {
				if strings.Count(letter, "pubsub OrderPlaced-dead-letter ") != 1 || !strings.Contains(letter, part) {
					t.Errorf("%.80s: published %.500s, want one letter with %s", tt.order, letter, part)
				}
			}
			want := `eventId="e1" Refused OrderPlaced event. ` + tt.logged + `, source=pos: ` + reason + "\n" +
				`eventId="e1" Moved OrderPlaced event to the dead-letter topic` + "\n"
			if s.lines() != want || s.written() {
				t.Errorf("%.80s: stored %v, logged\n%s, want\n%s", tt.order, s.daprd.State("statestore"), s.lines(), want)
			}
			s.checkMetrics(`events_total{outcome="dead"} 1`)
		}
		s := newServiceTest(t)
		status, answer := s.do("POST", "/orders", "application/json", tt.order)
		wantStatus := http.StatusBadRequest
		if len(tt.order) > maxBodyBytes {
			wantStatus = http.StatusRequestEntityTooLarge
		}
		text, _ = json.Marshal(tt.wantError)
		if status != wantStatus || answer != `{"error":`+string(text)+`}` || s.written() || len(s.published()) > 0 {
			t.Errorf("%.80s by hand: got %d %s, published %.200q", tt.order, status, answer, s.published())
		}
	}
}

func TestOrderThatCanNeverBeAppliedIsDropped(t *testing.T) {
	is := is.New(t)
	s := newServiceTest(t)
	s.daprd.SetState("statestore", "item1", `"a dozen"`)
	const data = `{"orderId":"o","itemId":"item1","quantity":1}`
	result, answer := s.deliver(daprtest.Message{Data: []byte(data)})
	is.Equal(result, "SUCCESS")
	is.True(strings.HasPrefix(answer, `{"status":"SUCCESS","error":`))
	is.Equal(len(s.published()), 1)
	is.True(strings.HasPrefix(s.published()[0], "pubsub OrderPlaced-dead-letter "))
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
		const event = `{"specversion":"1.0","id":"e1","source":"s","data":{"orderId":"o","itemId":"item1","quantity":1}}`
		started := time.Now()
		s.fail("/v1.0/state/", daprtest.Fault{Status: 500})
		go func() {
			time.Sleep(time.Second)
			s.checkMetrics(`waiting_orders 1`, `oldest_waiting_seconds 1`)
		}()
		result, answer := s.deliver(daprtest.Message{Event: []byte(event)})
		is.Equal(result, "SUCCESS")
		is.True(strings.HasPrefix(answer, `{"status":"SUCCESS","error":`))
		is.Equal(time.Since(started), tryFor)
		is.Equal(s.published(), []string{"pubsub-retry OrderPlaced-retry " + event})
		is.True(strings.Contains(s.lines(), "Failed to process OrderPlaced event. orderId=o, itemId=item1: "))
		is.True(strings.HasSuffix(s.lines(), "eventId=\"e1\" Moved OrderPlaced event to the retry topic\n"))

		s.fail("/v1.0/", daprtest.Fault{Status: 500}) // publishing fails too
		started = time.Now()
		result, _ = s.deliver(daprtest.Message{Event: []byte(event), PubsubName: "pubsub-retry", Topic: "OrderPlaced-retry"})
		is.Equal(result, "RETRY")
		is.Equal(time.Since(started), retryFor)
		is.True(strings.Contains(s.lines(), "eventId=\"e1\" Failed to move OrderPlaced event to the retry topic: "))
		is.True(strings.Contains(s.lines(), "sidecar answered 500"))

		s.logs.Reset()
		s.fail("/v1.0/", daprtest.Refusal(404, "ERR_PUBSUB_NOT_FOUND", "pubsub pubsub-retry is not found"))
		result, _ = s.deliver(daprtest.Message{Event: []byte(event)})
		is.Equal(result, "RETRY")
		is.True(!strings.Contains(s.lines(), "Failed to move")) // this sidecar has no retry topic
		s.checkMetrics(`events_total{outcome="failed"} 3`, `events_total{outcome="retried"} 1`, `events_total{outcome="dead"} 0`)
		time.Sleep(time.Hour) // until no worker retries
	})
}

// While the state store refuses an item, one order in a second is tried. The rest moves to the
// retry topic at once, so that the orders for other items find a place in the sidecar.
func TestOrdersForAStuckItemMoveAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := newServiceTest(t)
		n := 0
		deliver := func(itemID string) (moved bool, after time.Duration) {
			n++
			started, published := time.Now(), len(s.published())
			event := fmt.Sprintf(`{"specversion":"1.0","id":"e%d","source":"s","data":{"itemId":%q,"quantity":1}}`, n, itemID)
			result, _ := s.deliver(daprtest.Message{Event: []byte(event)})
			is.Equal(result, "SUCCESS")
			return len(s.published()) > published, time.Since(started).Round(time.Millisecond)
		}
		check := func(itemID string, wantMoved bool, wantAfter time.Duration) {
			t.Helper()
			if moved, after := deliver(itemID); moved != wantMoved || after != wantAfter {
				t.Errorf("order e%d for %s: moved %t after %v, want %t after %v", n, itemID, moved, after, wantMoved, wantAfter)
			}
		}
		s.fail("/v1.0/state/statestore/item1", daprtest.Fault{Status: 500})
		check("item1", true, tryFor)
		check("item1", true, 0)
		check("item1", true, 0)
		check("item2", false, 0)
		status, answer := s.do("POST", "/orders", "", `{"itemId":"item1","quantity":1}`)
		is.Equal(status, 500)
		is.Equal(answer, `{"status":"RETRY","error":"the last order for this item could not be applied"}`)
		long := fmt.Appendf(nil, `{"specversion":"1.0","id":"e","source":"s","data":{"itemId":"item1","quantity":1,"note":%q}}`, strings.Repeat("x", maxBodyBytes))
		_, answer = s.deliver(daprtest.Message{Event: long}) // can never be applied
		is.True(strings.Contains(answer, "the event is too large"))
		time.Sleep(tryEvery)
		check("item1", true, tryFor)

		// The sidecar may have been at fault. When it starts again, orders are tried.
		s.do("GET", "/dapr/subscribe", "", "", "dapr-app-id", "inventory-service")
		check("item1", true, tryFor)
		check("item1", true, 0)

		// So that many stuck items do not take all places, their tries are bounded together.
		s.fail("/v1.0/state/statestore/item", daprtest.Fault{Status: 500})
		check("item3", true, tryFor)
		time.Sleep(tryEvery)
		check("item1", true, tryFor)
		check("item3", true, tryFor)
		time.Sleep(tryEvery)
		go deliver("item1")
		time.Sleep(tryAnyEvery / 2)
		check("item3", true, 0)
		time.Sleep(tryAnyEvery / 2)
		check("item3", true, tryFor)

		// An order that fails in the retry topic may do so for a reason of its own.
		again := func(itemID string) string {
			result, _ := s.deliver(daprtest.Message{PubsubName: "pubsub-retry", Topic: "OrderPlaced-retry",
				Event: fmt.Appendf(nil, `{"specversion":"1.0","id":"e1","source":"s","data":{"itemId":%q,"quantity":1}}`, itemID)})
			return result
		}
		again("item4")
		s.fail("/", daprtest.Fault{})
		moved, _ := deliver("item4")
		is.True(!moved)

		// An order that is applied, from the retry topic too, ends this.
		s.fail("/v1.0/state/statestore/item1", daprtest.Fault{Status: 500})
		time.Sleep(tryEvery)
		check("item1", true, tryFor)
		s.fail("/", daprtest.Fault{})
		check("item1", true, 0)
		is.Equal(again("item1"), "SUCCESS")
		check("item1", false, 0)

		// Without a retry topic, the sidecar redelivers the rest.
		s.fail("/v1.0/", daprtest.Refusal(404, "ERR_PUBSUB_NOT_FOUND", "pubsub pubsub-retry is not found"))
		for _, after := range []time.Duration{tryFor, 0} {
			started := time.Now()
			result, _ := s.deliver(daprtest.Message{Event: []byte(`{"specversion":"1.0","id":"e","source":"s","data":{"itemId":"item1","quantity":1}}`)})
			is.Equal(result, "RETRY")
			is.Equal(time.Since(started).Round(time.Millisecond), after)
		}
		time.Sleep(time.Hour) // until no worker retries
	})
}

func TestStuckItemsAreBounded(t *testing.T) {
	is := is.New(t)
	var s stuckItems
	for i := range maxStuckItems + 5 {
		s.note(strconv.Itoa(i), false)
	}
	s.note("10002", false) // it is one of the five
	is.Equal(len(s.tried), 5)
}

// The retry topic's subscription must not have rawPayload: a moved event has its envelope.
func TestSubscriptionIsDeclared(t *testing.T) {
	is := is.New(t)
	status, body := newServiceTest(t).do("GET", "/dapr/subscribe", "", "")
	is.Equal(status, 200)
	is.Equal(body, `[{"pubsubname":"pubsub","topic":"OrderPlaced","route":"orders","deadLetterTopic":"OrderPlaced-dead-letter"},`+
		`{"pubsubname":"pubsub-retry","topic":"OrderPlaced-retry","route":"orders/retry"}]`)
	_, body = newServiceTest(t, "SUBSCRIPTION_METADATA", "rawPayload=true,queueType=quorum").do("GET", "/dapr/subscribe", "", "")
	is.True(strings.Contains(body, `"deadLetterTopic":"OrderPlaced-dead-letter","metadata":{"queueType":"quorum","rawPayload":"true"}}`))
	is.True(strings.Contains(body, `"route":"orders/retry","metadata":{"queueType":"quorum"}}`))
}

func TestSidecarThatMayLoseEventsCausesAWarning(t *testing.T) {
	for _, tt := range []struct {
		maxConcurrency int
		header         http.Header
		fault          daprtest.Fault
		want           int
	}{
		{want: 1},
		{maxConcurrency: -1, want: 1},
		{maxConcurrency: 2, want: 1},
		{maxConcurrency: 1, want: 0},
		{header: http.Header{"Dapr-Filter": {"answered"}}, want: 0},
		{maxConcurrency: 1, fault: daprtest.Fault{Status: 500}, want: 1}, // unknown
	} {
		s := newServiceTest(t)
		s.daprd.MaxConcurrency, s.daprd.AppHeader = tt.maxConcurrency, tt.header
		s.fail("/v1.0/metadata", tt.fault)
		s.do("GET", "/dapr/subscribe", "", "") // by hand: no warning
		s.deliver(daprtest.Message{Data: []byte(`{"itemId":"item1","quantity":1}`)})
		if got := strings.Count(s.logs.String(), "--app-max-concurrency 1"); got != tt.want {
			t.Errorf("%+v: warned %d times", tt, got)
		}
	}
}
