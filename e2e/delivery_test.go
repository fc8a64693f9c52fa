package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// write writes a message into the broker, as a program without a sidecar does.
func write(s *harness.System, topic, body string, metadata map[string]string) {
	s.T.Helper()
	text, err := json.Marshal(metadata)
	harness.Must(s.T, err)
	harness.Must(s.T, s.Redis().Client().XAdd(s.T.Context(), &redis.XAddArgs{
		Stream: topic, Values: map[string]any{"data": body, "metadata": string(text)},
	}).Err())
}

// The metadata of a message becomes headers of its delivery. No header keeps the order from
// being applied.
func TestHeadersOfAPublisherRefuseNoDelivery(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{Tokens: true})
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
	s.SetStock("item1", 100)
	for i, header := range headers {
		write(s, "OrderPlaced", fmt.Sprintf(`{"specversion":"1.0","id":"e%d","source":"pos","type":"t","data":{"orderId":"order-%[1]d","itemId":"item1","quantity":1}}`, i), header)
	}
	for i := range headers {
		harness.Said(t, s.Inventory[0].Service, fmt.Sprintf("Processed OrderPlaced event. orderId=order-%d,", i))
	}
	s.WaitForStock("item1", 100-len(headers))
	s.Drained("inventory-service")
}

// Libraries for CloudEvents write events in binary mode: the data alone, and the attributes
// as metadata. Each event is applied once, by its own ID.
func TestBinaryEventIsAppliedOnce(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{})
	s.SetStock("item1", 100)
	for _, contentType := range []string{"application/json", "application/octet-stream"} {
		for range 3 { // the same event
			write(s, "OrderPlaced", `{"orderId":"order-1","itemId":"item1","quantity":10}`, map[string]string{
				"ce_specversion": "1.0", "ce_id": "b1", "ce_source": "/pos/7", "ce_type": "OrderPlaced", "content-type": contentType,
			})
		}
	}
	s.Drained("inventory-service")
	s.WaitForStock("item1", 90)
	harness.Said(t, s.Inventory[0].Service, `eventId="b1" Processed OrderPlaced event.`)
}

// A subscription to raw payloads applies messages with an envelope and without.
func TestRawPayloadsAreApplied(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{Each: func(o *stack.AppOptions) {
		if harness.IsInventory(o) {
			o.Env = append(o.Env, "SUBSCRIPTION_METADATA=rawPayload=true")
		}
	}})
	s.SetStock("item1", 100)
	write(s, "OrderPlaced", `{"orderId":"order-1","itemId":"item1","quantity":10}`, nil)
	s.Place("order-2", "item1", 10) // an event
	s.WaitForStock("item1", 80)
	s.Drained("inventory-service")
}
