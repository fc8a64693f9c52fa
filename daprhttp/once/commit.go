package once

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	maxIDs   = 1 << 12         // IDs in a record; beyond, markers must be written first
	maxAgain = 2               // how often records are read again, and markers looked for
	giveUp   = 3 * time.Second // when a change that can't be saved is handed back
)

// keepIDs returns how many IDs are together in a generation, when a commit of so
// many changes is by one of so many authors: some more than a sidecar has events in hand,
// and for a busy key so many that events which overtake each other, on their way
// to one replica or another, find their IDs in the record.
func keepIDs(applied, authors int) int { return max(128, min(applied*(2*authors-1), maxIDs/4)) }

// An item is the part of a commit that concerns one key.
type item[V any] struct {
	*batch[V]
	stored record[V]
	etag   string

	keep    int // how many IDs are to be in a generation
	next    record[V]
	aged    bool        // next has older IDs that were the latest ones
	applied []*entry[V] // their changes are new in next
	known   []*entry[V] // theirs are in it already
	full    bool        // next has no room for the entries that are left
	saveErr error
}

// commit carries out one commit, and those of keys that are known to fail apart from
// all others. What is left in the batches' entries afterwards is to be tried again.
func (in *Inbox[V]) commit(batches []*batch[V]) {
	var together []*batch[V]
	var wg sync.WaitGroup
	for _, b := range batches {
		if !in.failing.has(b.key) {
			together = append(together, b)
			continue
		}
		wg.Go(func() { in.commitTogether([]*batch[V]{b}, in.failing.patience(b.key)) })
	}
	if len(together) > 0 {
		in.commitTogether(together, 0)
	}
	wg.Wait()
}

// commitTogether carries out one commit, within so much time if that is not zero.
//
// It goes in one direction: read the records, look for markers, see whose turn it
// is, plan, save, and have markers written for the next commits. Look-ups take
// longer than all else. So that rivals do not save meanwhile, the records that have
// some are read again after them: what was looked for in vain mostly still is so
// (invariant 5).
func (in *Inbox[V]) commitTogether(batches []*batch[V], within time.Duration) {
	// The commit serves many callers; its calls belong to the first one's trace.
	unbounded := context.WithoutCancel(batches[0].entries[0].ctx)
	ctx := unbounded
	if within > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, within)
		defer cancel()
	}
	began := time.Now()
	items := in.read(ctx, batches)
	for again := 0; in.lookUp(ctx, items) && again < maxAgain; again++ {
		began = time.Now()
		items = in.read(ctx, batches)
	}
	items = in.takeTurns(items)
	in.plan(items)
	in.save(ctx, items)
	in.conclude(unbounded, items, time.Since(began))
	in.markOlder(unbounded, items)
}

// fail finishes all entries of a batch with an error.
func (b *batch[V]) fail(err error) {
	for _, e := range b.entries {
		e.finish(Result[V]{Err: err})
	}
	b.entries = nil
}

// read reads the records of the batches. Those that can't be read have failed, and
// are not among the items.
func (in *Inbox[V]) read(ctx context.Context, batches []*batch[V]) []*item[V] {
	batches = slices.DeleteFunc(slices.Clone(batches), func(b *batch[V]) bool { return len(b.entries) == 0 })
	if len(batches) == 0 {
		return nil
	}
	keys := make([]string, len(batches))
	for i, b := range batches {
		keys[i] = recordKey(b.key)
	}
	began := time.Now()
	found, err := in.readRecords(ctx, keys)
	items := make([]*item[V], 0, len(batches))
	for i, b := range batches {
		s := found[keys[i]]
		switch err := errors.Join(err, s.err); {
		case err != nil:
			if len(batches) == 1 { // otherwise another may be at fault
				in.failing.add(b.key, time.Since(began), err)
			}
			b.fail(err)
			continue
		case s.value != nil && s.etag == "":
			b.fail(errors.New("the state store gave no ETag, without which nothing can be applied once"))
			continue
		}
		it := &item[V]{batch: b, etag: s.etag}
		if it.stored, err = decodeRecord[V](s.value); err != nil {
			b.failUnlessReplacing(finalError{err}) // what can't be read can still be replaced
			err = nil
		}
		it.know()
		items = append(items, it)
	}
	return items
}

func (in *Inbox[V]) readRecords(ctx context.Context, keys []string) (map[string]stored, error) {
	if len(keys) == 1 {
		if s, ok := in.readAhead.take(keys[0]); ok {
			return map[string]stored{keys[0]: s}, nil
		}
	}
	in.readAhead.drop(keys)
	return in.store.read(ctx, keys)
}

