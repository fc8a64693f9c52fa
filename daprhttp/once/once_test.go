package once

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp"
)

func newTestInbox(s store) *Inbox[int64] { return newInbox[int64](s, 24*time.Hour) }

// lower returns the change that lowers a value.
func lower(id ID, key string, by int64) Change[int64] {
	return Change[int64]{Key: key, ID: id, Apply: func(v int64) (int64, error) { return v - by, nil }}
}

// event returns the change of an event that lowers a value by one.
func event(id, key string) Change[int64] { return lower(EventID("test", id), key, 1) }

// uuid returns a UUID of version 7.
func uuid(madeAt time.Time, n int) string {
	ms := madeAt.UnixMilli()
	return fmt.Sprintf("%08x-%04x-7000-8000-%012x", ms>>16, ms&0xffff, n)
}

// stored returns the record of a key.
func storedRecord(t *testing.T, s store, key string) record[int64] {
	t.Helper()
	r, err := decodeRecord[int64](s.readStrong(t.Context(), []string{recordKey(key)})[recordKey(key)].value)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// settle waits until no markers are being written, and nothing is read ahead.
func (in *Inbox[V]) settle() {
	for writing := true; writing; {
		in.markers.mu.Lock()
		writing = in.markers.writing
		in.markers.mu.Unlock()
		if writing {
			time.Sleep(100 * time.Microsecond)
		}
	}
	in.readAhead.mu.Lock()
	defer in.readAhead.mu.Unlock()
	for _, read := range in.readAhead.records {
		<-read
	}
	in.readAhead.records = nil
}

// flaky is a store whose saves fail now and then, with or without effect.
type flaky struct {
	store
	mu     *sync.Mutex
	random *rand.Rand
}

func (f flaky) save(ctx context.Context, writes []write) error {
	f.mu.Lock()
	before, after := f.random.IntN(20) == 0, f.random.IntN(20) == 0
	f.mu.Unlock()
	if before {
		return errFailed
	}
	err := f.store.save(ctx, writes)
	if after {
		return errFailed
	}
	return err
}

func TestConcurrentReplicasApplyEveryEventOnce(t *testing.T) {
	const replicas, events, keys, times = 3, 120, 3, 3
	testStores(t, func(t *testing.T, s store) {
		is := is.New(t)
		prefix := newKey(t)
		var inboxes []*Inbox[int64]
		for i := range replicas {
			inboxes = append(inboxes, newTestInbox(flaky{s, new(sync.Mutex), rand.New(rand.NewPCG(1, uint64(i)))}))
		}
		key := func(i int) string { return fmt.Sprintf("%s/%d", prefix, i%keys) }
		for i := range keys {
			is.NoErr(newTestInbox(s).Set(t.Context(), key(i), 1000))
		}
		var wg sync.WaitGroup
		for i := range events {
			for delivery := range times {
				change := lower(EventID(prefix, strconv.Itoa(i)), key(i), 2)
				wg.Go(func() {
					// As Dapr does: again, and to whichever replica, until it succeeds.
					for try := 0; ; try++ {
						err := inboxes[(i+delivery+try)%replicas].Apply(t.Context(), change)[0].Err
						if err == nil {
							return
						}
						if try == 50 {
							t.Errorf("event %d: %v", i, err)
							return
						}
					}
				})
			}
		}
		wg.Wait()
		for i := range keys {
			got, err := newTestInbox(s).Get(t.Context(), key(i))
			is.NoErr(err)
			is.Equal(got, int64(1000-2*events/keys))
		}
	})
}

func TestResultSaysWhatTheValueWasAndIs(t *testing.T) {
	testStores(t, func(t *testing.T, s store) {
		is := is.New(t)
		in := newTestInbox(s)
		c := lower(EventID("test", newKey(t)), newKey(t), 10)
		is.Equal(in.Apply(t.Context(), c), []Result[int64]{{After: -10}}) // what was never seen is zero
		is.Equal(in.Apply(t.Context(), c), []Result[int64]{{Duplicate: true}})
		is.Equal(newTestInbox(s).Apply(t.Context(), c), []Result[int64]{{Duplicate: true}}) // another replica knows only what is stored
	})
}

// failOnce fails one save: after it took effect, or instead.
type failOnce struct {
	store
	after  bool
	then   func() // called when it has failed; may be nil
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
	if s.then != nil {
		s.then()
	}
	return errFailed
}

// A save that took effect although it failed was this replica's own: the result is
// that of a new change, even if the record has it already.
func TestOwnSaveIsKnownAgainAfterItSeemedToFail(t *testing.T) {
	is := is.New(t)
	memory := &memoryStore{}
	others := func() { // have saved, too, before this one reads again
		for i := range 5 {
			is.NoErr(newTestInbox(memory).Apply(t.Context(), event(strconv.Itoa(i), "apple"))[0].Err)
		}
	}
	got := newTestInbox(&failOnce{store: memory, after: true, then: others}).Apply(t.Context(), lower(testID("e1"), "apple", 10))
	is.Equal(got, []Result[int64]{{Before: 0, After: -10}})
}

func TestSetSurvivesASaveThatSeemedToFail(t *testing.T) {
	for _, after := range []bool{false, true} {
		is := is.New(t)
		in := newTestInbox(&failOnce{store: &memoryStore{}, after: after})
		is.NoErr(in.Set(t.Context(), "apple", 100))
		got, err := in.Get(t.Context(), "apple")
		is.NoErr(err)
		is.Equal(got, int64(100))
	}
}

// What one person sets must not undo what is applied meanwhile, nor forget which
// events are in the value.
func TestSetKeepsWhatIsApplied(t *testing.T) {
	is := is.New(t)
	in := newTestInbox(&memoryStore{})
	is.NoErr(in.Apply(t.Context(), event("e1", "apple"))[0].Err)
	is.NoErr(in.Set(t.Context(), "apple", 500))
	is.Equal(in.Apply(t.Context(), event("e1", "apple")), []Result[int64]{{Duplicate: true}})
	got, err := in.Get(t.Context(), "apple")
	is.NoErr(err)
	is.Equal(got, int64(500))
}

// A Set whose caller has gone must not come through after another one.
func TestSetOfACallerThatHasGoneDoesNotUndoALaterOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		ctx, leave := context.WithCancel(t.Context())
		in := newTestInbox(&failOnce{store: memory, then: leave})
		is.True(errors.Is(in.Set(ctx, "apple", 100), context.Canceled))
		is.NoErr(in.Set(t.Context(), "apple", 50))
		time.Sleep(time.Minute) // nothing is tried again meanwhile
		is.Equal(storedRecord(t, memory, "apple").Value, int64(50))
	})
}

