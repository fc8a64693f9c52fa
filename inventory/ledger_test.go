package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp"
)

// testID returns a change ID. Those that begin with "t" have a time in them, as
// many seconds as they have characters.
func testID(name string) string {
	var ms uint64
	if name[0] == 't' {
		ms = uint64(len(name)) * 1000
	}
	return newChangeID(ms, []byte(name))
}

func TestEveryInterleavingCountsOnce(t *testing.T) {
	stock := map[string]string{"apple": `{"quantity":100}`, "pear": `{"quantity":100}`}
	order := func(id, itemID string, quantity int64) change {
		return change{id: testID(id), itemID: itemID, quantity: quantity}
	}
	tests := map[string]scenario{
		"one event, two replicas": {
			start:      stock,
			replicas:   2,
			faults:     3,
			deliveries: []handover{{0, order("e1", "apple", 10)}, {1, order("e1", "apple", 10)}},
			want:       map[string]int64{"apple": 90},
		},
		"one event, one replica, five faults": {
			start:      stock,
			replicas:   1,
			faults:     5,
			deliveries: []handover{{0, order("e1", "apple", 10)}},
			want:       map[string]int64{"apple": 90},
		},
		"two events of one item, two replicas": {
			start:      stock,
			replicas:   2,
			faults:     1,
			deliveries: []handover{{0, order("e1", "apple", 10)}, {1, order("e2", "apple", 5)}},
			want:       map[string]int64{"apple": 85},
		},
		"one event, redelivered while its ID leaves the record": {
			start:    stock,
			replicas: 2,
			faults:   2,
			deliveries: []handover{
				{0, order("e1", "apple", 10)}, {0, order("e2", "apple", 5)}, {1, order("e1", "apple", 10)},
			},
			want: map[string]int64{"apple": 85},
		},
		"an event whose counter died before marking it": {
			start:      map[string]string{"apple": `{"quantity":90,"latest":"` + testID("e1") + `"}`},
			replicas:   2,
			faults:     2,
			deliveries: []handover{{0, order("e2", "apple", 5)}, {1, order("e1", "apple", 10)}},
			want:       map[string]int64{"apple": 85},
		},
		"an item never seen": {
			replicas:   2,
			faults:     1,
			deliveries: []handover{{0, order("e1", "apple", 10)}, {1, order("e2", "apple", 5)}},
			want:       map[string]int64{"apple": -15},
		},
		"two items in one commit": {
			start:    stock,
			replicas: 1,
			faults:   2,
			deliveries: []handover{
				{0, order("e1", "apple", 10)}, {0, order("e2", "pear", 5)}, {0, order("e2", "pear", 5)},
			},
			want: map[string]int64{"apple": 90, "pear": 95},
		},
		"one event with a time in its ID, two replicas": {
			start:      stock,
			replicas:   2,
			faults:     2,
			deliveries: []handover{{0, order("t", "apple", 10)}, {1, order("t", "apple", 10)}},
			want:       map[string]int64{"apple": 90},
		},
		"the later event first, the earlier twice": {
			start:    map[string]string{"apple": `{"quantity":100,"latest":"` + testID("tt") + `"}`},
			replicas: 2,
			faults:   1,
			deliveries: []handover{
				{0, order("ttt", "apple", 1)}, {0, order("t", "apple", 10)}, {1, order("t", "apple", 10)},
			},
			want: map[string]int64{"apple": 89},
		},
		"a record that keeps one ID": {
			start:    map[string]string{"apple": `{"quantity":100,"latest":"` + testID("t") + " " + testID("tt") + " " + testID("ttt") + `"}`},
			keep:     1,
			replicas: 2,
			faults:   2,
			deliveries: []handover{
				{0, order("tttt", "apple", 1)}, {1, order("tt", "apple", 10)},
			},
			want: map[string]int64{"apple": 99},
		},
		"two replicas that mark in the same span": {
			start:    map[string]string{"apple": `{"quantity":100,"latest":"` + testID("t") + `"}`},
			replicas: 2,
			faults:   1,
			deliveries: []handover{
				{0, order("t1", "apple", 1)}, {1, order("t2", "apple", 10)},
			},
			want: map[string]int64{"apple": 89},
		},
		"two items in a store that saves all or nothing": {
			start:    stock,
			atomic:   true,
			replicas: 1,
			faults:   2,
			deliveries: []handover{
				{0, order("e1", "apple", 10)}, {0, order("e2", "pear", 5)},
			},
			want: map[string]int64{"apple": 90, "pear": 95},
		},
	}
	for name, s := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Logf("%d ways", tryAll(t, s))
		})
	}
}

