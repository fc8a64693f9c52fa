package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"example.com/dapr-orders/daprhttp"
)

// stuckItems has the items whose last order could not be applied in time, because the state
// store refuses the record of the item or hangs on it. The zero value has none.
type stuckItems struct {
	mu    sync.Mutex
	tried map[string]time.Time // when an order for the item was last tried
}

const (
	tryEvery      = time.Second // how often an order for a stuck item is tried
	maxStuckItems = 10_000      // beyond that, all are forgotten, and tried again
)

// note notes whether an order for an item was applied.
func (s *stuckItems) note(itemID string, applied bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case applied:
		delete(s.tried, itemID)
	case s.tried == nil || len(s.tried) >= maxStuckItems:
		s.tried = make(map[string]time.Time)
		fallthrough
	default:
		s.tried[itemID] = time.Now()
	}
}

// has reports whether an item is stuck. For one order in tryEvery, which is then tried, it
// returns false.
func (s *stuckItems) has(itemID string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	tried, stuck := s.tried[itemID]
	if stuck && time.Since(tried) >= tryEvery {
		s.tried[itemID] = time.Now()
		return false
	}
	return stuck
}

func (s *stuckItems) none() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.tried) == 0
}

var errStuck = errors.New("the last order for this item could not be applied")

// moveStuck returns a handler that lets move handle an order for a stuck item. If move can't
// move the order, and for any other event, it calls try. Otherwise the orders for a stuck item
// would take all places of the sidecar, each for tryFor.
func (s *service) moveStuck(move, try daprhttp.Handler) daprhttp.Handler {
	return func(ctx context.Context, e daprhttp.Event) daprhttp.Outcome {
		if s.stuck.none() {
			return try(ctx, e)
		}
		if o, err := parseOrderPlaced(e); err == nil && s.stuck.has(o.ItemID) {
			if outcome := move(ctx, e); outcome.Status == daprhttp.StatusSuccess {
				return outcome
			}
		}
		return try(ctx, e)
	}
}
