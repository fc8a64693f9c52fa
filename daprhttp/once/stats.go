package once

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// probeKey is the key that [Inbox.Probe] writes. No marker and no record has it.
const probeKey = markerPrefix + "probe"

// Probe saves a key of its own, and returns nil if the state store took it: then
// what can't be applied to other keys is the fault of these, and not of the store.
// The key expires like a marker.
func (in *Inbox[V]) Probe(ctx context.Context) error {
	began := time.Now()
	err := in.store.save(ctx, []write{{key: probeKey, value: time.Now().Unix(), expires: true, always: true}})
	if err == nil {
		in.failing.saved(probeKey, time.Since(began))
	}
	return err
}

// Stats are figures of an [Inbox].
type Stats struct {
	Commits   int64         // records saved so far
	Conflicts int64         // saves so far that failed because another replica had saved
	Waiting   int           // changes that are waiting to be applied, or being applied
	Oldest    time.Duration // how long the oldest of these has waited
}

// Stats returns the figures of this moment.
func (in *Inbox[V]) Stats() Stats {
	s := Stats{Commits: in.counts.commits.Load(), Conflicts: in.counts.conflicts.Load()}
	s.Waiting, s.Oldest = in.calls.waiting()
	return s
}

type counts struct{ commits, conflicts atomic.Int64 }

// calls are the calls of Apply that are under way.
type calls[V any] struct {
	mu  sync.Mutex
	all map[*call[V]]time.Time // since when
}

func (c *calls[V]) add(one *call[V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = make(map[*call[V]]time.Time)
	}
	c.all[one] = time.Now()
}

func (c *calls[V]) remove(one *call[V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.all, one)
}

// waiting returns how many changes are not applied yet, and how long the oldest
// has waited.
func (c *calls[V]) waiting() (changes int, oldest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for one, since := range c.all {
		one.mu.Lock()
		missing := one.missing
		one.mu.Unlock()
		if missing > 0 {
			changes += missing
			oldest = max(oldest, time.Since(since))
		}
	}
	return changes, oldest
}
