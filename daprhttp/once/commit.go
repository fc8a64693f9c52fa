package once

import (
	"errors"
	"time"
)

// maxRest bounds the rest after a save: a commit that hung does not show how long the
// rivals' commits take.
const maxRest = time.Second

// commit makes one commit. The changes that it does not answer stay in w.entries. It
// returns how long the worker rests before the next commit.
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
	w.noteSaved(&r)
	if err := w.storeFault(found.etag, &r); err != nil {
		return w.failed(err)
	}
	w.take()
	failed := w.lookUp(&r)
	p := w.plan(&r)
	if failed != nil {
		w.note(failed)
	}
	if len(p.answered) == 0 && p.left == 0 && !w.full { // a full record is saved unchanged: only IDs of an acknowledged save get markers
		w.marked = "" // another replica has taken these IDs out
		if failed != nil {
			return w.failed(failed)
		}
		return 0
	}
	if err := in.store.save(w.ctx, recordKey(w.key), found.etag, p.next.encode()); err != nil {
		w.note(err)
		w.lost = &lostSave{found.etag, err}
		if len(w.entries) == 0 {
			w.lost, w.marked = nil, "" // no change waits, and any replica can prune
		}
		return 0
	}
	w.conclude(&r, p)
	return min(time.Duration(p.next.Commits.rivals(in.author.name))*time.Since(began), maxRest)
}

var errNoETag = errors.New("the answer has no ETag, which once needs: the state store gives none, or a gateway before the sidecar removes it")

// handBack answers the waiting changes with an error.
func (w *worker[V]) handBack(err error) {
	w.take()
	for _, e := range w.entries {
		e.finish(Result[V]{}, err)
	}
	w.entries, w.marked = nil, ""
}

// storeFault returns why the last save failed, or nil if a rival saved first.
func (w *worker[V]) storeFault(etag string, r *record[V]) error {
	lost := w.lost
	w.lost = nil
	switch {
	case lost == nil:
		return nil
	case etag == lost.etag || r.damaged != nil || r.Commits.newestBy(w.in.author.name):
		return lost.err
	}
	w.in.conflicts.Add(1)
	return nil
}

// noteSaved notes which changes were saved by commits whose save seemed to fail.
func (w *worker[V]) noteSaved(r *record[V]) {
	for _, e := range w.entries {
		e.saved = r.Commits.has(e.commit) || e.saved && r.IDs.has(e.ID)
	}
}

// conclude answers the changes of a plan whose save is acknowledged, and starts to write
// markers.
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
