package once

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// These tests try every order of the requests of several inboxes, with every fault at
// every request. Each run makes a list of choices. The next run differs in the last
// choice that has an alternative.

// choices decides the order and the faults of each run.
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

// again prepares the next run. It returns false after the last run.
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

// A fault may happen to one call of the store.
type fault int

const (
	none       fault = iota
	dieBefore        // the process dies before the call has taken effect
	dieAfter         // the process dies after the call has taken effect
	failBefore       // the call fails without effect
	failAfter        // the call fails after it has taken effect
	leave            // the callers give up, and the call takes effect
	failPartly       // the call fails after it has written some of the markers
)

func (f fault) String() string {
	return [...]string{"", " DIES BEFORE", " DIES AFTER", " FAILS", " FAILS BUT TOOK EFFECT", " IS LEFT BY ITS CALLERS", " FAILS HALFWAY"}[f]
}

var errDead = errors.New("the process is dead")

// A replica is the store of one process. Each call waits until the test picks it and its
// fault.
type replica struct {
	name  string
	store store
	dead  atomic.Bool
	ctx   context.Context // of the callers
	leave context.CancelFunc

	mu      sync.Mutex
	waiting []*turn
}

// A turn is a call that waits for its turn.
type turn struct {
	what string
	take chan fault
}

// call waits for its turn, and then makes the call with the fault of that turn.
func (r *replica) call(what string, do func(part bool) error) error {
	if r.dead.Load() {
		return errDead
	}
	c := &turn{r.name + " " + what, make(chan fault)}
	r.mu.Lock()
	r.waiting = append(r.waiting, c)
	r.mu.Unlock()
	f := <-c.take
	if r.dead.Load() { // it died while the call waited
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
	case leave:
		r.leave()
		return do(false)
	case failPartly:
		return do(true)
	default:
		return do(false)
	}
}

func (r *replica) read(ctx context.Context, key string) (found stored, err error) {
	err = r.call("reads "+key, func(bool) error {
		found, err = r.store.read(ctx, key)
		return err
	})
	if err != nil {
		return stored{}, err
	}
	return found, nil
}

func (r *replica) save(ctx context.Context, key, etag string, value any) error {
	return r.call("saves "+key, func(bool) error { return r.store.save(ctx, key, etag, value) })
}

func (r *replica) mark(ctx context.Context, key string, ids idSet) error {
	return r.call("marks "+key, func(part bool) error {
		if part {
			_ = r.store.mark(ctx, key, ids.slice(0, ids.len()/2))
			return errFailed
		}
		return r.store.mark(ctx, key, ids)
	})
}

// A handover delivers changes to a replica, one after another.
type handover struct {
	to      int
	changes []Change[int64]
}

// A scenario is run in every order.
type scenario struct {
	start      map[string]string // the content of the store before the deliveries
	replicas   int
	deliveries []handover
	faults     int  // the most faults in one run
	failover   bool // the store is cut off from its replica, which later takes its place
	cutFor     int  // how many calls the store serves while it is cut off, at most; 0: three
	long       bool // it has more than 2,000 runs
	keep       int  // how many recent IDs a record keeps
	maxIDs     int  // how many IDs a record has room for; 0: 1000
	sharing    bool // even a single ID gets a marker that later IDs could share
	want       map[string]int64
}

func (s scenario) inbox(store store) *Inbox[int64] {
	in := newTestInbox(store)
	in.tuning.keep = func(int, int) int { return s.keep }
	in.tuning.maxIDs = cmp.Or(s.maxIDs, 1000)
	if s.sharing {
		in.tuning.sharers = 1
	}
	return in
}

// tryAll runs a scenario in every order, and returns the number of runs. After each run, a
// new replica gets the changes that were not acknowledged, as Dapr would redeliver them.
// Then it gets every change again.
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
	store := &cutOff{memoryStore: &memoryStore{}}
	for key, value := range s.start {
		store.put(key, []byte(value))
	}
	var replicas []*replica
	var inboxes []*Inbox[int64]
	for i := range s.replicas {
		r := &replica{name: string(rune('A' + i)), store: store}
		r.ctx, r.leave = context.WithCancel(t.Context())
		replicas = append(replicas, r)
		inboxes = append(inboxes, s.inbox(r))
		inboxes[i].author.name = r.name
	}
	type change struct {
		id  ID
		key string
	}
	succeeded := make(map[change]bool)
	var mu sync.Mutex
	for _, d := range s.deliveries {
		r := replicas[d.to]
		go func() {
			for _, c := range d.changes {
				_, err := inboxes[d.to].Apply(r.ctx, c)
				mu.Lock()
				if err == nil && !r.dead.Load() {
					succeeded[change{c.ID, c.Key}] = true
				}
				mu.Unlock()
			}
		}()
	}
	s.schedule(c, replicas, store)
	if store.promised != nil {
		store.failOver()
	}
	for i, r := range replicas {
		r.dead.Store(true) // a late call has no effect
		r.leave()
		inboxes[i].settle()
	}

	// Redelivery, without faults, one change after another.
	redelivered := s.inbox(store)
	for round := range 2 {
		for _, d := range s.deliveries {
			for _, c := range d.changes {
				if round == 0 && succeeded[change{c.ID, c.Key}] {
					continue
				}
				if _, err := redelivered.Apply(t.Context(), c); err != nil {
					t.Errorf("redelivery of %s: %v", c.ID, err)
				}
			}
		}
		redelivered.settle()
		for itemID, want := range s.want {
			got, err := redelivered.Get(t.Context(), itemID)
			if err != nil || got != want {
				t.Errorf("stock of %s is %d (%v), want %d, after:\n%s", itemID, got, err, want, strings.Join(c.log, "\n"))
			}
		}
	}
}

// schedule makes the replicas' calls, in the order and with the faults that c picks,
// until no replica makes another call.
func (s scenario) schedule(c *choices, replicas []*replica, store *cutOff) {
	faults := s.faults
	cuts, cutFor := 0, 0
	if s.failover {
		cuts = 2
	}
	for slept := false; ; {
		if len(c.log) > 1000 {
			panic("the run never ends:\n" + strings.Join(c.log[:100], "\n"))
		}
		// Wait until every replica waits for a turn or is idle.
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
			time.Sleep(5 * time.Second) // in the bubble: longer than any backoff
			slept = true
			continue
		}
		slept = false
		slices.SortFunc(calls, func(a, b ready) int { return strings.Compare(a.what, b.what) })
		options := len(calls)
		if cuts > 0 {
			options++
		}
		picked := len(calls)
		if cutFor < cmp.Or(s.cutFor, 3) {
			picked = c.pick(options)
		}
		if cuts == 1 {
			cutFor++
		}
		if picked == len(calls) {
			cuts--
			cutFor = 0
			if cuts == 1 {
				store.cut()
				c.log = append(c.log, "THE STORE IS CUT OFF")
			} else {
				store.failOver()
				c.log = append(c.log, "THE REPLICA OF THE STORE TAKES ITS PLACE")
			}
			continue
		}
		next := calls[picked]
		f := none
		if faults > 0 {
			kinds := failPartly
			if strings.Contains(next.what, " marks ") {
				kinds++
			}
			f = fault(c.pick(int(kinds)))
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
