package once

import (
	"iter"
	"slices"
	"sort"
	"strings"
)

// An idSet is IDs in the form in which they are stored: in order, with spaces
// between them.
type idSet string

// setOf returns the set of some IDs, which may be in any order.
func setOf(ids []ID) idSet { return idSet("").with(ids) }

func (s idSet) len() int { return (len(s) + 1) / (idLength + 1) }

func (s idSet) at(i int) ID { return ID(s[i*(idLength+1):][:idLength]) }

// search returns where an ID is, or would be, and whether it is there.
func (s idSet) search(id ID) (int, bool) {
	return sort.Find(s.len(), func(i int) int { return strings.Compare(string(id), string(s.at(i))) })
}

func (s idSet) has(id ID) bool {
	_, found := s.search(id)
	return found
}

func (s idSet) all() iter.Seq[ID] {
	return func(yield func(ID) bool) {
		for i := range s.len() {
			if !yield(s.at(i)) {
				return
			}
		}
	}
}

// slice returns the set of the IDs from i up to j.
func (s idSet) slice(i, j int) idSet {
	if i == j {
		return ""
	}
	return s[i*(idLength+1) : j*(idLength+1)-1]
}

// with returns the set with more IDs, none of which it has yet.
func (s idSet) with(ids []ID) idSet {
	if len(ids) == 0 {
		return s
	}
	ids = slices.Sorted(slices.Values(ids))
	var b strings.Builder
	b.Grow(len(s) + len(ids)*(idLength+1))
	write := func(text string) {
		if text != "" && b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(text)
	}
	from := 0
	for _, id := range ids {
		to, _ := s.search(id)
		write(string(s.slice(from, to)))
		write(string(id))
		from = to
	}
	write(string(s.slice(from, s.len())))
	return idSet(b.String())
}

// filter returns the set of the IDs for which keep is true.
func (s idSet) filter(keep func(ID) bool) idSet {
	var kept []ID
	for id := range s.all() {
		if keep(id) {
			kept = append(kept, id)
		}
	}
	return setOf(kept)
}

// valid reports whether it can be a set of IDs.
func (s idSet) valid() bool { return len(s) == 0 || (len(s)+1)%(idLength+1) == 0 }