// A caller that has gone takes its own delivery with it, not another's of the same
// event.
func TestCallerThatHasGoneLeavesOtherDeliveriesOfItsEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := &slowStore{store: &memoryStore{}, reading: make(chan struct{}), goOn: make(chan struct{})}
		in := newTestInbox(s)
		go in.Apply(t.Context(), event("first", "apple"))
		<-s.reading
		ctx, leave := context.WithCancel(t.Context())
		go in.Apply(ctx, event("e1", "apple"))
		synctest.Wait()
		var got []Result[int64]
		go func() { got = in.Apply(t.Context(), event("e1", "apple")) }()
		synctest.Wait()
		leave()
		synctest.Wait()
		close(s.goOn)
		synctest.Wait()
		is.Equal(got, []Result[int64]{{Before: -1, After: -2}})
	})
}

func TestWaitingChangesAreCommittedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := &slowStore{store: &memoryStore{}, reading: make(chan struct{}), goOn: make(chan struct{})}
		in := newTestInbox(s)
		apply := func(i int) { go func() { is.NoErr(in.Apply(t.Context(), event(strconv.Itoa(i), "apple"))[0].Err) }() }
		apply(0)
		<-s.reading // the first is being committed alone
		for i := range 100 {
			apply(i + 1)
		}
		synctest.Wait()
		close(s.goOn)
		synctest.Wait()
		is.Equal(s.saves, 2) // the first, and then all the others
		is.Equal(len(in.queue.lines), 0)
	})
}