// flaky is a store whose calls fail now and then, with or without effect.
type flaky struct {
	store
	random *rand.Rand
	mu     *sync.Mutex
}

func (f flaky) happens() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.random.IntN(20) == 0
}

func (f flaky) do(call func() error) error {
	if f.happens() {
		return errFailed
	}
	err := call()
	if f.happens() {
		return errFailed
	}
	return err
}

func (f flaky) save(ctx context.Context, writes []write) error {
	return f.do(func() error { return f.store.save(ctx, writes) })
}

func TestConcurrentReplicasCountEveryEventOnce(t *testing.T) {
	const replicas, events, items, times = 3, 120, 3, 3
	testStores(t, func(t *testing.T, s store) {
		is := is.New(t)
		itemID := newItemID(t)
		var ledgers []*ledger
		for i := range replicas {
			ledgers = append(ledgers, newLedger(flaky{s, rand.New(rand.NewPCG(1, uint64(i))), new(sync.Mutex)}))
		}
		name := func(item int) string { return fmt.Sprintf("%s/%d", itemID, item) }
		for i := range items {
			is.NoErr(newLedger(s).set(t.Context(), name(i), 1000))
		}

		var wg sync.WaitGroup
		for event := range events {
			for delivery := range times {
				o := orderPlaced{EventID: fmt.Sprint(itemID, event), ItemID: name(event % items), Quantity: 2}
				wg.Go(func() {
					// As Dapr does: again, and to whichever replica, until it succeeds.
					for try := 0; ; try++ {
						err := ledgers[(event+delivery+try)%replicas].count(t.Context(), o)[0].err
						if err == nil {
							return
						}
						if try == 50 {
							t.Errorf("event %d: %v", event, err)
							return
						}
					}
				})
			}
		}
		wg.Wait()
		for i := range items {
			got, err := newLedger(s).stock(t.Context(), name(i))
			is.NoErr(err)
			is.Equal(got, int64(1000-2*events/items))
		}
	})
}

func TestOutcomeSaysWhatTheStockWasAndIs(t *testing.T) {
	testStores(t, func(t *testing.T, s store) {
		is := is.New(t)
		l := newLedger(s)
		o := orderPlaced{EventID: t.Name() + newItemID(t), ItemID: newItemID(t), Quantity: 10}

		is.Equal(l.count(t.Context(), o), []result{{outcome{before: 0, after: -10}, nil}}) // an item never seen has 0
		is.Equal(l.count(t.Context(), o), []result{{outcome{repeated: true}, nil}})
		is.Equal(newLedger(s).count(t.Context(), o), []result{{outcome{repeated: true}, nil}}) // another replica knows only what is stored
	})
}

// A save that took effect although it failed was this ledger's own: the order is
// new to the reader of the log, even if the record has it already.
func TestOwnSaveIsKnownAgainAfterItSeemedToFail(t *testing.T) {
	is := is.New(t)
	s := &failOnce{store: &memoryStore{}, after: true}
	got := newLedger(s).count(t.Context(), orderPlaced{EventID: "e1", ItemID: "apple", Quantity: 10})
	is.Equal(got, []result{{outcome{before: 0, after: -10}, nil}})
}

// failOnce fails one save: after it took effect, or instead.
type failOnce struct {
	store
	after  bool
	failed bool
}

func (s *failOnce) save(ctx context.Context, writes []write) error {
	if s.failed {
		return s.store.save(ctx, writes)
	}
	s.failed = true
	if s.after {
		_ = s.store.save(ctx, writes)
	}
	return errFailed
}

