package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp"
)

func TestEveryInterleavingCountsOnce(t *testing.T) {
	stock := map[string]string{"apple": `{"quantity":100}`, "pear": `{"quantity":100}`}
	order := func(id, itemID string, quantity int64) change {
		return change{id: id, itemID: itemID, quantity: quantity}
	}
	tests := map[string]scenario{
		"one event, two replicas": {
			start:      stock,
			replicas:   2,
			faults:     2,
			deliveries: []delivery{{0, order("e1", "apple", 10)}, {1, order("e1", "apple", 10)}},
			want:       map[string]int64{"apple": 90},
		},
		"one event, one replica, three faults": {
			start:      stock,
			replicas:   1,
			faults:     3,
			deliveries: []delivery{{0, order("e1", "apple", 10)}},
			want:       map[string]int64{"apple": 90},
		},
		"two events of one item, two replicas": {
			start:      stock,
			replicas:   2,
			faults:     1,
			deliveries: []delivery{{0, order("e1", "apple", 10)}, {1, order("e2", "apple", 5)}},
			want:       map[string]int64{"apple": 85},
		},
		"one event, redelivered while its ID leaves the record": {
			start:    stock,
			replicas: 2,
			faults:   1,
			deliveries: []delivery{
				{0, order("e1", "apple", 10)}, {0, order("e2", "apple", 5)}, {1, order("e1", "apple", 10)},
			},
			want: map[string]int64{"apple": 85},
		},
		"an event whose counter died before marking it": {
			start:      map[string]string{"apple": `{"quantity":90,"pending":["e1"]}`},
			replicas:   2,
			faults:     2,
			deliveries: []delivery{{0, order("e2", "apple", 5)}, {1, order("e1", "apple", 10)}},
			want:       map[string]int64{"apple": 85},
		},
		"an item never seen": {
			replicas:   2,
			faults:     1,
			deliveries: []delivery{{0, order("e1", "apple", 10)}, {1, order("e2", "apple", 5)}},
			want:       map[string]int64{"apple": -15},
		},
		"two items in one commit": {
			start:    stock,
			replicas: 1,
			faults:   2,
			deliveries: []delivery{
				{0, order("e1", "apple", 10)}, {0, order("e2", "pear", 5)}, {0, order("e2", "pear", 5)},
			},
			want: map[string]int64{"apple": 90, "pear": 95},
		},
		"two items in a store that saves all or nothing": {
			start:    stock,
			atomic:   true,
			replicas: 1,
			faults:   2,
			deliveries: []delivery{
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

func (f flaky) mark(ctx context.Context, keys []string) error {
	return f.do(func() error { return f.store.mark(ctx, keys) })
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
						_, err := ledgers[(event+delivery+try)%replicas].count(t.Context(), o)
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

		got, err := l.count(t.Context(), o)
		is.NoErr(err)
		is.Equal(got, outcome{before: 0, after: -10}) // an item never seen has 0
		got, err = l.count(t.Context(), o)
		is.NoErr(err)
		is.Equal(got, outcome{repeated: true})
		got, err = newLedger(s).count(t.Context(), o) // another replica knows only what is stored
		is.NoErr(err)
		is.Equal(got, outcome{repeated: true})
	})
}

// A save that took effect although it failed was this ledger's own: the order is
// new to the reader of the log, even if the record has it already.
func TestOwnSaveIsKnownAgainAfterItSeemedToFail(t *testing.T) {
	is := is.New(t)
	s := &failOnce{store: &memoryStore{}, after: true}
	got, err := newLedger(s).count(t.Context(), orderPlaced{EventID: "e1", ItemID: "apple", Quantity: 10})
	is.NoErr(err)
	is.Equal(got, outcome{before: 0, after: -10})
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
func TestSetKeepsPendingChanges(t *testing.T) {
	is := is.New(t)
	memory := &memoryStore{}
	memory.put("apple", []byte(`{"quantity":90,"pending":["`+orderPlaced{EventID: "e1"}.changeID()+`"]}`))
	l := newLedger(memory)
	is.NoErr(l.set(t.Context(), "apple", 500))
	got, err := l.count(t.Context(), orderPlaced{EventID: "e1", ItemID: "apple", Quantity: 10})
	is.NoErr(err)
	is.True(got.repeated)
	stock, err := l.stock(t.Context(), "apple")
	is.NoErr(err)
	is.Equal(stock, int64(500))
}

func TestRecordForgetsMarkedChanges(t *testing.T) {
	testStores(t, func(t *testing.T, s store) {
		is := is.New(t)
		itemID := newItemID(t)
		for i := range 50 { // two replicas in turn, so that each finds the other's changes
			_, err := newLedger(s).count(t.Context(), orderPlaced{EventID: fmt.Sprint(itemID, i), ItemID: itemID, Quantity: 1})
			is.NoErr(err)
		}
		found, err := s.read(t.Context(), []string{itemKey(itemID)})
		is.NoErr(err)
		r, err := decodeRecord(found[itemKey(itemID)].value)
		is.NoErr(err)
		is.Equal(r.Quantity, int64(-50))
		is.Equal(len(r.Pending), 1) // the last one's
	})
}

// unmarking is a store that does not take markers.
type unmarking struct{ store }

func (unmarking) mark(context.Context, []string) error { return errFailed }

func TestChangesCountOnceWhileMarkersCannotBeWritten(t *testing.T) {
	is := is.New(t)
	memory := &memoryStore{}
	for i := range 2 * maxPending { // each of them twice
		o := orderPlaced{EventID: fmt.Sprint(i / 2), ItemID: "apple", Quantity: 1}
		got, err := newLedger(unmarking{memory}).count(t.Context(), o)
		is.NoErr(err)
		is.Equal(got.repeated, i%2 == 1)
	}
	o := orderPlaced{EventID: "one too many", ItemID: "apple", Quantity: 1}
	_, err := newLedger(unmarking{memory}).count(t.Context(), o)
	is.True(err != nil) // a record does not grow for ever
	is.True(!errors.Is(err, errUncountable))
	l := newLedger(memory)
	_, err = l.count(t.Context(), o) // this commit only writes the markers
	is.True(err != nil)
	got, err := l.count(t.Context(), o)
	is.NoErr(err)
	is.Equal(got, outcome{before: -maxPending, after: -maxPending - 1})
}

func TestWaitingChangesAreCommittedTogether(t *testing.T) {
	is := is.New(t)
	s := &slowStore{store: &memoryStore{}, reading: make(chan struct{}), goOn: make(chan struct{})}
	l := newLedger(s)
	var wg sync.WaitGroup
	count := func(i int) {
		wg.Go(func() {
			_, err := l.count(t.Context(), orderPlaced{EventID: fmt.Sprint(i), ItemID: "apple", Quantity: 1})
			is.NoErr(err)
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

func TestStoreThatCannotBeReadFailsTheChange(t *testing.T) {
	is := is.New(t)
	l := newLedger(unreadable{store: &memoryStore{}})
	_, err := l.count(t.Context(), orderPlaced{EventID: "e1", ItemID: "apple", Quantity: 1})
	is.True(errors.Is(err, errFailed))
	is.True(!errors.Is(err, errUncountable)) // it is to be delivered again
	is.True(errors.Is(l.set(t.Context(), "apple", 1), errFailed))
	_, err = l.stock(t.Context(), "apple")
	is.True(errors.Is(err, errFailed)) // never a made-up 0
}

func TestOneItemThatCannotBeReadDoesNotHoldUpOthers(t *testing.T) {
	for _, key := range []string{"apple", markerKey(orderPlaced{EventID: "apple"}.changeID())} {
		is := is.New(t)
		l := newLedger(unreadable{&memoryStore{}, key})
		entries := make(map[string]*entry)
		var batch []*entry
		for _, itemID := range []string{"apple", "pear"} {
			o := orderPlaced{EventID: itemID, ItemID: itemID, Quantity: 1}
			e := &entry{change: change{id: o.changeID(), itemID: itemID, quantity: 1}, ctx: t.Context(), done: make(chan result, 1)}
			entries[itemID] = e
			batch = append(batch, e)
		}
		l.commitBatch(batch)
		is.True(errors.Is((<-entries["apple"].done).err, errFailed))
		is.NoErr((<-entries["pear"].done).err)
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
		{stored: `{"quantity":100,"pending":[],"added":"later"}`, quantity: 10, want: 90},
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
		{stored: `[100]`, quantity: 1, uncountable: true},
		{stored: `not JSON`, quantity: 1, uncountable: true},
	}
	for _, tt := range tests {
		t.Run(tt.stored, func(t *testing.T) {
			is := is.New(t)
			memory := &memoryStore{}
			memory.put("apple", []byte(tt.stored))
			l := newLedger(memory)
			got, err := l.count(t.Context(), orderPlaced{EventID: "e1", ItemID: "apple", Quantity: tt.quantity})
			is.Equal(errors.Is(err, errUncountable), tt.uncountable)
			if !tt.uncountable {
				is.NoErr(err)
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
	marker := markerKey(orderPlaced{EventID: "e1"}.changeID())
	keys := map[string]string{marker: "a marker"}
	for _, itemID := range []string{"apple", "~", "~~", marker, "~" + marker, "~apple", "~~apple"} {
		key := itemKey(itemID)
		is.Equal(keys[key], "") // is it free?
		keys[key] = itemID
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
		got, err := l.count(t.Context(), orderPlaced{EventID: itemID, ItemID: itemID, Quantity: daprhttp.MaxInteger - 1})
		is.NoErr(err)
		is.Equal(got, outcome{before: daprhttp.MaxInteger, after: 1})
		is.NoErr(l.set(t.Context(), itemID, daprhttp.MaxInteger))
		stock, err := l.stock(t.Context(), itemID)
		is.NoErr(err)
		is.Equal(stock, int64(daprhttp.MaxInteger))
	})
}
