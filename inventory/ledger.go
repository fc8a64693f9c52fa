package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"time"
)

// A ledger counts changes to the stock of items, each change once, over a store
// that offers no more than a compare-and-swap of one key.
//
// Deliveries come at least once, to any replica, and a replica may die between
// any two steps. So the stock and the IDs of the changes in it are written
// together, in one record; and since a record can't hold IDs for ever, each
// change also gets a marker, a key of its own that expires. A commit
//
//  1. reads the record and its ETag,
//  2. then reads the markers of the changes,
//  3. leaves out the changes that have a marker or stand in the record, lowers
//     the quantity by the others, adds their IDs, takes out IDs whose markers are
//     known to be written, and saves the record against its ETag. When that has
//     succeeded the changes are reported as counted; when it has failed in
//     whatever way, only reading again, from 1, tells what is so,
//  4. writes the markers of the IDs in the record, while the next commit reads.
//
// Why that counts once: from 3 on, a change has its ID in the record or a marker,
// because the ID is taken out only when the marker is there. Whoever reads the
// record first and the marker second sees one or the other, and does not count
// the change again. Whoever dies before 3 has done nothing. Whoever dies after 3
// leaves IDs in the record, where they do no harm, and whoever commits next
// writes their markers.
//
// Changes that arrive while a commit is under way wait, and are committed
// together by the next: the busier it is, the less each of them costs.
type ledger struct {
	store store

	mu         sync.Mutex
	waiting    []*entry
	committing bool

	// Only the goroutine that commits uses these.
	marked   map[string]bool // IDs whose markers were written or seen, to save reading them
	unmarked []string        // IDs in records whose markers are to be written
	markErr  error           // why markers were not written the last time
}

const (
	maxBatch   = 256
	maxMarked  = 1 << 15
	maxPending = 1024             // IDs in a record; beyond, markers must be written first
	giveUp     = 10 * time.Second // when a change is handed back, to be delivered again
)

func newLedger(s store) *ledger {
	return &ledger{store: s, marked: make(map[string]bool)}
}

// An outcome is what became of a change that is in the stock.
type outcome struct {
	before, after int64 // the stock
	repeated      bool  // counted by an earlier delivery; before and after are not known
}

// count lowers an item's stock by an order, unless that has been done before.
//
// An error that wraps errUncountable will be the same next time. After any other
// the order may or may not have been counted, and is to be delivered again.
func (l *ledger) count(ctx context.Context, o orderPlaced) (outcome, error) {
	return l.commit(ctx, change{id: o.changeID(), itemID: o.ItemID, quantity: o.Quantity})
}

// set sets an item's stock.
func (l *ledger) set(ctx context.Context, itemID string, quantity int64) error {
	_, err := l.commit(ctx, change{id: rand.Text(), itemID: itemID, set: true, quantity: quantity})
	return err
}

// stock returns an item's stock. It is 0 for an item never seen.
func (l *ledger) stock(ctx context.Context, itemID string) (int64, error) {
	key := itemKey(itemID)
	found, err := l.store.read(ctx, []string{key})
	if err != nil {
		return 0, err
	}
	r, err := decodeRecord(found[key].value)
	return r.Quantity, err
}

// An entry is a change on its way into the store.
type entry struct {
	change
	ctx   context.Context // of the request; for its trace
	since time.Time

	tries   int
	outcome outcome // of the last try, should its save have taken effect
	commit  string  // that try

	copies []*entry // the same change, delivered again meanwhile
	done   chan result
}

type result struct {
	outcome outcome
	err     error
}

func (e *entry) finish(o outcome, err error) {
	e.done <- result{o, err}
	for _, c := range e.copies {
		c.done <- result{outcome{repeated: true}, err}
	}
}

// commit waits until a change is in the store, or can't be.
func (l *ledger) commit(ctx context.Context, c change) (outcome, error) {
	e := &entry{change: c, ctx: ctx, since: time.Now(), done: make(chan result, 1)}
	l.enqueue(e)
	select {
	case r := <-e.done:
		return r.outcome, r.err
	case <-ctx.Done(): // nobody is waiting any longer; the change goes its way
		return outcome{}, ctx.Err()
	}
}