func TestSetSurvivesASaveThatSeemedToFail(t *testing.T) {
	for _, after := range []bool{false, true} {
		is := is.New(t)
		memory := &memoryStore{}
		l := newLedger(&failOnce{store: memory, after: after})
		is.NoErr(l.set(t.Context(), "apple", 100))
		got, err := l.stock(t.Context(), "apple")
		is.NoErr(err)
		is.Equal(got, int64(100))
	}
}

// What one person sets must not undo what is counted meanwhile, nor forget which
// events are in the stock.
func TestSetKeepsWhatIsCounted(t *testing.T) {
	is := is.New(t)
	memory := &memoryStore{}
	memory.put("apple", []byte(`{"quantity":90,"latest":"`+orderPlaced{EventID: "e1"}.changeID()+`"}`))
	l := newLedger(memory)
	is.NoErr(l.set(t.Context(), "apple", 500))
	got := l.count(t.Context(), orderPlaced{EventID: "e1", ItemID: "apple", Quantity: 10})
	is.Equal(got, []result{{outcome{repeated: true}, nil}})
	stock, err := l.stock(t.Context(), "apple")
	is.NoErr(err)
	is.Equal(stock, int64(500))
}

// storedRecord returns the record of an item.
func storedRecord(t *testing.T, s store, itemID string) record {
	t.Helper()
	found, err := s.read(t.Context(), []string{itemKey(itemID)})
	if err != nil {
		t.Fatal(err)
	}
	r, err := decodeRecord(found[itemKey(itemID)].value)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// settled waits until a ledger writes no more markers.
func (l *ledger) settled() {
	for marking := true; marking; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		marking = l.marking != nil
		l.mu.Unlock()
	}
}

func TestRecordForgetsOldChangesAndStillKnowsThem(t *testing.T) {
	for _, version := range []byte{'4', '7'} { // of the events' UUIDs
		testStores(t, func(t *testing.T, s store) {
			is := is.New(t)
			itemID := newItemID(t)
			run := fmt.Sprintf("%012x", time.Now().UnixNano()&(1<<48-1))
			orders := make([]orderPlaced, 300)
			for i := range orders {
				id := fmt.Sprintf("%08x-%04x-%c000-8000-%s", i>>16, i*100&0xFFFF, version, run)
				orders[i] = orderPlaced{EventID: id, ItemID: itemID, Quantity: 1}
			}
			replicas := []*ledger{newLedger(s), newLedger(s)}
			for _, l := range replicas {
				l.keep = func(int) int { return 5 }
			}
			for i, o := range orders {
				l := replicas[i%2]
				is.NoErr(l.count(t.Context(), o)[0].err)
				l.settled()
			}
			r := storedRecord(t, s, itemID)
			is.Equal(r.Quantity, int64(-300))
			is.True(r.Marked != "") // it has forgotten some
			for _, o := range orders {
				is.Equal(newLedger(s).count(t.Context(), o), []result{{outcome{repeated: true}, nil}})
			}
			is.Equal(storedRecord(t, s, itemID).Quantity, int64(-300))
		})
	}
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
	order := func(i int) orderPlaced {
		return orderPlaced{EventID: fmt.Sprintf("00000000-0010-7000-8000-%012d", i), ItemID: "apple", Quantity: 1}
	}
	memory := &memoryStore{}
	other := newLedger(memory)
	other.keep = func(int) int { return 0 }
	slow := newLedger(&meanwhile{store: memory, happen: func() {
		for i := range 2 { // the second takes the first out of the record
			is.NoErr(other.count(t.Context(), order(i))[0].err)
			other.settled()
		}
	}})
	slow.keep = other.keep
	is.NoErr(slow.count(t.Context(), order(2))[0].err)
	slow.settled()
	for i := range 3 {
		is.Equal(newLedger(memory).count(t.Context(), order(i)), []result{{outcome{repeated: true}, nil}})
	}
}

