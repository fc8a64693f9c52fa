package daprtest_test

import (
	"context"
	"fmt"
	"net/http"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/daprtest"
)

// The sidecar delivers events to a program that saves the last name. The test looks at the
// answers, the state and the published messages, and then lets the store fail.
func Example() {
	sidecar := new(daprtest.Sidecar)
	client := &daprhttp.Client{HTTPClient: sidecar.Client()}
	program := http.NewServeMux()
	err := daprhttp.Subscribe(program, daprhttp.Subscription{
		PubsubName: "pubsub", Topic: "names", Route: "names", DeadLetterTopic: "unnamed",
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
	deliver := func(name string) {
		d, err := sidecar.Deliver(context.Background(), daprtest.Message{Topic: "names", Data: []byte(name)})
		fmt.Println(d.Status, d.HTTPStatus, err)
	}

	deliver(`"Ada"`)
	fmt.Println(sidecar.State("statestore"))
	deliver(`""`)
	fmt.Println("published to", sidecar.Published()[0].Topic)

	sidecar.Fault = func(daprtest.Request) daprtest.Fault {
		return daprtest.Refusal(500, "ERR_STATE_SAVE", "the store is away")
	}
	deliver(`"Bob"`)
	// Output:
	// SUCCESS 200 <nil>
	// map[last:"\"Ada\""]
	// DROP 200 <nil>
	// published to unnamed
	// RETRY 500 <nil>
}
