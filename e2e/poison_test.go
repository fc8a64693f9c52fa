package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// Each event that can never be applied moves to the dead-letter topic at once, as one letter.
// The orders between such events are applied.
func promisePoison(t *testing.T, b stack.Backend) string {
	is := is.New(t)
	s := harness.Start(t, harness.Options{Backend: b, Replicas: 2})
	s.SetStock("item1", 100)
	harness.Must(t, s.Sidecar(s.Inventory[0]).SaveState(t.Context(), "statestore", daprhttp.StateItem{Key: "broken", Value: "a dozen"}))

	raw := map[string]string{daprhttp.MetadataRawPayload: "true"}
	const asEvent = "application/cloudevents+json"
	poison := map[string]daprhttp.Message{
		"malformed JSON":             {Data: []byte(`{"orderId":`)},
		"an empty body":              {Data: []byte(``)},
		"no object":                  {Data: []byte(`[1,2,3]`)},
		"no item":                    {Data: []byte(`{"orderId":"p","quantity":1}`)},
		"no quantity":                {Data: []byte(`{"orderId":"p","itemId":"item1"}`)},
		"a quantity that is text":    {Data: []byte(`{"orderId":"p","itemId":"item1","quantity":"1"}`)},
		"a negative quantity":        {Data: []byte(`{"orderId":"p","itemId":"item1","quantity":-1}`)},
		"a quantity too large":       {Data: []byte(`{"orderId":"p","itemId":"item1","quantity":9007199254740993}`)},
		"an invalid item":            {Data: []byte(`{"orderId":"p","itemId":"a||b","quantity":1}`)},
		"text":                       {Data: []byte(`an order, please`), ContentType: "text/plain"},
		"bytes":                      {Data: []byte{0, 1, 2, 255}, ContentType: "application/octet-stream"},
		"one with too long a letter": {Data: []byte(`{"orderId":"p","itemId":"item1","quantity":1,"note":"` + strings.Repeat("x", 4<<20-100) + `"}`)},
		"a huge one":                 {Data: []byte(`{"orderId":"p","itemId":"item1","quantity":1,"note":"` + strings.Repeat("x", 2<<20) + `"}`)},
		"an envelope without id":     {Data: []byte(`{"specversion":"1.0","source":"s","type":"t","data":{"orderId":"p","itemId":"item1","quantity":1}}`), ContentType: asEvent},
		"an envelope without data":   {Data: []byte(`{"specversion":"1.0","id":"p1","source":"s","type":"t"}`), ContentType: asEvent},
		"an envelope with two data":  {Data: []byte(`{"specversion":"1.0","id":"p2","source":"s","type":"t","data":{},"data_base64":"e30="}`), ContentType: asEvent},
		"raw, no envelope":           {Data: []byte(`{"orderId":"p","itemId":"item1","quantity":1}`), Metadata: raw},
		"raw, no JSON":               {Data: []byte("\x00\xff no JSON"), Metadata: raw},
		"an item whose record broke": {Data: []byte(`{"orderId":"p","itemId":"broken","quantity":1}`)},
	}
	startKeeper := func() *stack.App { return s.StartDeadLetters("serve", harness.DeadLetterTopic, "OrderPlaced") }
	var keeper *stack.App
	if b.Forgets { // otherwise the keeper starts when the letters are there
		keeper = startKeeper()
	}
	good := 0
	for name, m := range poison {
		if err := s.Sidecar(s.Order).Publish(t.Context(), "pubsub", "OrderPlaced", m); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		good++
		s.Place(fmt.Sprint("good-", good), "item1", 1)
		s.WaitForStock("item1", 100-good) // no invalid event delays the next order
	}
	s.Drained("inventory-service")
	// Each event becomes one letter. The sidecar itself publishes the letter of the event that
	// is not JSON, the service publishes the other letters.
	publishes, receivers := 1, 1
	if slices.Contains(b.Env, "PUBLISH_TWICE=true") {
		publishes = 2
	}
	if b.Forgets { // without consumer groups, each replica gets every event
		receivers = 2
	}
	is.Equal(s.DeadLetters(), receivers*(publishes*(len(poison)-1)+1))
	if keeper == nil {
		keeper = startKeeper()
	}
	s.DrainedOf(harness.DeadLetterTopic, "dead-letters")
	letters := s.Metrics(keeper.URL("/metrics"))["dead_letters"]
	is.Equal(letters, fmt.Sprint(len(poison)))
	for _, app := range s.Inventory {
		is.True(!strings.Contains(app.Service.Log(), "an order, please")) // no log has the body of an event
		is.True(!strings.Contains(app.Service.Log(), "xxxx"))
	}
	return fmt.Sprintf("%s of %d", letters, len(poison))
}
