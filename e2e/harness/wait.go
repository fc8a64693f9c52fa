package harness

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"example.com/dapr-orders/e2e/stack"
)

// WaitFor waits until check returns nil, and fails the test with the last error
// if that takes too long. The bound is there to end a hopeless wait, not to
// measure anything.
func WaitFor(t *testing.T, bound time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(bound)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v still: %v", bound, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Must fails the test with an error. It skips the test when a program is not installed.
func Must(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, stack.ErrNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// FreePort returns a port on which no program listens.
func FreePort(t *testing.T) int {
	t.Helper()
	port, err := stack.FreePort()
	Must(t, err)
	return port
}

// InParallel calls do for 0 to n-1, some at a time.
func InParallel(n, atOnce int, do func(i int)) {
	var calls errgroup.Group
	calls.SetLimit(atOnce)
	for i := range n {
		calls.Go(func() error { do(i); return nil })
	}
	_ = calls.Wait() // no call returns an error
}

// Drained waits until the broker has no event left for an app: none waiting and
// none that was delivered but not acknowledged.
func (s *System) Drained(appID string) {
	s.T.Helper()
	s.DrainedOf("OrderPlaced", appID)
}

// DrainedOf is Drained for another topic.
func (s *System) DrainedOf(topic, appID string) {
	s.T.Helper()
	WaitFor(s.T, 2*time.Minute, func() error { return s.Broker.Drained(topic, appID) }) // a takeover may take most of a minute
}

// drained waits until the broker has no order left for the inventory service, in the retry
// topic either.
func (s *System) drained() {
	s.T.Helper()
	s.Drained("inventory-service")
	if s.HasRetryTopic() {
		s.DrainedOf("OrderPlaced-retry", "inventory-service")
	}
}

// HasRetryTopic reports whether the component files have a retry topic.
func (s *System) HasRetryTopic() bool {
	_, err := os.Stat(filepath.Join(s.Resources, "retry.yaml"))
	return err == nil
}
