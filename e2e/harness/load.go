package harness

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/load"
	"example.com/dapr-orders/e2e/stack"
)

// A Load places orders for one piece of an item, steadily, until it is told to stop. When an
// order is refused or gets no answer, the Load sends it again with the same Idempotency-Key,
// as a careful client does.
type Load struct {
	s      *System
	ItemID string
	Stock  int // of ItemID, before the first order

	stopping context.Context
	stop     context.CancelFunc
	running  sync.WaitGroup

	Refused atomic.Int64 // requests that were refused or not answered

	mu       sync.Mutex
	accepted map[string]time.Time // when an order was accepted, by order ID
}

// StartLoad starts a load with a number of orders per second. item returns the item of the
// nth order; nil means that every order is for itemID. Half of the Idempotency-Keys are
// UUIDs of version 7, like the IDs of the order service.
func (s *System) StartLoad(itemID string, perSecond int, item func(n int) string) *Load {
	s.T.Helper()
	return s.StartLoadWithKeys(itemID, perSecond, item, func(n int) string {
		if n/4%2 == 0 {
			return daprhttp.NewEventID()
		}
		return ClientKey(itemID, n)
	})
}

// StartLoadWithKeys is StartLoad with key, which returns the Idempotency-Key of the nth order.
func (s *System) StartLoadWithKeys(itemID string, perSecond int, item, key func(n int) string) *Load {
	s.T.Helper()
	const stock = 1_000_000
	s.SetStock(itemID, stock)
	l := &Load{s: s, ItemID: itemID, Stock: stock, accepted: make(map[string]time.Time)}
	l.stopping, l.stop = context.WithCancel(s.T.Context())
	service := load.Target{
		URL: s.Order.URL("/order"), Token: s.AppAPIToken, Timeout: 30 * time.Second, Pause: 50 * time.Millisecond,
		Refused: func(error) { l.Refused.Add(1) },
	}
	place := func(_ context.Context, n int) error {
		o := load.Order{ItemID: itemID, Quantity: 1, Key: key(n)}
		if item != nil {
			o.ItemID = item(n)
		}
		o.ID = fmt.Sprintf("%s-%d", o.ItemID, n)
		ctx, cancel := context.WithTimeout(s.T.Context(), 2*time.Minute) // beyond the end of the load
		defer cancel()
		switch err := service.Place(ctx, o); {
		case err == nil:
			l.mu.Lock()
			l.accepted[o.ID] = time.Now()
			l.mu.Unlock()
		case s.T.Context().Err() == nil:
			s.T.Errorf("order %s is not accepted: %v", o.ID, err)
		}
		return nil
	}
	l.running.Go(func() { _ = load.Load{Clients: 8, PerSecond: perSecond}.Run(l.stopping, place) }) // place returns no error
	return l
}

// ClientKey returns a key of a client that knows nothing of UUIDs.
func ClientKey(itemID string, n int) string { return fmt.Sprintf("%s-%d", itemID, n) }

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

// Stop stops the load. It returns when each order that was begun is accepted.
func (l *Load) Stop() {
	l.stop()
	l.running.Wait()
}

// Stopping returns a channel that is closed when the load is told to stop.
func (l *Load) Stopping() <-chan struct{} { return l.stopping.Done() }

// GoesOn waits until a number of further orders are accepted, and the same number of
// further orders are applied.
func (l *Load) GoesOn(t *testing.T, orders int) {
	t.Helper()
	accepted := l.NumAccepted()
	var before int
	WaitFor(t, 2*time.Minute, func() (err error) { before, err = l.s.Stock(l.ItemID); return err })
	WaitFor(t, 2*time.Minute, func() error {
		stock, err := l.s.Stock(l.ItemID)
		if err == nil && (l.NumAccepted() < accepted+orders || stock > before-orders) {
			err = fmt.Errorf("%d further orders are accepted and %d applied, want %d", l.NumAccepted()-accepted, before-stock, orders)
		}
		return err
	})
}