func (l *ledger) enqueue(entries ...*entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, entries...)
	if !l.committing {
		l.committing = true
		go l.commitWaiting()
	}
}

// commitWaiting commits until nothing waits.
func (l *ledger) commitWaiting() {
	for {
		l.mu.Lock()
		n := min(len(l.waiting), maxBatch)
		batch := l.waiting[:n:n]
		l.waiting = l.waiting[n:]
		done := n == 0 && len(l.unmarked) == 0
		if done {
			l.waiting, l.committing = nil, false
		}
		l.mu.Unlock()
		switch {
		case done:
			return
		case n == 0:
			l.mark(context.Background())()
		default:
			l.commitBatch(batch)
		}
	}
}

// retry commits the entries of an item again, a little later, and hands back
// those that have been tried for long. Waits are random, so that replicas that
// met do not meet again.
func (l *ledger) retry(entries []*entry, err error) {
	var again []*entry
	for _, e := range entries {
		e.tries++
		if time.Since(e.since) > giveUp {
			e.finish(outcome{}, fmt.Errorf("not saved in %d tries: %w", e.tries, err))
		} else {
			again = append(again, e)
		}
	}
	if len(again) > 0 {
		most := min(4*time.Millisecond<<min(again[0].tries, 10), 500*time.Millisecond)
		time.AfterFunc(mathrand.N(most), func() { l.enqueue(again...) })
	}
}

// An item is the part of a commit that concerns one item.
type item struct {
	entries []*entry
	stored  record
	etag    string

	next    record
	counted []*entry // their changes are new in next
	saveErr error
}

// commitBatch carries out step 4 for the last batch and the others for this one.
// Each entry is finished, or will be tried again, when it returns.
func (l *ledger) commitBatch(batch []*entry) {
	// The batch serves many requests; its calls belong to the first one's trace.
	ctx := context.WithoutCancel(batch[0].ctx)
	items := group(batch)
	if len(l.marked) > maxMarked {
		clear(l.marked) // it is only a memory of what can be read again
	}

	wait := l.mark(ctx)
	l.readRecords(ctx, items)
	wait() // before what was written is taken out of the records
	l.readMarkers(ctx, items)
	commit := rand.Text()
	for _, it := range items {
		l.plan(it, commit)
	}
	l.save(ctx, items)
	for _, it := range items {
		if it.saveErr != nil {
			l.retry(it.counted, it.saveErr)
			continue
		}
		for _, e := range it.counted {
			e.finish(e.outcome, nil)
			l.unmarked = append(l.unmarked, e.id)
		}
	}
}

// group sorts a batch by item and makes deliveries of the same change one.
func group(batch []*entry) map[string]*item {
	items := make(map[string]*item)
	first := make(map[string]*entry, len(batch))
	for _, e := range batch {
		if f := first[e.id]; f != nil {
			f.copies = append(f.copies, e)
			f.copies = append(f.copies, e.copies...)
			e.copies = nil
			continue
		}
		first[e.id] = e
		it := items[e.itemID]
		if it == nil {
			it = &item{}
			items[e.itemID] = it
		}
		it.entries = append(it.entries, e)
	}
	return items
}

// fail finishes an item's entries with an error and takes the item out.
func fail(items map[string]*item, itemID string, err error) {
	for _, e := range items[itemID].entries {
		e.finish(outcome{}, err)
	}
	delete(items, itemID)
}

// readRecords is step 1.
func (l *ledger) readRecords(ctx context.Context, items map[string]*item) {
	keys := make([]string, 0, len(items))
	for itemID := range items {
		keys = append(keys, itemKey(itemID))
	}
	found, err := l.store.read(ctx, keys)
	for itemID, it := range items {
		s := found[itemKey(itemID)]
		if err := errors.Join(err, s.err); err != nil {
			fail(items, itemID, err)
			continue
		}
		if s.value != nil && s.etag == "" {
			fail(items, itemID, errors.New("the state store gave no ETag, without which nothing can be counted"))
			continue
		}
		it.etag = s.etag
		if it.stored, err = decodeRecord(s.value); err != nil {
			it.keepSets(err) // a record that can't be read can still be replaced
		}
	}
}

