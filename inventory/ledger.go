package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"time"
)

// A ledger counts changes to the stock of items, each change once, over a store
// that offers no more than a compare-and-swap of one key.
//
// Deliveries come at least once, to any replica, and a replica may die between
// any two steps. So the stock and the IDs of the changes in it are written
// together, in one record. A record can't hold IDs for ever: the oldest are taken
// out once there are many, when markers, which are keys of their own and expire,
// have them. A commit
//
//  1. reads the record and its ETag,
//  2. for a change whose ID is not greater than all that were ever taken out of the
//     record, which few are, then looks for the marker,
//  3. leaves out the changes that stand in the record or have a marker, lowers
//     the quantity by the others, adds their IDs, takes out IDs whose markers are
//     known to be written, and saves the record against its ETag. When that has
//     succeeded the changes are reported as counted; when it has failed in
//     whatever way, only reading again, from 1, tells what is so,
//  4. when the record has many IDs, has the markers of the oldest written, while
//     other commits go on.
//
// Why that counts once: from 3 on, a change has its ID in the record or a marker,
// because the ID is taken out only when the marker is there. Whoever reads the
// record first and the marker second sees one or the other. Whoever reads the
// record and does not look for a marker knows from it that the ID was never taken
// out. In both ways he does not count the change again, unless the record was
// changed since, and then he can't save it. Whoever dies before 3 has done nothing.
// Whoever dies after 3 leaves IDs in the record, where they do no harm, and
// whoever commits next writes their markers.
//
// Only the search for markers must miss nothing. A record that was not seen, or
// seen as it was before, makes a save that fails.
//
// None of that needs the time in an ID to be right, nor IDs to arrive in their
// order: a change that comes later than those made after it costs a read, no more.
//
// Changes that arrive while a commit is under way wait, and are committed
// together by the next: the busier it is, the less each of them costs.
type ledger struct {
	store store
	keep  func(counted int) int // how many IDs a record keeps after a commit of so many changes

	mu         sync.Mutex
	waiting    []*entry
	committing bool

	marked   map[string]bool  // IDs whose markers were written or seen
	unmarked map[string]idSet // by item, IDs in records whose markers are to be written
	marking  map[string]idSet // the same, those that are being written
	markErr  error            // why markers were not written the last time
}

const (
	maxBatch   = 256
	maxMarked  = 1 << 15
	maxLatest  = 1 << 12          // IDs in a record; beyond, markers must be written first
	maxMarkers = 32               // written at the same time
	giveUp     = 10 * time.Second // when a change is handed back, to be delivered again
)

// keepIDs keeps a record of an item that is seldom ordered short, and that of a
// busy one long enough that events which overtake each other find their IDs in
// the record.
func keepIDs(counted int) int { return max(32, 4*counted) }

func newLedger(s store) *ledger {
	return &ledger{store: s, keep: keepIDs, marked: make(map[string]bool), unmarked: make(map[string]idSet)}
}

// An outcome is what became of a change that is in the stock.
type outcome struct {
	before, after int64 // the stock
	repeated      bool  // counted by an earlier delivery; before and after are not known
}

// count lowers items' stock by orders, by each unless that has been done before.
//
// An error that wraps errUncountable will be the same next time. After any other
// the order may or may not have been counted, and is to be delivered again.
func (l *ledger) count(ctx context.Context, orders ...orderPlaced) []result {
	changes := make([]change, len(orders))
	for i, o := range orders {
		changes[i] = change{id: o.changeID(), itemID: o.ItemID, quantity: o.Quantity}
	}
	return l.commit(ctx, changes...)
}

// set sets an item's stock.
func (l *ledger) set(ctx context.Context, itemID string, quantity int64) error {
	id := newChangeID(uint64(time.Now().UnixMilli()), []byte(rand.Text()))
	return l.commit(ctx, change{id: id, itemID: itemID, set: true, quantity: quantity})[0].err
}

