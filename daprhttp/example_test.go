package daprhttp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/web"
)

// A program that `dapr run` has started finds its sidecar by itself.
func ExampleClientFromEnv() {
	client, err := daprhttp.ClientFromEnv(os.Getenv, 3500)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(client.Endpoint)
	// Output: http://127.0.0.1:3500
}

// The ID makes the event the same however often it is published.
func ExampleClient_Publish() {
	client, stop := sidecar(http.StatusNoContent, "")
	defer stop()
	err := client.Publish(context.Background(), "pubsub", "OrderPlaced", daprhttp.Message{
		Data:     []byte(`{"orderId":"order-1001"}`),
		Metadata: map[string]string{daprhttp.MetadataEventID: "order-1001"},
	})
	fmt.Println(err)
	// Output:
	// POST /v1.0/publish/pubsub/OrderPlaced?metadata.cloudevent.id=order-1001 {"orderId":"order-1001"}
	// <nil>
}

func ExampleClient_BulkPublish() {
	client, stop := sidecar(http.StatusNoContent, "")
	defer stop()
	failed, err := client.BulkPublish(context.Background(), "pubsub", "OrderPlaced", []daprhttp.BulkMessage{
		{EntryID: "1", Message: daprhttp.Message{Data: []byte(`{"orderId":"order-1001"}`)}},
		{EntryID: "2", Message: daprhttp.Message{Data: []byte(`a note`), ContentType: "text/plain"}},
	}, nil)
	fmt.Println(failed, err)
	// Output:
	// POST /v1.0/publish/bulk/pubsub/OrderPlaced [{"entryId":"1","event":{"orderId":"order-1001"},"contentType":"application/json"},{"entryId":"2","event":"a note","contentType":"text/plain"}]
	// [] <nil>
}

func ExampleClient_GetState() {
	client, stop := sidecar(http.StatusOK, `{"quantity":90}`)
	defer stop()
	value, err := client.GetState(context.Background(), "statestore", "item1", daprhttp.GetStateOptions{})
	fmt.Println(string(value.Value), value.ETag, err)
	// Output:
	// GET /v1.0/state/statestore/item1
	// {"quantity":90} 7 <nil>
}

func ExampleClient_GetBulkState() {
	client, stop := sidecar(http.StatusOK, `[{"key":"item1","data":90,"etag":"7"},{"key":"item2"}]`)
	defer stop()
	values, err := client.GetBulkState(context.Background(), "statestore", []string{"item1", "item2"}, daprhttp.GetBulkStateOptions{})
	for _, v := range values {
		fmt.Printf("%s is %q\n", v.Key, v.Value)
	}
	fmt.Println(err)
	// Output:
	// POST /v1.0/state/statestore/bulk {"keys":["item1","item2"]}
	// item1 is "90"
	// item2 is ""
	// <nil>
}

// With the ETag of what was read, a write that somebody else was faster than
// fails, and nobody's change is lost.
func ExampleClient_SaveState() {
	client, stop := sidecar(http.StatusConflict, `{"errorCode":"ERR_STATE_SAVE","message":"possible etag mismatch"}`)
	defer stop()
	err := client.SaveState(context.Background(), "statestore", daprhttp.StateItem{
		Key: "item1", Value: 80, ETag: "7",
		Options: daprhttp.StateOptions{Concurrency: daprhttp.FirstWrite},
	})
	var refused *daprhttp.Error
	if errors.As(err, &refused) {
		fmt.Println(refused.StatusCode, refused.ErrorCode)
	}
	// Output:
	// POST /v1.0/state/statestore [{"key":"item1","value":80,"etag":"7","options":{"concurrency":"first-write"}}]
	// 409 ERR_STATE_SAVE
}

func ExampleClient_DeleteState() {
	client, stop := sidecar(http.StatusNoContent, "")
	defer stop()
	err := client.DeleteState(context.Background(), "statestore", "item1", daprhttp.DeleteStateOptions{ETag: "7"})
	fmt.Println(err)
	// Output:
	// DELETE /v1.0/state/statestore/item1
	// <nil>
}

func ExampleClient_StateTransaction() {
	client, stop := sidecar(http.StatusNoContent, "")
	defer stop()
	err := client.StateTransaction(context.Background(), "statestore", []daprhttp.StateOperation{
		daprhttp.Upsert(daprhttp.StateItem{Key: "item1", Value: 80}),
		daprhttp.Delete("item2", ""),
	}, nil)
	fmt.Println(err)
	// Output:
	// POST /v1.0/state/statestore/transaction {"operations":[{"operation":"upsert","request":{"key":"item1","value":80}},{"operation":"delete","request":{"key":"item2"}}]}
	// <nil>
}