// WhileAway waits until a number of further requests are accepted or refused. The load has
// then met the fault.
func (l *Load) WhileAway(t *testing.T, requests int) {
	t.Helper()
	seen := func() int { return l.NumAccepted() + int(l.Refused.Load()) }
	before := seen()
	WaitFor(t, 2*time.Minute, func() error {
		if n := seen() - before; n < requests {
			return fmt.Errorf("%d further requests are answered or have failed, want %d", n, requests)
		}
		return nil
	})
}

// EndsExact stops the load and waits until the stock has fallen by the accepted orders, no
// copy of an order is left, and the logs name each order as processed. It fails when an
// order is applied twice. It returns a table cell: "500 of 500 applied".
func (l *Load) EndsExact(t *testing.T) string {
	t.Helper()
	l.Stop()
	accepted := l.NumAccepted()
	defer func() {
		if t.Failed() {
			n, err := l.s.Broker.Len(DeadLetterTopic, "dead-letters")
			stock, _ := l.s.Stock(l.ItemID)
			Verdicts.Store(t.Name(), fmt.Sprintf("%d of %d applied, %d in the dead-letter topic", l.Stock-stock, accepted, n))
			t.Logf("%d orders accepted, %d in the dead-letter topic (%v); not drained: %v", accepted, n, err, l.s.Broker.Drained("OrderPlaced", "inventory-service"))
			t.Logf("accepted, but in no log: %v", l.s.unnamed(l.OrderIDs()))
		}
	}()
	if _, given := l.s.Broker.(*stack.Given); given { // it may have lost orders, and then waiting is of no use
		l.s.drained()
		if stock, err := l.s.Stock(l.ItemID); err != nil || stock != l.Stock-accepted {
			t.Fatalf("the broker has no order left, and the stock is %d (%v), want %d", stock, err, l.Stock-accepted)
		}
	}
	l.s.WaitForStock(l.ItemID, l.Stock-accepted)
	l.s.drained()
	l.s.WaitForStock(l.ItemID, l.Stock-accepted) // the last deliveries have not moved it
	l.s.AppliedOnce(t, l.OrderIDs())
	if n := l.s.DeadLetters(); n > 0 {
		t.Errorf("%d orders are in the dead-letter topic, though every order was valid", n)
	}
	t.Logf("%d orders accepted and applied; %d requests were refused or not answered", accepted, l.Refused.Load())
	return fmt.Sprintf("%d of %d applied", accepted, accepted)
}

// Verdicts has the figures of each load that failed in EndsExact, by the name of its test.
var Verdicts sync.Map

// OrderIDs returns the IDs of the orders that have been accepted.
func (l *Load) OrderIDs() []string { return slices.Sorted(maps.Keys(l.Accepted())) }

// delays returns the time from accepted to first applied, by order ID.
func (l *Load) delays() map[string]time.Duration {
	delays, applied := make(map[string]time.Duration), l.s.Applied()
	for id, accepted := range l.Accepted() {
		if at, ok := applied[id]; ok {
			delays[id] = at.Sub(accepted)
		}
	}
	return delays
}

// Delays returns the times from accepted to applied, the shortest first.
func (l *Load) Delays() []time.Duration { return slices.Sorted(maps.Values(l.delays())) }

// Latest returns the order that took longest from accepted to applied, and that time.
func (l *Load) Latest() (orderID string, longest time.Duration) {
	for id, delay := range l.delays() {
		if delay > longest {
			orderID, longest = id, delay
		}
	}
	return orderID, longest
}

// longestPause returns the longest time between two of the times, the later of them after from.
func longestPause(of map[string]time.Time, from time.Time) (longest time.Duration) {
	times := slices.SortedFunc(maps.Values(of), time.Time.Compare)
	for i := 1; i < len(times); i++ {
		if times[i].After(from) {
			longest = max(longest, times[i].Sub(times[i-1]))
		}
	}
	return longest.Round(100 * time.Millisecond)
}
