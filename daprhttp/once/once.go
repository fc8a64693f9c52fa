// Package once applies each event to a value in a Dapr state store, once.
//
// Delivery is at least once: a subscriber gets an event again when an
// acknowledgement was lost, and another replica gets it when the first one died.
// An [Inbox] keeps a value of the caller's own type under each key, and beside it
// which events are in it, so that an event that comes again changes nothing. All
// it takes of the state store is an ETag and a time to live: no transactions.
// Any number of replicas may share a store, and any may die at any moment.
//
// # How it counts once
//
// The value and the IDs of the changes in it are one record, saved together. A
// record can't hold IDs for ever: they age in two generations, and the older one is
// taken out once the latest are enough and all of it has markers, which are keys of their
// own that expire.
// These hold, whatever fails or dies:
//
//  1. A change that is in the value has its ID in the record ([Inbox.plan] puts
//     both into one save), until it is taken out.
//  2. IDs are taken out of the record only when their markers are in the store
//     ([markers.remember] is told so, by a read or by a save that succeeded).
//  3. Every ID that was taken out is up to the record's Watermark or in its range
//     Ahead ([record.takeOut]). A change with any other ID, which most new ones
//     have, has no marker: it is in the record or not in the value.
//  4. The markers of a change are looked for only after the record was read
//     ([Inbox.commit]), and none that was acknowledged is missed
//     ([store.readStrong]). As an ID has its marker before it leaves the record,
//     it is found in one or the other.
//  5. A change that was looked for in vain, and that is not in a record read later,
//     is not in its value if that record's Generation is the same or the next: to
//     be applied and taken out since, its ID would have had to become an older one
//     and to be taken out, which is two steps ([record.age], [record.takeOut]).
//     What was found, or not, is noted in the entry of the change and nowhere else
//     ([Inbox.lookUp]).
//  6. A record is saved only over the one that was read ([store.save], by its
//     ETag). So a plan that was made from what is no longer so has no effect.
//  7. A save that fails may have taken effect. Only reading again tells: the record
//     names the commit ([item.know]), or has the ID ([item.plan]).
//  8. What a record shows may still be lost: a primary that is cut off from its
//     replicas shows what it has, acknowledged or not. So no change is said to be
//     applied, nor to have been, but on the acknowledgement of a save over the record
//     that has it ([item.saves]); a store that keeps what it has acknowledged of a key
//     keeps what that was based on.
//
// Whoever dies before its save has done nothing. Whoever dies after it leaves IDs
// in the record, where they do no harm, and others write their markers. Neither
// need the time in an ID be right, nor IDs arrive in their order: that costs a
// look at a marker, no more.
//
// # The way of a change
//
// File after file, with no way back: it waits in a queue (queue.go) for the turn of
// its replica (turn.go), and goes into a commit with others (commit.go), which reads
// the record (ahead.go, record.go), looks for markers (lookup.go), plans (plan.go)
// and saves (store.go), and has markers written (markers.go, slot.go).
package once

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"example.com/dapr-orders/daprhttp"
)

// An Inbox applies changes to the values of one state store. Its methods may be
// called by many goroutines at once.
//
// Nothing else may write its keys: whoever overwrites a record erases the memory
// of what is in it. A value that another program has left as it is, as plain JSON
// without a record around it, is taken over.
type Inbox[V any] struct {
	store     store
	markerTTL time.Duration
	keep      func(applied, authors int) int // how many IDs are in a generation
	queue     queue[V]
	markers   markers
	readAhead readAhead
	failing   failing
	author    *author
	calls     calls[V]
	counts    counts
}

// Options are the settings of an [Inbox]. The zero value is good for most.
type Options struct {
	// MarkerTTL is how long at least an event that comes again is recognised.
	// Zero means 24 hours. The state store must let keys expire; where it does
	// not, they are kept for ever.
	MarkerTTL time.Duration

	// DefaultConsistency leaves the consistency of reads and writes to the state
	// store, for a store that gives more when it is not asked for strong
	// consistency. What the store then gives must be strong.
	DefaultConsistency bool
}

// New returns an Inbox over the state store called storeName, which needs ETags.
// V is stored as its JSON, in which Dapr keeps numbers as float64: see
// [daprhttp.MaxInteger].
func New[V any](sidecar *daprhttp.Client, storeName string, o Options) *Inbox[V] {
	if o.MarkerTTL == 0 {
		o.MarkerTTL = 24 * time.Hour
	}
	consistency := daprhttp.Strong
	if o.DefaultConsistency {
		consistency = ""
	}
	return newInbox[V](daprStore{sidecar, storeName, o.MarkerTTL, consistency}, o.MarkerTTL)
}

func newInbox[V any](s store, markerTTL time.Duration) *Inbox[V] {
	in := &Inbox[V]{store: s, markerTTL: markerTTL, keep: keepIDs, author: newAuthor()}
	in.queue = queue[V]{commit: in.commit, lines: make(map[string]*line[V])}
	in.readAhead = readAhead{store: s}
	in.markers = markers{store: s, known: memory{limit: maxRemembered}}
	return in
}