// A record that was read ahead saves a read, and is given up where another replica
// has saved since, or where it could not be read.
func TestRecordIsReadAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := &countingReads{store: &memoryStore{}}
		in := newTestInbox(s)
		apply := func(in *Inbox[int64], id string, want Result[int64]) {
			t.Helper()
			is.Equal(in.Apply(t.Context(), event(id, "apple"))[0], want)
			synctest.Wait()
		}
		apply(in, "e1", Result[int64]{After: -1})
		is.Equal(s.reads.Load(), int64(1))
		is.Equal(len(in.readAhead.records), 0) // who knows if it comes again
		apply(in, "e2", Result[int64]{Before: -1, After: -2})
		is.Equal(s.reads.Load(), int64(2))
		apply(in, "e3", Result[int64]{Before: -2, After: -3})
		is.Equal(s.reads.Load(), int64(2))
		apply(newTestInbox(s.store), "e4", Result[int64]{Before: -3, After: -4})
		apply(in, "e4", Result[int64]{Duplicate: true}) // though what was read ahead has not got it
		apply(in, "e5", Result[int64]{Before: -4, After: -5})

		in = newTestInbox(s)
		is.NoErr(in.Apply(t.Context(), event("e5", "pear"))[0].Err)
		in.settle()
		broken := make(chan stored, 1)
		broken <- stored{err: errFailed}
		in.readAhead.records = map[string]<-chan stored{"pear": broken}
		is.NoErr(in.Apply(t.Context(), event("e6", "pear"))[0].Err)

		for i := range 3 * maxAhead {
			for _, id := range []string{"e", "f"} {
				is.NoErr(in.Apply(t.Context(), event(id, fmt.Sprint(i)))[0].Err)
			}
			is.True(len(in.readAhead.records) <= maxAhead)
		}
	})
}

type countingReads struct {
	store
	reads atomic.Int64
}

func (s *countingReads) read(ctx context.Context, keys []string) (map[string]stored, error) {
	s.reads.Add(1)
	return s.store.read(ctx, keys)
}

// slowStore lets the test hold up its first read.
type slowStore struct {
	store
	held          atomic.Bool
	reading, goOn chan struct{}
	saves         int
}

func (s *slowStore) read(ctx context.Context, keys []string) (map[string]stored, error) {
	if s.held.CompareAndSwap(false, true) {
		close(s.reading)
		<-s.goOn
	}
	return s.store.read(ctx, keys)
}

func (s *slowStore) save(ctx context.Context, writes []write) error {
	s.saves++
	return s.store.save(ctx, writes)
}

// Deliveries of one event that were in one commit both get an answer when that fails
// at first.
func TestCopiesOfAnEventSurviveASaveThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		in := newTestInbox(&failOnce{store: &memoryStore{}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		got := in.Apply(ctx, event("e1", "apple"), event("e1", "apple"), event("e1", "apple"))
		is.Equal(got, []Result[int64]{{After: -1}, {Duplicate: true}, {Duplicate: true}})
		in.settle()
	})
}

// One key whose read takes long does not hold up another.
func TestSlowKeyDoesNotHoldUpOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := &slowStore{store: &memoryStore{}, reading: make(chan struct{}), goOn: make(chan struct{})}
		in := newTestInbox(s)
		go in.Apply(t.Context(), event("e1", "slow"))
		<-s.reading
		is.NoErr(in.Apply(t.Context(), event("e2", "other"))[0].Err)
		close(s.goOn)
	})
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
	return s.readStrong(ctx, keys), nil
}

func (s unreadable) readStrong(ctx context.Context, keys []string) map[string]stored {
	found := s.store.readStrong(ctx, keys)
	for _, key := range keys {
		if s.key == "" || key == s.key {
			found[key] = stored{err: errFailed}
		}
	}
	return found
}

func TestStoreThatCannotBeReadFailsTheChange(t *testing.T) {
	is := is.New(t)
	in := newTestInbox(unreadable{store: &memoryStore{}})
	err := in.Apply(t.Context(), event("e1", "apple"))[0].Err
	is.True(errors.Is(err, errFailed))
	is.True(!errors.Is(err, ErrFinal)) // it is to be delivered again
	is.True(errors.Is(in.Set(t.Context(), "apple", 1), errFailed))
	_, err = in.Get(t.Context(), "apple")
	is.True(errors.Is(err, errFailed)) // never a made-up 0
}

func TestWhatCannotBeReadDoesNotHoldUpOthers(t *testing.T) {
	apple, late, pear := event("apple", "apple"), event("late", "apple"), event("pear", "pear")
	for key, want := range map[string][3]bool{
		"apple":                          {false, false, true},
		markerKeys("apple", apple.ID)[0]: {false, true, true}, // nor other changes of the same key
		"a key that nobody has heard of": {true, true, true},
	} {
		is := is.New(t)
		memory := &memoryStore{}
		memory.put("apple", []byte(`{"commits":"","value":0,"watermark":"zzz"}`)) // so that markers must be read
		got := newTestInbox(unreadable{memory, key}).Apply(t.Context(), apple, late, pear)
		for i, r := range got {
			is.Equal(r.Err == nil, want[i])
		}
	}
}

