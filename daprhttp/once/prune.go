package once

import (
	"context"
	"sort"
	"time"
)

// maxMarkers is how many markers are written with one call.
const maxMarkers = 128

// marks is the state of pruning one key: markers are written beside the commits, and
// the next save takes their IDs out. Losing this state costs a second write of the same
// markers, and nothing else.
type marks struct {
	writing    chan written // nil: no markers are being written
	marked     idSet        // IDs whose markers are acknowledged
	markFaults int          // writes that failed, one after another
	markAfter  time.Time    // when to try again
}

// written tells which markers the store has acknowledged.
type written struct {
	ids idSet
	err error
}

// leaving returns the IDs that are to leave a record: the least ones. The recent IDs
// stay, and besides them some IDs from the future. If an ID from the future left, it
// would lift the watermark, and each event until then would cost a look-up.
func (in *Inbox[V]) leaving(ids idSet, keep int, now time.Time) idSet {
	ms := uint64(now.UnixMilli())
	past := sort.Search(ids.len(), func(i int) bool { return ids.at(i).madeAt() > ms })
	future := min(ids.len()-past, in.tuning.maxFuture)
	return ids.slice(0, max(0, ids.len()-future-keep))
}

// mark starts to write markers after an acknowledged save, if the record has too many
// IDs. The limit is twice the recent IDs. The replica whose save crosses it writes the
// markers, so that replicas do not all write the same ones. Beyond twice the limit each
// replica does, because the first one may have died.
func (w *worker[V]) mark(r *record[V], p *plan[V]) {
	now := time.Now()
	keep := w.in.tuning.keep(p.applied, 1+p.next.Commits.rivals(w.in.author))
	was, is := w.in.leaving(r.IDs, keep, now), w.in.leaving(p.next.IDs, keep, now)
	crossed := is.len() > keep && (was.len() <= keep || p.left > 0)
	if !crossed && is.len() <= 3*keep && !p.full || w.writing != nil || now.Before(w.markAfter) || is == "" {
		return
	}
	ctx, writing := w.ctx, make(chan written, 1)
	w.writing = writing
	go func() { writing <- w.in.writeMarkers(ctx, w.key, is) }()
}

// writeMarkers writes the markers of IDs. After an error, the calls before still count.
func (in *Inbox[V]) writeMarkers(ctx context.Context, key string, ids idSet) written {
	for done := 0; done < ids.len(); {
		end := min(done+maxMarkers, ids.len())
		if err := in.store.mark(ctx, key, ids.slice(done, end)); err != nil {
			return written{ids.slice(0, done), err}
		}
		done = end
	}
	return written{ids, nil}
}

// collect takes in which markers are written.
func (w *worker[V]) collect(m written) {
	w.writing, w.marked = nil, m.ids
	if m.err == nil {
		w.markFaults = 0
		return
	}
	w.markFaults++
	w.markAfter = time.Now().Add(backoff(w.markFaults))
	w.note(m.err)
}
