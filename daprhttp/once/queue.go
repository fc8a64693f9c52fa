package once

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"
)

const (
	maxChanges = 256 // in a commit
	maxKeys    = 100 // in a commit
	maxRunning = 4   // commits at the same time, of different keys

	moment = time.Millisecond // turns that come within one are taken together
)

// A queue holds the changes that wait, in a line for each key, and commits those
// of many keys together: the busier it is, the less each change costs. A key is
// in one commit at a time.
type queue[V any] struct {
	commit func([]*batch[V])

	mu      sync.Mutex
	lines   map[string]*line[V]
	ready   []*line[V] // whose turn it is
	resting []*line[V] // whose turn comes later
	running int        // commits
}

// A line is the changes of one key that wait.
type line[V any] struct {
	key     string
	waiting []*entry[V]
	busy    bool // in a commit, ready for one, or waiting for its turn
	pace    pace // belongs to the commit while there is one
}

// never is a generation before all others.
const never = math.MinInt64

// A batch is what one commit takes from a line.
type batch[V any] struct {
	*line[V]
	entries []*entry[V]
}

// An entry is a change on its way into the store.
type entry[V any] struct {
	Change[V]
	replaces bool            // the value, even one that can't be read
	ctx      context.Context // of the caller
	since    time.Time
	finish   func(Result[V])

	marked   bool      // its marker was found
	absentAt int64     // the generation of the record after whose read no marker was found; never: not looked for
	commit   string    // the last that had it, which may have taken effect
	saved    bool      // it has, as the record says
	planned  Result[V] // the result, if that commit has

	copies []*entry[V] // the same change, delivered again, in the same commit
}

// add lets entries wait in the lines of their keys.
func (q *queue[V]) add(entries ...*entry[V]) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range entries {
		l := q.lines[e.Key]
		if l == nil {
			l = &line[V]{key: e.Key}
			q.lines[e.Key] = l
		}
		l.waiting = append(l.waiting, e)
		q.offer(l)
	}
	q.start()
}

// offer makes a line ready when its turn has come. The caller holds q.mu.
func (q *queue[V]) offer(l *line[V]) {
	if l.busy {
		return
	}
	wait := time.Until(l.pace.due)
	switch {
	case wait > 0:
		l.busy = true
		q.resting = append(q.resting, l)
		time.AfterFunc(wait, q.wake)
	case len(l.waiting) > 0:
		l.busy = true
		q.ready = append(q.ready, l)
	default:
		delete(q.lines, l.key)
	}
}

// wake offers the lines whose turn has come, and with them those whose turn comes
// within a moment, so that they are in one commit.
func (q *queue[V]) wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	soon := time.Now().Add(moment)
	q.resting = slices.DeleteFunc(q.resting, func(l *line[V]) bool {
		due := l.pace.due.Before(soon)
		if due {
			l.busy = false
			l.pace.due = time.Time{}
			q.offer(l)
		}
		return due
	})
	q.start()
}

// start starts commits of what is ready. The caller holds q.mu.
func (q *queue[V]) start() {
	for len(q.ready) > 0 && q.running < maxRunning {
		var batches []*batch[V]
		for room := maxChanges; room > 0 && len(batches) < maxKeys && len(q.ready) > 0; q.ready = q.ready[1:] {
			l := q.ready[0]
			n := min(len(l.waiting), room)
			batches = append(batches, &batch[V]{l, l.waiting[:n:n]})
			l.waiting = l.waiting[n:]
			room -= n
		}
		q.running++
		go func() {
			q.commit(batches)
			q.ended(batches)
		}()
	}
}

// ended takes back what has been in a commit. Entries that are left in a batch
// have not been finished, and go first next time.
func (q *queue[V]) ended(batches []*batch[V]) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running--
	for _, b := range batches {
		b.waiting = append(b.entries, b.waiting...)
		b.busy = false
		q.offer(b.line)
	}
	q.start()
}
