package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/stack"
)

// A load places orders of one piece of an item, steadily, until it is told to
// stop. An order that is refused or gets no answer is sent again with the same
// Idempotency-Key until it is accepted, as a careful client does it. The keys of
// half of the clients tell the time, as the ids do that the order service makes.
type load struct {
	s      *system
	itemID string
	stock  int // at first

	item func(n int64) string // what the nth order is for; nil: all are for itemID
	key  func(n int64) string // the Idempotency-Key of the nth order

	stopping chan struct{}
	workers  sync.WaitGroup

	placed  atomic.Int64 // orders begun
	refused atomic.Int64 // answers other than 200, and none at all

	mu       sync.Mutex
	accepted map[string]time.Time // order ID to when
}

// startLoad starts a load of about so many orders a second. item may be nil.
func (s *system) startLoad(itemID string, perSecond int, item func(n int64) string) *load {
	s.t.Helper()
	return s.startLoadWithKeys(itemID, perSecond, item, mixedKeys(itemID))
}

// startLoadWithKeys is startLoad with Idempotency-Keys of choice.
func (s *system) startLoadWithKeys(itemID string, perSecond int, item func(n int64) string, key func(n int64) string) *load {
	s.t.Helper()
	const workers, stock = 8, 1_000_000
	s.setStock(itemID, stock)
	l := &load{s: s, itemID: itemID, stock: stock, item: item, key: key, stopping: make(chan struct{}), accepted: make(map[string]time.Time)}
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
	s.t.Cleanup(tick.Stop)
	return l
}

// mixedKeys returns keys by turns that are UUIDs of version 7 and that are not.
func mixedKeys(itemID string) func(n int64) string {
	return func(n int64) string {
		if n/4%2 == 0 {
			return uuid7(n)
		}
		return clientKey(itemID, n)
	}
}

// uuid7 returns a UUID of version 7, made now.
func uuid7(n int64) string {
	ms := time.Now().UnixMilli()
	return fmt.Sprintf("%08x-%04x-7%03x-8000-%012x", ms>>16, ms&0xffff, rand.IntN(1<<12), n)
}

// clientKey returns a key of a client that knows nothing of UUIDs.
func clientKey(itemID string, n int64) string { return fmt.Sprintf("%s-%d", itemID, n) }

// place places one order, however long that takes.
func (l *load) place() {
	n := l.placed.Add(1)
	itemID := l.itemID
	if l.item != nil {
		itemID = l.item(n)
	}
	orderID := fmt.Sprintf("%s-%d", itemID, n)
	body := fmt.Sprintf(`{"orderId":%q,"itemId":%q,"quantity":1}`, orderID, itemID)
	header := http.Header{"Idempotency-Key": {l.key(n)}}
	for deadline := time.Now().Add(2 * time.Minute); ; {
		a, err := l.s.trySend("POST", l.s.order.URL("/order"), body, header)
		if err == nil && a.status == http.StatusOK {
			l.mu.Lock()
			l.accepted[orderID] = time.Now()
			l.mu.Unlock()
			return
		}
		l.refused.Add(1)
		if time.Now().After(deadline) {
			l.s.t.Errorf("order %s is still not accepted: %d %s, %v", orderID, a.status, a.body, err)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// goesOn waits until so many more orders have been accepted, and so many more
// have been counted, than when it was called.
func (l *load) goesOn(t *testing.T, orders int) {
	t.Helper()
	accepted := l.numAccepted()
	var before int
	waitFor(t, 2*time.Minute, func() (err error) { before, err = l.s.stock(l.itemID); return err })
	waitFor(t, 2*time.Minute, func() error {
		stock, err := l.s.stock(l.itemID)
		if err == nil && (l.numAccepted() < accepted+orders || stock > before-orders) {
			err = fmt.Errorf("%d orders have been accepted and %d counted, want %d", l.numAccepted()-accepted, before-stock, orders)
		}
		return err
	})
}

func (l *load) numAccepted() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.accepted)
}

// endsExact stops the load and waits until every order that was accepted is
// counted, and nothing else is. It returns how many.
func (l *load) endsExact(t *testing.T) string {
	t.Helper()
	close(l.stopping)
	l.workers.Wait()
	accepted := l.numAccepted()
	defer func() {
		if t.Failed() { // where to look
			n, err := l.s.Broker.Len(deadLetterTopic, "dead-letters")
			stock, _ := l.s.stock(l.itemID)
			verdicts.Store(t.Name(), fmt.Sprintf("%d of %d applied, %d in the dead-letter topic", l.stock-stock, accepted, n))
			t.Logf("%d orders accepted, %d in the dead-letter topic (%v); not drained: %v", accepted, n, err, l.s.Broker.Drained("OrderPlaced", "inventory-service"))
			t.Logf("no log says that these were counted: %v", l.uncounted())
		}
	}()
	if _, given := l.s.Broker.(*stack.Given); given { // that may well have lost some: waiting is no use
		l.s.drained("inventory-service")
		if stock, err := l.s.stock(l.itemID); err != nil || stock != l.stock-accepted {
			t.Fatalf("nothing is left to be counted, and the stock is %d (%v), want %d", stock, err, l.stock-accepted)
		}
	}
	l.s.waitForStock(l.itemID, l.stock-accepted)
	l.s.drained("inventory-service")
	l.s.waitForStock(l.itemID, l.stock-accepted) // no event that was left has moved it
	if n := l.s.deadLetters(); n > 0 {
		t.Errorf("%d orders are in the dead-letter topic, though nothing was wrong with them", n)
	}
	t.Logf("%d orders accepted and counted; %d answers were refusals", accepted, l.refused.Load())
	return fmt.Sprintf("%d of %d applied", accepted, accepted)
}

// uncounted returns the orders that were accepted and of which no log says that they
// were counted.
func (l *load) uncounted() (orderIDs []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	for id := range l.accepted {
		if len(l.s.processed[id]) == 0 {
			orderIDs = append(orderIDs, id)
		}
	}
	slices.Sort(orderIDs)
	return orderIDs
}

// delays returns how long after it was accepted each order was counted, as the log
// says, in order.
func (l *load) delays() (delays []time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	for id, accepted := range l.accepted {
		if counted := l.s.processed[id]; len(counted) > 0 {
			delays = append(delays, counted[0].Sub(accepted))
		}
	}
	slices.Sort(delays)
	return delays
}

// latest returns the longest time from accepted to counted, as the log says.
func (l *load) latest() (orderID string, longest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	for id, accepted := range l.accepted {
		if counted := l.s.processed[id]; len(counted) > 0 && counted[0].Sub(accepted) > longest {
			orderID, longest = id, counted[0].Sub(accepted)
		}
	}
	return orderID, longest
}
