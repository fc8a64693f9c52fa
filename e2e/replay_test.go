package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// A caller's sidecar sends a service invocation once, even when the other sidecar dies after
// the app has answered. Without the policy in resiliency.yaml it sends the call again when the
// other sidecar is back, and one order is two events.
func TestServiceInvocationIsSentOnce(t *testing.T) {
	t.Parallel()
	var link *stack.Link // from the order service's sidecar to the service
	s := harness.Start(t, harness.Options{Mesh: true, Each: func(o *stack.AppOptions) {
		if filepath.Base(o.Program) != "order" {
			return
		}
		o.Port = harness.FreePort(t)
		var err error
		link, err = stack.NewLink("127.0.0.1:" + strconv.Itoa(o.Port))
		harness.Must(t, err)
		_, port, _ := strings.Cut(link.Addr(), ":")
		o.SidecarArgs = append(o.SidecarArgs, "--app-port", port)
	}})
	t.Cleanup(func() { link.Close() })
	caller := s.Serve("caller", http.NewServeMux())
	harness.WaitFor(t, time.Minute, func() error {
		if a := s.InvokeFrom(caller, s.Order, "GET", "/healthz", "", "", nil); a.Status != 200 {
			return fmt.Errorf("the caller can't reach the app: %d %s", a.Status, a.Body)
		}
		return nil
	})

	const published = "Published OrderPlaced event."
	link.Set(stack.Weather{CutBack: true}) // the sidecar does not get the answer
	answered := make(chan harness.Answer)
	go func() {
		a, err := s.TrySend("POST", caller.DaprURL("/v1.0/invoke/"+s.Order.ID+"/method/order"), `{"orderId":"order-1","itemId":"item1","quantity":10}`, nil)
		if err != nil {
			t.Error(err)
		}
		answered <- a
	}()
	harness.Said(t, s.Order.Service, published)
	s.Order.Sidecar.Kill()
	link.Set(stack.Weather{})
	harness.Must(t, s.Order.StartSidecar(t.Context()))
	a := <-answered
	if n := strings.Count(s.Order.Service.Log(), published); n != 1 || a.Status != 500 {
		t.Errorf("one call was carried out %d times and answered %d %s, want once and 500", n, a.Status, a.Body)
	}
	s.Drained(s.Inventory[0].ID)
	s.WaitForStock("item1", -10)
}

// In every backend's file the call of each service is sent once, and a delivery is retried
// without end.
func TestResiliencyFilesOfAllBackends(t *testing.T) {
	t.Parallel()
	files := projectFiles(t, "components/*/resiliency.yaml")
	if len(files) != 6 {
		t.Errorf("there are the files %v", files)
	}
	for _, file := range files {
		var resiliency struct {
			Spec struct {
				Policies struct {
					Retries map[string]struct {
						Policy     string
						MaxRetries *int `json:"maxRetries"`
					}
				}
				Targets struct {
					Apps       map[string]struct{ Retry string }
					Components map[string]struct{ Inbound struct{ Retry string } }
				}
			}
		}
		harness.Must(t, yaml.Unmarshal([]byte(harness.Document(t, file)), &resiliency))
		// A sidecar ignores the name of a policy that does not exist.
		check := func(target, policy string, want int) {
			if p := resiliency.Spec.Policies.Retries[policy]; p.MaxRetries == nil || *p.MaxRetries != want || p.Policy != "constant" {
				t.Errorf("%s: %s has the policy %q: %+v, want %d retries", file, target, policy, p, want)
			}
		}
		for _, s := range stack.Services {
			check(s.AppID, resiliency.Spec.Targets.Apps[s.AppID].Retry, 0)
		}
		for _, component := range []string{"pubsub", "pubsub-retry"} {
			if strings.Contains(file, "mqtt") && component == "pubsub-retry" {
				continue // that backend has no retry topic
			}
			check(component, resiliency.Spec.Targets.Components[component].Inbound.Retry, -1)
		}
	}
}
