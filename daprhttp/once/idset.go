package once

import (
	"iter"
	"slices"
	"sort"
	"strings"
)

// An idSet is a set of IDs as it is stored: in ascending order, separated by spaces.
type idSet string

const idStep = idLength + 1 // from one ID to the next

// setOf returns the set of these IDs, which may be in any order.
func setOf(ids []ID) idSet { return idSet("").with(ids) }

func (s idSet) len() int { return (len(s) + 1) / idStep }

func (s idSet) at(i int) ID { return ID(s[i*idStep:][:idLength]) }

// search returns the position of an ID, and true. If s does not have the ID, it returns
// the position where the ID belongs, and false.
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

// slice returns the IDs from position i up to position j, without j.
func (s idSet) slice(i, j int) idSet {
	if i == j {
		return ""
	}
	return s[i*idStep : j*idStep-1]
}

// with returns the union of the set and ids.
func (s idSet) with(ids []ID) idSet {
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	var b strings.Builder
	b.Grow(len(s) + len(ids)*idStep)
	write := func(text string) {
		if text != "" && b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(text)
	}
	from := 0
	for _, id := range ids {
		to, found := s.search(id)
		write(string(s.slice(from, to)))
		if !found {
			write(string(id))
		}
		from = to
	}
	write(string(s.slice(from, s.len())))
	return idSet(b.String())
}

// filter returns the IDs for which keep is true.
func (s idSet) filter(keep func(ID) bool) idSet {
	var b strings.Builder
	b.Grow(len(s))
	for id := range s.all() {
		if keep(id) {
			if b.Len() > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(string(id))
		}
	}
	return idSet(b.String())
}

// valid tells whether the text is a set of IDs.
func (s idSet) valid() bool {
	for i := 1; i < s.len(); i++ {
		if s[i*idStep-1] != ' ' || s.at(i-1) >= s.at(i) {
			return false
		}
	}
	return s == "" || (len(s)+1)%idStep == 0 && strings.Count(string(s), " ") == s.len()-1 && strings.Trim(string(s), idCharacters+" ") == ""
}

// readable returns the IDs in a damaged or unsorted text.
func (s idSet) readable() idSet {
	var ids []ID
	for _, field := range strings.Fields(string(s)) {
		if id := ID(field); id.valid() {
			ids = append(ids, id)
		}
	}
	return setOf(ids)
}
