package daprhttp_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/daprtest"
)

// Messages with the same ID are the same event.
func ExampleClient_Publish() {
	sidecar := new(daprtest.Sidecar) // in memory
	client := &daprhttp.Client{HTTPClient: sidecar.Client()}
	err := client.Publish(context.Background(), "pubsub", "OrderPlaced", daprhttp.Message{
		Data: []byte(`{"orderId":"order-1001"}`),
		ID:   "order-1001",
	})
	fmt.Println(err)
	for _, m := range sidecar.Published() {
		fmt.Println(m.Topic, m.Metadata, string(m.Data))
	}
	// Output:
	// <nil>
	// OrderPlaced map[cloudevent.id:order-1001] {"orderId":"order-1001"}
}

// With the ETag of the read, the write fails if another writer came first. No change is
// lost.
func ExampleClient_SaveState() {
	sidecar := new(daprtest.Sidecar) // in memory
	client := &daprhttp.Client{HTTPClient: sidecar.Client()}
	sidecar.SetState("statestore", "item1", `90`)
	ctx := context.Background()
	read, err := client.GetState(ctx, "statestore", "item1", daprhttp.GetStateOptions{})
	fmt.Println(string(read.Value), err)
	change := daprhttp.StateItem{Key: "item1", Value: 80, ETag: read.ETag, Options: daprhttp.StateOptions{Concurrency: daprhttp.FirstWrite}}
	fmt.Println(client.SaveState(ctx, "statestore", change))
	var refused *daprhttp.Error
	if errors.As(client.SaveState(ctx, "statestore", change), &refused) {
		fmt.Println(refused.StatusCode, refused.ErrorCode)
	}
	// Output:
	// 90 <nil>
	// <nil>
	// 409 ERR_STATE_SAVE
}

func ExampleClient_StateTransaction() {
	sidecar := new(daprtest.Sidecar) // in memory
	client := &daprhttp.Client{HTTPClient: sidecar.Client()}
	sidecar.SetState("statestore", "item2", `90`)
	ctx := context.Background()
	err := client.StateTransaction(ctx, "statestore", []daprhttp.StateOperation{
		{Operation: "upsert", Request: daprhttp.StateItem{Key: "item1", Value: 80}},
		{Operation: "delete", Request: daprhttp.StateItem{Key: "item2"}},
	}, nil)
	fmt.Println(sidecar.State("statestore"), err)
	values, err := client.GetBulkState(ctx, "statestore", []string{"item1", "item2"}, daprhttp.GetBulkStateOptions{})
	for _, v := range values {
		fmt.Printf("%s is %q\n", v.Key, v.Value)
	}
	fmt.Println(client.DeleteState(ctx, "statestore", daprhttp.StateItem{Key: "item1"}), err)
	// Output:
	// map[item1:80] <nil>
	// item1 is "80"
	// item2 is ""
	// <nil> <nil>
}

// Subscribe declares the subscription and registers its route. The handler returns the
// outcome of each event.
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

	// A sidecar in memory delivers an event:
	sidecar := daprtest.Sidecar{AppID: "my-app", App: program, AppAPIToken: os.Getenv("APP_API_TOKEN")}
	d, err := sidecar.Deliver(context.Background(), daprtest.Message{
		Topic: "OrderPlaced", Data: []byte(`{"orderId":"order-1001"}`),
		Metadata: map[string]string{"cloudevent.id": "e1", "cloudevent.source": "order-service"},
	})
	fmt.Println(d.Status, err)
	// Output:
	// event e1 from order-service is order-1001
	// SUCCESS <nil>
}

// A wrapper around the handler moves the events that the handler drops to a dead-letter topic.
func ExampleDeadLetters() {
	sidecar := new(daprtest.Sidecar) // in memory
	client := &daprhttp.Client{HTTPClient: sidecar.Client()}
	dead, err := daprhttp.DeadLetters(daprhttp.Topic{Sidecar: client, PubsubName: "pubsub", Name: "dead"}, "my-app")
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	err = daprhttp.Subscribe(mux, daprhttp.Subscription{
		PubsubName: "pubsub", Topic: "orders", Route: "orders", DeadLetterTopic: "dead", Wrap: dead,
		Handler: func(context.Context, daprhttp.Event) daprhttp.Outcome { return daprhttp.Drop(errors.New("sold out")) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	sidecar.App = mux
	d, err := sidecar.Deliver(context.Background(), daprtest.Message{
		Topic: "orders", Event: []byte(`{"specversion":"1.0","id":"e1","source":"s","topic":"orders","data":1}`),
	})
	fmt.Print(d.Body)
	for _, m := range sidecar.Published() {
		fmt.Println(m.Topic, string(m.Event), err)
	}
	// Output:
	// {"status":"SUCCESS","error":"sold out"}
	// dead {"specversion":"1.0","id":"e1","source":"s","topic":"orders","data":1,"deadletterreason":"sold out","deadlettertopic":"orders","deadletterapp":"my-app"} <nil>
}