// A save that keeps failing is handed back after a time, one by one, and does not
// become a busy loop.
func TestStoreThatDoesNotSaveHandsTheChangeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := &refusing{store: &memoryStore{}, key: "apple"}
		in := newTestInbox(s)
		start := time.Now()
		got := in.Apply(t.Context(), event("e1", "apple"), event("e2", "pear"))
		is.True(errors.Is(got[0].Err, errFailed))
		is.True(!errors.Is(got[0].Err, ErrFinal))
		is.NoErr(got[1].Err)
		is.True(time.Since(start) > giveUp)
		is.True(time.Since(start) < giveUp+2*time.Second)
		is.True(s.refused < 200)
		s.key = ""
		is.Equal(in.Apply(t.Context(), event("e1", "apple")), []Result[int64]{{After: -1}})
	})
}

// Once a key has been refused for long, what comes for it is handed back after one
// try, so that a delivery of many does not wait for it again and again. And it
// spoils no more saves of others.
func TestKeyThatIsKnownToBeRefusedHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := &refusing{store: &memoryStore{}, key: "apple"}
		in := newTestInbox(s)
		is.True(in.Apply(t.Context(), event("e1", "apple"))[0].Err != nil)
		for i := range 5 {
			start := time.Now()
			refused, spoiled := s.refused, s.spoiled
			got := in.Apply(t.Context(), event(fmt.Sprint("f", i), "apple"), event(fmt.Sprint("g", i), "pear"))
			is.True(errors.Is(got[0].Err, errFailed))
			is.NoErr(got[1].Err)
			is.True(time.Since(start) < 50*time.Millisecond)
			is.Equal(s.refused-refused, 1)
			is.Equal(s.spoiled, spoiled) // it goes alone
		}
		s.key = ""
		is.NoErr(in.Apply(t.Context(), event("e1", "apple"))[0].Err)
		// What was long ago is forgotten.
		s.key = "apple"
		start := time.Now()
		is.True(in.Apply(t.Context(), event("e2", "apple"))[0].Err != nil)
		is.True(time.Since(start) > giveUp)
	})
}

// A key on which the store hangs, without refusing it, takes little of the time of a
// subscriber that is given one event after another, and is tried often enough to be
// counted soon after it is saved again.
func TestKeyOnWhichTheStoreHangsHoldsNobodyUp(t *testing.T) {
	for name, reads := range map[string]bool{"when it is saved": false, "when it is read": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				is := is.New(t)
				s := &hanging{store: &memoryStore{}, key: "apple", reads: reads}
				in := newTestInbox(s)
				is.True(in.Apply(t.Context(), event("e1", "apple"))[0].Err != nil)
				var held time.Duration
				times := 0
				for began := time.Now(); time.Since(began) < time.Minute; times++ {
					is.NoErr(in.Apply(t.Context(), event(fmt.Sprint("g", times), "pear"))[0].Err)
					start := time.Now()
					is.True(errors.Is(in.Apply(t.Context(), event(fmt.Sprint("f", times), "apple"))[0].Err, errFailed))
					is.True(time.Since(start) < 2*time.Second)
					held += time.Since(start)
					time.Sleep(50 * time.Millisecond)
				}
				is.True(held < 10*time.Second)
				s.key = ""
				back := time.Now()
				for in.Apply(t.Context(), event("e1", "apple"))[0].Err != nil {
					time.Sleep(50 * time.Millisecond)
				}
				is.True(time.Since(back) < 11*time.Second)
			})
		})
	}
}

