package once

import (
	"testing"

	"github.com/matryer/is"
)

func TestIDHasTheTimeOfItsEvent(t *testing.T) {
	is := is.New(t)
	is.Equal(EventID("", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f").madeAt(), uint64(0x017F22E279B0))
	is.Equal(EventID("", "order-1001").madeAt(), uint64(0))
}

func TestEventsAreToldApartBySourceAndID(t *testing.T) {
	seen := make(map[ID]string)
	for _, e := range [][2]string{{"a", "b"}, {"ab", ""}, {"", "ab"}, {"b", "a"}, {"a", "b:"}, {"1:a", "b"}} {
		id := EventID(e[0], e[1])
		if other, ok := seen[id]; ok {
			t.Errorf("%q has the ID of %s", e, other)
		}
		seen[id] = e[0] + " " + e[1]
	}
}

func TestSetOfIDs(t *testing.T) {
	is := is.New(t)
	a, b, c, d := newID(1, nil), newID(2, nil), newID(3, nil), newID(4, nil)
	is.Equal(setOf([]ID{c, a}).with([]ID{d, b}), setOf([]ID{a, b, c, d}))
	is.Equal(setOf([]ID{a, c}).with([]ID{b, c, b}), setOf([]ID{a, b, c}))
	is.Equal(setOf([]ID{b}).with([]ID{a}), setOf([]ID{a}).with([]ID{b}))
	is.Equal(setOf(nil).len(), 0)
	s := setOf([]ID{a, b, c})
	is.Equal(s.len(), 3)
	is.True(s.has(a) && s.has(b) && s.has(c) && !s.has(d))
	is.Equal(s.slice(1, 3), setOf([]ID{b, c}))
	is.Equal(s.slice(1, 1), idSet(""))
	is.Equal(s.filter(func(id ID) bool { return id != b }), setOf([]ID{a, c}))
	is.Equal(s.filter(func(ID) bool { return false }), idSet(""))

	is.True(idSet("").valid() && s.valid() && setOf([]ID{a}).valid())
	is.True(!idSet(a+"-"+b).valid() && !idSet(b+" "+a).valid() && !idSet(a+" "+a).valid() && !(s + " ").valid() && !idSet("no ID").valid())
	is.Equal(idSet(c+" broken "+a+" "+c).readable(), setOf([]ID{a, c}))
}
