package once

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/matryer/is"
)

func TestRecordOfVersion1IsRead(t *testing.T) {
	is := is.New(t)
	const pastName, aheadName = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f", "027f22e2-79b0-7cc3-98c4-dc0c0c07398f"
	id := func(name string) ID { return EventID("test", name) }
	past, ahead := id(pastName), id(aheadName)
	memory := &memoryStore{}
	memory.put("apple", fmt.Sprintf(`{"value":100,"latest":%q,"older":%q,"generation":7,"watermark":%q,
		"ahead":{"first":%q,"last":%q,"until":1},"commits":"a.1 b.2"}`, id("e1"), id("e2"), past, ahead, ahead))
	memory.put("~"+string(id("e3")), strconv.Quote(string(id("e3"))))
	memory.put(oldMarkerKeys("apple", past)[3], strconv.Quote(string(past)))
	memory.put(oldMarkerKeys("apple", ahead)[7], strconv.Quote(string(ahead)))
	for range 2 { // the second time, the record is of version 2
		for _, name := range []string{"e1", "e2", "e3", pastName, aheadName} {
			is.Equal(must(t, newInbox[int64](memory), event(name, "apple")), duplicate)
		}
	}

	// Another event of the same millisecond shares the marker's key, and is not in it.
	other := lower(newID(past.madeAt()-1, []byte("other")), "apple", 0)
	memory.put(oldMarkerKeys("apple", other.ID)[7], strconv.Quote(string(past)))
	is.Equal(must(t, newInbox[int64](memory), other).Duplicate, false)
	must(t, newInbox[int64](memory), event("e4", "apple"))
	got := storedRecord(t, memory, "apple")
	want := record[int64]{Value: 99, envelope: envelope{
		Format: 2, JSON: []byte("99"), IDs: setOf([]ID{id("e1"), id("e2"), id("e4"), other.ID}),
		Commits: got.Commits, Old: &oldMarkers{Watermark: past, Ahead: &idRange{ahead, ahead}},
	}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(record[int64]{})); diff != "" {
		t.Error(diff)
	}

	// An event from after the upgrade needs no look-up.
	memory.looks = 0
	must(t, newInbox[int64](memory), event("018f22e2-79b0-7cc3-98c4-dc0c0c07398f", "apple"))
	is.Equal(memory.looks, 0)
}

func TestOldMarkersAreWhereVersion1PutThem(t *testing.T) {
	is := is.New(t)
	is.Equal(oldMarkerKeys("apple", newID(0, []byte("a"))), []string{"~" + string(newID(0, []byte("a")))})
	id := newID(1e12, []byte("a"))
	const owner = "~DbjIsYN9EHbid2Qw" // a hash of the key
	is.Equal(oldMarkerKeys("apple", id), []string{
		"~" + string(id), owner + ".0.spmvwn4", owner + ".1.3l7czkw", owner + ".2.g5f4g4",
		owner + ".3.20oe20", owner + ".4.931r9", owner + ".5.14vpw", owner + ".6.53yq",
	})
}
