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
		Data: []byte(`{"orderId":"order-1001"}`),
		ID:   "order-1001",
	})
	fmt.Println(err)
	// Output:
	// POST /v1.0/publish/pubsub/OrderPlaced?metadata.cloudevent.id=order-1001 {"orderId":"order-1001"}
	// <nil>
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
	err := client.DeleteState(context.Background(), "statestore", daprhttp.StateItem{Key: "item1", ETag: "7"})
	fmt.Println(err)
	// Output:
	// DELETE /v1.0/state/statestore/item1
	// <nil>
}

func ExampleClient_StateTransaction() {
	client, stop := sidecar(http.StatusNoContent, "")
	defer stop()
	err := client.StateTransaction(context.Background(), "statestore", []daprhttp.StateOperation{
		{Operation: "upsert", Request: daprhttp.StateItem{Key: "item1", Value: 80}},
		{Operation: "delete", Request: daprhttp.StateItem{Key: "item2"}},
	}, nil)
	fmt.Println(err)
	// Output:
	// POST /v1.0/state/statestore/transaction {"operations":[{"operation":"upsert","request":{"key":"item1","value":80}},{"operation":"delete","request":{"key":"item2"}}]}
	// <nil>
}

// A whole subscriber: Subscribe declares the subscription and registers its route, and the
// handler says what becomes of each event.
func ExampleSubscribe() {
	mux := http.NewServeMux()
	err := daprhttp.Subscribe(mux, daprhttp.Subscription{
		PubsubName: "pubsub", Topic: "OrderPlaced", Route: "orders",
		Handler: func(_ context.Context, e daprhttp.Event) daprhttp.Outcome {
			var order struct {
				OrderID string `json:"orderId"`
			}
			if err := json.Unmarshal(e.Data, &order); err != nil {
				return daprhttp.Drop(err)
			}
			fmt.Println("event", e.ID, "from", e.Source, "is", order.OrderID)
			return daprhttp.Success()
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	program := daprhttp.RequireAppToken(os.Getenv("APP_API_TOKEN"), mux)

	// What a sidecar does:
	fmt.Print(request(program, "GET", "/dapr/subscribe", ""))
	fmt.Print(request(program, "POST", "/orders", `{"specversion":"1.0","id":"e1","source":"order-service","type":"OrderPlaced","data":{"orderId":"order-1001"}}`))
	fmt.Print(request(program, "POST", "/orders", `{"specversion":"1.0","id":"e2","source":"order-service","type":"OrderPlaced","data":"?"}`))
	// Output:
	// [{"pubsubname":"pubsub","topic":"OrderPlaced","route":"orders"}]
	// event e1 from order-service is order-1001
	// {"status":"SUCCESS"}
	// {"status":"DROP","error":"json: cannot unmarshal string into Go value of type struct { OrderID string \"json:\\\"orderId\\\"\" }"}
}

// Dead letters and a retry topic are wrappers around the handler.
func ExampleDeadLetters() {
	client, stop := sidecar(http.StatusNoContent, "")
	defer stop()
	dead, err := daprhttp.DeadLetters(daprhttp.Topic{Sidecar: client, PubsubName: "pubsub", Name: "dead"}, "my-app")
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	err = daprhttp.Subscribe(mux, daprhttp.Subscription{
		PubsubName: "pubsub", Topic: "orders", Route: "orders", Wrap: dead,
		Handler: func(context.Context, daprhttp.Event) daprhttp.Outcome { return daprhttp.Drop(errors.New("sold out")) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(request(mux, "POST", "/orders", `{"specversion":"1.0","id":"e1","source":"s","topic":"orders","data":1}`))
	// Output:
	// POST /v1.0/publish/pubsub/dead?metadata.rawPayload=true {"specversion":"1.0","id":"e1","source":"s","topic":"orders","data":1,"deadletterreason":"sold out","deadlettertopic":"orders","deadletterapp":"my-app"}
	// {"status":"SUCCESS","error":"sold out"}
}

// request sends a program a request as a sidecar does, and returns the answer.
func request(program http.Handler, method, path, body string) string {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/cloudevents+json")
	w := httptest.NewRecorder()
	program.ServeHTTP(w, r)
	return w.Body.String()
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
