package once

import (
	"context"
	"sort"
	"strings"
	"time"
)

// maxMarkers is how many markers one request writes.
const maxMarkers = 128

// marks is the state of pruning one key. Markers are written while commits go on, and
// the next save takes their IDs out of the record. A replica that loses this state only
// writes the same markers again.
type marks struct {
	writing    chan written // nil: no markers are being written
	marked     idSet        // IDs whose markers are acknowledged
	markFaults int          // consecutive writes that failed
	markAfter  time.Time    // when the next write may start
}

// written tells which markers the store has acknowledged.
type written struct {
	ids idSet
	err error
}

// leaving returns the IDs that are to leave a record: the smallest. The most recent IDs
// stay, as many as keep says, and up to maxFuture IDs from the future. An ID from the
// future that leaves raises the watermark. Each event until that time then costs a look-up.
func (in *Inbox[V]) leaving(ids idSet, keep int, now time.Time) idSet {
	ms := uint64(now.UnixMilli())
	past := sort.Search(ids.len(), func(i int) bool { return ids.at(i).madeAt() > ms })
	future := min(ids.len()-past, in.tuning.maxFuture)
	return ids.slice(0, max(0, ids.len()-future-keep))
}

// mark starts to write markers after an acknowledged save, if more than keep IDs can leave
// the record. The replica whose save crosses that limit writes the markers, so that two
// replicas do not write the same ones. Beyond three times keep every replica does, because
// the first one may have died.
func (w *worker[V]) mark(r *record[V], p *plan[V]) {
	now := time.Now()
	keep := w.in.tuning.keep(p.applied, 1+p.next.Commits.rivals(w.in.author.name))
	was, is := w.in.leaving(r.IDs, keep, now), w.in.leaving(p.next.IDs, keep, now)
	crossed := is.len() > keep && (was.len() <= keep || p.left > 0)
	if !crossed && is.len() <= 3*keep && !w.full || w.writing != nil || now.Before(w.markAfter) || is == "" {
		return
	}
	is = p.next.IDs.wholeSpans(is.len(), w.in.tuning.sharers)
	ctx, writing := w.ctx, make(chan written, 1)
	w.writing = writing
	go func() { writing <- w.in.writeMarkers(ctx, w.key, is) }()
}

// writeMarkers writes the markers of IDs. After an error it returns the IDs whose
// markers are acknowledged.
func (in *Inbox[V]) writeMarkers(ctx context.Context, key string, ids idSet) written {
	shared := in.share(ctx, key, ids)
	single := ids.filter(func(id ID) bool { return !shared.has(id) })
	for done := 0; done < single.len(); {
		end := min(done+maxMarkers, single.len())
		if err := in.store.mark(ctx, key, single.slice(done, end)); err != nil {
			return written{ids.filter(func(id ID) bool { return shared.has(id) || single.slice(0, done).has(id) }), err}
		}
		done = end
	}
	return written{ids, nil}
}

// share writes one marker for the IDs of a span of time, if the span has many. It returns
// the IDs in the markers that it has written. A span has at most one marker, which never
// changes. If a span has one already, each ID needs a marker of its own.
func (in *Inbox[V]) share(ctx context.Context, key string, ids idSet) idSet {
	var sets []idSet
	for from, to := 0, 0; from < ids.len(); from = to {
		for to < ids.len() && ids.at(to).span() == ids.at(from).span() {
			to++
		}
		if ids.at(from).span() != 0 && to-from >= in.tuning.sharers {
			sets = append(sets, ids.slice(from, to))
		}
	}
	errs := make([]error, len(sets))
	inParallel(len(sets), func(i int) { errs[i] = in.store.save(ctx, sharedKey(key, sets[i].at(0).span()), "", sets[i]) })
	var saved []string
	for i, set := range sets {
		if errs[i] == nil {
			saved = append(saved, string(set))
		}
	}
	return idSet(strings.Join(saved, " "))
}

// wholeSpans returns the first n IDs of a set, without their last span of time if that span
// goes on after them. The rest of the span could not share its marker. A last span with few
// or most of the n IDs stays.
func (s idSet) wholeSpans(n, sharers int) idSet {
	whole := n
	for whole > 0 && whole < s.len() && s.at(whole-1).span() == s.at(whole).span() {
		whole--
	}
	if n-whole < sharers || whole <= n/2 {
		whole = n
	}
	return s.slice(0, whole)
}

// collect notes which markers are written.
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