// What one ledger has marked leaves the record with its next commit.
func TestRecordStaysShort(t *testing.T) {
	is := is.New(t)
	memory := &memoryStore{}
	l := newLedger(memory)
	for i := range 1000 {
		id := fmt.Sprintf("00000000-%04x-7000-8000-000000000000", i)
		is.NoErr(l.count(t.Context(), orderPlaced{EventID: id, ItemID: "apple", Quantity: 1})[0].err)
		l.settled()
	}
	is.True(storedRecord(t, memory, "apple").Latest.len() <= 4*keepIDs(1))
	is.True(len(memory.values) < 50) // many changes share a marker
}

// unmarking is a store that does not take markers.
type unmarking struct{ store }

func (s unmarking) save(ctx context.Context, writes []write) error {
	if writes[0].expires {
		return errFailed
	}
	return s.store.save(ctx, writes)
}

func TestChangesCountOnceWhileMarkersCannotBeWritten(t *testing.T) {
	is := is.New(t)
	memory := &memoryStore{}
	l := newLedger(unmarking{memory})
	orders := make([]orderPlaced, maxLatest)
	for i := range orders {
		orders[i] = orderPlaced{EventID: fmt.Sprint(i), ItemID: "apple", Quantity: 1}
	}
	for range 2 {
		for _, r := range l.count(t.Context(), orders...) {
			is.NoErr(r.err)
		}
	}
	is.Equal(storedRecord(t, memory, "apple").Quantity, int64(-maxLatest))

	o := orderPlaced{EventID: "one too many", ItemID: "apple", Quantity: 1}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	is.True(l.count(ctx, o)[0].err != nil) // a record does not grow for ever
	is.Equal(storedRecord(t, memory, "apple").Quantity, int64(-maxLatest))

	got := newLedger(memory).count(t.Context(), o) // by a ledger that can write markers
	is.Equal(got, []result{{outcome{before: -maxLatest, after: -maxLatest - 1}, nil}})
}

func TestWaitingChangesAreCommittedTogether(t *testing.T) {
	is := is.New(t)
	s := &slowStore{store: &memoryStore{}, reading: make(chan struct{}), goOn: make(chan struct{})}
	l := newLedger(s)
	var wg sync.WaitGroup
	count := func(i int) {
		wg.Go(func() {
			is.NoErr(l.count(t.Context(), orderPlaced{EventID: fmt.Sprint(i), ItemID: "apple", Quantity: 1})[0].err)
		})
	}
	count(0)
	<-s.reading // the first is being committed alone
	for i := range 100 {
		count(i + 1)
	}
	for l.numWaiting() < 100 {
	}
	close(s.goOn)
	wg.Wait()
	is.Equal(s.saves, 2) // the first, and then all the others
}

func (l *ledger) numWaiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)
}

// slowStore lets the test hold up its first read.
type slowStore struct {
	store
	once          sync.Once
	reading, goOn chan struct{}
	saves         int
}

func (s *slowStore) read(ctx context.Context, keys []string) (map[string]stored, error) {
	s.once.Do(func() { close(s.reading); <-s.goOn })
	return s.store.read(ctx, keys)
}

func (s *slowStore) save(ctx context.Context, writes []write) error {
	s.saves++
	return s.store.save(ctx, writes)
}

// unreadable fails all reads, or only those of one key.
type unreadable struct {
	store
	key string
}

func (s unreadable) read(ctx context.Context, keys []string) (map[string]stored, error) {
	if s.key == "" {
		return nil, errFailed
	}
	found, err := s.store.read(ctx, keys)
	for _, key := range keys {
		if key == s.key {
			found[key] = stored{err: errFailed}
		}
	}
	return found, err
}

func (s unreadable) find(ctx context.Context, keys []string) (map[string]stored, error) {
	return s.read(ctx, keys)
}

func TestStoreThatCannotBeReadFailsTheChange(t *testing.T) {
	is := is.New(t)
	l := newLedger(unreadable{store: &memoryStore{}})
	err := l.count(t.Context(), orderPlaced{EventID: "e1", ItemID: "apple", Quantity: 1})[0].err
	is.True(errors.Is(err, errFailed))
	is.True(!errors.Is(err, errUncountable)) // it is to be delivered again
	is.True(errors.Is(l.set(t.Context(), "apple", 1), errFailed))
	_, err = l.stock(t.Context(), "apple")
	is.True(errors.Is(err, errFailed)) // never a made-up 0
}

