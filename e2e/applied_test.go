package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

func promiseOrdersAtTheSameTime(t *testing.T, b stack.Backend) string {
	const orders = 2000
	s := harness.Start(t, harness.Options{Backend: b, Replicas: 3})
	s.SetStock("item1", 10000)
	orderIDs := make([]string, orders)
	harness.InParallel(orders, 32, func(i int) {
		orderIDs[i] = "order-" + strconv.Itoa(i)
		s.Place(orderIDs[i], "item1", 1)
	})
	s.WaitForStock("item1", 10000-orders)
	s.Drained("inventory-service")
	s.WaitForStock("item1", 10000-orders) // no event that was left has moved it
	s.AppliedOnce(t, orderIDs)
	return fmt.Sprintf("%d of %d applied", orders, orders)
}

func promiseEventDeliveredAgain(t *testing.T, b stack.Backend) string {
	const times = 25
	s := harness.Start(t, harness.Options{Backend: b, Replicas: 2})
	s.SetStock("item1", 100)
	event := daprhttp.Message{
		Data: []byte(`{"orderId":"order-1001","itemId":"item1","quantity":10}`),
		ID:   "the same event",
	}
	publish := func() {
		harness.InParallel(times, 5, func(int) { s.Publish(s.Order, "OrderPlaced", event) })
		s.Drained("inventory-service")
		s.WaitForStock("item1", 90)
	}
	publish()
	for _, app := range s.Inventory { // now the replicas know only what is stored
		harness.Must(t, app.Service.Stop(20*time.Second))
		harness.Must(t, app.StartService(t.Context()))
	}
	publish()

	// A delivery to each replica.
	delivery := `{"specversion":"1.0","id":"the same event","source":"` + s.Order.ID + `","type":"OrderPlaced",
		"datacontenttype":"application/json","data":{"orderId":"order-1001","itemId":"item1","quantity":10}}`
	for _, app := range s.Inventory {
		a := s.Send("POST", app.URL("/orders"), delivery, http.Header{"Content-Type": {harness.EventsJSON}})
		if a.Status != 200 || !strings.Contains(a.Body, "already") {
			t.Errorf("POST /orders of an applied event: got %d %s, want 200 and \"already\"", a.Status, a.Body)
		}
	}
	s.WaitForStock("item1", 90)
	return fmt.Sprintf("%d deliveries, applied once", 2*times+len(s.Inventory))
}

// promisePackageOnce runs those tests of package once that can use a sidecar and a real store.
func promisePackageOnce(t *testing.T, b stack.Backend) string {
	s := harness.Start(t, harness.Options{Backend: b})
	tests := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "-run", "/sidecar$", ".")
	tests.Dir = filepath.Join(harness.Project.Root, "daprhttp", "once")
	tests.Env = append(os.Environ(), "ONCE_SIDECAR="+s.Inventory[0].DaprURL(""))
	output, err := tests.CombinedOutput()
	passed := strings.Count(string(output), "/sidecar (")
	if err != nil || !strings.Contains(string(output), "/sidecar") {
		t.Fatalf("the tests of package once over a sidecar: %v\n%s", err, output)
	}
	return fmt.Sprintf("%d tests passed", passed)
}
