package once

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// tuning holds the numbers that affect speed and never correctness.
type tuning struct {
	keep      func(applied, authors int) int // recent IDs that stay in a record
	maxFuture int                            // IDs from the future that stay too
	maxIDs    int                            // a record with this many IDs is full
	sharers   int                            // the fewest IDs that share a marker
}

var defaultTuning = tuning{keep: keepIDs, maxFuture: 1024, maxIDs: 4096, sharers: 8}

// keepIDs returns how many recent IDs stay in a record. applied is the number of changes
// in the last commit, authors the number of replicas that commit. Events overtake each
// other. The more events are in flight, the more IDs must stay to spare them look-ups.
func keepIDs(applied, authors int) int { return max(128, min(applied*(2*authors-1), 512)) }

// An entry is a change on its way into the store.
type entry[V any] struct {
	Change[V]
	replaces bool // it replaces the value, even a damaged one
	ctx      context.Context

	done   chan struct{} // closed when result and err are the answer
	result Result[V]
	err    error

	hasMarker  bool   // a look-up found its marker
	noMarker   bool   // a look-up found no marker
	noMarkerAt string // the record's Pruned at that look-up
	commit     string // the last commit that applied the change, and may have taken effect
	saved      bool   // that commit took effect: the record says so
}

// A worker commits the changes of one key. It ends when no change waits and no marker is
// being written.
type worker[V any] struct {
	in      *Inbox[V]
	key     string
	arrived chan struct{} // signals that waiting has grown

	// in.mu guards these.
	waiting []*entry[V]
	err     error // why the last commit failed

	// Only the worker's goroutine uses these.
	ctx         context.Context // that of a change, without its cancellation
	entries     []*entry[V]     // taken and not answered
	faults      int             // failed commits since the last save, without those lost to a rival
	lost        *lostSave       // the last save, if it failed
	full        bool            // the record has no room for the entries that wait
	fullForSets bool            // the record has no room even for a Set
	marks
}

// A lostSave is a save that failed.
type lostSave struct {
	etag string
	err  error
}

// add hands an entry to the worker of its key.
func (in *Inbox[V]) add(e *entry[V]) *worker[V] {
	in.mu.Lock()
	defer in.mu.Unlock()
	w := in.workers[e.Key]
	if w == nil {
		w = &worker[V]{in: in, key: e.Key, arrived: make(chan struct{}, 1), ctx: context.WithoutCancel(e.ctx)}
		in.workers[e.Key] = w
		go w.run()
	}
	w.waiting = append(w.waiting, e)
	in.pending[e] = time.Now()
	select {
	case w.arrived <- struct{}{}:
	default:
	}
	return w
}

func (w *worker[V]) run() {
	for w.ready() {
		time.Sleep(w.commit())
	}
}

// ready waits until there is something to commit. It returns false when the worker has
// ended, because no change waits and no marker is being written.
func (w *worker[V]) ready() bool {
	for {
		select {
		case m := <-w.writing:
			w.collect(m)
		default:
		}
		waits, sets := w.dropAbandoned()
		switch {
		case w.marked != "" || waits && !w.full || sets && !w.fullForSets:
			return true
		case waits && w.writing == nil: // the record is full, and its markers could not be written
			time.Sleep(time.Until(w.markAfter))
			return true
		case w.writing == nil && w.end():
			return false
		}
		select {
		case <-w.arrived:
		case m := <-w.writing:
			w.collect(m)
		}
	}
}

// end removes the worker, unless a change has arrived.
func (w *worker[V]) end() bool {
	w.in.mu.Lock()
	defer w.in.mu.Unlock()
	if len(w.waiting) > 0 {
		return false
	}
	delete(w.in.workers, w.key)
	return true
}

// dropAbandoned drops the changes whose callers have gone, and takes w.ctx from the first
// change that is left. It tells whether any change still waits, and whether one of them sets
// the value.
func (w *worker[V]) dropAbandoned() (waits, sets bool) {
	w.in.mu.Lock()
	defer w.in.mu.Unlock()
	abandoned := func(e *entry[V]) bool { return e.ctx.Err() != nil }
	w.entries = slices.DeleteFunc(w.entries, abandoned)
	w.waiting = slices.DeleteFunc(w.waiting, abandoned)
	for _, e := range append(w.entries[:len(w.entries):len(w.entries)], w.waiting...) {
		if !waits {
			w.ctx = context.WithoutCancel(e.ctx)
		}
		waits, sets = true, sets || e.replaces
	}
	return waits, sets
}

// take takes the waiting changes.
func (w *worker[V]) take() {
	w.in.mu.Lock()
	defer w.in.mu.Unlock()
	w.entries = append(w.entries, w.waiting...)
	w.waiting = nil
	select {
	case <-w.arrived:
	default:
	}
}

// forget removes a change from those that wait.
func (in *Inbox[V]) forget(e *entry[V]) {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.pending, e)
}

// finish gives a caller the answer.
func (e *entry[V]) finish(r Result[V], err error) {
	e.result, e.err = r, err
	close(e.done)
}

// failed notes why a commit failed, and returns how long to wait before the next one.
func (w *worker[V]) failed(err error) time.Duration {
	w.faults++
	w.note(err)
	if len(w.entries) == 0 {
		w.marked = "" // no retry: any replica can mark these IDs again
	}
	return backoff(w.faults)
}

func (w *worker[V]) note(err error) {
	w.in.mu.Lock()
	defer w.in.mu.Unlock()
	w.err = err
}

// gaveUp returns the error of a caller whose context is done.
func (w *worker[V]) gaveUp(done error) error {
	w.in.mu.Lock()
	defer w.in.mu.Unlock()
	if w.err == nil {
		return done
	}
	return fmt.Errorf("%w: the last try failed: %w", done, w.err)
}

// backoff returns how long to wait after consecutive faults. The time is random, so that
// replicas do not retry together.
func backoff(faults int) time.Duration {
	d := min(20*time.Millisecond<<min(faults-1, 10), time.Second)
	return d/2 + rand.N(d/2)
}
