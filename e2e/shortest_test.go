package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// shortest is the page about the README's two programs, which use net/http alone.
const shortest = "inventory/shortest.md"

// TestShortestVersion runs the README's two programs with the commands of the page. Then it shows
// on real sidecars that they lose what the page says, and that the services do not.
func TestShortestVersion(t *testing.T) {
	t.Parallel()
	programs := shortestPrograms(t)
	t.Run("works", func(t *testing.T) {
		s := startKillable(t)
		s.replaceBy(programs)
		shown := harness.LinesOf(t, shortest, "text")
		if len(shown) != 4 {
			t.Fatalf("the page shows %d answers", len(shown))
		}
		answers := []string{"", shown[0], shown[1], "", shown[2], "", shown[3]} // the sidecar says nothing to a save or an event
		s.TypeBash(shortest, answers)
		harness.Said(t, s.Inventory[0].Service, "Processed OrderPlaced event. orderId=order-1001, itemId=item1, ordered=10, remaining=90\n")
	})
	losses := []struct {
		name string // in the page's table
		lost func(s *killable) (applied, accepted int)
		more bool // whether the shortest version applies more orders than were accepted, or fewer
	}{
		{"1000 orders for one item from 16 clients", (*killable).manyAtOnce, false},
		{"one event delivered twice", (*killable).deliveredTwice, true},
		{"one order whose program is killed after the save and before its answer", (*killable).killedAfterSave, true},
	}
	for _, loss := range losses {
		t.Run(loss.name, func(t *testing.T) {
			s := startKillable(t)
			applied, accepted := loss.lost(s)
			t.Logf("| %s | the services | %d of %d |", loss.name, applied, accepted)
			if applied != accepted {
				t.Errorf("the services applied %d of %d orders", applied, accepted)
			}
			s = startKillable(t)
			s.replaceBy(programs)
			applied, accepted = loss.lost(s)
			t.Logf("| %s | the shortest version | %d of %d |", loss.name, applied, accepted)
			if applied == accepted || (applied > accepted) != loss.more {
				t.Errorf("the shortest version applied %d of %d orders: the page says otherwise", applied, accepted)
			}
			if !strings.Contains(harness.Document(t, shortest), "| "+loss.name+" |") {
				t.Error("the page does not have this")
			}
		})
	}
}

// shortestPrograms returns the README's two programs, the publisher first.
func shortestPrograms(t *testing.T) (sources []string) {
	t.Helper()
	sources = harness.Blocks(t, "README.md", "go")
	if len(sources) != 2 {
		t.Fatalf("the README has %d Go programs, want 2", len(sources))
	}
	return sources
}

// A killable is a system whose inventory service, or the program in its place, can be killed
// as soon as it has saved.
type killable struct {
	*harness.System
	toSidecar *httptest.Server // between the program and its sidecar
	armed     atomic.Bool
	killed    chan struct{}
	restart   func() // the program that was killed
}

func startKillable(t *testing.T) *killable {
	t.Helper()
	c := &killable{killed: make(chan struct{})}
	daprPort := harness.FreePort(t)
	sidecar, err := url.Parse(fmt.Sprint("http://127.0.0.1:", daprPort))
	harness.Must(t, err)
	proxy := httputil.NewSingleHostReverseProxy(sidecar)
	proxy.ModifyResponse = func(answer *http.Response) error {
		saved := answer.Request.Method == "POST" && answer.StatusCode == http.StatusNoContent
		if !saved || !c.armed.CompareAndSwap(true, false) {
			return nil
		}
		c.Inventory[0].Service.Kill()
		close(c.killed)
		return errors.New("there is no program left to answer")
	}
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	c.toSidecar = httptest.NewServer(proxy)
	t.Cleanup(c.toSidecar.Close)
	c.System = harness.Start(t, harness.Options{Each: func(o *stack.AppOptions) {
		if harness.IsInventory(o) {
			o.DaprPort, o.Env = daprPort, append(o.Env, "DAPR_HTTP_ENDPOINT="+c.toSidecar.URL)
		}
	}})
	c.restart = func() { harness.Must(t, c.Inventory[0].StartService(t.Context())) }
	return c
}

