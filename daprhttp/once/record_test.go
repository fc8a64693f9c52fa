package once

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/matryer/is"
)

func TestStoredValueMayBeFromAnotherProgram(t *testing.T) {
	tests := []struct {
		stored string
		want   int64
		final  bool
	}{
		{stored: `100`, want: 99},
		{stored: `-5`, want: -6},
		{stored: `{"once":2,"value":100}`, want: 99},
		{stored: `{"once":2,"value":100,"ids":"","added":"later"}`, want: 99},
		{stored: `{"value":100,"commits":""}`, want: 99},
		{stored: `{"value":100,"latest":"","commits":"a.1 b.2","added":"later"}`, want: 99},
		{stored: `1.5`, final: true},
		{stored: `"100"`, final: true},
		{stored: `{}`, final: true},
		{stored: `{"value":100}`, final: true},
		{stored: `{"once":2}`, final: true},
		{stored: `{"once":2,"value":"100"}`, final: true},
		{stored: `{"once":2,"value":100,"ids":5}`, final: true},
		{stored: `{"once":2,"value":100,"ids":"no ID"}`, final: true},
		{stored: `{"value":"100","commits":""}`, final: true},
		{stored: `{"value":100,"latest":"no ID","commits":""}`, final: true},
		{stored: `{"value":100,"older":"no ID","commits":""}`, final: true},
		{stored: `[100]`, final: true},
		{stored: `not JSON`, final: true},
	}
	for _, tt := range tests {
		t.Run(tt.stored, func(t *testing.T) {
			is := is.New(t)
			memory := &memoryStore{}
			memory.put("apple", []byte(tt.stored))
			in := newTestInbox(memory)
			for range 2 { // the first answer repairs nothing
				if !tt.final {
					break
				}
				_, err := in.Apply(t.Context(), event("e1", "apple"))
				is.True(errors.Is(err, ErrFinal))
				is.Equal(string(memory.values["apple"]), tt.stored)
				_, err = in.Get(t.Context(), "apple")
				is.True(err != nil)
			}
			if !tt.final {
				is.Equal(must(t, in, event("e1", "apple")).After, tt.want)
			}
			is.NoErr(in.Set(t.Context(), "apple", 7)) // Set replaces any value
			value, err := in.Get(t.Context(), "apple")
			is.NoErr(err)
			is.Equal(value, int64(7))
			is.Equal(must(t, in, event("e2", "apple")).After, int64(6))
		})
	}
}

func TestSetOnADamagedValueKeepsReadableIDs(t *testing.T) {
	e1, e2, gone := string(EventID("test", "e1")), string(EventID("test", "e2")), EventID("test", "gone")
	for name, stored := range map[string]string{
		"the value":          `{"once":2,"value":"100","ids":"` + e1 + `","watermark":"zzz","pruned":"X.1"}`,
		"an ID":              `{"once":2,"value":100,"ids":"broken ` + e1 + ` ` + e2[1:] + `","watermark":"zzz","pruned":"X.1"}`,
		"commits":            `{"once":2,"value":100,"ids":"` + e1 + `","watermark":"zzz","by":5,"pruned":"X.1"}`,
		"version 1":          `{"value":"100","latest":"` + e1 + `","watermark":"zzz","commits":""}`,
		"an ID of version 1": `{"value":100,"latest":"` + e2[1:] + `","older":"` + e1 + `","watermark":"zzz","commits":""}`,
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			memory := &memoryStore{}
			memory.put("apple", []byte(stored))
			_ = memory.mark(t.Context(), "apple", idSet(gone))
			memory.put("~"+string(gone), []byte(`"`+string(gone)+`"`)) // of version 1
			in := newTestInbox(memory)
			is.NoErr(in.Set(t.Context(), "apple", 7))
			is.Equal(must(t, in, event("e1", "apple")), duplicate)
			is.Equal(must(t, in, event("gone", "apple")), duplicate)
			is.Equal(must(t, in, event("new", "apple")), Result[int64]{Before: 7, After: 6})
		})
	}
}

