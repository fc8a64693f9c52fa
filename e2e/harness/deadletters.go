package harness

import (
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/stack"
)

// DeadLetterTopic has the orders that can't be applied.
const DeadLetterTopic = "OrderPlaced-dead-letter"

// DeadLetters returns how many events the dead-letter topic has.
func (s *System) DeadLetters() int {
	s.T.Helper()
	n, err := s.Broker.Len(DeadLetterTopic, "dead-letters")
	Must(s.T, err)
	return n
}

// StartDeadLetters starts the program that keeps dead letters.
func (s *System) StartDeadLetters(args ...string) *stack.App {
	s.T.Helper()
	o := Project.App(stack.DeadLetters)
	o.Args = args
	o.Env = []string{"DEAD_LETTERS_DIR=" + filepath.Join(s.T.TempDir(), "letters")}
	return s.StartApp(o)
}

// An observed broker can't be asked what it has.
type observed interface {
	Observe(quiet func() error, letters func() int)
}

// observe counts deliveries and dead letters for a broker that can't report them.
func (s *System) observe(broker observed) {
	var letters atomic.Int64
	s.Serve("dead-letters", Subscribing(daprhttp.Subscription{Topic: DeadLetterTopic, Metadata: map[string]string{daprhttp.MetadataRawPayload: "true"}},
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) { letters.Add(1) })))
	var mu sync.Mutex
	var seen int64
	var since time.Time
	quiet := func() error { // asked again and again
		mu.Lock()
		defer mu.Unlock()
		if n := s.tries.Load() + letters.Load(); n != seen || since.IsZero() {
			seen, since = n, time.Now()
		}
		if quiet := time.Since(since); quiet < 5*time.Second {
			return fmt.Errorf("something was delivered %v ago", quiet)
		}
		return nil
	}
	broker.Observe(quiet, func() int { return int(letters.Load()) })
}