// replaceBy puts programs in the place of the services, with sidecars of their own.
func (c *killable) replaceBy(sources []string) {
	c.T.Helper()
	replace := func(app *stack.App, s stack.Service, source, sidecar string) (program string, with *stack.App) {
		harness.Must(c.T, app.Stop())
		program = buildAlone(c.T, strings.NewReplacer(
			fmt.Sprintf("http://localhost:%d/", s.DaprPort), sidecar+"/",
			fmt.Sprintf("localhost:%d", s.Port), fmt.Sprint("localhost:", app.Port),
		).Replace(source))
		return program, c.StartGuest(harness.Guest{AppID: app.ID, Port: app.Port, DaprPort: app.DaprPort}, "", program)
	}
	_, c.Order = replace(c.Order, stack.Order, sources[0], c.Order.DaprURL(""))
	program, inventory := replace(c.Inventory[0], stack.Inventory, sources[1], c.toSidecar.URL)
	c.Inventory[0] = inventory
	c.restart = func() { inventory.Service = harness.StartProgram(c.T, inventory.ID, "", program) }
}

// buildAlone builds a program from one file, outside any module.
func buildAlone(t *testing.T, source string) (program string) {
	t.Helper()
	dir := t.TempDir()
	harness.Must(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o644))
	build := exec.CommandContext(t.Context(), "sh", "-ec", `test -z "$(gofmt -l .)" && go vet main.go && go build -o program main.go`)
	build.Dir = dir
	build.Env = append(os.Environ(), "GOWORK=off", "GOPROXY=off")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("it can't be built: %v\n%s\n%s", err, output, source)
	}
	return filepath.Join(dir, "program")
}

// stocked puts pieces of item1 into stock, through the state API.
func (c *killable) stocked(pieces int) {
	c.T.Helper()
	harness.Must(c.T, c.Sidecar(c.Inventory[0]).SaveState(c.T.Context(), "statestore", daprhttp.StateItem{Key: "item1", Value: pieces}))
}

// left returns the pieces of item1 that are in stock when every event was handled. The
// services keep more than a number.
func (c *killable) left() (pieces int) {
	c.T.Helper()
	c.Drained(c.Inventory[0].ID)
	v, err := c.Sidecar(c.Inventory[0]).GetState(c.T.Context(), "statestore", "item1", daprhttp.GetStateOptions{})
	harness.Must(c.T, err)
	var record struct{ Value int }
	if json.Unmarshal(v.Value, &record) == nil {
		return record.Value
	}
	harness.Must(c.T, json.Unmarshal(v.Value, &pieces))
	return pieces
}

func (c *killable) manyAtOnce() (applied, accepted int) {
	const orders = 1000
	c.stocked(orders)
	harness.InParallel(orders, 16, func(i int) { c.Place(fmt.Sprint("order-", i), "item1", 1) })
	return orders - c.left(), orders
}

func (c *killable) deliveredTwice() (applied, accepted int) {
	c.stocked(10)
	for range 2 { // not at the same time, which would show the first loss
		c.Publish(c.Order, "OrderPlaced", daprhttp.Message{Data: []byte(`{"orderId":"order-1001","itemId":"item1","quantity":1}`), ID: "the same event"})
		applied = 10 - c.left()
	}
	return applied, 1
}

func (c *killable) killedAfterSave() (applied, accepted int) {
	c.stocked(10)
	c.armed.Store(true)
	c.Place("order-1001", "item1", 1)
	select {
	case <-c.killed:
	case <-time.After(time.Minute):
		c.T.Fatal("the program has not saved")
	}
	c.restart()
	return 10 - c.left(), 1
}