// A change that arrives while Set replaces a damaged record must neither overwrite the
// record nor be applied to a made-up value.
func TestLateArrivalNeverOverwritesADamagedRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		memory.put("apple", []byte(`{"once":2,"value":"100"}`))
		s, reading, goOn := hold(memory)
		in := newTestInbox(s)
		answer := func(err *error, f func() error) {
			go func() { *err = f() }()
			synctest.Wait()
		}
		var before, set, after error
		answer(&before, func() error { _, err := in.Apply(t.Context(), event("e1", "apple")); return err })
		<-reading
		answer(&set, func() error { return in.Set(t.Context(), "apple", 7) })
		answer(&after, func() error { _, err := in.Apply(t.Context(), event("e2", "apple")); return err })
		close(goOn)
		in.settle()
		synctest.Wait()
		is.True(errors.Is(before, ErrFinal))
		is.NoErr(set)
		is.NoErr(after)
		is.Equal(storedRecord(t, memory, "apple").Value, int64(6))
	})
}

// A damaged record may be lost in a failover. It is a final error only after a save over
// it is acknowledged.
func TestDamagedRecordIsAnsweredOnAnAcknowledgedSave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := &cutOff{memoryStore: &memoryStore{}}
		s.put("apple", []byte(testRecord(100)))
		s.cut()
		s.put("apple", []byte(`{"once":2,"value":"broken"}`))
		in := newTestInbox(s)
		_, err := in.Apply(soon(t), event("e1", "apple"))
		is.True(errors.Is(err, context.DeadlineExceeded))
		in.settle()
		s.failOver()
		is.Equal(must(t, in, event("e1", "apple")), Result[int64]{Before: 100, After: 99})
	})
}

// A record of a newer format is neither read nor overwritten.
func TestRecordOfANewerVersionIsHandedBack(t *testing.T) {
	is := is.New(t)
	for _, stored := range []string{`{"once":3,"value":100}`, `{"once":3}`, `{"once":9,"value":{"a":1},"ids":[1]}`} {
		memory := &memoryStore{}
		memory.put("apple", []byte(stored))
		in := newTestInbox(memory)
		_, err := in.Apply(t.Context(), event("e1", "apple"))
		is.True(errors.Is(err, errNewer))
		is.True(!errors.Is(err, ErrFinal)) // an upgraded replica can apply it
		is.True(strings.Contains(err.Error(), "newer format"))
		is.Equal(in.Set(t.Context(), "apple", 5), errNewer)
		_, err = in.Get(t.Context(), "apple")
		is.Equal(err, errNewer)
		is.Equal(string(memory.values["apple"]), stored)
	}
}

// A record may become newer while a worker prunes it.
func TestWorkerEndsWhenTheRecordBecomesNewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		calls := 0
		in := newTestInbox(&counted{&hooked{store: memory, onMark: func(context.Context, string, idSet) error {
			memory.put("apple", []byte(`{"once":3}`))
			return nil
		}}, &calls})
		in.tuning.keep = func(int, int) int { return 0 }
		must(t, in, event("e1", "apple"))
		in.settle()
		is.Equal(calls, 3)
	})
}

// Replicas of the next version must be able to read this format.
func TestRecordNamesItsVersion(t *testing.T) {
	is := is.New(t)
	memory := &memoryStore{}
	var saved []string
	in := newTestInbox(&hooked{store: memory, onSave: func(ctx context.Context, key, etag string, value any) error {
		text, err := json.Marshal(value)
		is.NoErr(err)
		saved = append(saved, string(text))
		return memory.save(ctx, key, etag, value)
	}})
	in.author.name = "A"
	in.tuning.keep = func(int, int) int { return 0 }
	id := string(EventID("test", "e1"))
	must(t, in, event("e1", "apple"))
	in.settle()
	is.Equal(saved, []string{
		`{"once":2,"value":-1,"ids":"` + id + `","by":"A.1"}`,
		`{"once":2,"value":-1,"watermark":"` + id + `","pruned":"A.2","by":"A.2"}`,
	})
	is.Equal(string(memory.values["~DbjIsYN9EHbid2Qw."+id]), `"`+id+`"`)
}

