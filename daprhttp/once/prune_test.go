package once

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/matryer/is"
)

func TestRecordForgetsOldEventsAndStillRecognisesThem(t *testing.T) {
	for _, version := range []byte{'4', '7'} { // of the events' UUIDs
		testStores(t, func(t *testing.T, s store) {
			is := is.New(t)
			key := newKey(t)
			run := fmt.Sprintf("%012x", time.Now().UnixNano()&(1<<48-1))
			changes := make([]Change[int64], 300)
			for i := range changes {
				changes[i] = event(fmt.Sprintf("%08x-%04x-%c000-8000-%s", i>>16, i*100&0xFFFF, version, run), key)
			}
			replicas := []*Inbox[int64]{newTestInbox(s), newTestInbox(s)}
			for _, in := range replicas {
				in.tuning.keep = func(int, int) int { return 5 }
			}
			for i, c := range changes {
				must(t, replicas[i%2], c)
				replicas[i%2].settle()
			}
			r := storedRecord(t, s, key)
			is.Equal(r.Value, int64(-300))
			is.True(r.Watermark != "") // it has forgotten some
			is.True(r.IDs.len() < 20)
			for _, c := range changes {
				is.Equal(must(t, newTestInbox(s), c), duplicate)
			}
			is.Equal(storedRecord(t, s, key).Value, int64(-300))
		})
	}
}

// Each order is applied by a replica that has just started, and has no memory. Each
// record stays short all the same.
func TestRecordStaysShortWhenReplicasKeepRestarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		const items, orders = 5, 700
		longest := 0
		for i := range orders {
			for item := range items {
				key := fmt.Sprint("item ", item)
				in := newTestInbox(memory)
				must(t, in, event(uuid(time.UnixMilli(1e11+int64(i)), i), key))
				in.settle()
				longest = max(longest, storedRecord(t, memory, key).IDs.len())
			}
		}
		is.True(longest <= 2*keepIDs(1, 1)+1)
		is.Equal(storedRecord(t, memory, "item 3").Value, int64(-orders))
		is.Equal(memory.looks, 0)
	})
}

// A record is full when markers could not be written for a while. Any replica can prune
// it then, even a replica that has just started.
func TestFullRecordIsPrunedByAnyReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		noMarkers := &hooked{store: memory, onMark: func(context.Context, string, idSet) error { time.Sleep(100 * time.Millisecond); return errFailed }}
		n := 0
		order := func(in *Inbox[int64]) error {
			n++
			_, err := in.Apply(soon(t), event(uuid(time.UnixMilli(1e11+int64(n)), n), "apple"))
			return err
		}
		in := newTestInbox(noMarkers)
		for range defaultTuning.maxIDs {
			is.NoErr(order(in))
		}
		err := order(in) // a full record does not grow
		is.True(errors.Is(err, errFailed))
		is.True(errors.Is(err, context.DeadlineExceeded))
		is.True(!errors.Is(err, ErrFinal))
		for i := range 20 { // the error tells why, whenever the caller gives up
			ctx, cancel := context.WithTimeout(t.Context(), time.Second+time.Duration(i)*37*time.Millisecond)
			_, err := in.Apply(ctx, event("one more", "apple"))
			is.True(errors.Is(err, errFailed))
			cancel()
		}
		before := memory.writes
		_, _ = in.Apply(soon(t), event("one more", "apple"))
		is.True(memory.writes-before < 100)         // it backs off
		is.NoErr(in.Set(t.Context(), "apple", 500)) // Set always has room
		in.settle()

		in = newTestInbox(memory) // a replica that starts when markers can be written
		is.NoErr(order(in))
		is.Equal(storedRecord(t, memory, "apple").Value, int64(499))
		is.True(storedRecord(t, memory, "apple").IDs.len() < 500)
		for i := range n { // one of these events was never applied
			r := must(t, newTestInbox(memory), event(uuid(time.UnixMilli(1e11+int64(i+1)), i+1), "apple"))
			is.Equal(r.Duplicate, i != defaultTuning.maxIDs)
		}
	})
}

