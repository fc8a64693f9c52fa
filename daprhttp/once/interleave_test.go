package once

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// These tests try out every order in which the steps of several inboxes can
// follow one another, with every fault at every step: each run makes a list of
// choices, and the next run differs in the last choice that has an alternative.

// choices decides what happens next, differently in each run.
type choices struct {
	made []choice
	next int
	log  []string
}

type choice struct{ taken, of int }

// pick returns a number below n.
func (c *choices) pick(n int) int {
	if n == 1 {
		return 0
	}
	if c.next == len(c.made) {
		c.made = append(c.made, choice{0, n})
	}
	taken := min(c.made[c.next].taken, n-1)
	c.next++
	return taken
}

// again prepares the next run. It returns false when all have been made.
func (c *choices) again() bool {
	for len(c.made) > 0 {
		last := &c.made[len(c.made)-1]
		if last.taken++; last.taken < last.of {
			c.next, c.log = 0, nil
			return true
		}
		c.made = c.made[:len(c.made)-1]
	}
	return false
}

// A fault is what may happen to one call of the store.
type fault int

const (
	none        fault = iota
	dieBefore         // the process dies, and the store never hears of the call
	dieAfter          // the process dies when the store has done what it was told
	failBefore        // the call fails, and the store never heard of it
	failAfter         // the call fails, though it took effect
	failPartly        // the call fails, with one of many writes done; a read finds nothing and does not fail
	faultsTotal       // how many there are
)

func (f fault) String() string {
	return [...]string{"", " DIES BEFORE", " DIES AFTER", " FAILS", " FAILS BUT TOOK EFFECT", " FAILS HALFWAY"}[f]
}

var errDead = errors.New("the process is dead")

// A replica is a store as one process sees it: every call waits until the test
// lets it happen, one way or another.
type replica struct {
	name  string
	store store
	dead  atomic.Bool

	mu      sync.Mutex
	waiting []*turn
}

// A turn is a call that waits for its turn.
type turn struct {
	what string
	take chan fault
}

// call waits for its turn and then does what that turn is.
func (r *replica) call(what string, do func(part bool) error) error {
	if r.dead.Load() {
		return errDead
	}
	c := &turn{r.name + " " + what, make(chan fault)}
	r.mu.Lock()
	r.waiting = append(r.waiting, c)
	r.mu.Unlock()
	f := <-c.take
	if r.dead.Load() { // meanwhile
		return errDead
	}
	switch f {
	case dieBefore:
		r.dead.Store(true)
		return errDead
	case dieAfter:
		_ = do(false)
		r.dead.Store(true)
		return errDead
	case failBefore:
		return errFailed
	case failAfter:
		_ = do(false)
		return errFailed
	case failPartly:
		return do(true)
	default:
		return do(false)
	}
}

func (r *replica) read(ctx context.Context, keys []string) (map[string]stored, error) {
	return r.get("reads ", keys, nil, func() (map[string]stored, error) { return r.store.read(ctx, keys) })
}

func (r *replica) readStrong(ctx context.Context, keys []string) map[string]stored {
	found, err := r.get("reads strong ", keys, errFailed, func() (map[string]stored, error) { return r.store.readStrong(ctx, keys), nil })
	if err != nil {
		found = make(map[string]stored)
		for _, key := range keys {
			found[key] = stored{err: err}
		}
	}
	return found
}

