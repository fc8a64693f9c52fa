package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// A sidecar answers a bulk read of PostgreSQL that the database has broken off
// with 200 and nothing found. A marker that is missed so would be an order that
// counts twice.
func TestReadThatTheDatabaseBreaksOffMissesNoMarker(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{Backend: stack.Backends[1]})
	database := s.State.(*stack.PostgreSQL)
	_, err := database.Query(t.Context(), "alter database postgres set statement_timeout = '1s'") // for connections from now on
	harness.Must(t, err)

	// An inventory service for whose search for a marker the table is locked, once.
	o := harness.Project.App(stack.Inventory)
	o.DaprPort, err = stack.FreePort()
	harness.Must(t, err)
	sidecar, err := url.Parse(fmt.Sprintf("http://127.0.0.1:%d", o.DaprPort))
	harness.Must(t, err)
	forward := httputil.NewSingleHostReverseProxy(sidecar)
	var armed atomic.Bool
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		single := strings.Contains(r.URL.Path, "/state/statestore/~")
		bulk := strings.HasSuffix(r.URL.Path, "/bulk") && bytes.Contains(body, []byte(`"~`))
		if (single || bulk) && armed.CompareAndSwap(true, false) {
			release, err := database.Hold(t.Context(), "lock table state in access exclusive mode")
			if err != nil {
				t.Error(err)
				return
			}
			defer func() {
				if err := release(); err != nil {
					t.Error(err)
				}
			}()
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	o.Env = []string{"DAPR_HTTP_ENDPOINT=" + proxy.URL}
	app := s.StartApp(o)

	deliver := func(eventID string) string {
		body := fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"order-service","type":"OrderPlaced","data":{"orderId":"o","itemId":"item1","quantity":1}}`, eventID)
		a := s.Send("POST", app.URL("/orders"), body, http.Header{"Content-Type": {"application/cloudevents+json"}})
		var answer struct{ Status string }
		if err := json.Unmarshal([]byte(a.Body), &answer); err != nil {
			t.Fatalf("POST /orders: %d %s", a.Status, a.Body)
		}
		return answer.Status
	}
	// The event that was made first is the first whose ID leaves the record.
	eventID := func(madeAt time.Time) string {
		ms := madeAt.UnixMilli()
		return fmt.Sprintf("%08x-%04x-7000-8000-%012x", ms>>16, ms&0xffff, madeAt.UnixNano()&(1<<48-1))
	}
	first := eventID(time.Now().Add(-time.Hour))
	if status := deliver(first); status != "SUCCESS" {
		t.Fatalf("the first event: %s", status)
	}
	placed := 1
	harness.WaitFor(t, time.Minute, func() error {
		placed++
		if status := deliver(eventID(time.Now())); status != "SUCCESS" {
			t.Fatalf("event %d: %s", placed, status)
		}
		v, err := s.Sidecar(app).GetState(t.Context(), "statestore", "item1", daprhttp.GetStateOptions{})
		if err == nil && !bytes.Contains(v.Value, []byte(`"watermark"`)) {
			err = fmt.Errorf("the record still has all IDs after %d events", placed)
		}
		return err
	})
	s.WaitForStock("item1", -placed)
	harness.Must(t, app.Service.Stop(20*time.Second))
	harness.Must(t, app.StartService(t.Context())) // what it knows now is only what is stored
	// The sidecar's connection has the statement of a bulk read prepared.
	_, err = s.Sidecar(app).GetBulkState(t.Context(), "statestore", []string{"item1", "item2"}, daprhttp.GetBulkStateOptions{})
	harness.Must(t, err)
	armed.Store(true)
	harness.WaitFor(t, time.Minute, func() error {
		if status := deliver(first); status != "SUCCESS" {
			return fmt.Errorf("the first event, delivered again: %s", status)
		}
		return nil
	})
	s.WaitForStock("item1", -placed)
	if armed.Load() {
		t.Error("no marker was searched: the test has not shown what it should")
	}
}
