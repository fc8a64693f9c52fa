package once

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

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
		{stored: `{"once":2,"value":100,"ids":"!!||||||||||||||||||||!!"}`, final: true},
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
			memory.put("apple", tt.stored)
			in := newInbox[int64](memory)
			if !tt.final {
				is.Equal(must(t, in, event("e1", "apple")).After, tt.want)
				return
			}
			for range 2 { // the first answer repairs nothing
				_, err := in.Apply(t.Context(), event("e1", "apple"))
				is.True(errors.Is(err, ErrFinal))
				is.Equal(string(memory.values["apple"].value), tt.stored)
				_, err = in.Get(t.Context(), "apple")
				is.True(err != nil)
			}
			is.NoErr(in.Set(t.Context(), "apple", 7)) // Set replaces any value
			is.Equal(must(t, in, event("e2", "apple")), Result[int64]{Before: 7, After: 6})
		})
	}
}

// A change that arrives while Set replaces a damaged record must neither overwrite the
// record nor be applied to a made-up value.
func TestLateArrivalNeverOverwritesADamagedRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		memory.put("apple", `{"once":2,"value":"100"}`)
		s, goOn := hold(memory)
		in := newInbox[int64](s)
		var before, set, after error
		for _, start := range []func(){
			func() { _, before = in.Apply(t.Context(), event("e1", "apple")) },
			func() { set = in.Set(t.Context(), "apple", 7) },
			func() { _, after = in.Apply(t.Context(), event("e2", "apple")) },
		} {
			go start()
			synctest.Wait()
		}
		close(goOn)
		in.settle()
		synctest.Wait()
		is.True(errors.Is(before, ErrFinal))
		is.NoErr(set)
		is.NoErr(after)
		is.Equal(storedRecord(t, memory, "apple").Value, int64(6))
	})
}

// The field that can't be read, if any, is that of the case's name.
func TestSetKeepsTheIDsOfAppliedEvents(t *testing.T) {
	e1, e2, gone, last := string(EventID("test", "e1")), string(EventID("test", "e2")), EventID("test", "gone"), strings.Repeat("z", idLength)
	for name, stored := range map[string]string{
		"no damage":                 `{"once":2,"value":100,"ids":"` + e1 + `","watermark":"` + last + `","pruned":"X.1"}`,
		"the value":                 `{"once":2,"value":"100","ids":"` + e1 + `","watermark":"` + last + `","pruned":"X.1"}`,
		"an ID":                     `{"once":2,"value":100,"ids":"broken ` + e1 + ` ` + e2[1:] + `","watermark":"` + last + `","pruned":"X.1"}`,
		"an ID of another alphabet": `{"once":2,"value":100,"ids":"!!||||||||||||||||||||!! ` + e1 + `","watermark":"` + last + `","pruned":"X.1"}`,
		"the watermark":             `{"once":2,"value":100,"ids":"` + e1 + `","watermark":5,"pruned":"X.1"}`,
		"the end of the watermark":  `{"once":2,"value":100,"ids":"` + e1 + `","watermark":"zz","pruned":"X.1"}`,
		"text of the watermark":     `{"once":2,"value":100,"ids":"` + e1 + `","watermark":"!!!!!!!!!!!!!!!!!!!!!!!!","pruned":"X.1"}`,
		"commits":                   `{"once":2,"value":100,"ids":"` + e1 + `","watermark":"` + last + `","by":5,"pruned":"X.1"}`,
		"version 1":                 `{"value":"100","latest":"` + e1 + `","watermark":"` + last + `","commits":""}`,
		"an ID of version 1":        `{"value":100,"latest":"` + e2[1:] + `","older":"` + e1 + `","watermark":"` + last + `","commits":""}`,
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			memory := &memoryStore{}
			memory.put("apple", stored)
			_ = memory.mark(t.Context(), "apple", idSet(gone))
			memory.put("~"+string(gone), `"`+string(gone)+`"`) // of version 1
			in := newInbox[int64](memory)
			is.NoErr(in.Set(t.Context(), "apple", 7))
			is.Equal(must(t, in, event("e1", "apple")), duplicate)
			is.Equal(must(t, in, event("gone", "apple")), duplicate)
			is.Equal(must(t, in, event("new", "apple")), Result[int64]{Before: 7, After: 6})
		})
	}
}

// Set can't keep IDs that it can't read.
func TestSetForgetsTheIDsOfAnUnreadableRecord(t *testing.T) {
	is := is.New(t)
	memory := &memoryStore{}
	in := newInbox[int64](memory)
	must(t, in, event("e1", "apple"))
	memory.put("apple", "broken")
	is.NoErr(in.Set(t.Context(), "apple", 7))
	is.Equal(must(t, in, event("e1", "apple")), Result[int64]{Before: 7, After: 6})
}

// A record of a newer format is neither read nor overwritten.
func TestRecordOfANewerVersionIsHandedBack(t *testing.T) {
	is := is.New(t)
	for _, stored := range []string{`{"once":3,"value":100}`, `{"once":3}`, `{"once":9,"value":{"a":1},"ids":[1]}`} {
		memory := &memoryStore{}
		memory.put("apple", stored)
		in := newInbox[int64](memory)
		_, err := in.Apply(t.Context(), event("e1", "apple"))
		is.True(errors.Is(err, errNewer))
		is.True(!errors.Is(err, ErrFinal)) // an upgraded replica can apply it
		is.True(strings.Contains(err.Error(), "newer format"))
		is.Equal(in.Set(t.Context(), "apple", 5), errNewer)
		_, err = in.Get(t.Context(), "apple")
		is.Equal(err, errNewer)
		is.Equal(string(memory.values["apple"].value), stored)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	for _, seed := range []string{
		`100`, `-5`, `1e2`, `null`, `"100"`, `[]`, ``,
		`{"value":90,"latest":"-----------------0123456","watermark":"a","commits":"c.1"}`,
		`{"value":1,"commits":"","ahead":{"first":"a","last":"b","until":1}}`,
		`{"value":1e2,"commits":""}`, `{"Value":1,"commits":""}`, `{"latest":""}`,
		`{"once":2,"value":90,"ids":"-----------------0123456","watermark":"a","pruned":"c.1","by":"c.1","old":{"watermark":"b"}}`,
		`{"once":2,"value":"","ids":" "}`,
	} {
		f.Add([]byte(seed))
	}
	save := func(t *testing.T, r record[int64]) []byte {
		text, err := json.Marshal(r.encode())
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
			r.damaged, r.raw, r.JSON = nil, nil, []byte("1")
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
