package daprtest_test

import (
	"context"
	"fmt"
	"net/http"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/daprtest"
)

// A program that greets whoever it hears of: the test delivers an event to it, and looks
// at what it has saved and published.
func Example() {
	sidecar := new(daprtest.Sidecar)
	client := &daprhttp.Client{HTTPClient: sidecar.Client()}
	program := http.NewServeMux()
	err := daprhttp.Subscribe(program, daprhttp.Subscription{
		PubsubName: "pubsub", Topic: "names", Route: "names", DeadLetterTopic: "nobody",
		Handler: func(ctx context.Context, e daprhttp.Event) daprhttp.Outcome {
			if string(e.Data) == `""` {
				return daprhttp.Drop(nil)
			}
			if err := client.SaveState(ctx, "statestore", daprhttp.StateItem{Key: "last", Value: string(e.Data)}); err != nil {
				return daprhttp.Retry(err)
			}
			return daprhttp.Success()
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	sidecar.App = program
	ctx := context.Background()
	for _, name := range []string{`"Ada"`, `""`} {
		delivery, err := sidecar.Deliver(ctx, daprtest.Message{Topic: "names", Data: []byte(name)})
		fmt.Println(delivery.Status, delivery.Answers, err)
	}
	fmt.Println(sidecar.State("statestore"))
	for _, m := range sidecar.Published() {
		fmt.Println("published to", m.Topic)
	}

	sidecar.Fault = func(r daprtest.Request) daprtest.Fault {
		if r.Method == "POST" {
			return daprtest.Refusal(500, "ERR_STATE_SAVE", "the store is away")
		}
		return daprtest.Fault{}
	}
	delivery, err := sidecar.Deliver(ctx, daprtest.Message{Topic: "names", Data: []byte(`"Bob"`)})
	fmt.Println(delivery.Status, delivery.DeadLetterTopic, err)
	// Output:
	// SUCCESS [{200 {"status":"SUCCESS"}
	// }] <nil>
	// DROP [{200 {"status":"DROP"}
	// }] <nil>
	// map[last:"\"Ada\""]
	// published to nobody
	// RETRY nobody <nil>
}
