package once

import (
	"encoding/json"
)

// A plan is the next save of a record.
type plan[V any] struct {
	next     record[V]
	left     int         // IDs that leave the record
	applied  int         // new changes
	answered []*entry[V] // changes that the save answers
	waiting  []*entry[V] // changes that it does not answer
}

// plan takes the marked IDs out of the record and applies the changes that are new.
func (w *worker[V]) plan(r *record[V]) *plan[V] {
	commit := w.in.author.next()
	p := &plan[V]{next: *r}
	p.next.Commits = r.Commits.with(commit)
	p.left = p.next.takeOut(w.marked, commit)
	var ids []ID
	applied := make(map[ID]bool)
	entries := w.entries
	w.entries, w.full, w.fullForSets = nil, false, false
	for _, e := range entries {
		room := w.in.tuning.maxIDs
		if e.replaces {
			room *= 2 // Set must work on a full record
		}
		switch {
		case e.ctx.Err() != nil: // the caller has gone: a late Set could undo a newer one
			continue
		case p.next.foreign() && !e.replaces:
			e.finish(Result[V]{}, finalError{p.next.damaged})
			continue
		case e.saved:
			p.answered = append(p.answered, e)
		case e.hasMarker || r.IDs.has(e.ID) || applied[e.ID]:
			p.answer(e, Result[V]{Duplicate: true}, nil)
		case !e.resolved(r):
			p.waiting = append(p.waiting, e)
		case p.next.damaged != nil && !e.replaces:
			p.answer(e, Result[V]{}, finalError{p.next.damaged})
		case p.next.IDs.len()+len(ids) >= room:
			w.full, w.fullForSets = true, w.fullForSets || e.replaces
			p.waiting = append(p.waiting, e)
		default:
			before := p.next.Value
			after, text, err := e.try(before)
			if err != nil && p.next.foreign() {
				e.finish(Result[V]{}, finalError{err})
				continue
			}
			if err != nil {
				p.answer(e, Result[V]{}, finalError{err})
				break
			}
			p.answer(e, Result[V]{Before: before, After: after}, nil)
			e.commit = commit
			p.next.Value, p.next.JSON, p.next.damaged = after, text, nil
			applied[e.ID] = true
			ids = append(ids, e.ID)
		}
		w.entries = append(w.entries, e)
	}
	p.next.IDs = p.next.IDs.with(ids)
	p.applied = len(ids)
	return p
}

// try returns the value after the change, and its JSON.
func (c Change[V]) try(before V) (after V, text []byte, err error) {
	err = safely("Apply", func() (err error) {
		if after, err = c.Apply(before); err == nil {
			text, err = json.Marshal(after)
		}
		return err
	})
	return after, text, err
}

// answer sets the answer that a change gets when the save is acknowledged. It clears
// e.commit: an earlier save that takes effect late must not make this answer look saved.
func (p *plan[V]) answer(e *entry[V], r Result[V], err error) {
	e.result, e.err, e.commit = r, err, ""
	p.answered = append(p.answered, e)
}
