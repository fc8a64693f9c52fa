// Package once applies each event to a value in a Dapr state store, once.
//
// Delivery is at least once: a subscriber gets an event again when an
// acknowledgement is lost, and another replica gets it when the first one dies.
// An [Inbox] keeps under each key a value of the caller's type and the IDs of the
// events in it. A redelivered event therefore changes nothing. The state store needs
// ETags and keys that expire, and no transactions. Any number of replicas may share a
// store, and any of them may die at any moment.
package once

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"example.com/dapr-orders/daprhttp"
)

// How it works:
//
// The record of a key holds the value and the IDs of the changes in it (record.go).
// Each key with waiting changes has one worker (worker.go). The worker repeats one
// commit (commit.go). It reads the record, takes the waiting changes, looks up markers
// (lookup.go) and plans the next record (plan.go). It saves the plan over the ETag that
// it read, and answers. A record can't hold IDs forever. When it holds many, the
// smallest IDs get markers, which are keys that expire, and leave the record (prune.go).
// The watermark is the greatest ID that ever left. A greater ID is in the record or new,
// so that most new events need no look-up.
//
// Invariants:
//
//  1. The value and its IDs change in one save ([worker.plan]). An ID leaves the
//     record only after the store acknowledged its marker to this replica. A replica
//     marks only IDs in a record that the store acknowledged to it. Every marked
//     change is therefore applied for good ([worker.mark]). A read proves
//     neither kind of save: a primary that is cut off from its replicas shows saves that
//     a failover undoes.
//  2. A worker looks for a marker after it read the record. It therefore finds an ID
//     in the record or among the markers. A look-up that finds no marker stays valid
//     until an ID leaves the record. The record names the commit that pruned it last.
//     No other commit ever has that name, even after a failover ([entry.resolved]).
//  3. Pruning needs no memory. Only the record decides whether its IDs can leave,
//     and any replica that commits can prune it. A full record is pruned before
//     an event is added ([worker.mark], [Inbox.leaving]).
//  4. A marker belongs to one key: one event may change many keys ([markerKey]).
//     Many events of the same 8 ms share a marker, which is written once and never
//     changed. An event that comes later gets a marker of its own ([Inbox.share]).
//  5. No clock of a publisher or a replica is trusted. A wrong one costs only look-ups
//     or a longer record. The clock only chooses which IDs leave. Each of them has a
//     marker and is not above the watermark ([record.takeOut]).
//  6. Replicas share a hot key. After a save, a replica rests for the length of one
//     commit per rival that the record names ([worker.commit]).
//  7. Keys share nothing. A key on which the store hangs or refuses has a worker of
//     its own, and delays no other key.
//  8. A worker works out each answer from a record: a result, a duplicate or a final
//     error. It answers after the store acknowledged a save over that record
//     ([worker.conclude]).
//     A save that fails may have taken effect. Only the next read tells: the record
//     names the commit, or has the ID ([worker.noteSaved]). One final error comes
//     without a save: another program left a value that can't be decoded.
//
// A replica that dies before its save has changed nothing. A replica that dies after
// its save leaves IDs in the record, where they do no harm.
//
// The invariants rely on three promises of the store. It keeps and shows every save that
// it acknowledged. It keeps a marker for Options.MarkerTTL. An ETag never returns with
// another value in the milliseconds between a read and the save over it.

// An Inbox applies changes to the values of one state store: see [New]. Its methods may be
// called by many goroutines at once.
//
// No other program may write its keys: overwriting a record erases the IDs in it. An
// Inbox takes over a bare JSON value that another program left under a key, unless the key
// has one of / \ ? # or begins with "~".
type Inbox[V any] struct {
	store     store
	author    author
	tuning    tuning
	commits   atomic.Int64 // saves that were acknowledged
	conflicts atomic.Int64 // saves that failed because a rival had saved

	mu      sync.Mutex
	workers map[string]*worker[V]   // by key
	pending map[*entry[V]]time.Time // when each change arrived
}

// Options are the settings of an [Inbox]. The zero value is good for most stores.
type Options struct {
	// MarkerTTL is the least time for which a redelivered event is recognised. It is
	// rounded up to seconds. Zero means 24 hours. It must not be negative, nor beyond 2^31-1
	// seconds (68 years): stores refuse such a time, or keep markers forever.
	//
	// See https://docs.dapr.io/developing-applications/building-blocks/state-management/state-store-ttl/.
	MarkerTTL time.Duration

	// Consistency is the consistency of each read and save. Reads must show every
	// acknowledged save. Empty means [daprhttp.Strong].
	Consistency daprhttp.Consistency

	// DefaultConsistency leaves the consistency to the store, if Consistency is empty.
	// Set it for a strongly consistent store that rejects or weakens "strong".
	DefaultConsistency bool
}