// A record that a read shows may be lost in a failover. A full record is therefore saved,
// without an answer, before its IDs get markers.
func TestFullRecordIsSavedBeforeItIsMarked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		memory.put("apple", []byte(testRecord(98, "t1", "t2")))
		var calls []string
		in := newTestInbox(&hooked{
			store: memory,
			onSave: func(ctx context.Context, key, etag string, value any) error {
				calls = append(calls, fmt.Sprint("save ", value.(envelope).IDs.len()))
				return memory.save(ctx, key, etag, value)
			},
			onMark: func(ctx context.Context, key string, ids idSet) error {
				calls = append(calls, fmt.Sprint("mark ", ids.len()))
				return memory.mark(ctx, key, ids)
			},
		})
		in.tuning.maxIDs = 2
		in.tuning.keep = func(int, int) int { return 1 }
		is.Equal(must(t, in, event("e1", "apple")), Result[int64]{Before: 98, After: 97})
		in.settle()
		is.Equal(calls, []string{"save 2", "mark 1", "save 2"})
	})
}

// The replica whose save crosses the limit writes the markers. Another replica writes
// markers only when the record has twice as many IDs.
func TestOneReplicaWritesMarkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		dies := newTestInbox(&hooked{store: memory, onMark: func(context.Context, string, idSet) error { return errFailed }})
		lives := newTestInbox(memory)
		for _, in := range []*Inbox[int64]{dies, lives} {
			in.tuning.keep = func(int, int) int { return 10 }
			in.tuning.sharers = 1000 // each ID gets a marker of its own
		}
		n := 0
		order := func(in *Inbox[int64]) {
			n++
			must(t, in, event(uuid(time.UnixMilli(1e11+int64(n)), n), "apple"))
			in.settle()
		}
		for range 21 {
			order(dies) // the last order crosses the limit
		}
		for range 19 {
			order(lives)
			is.Equal(memory.markers(), 0)
		}
		order(lives) // the 41st
		is.Equal(memory.markers(), 31)
		is.Equal(storedRecord(t, memory, "apple").IDs.len(), 10)
	})
}

// IDs that one write has marked leave the record, even if the next write fails.
func TestMarkersAreNeverWrittenAgainAfterAPartialFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		writes := 0
		in := newTestInbox(&hooked{store: memory, onMark: func(ctx context.Context, key string, ids idSet) error {
			if writes++; writes%2 == 0 {
				return errFailed
			}
			is.True(ids.len() <= maxMarkers)
			return memory.mark(ctx, key, ids)
		}})
		var ids []ID
		for i := range 4*keepIDs(1, 1) + 1 {
			ids = append(ids, EventID("test", fmt.Sprint("old ", i)))
		}
		memory.put("apple", []byte(fmt.Sprintf(`{"once":2,"value":100,"ids":"%s"}`, setOf(ids))))
		must(t, in, event("e1", "apple"))
		in.settle()
		r := storedRecord(t, memory, "apple")
		is.Equal(r.IDs.len(), len(ids)+1-maxMarkers)
		is.Equal(memory.markers(), maxMarkers)
		for _, id := range ids {
			is.Equal(must(t, newTestInbox(memory), lower(id, "apple", 1)), duplicate)
		}
	})
}

// Markers that hang delay neither the changes of their key nor the end of its worker.
func TestCommitsGoOnWhileMarkersAreWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		writing := 0
		in := newTestInbox(&hooked{store: memory, onMark: func(ctx context.Context, key string, ids idSet) error {
			writing++
			is.Equal(writing, 1) // one write at a time
			defer func() { writing-- }()
			time.Sleep(time.Minute)
			return memory.mark(ctx, key, ids)
		}})
		in.tuning.keep = func(int, int) int { return 2 }
		start := time.Now()
		for i := range 50 {
			must(t, in, event(fmt.Sprint(i), "apple"))
		}
		is.Equal(time.Since(start), time.Duration(0))
		is.Equal(storedRecord(t, memory, "apple").IDs.len(), 50)
		in.settle()
		is.True(storedRecord(t, memory, "apple").IDs.len() < 10) // without any further change
		is.Equal(len(in.workers), 0)
	})
}

