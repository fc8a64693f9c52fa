package once

import (
	"cmp"
	"sync"
)

// maxCalls is how many markers a worker reads at the same time, and how many shared markers
// it writes.
const maxCalls = 64

// resolved tells whether the record and the look-ups so far decide if a change has
// been applied.
func (e *entry[V]) resolved(r *record[V]) bool {
	return e.saved || e.hasMarker || r.IDs.has(e.ID) || !r.mayHaveLeft(e.ID) || e.noMarker && e.noMarkerAt == r.Pruned
}

// lookUp looks for the markers of the changes that are not resolved. A change whose
// marker can't be read stays unresolved: without its marker it would be applied twice.
func (w *worker[V]) lookUp(r *record[V]) error {
	var open []*entry[V]
	for _, e := range w.entries {
		if !e.resolved(r) {
			open = append(open, e)
		}
	}
	errs := make([]error, len(open))
	inParallel(len(open), func(i int) {
		e := open[i]
		e.hasMarker, errs[i] = w.find(r.markerKeys(w.key, e.ID), e.ID)
		e.noMarker, e.noMarkerAt = errs[i] == nil && !e.hasMarker, r.Pruned
	})
	return cmp.Or(errs...)
}

// inParallel calls do for each number below n, at most maxCalls at the same time.
func inParallel(n int, do func(i int)) {
	slots := make(chan struct{}, maxCalls)
	var wg sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			do(i)
		})
	}
	wg.Wait()
}

// find tells whether an ID has one of these markers.
func (w *worker[V]) find(keys []string, id ID) (bool, error) {
	for _, key := range keys {
		s, err := w.in.store.read(w.ctx, key)
		if err != nil {
			return false, err
		}
		if has, err := markerHas(s.value, id); has || err != nil {
			return has, err
		}
	}
	return false, nil
}