func TestOneItemThatCannotBeReadDoesNotHoldUpOthers(t *testing.T) {
	apple := orderPlaced{EventID: "apple", ItemID: "apple", Quantity: 1}
	pear := orderPlaced{EventID: "pear", ItemID: "pear", Quantity: 1}
	for _, key := range []string{"apple", markerKeys("apple", apple.changeID())[0]} {
		is := is.New(t)
		memory := &memoryStore{}
		memory.put("apple", []byte(`{"quantity":0,"marked":"`+apple.changeID()+`"}`)) // so that the marker must be read
		got := newLedger(unreadable{memory, key}).count(t.Context(), apple, pear)
		is.True(errors.Is(got[0].err, errFailed))
		is.NoErr(got[1].err)
	}
}

func TestWhatIsStoredDecidesWhetherAnOrderCanBeCounted(t *testing.T) {
	const most = "9007199254740991"
	tests := []struct {
		stored      string
		quantity    int64
		want        int64
		uncountable bool
	}{
		{stored: `100`, quantity: 10, want: 90}, // left by another program
		{stored: `-5`, quantity: 10, want: -15},
		{stored: `1e2`, quantity: 10, want: 90},
		{stored: `{"quantity":100}`, quantity: 10, want: 90},
		{stored: `{"quantity":100,"latest":"","added":"later"}`, quantity: 10, want: 90},
		{stored: `-9007199254740990`, quantity: 1, want: -9007199254740991},
		{stored: `-` + most, quantity: 1, uncountable: true},
		{stored: most + `0`, quantity: 1, uncountable: true},
		{stored: `{"quantity":9007199254740992}`, quantity: 1, uncountable: true},
		{stored: `{"quantity":-9223372036854775808}`, quantity: 1, uncountable: true},
		{stored: `1.5`, quantity: 1, uncountable: true},
		{stored: `null`, quantity: 1, uncountable: true},
		{stored: `"100"`, quantity: 1, uncountable: true},
		{stored: `{}`, quantity: 1, uncountable: true},
		{stored: `{"quantity":"100"}`, quantity: 1, uncountable: true},
		{stored: `{"quantity":1.5}`, quantity: 1, uncountable: true},
		{stored: `{"quantity":100,"latest":"no ID"}`, quantity: 1, uncountable: true},
		{stored: `[100]`, quantity: 1, uncountable: true},
		{stored: `not JSON`, quantity: 1, uncountable: true},
	}
	for _, tt := range tests {
		t.Run(tt.stored, func(t *testing.T) {
			is := is.New(t)
			memory := &memoryStore{}
			memory.put("apple", []byte(tt.stored))
			l := newLedger(memory)
			got := l.count(t.Context(), orderPlaced{EventID: "e1", ItemID: "apple", Quantity: tt.quantity})[0]
			is.Equal(errors.Is(got.err, errUncountable), tt.uncountable)
			if !tt.uncountable {
				is.NoErr(got.err)
				is.Equal(got.after, tt.want)
			}
			is.NoErr(l.set(t.Context(), "apple", 7)) // a person can always put it right
			stock, err := l.stock(t.Context(), "apple")
			is.NoErr(err)
			is.Equal(stock, int64(7))
		})
	}
}

func TestNoItemIDReachesTheKeyOfAnotherThing(t *testing.T) {
	is := is.New(t)
	keys := make(map[string]string)
	markers := append(markerKeys("apple", testID("t")), markerKeys("apple", testID("e1"))...)
	for _, key := range markers {
		keys[key] = "a marker"
	}
	for _, itemID := range append(markers, "apple", "~", "~~", "~"+markers[0], "~apple", "~~apple",
		"a/b", "a~2Fb", "~a/b", "~~a~2Fb", `a\b`, "a?b", "a#b", "~/", "~2F") {
		key := itemKey(itemID)
		is.Equal(keys[key], "") // is it free?
		is.True(!strings.ContainsAny(key, `/\?#`))
		keys[key] = itemID
	}
}