// The replica that prunes a record goes on until the record is short enough.
func TestRecordStaysShortWhileMarkersAreSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		in := newTestInbox(&hooked{store: memory, onMark: func(ctx context.Context, key string, ids idSet) error {
			time.Sleep(100 * time.Millisecond)
			return memory.mark(ctx, key, ids)
		}})
		in.tuning.keep = func(int, int) int { return 10 }
		in.tuning.sharers = 1000 // one call for all markers
		longest := 0
		for i := range 1000 {
			must(t, in, event(uuid(time.UnixMilli(1e11+int64(i)), i), "apple"))
			longest = max(longest, storedRecord(t, memory, "apple").IDs.len())
			time.Sleep(5 * time.Millisecond)
		}
		is.True(longest <= 52) // the limit is 20, and 20 changes arrive during a write
		in.settle()
	})
}

// A duplicate may be in the very commit that takes its ID out of the record.
func TestDuplicateIsRecognisedWhileItsIDLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		in := newTestInbox(nil)
		reads := 0
		var again Result[int64]
		in.store = &hooked{store: memory, onRead: func(ctx context.Context, key string) (stored, error) {
			if reads++; reads == 2 { // of the commit that prunes
				go func() { again = must(t, in, event("e1", "apple")) }()
				time.Sleep(time.Millisecond)
			}
			return memory.read(ctx, key)
		}}
		in.tuning.keep = func(int, int) int { return 0 }
		must(t, in, event("e1", "apple"))
		in.settle()
		synctest.Wait()
		is.Equal(again, duplicate)
		is.Equal(reads, 2)
		is.Equal(storedRecord(t, memory, "apple").IDs, idSet(""))
		is.Equal(storedRecord(t, memory, "apple").Value, int64(-1))
	})
}

func TestOneEventChangesManyKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		in := newTestInbox(memory)
		in.tuning.keep = func(int, int) int { return 0 }
		is.Equal(must(t, in, event("e1", "apple")), Result[int64]{After: -1})
		in.settle() // the ID has left the record of apple
		must(t, in, event("e2", "pear"))
		in.settle() // the record of pear has a watermark
		is.Equal(must(t, in, event("e1", "pear")), Result[int64]{Before: -1, After: -2})
		in.settle()
		is.Equal(must(t, in, event("e1", "apple")), duplicate)
		is.Equal(must(t, in, event("e1", "pear")), duplicate)
	})
}

// A sidecar with many events in flight delivers them out of order. No event needs a
// look-up.
func TestEventsThatOvertakeEachOtherNeedNoLookUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		const inFlight = 100
		memory := &memoryStore{}
		in := newTestInbox(memory)
		random := rand.New(rand.NewPCG(1, 2))
		type arrival struct{ number, at int }
		arrivals := make([]arrival, 3000)
		for i := range arrivals {
			arrivals[i] = arrival{i, i + random.IntN(inFlight)}
		}
		slices.SortFunc(arrivals, func(a, b arrival) int { return cmp.Compare(a.at, b.at) })
		for _, a := range arrivals {
			must(t, in, event(uuid(time.UnixMilli(1e11+int64(a.number)), a.number), "apple"))
			in.settle()
		}
		is.Equal(memory.looks, 0)
		is.True(storedRecord(t, memory, "apple").Watermark != "")
	})
}

