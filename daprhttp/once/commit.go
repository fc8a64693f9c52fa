package once

import (
	"errors"
	"time"
)

// maxRest bounds the rest after a save: a commit that hung says nothing about the
// commits of the rivals.
const maxRest = time.Second

// commit carries out one commit. The changes that it did not answer stay in
// w.entries. It returns how long the worker rests before the next commit.
func (w *worker[V]) commit() time.Duration {
	in, began := w.in, time.Now()
	found, err := in.store.read(w.ctx, recordKey(w.key))
	if err != nil {
		return w.failed(err)
	}
	r, err := decodeRecord[V](found.value)
	if found.value != nil && found.etag == "" {
		err = errNoETag
	}
	if err != nil {
		w.handBack(err)
		return 0
	}
	w.know(&r)
	if err := w.storeFault(found.etag, &r); err != nil {
		return w.failed(err)
	}
	w.take()
	failed := w.lookUp(&r)
	p := w.plan(&r)
	if failed != nil {
		w.note(failed)
	}
	if !p.saves() {
		w.marked = "" // another replica has taken out what was marked
		if failed != nil {
			return w.failed(failed)
		}
		return 0
	}
	body, err := p.next.encode()
	if err != nil { // the value without any change has no JSON
		w.marked = ""
		return w.failed(err)
	}
	if err := in.store.save(w.ctx, recordKey(w.key), found.etag, body); err != nil {
		w.note(err)
		w.lost = &lostSave{found.etag, err}
		if len(w.entries) == 0 {
			w.lost, w.marked = nil, "" // nothing waits, and any replica can prune
		}
		return 0
	}
	w.conclude(&r, p)
	return min(time.Duration(p.next.Commits.rivals(in.author))*time.Since(began), maxRest)
}

var errNoETag = errors.New("the answer has no ETag, and once can't work without: the state store gives none, or a gateway before the sidecar takes it away")

// handBack answers all waiting changes with an error.
func (w *worker[V]) handBack(err error) {
	w.take()
	for _, e := range w.entries {
		e.finish(Result[V]{}, err)
	}
	w.entries, w.marked = nil, ""
}

// storeFault returns why the last save failed, unless a rival has saved instead.
func (w *worker[V]) storeFault(etag string, r *record[V]) error {
	lost := w.lost
	w.lost = nil
	switch {
	case lost == nil:
		return nil
	case etag == lost.etag || r.damaged != nil || r.Commits.newestBy(w.in.author):
		return lost.err
	}
	w.in.conflicts.Add(1)
	return nil
}

// know notes which changes a failed save has saved.
func (w *worker[V]) know(r *record[V]) {
	for _, e := range w.entries {
		e.saved = r.Commits.has(e.commit) || e.saved && r.IDs.has(e.ID)
	}
}

// conclude answers after the acknowledged save of a plan, and has markers written.
func (w *worker[V]) conclude(r *record[V], p *plan[V]) {
	w.in.commits.Add(1)
	w.faults = 0
	if !w.full {
		w.note(nil)
	}
	w.entries = p.waiting
	w.marked = ""
	for _, e := range p.answered {
		close(e.done)
	}
	w.mark(r, p)
}
