package once

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/matryer/is"
)

func TestRecordForgetsOldChangesAndStillKnowsThem(t *testing.T) {
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
				in.keep = func(int, int) int { return 5 }
			}
			for i, c := range changes {
				is.NoErr(replicas[i%2].Apply(t.Context(), c)[0].Err)
				replicas[i%2].settle()
			}
			r := storedRecord(t, s, key)
			is.Equal(r.Value, int64(-300))
			is.True(r.Watermark != "") // it has forgotten some
			is.True(r.ids() < 20)
			for _, c := range changes {
				is.Equal(newTestInbox(s).Apply(t.Context(), c), []Result[int64]{{Duplicate: true}})
			}
			is.Equal(storedRecord(t, s, key).Value, int64(-300))
		})
	}
}

// What is found about a batch must not depend on a memory that something else may
// clear. This is a day's events, all delivered again to a replica that was
// restarted.
func TestManyEventsDeliveredAgainApplyOnce(t *testing.T) {
	is := is.New(t)
	const n, batch = 10_000, 200
	memory := &memoryStore{}
	changes := make([]Change[int64], n)
	for i := range changes {
		changes[i] = event(uuid(time.UnixMilli(1e12+int64(i)), i), "apple")
	}
	for range 2 {
		in := newTestInbox(memory)
		in.markers.known.limit = n / 5
		for some := range slices.Chunk(changes, batch) {
			for _, r := range in.Apply(t.Context(), some...) {
				is.NoErr(r.Err)
			}
		}
		in.settle()
	}
	is.Equal(storedRecord(t, memory, "apple").Value, int64(-n))
}

// meanwhile is a store in which something happens before the first marker is
// written.
type meanwhile struct {
	store
	once   sync.Once
	happen func()
}

func (s *meanwhile) save(ctx context.Context, writes []write) error {
	if writes[0].expires {
		s.once.Do(s.happen)
	}
	return s.store.save(ctx, writes)
}

func TestReplicasThatWriteOneMarkerLoseNothingOfIt(t *testing.T) {
	is := is.New(t)
	ids := func(n ...byte) map[string]idSet {
		var all []ID
		for _, i := range n {
			all = append(all, newID(1e12, []byte{i}))
		}
		return map[string]idSet{"apple": setOf(all)}
	}
	memory := &memoryStore{}
	other := &markers{store: memory, known: memory10()}
	slow := &markers{store: &meanwhile{store: memory, happen: func() { is.NoErr(other.writeAll(t.Context(), ids(1, 2))) }}, known: memory10()}
	is.True(slow.writeAll(t.Context(), ids(2, 3)) != nil)
	is.True(!slow.knowsAll(ids(2, 3)["apple"])) // it must not believe that they are there
	is.NoErr(slow.writeAll(t.Context(), ids(2, 3)))
	is.True(slow.knowsAll(ids(2, 3)["apple"]))
	for id := range ids(1, 2, 3)["apple"].all() {
		found := false
		for _, m := range slow.find(t.Context(), markerKeys("apple", id)) {
			found = found || m.ids.has(id)
		}
		is.True(found)
	}
}

func memory10() memory { return memory{limit: 10} }

// What one inbox has marked leaves the record with its next commit.
func TestRecordStaysShort(t *testing.T) {
	is := is.New(t)
	memory := &memoryStore{}
	in := newTestInbox(memory)
	for i := range 1000 {
		is.NoErr(in.Apply(t.Context(), event(uuid(time.UnixMilli(1e12+int64(i)), i), "apple"))[0].Err)
		in.settle()
	}
	r := storedRecord(t, memory, "apple")
	is.True(r.ids() <= 2*keepIDs(1, 1))
	is.True(len(memory.values) < 50) // many changes share a marker
}

// A sidecar that delivers one event after another has dozens in hand, and so they
// overtake each other. None of these needs a look at markers: a key that has many would
// be read several times for each.
func TestEventsThatOvertakeEachOtherAreFoundInTheRecord(t *testing.T) {
	is := is.New(t)
	const inHand = 50
	looked := &countingLooks{store: &memoryStore{}}
	in := newTestInbox(looked)
	random := rand.New(rand.NewPCG(1, 2))
	type arrival struct{ number, at int }
	arrivals := make([]arrival, 2000)
	for i := range arrivals {
		arrivals[i] = arrival{i, i + random.IntN(inHand)}
	}
	slices.SortFunc(arrivals, func(a, b arrival) int { return cmp.Compare(a.at, b.at) })
	for _, a := range arrivals {
		is.NoErr(in.Apply(t.Context(), event(uuid(time.UnixMilli(1e12+int64(a.number)), a.number), "apple"))[0].Err)
		in.settle()
	}
	is.Equal(looked.markers, 0)
}

