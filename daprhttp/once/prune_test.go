package once

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/matryer/is"
)

// Each event is applied by a replica that has just started, and has no memory. Each record
// stays short all the same.
func TestRecordStaysShortWhenReplicasKeepRestarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		for n := range 700 {
			in := newInbox[int64](memory)
			must(t, in, numbered(n))
			in.settle()
			is.True(storedRecord(t, memory, "apple").IDs.len() <= 2*keepIDs(1, 1)+1)
		}
		is.Equal(memory.looks, 0)
	})
}

func TestSmallestIDsLeave(t *testing.T) {
	now := time.UnixMilli(1e12)
	in := newInbox[int64](nil)
	in.tuning.maxFuture = 3
	for _, tt := range []struct {
		past, future, keep, want int
	}{
		{past: 10, keep: 4, want: 6},
		{past: 4, keep: 4, want: 0},
		{past: 3, keep: 4, want: 0},
		{past: 10, future: 2, keep: 4, want: 6}, // IDs from the future stay too
		{past: 10, future: 3, keep: 4, want: 6},
		{past: 10, future: 5, keep: 4, want: 8}, // up to a bound
		{past: 0, future: 9, keep: 4, want: 2},
		{past: 2, future: 1, keep: 0, want: 2},
	} {
		is := is.New(t)
		var ids []ID
		for ms := 1 - tt.past; ms <= tt.future; ms++ {
			ids = append(ids, newID(uint64(1e12+ms), nil))
		}
		all := setOf(ids)
		is.Equal(in.leaving(all, tt.keep, now), all.slice(0, tt.want))
	}
}

// The replica whose save crosses the limit writes the markers. Another replica writes
// markers only when the record has twice as many IDs.
func TestOneReplicaWritesMarkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		dies, lives := newTestInbox(on("mark", memory, fail), 10), newTestInbox(memory, 10)
		dies.tuning.sharers, lives.tuning.sharers = 1000, 1000 // each ID gets a marker of its own
		for n := range 40 {
			in := dies
			if n > 20 { // the last event crosses the limit
				in = lives
			}
			must(t, in, numbered(n))
			in.settle()
		}
		is.Equal(memory.markers(), 0)
		must(t, lives, numbered(40)) // the 41st
		lives.settle()
		is.Equal(memory.markers(), 31)
		is.Equal(storedRecord(t, memory, "apple").IDs.len(), 10)
	})
}

// IDs that one write has marked leave the record, even if the next write fails.
func TestMarkedIDsLeaveAfterAPartialFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		var changes []Change[int64]
		var ids []ID
		for i := range 4*keepIDs(1, 1) + 1 {
			changes = append(changes, event(fmt.Sprint("old ", i), "apple"))
			ids = append(ids, changes[i].ID)
		}
		memory.put("apple", fmt.Sprintf(`{"once":2,"value":100,"ids":"%s"}`, setOf(ids)))
		writes := 0
		in := newInbox[int64](on("mark", memory, func(c call) error {
			is.True(c.ids.len() <= maxMarkers)
			if writes++; writes%2 == 0 {
				return errFailed
			}
			return c.do()
		}))
		must(t, in, event("e1", "apple"))
		in.settle()
		is.Equal(storedRecord(t, memory, "apple").IDs.len(), len(ids)+1-maxMarkers)
		is.Equal(memory.markers(), maxMarkers)
		mustBeDuplicates(t, memory, changes)
	})
}

// Slow markers delay no change of their key. The replica that prunes a record goes on until
// the record is short enough, even if no further change comes.
func TestCommitsGoOnWhileMarkersAreWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		writing := 0
		in := newTestInbox(on("mark", memory, func(c call) error {
			writing++
			is.Equal(writing, 1) // one write at a time
			defer func() { writing-- }()
			time.Sleep(100 * time.Millisecond)
			return c.do()
		}), 10)
		in.tuning.sharers = 1000 // one call for all markers
		for n := range 500 {
			start := time.Now()
			must(t, in, numbered(n))
			is.Equal(time.Since(start), time.Duration(0))
			// The limit is 20, and 20 changes arrive during a write.
			is.True(storedRecord(t, memory, "apple").IDs.len() <= 52)
			time.Sleep(5 * time.Millisecond)
		}
		in.settle()
		is.True(storedRecord(t, memory, "apple").IDs.len() <= 20)
	})
}

// Any replica can prune the record later.
func TestSaveThatOnlyPrunesIsNotRetried(t *testing.T) {
	for name, tt := range map[string]struct {
		fails  string // the method that fails after the markers are written
		stored string // the record by then
	}{
		"the read fails":                    {fails: "read"},
		"the save fails":                    {fails: "save"},
		"the record becomes newer":          {stored: `{"once":3}`},
		"another replica prunes the record": {stored: testRecord(-1)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				is := is.New(t)
				memory := &memoryStore{}
				marked, calls := false, 0
				in := newTestInbox(hooked{memory, func(c call) error {
					switch {
					case marked && c.method == tt.fails:
						return errFailed
					case marked:
						calls++
					case c.method == "mark":
						marked = true
						if tt.stored != "" {
							memory.put("apple", tt.stored)
						}
					}
					return c.do()
				}}, 0)
				must(t, in, event("e1", "apple"))
				in.settle()
				is.True(marked && calls <= 1) // a read
			})
		})
	}
}

// A duplicate may be in the very commit that takes its ID out of the record.
func TestDuplicateIsRecognisedWhileItsIDLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		var in *Inbox[int64]
		reads := 0
		var again Result[int64]
		in = newTestInbox(on("read", memory, func(c call) error {
			if reads++; reads == 2 { // of the commit that prunes
				go func() { again = must(t, in, event("e1", "apple")) }()
				time.Sleep(time.Millisecond)
			}
			return c.do()
		}), 0)
		must(t, in, event("e1", "apple"))
		in.settle()
		synctest.Wait()
		is.Equal(again, duplicate)
		is.Equal(reads, 2)
		r := storedRecord(t, memory, "apple")
		is.Equal(r.IDs, idSet(""))
		is.Equal(r.Value, int64(-1))
	})
}

// Eight or more events of one moment share a marker. An event that comes after the marker
// was written gets a marker of its own. A redelivery of any of them is a duplicate.
func TestEventsOfOneMomentShareAMarker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		in := newTestInbox(slow(memory, time.Millisecond), 10)
		var all []Change[int64]
		apply := func(n int, at time.Time) { // in one commit
			var wg sync.WaitGroup
			for range n {
				c := timed(at, len(all))
				all = append(all, c)
				wg.Go(func() { is.True(!must(t, in, c).Duplicate) })
			}
			wg.Wait()
			in.settle()
		}
		moment := time.UnixMilli(1e11)
		apply(60, moment)
		apply(60, moment.Add(time.Second))
		is.True(memory.markers() < 30) // of 110 events that have left
		apply(20, moment)              // late
		few := moment.Add(-time.Second)
		apply(7, few)
		apply(60, moment.Add(2*time.Second))
		is.True(memory.markers() >= 20+7) // each of them has a marker of its own
		is.Equal(memory.values[sharedKey("apple", newID(uint64(few.UnixMilli()), nil).span())], stored{})
		mustBeDuplicates(t, memory, all)
		pear := all[0]
		pear.Key = "pear" // a marker belongs to one key
		is.True(!must(t, in, pear).Duplicate)
	})
}