// The clock of one publisher is ahead, by 10 ms, by minutes or by a year. No event needs a
// look-up, the record stays short, and each event is applied once.
func TestPublisherWhoseClockIsAheadCausesNoLookUps(t *testing.T) {
	for _, ahead := range []time.Duration{10 * time.Millisecond, 4 * time.Minute, 365 * 24 * time.Hour} {
		t.Run(fmt.Sprint(ahead), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				is := is.New(t)
				memory := &memoryStore{}
				in := newTestInbox(memory)
				n := 0
				var all []Change[int64]
				for range 4000 {
					n++
					madeAt := time.Now()
					if n%100 == 0 {
						madeAt = madeAt.Add(ahead)
					}
					c := event(uuid(madeAt, n), "apple")
					all = append(all, c)
					must(t, in, c)
					time.Sleep(10 * time.Millisecond)
				}
				in.settle()
				is.Equal(memory.looks, 0)
				is.True(storedRecord(t, memory, "apple").IDs.len() < 400)
				for _, c := range all {
					is.Equal(must(t, newTestInbox(memory), c), duplicate)
				}
			})
		})
	}
}

// Beyond a bound, IDs from the future leave too. Each new event then costs a look-up.
func TestIDsFromTheFutureAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		in := newTestInbox(memory)
		in.tuning.maxFuture = 50
		longest := 0
		for i := range 1000 {
			must(t, in, event(uuid(time.Now().Add(time.Hour+time.Duration(i)*time.Millisecond), i), "apple"))
			in.settle()
			longest = max(longest, storedRecord(t, memory, "apple").IDs.len())
		}
		is.True(longest <= 50+2*keepIDs(1, 1)+1)
		memory.looks = 0
		for i := range 100 {
			must(t, in, event(uuid(time.Now(), 1000+i), "apple"))
			is.Equal(memory.looks, 2*(i+1)) // of the marker of its moment, and of its own
		}
	})
}

// The clock of a replica may be late by more than MARKER_TTL, or jump. IDs that it takes
// for IDs from the future get markers before they leave, too.
func TestReplicaWhoseClockJumpsAppliesNoEventTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the bubble's clock is the replica's: it begins in 2000
		is := is.New(t)
		memory := &memoryStore{}
		in := newTestInbox(memory)
		in.tuning.maxFuture, in.tuning.keep = 20, func(int, int) int { return 5 }
		random := rand.New(rand.NewPCG(3, 4))
		var all []Change[int64]
		for i := range 400 {
			jump := time.Duration(random.IntN(5)) * 30 * time.Hour // of the publisher's clock relative to the replica's
			c := event(uuid(time.Now().Add(jump-60*time.Hour), i), "apple")
			all = append(all, c)
			must(t, in, c)
			if i%20 == 0 {
				in.settle()
			}
			if i%100 == 99 {
				time.Sleep(50 * time.Hour)
			}
		}
		in.settle()
		for _, c := range all {
			is.Equal(must(t, newTestInbox(memory), c), duplicate)
		}
		is.Equal(storedRecord(t, memory, "apple").Value, int64(-len(all)))
	})
}

func TestSmallestIDsLeave(t *testing.T) {
	now := time.UnixMilli(1e12)
	in := newTestInbox(nil)
	in.tuning.maxFuture = 3
	set := func(from, n int) (ids []ID) {
		for i := range n {
			ids = append(ids, newID(uint64(1e12+from+i), nil))
		}
		return ids
	}
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
		all := setOf(append(set(1-tt.past, tt.past), set(1, tt.future)...))
		is.Equal(in.leaving(all, tt.keep, now), all.slice(0, tt.want))
	}
}

// A change whose marker can't be read waits. Other changes of its key do not.
func TestUnreadableMarkerDelaysOnlyItsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		memory.put("apple", []byte(`{"once":2,"value":100,"pruned":"X.1","watermark":"zzz"}`))
		late := event("late", "apple")
		broken := true
		in := newTestInbox(&hooked{store: memory, onRead: func(ctx context.Context, key string) (stored, error) {
			if broken && key == markerKey("apple", late.ID) {
				return stored{}, errFailed
			}
			return memory.read(ctx, key)
		}})
		_, err := in.Apply(soon(t), late)
		is.True(errors.Is(err, errFailed))
		var got Result[int64]
		go func() { got = must(t, in, late) }()
		for i := range 20 {
			must(t, in, event(fmt.Sprint(i), "apple"))
			time.Sleep(50 * time.Millisecond)
		}
		synctest.Wait()
		is.Equal(got, Result[int64]{})
		broken = false
		in.settle()
		synctest.Wait()
		is.Equal(got, Result[int64]{Before: 80, After: 79})
	})
}