// countingLooks is a store that counts the markers which are looked for.
type countingLooks struct {
	store
	markers int
}

func (s *countingLooks) readStrong(ctx context.Context, keys []string) map[string]stored {
	for _, key := range keys {
		if strings.HasPrefix(key, markerPrefix) {
			s.markers++
		}
	}
	return s.store.readStrong(ctx, keys)
}

// unmarking is a store that does not take markers.
type unmarking struct{ store }

func (s unmarking) save(ctx context.Context, writes []write) error {
	if writes[0].expires {
		return errFailed
	}
	return s.store.save(ctx, writes)
}

func TestChangesApplyOnceWhileMarkersCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		in := newTestInbox(unmarking{memory})
		changes := make([]Change[int64], maxIDs)
		for i := range changes {
			changes[i] = event(fmt.Sprint(i), "apple")
		}
		for range 2 {
			for _, r := range in.Apply(t.Context(), changes...) {
				is.NoErr(r.Err)
			}
		}
		is.Equal(storedRecord(t, memory, "apple").Value, int64(-maxIDs))

		one := event("one too many", "apple")
		err := in.Apply(t.Context(), one)[0].Err // a record does not grow for ever
		is.True(errors.Is(err, errFailed))
		is.True(!errors.Is(err, ErrFinal))
		is.Equal(storedRecord(t, memory, "apple").Value, int64(-maxIDs))

		is.NoErr(in.Set(t.Context(), "apple", 500)) // a person can always set it

		other := newTestInbox(memory) // which can write markers
		is.Equal(other.Apply(t.Context(), one), []Result[int64]{{Before: 500, After: 499}})
		other.settle()
	})
}

// bounded is a store that takes no more than so many bytes with one call, as a
// sidecar does.
type bounded struct {
	*memoryStore
	most int

	mu      sync.Mutex
	largest int // value
}

func (s *bounded) save(ctx context.Context, writes []write) error {
	size := 0
	for _, w := range writes {
		value, err := json.Marshal(w.value)
		if err != nil {
			return err
		}
		size += len(value)
		s.mu.Lock()
		s.largest = max(s.largest, len(value))
		s.mu.Unlock()
	}
	if size > s.most {
		return errFailed
	}
	return s.memoryStore.save(ctx, writes)
}

// Publishers whose clocks are late, a little or much, make no marker too large and
// no record full.
func TestLateClocksBlockNothing(t *testing.T) {
	lags := map[string]func(i int) time.Duration{
		"1 % ten minutes late": func(i int) time.Duration {
			if i%100 == 0 {
				return 10 * time.Minute
			}
			return 0
		},
		"10 % late by up to an hour": func(i int) time.Duration {
			if i%10 == 0 {
				return time.Duration(i*7919%3600) * time.Second
			}
			return 0
		},
		"all in one millisecond": func(i int) time.Duration { return time.Duration(i) * 2 * time.Millisecond },
	}
	for name, lag := range lags {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { // so that a change that waits takes no time
				is := is.New(t)
				s := &bounded{memoryStore: &memoryStore{}, most: 4 << 20}
				in := newTestInbox(s)
				const batches, batch = 150, 200
				for b := range batches {
					var changes []Change[int64]
					for i := b * batch; i < (b+1)*batch; i++ { // 500 a second
						madeAt := time.UnixMilli(1e12).Add(time.Duration(i)*2*time.Millisecond - lag(i))
						changes = append(changes, event(uuid(madeAt, i), "apple"))
					}
					start := time.Now()
					for _, r := range in.Apply(t.Context(), changes...) {
						is.NoErr(r.Err)
					}
					is.True(time.Since(start) < time.Second)
					in.settle()
				}
				is.Equal(storedRecord(t, s, "apple").Value, int64(-batches*batch))
				t.Logf("%d keys, the largest value has %d bytes", len(s.values), s.largest)
				is.True(s.largest < 256<<10)
			})
		})
	}
}