// Whoever looks for a marker looks where it was put.
func TestMarkersAreWhereTheyAreLookedFor(t *testing.T) {
	for span := range uint64(40) {
		var ids []string
		for _, name := range []string{"a", "b", "c"} {
			ids = append(ids, newChangeID(0, []byte(name)), newChangeID(1e12, []byte(name)), newChangeID(1e12+1<<span, []byte(name)))
		}
		slices.Sort(ids)
		placed := 0
		for key, ids := range placeMarkers("apple", idSet("").with(ids)) {
			for _, id := range ids {
				placed++
				if !slices.Contains(markerKeys("apple", id), key) {
					t.Errorf("the marker of %s is at %s", id, key)
				}
			}
		}
		if placed != len(ids) {
			t.Errorf("%d of %d IDs have a marker", placed, len(ids))
		}
	}
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
	var ids []string
	for i := range maxMarkers + 10 {
		ids = append(ids, newChangeID(0, []byte{byte(i)}))
	}
	l := newLedger(&onceWritable{memoryStore: &memoryStore{}})
	err := l.writeMarkers(t.Context(), map[string]idSet{"apple": idSet("").with(ids)})
	is.True(errors.Is(err, errFailed))
	is.Equal(len(l.marked), maxMarkers)
	for id := range l.marked {
		found, err := l.store.find(t.Context(), markerKeys("apple", id))
		is.NoErr(err)
		is.True(decodeMarker(found[markerPrefix+id].value).has(id))
	}
}

func TestTimeOfAUUID(t *testing.T) {
	tests := map[string]uint64{
		"017f22e2-79b0-7cc3-98c4-dc0c0c07398f":  0x017F22E279B0, // the example of RFC 9562
		"017F22E2-79B0-7CC3-98C4-DC0C0C07398F":  0x017F22E279B0,
		"017f22e2-79b0-4cc3-98c4-dc0c0c07398f":  0,
		"017f22e279b0-7cc3-98c4-dc0c0c07398f":   0,
		"-17f22e2-79b0-7cc3-98c4-dc0c0c07398f":  0,
		"+17f22e2-79b0-7cc3-98c4-dc0c0c07398f":  0,
		"01_f22e2-79b0-7cc3-98c4-dc0c0c07398f":  0,
		"order-1001-7":                          0,
		"":                                      0,
		"017f22e2-79b0-7cc3-98c4-dc0c0c07398f ": 0,
	}
	for id, want := range tests {
		is := is.New(t)
		is.Equal(uuidTime(id), want) // of id
		is.Equal(madeAt(orderPlaced{EventID: id}.changeID()), want)
	}
}

func TestEventsAreToldApartBySourceAndID(t *testing.T) {
	is := is.New(t)
	seen := make(map[string]orderPlaced)
	for _, o := range []orderPlaced{
		{Source: "a", EventID: "b"}, {Source: "ab", EventID: ""}, {Source: "", EventID: "ab"}, {Source: "b", EventID: "a"},
		{Source: "a", EventID: "b:"}, {Source: "1:a", EventID: "b"},
	} {
		if other, ok := seen[o.changeID()]; ok {
			t.Errorf("%+v is taken for %+v", o, other)
		}
		seen[o.changeID()] = o
	}
	same := orderPlaced{Source: "a", EventID: "b", OrderID: "another", ItemID: "another", Quantity: 5}
	is.Equal(same.changeID(), orderPlaced{Source: "a", EventID: "b"}.changeID())
}

func TestQuantitiesStayExactToTheLimit(t *testing.T) {
	testStores(t, func(t *testing.T, s store) {
		is := is.New(t)
		l := newLedger(s)
		itemID := newItemID(t)
		is.NoErr(l.set(t.Context(), itemID, daprhttp.MaxInteger))
		got := l.count(t.Context(), orderPlaced{EventID: itemID, ItemID: itemID, Quantity: daprhttp.MaxInteger - 1})
		is.Equal(got, []result{{outcome{before: daprhttp.MaxInteger, after: 1}, nil}})
		is.NoErr(l.set(t.Context(), itemID, daprhttp.MaxInteger))
		stock, err := l.stock(t.Context(), itemID)
		is.NoErr(err)
		is.Equal(stock, int64(daprhttp.MaxInteger))
	})
}
