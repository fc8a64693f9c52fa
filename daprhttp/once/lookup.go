package once

import (
	"cmp"
	"sync"
)

// maxReads is how many markers a worker reads at the same time.
const maxReads = 64

// resolved tells whether the record and the look-ups so far decide if a change has
// been applied.
func (e *entry[V]) resolved(r *record[V]) bool {
	return e.saved || e.marked || r.IDs.has(e.ID) || !r.mayHaveLeft(e.ID) || e.looked && e.lookedAt == r.Pruned
}

// lookUp looks for the markers of the changes that are not resolved. A change whose
// marker can't be read stays unresolved: a marker that is missed is a change that is
// applied twice.
func (w *worker[V]) lookUp(r *record[V]) error {
	errs := make([]error, len(w.entries))
	slots := make(chan struct{}, maxReads)
	var wg sync.WaitGroup
	for i, e := range w.entries {
		if e.resolved(r) {
			continue
		}
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			e.marked, errs[i] = w.find(r.markerKeys(w.key, e.ID), e.ID)
			e.looked, e.lookedAt = errs[i] == nil, r.Pruned
		})
	}
	wg.Wait()
	return cmp.Or(errs...)
}

// find tells whether an ID has one of these markers.
func (w *worker[V]) find(keys []string, id ID) (bool, error) {
	for _, key := range keys {
		s, err := w.in.store.read(w.ctx, key)
		if err != nil {
			return false, err
		}
		if markerHas(s.value, id) {
			return true, nil
		}
	}
	return false, nil
}