// keepSets finishes with an error the entries that need the stored record.
func (it *item) keepSets(err error) {
	var sets []*entry
	for _, e := range it.entries {
		if e.set {
			sets = append(sets, e)
		} else {
			e.finish(outcome{}, err)
		}
	}
	it.entries = sets
}

// readMarkers is step 2. Beside those of the entries' own changes it reads the
// markers of what other ledgers have left in the records, to take it out.
func (l *ledger) readMarkers(ctx context.Context, items map[string]*item) {
	var keys []string
	for _, it := range items {
		for _, e := range it.entries {
			if !l.marked[e.id] {
				keys = append(keys, markerKey(e.id))
			}
		}
		for _, id := range it.stored.Pending {
			if !l.marked[id] {
				keys = append(keys, markerKey(id))
			}
		}
	}
	if len(keys) == 0 {
		return
	}
	found, err := l.store.read(ctx, keys)
	for key, s := range found {
		if s.value != nil {
			l.marked[changeOfMarker(key)] = true
		}
	}
	for itemID, it := range items {
		for _, e := range it.entries {
			if err := errors.Join(err, found[markerKey(e.id)].err); err != nil && !l.marked[e.id] {
				fail(items, itemID, err)
				break
			}
		}
	}
}

// plan makes the record of step 3.
func (l *ledger) plan(it *item, commit string) {
	it.next = record{Quantity: it.stored.Quantity, Commit: commit}
	for _, id := range it.stored.Pending {
		if !l.marked[id] {
			it.next.Pending = append(it.next.Pending, id)
			l.unmarked = append(l.unmarked, id)
		}
	}
	for _, e := range it.entries {
		switch after, err := e.apply(it.next.Quantity); {
		case l.marked[e.id] || it.stored.has(e.id):
			o := outcome{repeated: true}
			if e.commit != "" && e.commit == it.stored.Commit {
				o = e.outcome // it was this entry's own save, which seemed to fail
			}
			e.finish(o, nil)
		case err != nil:
			e.finish(outcome{}, err)
		case len(it.next.Pending) >= maxPending:
			e.finish(outcome{}, fmt.Errorf("%d changes are not yet marked as counted: %w", maxPending, l.markErr))
		default:
			e.outcome, e.commit = outcome{before: it.next.Quantity, after: after}, commit
			it.next.Quantity = after
			it.next.Pending = append(it.next.Pending, e.id)
			it.counted = append(it.counted, e)
		}
	}
}

// save ends step 3. All items go into one call, but for those of an earlier try,
// which go alone: in a store that saves all or nothing, the one whose ETag is
// stale again must not take the others with it.
func (l *ledger) save(ctx context.Context, items map[string]*item) {
	var calls [][]*item
	var together []*item
	for _, it := range items {
		switch {
		case len(it.counted) == 0: // nothing new
		case it.counted[0].tries > 0:
			calls = append(calls, []*item{it})
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
				writes[i] = write{itemKey(it.counted[0].itemID), it.etag, it.next}
			}
			err := l.store.save(ctx, writes)
			for _, it := range call {
				it.saveErr = err
			}
		})
	}
	wg.Wait()
}

// mark begins step 4 for what was committed before, and returns a function that
// waits for its end. Markers that can't be written now are written when the item
// is committed again: until then the IDs stay in its record.
func (l *ledger) mark(ctx context.Context) (wait func()) {
	ids := l.unmarked
	l.unmarked = nil
	if len(ids) == 0 {
		return func() {}
	}
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = markerKey(id)
	}
	failed := make(chan error, 1)
	go func() { failed <- l.store.mark(ctx, keys) }()
	return func() {
		if l.markErr = <-failed; l.markErr != nil {
			return
		}
		for _, id := range ids {
			l.marked[id] = true
		}
	}
}
