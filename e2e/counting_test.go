package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/stack"
)

func promiseOrdersAtTheSameTime(t *testing.T, b stack.Backend) string {
	const orders = 2000
	s := startSystem(t, systemOptions{backend: b, replicas: 3})
	s.setStock("item1", 10000)
	inParallel(orders, 32, func(i int) {
		s.place("order-"+strconv.Itoa(i), "item1", 1)
	})
	s.waitForStock("item1", 10000-orders)
	s.drained("inventory-service")
	s.waitForStock("item1", 10000-orders) // and no event that was left has moved it

	// The log has each order once, whichever replica counted it.
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.processed) != orders {
		t.Errorf("%d orders are in the logs, want %d", len(s.processed), orders)
	}
	for orderID, times := range s.processed {
		if len(times) != 1 {
			t.Errorf("%s is in the logs %d times", orderID, len(times))
		}
	}
	return fmt.Sprintf("%d of %d applied", len(s.processed), orders)
}

func promiseEventDeliveredAgain(t *testing.T, b stack.Backend) string {
	const times = 25
	s := startSystem(t, systemOptions{backend: b, replicas: 2})
	s.setStock("item1", 100)
	event := daprhttp.Message{
		Data: []byte(`{"orderId":"order-1001","itemId":"item1","quantity":10}`),
		ID:   "the same event",
	}
	publish := func() {
		inParallel(times, 5, func(int) { s.publish(s.order, "OrderPlaced", event) })
		s.drained("inventory-service")
		s.waitForStock("item1", 90)
	}
	publish()
	for _, app := range s.inventory { // what they know now is only what is stored
		must(t, app.Service.Stop(20*time.Second))
		must(t, app.StartService(t.Context()))
	}
	publish()

	// Straight to both replicas at once, too.
	delivery := `{"specversion":"1.0","id":"the same event","source":"` + s.order.ID + `","type":"OrderPlaced",
		"datacontenttype":"application/json","data":{"orderId":"order-1001","itemId":"item1","quantity":10}}`
	for _, app := range s.inventory {
		a := s.send("POST", app.URL("/orders"), delivery, http.Header{"Content-Type": {"application/cloudevents+json"}})
		if a.status != 200 || !strings.Contains(a.body, "already") {
			t.Errorf("POST /orders of a counted event: got %d %s, want 200 and that it had been processed already", a.status, a.body)
		}
	}
	s.waitForStock("item1", 90)
	return fmt.Sprintf("%d deliveries, applied once", 2*times+len(s.inventory))
}

func TestIdempotencyKeyMakesARepeatedRequestCountOnce(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{})
	s.setStock("item1", 100)
	header := http.Header{"Idempotency-Key": {"a key of the client's, with spaces & ünïcode"}}
	for range 5 {
		a := s.send("POST", s.order.URL("/order"), `{"orderId":"order-1001","itemId":"item1","quantity":10}`, header)
		if a.status != 200 {
			t.Fatalf("POST /order: got %d %s, want 200", a.status, a.body)
		}
	}
	// Another client's order, under the same key by chance, counts too, and once.
	for range 2 {
		a := s.send("POST", s.order.URL("/order"), `{"orderId":"order-2001","itemId":"item1","quantity":20}`, header)
		if a.status != 200 {
			t.Fatalf("POST /order: got %d %s, want 200", a.status, a.body)
		}
	}
	s.place("order-1001", "item1", 1) // no key: an event of its own, though the order's ID is the same
	s.drained("inventory-service")
	s.waitForStock("item1", 69)
}

func TestNothingIsLostWhileTheStateStoreIsAway(t *testing.T) {
	t.Parallel()
	needsOwnRedis(t)
	const orders = 200
	s := startSystem(t, systemOptions{replicas: 2, separateState: true})
	s.setStock("item1", 1000)
	s.State.Kill()
	inParallel(orders, 8, func(i int) { s.place("order-"+strconv.Itoa(i), "item1", 1) })

	// Every replica has been refused a delivery, so that each has met the fault.
	waitFor(t, time.Minute, func() error {
		for _, app := range s.inventory {
			if !strings.Contains(app.Service.Log(), "Failed to process OrderPlaced event") {
				return fmt.Errorf("a replica has not noticed that the state store is away")
			}
		}
		return nil
	})
	if a := s.send("GET", s.inventory[0].URL("/inventory/item1"), "", nil); a.status != 500 || !strings.Contains(a.body, `"error"`) {
		t.Errorf("GET /inventory/item1 without a state store: got %d %s, want 500 and an error", a.status, a.body)
	}
	must(t, s.State.Restart(t.Context()))
	s.waitForStock("item1", 1000-orders)
	s.drained("inventory-service")
	s.waitForStock("item1", 1000-orders)
}

func TestUnusableEventGoesToTheDeadLetterTopic(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{admit: "dead-letter-reader=OrderPlaced-dead-letter"})
	s.setStock("item1", 100)
	dead := s.subscribe("dead-letter-reader", "OrderPlaced-dead-letter")
	for _, data := range []string{`{"orderId":"bad-1"}`, `not JSON`, `{"orderId":"bad-2","itemId":"item1","quantity":-1}`} {
		s.publish(s.order, "OrderPlaced", daprhttp.Message{Data: []byte(data)})
		s.place("good", "item1", 1)
	}
	s.waitForStock("item1", 97)
	waitFor(t, time.Minute, func() error {
		if n := len(dead.events()); n < 3 {
			return fmt.Errorf("the dead-letter topic has %d events, want 3", n)
		}
		return nil
	})
	s.drained("inventory-service")
	if n := len(dead.events()); n != 3 { // one for each
		t.Errorf("the dead-letter topic has %d events, want 3", n)
	}
}

func TestSecondSubscriberReceivesEveryEvent(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	const orders = 50
	s := startSystem(t, systemOptions{admit: "audit-service=OrderPlaced"})
	s.setStock("item1", 100)
	audit := s.subscribe("audit-service", "OrderPlaced")
	want := make(map[string]bool)
	for i := range orders {
		id := "order-" + strconv.Itoa(i)
		want[id] = true
		s.place(id, "item1", 1)
	}
	s.waitForStock("item1", 50) // the first subscriber has missed nothing either
	s.drained("audit-service")
	got := make(map[string]bool)
	for _, event := range audit.events() {
		var order struct{ OrderID string }
		is.NoErr(json.Unmarshal(event.Data, &order))
		is.Equal(event.Source, "order-service")
		is.Equal(event.Type, "OrderPlaced")
		got[order.OrderID] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("orders received (-want +got):\n%s", diff)
	}
}

// promiseCountingProtocol runs the tests of package once, which know a store
// in memory, over a sidecar and a real store.
func promiseCountingProtocol(t *testing.T, b stack.Backend) string {
	s := startSystem(t, systemOptions{backend: b})
	tests := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "-run", "/sidecar$", ".")
	tests.Dir = filepath.Join(project.Root, "daprhttp", "once")
	tests.Env = append(os.Environ(), "ONCE_SIDECAR="+s.inventory[0].DaprURL(""))
	output, err := tests.CombinedOutput()
	passed := strings.Count(string(output), "/sidecar (")
	if err != nil || !strings.Contains(string(output), "/sidecar") {
		t.Fatalf("the tests of package once over a sidecar: %v\n%s", err, output)
	}
	return fmt.Sprintf("%d tests passed", passed)
}
