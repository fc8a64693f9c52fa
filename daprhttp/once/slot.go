package once

import (
	"cmp"
	"crypto/sha256"
	"strconv"
)

// A slot is where a marker is kept. A marker holds the IDs of changes to one key
// that were made in the same span of time: 16 ms, or eight times that, and so on,
// up to more than an hour. Which of these spans is up to whoever writes it: one
// that is as long as what is to be marked, so that it fits into a marker or two,
// however busy the key is. Whoever looks for a change looks into all of them. A
// change whose time is not known has a marker of its own, and so have changes that
// are too many for the shortest span.
type slot struct {
	owner  string // hash of the key of the changes
	span   int    // which span, the shortest is 0; own: the marker of one change
	number uint64 // of the span, since 1970
	id     ID     // of that one change
}

const (
	spans        = 7
	shortestSpan = 4 // the power of 2 of 16 ms
	spanFactor   = 3 // the power of 2 from one span to the next
	own          = -1
)

// spanLength returns how long a span is, in milliseconds.
func spanLength(span int) uint64 { return 1 << (shortestSpan + spanFactor*span) }

func ownerOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return idEncoding.EncodeToString(sum[:12])
}

func newSlot(owner string, span int, id ID) slot {
	ms := id.madeAt()
	if span == own || ms == 0 {
		return slot{span: own, id: id}
	}
	return slot{owner: owner, span: span, number: ms / spanLength(span)}
}

// compare orders slots, in whatever way.
func (s slot) compare(t slot) int {
	return cmp.Or(cmp.Compare(s.owner, t.owner), cmp.Compare(s.span, t.span), cmp.Compare(s.number, t.number), cmp.Compare(s.id, t.id))
}

// key returns the key in the store.
func (s slot) key() string {
	if s.span == own {
		return markerPrefix + string(s.id)
	}
	return markerPrefix + s.owner + "." + strconv.Itoa(s.span) + "." + strconv.FormatUint(s.number, 36)
}

// markerKeys returns the keys under which the marker of a change may be.
func markerKeys(key string, id ID) []string {
	keys := []string{newSlot("", own, id).key()}
	if id.madeAt() != 0 {
		owner := ownerOf(key)
		for span := range spans {
			keys = append(keys, newSlot(owner, span, id).key())
		}
	}
	return keys
}

// place says in which slots to put the IDs of changes to a key.
func place(placed map[slot][]ID, key string, ids idSet) {
	owner := ownerOf(key)
	timed := 0
	for timed < ids.len() && ids.at(timed).madeAt() == 0 { // these are the first
		id := ids.at(timed)
		placed[newSlot(owner, own, id)] = []ID{id}
		timed++
	}
	placeRun(placed, owner, ids.slice(timed, ids.len()))
}

// placeRun places IDs that have a time. Where they fall apart into two groups, far
// from each other, as they do when one publisher's clock is late, each has a span
// of its own.
func placeRun(placed map[slot][]ID, owner string, ids idSet) {
	if ids.len() == 0 {
		return
	}
	length := ids.at(ids.len()-1).madeAt() - ids.at(0).madeAt()
	gap, at := uint64(0), 0
	for i, before := 1, ids.at(0).madeAt(); i < ids.len(); i++ {
		ms := ids.at(i).madeAt()
		if ms-before > gap {
			gap, at = ms-before, i
		}
		before = ms
	}
	if length > spanLength(0) && 2*gap > length {
		placeRun(placed, owner, ids.slice(0, at))
		placeRun(placed, owner, ids.slice(at, ids.len()))
		return
	}
	span := 0
	for span < spans-1 && length > spanLength(span) {
		span++
	}
	for id := range ids.all() {
		s := newSlot(owner, span, id)
		placed[s] = append(placed[s], id)
	}
}
