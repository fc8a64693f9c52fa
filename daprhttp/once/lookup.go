package once

import (
	"context"
	"errors"
	"slices"
)

// lookUp looks for the markers of the changes that may have one and are not in
// their record. It notes in each entry what it has found. It reports whether it has
// looked for any where there are rivals.
func (in *Inbox[V]) lookUp(ctx context.Context, items []*item[V]) (rivals bool) {
	where := make(map[*entry[V]][]string) // the keys where its marker may be
	var keys []string
	for _, it := range items {
		for _, e := range it.entries {
			switch {
			case it.stored.Generation <= e.absentAt+1 || !it.stored.mayHaveMarker(e.ID) || it.stored.has(e.ID):
			case in.markers.knows(e.ID):
				e.marked = true
			default:
				where[e] = markerKeys(e.Key, e.ID)
				keys = append(keys, where[e]...)
				rivals = rivals || len(it.stored.Commits.authors()) > 1
			}
		}
	}
	if len(keys) == 0 {
		return false
	}
	found := in.markers.find(ctx, keys)
	for _, it := range items {
		it.entries = slices.DeleteFunc(it.entries, func(e *entry[V]) bool {
			var failed error
			for _, key := range where[e] {
				e.marked = e.marked || found[key].ids.has(e.ID)
				failed = errors.Join(failed, found[key].err)
			}
			switch {
			case where[e] == nil:
			case e.marked:
				in.markers.remember(e.ID)
			case failed != nil: // a marker that is missed is a change that is applied twice
				e.finish(Result[V]{Err: failed})
				return true
			default:
				e.absentAt = it.stored.Generation
			}
			return false
		})
	}
	return rivals
}
