package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"iter"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// A change has an ID of 24 characters: when it was made, in milliseconds since
// 1970 (6 bytes; 0 if its event's id does not tell), and a hash of what makes it
// the change that it is (12 bytes). IDs sort by that time.
const (
	idLength     = 24
	idTimeLength = 8
)

// idEncoding is base64 with characters that are in order, so that IDs compare
// as what they encode, and that no URL changes.
var idEncoding = base64.NewEncoding("-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz").WithPadding(base64.NoPadding)

// newChangeID returns the ID of the change that identity tells from all others.
func newChangeID(madeAt uint64, identity []byte) string {
	var id [18]byte
	sum := sha256.Sum256(identity)
	binary.BigEndian.PutUint64(id[:], madeAt<<16)
	copy(id[6:], sum[:])
	return idEncoding.EncodeToString(id[:])
}

// madeAt returns the time in a change's ID, or 0.
func madeAt(id string) uint64 {
	var ms [8]byte
	if len(id) != idLength {
		return 0
	}
	if _, err := idEncoding.Decode(ms[2:], []byte(id[:idTimeLength])); err != nil {
		return 0
	}
	return binary.BigEndian.Uint64(ms[:])
}

// Markers say that changes are counted in the stock and are no longer in the
// item's record. A marker holds the IDs of changes to one item that were made in
// the same span of time: 16 ms, or eight times that, and so on, up to more than an
// hour. Which of these spans is up to whoever writes it: he takes one that is as
// long as what he has to mark, so that it fits into a marker or two, however busy
// the item is. Who looks for a change looks into all of them. A change whose time
// is not known has a marker of its own.
const (
	markerSpans    = 7
	shortestSpan   = 4 // the power of 2 of 16 ms
	spanPowerSteps = 3
)

// markerKeys returns the keys under which the marker of a change may be.
func markerKeys(itemID, id string) []string {
	ms := madeAt(id)
	if ms == 0 {
		return []string{markerPrefix + id}
	}
	keys := make([]string, markerSpans)
	for span := range keys {
		keys[span] = spanKey(itemID, span, ms)
	}
	return keys
}

func spanKey(itemID string, span int, ms uint64) string {
	sum := sha256.Sum256([]byte(itemID))
	slot := ms >> (shortestSpan + spanPowerSteps*span)
	return markerPrefix + idEncoding.EncodeToString(sum[:12]) + "." + strconv.Itoa(span) + "." + strconv.FormatUint(slot, 36)
}

// placeMarkers returns which IDs to put under which keys.
func placeMarkers(itemID string, ids idSet) map[string][]string {
	placed := make(map[string][]string)
	var first uint64 // 0 is the least
	for id := range ids.all() {
		if first = madeAt(id); first != 0 {
			break
		}
	}
	last := madeAt(ids.at(ids.len() - 1))
	span := 0
	for span < markerSpans-1 && last-first > 1<<(shortestSpan+spanPowerSteps*span) {
		span++
	}
	for id := range ids.all() {
		key := markerPrefix + id
		if ms := madeAt(id); ms != 0 {
			key = spanKey(itemID, span, ms)
		}
		placed[key] = append(placed[key], id)
	}
	return placed
}

// An idSet is the IDs of changes in the form in which they are stored: in order,
// with spaces between them.
type idSet string

func (s idSet) len() int { return (len(s) + 1) / (idLength + 1) }

func (s idSet) at(i int) string { return string(s[i*(idLength+1):][:idLength]) }

// has reports whether an ID is in the set.
func (s idSet) has(id string) bool {
	_, found := sort.Find(s.len(), func(i int) int { return strings.Compare(id, s.at(i)) })
	return found
}

func (s idSet) all() iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range s.len() {
			if !yield(s.at(i)) {
				return
			}
		}
	}
}

// first returns the set of the first n IDs, at least one.
func (s idSet) first(n int) idSet { return s[:n*(idLength+1)-1] }

// with returns the set with more IDs, which it does not have yet.
func (s idSet) with(ids []string) idSet {
	if len(ids) == 0 {
		return s
	}
	more := slices.Concat(slices.Collect(s.all()), ids)
	slices.Sort(more)
	return idSet(strings.Join(more, " "))
}

// valid reports whether it can be a set of IDs.
func (s idSet) valid() bool { return len(s) == 0 || (len(s)+1)%(idLength+1) == 0 }
