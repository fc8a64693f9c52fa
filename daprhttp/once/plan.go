package once

import "time"

// plan makes the records that are to be saved. Entries that are in the next record
// are in its item's applied or known.
func (in *Inbox[V]) plan(items []*item[V]) {
	commit := in.author.next()
	for _, it := range items {
		it.keep = in.keep(len(it.entries), len(it.stored.Commits.authors()))
		it.next = it.stored
		it.next.Commits = it.stored.Commits.with(commit)
		// The older IDs stay until there are enough latest ones: events overtake each other.
		if enough := it.next.Latest.len() >= it.keep; enough && in.markers.knowsAll(it.next.Older) {
			if it.next.Older != "" {
				it.next.takeOut(time.Now(), in.markerTTL)
			}
			if it.next.Latest != "" {
				it.next.age()
				it.aged = true
			}
		}
		it.plan(commit)
	}
}

// plan applies the changes that are new to the next record, and sorts out those that
// are not.
func (it *item[V]) plan(commit string) {
	entries := it.entries
	it.entries = nil
	planned := make(map[ID]*entry[V], len(entries))
	ids := make([]ID, 0, len(entries))
	for _, e := range entries {
		room := maxIDs
		if e.replaces {
			room *= 2 // a person can always put it right
		}
		first := planned[e.ID]
		switch {
		case e.ctx.Err() != nil: // nobody waits for it, or relies on it
			e.finish(Result[V]{Err: e.ctx.Err()})
		case e.saved:
			it.known = append(it.known, e)
		case e.marked || it.stored.has(e.ID):
			e.planned = Result[V]{Duplicate: true}
			it.known = append(it.known, e)
		case first != nil:
			first.copies = append(first.copies, e)
		case it.next.ids()+len(ids) >= room:
			it.full = true
			it.entries = append(it.entries, e)
		default:
			after, err := e.Apply(it.next.Value)
			if err != nil {
				e.finish(Result[V]{Err: finalError{err}})
				continue
			}
			e.planned, e.commit, e.copies = Result[V]{Before: it.next.Value, After: after}, commit, nil
			it.next.Value = after
			planned[e.ID] = e
			ids = append(ids, e.ID)
			it.applied = append(it.applied, e)
		}
	}
	it.next.Latest = it.next.Latest.with(ids)
}