// Keys from the future must not make every later change look for a marker.
func TestKeyFromTheFutureCostsTheOthersNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := &counting{memoryStore: &memoryStore{}}
		in := newTestInbox(s)
		nextYear := time.Now().Add(365 * 24 * time.Hour)
		n := 0
		order := func(madeAt time.Time) Change[int64] { n++; return event(uuid(madeAt, n), "apple") }
		apply := func(changes ...Change[int64]) {
			for _, c := range changes {
				r := in.Apply(t.Context(), c)
				is.Equal(r[0].Err, nil)
				in.settle()
				time.Sleep(20 * time.Millisecond)
			}
		}
		var future []Change[int64]
		for i := range 200 {
			future = append(future, order(nextYear.Add(time.Duration(i)*time.Millisecond)))
		}
		apply(future...)
		for range 200 {
			apply(order(time.Now()))
		}
		r := storedRecord(t, s, "apple")
		is.True(r.Ahead != nil)                       // some have left the record
		is.True(!fromFuture(r.Watermark, time.Now())) // and the watermark is not lifted
		before := s.markers.Load()
		for range 200 {
			apply(order(time.Now()))
		}
		is.Equal(s.markers.Load(), before) // nobody has looked for a marker
		for _, c := range future {         // they count once themselves
			is.Equal(newTestInbox(s).Apply(t.Context(), c), []Result[int64]{{Duplicate: true}})
		}

		time.Sleep(24*time.Hour + 2*clockSkew) // their markers have expired, and with them the range
		for range 400 {
			apply(order(time.Now()))
		}
		is.True(storedRecord(t, s, "apple").Ahead == nil)
	})
}

// When the time in them comes, keys from the future are like all others.
func TestTimeOfAKeyFromTheFutureComes(t *testing.T) {
	is := is.New(t)
	now := time.UnixMilli(1e12)
	at := func(d time.Duration) ID { return newID(uint64(now.Add(d).UnixMilli()), nil) }
	var r record[int64]
	takeOut := func(now time.Time, ids ...ID) {
		r.Older = setOf(ids)
		r.takeOut(now, 24*time.Hour)
	}
	takeOut(now, at(-time.Second), at(time.Hour), at(2*time.Hour))
	is.Equal(r.Watermark, at(-time.Second))
	is.Equal(r.ids(), 0)
	for d, want := range map[time.Duration]bool{
		-time.Minute: true, -time.Second: true, 0: false, time.Minute: false, time.Hour: true, 90 * time.Minute: true, 2 * time.Hour: true, 3 * time.Hour: false,
	} {
		is.Equal(r.mayHaveMarker(at(d)), want) // after d
	}
	read := r // what was read before stays as it was
	takeOut(now, at(3*time.Hour))
	is.Equal(r.Ahead.Last, at(3*time.Hour))
	is.Equal(read.Ahead.Last, at(2*time.Hour))
	takeOut(now.Add(4*time.Hour), at(time.Minute))
	is.Equal(r.Watermark, at(3*time.Hour)) // every ID of the range is covered
	is.True(r.Ahead == nil)
}

// counting counts the markers that are looked for.
type counting struct {
	*memoryStore
	markers atomic.Int64
}

func (s *counting) readStrong(ctx context.Context, keys []string) map[string]stored {
	for _, key := range keys {
		if strings.HasPrefix(key, markerPrefix) {
			s.markers.Add(1)
		}
	}
	return s.memoryStore.readStrong(ctx, keys)
}

// Whoever looks for a marker looks where it was put.
func TestMarkersAreWhereTheyAreLookedFor(t *testing.T) {
	for span := range uint64(40) {
		var ids []ID
		for _, name := range []string{"a", "b", "c"} {
			ids = append(ids, newID(0, []byte(name)), newID(1e12, []byte(name)), newID(1e12+1<<span, []byte(name)))
		}
		placed := make(map[slot][]ID)
		place(placed, "apple", setOf(ids))
		n := 0
		check := func(s slot, id ID) {
			if !slices.Contains(markerKeys("apple", id), s.key()) {
				t.Errorf("the marker of %s is at %s", id, s.key())
			}
		}
		for s, ids := range placed {
			for _, id := range ids {
				n++
				check(s, id)
				for span := s.span; span > own; span-- { // where it goes when there is no room
					check(newSlot(s.owner, span-1, id), id)
				}
			}
		}
		if n != len(ids) {
			t.Errorf("%d of %d IDs have a marker", n, len(ids))
		}
	}
}