// A Change is something that happens to the value of one key, once.
type Change[V any] struct {
	Key string // fit for any state store: see daprhttp.CheckKey
	ID  ID     // of the event, see EventID

	// Apply returns the value after the change. It may be called any number of
	// times and must have no other effect; the value before any change is the
	// zero value of V.
	Apply func(V) (V, error)
}

func (c Change[V]) check() error {
	if err := daprhttp.CheckKey(c.Key); err != nil {
		return fmt.Errorf("key %w", err)
	}
	if len(c.ID) != idLength {
		return fmt.Errorf("%q is no ID: make it with EventID", c.ID)
	}
	return nil
}

// A Result is what became of a [Change].
type Result[V any] struct {
	// Before and After are the value without the change and with it. They are
	// zero where the change is a duplicate or has failed.
	Before, After V

	// Duplicate is true when the change had been applied already.
	Duplicate bool

	// Err is nil when the value has the change in it. An error that is [ErrFinal]
	// will be the same next time. After any other the change may have been
	// applied or not, and is to be delivered again.
	Err error
}

// ErrFinal is what errors are, for [errors.Is], that will be the same however
// often a change is tried: that of its Apply function, or that what is stored
// under its key, or the key itself, is none.
var ErrFinal = errors.New("this can't be applied")

type finalError struct{ error }

func (e finalError) Unwrap() error        { return e.error }
func (e finalError) Is(target error) bool { return target == ErrFinal }

// Apply applies changes, each unless that has been done before, and returns what
// became of each when all are in the store, or can't be.
//
// When ctx is done, Apply returns at once, and the error of what is not known yet is
// that of ctx: what was not being saved just then is given up. A store that can't
// be read, or has not saved a change after some seconds, is an error too; for a key
// of which that is known, after one try, and, while such tries take long, without.
// Changes of one key that arrive at the same time are saved together, in any order.
func (in *Inbox[V]) Apply(ctx context.Context, changes ...Change[V]) []Result[V] {
	return in.apply(ctx, false, changes)
}

// Set sets the value of a key, whatever it was. What is applied before and after
// stays known.
//
// The error is nil when the value is set. After an error it may have been set or not;
// but once Set has returned, it can't undo what another call sets after that.
func (in *Inbox[V]) Set(ctx context.Context, key string, value V) error {
	id := newID(uint64(time.Now().UnixMilli()), []byte(rand.Text()))
	set := Change[V]{Key: key, ID: id, Apply: func(V) (V, error) { return value, nil }}
	return in.apply(ctx, true, []Change[V]{set})[0].Err
}

// Get returns the value of a key: the zero value where nothing was ever applied.
func (in *Inbox[V]) Get(ctx context.Context, key string) (V, error) {
	s := in.store.readStrong(ctx, []string{recordKey(key)})[recordKey(key)]
	if s.err != nil {
		var none V
		return none, s.err
	}
	r, err := decodeRecord[V](s.value)
	return r.Value, err
}

func (in *Inbox[V]) apply(ctx context.Context, replaces bool, changes []Change[V]) []Result[V] {
	c := &call[V]{results: make([]Result[V], len(changes)), missing: len(changes), done: make(chan struct{})}
	entries := make([]*entry[V], 0, len(changes))
	trial := trial{failing: &in.failing}
	defer trial.end()
	for i, change := range changes {
		c.results[i].Err = errMissing
		finish := func(r Result[V]) { c.finish(i, r) }
		if err := change.check(); err != nil {
			finish(Result[V]{Err: finalError{err}})
			continue
		}
		if !replaces { // what replaces it may be what mends it
			if err := trial.admit(change.Key); err != nil {
				finish(Result[V]{Err: err})
				continue
			}
		}
		entries = append(entries, &entry[V]{
			Change: change, replaces: replaces, ctx: ctx, since: time.Now(), finish: finish, absentAt: never,
		})
	}
	if len(entries) > 0 {
		in.calls.add(c)
		defer in.calls.remove(c)
		in.queue.add(entries...)
		select {
		case <-c.done:
		case <-ctx.Done():
		}
	}
	return c.take(ctx)
}

// A call is one call of Apply.
type call[V any] struct {
	mu      sync.Mutex
	results []Result[V]
	missing int           // results
	done    chan struct{} // closed when none is missing
}

// errMissing stands for a result that is not known yet.
var errMissing = errors.New("not known yet")

func (c *call[V]) finish(i int, r Result[V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.results[i] = r
	if c.missing--; c.missing == 0 {
		close(c.done)
	}
}

// take returns a copy of the results, in which what is missing has ctx's error.
func (c *call[V]) take(ctx context.Context) []Result[V] {
	c.mu.Lock()
	defer c.mu.Unlock()
	results := append([]Result[V](nil), c.results...)
	for i := range results {
		if results[i].Err == errMissing {
			results[i].Err = ctx.Err()
		}
	}
	return results
}
