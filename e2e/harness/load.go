package harness

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/stack"
)

// A Load places orders of one piece of an item, steadily, until it is told to
// stop. An order that is refused or gets no answer is sent again with the same
// Idempotency-Key until it is accepted, as a careful client does it. The keys of
// half of the clients tell the time, as the ids do that the order service makes.
type Load struct {
	s      *System
	ItemID string
	Stock  int // of ItemID, before the first order

	item func(n int64) string // what the nth order is for; nil: all are for itemID
	key  func(n int64) string // the Idempotency-Key of the nth order

	stopping chan struct{}
	workers  sync.WaitGroup

	placed  atomic.Int64 // orders begun
	Refused atomic.Int64 // answers other than 200, and none at all

	mu       sync.Mutex
	accepted map[string]time.Time // order ID to when
}

// StartLoad starts a load with a number of orders per second. item may be nil.
func (s *System) StartLoad(itemID string, perSecond int, item func(n int64) string) *Load {
	s.T.Helper()
	return s.StartLoadWithKeys(itemID, perSecond, item, mixedKeys(itemID))
}

// StartLoadWithKeys is StartLoad with Idempotency-Keys of choice.
func (s *System) StartLoadWithKeys(itemID string, perSecond int, item func(n int64) string, key func(n int64) string) *Load {
	s.T.Helper()
	const workers, stock = 8, 1_000_000
	s.SetStock(itemID, stock)
	l := &Load{s: s, ItemID: itemID, Stock: stock, item: item, key: key, stopping: make(chan struct{}), accepted: make(map[string]time.Time)}
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	for range workers {
		l.workers.Go(func() {
			for {
				select {
				case <-l.stopping:
					return
				case <-tick.C:
					l.place()
				}
			}
		})
	}
	s.T.Cleanup(tick.Stop)
	return l
}

// mixedKeys returns keys by turns that are UUIDs of version 7 and that are not.
func mixedKeys(itemID string) func(n int64) string {
	return func(n int64) string {
		if n/4%2 == 0 {
			return daprhttp.NewEventID()
		}
		return ClientKey(itemID, n)
	}
}

// ClientKey returns a key of a client that knows nothing of UUIDs.
func ClientKey(itemID string, n int64) string { return fmt.Sprintf("%s-%d", itemID, n) }

// place places one order, and tries again until it is accepted.
func (l *Load) place() {
	n := l.placed.Add(1)
	itemID := l.ItemID
	if l.item != nil {
		itemID = l.item(n)
	}
	orderID := fmt.Sprintf("%s-%d", itemID, n)
	body := fmt.Sprintf(`{"orderId":%q,"itemId":%q,"quantity":1}`, orderID, itemID)
	header := http.Header{"Idempotency-Key": {l.key(n)}}
	for deadline := time.Now().Add(2 * time.Minute); ; {
		a, err := l.s.TrySend("POST", l.s.Order.URL("/order"), body, header)
		if err == nil && a.Status == http.StatusOK {
			l.mu.Lock()
			l.accepted[orderID] = time.Now()
			l.mu.Unlock()
			return
		}
		l.Refused.Add(1)
		if time.Now().After(deadline) {
			l.s.T.Errorf("order %s is still not accepted: %d %s, %v", orderID, a.Status, a.Body, err)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// NumAccepted returns how many orders have been accepted.
func (l *Load) NumAccepted() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.accepted)
}

// Accepted returns when each order was accepted, by order ID.
func (l *Load) Accepted() map[string]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.accepted)
}

// Stop stops the load. It returns when no request is under way.
func (l *Load) Stop() {
	close(l.stopping)
	l.workers.Wait()
}

// Stopping returns a channel that is closed when the load is told to stop.
func (l *Load) Stopping() <-chan struct{} { return l.stopping }

// GoesOn waits until this number of further orders have been accepted, and this number
// of further orders have been applied.
func (l *Load) GoesOn(t *testing.T, orders int) {
	t.Helper()
	accepted := l.NumAccepted()
	var before int
	WaitFor(t, 2*time.Minute, func() (err error) { before, err = l.s.Stock(l.ItemID); return err })
	WaitFor(t, 2*time.Minute, func() error {
		stock, err := l.s.Stock(l.ItemID)
		if err == nil && (l.NumAccepted() < accepted+orders || stock > before-orders) {
			err = fmt.Errorf("%d orders have been accepted and %d counted, want %d", l.NumAccepted()-accepted, before-stock, orders)
		}
		return err
	})
}