// Each of two groups that are far apart has a span of its own length.
func TestGroupsOfIDsAreMarkedApart(t *testing.T) {
	is := is.New(t)
	var ids []ID
	for i := range 100 {
		ids = append(ids, newID(1e12+uint64(i)*10, []byte{byte(i)}), newID(1e12-600_000+uint64(i)*10, []byte{byte(i)}))
	}
	placed := make(map[slot][]ID)
	place(placed, "apple", setOf(ids))
	for s := range placed {
		is.Equal(s.span, 2) // a second
	}
	is.True(len(placed) <= 4)
}

// onceWritable is a store that takes one save.
type onceWritable struct {
	*memoryStore
	saves int
}

func (s *onceWritable) save(ctx context.Context, writes []write) error {
	if s.saves++; s.saves > 1 {
		return errFailed
	}
	return s.memoryStore.save(ctx, writes)
}

// A slow store that can't take all markers in time must not be given the same ones
// again and again, and ever more of them.
func TestMarkersThatWereWrittenNeedNotBeWrittenAgain(t *testing.T) {
	is := is.New(t)
	var ids []ID
	for i := range minWrites + 10 {
		ids = append(ids, newID(0, []byte{byte(i)}))
	}
	s := &onceWritable{memoryStore: &memoryStore{}}
	m := &markers{store: s, known: memory{limit: maxRemembered}}
	changes := map[string]idSet{"apple": setOf(ids)}
	is.True(errors.Is(m.writeAll(t.Context(), changes), errFailed))
	is.Equal(len(m.known.newer), minWrites)
	for id := range m.known.newer {
		is.True(decodeMarker(s.values[markerPrefix+string(id)]).has(id))
	}
	before := s.writes
	s.saves = 0
	is.NoErr(m.writeAll(t.Context(), changes))
	is.Equal(s.writes-before, 10) // the rest, and nothing twice
}

// IDs for which a marker has no room are written elsewhere, and not believed to be
// written before they are.
func TestMarkerThatIsFullSendsTheRestElsewhere(t *testing.T) {
	is := is.New(t)
	var ids []ID
	for i := range maxShared + 5 {
		ids = append(ids, newID(1e12+uint64(i%16), fmt.Append(nil, i))) // in the shortest span
	}
	s := &onceWritable{memoryStore: &memoryStore{}}
	m := &markers{store: s, known: memory{limit: maxRemembered}}
	is.NoErr(m.writeAll(t.Context(), map[string]idSet{"apple": setOf(ids[:maxShared])}))
	rest := setOf(ids[maxShared:])
	is.True(errors.Is(m.writeAll(t.Context(), map[string]idSet{"apple": rest}), errFailed))
	for id := range rest.all() {
		is.True(!m.knows(id))
	}
	s.saves = 0
	is.NoErr(m.writeAll(t.Context(), map[string]idSet{"apple": rest}))
	for id := range rest.all() {
		is.True(m.knows(id))
		is.Equal(string(s.values[markerPrefix+string(id)]), `"`+string(id)+`"`) // a marker of its own
	}
}

// What is remembered is bounded, and what has just been noted is always there.
func TestMemoryOfMarkersIsBounded(t *testing.T) {
	is := is.New(t)
	m := &markers{known: memory10()}
	for i := range 1000 {
		id := newID(uint64(i), nil)
		m.remember(id)
		is.True(m.knows(id))
		is.True(m.knows(newID(uint64(max(0, i-9)), nil))) // and the nine before
		is.True(len(m.known.newer)+len(m.known.older) <= 20)
	}
}

func BenchmarkLateEvents(b *testing.B) {
	memory := &memoryStore{}
	in := newTestInbox(memory)
	at := func(i int) time.Time { return time.UnixMilli(1e12 + int64(i)/10) } // 10,000 a second
	const batch, before = 200, 40_000
	apply := func(first int, n string) {
		var changes []Change[int64]
		for i := first; i < first+batch; i++ {
			changes = append(changes, event(uuid(at(i%before), i)+"."+n, "apple"))
		}
		for _, r := range in.Apply(b.Context(), changes...) {
			if r.Err != nil || r.Duplicate {
				b.Fatal(r)
			}
		}
		in.settle()
	}
	for i := 0; i < before; i += batch {
		apply(i, "first")
	}
	b.ResetTimer()
	for i := range b.N {
		apply(i*batch%before, fmt.Sprint(i))
	}
	b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "events/s")
}