// A look-up that finds no marker is valid until an ID leaves the record. A save lost to a
// rival therefore costs no second look-up.
func TestMarkerIsLookedUpOnceWhileNoIDLeaves(t *testing.T) {
	is := is.New(t)
	memory := &memoryStore{}
	memory.put("apple", []byte(`{"once":2,"value":100,"pruned":"X.1","watermark":"zzz"}`))
	rival := func() { must(t, newTestInbox(memory), event("other", "apple")) }
	in := newTestInbox(failOnce(memory, false, rival))
	must(t, in, event("e1", "apple"))
	is.Equal(memory.looks, 2)
	is.Equal(in.Stats().Conflicts, int64(1))
}

// Any replica can prune the record later.
func TestSaveThatOnlyPrunesIsNotRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		saves := 0
		in := newTestInbox(&hooked{store: memory, onSave: func(ctx context.Context, key, etag string, value any) error {
			if saves++; saves > 1 {
				return errFailed
			}
			return memory.save(ctx, key, etag, value)
		}})
		in.tuning.keep = func(int, int) int { return 0 }
		must(t, in, event("e1", "apple"))
		in.settle()
		is.Equal(saves, 2)
		is.Equal(len(in.workers), 0)
	})
}

// Many events of one moment share a marker. An event that comes after the marker was
// written gets a marker of its own. A redelivery of any of them is a duplicate.
func TestEventsOfOneMomentShareAMarker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		in := newTestInbox(slowStore(memory, time.Millisecond))
		in.tuning.keep = func(int, int) int { return 10 }
		var all []Change[int64]
		apply := func(n int, at time.Time) { // in one commit
			var wg sync.WaitGroup
			for range n {
				c := event(uuid(at, len(all)), "apple")
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
		apply(60, moment.Add(2*time.Second))
		is.True(memory.markers() >= 20)
		for _, c := range all {
			is.Equal(must(t, newTestInbox(memory), c), duplicate)
		}
		pear := all[0]
		pear.Key = "pear" // a marker belongs to one key
		is.True(!must(t, in, pear).Duplicate)
	})
}

// Even Set has no room in a record with twice as many IDs. It then waits for the markers, as
// other changes do, and makes few calls.
func TestSetOnARecordFullOfIDsBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		memory.put("apple", []byte(testRecord(98, "e1", "e2", "e3", "e4")))
		in := newTestInbox(&hooked{store: memory, onMark: func(context.Context, string, idSet) error { return errFailed }})
		in.tuning.maxIDs = 2
		in.tuning.keep = func(int, int) int { return 1 }
		is.True(errors.Is(in.Set(soon(t), "apple", 500), errFailed))
		is.True(memory.writes < 100)
		in.settle()
	})
}

func TestSetWorksOnAFullRecordWhileMarkersHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		memory.put("apple", []byte(testRecord(98, "e1", "e2")))
		in := newTestInbox(&hooked{store: memory, onMark: func(context.Context, string, idSet) error {
			time.Sleep(time.Minute)
			return errFailed
		}})
		in.tuning.maxIDs = 2
		in.tuning.keep = func(int, int) int { return 1 }
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		waits := make(chan error)
		go func() { _, err := in.Apply(ctx, event("e3", "apple")); waits <- err }()
		time.Sleep(time.Second)
		start := time.Now()
		is.NoErr(in.Set(ctx, "apple", 500))
		is.True(time.Since(start) < time.Second)
		is.True(errors.Is(<-waits, context.DeadlineExceeded))
		value, err := in.Get(t.Context(), "apple")
		is.NoErr(err)
		is.Equal(value, int64(500))
		in.settle()
	})
}