// stock returns an item's stock. It is 0 for an item never seen.
func (l *ledger) stock(ctx context.Context, itemID string) (int64, error) {
	key := itemKey(itemID)
	found, err := l.store.find(ctx, []string{key})
	if err := errors.Join(err, found[key].err); err != nil {
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

// A result is the outcome of a change, or why there is none.
type result struct {
	outcome
	err error
}

func (e *entry) finish(o outcome, err error) {
	e.done <- result{o, err}
	for _, c := range e.copies {
		c.done <- result{outcome{repeated: true}, err}
	}
}

// commit waits until changes are in the store, or can't be.
func (l *ledger) commit(ctx context.Context, changes ...change) []result {
	entries := make([]*entry, len(changes))
	for i, c := range changes {
		entries[i] = &entry{change: c, ctx: ctx, since: time.Now(), done: make(chan result, 1)}
	}
	l.enqueue(entries...)
	results := make([]result, len(changes))
	for i, e := range entries {
		select {
		case results[i] = <-e.done:
		case <-ctx.Done(): // nobody is waiting any longer; the change goes its way
			results[i].err = ctx.Err()
		}
	}
	return results
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
		if n == 0 {
			l.waiting, l.committing = nil, false
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		l.commitBatch(batch)
	}
}

// retry commits entries again, a little later, and hands back those that have
// been tried for long. Waits are random, so that replicas that met do not meet
// again.
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

// commitBatch commits changes. Each entry is finished, or will be tried again,
// when it returns.
func (l *ledger) commitBatch(batch []*entry) {
	// The batch serves many requests; its calls belong to the first one's trace.
	ctx := context.WithoutCancel(batch[0].ctx)
	items := group(batch)
	l.readRecords(ctx, items)
	l.readMarkers(ctx, items)
	l.plan(items)
	l.save(ctx, items)
	var failed []*entry
	var why error
	for _, it := range items {
		if it.saveErr != nil {
			failed, why = append(failed, it.counted...), it.saveErr
			continue
		}
		for _, e := range it.counted {
			e.finish(e.outcome, nil)
		}
	}
	if len(failed) > 0 {
		l.retry(failed, why)
	}
	l.markOldest(ctx, items)
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
		var unreadable error // of this item alone
		if it.stored, unreadable = decodeRecord(s.value); unreadable != nil {
			it.keepSets(unreadable) // a record that can't be read can still be replaced
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

// readMarkers is step 2. What it finds is in l.marked.
func (l *ledger) readMarkers(ctx context.Context, items map[string]*item) {
	late := make(map[*entry][]string) // the keys where its marker may be
	var keys []string
	for _, it := range items {
		for _, e := range it.entries {
			if e.id > it.stored.Marked || it.stored.Latest.has(e.id) {
				continue
			}
			late[e] = markerKeys(e.itemID, e.id)
			keys = append(keys, late[e]...)
		}
	}
	if len(keys) == 0 {
		return
	}
	slices.Sort(keys)
	// A marker that is missed is a change that counts twice.
	found, err := l.store.find(ctx, slices.Compact(keys))
	for e, keys := range late {
		if items[e.itemID] == nil {
			continue // it failed with another entry
		}
		err := err
		has := false
		for _, key := range keys {
			has = has || decodeMarker(found[key].value).has(e.id)
			err = errors.Join(err, found[key].err)
		}
		switch {
		case has:
			l.remember(e.id)
		case err != nil:
			fail(items, e.itemID, err)
		}
	}
}

// remember notes that changes have markers.
func (l *ledger) remember(ids ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.marked) > maxMarked {
		clear(l.marked) // it is only a memory of what can be read again
	}
	for _, id := range ids {
		l.marked[id] = true
	}
}

// plan makes the records of step 3.
func (l *ledger) plan(items map[string]*item) {
	l.mu.Lock()
	defer l.mu.Unlock()
	commit := rand.Text()
	for _, it := range items {
		l.planItem(it, commit)
	}
}

func (l *ledger) planItem(it *item, commit string) {
	it.next = record{Quantity: it.stored.Quantity, Marked: it.stored.Marked, Commit: commit}
	latest := make([]string, 0, it.stored.Latest.len()+len(it.entries))
	for id := range it.stored.Latest.all() {
		if l.marked[id] {
			it.next.Marked = max(it.next.Marked, id)
		} else {
			latest = append(latest, id)
		}
	}
	for _, e := range it.entries {
		switch after, err := e.apply(it.next.Quantity); {
		case l.marked[e.id] || it.stored.Latest.has(e.id):
			o := outcome{repeated: true}
			if e.commit != "" && e.commit == it.stored.Commit {
				o = e.outcome // it was this entry's own save, which seemed to fail
			}
			e.finish(o, nil)
		case err != nil:
			e.finish(outcome{}, err)
		case len(latest) >= maxLatest:
			l.retry([]*entry{e}, errors.Join(fmt.Errorf("%d changes are not yet marked as counted", maxLatest), l.markErr))
		default:
			e.outcome, e.commit = outcome{before: it.next.Quantity, after: after}, commit
			it.next.Quantity = after
			latest = append(latest, e.id)
			it.counted = append(it.counted, e)
		}
	}
	it.next.Latest = idSet("").with(latest)
}

// save ends step 3. All items go into one call, but for those that have failed
// twice, which go alone: in a store that saves all or nothing, the one whose ETag
// is stale must not take the others with it for ever.
func (l *ledger) save(ctx context.Context, items map[string]*item) {
	var calls [][]*item
	var together []*item
	for _, it := range items {
		switch {
		case len(it.counted) == 0: // nothing new
		case it.counted[0].tries > 1:
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
				writes[i] = write{key: itemKey(it.counted[0].itemID), etag: it.etag, value: it.next}
			}
			err := l.store.save(ctx, writes)
			for _, it := range call {
				it.saveErr = err
			}
		})
	}
	wg.Wait()
}

// markOldest is step 4: it begins to write markers for the items that were
// committed, unless markers are being written already; then these follow.
func (l *ledger) markOldest(ctx context.Context, items map[string]*item) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for itemID, it := range items {
		if it.saveErr != nil {
			continue // what it was to be is not what is stored
		}
		keep, have := l.keep(len(it.counted)), it.next.Latest.len()
		if have > 3*keep {
			l.unmarked[itemID] = it.next.Latest.first(have - keep)
		}
	}
	if l.marking == nil && l.nextToMark() {
		go l.mark(ctx)
	}
}

