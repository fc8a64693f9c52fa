package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp"
)

const deadLetterTopic = "OrderPlaced-dead-letter"

// deadLetters returns how many events the dead-letter topic has.
func (s *system) deadLetters() int {
	s.t.Helper()
	n, err := s.broker.Len(deadLetterTopic, "dead-letters")
	must(s.t, err)
	return n
}

// What can never be counted goes to the dead-letter topic, once each and at once,
// and the orders between are counted.
func TestPromisePoisonGoesToTheDeadLetterTopicOnceEach(t *testing.T) {
	t.Parallel()
	poison.prove(t, testPoison)
}

func testPoison(t *testing.T, b backend) string {
	is := is.New(t)
	s := startSystem(t, systemOptions{backend: b, replicas: 2})
	s.setStock("item1", 100)
	must(t, s.sidecar(s.inventory[0]).SaveState(t.Context(), "statestore", daprhttp.StateItem{Key: "broken", Value: "a dozen"}))

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
		"a quantity beyond all":      {Data: []byte(`{"orderId":"p","itemId":"item1","quantity":9007199254740993}`)},
		"an item that can't be":      {Data: []byte(`{"orderId":"p","itemId":"a||b","quantity":1}`)},
		"text":                       {Data: []byte(`an order, please`), ContentType: "text/plain"},
		"bytes":                      {Data: []byte{0, 1, 2, 255}, ContentType: "application/octet-stream"},
		"a huge one":                 {Data: []byte(`{"orderId":"p","itemId":"item1","quantity":1,"note":"` + strings.Repeat("x", 2<<20) + `"}`)},
		"an envelope without id":     {Data: []byte(`{"specversion":"1.0","source":"s","type":"t","data":{"orderId":"p","itemId":"item1","quantity":1}}`), ContentType: asEvent},
		"an envelope without data":   {Data: []byte(`{"specversion":"1.0","id":"p1","source":"s","type":"t"}`), ContentType: asEvent},
		"an envelope of two data":    {Data: []byte(`{"specversion":"1.0","id":"p2","source":"s","type":"t","data":{},"data_base64":"e30="}`), ContentType: asEvent},
		"raw, no envelope":           {Data: []byte(`{"orderId":"p","itemId":"item1","quantity":1}`), Metadata: raw},
		"raw, no JSON":               {Data: []byte("\x00\xff no JSON"), Metadata: raw},
		"an item whose record broke": {Data: []byte(`{"orderId":"p","itemId":"broken","quantity":1}`)},
	}
	good := 0
	for name, m := range poison {
		if err := s.sidecar(s.order).Publish(t.Context(), "pubsub", "OrderPlaced", m); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		good++
		s.place(fmt.Sprint("good-", good), "item1", 1)
		s.waitForStock("item1", 100-good) // one by one: nothing is held up by what came before it
	}
	s.drained("inventory-service")
	is.Equal(s.deadLetters(), len(poison))
	for _, app := range s.inventory {
		is.True(!strings.Contains(app.Service.Log(), "an order, please")) // no event's body in a log
		is.True(!strings.Contains(app.Service.Log(), "xxxx"))
	}
	return fmt.Sprintf("%d of %d", s.deadLetters(), len(poison))
}

// TestReadmeDeadLetters types the README's commands for dead letters: it looks at
// one, mends what was wrong, and sends it again.
func TestReadmeDeadLetters(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	if _, err := exec.LookPath("redis-cli"); err != nil {
		t.Fatal("the README's commands need redis-cli, which comes with Redis")
	}
	s := startSystem(t, systemOptions{})
	// An order that can't be counted because somebody has broken the record.
	must(t, s.sidecar(s.inventory[0]).SaveState(t.Context(), "statestore", daprhttp.StateItem{Key: "item1", Value: "a dozen"}))
	s.place("order-1001", "item1", 10)
	waitFor(t, time.Minute, func() error {
		if n := s.deadLetters(); n != 1 {
			return fmt.Errorf("the dead-letter topic has %d events, want 1", n)
		}
		return nil
	})

	_, port, _ := strings.Cut(s.redis().Addr, ":")
	ours := strings.NewReplacer(
		"redis-cli ", fmt.Sprintf("redis-cli -p %s -n %d ", port, s.redis().DB),
		"localhost:3501", fmt.Sprintf("localhost:%d", s.order.DaprPort),
	)
	dir := t.TempDir()
	commands := strings.Split(strings.TrimSpace(strings.Join(blocks(t, "shell"), "")), "\n")
	if len(commands) != 4 {
		t.Fatalf("the README has %d commands for dead letters: look, take, send again, delete are 4", len(commands))
	}
	var output []string
	for i, command := range commands {
		if i == 2 {
			s.setStock("item1", 100) // the mending: the record is put right
		}
		shell := exec.CommandContext(t.Context(), "bash", "-ec", ours.Replace(command))
		shell.Dir = dir
		text, err := shell.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, text)
		}
		output = append(output, string(text))
	}
	is.True(strings.Contains(output[0], "order-1001")) // a person sees what it is
	event, err := os.ReadFile(dir + "/event.json")
	must(t, err)
	decoded, err := daprhttp.DecodeEvent(event)
	must(t, err)
	is.Equal(decoded.Source, "order-service")
	s.waitForStock("item1", 90)
	s.drained("inventory-service")
	is.Equal(s.deadLetters(), 0)

	// Sent again once more by mistake, it still counts once.
	must(t, s.sidecar(s.order).Publish(t.Context(), "pubsub", "OrderPlaced", daprhttp.Message{Data: event, ContentType: "application/cloudevents+json"}))
	s.drained("inventory-service")
	s.waitForStock("item1", 90)
}
