package harness

import (
	"fmt"
	"testing"
	"time"

	"github.com/matryer/is"

	"example.com/dapr-orders/e2e/stack"
)

func TestMissingProgramSkipsATest(t *testing.T) {
	is := is.New(t)
	skips := func(do func(t *testing.T)) (skipped bool) {
		t.Run("a test", func(t *testing.T) {
			defer func() { skipped = t.Skipped() }()
			do(t)
		})
		return skipped
	}
	is.True(skips(func(t *testing.T) { Must(t, fmt.Errorf("the broker: %w", stack.ErrNotInstalled)) }))
	is.True(skips(func(t *testing.T) { NeedsProgram(t, "no-such-program", "there is none") }))
	is.True(!skips(func(t *testing.T) { NeedsProgram(t, "go", "see https://go.dev/dl/") }))
}

func TestLongestPauseIgnoresPausesThatEndedBefore(t *testing.T) {
	is := is.New(t)
	start := time.Now()
	at := func(seconds time.Duration) time.Time { return start.Add(seconds * time.Second) }
	times := map[string]time.Time{"a": at(31), "b": at(10), "c": at(30), "d": at(33)}
	is.Equal(longestPause(times, at(20)), 20*time.Second) // the pause began before
	is.Equal(longestPause(times, at(30)), 2*time.Second)
	is.Equal(longestPause(nil, start), time.Duration(0))
}

// The store may save an order and answer that it has not: then the log names only a duplicate.
func TestDelayOfAnOrderThatIsNamedOnlyAsADuplicate(t *testing.T) {
	s := &System{processed: make(map[string]int), applied: make(map[string]time.Time)}
	l := &Load{s: s, accepted: map[string]time.Time{"o1": time.Now()}}
	s.watch("inventory-service", "OrderPlaced event had been processed already. orderId=o1, itemId=item1")
	is.New(t).Equal(len(l.Delays()), 1)
}
