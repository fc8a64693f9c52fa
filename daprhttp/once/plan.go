package once

import "encoding/json"

// A plan is what one save is going to do.
type plan[V any] struct {
	next     record[V]
	left     int         // IDs that leave the record
	applied  int         // changes that are new
	answered []*entry[V] // changes that the save answers
	waiting  []*entry[V] // changes that it does not answer
	full     bool        // because there is no room
}

// saves tells whether the plan needs a save. A full record does: its IDs may get
// markers only after a save over it is acknowledged.
func (p *plan[V]) saves() bool { return len(p.answered) > 0 || p.left > 0 || p.full }

// plan takes the marked IDs out of the record and applies the changes that are new.
func (w *worker[V]) plan(r *record[V]) *plan[V] {
	commit := w.in.author.next()
	p := &plan[V]{next: *r}
	p.next.Commits = r.Commits.with(commit)
	p.left = p.next.takeOut(w.marked, commit)
	var ids []ID
	applied := make(map[ID]bool)
	entries := w.entries
	w.entries = nil
	for _, e := range entries {
		room := w.in.tuning.maxIDs
		if e.replaces {
			room *= 2 // a person can always set the value
		}
		switch {
		case e.ctx.Err() != nil: // the caller has gone, and must not be surprised later
			continue
		case e.saved:
			p.answered = append(p.answered, e)
		case e.marked || r.IDs.has(e.ID) || applied[e.ID]:
			p.answer(e, Result[V]{Duplicate: true}, nil)
		case !e.resolved(r):
			p.waiting = append(p.waiting, e)
		case p.next.damaged != nil && !e.replaces:
			if p.next.raw == nil { // another program's value, which is never saved again
				e.finish(Result[V]{}, finalError{p.next.damaged})
				continue
			}
			p.answer(e, Result[V]{}, finalError{p.next.damaged})
		case p.next.IDs.len()+len(ids) >= room:
			p.full = true
			p.waiting = append(p.waiting, e)
		default:
			before := p.next.Value
			after, err := e.Apply(before)
			if err == nil {
				_, err = json.Marshal(after)
			}
			if err != nil {
				p.answer(e, Result[V]{}, finalError{err})
				break
			}
			p.answer(e, Result[V]{Before: before, After: after}, nil)
			e.commit = commit
			p.next.Value, p.next.damaged = after, nil
			applied[e.ID] = true
			ids = append(ids, e.ID)
		}
		w.entries = append(w.entries, e)
	}
	p.next.IDs = p.next.IDs.with(ids)
	p.applied, w.full = len(ids), p.full
	return p
}

// answer notes what a change is answered when the save is acknowledged.
func (p *plan[V]) answer(e *entry[V], r Result[V], err error) {
	e.result, e.err = r, err
	p.answered = append(p.answered, e)
}