func TestRecordOfVersion1IsRead(t *testing.T) {
	is := is.New(t)
	in := func(name string) string { return string(EventID("test", name)) }
	timed := EventID("test", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f")
	ahead := EventID("test", "027f22e2-79b0-7cc3-98c4-dc0c0c07398f")
	memory := &memoryStore{}
	memory.put("apple", []byte(`{"value":100,"latest":"`+in("e1")+`","older":"`+in("e2")+`","generation":7,"watermark":"`+string(timed)+
		`","ahead":{"first":"`+string(ahead)+`","last":"`+string(ahead)+`","until":1},"commits":"a.1 b.2"}`))
	memory.put("~"+in("e3"), []byte(`"`+in("e3")+`"`))
	memory.put(oldMarkerKeys("apple", timed)[3], []byte(`"`+string(timed)+`"`))
	memory.put(oldMarkerKeys("apple", ahead)[7], []byte(`"`+string(ahead)+`"`))
	for range 2 { // the second time, the record is of version 2
		for _, name := range []string{"e1", "e2", "e3", "017f22e2-79b0-7cc3-98c4-dc0c0c07398f", "027f22e2-79b0-7cc3-98c4-dc0c0c07398f"} {
			is.Equal(must(t, newTestInbox(memory), event(name, "apple")), duplicate)
		}
	}
	// Another event of the same millisecond shares the marker's key, and is not in it.
	other := lower(newID(timed.madeAt()-1, []byte("other")), "apple", 0)
	memory.put(oldMarkerKeys("apple", other.ID)[7], []byte(`"`+string(timed)+`"`))
	is.Equal(must(t, newTestInbox(memory), other).Duplicate, false)
	must(t, newTestInbox(memory), event("e4", "apple"))
	got := storedRecord(t, memory, "apple")
	want := record[int64]{
		Value: 99, IDs: setOf([]ID{EventID("test", "e1"), EventID("test", "e2"), EventID("test", "e4"), other.ID}),
		Commits: got.Commits, Old: &oldMarkers{Watermark: timed, Ahead: &idRange{ahead, ahead}},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(record[int64]{})); diff != "" {
		t.Error(diff)
	}
	// An event from after the upgrade needs no look-up.
	memory.looks = 0
	must(t, newTestInbox(memory), event("018f22e2-79b0-7cc3-98c4-dc0c0c07398f", "apple"))
	is.Equal(memory.looks, 0)
}

func TestOldMarkersAreWhereVersion1PutThem(t *testing.T) {
	is := is.New(t)
	is.Equal(oldMarkerKeys("apple", newID(0, []byte("a"))), []string{"~" + string(newID(0, []byte("a")))})
	id := newID(1e12, []byte("a"))
	const owner = "~DbjIsYN9EHbid2Qw" // a hash of the key
	want := []string{"~" + string(id), owner + ".0.spmvwn4", owner + ".1.3l7czkw", owner + ".2.g5f4g4", owner + ".3.20oe20", owner + ".4.931r9", owner + ".5.14vpw", owner + ".6.53yq"}
	is.Equal(oldMarkerKeys("apple", id), want)
}

func TestKeysOfRecordsAndMarkersDiffer(t *testing.T) {
	is := is.New(t)
	keys := make(map[string]string)
	markers := append(oldMarkerKeys("apple", testID("t")), markerKey("apple", testID("t")), markerKey("apple", testID("e1")), markerKey("pear", testID("e1")))
	for _, key := range markers {
		is.Equal(keys[key], "")
		keys[key] = "a marker"
	}
	for _, key := range append(markers, "apple", "~", "~~", "~"+markers[0], "~apple", "~~apple",
		"a/b", "a~2Fb", "~a/b", "~~a~2Fb", `a\b`, "a?b", "a#b", "~/", "~2F") {
		stored := recordKey(key)
		is.Equal(keys[stored], "") // no other key is stored there
		is.True(!strings.ContainsAny(stored, `/\?#`))
		keys[stored] = key
	}
}

func FuzzDecodeRecord(f *testing.F) {
	for _, seed := range []string{
		`100`, `-5`, `1e2`, `{"value":90,"latest":"-----------------0123456","watermark":"a","commits":"c.1"}`, `{"value":1,"commits":"","ahead":{"first":"a","last":"b","until":1}}`,
		`{"value":1e2,"commits":""}`, `{"Value":1,"commits":""}`, `{"latest":""}`, `null`, `"100"`, `[]`, ``,
		`{"once":2,"value":90,"ids":"-----------------0123456","watermark":"a","pruned":"c.1","by":"c.1","old":{"watermark":"b"}}`, `{"once":2,"value":"","ids":" "}`,
	} {
		f.Add([]byte(seed))
	}
	save := func(t *testing.T, r record[int64]) []byte {
		value, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		r, err := decodeRecord[int64](value)
		if err != nil {
			return
		}
		if r.damaged != nil { // as after Set
			r.damaged, r.raw = nil, nil
		}
		saved := save(t, r)
		again, err := decodeRecord[int64](saved)
		if err != nil || again.damaged != nil {
			t.Fatalf("%q was saved as %s: %v, %v", value, saved, err, again.damaged)
		}
		if twice := save(t, again); string(twice) != string(saved) {
			t.Errorf("%q was saved as %s, and then as %s", value, saved, twice)
		}
	})
}
