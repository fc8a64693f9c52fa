package main

import (
	"errors"
	"sync"
	"time"
)

// stuckItems has the items whose last order could not be applied in time, because the state
// store refuses the record of the item or hangs on it. At most one further order per second is
// tried for such an item. If all were tried, they would take all places of the sidecar, each
// for tryFor. The zero value has no items.
type stuckItems struct {
	mu    sync.Mutex
	tried map[string]time.Time // when an order for the item was last tried
	last  time.Time            // when an order for any stuck item was last tried
}

const (
	// The least time between tries of one stuck item, and between tries of any stuck items.
	// Each try takes tryFor at most, so at most ten are under way.
	tryEvery, tryAnyEvery = time.Second, tryFor / 10

	maxStuckItems = 10_000 // beyond that, all are forgotten, and tried again
)

// note notes whether the store answered for an item.
func (s *stuckItems) note(itemID string, answered bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if answered {
		delete(s.tried, itemID)
		return
	}
	if _, known := s.tried[itemID]; s.tried == nil || !known && len(s.tried) >= maxStuckItems {
		s.tried = make(map[string]time.Time)
	}
	s.tried[itemID] = time.Now()
}

// has reports whether an item is stuck. It returns false for an order that is to be tried.
func (s *stuckItems) has(itemID string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	tried, stuck := s.tried[itemID]
	if stuck && time.Since(tried) >= tryEvery && time.Since(s.last) >= tryAnyEvery {
		s.last = time.Now()
		s.tried[itemID] = s.last
		return false
	}
	return stuck
}

// forget forgets all stuck items: their orders are tried.
func (s *stuckItems) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried = nil
}

var errStuck = errors.New("the last order for this item could not be applied")