// New returns an Inbox over the state store called storeName. Values are stored as
// JSON, in which Dapr keeps numbers as float64: see [daprhttp.MaxInteger].
func New[V any](sidecar *daprhttp.Client, storeName string, o Options) *Inbox[V] {
	if o.MarkerTTL == 0 {
		o.MarkerTTL = 24 * time.Hour
	}
	if o.Consistency == "" && !o.DefaultConsistency {
		o.Consistency = daprhttp.Strong
	}
	return newInbox[V](&daprStore{sidecar, storeName, o.MarkerTTL, o.Consistency})
}

func newInbox[V any](s store) *Inbox[V] {
	return &Inbox[V]{
		store:   s,
		author:  newAuthor(),
		tuning:  defaultTuning,
		workers: make(map[string]*worker[V]),
		pending: make(map[*entry[V]]time.Time),
	}
}

// A Change is what an event does to the value of one key.
type Change[V any] struct {
	Key string // must pass daprhttp.CheckKey
	ID  ID     // the event's: see EventID

	// Apply returns the value after the change. It may run many times and must have no
	// side effects: it must not change a map or slice in its argument either. A new key
	// has the zero value of V. An error of Apply, or a panic, refuses the change. This is
	// not remembered: a redelivery asks Apply again.
	//
	// Apply runs on another goroutine, perhaps after [Inbox.Apply] has returned. It must
	// not end that goroutine, as t.Fatal does.
	Apply func(V) (V, error)
}

func (c Change[V]) check() error {
	if err := daprhttp.CheckKey(c.Key); err != nil {
		return fmt.Errorf("key %w", err)
	}
	if !c.ID.valid() {
		return fmt.Errorf("%q is not an ID: EventID makes IDs", c.ID)
	}
	return nil
}

// A Result tells what a [Change] did. Don't change a map or slice in it: other Results may
// have the same.
type Result[V any] struct {
	Before, After V    // the value before the change and after it; zero for a duplicate
	Duplicate     bool // the change was applied before
}

// ErrFinal matches errors of Apply and Set that retrying can't cure: the Change's Apply
// function failed, its key or ID is invalid, the new value has no JSON, or the stored value
// can't be decoded.
var ErrFinal = errors.New("this change can't be applied")

type finalError struct{ error }

func (e finalError) Unwrap() error        { return e.error }
func (e finalError) Is(target error) bool { return target == ErrFinal }

// Apply applies a change unless it was applied before. Changes of one key that arrive
// during a save are saved together, in any order.
//
// Apply returns a nil error when the store has acknowledged a value that has the change
// in it. It retries until ctx is done. Then the error wraps the error of ctx and the
// last error of the store. A stored value without an ETag, and a record of a newer version
// of this package, are errors at once. After an error that is not [ErrFinal], the change may
// have been applied: deliver the event again.
func (in *Inbox[V]) Apply(ctx context.Context, c Change[V]) (Result[V], error) {
	return in.apply(ctx, &entry[V]{Change: c})
}

// Set replaces the value of a key, even a value that can't be decoded. Redeliveries of
// events that were applied before stay duplicates. But IDs that can't be read are lost: then
// a redelivery is applied again.
//
// Set retries until ctx is done. After an error the value may have been set. A Set that
// has returned never undoes a later Set. Don't change a map or slice in the value, even
// after Set has returned: a Result may have it.
func (in *Inbox[V]) Set(ctx context.Context, key string, value V) error {
	id := newID(uint64(time.Now().UnixMilli()), []byte(rand.Text()))
	set := Change[V]{Key: key, ID: id, Apply: func(V) (V, error) { return value, nil }}
	_, err := in.apply(ctx, &entry[V]{Change: set, replaces: true})
	return err
}

// Get returns the value of a key. A new key has the zero value. Get reads once and does
// not retry. A value that can't be decoded is an error.
func (in *Inbox[V]) Get(ctx context.Context, key string) (V, error) {
	var zero V
	s, err := in.store.read(ctx, recordKey(key))
	if err != nil {
		return zero, err
	}
	r, err := decodeRecord[V](s.value)
	if err = cmp.Or(err, r.damaged); err != nil {
		return zero, err
	}
	return r.Value, nil
}

// apply hands an entry to the worker of its key and waits for the answer.
func (in *Inbox[V]) apply(ctx context.Context, e *entry[V]) (Result[V], error) {
	if err := e.check(); err != nil {
		return Result[V]{}, finalError{err}
	}
	e.ctx, e.done = ctx, make(chan struct{})
	w := in.add(e)
	defer in.forget(e)
	select {
	case <-e.done:
	case <-ctx.Done():
		select {
		case <-e.done:
		default:
			return Result[V]{}, w.gaveUp(ctx.Err())
		}
	}
	return e.result, e.err
}