func (b *batch[V]) failUnlessReplacing(err error) {
	b.entries = slices.DeleteFunc(b.entries, func(e *entry[V]) bool {
		if !e.replaces {
			e.finish(Result[V]{Err: err})
		}
		return !e.replaces
	})
}

// know notes of which entries a save took effect although it failed.
func (it *item[V]) know() {
	for _, e := range it.entries {
		e.saved = it.stored.Commits.has(e.commit) || e.saved && it.stored.has(e.ID)
	}
}

// saves reports whether the item has something to save: what is new, or what is
// answered only when a save on top of it is acknowledged (invariant 8).
func (it *item[V]) saves() bool { return len(it.applied)+len(it.known) > 0 }

// takeTurns returns the items that may be saved now. The others are tried again
// after a pause.
func (in *Inbox[V]) takeTurns(items []*item[V]) []*item[V] {
	return slices.DeleteFunc(items, func(it *item[V]) bool {
		own := it.stored.Commits.newestBy(in.author.name)
		if lost := it.pace.lost; lost != nil && lost.etag != it.etag && !own && !it.pace.paused {
			in.counts.conflicts.Add(1)
		}
		pause, fault := it.pace.read(it.etag, own, it.stored.Commits.before(in.author.name))
		if fault != nil {
			in.handBack(it.batch, fault)
			if len(it.entries) == 0 {
				it.pace, pause = pace{}, 0 // whoever comes next need not wait for it
			}
		}
		return pause > 0
	})
}

// handBack finishes the entries that have been tried for long with an error, and
// with them those of a key that is known to fail.
func (in *Inbox[V]) handBack(b *batch[V], why error) {
	known := in.failing.has(b.key)
	b.entries = slices.DeleteFunc(b.entries, func(e *entry[V]) bool {
		late := known || time.Since(e.since) > giveUp
		if late {
			in.failing.add(b.key, b.pace.took, why)
			e.finish(Result[V]{Err: fmt.Errorf("not saved in %v: %w", time.Since(e.since).Round(time.Millisecond), why)})
		}
		return late
	})
}

// save saves what was planned. All items go into one call, but for those whose
// saves keep failing, which go alone: in a store that saves all or nothing, the one
// whose ETag is stale must not take the others with it for ever.
func (in *Inbox[V]) save(ctx context.Context, items []*item[V]) {
	var together []*item[V]
	calls := make([][]*item[V], 0, 1)
	for _, it := range items {
		switch {
		case !it.saves():
		case it.pace.faults > 1:
			calls = append(calls, []*item[V]{it})
		default:
			together = append(together, it)
		}
	}
	if len(together) > 0 {
		calls = append(calls, together)
	}
	var wg sync.WaitGroup
	for _, call := range calls {
		wg.Go(func() {
			writes := make([]write, len(call))
			for i, it := range call {
				writes[i] = write{key: recordKey(it.key), etag: it.etag, value: it.next}
			}
			err := in.store.save(ctx, writes)
			for _, it := range call {
				it.saveErr = err
			}
		})
	}
	wg.Wait()
}

// conclude finishes what is saved, and leaves the rest in the batches.
func (in *Inbox[V]) conclude(ctx context.Context, items []*item[V], took time.Duration) {
	for _, it := range items {
		switch {
		case it.saveErr != nil:
			it.pace.failed(took, it.etag, it.saveErr)
			for _, e := range it.applied {
				it.entries = append(append(it.entries, e), e.copies...)
			}
			it.entries = append(it.entries, it.known...)
		case it.saves():
			in.counts.commits.Add(1)
			in.failing.saved(it.key, took)
			it.pace.saved(took, it.next.Commits.before(in.author.name))
			if len(items) == 1 && len(it.next.Commits.authors()) == 1 {
				in.readAhead.start(ctx, recordKey(it.key))
			}
			for _, e := range it.applied {
				e.finish(e.planned)
				for _, c := range e.copies {
					c.finish(Result[V]{Duplicate: true})
				}
			}
			for _, e := range it.known {
				e.finish(e.planned)
			}
		}
		if it.full {
			it.pace.pause(backoff(10))
			in.handBack(it.batch, fmt.Errorf("%d changes are not yet marked as applied: %w", maxIDs, in.markers.failure()))
		}
	}
}

// markOlder has the markers of older IDs written: by whoever made them older ones, so
// that replicas do not do it twice. If that one has died, or failed, the latest IDs
// become many.
func (in *Inbox[V]) markOlder(ctx context.Context, items []*item[V]) {
	for _, it := range items {
		r := &it.stored
		if it.saves() && it.saveErr == nil {
			r = &it.next
		}
		if r.Older != "" && (r == &it.next && it.aged || r.Latest.len() > 2*it.keep) {
			in.markers.write(ctx, it.key, r.Older)
		}
	}
}