// WhileAway waits until this number of further requests were accepted or refused: the
// load has then met the fault.
func (l *Load) WhileAway(t *testing.T, requests int) {
	t.Helper()
	seen := func() int { return l.NumAccepted() + int(l.Refused.Load()) }
	before := seen()
	WaitFor(t, 2*time.Minute, func() error {
		if n := seen() - before; n < requests {
			return fmt.Errorf("%d requests were made, want %d", n, requests)
		}
		return nil
	})
}

// EndsExact stops the load and waits until every accepted order is applied, and no other
// order. It returns their number in words.
func (l *Load) EndsExact(t *testing.T) string {
	t.Helper()
	l.Stop()
	accepted := l.NumAccepted()
	defer func() {
		if t.Failed() { // where to look
			n, err := l.s.Broker.Len(DeadLetterTopic, "dead-letters")
			stock, _ := l.s.Stock(l.ItemID)
			Verdicts.Store(t.Name(), fmt.Sprintf("%d of %d applied, %d in the dead-letter topic", l.Stock-stock, accepted, n))
			t.Logf("%d orders accepted, %d in the dead-letter topic (%v); not drained: %v", accepted, n, err, l.s.Broker.Drained("OrderPlaced", "inventory-service"))
			t.Logf("no log says that these were counted: %v", l.uncounted())
		}
	}()
	if _, given := l.s.Broker.(*stack.Given); given { // that may well have lost some: waiting is no use
		l.s.Drained("inventory-service")
		if stock, err := l.s.Stock(l.ItemID); err != nil || stock != l.Stock-accepted {
			t.Fatalf("nothing is left to be counted, and the stock is %d (%v), want %d", stock, err, l.Stock-accepted)
		}
	}
	l.s.WaitForStock(l.ItemID, l.Stock-accepted)
	l.s.Drained("inventory-service")
	l.s.WaitForStock(l.ItemID, l.Stock-accepted) // no event that was left has moved it
	if n := l.s.DeadLetters(); n > 0 {
		t.Errorf("%d orders are in the dead-letter topic, though nothing was wrong with them", n)
	}
	t.Logf("%d orders accepted and counted; %d answers were refusals", accepted, l.Refused.Load())
	return fmt.Sprintf("%d of %d applied", accepted, accepted)
}

// Verdicts has what became of each load that EndsExact found wrong, by the name of its test.
var Verdicts sync.Map

// uncounted returns the accepted orders that no log names as processed.
func (l *Load) uncounted() (orderIDs []string) {
	counted := l.s.Counted()
	for id := range l.Accepted() {
		if len(counted[id]) == 0 {
			orderIDs = append(orderIDs, id)
		}
	}
	slices.Sort(orderIDs)
	return orderIDs
}

// delays returns how long after it was accepted each order was counted, as the log says,
// by order ID.
func (l *Load) delays() map[string]time.Duration {
	delays, counted := make(map[string]time.Duration), l.s.Counted()
	for id, accepted := range l.Accepted() {
		if times := counted[id]; len(times) > 0 {
			delays[id] = times[0].Sub(accepted)
		}
	}
	return delays
}

// Delays returns how long after they were accepted orders were counted, the shortest time
// first.
func (l *Load) Delays() []time.Duration { return slices.Sorted(maps.Values(l.delays())) }

// Latest returns the order that was counted the longest after it was accepted, and that time.
func (l *Load) Latest() (orderID string, longest time.Duration) {
	for id, delay := range l.delays() {
		if delay > longest {
			orderID, longest = id, delay
		}
	}
	return orderID, longest
}

// AcceptedAt returns when orders were accepted.
func (l *Load) AcceptedAt() []time.Time { return slices.Collect(maps.Values(l.Accepted())) }

// CountedAt returns when orders were counted, as the log says.
func (l *Load) CountedAt() (times []time.Time) {
	for _, counted := range l.s.Counted() {
		times = append(times, counted[0])
	}
	return times
}

// LongestPause returns the longest time between two of those from when on.
func LongestPause(times []time.Time, from time.Time) (longest time.Duration) {
	slices.SortFunc(times, time.Time.Compare)
	for i := 1; i < len(times); i++ {
		if times[i].After(from) {
			longest = max(longest, times[i].Sub(times[i-1]))
		}
	}
	return longest.Round(100 * time.Millisecond)
}
