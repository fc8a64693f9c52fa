package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"
	"github.com/redis/go-redis/v9"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/stack"
)

// write writes a message into the broker, as a program without a sidecar does.
func (s *system) write(topic, body string, metadata map[string]string) {
	s.t.Helper()
	text, err := json.Marshal(metadata)
	must(s.t, err)
	must(s.t, s.redis().Client().XAdd(s.t.Context(), &redis.XAddArgs{
		Stream: topic, Values: map[string]any{"data": body, "metadata": string(text)},
	}).Err())
}

// The metadata of a message becomes headers of its delivery. None of them keeps the order
// from being applied.
func TestHeadersOfAPublisherRefuseNoDelivery(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{tokens: true})
	many := make(map[string]string)
	for i := range 200 {
		many[fmt.Sprint("many-", i)] = strings.Repeat("x", 10<<10) // 2 MiB of headers
	}
	headers := []map[string]string{
		many,
		{"origin": "pos-7", "sec-fetch-site": "cross-site"}, {"dapr-caller-app-id": "pos-7"},
		{"expect": "a miracle"}, {"expect": "100-continue"},
		{"accept": "text/event-stream"},
		{"dapr-api-token": "another"}, {"connection": "dapr-api-token, content-type"},
		{"content-type": "text/plain"}, {"content-type": "application/octet-stream"}, {"Content-Type": "text/plain"},
		{"content-length": "7"}, {"content-encoding": "gzip"}, {"transfer-encoding": "gzip"}, {"trailer": "x"}, {"te": "gzip"},
		{"a name": "x"}, {"cloudEvents:id": "x"}, {"lines": "a\nb"},
		{"host": "elsewhere"}, {"upgrade": "h2c", "http2-settings": "x"}, {"x-http-method-override": "DELETE"},
		{"if-match": "x"}, {"if-none-match": "*"}, {"range": "bytes=0-1"}, {"accept-encoding": "br"}, {"authorization": "Basic x"},
		{"traceparent": "garbage"}, {"traceparent": "00-" + strings.Repeat("a", 20<<10)}, {"tracestate": strings.Repeat("a=b,", 5<<10)},
		{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=" + strings.Repeat("b", 20<<10)},
		{"baggage": strings.Repeat("a=b,", 5<<10)}, {"ce_id": "another", "ce_source": "another", "ce_specversion": "1.0"},
	}
	s.setStock("item1", 100)
	for i, header := range headers {
		s.write("OrderPlaced", fmt.Sprintf(`{"specversion":"1.0","id":"e%d","source":"pos","type":"t","data":{"orderId":"order-%[1]d","itemId":"item1","quantity":1}}`, i), header)
	}
	waitFor(t, 40*time.Second, func() error {
		var missing []string
		for i, header := range headers {
			if !strings.Contains(s.inventory[0].Service.Log(), fmt.Sprintf("Processed OrderPlaced event. orderId=order-%d,", i)) {
				missing = append(missing, fmt.Sprintf("%.60v", header))
			}
		}
		if missing == nil {
			return nil
		}
		return fmt.Errorf("not applied: %s", strings.Join(missing, "\n"))
	})
	s.waitForStock("item1", 100-len(headers))
	s.drained("inventory-service")
}

// Libraries for CloudEvents write events in binary mode: the data alone, and the attributes
// as metadata. Each is applied once, by its own ID, and so is its dead letter.
func TestBinaryEventIsAppliedOnce(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	s := startSystem(t, systemOptions{})
	letters := s.startDeadLetters("serve", "OrderPlaced-dead-letter", "OrderPlaced")
	attributes := func(id, contentType string) map[string]string {
		return map[string]string{"ce_specversion": "1.0", "ce_id": id, "ce_source": "/pos/7", "ce_type": "OrderPlaced", "content-type": contentType}
	}
	s.setStock("item1", 100)
	for _, contentType := range []string{"application/json", "application/octet-stream"} {
		for range 3 { // the same event
			s.write("OrderPlaced", `{"orderId":"order-1","itemId":"item1","quantity":10}`, attributes("b1", contentType))
		}
	}
	s.waitForStock("item1", 90)
	s.drained("inventory-service")
	s.waitForStock("item1", 90)
	is.True(strings.Contains(s.inventory[0].Service.Log(), `eventId="b1" Processed OrderPlaced event.`))

	// One that can't be applied becomes a letter, with its ID. It is applied when somebody
	// has mended the record and sends it again, and when it comes by itself it is a duplicate.
	must(t, s.sidecar(s.inventory[0]).SaveState(t.Context(), "statestore", daprhttp.StateItem{Key: "item2", Value: "a dozen"}))
	const order = `{"orderId":"order-2","itemId":"item2","quantity":10}`
	s.write("OrderPlaced", order, attributes("b2", "application/octet-stream"))
	waitFor(t, time.Minute, func() error {
		if a := s.send("GET", letters.URL("/letters"), "", nil); !strings.Contains(a.body, `"eventId":"b2","source":"/pos/7"`) {
			return fmt.Errorf("the letters are %s", a.body)
		}
		return nil
	})
	s.setStock("item2", 100)
	is.Equal(s.send("POST", letters.URL("/letters/all/send"), "", nil).status, http.StatusOK)
	s.waitForStock("item2", 90)
	s.write("OrderPlaced", order, attributes("b2", "application/octet-stream"))
	s.drained("inventory-service")
	s.waitForStock("item2", 90)
}

// A subscription to raw payloads gets messages without an envelope, and with one.
func TestRawPayloadsAreApplied(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{each: func(o *stack.AppOptions) {
		if isInventory(o) {
			o.Env = append(o.Env, "SUBSCRIPTION_METADATA=rawPayload=true")
		}
	}})
	s.setStock("item1", 100)
	s.write("OrderPlaced", `{"orderId":"order-1","itemId":"item1","quantity":10}`, nil)
	s.place("order-2", "item1", 10) // an event
	s.waitForStock("item1", 80)
	s.drained("inventory-service")
}