// get is a call that reads. When it is cut short it finds nothing, and says so by
// the error partly, if at all.
func (r *replica) get(what string, keys []string, partly error, do func() (map[string]stored, error)) (found map[string]stored, err error) {
	err = r.call(what+describe(keys), func(part bool) error {
		if part {
			return partly
		}
		found, err = do()
		return err
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

func (r *replica) save(ctx context.Context, writes []write) error {
	var keys []string
	for _, w := range writes {
		keys = append(keys, w.key)
	}
	return r.call("saves "+describe(keys), func(part bool) error {
		if part {
			_ = r.store.save(ctx, writes[:len(writes)/2])
			return errFailed
		}
		return r.store.save(ctx, writes)
	})
}

func describe(keys []string) string {
	keys = slices.Sorted(slices.Values(keys))
	return strings.Join(keys, " ")
}

// A handover is changes delivered to a replica, one after another.
type handover struct {
	to      int
	changes []Change[int64]
}

// A scenario is what happens in every run, in one order or another.
type scenario struct {
	start      map[string]string // what the store has at first
	atomic     bool
	replicas   int
	deliveries []handover
	faults     int  // at most, in one run
	keep       int  // how many IDs a record keeps
	ahead      bool // records are read ahead
	limit      int  // how many IDs are remembered to have a marker, or twice as many; 0 means 1
	want       map[string]int64
}

func (s scenario) inbox(store store) *Inbox[int64] {
	in := newTestInbox(store)
	in.keep = func(int, int) int { return s.keep }
	in.markers.known.limit = max(s.limit, 1)
	if !s.ahead {
		in.readAhead.store = nil
	}
	for i, key := range slices.Collect(maps.Keys(s.want)) { // the first save counts like another
		in.readAhead.saved[i] = recordKey(key)
	}
	return in
}

// tryAll carries out a scenario in all ways. After each, whatever was not
// answered with success is delivered once more, to a new replica, as Dapr would;
// and then once more altogether. It returns the number of ways.
func tryAll(t *testing.T, s scenario) int {
	t.Helper()
	c := &choices{}
	for runs := 1; ; runs++ {
		synctest.Test(t, func(t *testing.T) { s.run(t, c) })
		if t.Failed() || !c.again() {
			return runs
		}
	}
}

func (s scenario) run(t *testing.T, c *choices) {
	memory := &memoryStore{atomic: s.atomic}
	for key, value := range s.start {
		memory.put(key, []byte(value))
	}
	var replicas []*replica
	var inboxes []*Inbox[int64]
	for i := range s.replicas {
		r := &replica{name: string(rune('A' + i)), store: memory}
		replicas = append(replicas, r)
		inboxes = append(inboxes, s.inbox(r))
		inboxes[i].author.name = r.name
	}
	succeeded := make(map[ID]bool)
	var mu sync.Mutex
	for _, d := range s.deliveries {
		go func() {
			for _, change := range d.changes {
				r := inboxes[d.to].Apply(t.Context(), change)[0]
				mu.Lock()
				succeeded[change.ID] = succeeded[change.ID] || r.Err == nil && !replicas[d.to].dead.Load()
				mu.Unlock()
			}
		}()
	}
	s.schedule(c, replicas)

	// Redelivery, without faults and one by one.
	redelivered := s.inbox(memory)
	for round := range 2 {
		for _, d := range s.deliveries {
			for _, change := range d.changes {
				if round == 0 && succeeded[change.ID] {
					continue
				}
				if r := redelivered.Apply(t.Context(), change)[0]; r.Err != nil {
					t.Errorf("redelivery of %s: %v", change.ID, r.Err)
				}
			}
		}
		for itemID, want := range s.want {
			got, err := redelivered.Get(t.Context(), itemID)
			if err != nil || got != want {
				t.Errorf("stock of %s is %d (%v), want %d, after:\n%s", itemID, got, err, want, strings.Join(c.log, "\n"))
			}
		}
	}
}

// schedule lets the replicas' calls happen, in an order and with the faults that
// c picks, until no replica has anything left to do.
func (s scenario) schedule(c *choices, replicas []*replica) {
	faults := s.faults
	for slept := false; ; {
		// Wait until every replica is about to make a call or has none to make.
		synctest.Wait()
		type ready struct {
			*replica
			*turn
		}
		var calls []ready
		for _, r := range replicas {
			r.mu.Lock()
			for _, c := range r.waiting {
				calls = append(calls, ready{r, c})
			}
			r.mu.Unlock()
		}
		if len(calls) == 0 {
			if slept {
				return
			}
			time.Sleep(time.Second) // of the bubble's clock: whoever backs off comes back
			slept = true
			continue
		}
		slept = false
		slices.SortFunc(calls, func(a, b ready) int { return strings.Compare(a.what, b.what) })
		next := calls[c.pick(len(calls))]
		f := none
		if faults > 0 {
			f = fault(c.pick(int(faultsTotal)))
		}
		if f != none {
			faults--
		}
		c.log = append(c.log, next.what+f.String())
		next.mu.Lock()
		next.waiting = slices.DeleteFunc(next.waiting, func(c *turn) bool { return c == next.turn })
		next.mu.Unlock()
		next.take <- f
	}
}