// nextToMark makes what is to be marked what is being marked, and reports whether
// there is any. The caller holds l.mu.
func (l *ledger) nextToMark() bool {
	l.marking = nil
	if len(l.unmarked) > 0 {
		l.marking, l.unmarked = l.unmarked, make(map[string]idSet)
	}
	return l.marking != nil
}

// mark writes markers until there are none to write. What can't be written now is
// written when the item is committed again: until then the IDs stay in its record.
func (l *ledger) mark(ctx context.Context) {
	for more := true; more; {
		l.mu.Lock()
		marking := l.marking
		l.mu.Unlock()
		err := l.writeMarkers(ctx, marking)
		l.mu.Lock()
		l.markErr = err
		more = l.nextToMark()
		l.mu.Unlock()
	}
}

// writeMarkers adds the IDs of changes to items to the markers in the store, some
// at a time: what is written stays so when the rest can't be.
func (l *ledger) writeMarkers(ctx context.Context, changes map[string]idSet) error {
	placed := make(map[string][]string)
	for itemID, ids := range changes {
		maps.Copy(placed, placeMarkers(itemID, ids))
	}
	for keys := range slices.Chunk(slices.Sorted(maps.Keys(placed)), maxMarkers) {
		if err := l.writeMarkersOf(ctx, keys, placed); err != nil {
			return err
		}
		for _, key := range keys {
			l.remember(placed[key]...)
		}
	}
	return nil
}

// writeMarkersOf writes the markers under keys, to which IDs are to be added.
func (l *ledger) writeMarkersOf(ctx context.Context, keys []string, placed map[string][]string) error {
	var writes []write
	var shared []string
	for _, key := range keys {
		if ids := placed[key]; len(ids) == 1 && key == markerPrefix+ids[0] {
			writes = append(writes, write{key: key, value: ids[0], expires: true, always: true})
		} else {
			shared = append(shared, key)
		}
	}
	if len(shared) > 0 {
		found, err := l.store.read(ctx, shared)
		if err != nil {
			return err
		}
		for _, key := range shared {
			if err := found[key].err; err != nil {
				return err
			}
			marker := decodeMarker(found[key].value)
			var missing []string
			for _, id := range placed[key] {
				if !marker.has(id) {
					missing = append(missing, id)
				}
			}
			if len(missing) > 0 {
				writes = append(writes, write{key: key, etag: found[key].etag, value: marker.with(missing), expires: true})
			}
		}
	}
	if len(writes) == 0 {
		return nil
	}
	return l.store.save(ctx, writes)
}

// decodeMarker reads a stored marker. What is none has nothing in it.
func decodeMarker(value []byte) (marker idSet) {
	if err := json.Unmarshal(value, &marker); err != nil || !marker.valid() {
		return ""
	}
	return marker
}
