package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// On Kubernetes, sidecars prove who they are. Here they do so with certificates of the same
// authority, and they have the Configurations of the Kubernetes files.
func TestConfigurationsForKubernetesKeepStrangersOut(t *testing.T) {
	t.Parallel()
	sentry, err := stack.Sentry(t.Context(), harness.Project.Root, os.Stderr)
	harness.Must(t, err)
	dir := t.TempDir()
	for document := range strings.SplitSeq(harness.Document(t, kubernetesFolder+"configurations.yaml"), "\n---\n") {
		name := regexp.MustCompile(`(?m)^  name: (.*)$`).FindStringSubmatch(document)[1]
		harness.Must(t, os.WriteFile(filepath.Join(dir, name), []byte(document), 0o644))
	}
	s := harness.Start(t, harness.Options{
		Mesh:   true,
		Sentry: sentry,
		Tokens: true,
		Each: func(o *stack.AppOptions) {
			o.Config = filepath.Join(dir, stack.Order.AppID)
			if harness.IsInventory(o) {
				o.Config = filepath.Join(dir, stack.Inventory.AppID)
			}
		},
	})
	inventory := s.Inventory[0]
	s.SetStock("item1", 100)
	stranger := s.Serve("stranger", http.NewServeMux())

	// Any app may place an order.
	harness.WaitFor(t, time.Minute, func() error {
		a := s.InvokeFrom(stranger, s.Order, "POST", "/order", harness.PlainJSON, `{"orderId":"order-1001","itemId":"item1","quantity":10}`, nil)
		if a.Status != 200 {
			return fmt.Errorf("a stranger who places an order gets %d %s", a.Status, a.Body)
		}
		return nil
	})
	s.WaitForStock("item1", 90)

	// TestStrangersInTheMeshAreDenied has more requests. Here certificates tell the sidecar who calls.
	event := `{"specversion":"1.0","id":"forged","source":"order-service","type":"OrderPlaced",` +
		`"data":{"orderId":"forged","itemId":"item1","quantity":50}}`
	for caller, from := range map[string]*stack.App{"a stranger": stranger, "the order service": s.Order} {
		for path, body := range map[string]string{"/orders": event, "/inventory/item1": `{"quantity":1}`} {
			for _, header := range harness.Disguises(inventory) {
				a := s.InvokeFrom(from, inventory, "POST", path, harness.EventsJSON, body, header)
				if a.Status == 200 || !strings.Contains(a.Body, "access control policy has denied access") {
					t.Errorf("%s sends POST %s with %v: got %d %s, want the sidecar to deny it", caller, path, header, a.Status, a.Body)
				}
			}
		}
	}
	if a := s.InvokeFrom(inventory, inventory, "GET", "/inventory/item1", "", "", nil); a.Status != 200 || !strings.Contains(a.Body, "90") {
		t.Errorf("the service's own sidecar reads the stock: got %d %s", a.Status, a.Body)
	}
}

// A replica that has to end answers the requests that it still gets: its sidecar works until
// the app has ended.
func TestSidecarOnKubernetesPublishesUntilTheAppHasEnded(t *testing.T) {
	t.Parallel()
	block := regexp.MustCompile(`block-shutdown-duration: "(.*)"`).FindStringSubmatch(harness.Document(t, kubernetesFolder+"order.yaml"))[1]
	s := harness.Start(t, harness.Options{Each: func(o *stack.AppOptions) {
		if !harness.IsInventory(o) {
			o.SidecarArgs = append(o.SidecarArgs, "--log-level", "info", "--dapr-block-shutdown-duration", block)
		}
	}})
	s.SetStock("item1", 100)
	ended := make(chan error, 1)
	go func() { ended <- s.Order.Sidecar.Stop(time.Minute) }()
	harness.Said(t, s.Order.Sidecar, "Blocking graceful shutdown for "+block)
	s.Place("order-1001", "item1", 10)
	s.WaitForStock("item1", 90)
	s.Order.Sidecar.Kill() // sooner than by itself
	harness.Must(t, <-ended)
}