// A store that hangs on all keys is tried again at once: when it is back, nothing waits.
func TestStoreThatHungIsTriedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := &hanging{store: &memoryStore{}, key: "apple"}
		in := newTestInbox(s)
		is.NoErr(in.Apply(t.Context(), event("e0", "pear"))[0].Err)
		is.True(in.Apply(t.Context(), event("e1", "apple"))[0].Err != nil)
		is.True(in.Apply(t.Context(), event("e1", "apple"))[0].Err != nil)
		s.key = ""
		is.NoErr(in.Apply(t.Context(), event("e2", "pear"))[0].Err)
		is.NoErr(in.Apply(t.Context(), event("e1", "apple"))[0].Err)

		// Nor does it count against a key that it failed some time before.
		s.key = "apple"
		is.True(in.Apply(t.Context(), event("e3", "apple"))[0].Err != nil)
		is.NoErr(in.Apply(t.Context(), event("e4", "pear"))[0].Err)
		time.Sleep(30 * time.Second)
		is.True(in.Apply(t.Context(), event("e3", "apple"))[0].Err != nil)
		s.key = ""
		is.NoErr(in.Apply(t.Context(), event("e3", "apple"))[0].Err)
	})
}

// What replaces the value of a key is tried even while it rests: it may be what mends it.
func TestSetIsTriedWhileTheKeyRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := &hanging{store: &memoryStore{}, key: "apple"}
		in := newTestInbox(s)
		is.True(in.Apply(t.Context(), event("e1", "apple"))[0].Err != nil)
		is.NoErr(in.Apply(t.Context(), event("e2", "pear"))[0].Err)
		is.True(in.Apply(t.Context(), event("e1", "apple"))[0].Err != nil)
		s.key = ""
		is.True(in.Apply(t.Context(), event("e1", "apple"))[0].Err != nil) // it rests
		is.NoErr(in.Set(t.Context(), "apple", 100))
		is.Equal(in.Apply(t.Context(), event("e1", "apple")), []Result[int64]{{Before: 100, After: 99}})
	})
}

// hanging is a store that fails to save a key, or to read it, after a long time.
type hanging struct {
	store
	key   string
	reads bool // is what hangs
}

func (s *hanging) hang(ctx context.Context) error {
	select {
	case <-time.After(8 * time.Second):
	case <-ctx.Done():
	}
	return errFailed
}

func (s *hanging) read(ctx context.Context, keys []string) (map[string]stored, error) {
	if s.reads && slices.Contains(keys, s.key) {
		return nil, s.hang(ctx)
	}
	return s.store.read(ctx, keys)
}

func (s *hanging) save(ctx context.Context, writes []write) error {
	if !s.reads && slices.ContainsFunc(writes, func(w write) bool { return w.key == s.key }) {
		return s.hang(ctx)
	}
	time.Sleep(2 * time.Millisecond)
	return s.store.save(ctx, writes)
}

func TestProbeSaysWhetherTheStoreSaves(t *testing.T) {
	is := is.New(t)
	s := &refusing{store: &memoryStore{}}
	in := newTestInbox(s)
	is.NoErr(in.Probe(t.Context()))
	s.key = probeKey
	is.True(errors.Is(in.Probe(t.Context()), errFailed))
}

// refusing is a store that saves all or nothing and refuses a key.
type refusing struct {
	store
	key     string
	refused int
	spoiled int // saves that were refused because of another key
}

func (s *refusing) save(ctx context.Context, writes []write) error {
	for _, w := range writes {
		if w.key == s.key {
			s.refused++
			if len(writes) > 1 {
				s.spoiled++
			}
			return errFailed
		}
	}
	return s.store.save(ctx, writes)
}

func TestErrorOfApplyIsFinal(t *testing.T) {
	is := is.New(t)
	in := newTestInbox(&memoryStore{})
	soldOut := errors.New("sold out")
	bad := Change[int64]{Key: "apple", ID: EventID("test", "bad"), Apply: func(int64) (int64, error) { return 5, soldOut }}
	got := in.Apply(t.Context(), event("e1", "apple"), bad, event("e2", "apple"))
	is.Equal(got[0], Result[int64]{After: -1})
	is.Equal(got[2], Result[int64]{Before: -1, After: -2})
	is.True(errors.Is(got[1].Err, ErrFinal))
	is.True(errors.Is(got[1].Err, soldOut))
	is.Equal(got[1].Err.Error(), "sold out")
	is.True(errors.Is(in.Apply(t.Context(), event("e3", ""))[0].Err, ErrFinal))         // no key
	is.True(errors.Is(in.Apply(t.Context(), lower("e3", "apple", 1))[0].Err, ErrFinal)) // no ID
	is.Equal(len(in.Apply(t.Context())), 0)
}

