package once

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// choices decides the order and the faults of each run. The next run differs in the last
// choice that has an alternative.
type choices struct {
	made []choice
	next int
	log  []string // what has happened in this run
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
type fault string

const (
	none       fault = ""
	dieBefore  fault = " DIES BEFORE"            // the process dies before the call has taken effect
	dieAfter   fault = " DIES AFTER"             // the process dies after the call has taken effect
	failBefore fault = " FAILS"                  // the call fails without effect
	failAfter  fault = " FAILS BUT TOOK EFFECT"  // the call fails after it has taken effect
	leave      fault = " IS LEFT BY ITS CALLERS" // the callers give up, and the call takes effect
	failPartly fault = " FAILS HALFWAY"          // the call fails after it has written some of the markers
)

// A replica is a process. Each call of its store waits until the scheduler picks the call
// and its fault.
type replica struct {
	*scheduler
	name    string
	dead    atomic.Bool
	callers context.Context
	leave   context.CancelFunc
}

// A turn is a call that waits.
type turn struct {
	call
	what string
	take chan fault
}

// call waits for its turn, and makes the call with the fault of that turn. The call of a
// dead process has no effect.
func (r *replica) call(c call) error {
	if r.dead.Load() {
		return errFailed
	}
	t := &turn{c, r.name + " " + c.method + "s " + c.key, make(chan fault)}
	r.mu.Lock()
	r.turns = append(r.turns, t)
	r.mu.Unlock()
	f := <-t.take
	if r.dead.Load() { // it died while the call waited
		return errFailed
	}
	switch f {
	case none:
		return c.do()
	case leave:
		r.leave()
		return c.do()
	case failAfter, dieAfter:
		_ = c.do()
	case failPartly:
		_ = r.store.mark(r.callers, c.key, c.ids.slice(0, c.ids.len()/2))
	}
	r.dead.Store(f == dieBefore || f == dieAfter)
	return errFailed
}

// A scheduler makes the calls of the replicas in the order that the choices pick.
type scheduler struct {
	*choices
	store    *memoryStore
	replicas []*replica
	faults   int  // the most faults from now on
	failover bool // the store will be cut off
	cutFor   int  // the most calls that the store serves while it is cut off

	mu    sync.Mutex
	turns []*turn
}

func (s *scheduler) add(t *testing.T, name string) {
	r := &replica{scheduler: s, name: name}
	r.callers, r.leave = context.WithCancel(t.Context())
	s.replicas = append(s.replicas, r)
}

// run makes the calls, until no replica makes another call. Then it ends the replicas.
func (s *scheduler) run() {
	for s.wait() {
		if len(s.log) > 1000 {
			panic("the run never ends:\n" + strings.Join(s.log[:100], "\n"))
		}
		next := len(s.turns) // the next step of the failover
		switch {
		case s.failover || s.store.cutOff && s.cutFor > 0:
			next = s.pick(len(s.turns) + 1)
		case !s.store.cutOff:
			next = s.pick(len(s.turns))
		}
		switch {
		case next < len(s.turns):
			s.serve(next)
		case s.failover:
			s.log = append(s.log, "THE STORE IS CUT OFF")
			s.store.cut("")
			s.failover = false
		default:
			s.log = append(s.log, "THE REPLICA OF THE STORE TAKES ITS PLACE")
			s.store.failOver()
		}
	}
	if s.store.cutOff {
		s.store.failOver()
	}
	for _, r := range s.replicas {
		r.dead.Store(true) // a late call has no effect
		r.leave()
	}
}

// wait waits until each replica waits for a turn or is idle. It returns false if each one
// is idle.
func (s *scheduler) wait() bool {
	synctest.Wait()
	s.mu.Lock()
	idle := len(s.turns) == 0
	s.mu.Unlock()
	if idle {
		time.Sleep(5 * time.Second) // in the bubble: longer than any backoff
		synctest.Wait()
	}
	slices.SortFunc(s.turns, func(a, b *turn) int { return strings.Compare(a.what, b.what) })
	return len(s.turns) > 0
}

// serve lets a call take its turn, with a fault if there may be one more.
func (s *scheduler) serve(i int) {
	t := s.turns[i]
	s.turns = slices.Delete(s.turns, i, i+1)
	faults := []fault{none, dieBefore, dieAfter, failBefore, failAfter, leave}
	if t.ids.len() > 1 {
		faults = append(faults, failPartly)
	}
	if s.faults == 0 {
		faults = faults[:1]
	}
	f := faults[s.pick(len(faults))]
	if f != none {
		s.faults--
	}
	if s.store.cutOff {
		s.cutFor--
	}
	s.log = append(s.log, t.what+string(f))
	t.take <- f
}