// A whole subscriber: it declares its subscription, handles the events that the
// sidecar delivers, one or many at a time, and says what is to become of each.
func ExampleDeliveryHandler() {
	mux := http.NewServeMux()
	mux.Handle("GET /dapr/subscribe", daprhttp.SubscribeHandler(daprhttp.Subscription{
		PubsubName: "pubsub", Topic: "OrderPlaced", Route: "/orders",
		BulkSubscribe: &daprhttp.BulkSubscribe{Enabled: true, MaxMessagesCount: 100, MaxAwaitDurationMs: 10},
	}))
	deliveries := &daprhttp.DeliveryHandler{
		Handle: func(_ context.Context, events []daprhttp.Event) []daprhttp.Outcome {
			outcomes := make([]daprhttp.Outcome, len(events))
			for i, event := range events {
				var order struct {
					OrderID string `json:"orderId"`
				}
				if err := json.Unmarshal(event.Data, &order); err != nil {
					outcomes[i] = daprhttp.Never(err)
					continue
				}
				fmt.Println("event", event.ID, "from", event.Source, "is", order.OrderID)
				outcomes[i] = daprhttp.Done()
			}
			return outcomes
		},
	}
	mux.Handle("POST /orders", daprhttp.RequireCaller([]string{"my-app"}, deliveries)) // from nobody else
	handler := daprhttp.RequireAppToken(os.Getenv("APP_API_TOKEN"), mux)

	// What a sidecar would do:
	const first = `{"specversion":"1.0","id":"e1","source":"order-service","type":"OrderPlaced","data":{"orderId":"order-1001"}}`
	const second = `{"specversion":"1.0","id":"e2","source":"order-service","type":"OrderPlaced","data":"?"}`
	alone := httptest.NewRequest("POST", "/orders", strings.NewReader(first))
	alone.Header.Set("Content-Type", "application/cloudevents+json")
	bulk := httptest.NewRequest("POST", "/orders", strings.NewReader(
		`{"entries":[{"entryId":"1","event":`+first+`},{"entryId":"2","event":`+second+`}]}`))
	for _, delivery := range []*http.Request{alone, bulk} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, delivery)
		fmt.Print(w.Body)
	}
	// Output:
	// event e1 from order-service is order-1001
	// {"status":"SUCCESS"}
	// event e1 from order-service is order-1001
	// {"statuses":[{"entryId":"1","status":"SUCCESS"},{"entryId":"2","status":"DROP"}]}
}

// sidecar stands in for a sidecar in the examples: it prints the request and
// gives one answer.
func sidecar(status int, answer string) (*daprhttp.Client, func()) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Println(strings.TrimSpace(fmt.Sprintf("%s %s %s", r.Method, r.URL, body)))
		w.Header().Set("ETag", "7")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	return &daprhttp.Client{Endpoint: server.URL}, server.Close
}

func ExampleBulkEntries() {
	// The subscription asks for many events at once.
	http.Handle("GET /dapr/subscribe", daprhttp.SubscribeHandler(daprhttp.Subscription{
		PubsubName: "pubsub", Topic: "OrderPlaced", Route: "/orders",
		BulkSubscribe: &daprhttp.BulkSubscribe{Enabled: true, MaxMessagesCount: 100, MaxAwaitDurationMs: 10},
	}))
	orders := func(w http.ResponseWriter, r *http.Request) {
		var answer daprhttp.BulkResponse
		for entry, err := range daprhttp.BulkEntries(r.Body) {
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			status := daprhttp.StatusRetry
			if event, err := daprhttp.DecodeEvent(entry.Event); err == nil {
				fmt.Printf("event %s: %s\n", event.ID, event.Data)
				status = daprhttp.StatusSuccess
			}
			answer.Statuses = append(answer.Statuses, daprhttp.BulkStatus{EntryID: entry.EntryID, Status: status})
		}
		web.WriteJSON(w, http.StatusOK, answer)
	}

	// What the sidecar sends, and what it is answered.
	w := httptest.NewRecorder()
	orders(w, httptest.NewRequest("POST", "/orders", strings.NewReader(
		`{"entries":[{"entryId":"1","event":{"id":"e1","data":{"quantity":2}}},{"entryId":"2","event":{"id":"e2","data":{"quantity":3}}}]}`)))
	fmt.Println(w.Body)
	// Output:
	// event e1: {"quantity":2}
	// event e2: {"quantity":3}
	// {"statuses":[{"entryId":"1","status":"SUCCESS"},{"entryId":"2","status":"SUCCESS"}]}
}