func TestWhatIsStoredMayBeFromAnotherProgram(t *testing.T) {
	tests := []struct {
		stored string
		want   int64
		final  bool
	}{
		{stored: `100`, want: 99},
		{stored: `-5`, want: -6},
		{stored: `{"value":100,"commits":""}`, want: 99},
		{stored: `{"value":100,"latest":"","commits":"a.1 b.2","added":"later"}`, want: 99},
		{stored: `1.5`, final: true},
		{stored: `"100"`, final: true},
		{stored: `{}`, final: true},
		{stored: `{"value":100}`, final: true},
		{stored: `{"value":"100","commits":""}`, final: true},
		{stored: `{"value":100,"latest":"no ID","commits":""}`, final: true},
		{stored: `[100]`, final: true},
		{stored: `not JSON`, final: true},
	}
	for _, tt := range tests {
		t.Run(tt.stored, func(t *testing.T) {
			is := is.New(t)
			memory := &memoryStore{}
			memory.put("apple", []byte(tt.stored))
			in := newTestInbox(memory)
			got := in.Apply(t.Context(), event("e1", "apple"))[0]
			is.Equal(errors.Is(got.Err, ErrFinal), tt.final)
			is.Equal(got.After, tt.want)
			is.NoErr(in.Set(t.Context(), "apple", 7)) // a person can always put it right
			value, err := in.Get(t.Context(), "apple")
			is.NoErr(err)
			is.Equal(value, int64(7))
		})
	}
}

// A value may be anything that JSON can hold, objects too.
func TestValueOfAnyType(t *testing.T) {
	type sales struct {
		Orders int      `json:"orders"`
		Last   string   `json:"last"`
		Names  []string `json:"names"`
	}
	testStores(t, func(t *testing.T, s store) {
		is := is.New(t)
		in, key := newInbox[sales](s, time.Hour), newKey(t)
		for i := range 3 {
			name := strconv.Itoa(i)
			c := Change[sales]{Key: key, ID: EventID(key, name), Apply: func(v sales) (sales, error) {
				return sales{v.Orders + 1, name, append(v.Names[:len(v.Names):len(v.Names)], name)}, nil
			}}
			for range 2 {
				is.NoErr(in.Apply(t.Context(), c)[0].Err)
			}
		}
		got, err := in.Get(t.Context(), key)
		is.NoErr(err)
		is.Equal(got, sales{3, "2", []string{"0", "1", "2"}})
	})
}

// One that JSON writes as null is a value like any other.
func TestValueThatIsNull(t *testing.T) {
	is := is.New(t)
	in := newInbox[[]string](&memoryStore{}, time.Hour)
	nothing := func(id string) Change[[]string] {
		return Change[[]string]{Key: "apple", ID: EventID("test", id), Apply: func([]string) ([]string, error) { return nil, nil }}
	}
	for _, id := range []string{"e1", "e2"} {
		is.NoErr(in.Apply(t.Context(), nothing(id))[0].Err)
	}
	is.True(in.Apply(t.Context(), nothing("e1"))[0].Duplicate)
}

func TestNoKeyReachesThatOfAnotherThing(t *testing.T) {
	is := is.New(t)
	keys := make(map[string]string)
	markers := append(markerKeys("apple", testID("t")), markerKeys("apple", testID("e1"))...)
	for _, key := range markers {
		keys[key] = "a marker"
	}
	for _, key := range append(markers, "apple", "~", "~~", "~"+markers[0], "~apple", "~~apple",
		"a/b", "a~2Fb", "~a/b", "~~a~2Fb", `a\b`, "a?b", "a#b", "~/", "~2F") {
		stored := recordKey(key)
		is.Equal(keys[stored], "") // is it free?
		is.True(!strings.ContainsAny(stored, `/\?#`))
		keys[stored] = key
	}
}

func TestIntegersStayExactToTheLimit(t *testing.T) {
	testStores(t, func(t *testing.T, s store) {
		is := is.New(t)
		in, key := newTestInbox(s), newKey(t)
		for range 2 {
			is.NoErr(in.Set(t.Context(), key, daprhttp.MaxInteger))
			value, err := in.Get(t.Context(), key)
			is.NoErr(err)
			is.Equal(value, int64(daprhttp.MaxInteger))
			is.NoErr(in.Apply(t.Context(), lower(EventID("test", newKey(t)), key, daprhttp.MaxInteger-1))[0].Err)
		}
	})
}
