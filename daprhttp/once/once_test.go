package once

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
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

// raceDetector tells whether the tests run with the race detector.
var raceDetector bool

func newTestInbox(s store) *Inbox[int64] { return newInbox[int64](s) }

// lower returns a change that lowers a value.
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

// storedRecord returns the record of a key.
func storedRecord(t *testing.T, s store, key string) record[int64] {
	t.Helper()
	found, err := s.read(t.Context(), recordKey(key))
	if err != nil {
		t.Fatal(err)
	}
	r, err := decodeRecord[int64](found.value)
	if err != nil || r.damaged != nil {
		t.Fatal(err, r.damaged)
	}
	return r
}

// settle waits until all workers have ended.
func (in *Inbox[V]) settle() {
	for {
		in.mu.Lock()
		n := len(in.workers)
		in.mu.Unlock()
		if n == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// must applies a change and fails the test if that fails.
func must(t *testing.T, in *Inbox[int64], c Change[int64]) Result[int64] {
	t.Helper()
	r, err := in.Apply(t.Context(), c)
	if err != nil {
		t.Errorf("%s of %s: %v", c.ID, c.Key, err)
	}
	return r
}

// soon returns a context that ends soon.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

var duplicate = Result[int64]{Duplicate: true}

// flaky returns a store whose saves and markers fail at random: without effect, with an
// effect, or with a late effect.
func flaky(s store, seed uint64) store {
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(1, seed))
	try := func(do func(context.Context) error) func(context.Context) error {
		return func(ctx context.Context) error {
			mu.Lock()
			fault, later := random.IntN(20), time.Duration(random.IntN(100))*time.Millisecond
			mu.Unlock()
			switch fault {
			case 0:
				return errFailed
			case 1:
				_ = do(ctx)
				return errFailed
			case 2:
				time.AfterFunc(later, func() { _ = do(ctx) })
				return errFailed
			}
			return do(ctx)
		}
	}
	return &hooked{
		store: s,
		onSave: func(ctx context.Context, key, etag string, value any) error {
			return try(func(ctx context.Context) error { return s.save(ctx, key, etag, value) })(ctx)
		},
		onMark: func(ctx context.Context, key string, ids idSet) error {
			return try(func(ctx context.Context) error { return s.mark(ctx, key, ids) })(ctx)
		},
	}
}

func TestConcurrentReplicasApplyEveryEventOnce(t *testing.T) {
	const replicas, events, keys, times = 3, 120, 3, 3
	testStores(t, func(t *testing.T, s store) {
		is := is.New(t)
		prefix := newKey(t)
		var inboxes []*Inbox[int64]
		for i := range replicas {
			in := newTestInbox(flaky(s, uint64(i)))
			in.tuning.keep = func(int, int) int { return 5 }
			inboxes = append(inboxes, in)
		}
		key := func(i int) string { return fmt.Sprintf("%s/%d", prefix, i%keys) }
		for i := range keys {
			is.NoErr(newTestInbox(s).Set(t.Context(), key(i), 1000))
		}
		var wg sync.WaitGroup
		for i := range events {
			for delivery := range times {
				change := lower(EventID(prefix, strconv.Itoa(i)), key(i), 2)
				wg.Go(func() { must(t, inboxes[(i+delivery)%replicas], change) })
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

func TestResultTellsTheValueBeforeAndAfter(t *testing.T) {
	testStores(t, func(t *testing.T, s store) {
		is := is.New(t)
		in := newTestInbox(s)
		c := lower(EventID("test", newKey(t)), newKey(t), 10)
		is.Equal(must(t, in, c), Result[int64]{After: -10}) // a new key is zero
		is.Equal(must(t, in, c), duplicate)
		is.Equal(must(t, newTestInbox(s), c), duplicate) // another replica knows only the record
	})
}

// failOnce returns a store whose first save fails. With after, that save takes effect.
func failOnce(s store, after bool, then func()) store {
	failed := false
	return &hooked{store: s, onSave: func(ctx context.Context, key, etag string, value any) error {
		if failed {
			return s.save(ctx, key, etag, value)
		}
		failed = true
		if after {
			_ = s.save(ctx, key, etag, value)
		}
		if then != nil {
			then()
		}
		return errFailed
	}}
}

// A save may take effect although it failed. The result is that of a new change, even if
// other replicas have saved since.
func TestFailedSaveThatTookEffectIsRecognised(t *testing.T) {
	is := is.New(t)
	memory := &memoryStore{}
	rivals := func() {
		for i := range 5 {
			must(t, newTestInbox(memory), event(strconv.Itoa(i), "apple"))
		}
	}
	got := must(t, newTestInbox(failOnce(memory, true, rivals)), lower(testID("e1"), "apple", 10))
	is.Equal(got, Result[int64]{Before: 0, After: -10})
}

// The name of the failed commit may leave the record before the save that answers.
func TestFailedSaveThatTookEffectIsRecognisedUntilTheAnswer(t *testing.T) {
	is := is.New(t)
	memory := &memoryStore{}
	n := 0
	s := &hooked{store: memory}
	s.onSave = func(ctx context.Context, key, etag string, value any) error {
		err := memory.save(ctx, key, etag, value)
		if n++; n == 1 {
			return errFailed // although it took effect
		}
		return err
	}
	s.onRead = func(ctx context.Context, key string) (stored, error) {
		found, err := memory.read(ctx, key)
		if n == 1 { // this read shows the commit, the next one does not
			for i := range maxCommits + 1 {
				must(t, newTestInbox(memory), event(strconv.Itoa(i), "apple"))
			}
			n = 2
		}
		return found, err
	}
	is.Equal(must(t, newTestInbox(s), lower(testID("e1"), "apple", 10)), Result[int64]{Before: 0, After: -10})
}

func TestSetSurvivesAFailedSave(t *testing.T) {
	for _, after := range []bool{false, true} {
		is := is.New(t)
		in := newTestInbox(failOnce(&memoryStore{}, after, nil))
		is.NoErr(in.Set(t.Context(), "apple", 100))
		got, err := in.Get(t.Context(), "apple")
		is.NoErr(err)
		is.Equal(got, int64(100))
	}
}

func TestSetKeepsTheIDsOfAppliedEvents(t *testing.T) {
	is := is.New(t)
	in := newTestInbox(&memoryStore{})
	must(t, in, event("e1", "apple"))
	is.NoErr(in.Set(t.Context(), "apple", 500))
	is.Equal(must(t, in, event("e1", "apple")), duplicate)
	got, err := in.Get(t.Context(), "apple")
	is.NoErr(err)
	is.Equal(got, int64(500))
}

func TestCancelledSetDoesNotUndoALaterSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		ctx, leave := context.WithCancel(t.Context())
		in := newTestInbox(failOnce(memory, false, leave))
		is.True(errors.Is(in.Set(ctx, "apple", 100), context.Canceled))
		is.NoErr(in.Set(t.Context(), "apple", 50))
		time.Sleep(time.Minute) // a retry would come by now
		is.Equal(storedRecord(t, memory, "apple").Value, int64(50))
	})
}

// hold returns a store whose first read closes reading, and then waits until goOn is
// closed.
func hold(s store) (held store, reading, goOn chan struct{}) {
	reading, goOn = make(chan struct{}), make(chan struct{})
	var once sync.Once
	return &hooked{store: s, onRead: func(ctx context.Context, key string) (stored, error) {
		once.Do(func() {
			close(reading)
			<-goOn
		})
		return s.read(ctx, key)
	}}, reading, goOn
}

func TestCancelledDeliveryLeavesAnotherOfItsEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s, reading, goOn := hold(&memoryStore{})
		in := newTestInbox(s)
		ctx, leave := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() {
			_, err := in.Apply(ctx, event("e1", "apple"))
			gone <- err
		}()
		<-reading
		var got Result[int64]
		go func() { got = must(t, in, event("e1", "apple")) }()
		synctest.Wait()
		leave()
		is.Equal(<-gone, context.Canceled)
		close(goOn)
		in.settle()
		synctest.Wait()
		is.Equal(got, Result[int64]{After: -1})
	})
}

func TestWaitingChangesAreSavedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		s, reading, goOn := hold(memory)
		in := newTestInbox(s)
		for i := range 100 {
			go must(t, in, event(strconv.Itoa(i), "apple"))
		}
		go must(t, in, event("0", "apple")) // an event delivered twice
		<-reading
		synctest.Wait()
		is.Equal(in.Stats(), Stats{Waiting: 101})
		time.Sleep(time.Second)
		is.Equal(in.Stats().Oldest, time.Second)
		close(goOn)
		in.settle()
		synctest.Wait()
		is.Equal(memory.writes, 1)
		is.Equal(in.Stats(), Stats{Commits: 1})
		is.Equal(storedRecord(t, memory, "apple").Value, int64(-100))
	})
}

// A change that arrives when its worker is about to end is applied.
func TestWorkerDoesNotEndWhileAChangeWaits(t *testing.T) {
	is := is.New(t)
	in := newTestInbox(&memoryStore{})
	w := &worker[int64]{in: in, key: "apple", waiting: []*entry[int64]{{}}}
	in.workers["apple"] = w
	is.True(!w.end())
	is.Equal(in.workers["apple"], w)
	w.waiting = nil
	is.True(w.end())
	is.Equal(len(in.workers), 0)
}

func TestIdleKeyMakesNoRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		calls := 0
		in := newTestInbox(&counted{&memoryStore{}, &calls})
		must(t, in, event("e1", "apple"))
		synctest.Wait()
		is.Equal(calls, 2) // a read and a save
		is.Equal(len(in.workers), 0)
		is.Equal(in.Stats(), Stats{Commits: 1})
	})
}

func TestFailingStoreIsRetriedUntilTheCallerGivesUp(t *testing.T) {
	for _, name := range []string{"reads", "saves"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				is := is.New(t)
				memory := &memoryStore{}
				calls := 0
				var repaired atomic.Bool
				s := &hooked{
					store: memory,
					onRead: func(ctx context.Context, key string) (stored, error) {
						if name == "reads" && !repaired.Load() {
							return stored{}, errFailed
						}
						return memory.read(ctx, key)
					},
					onSave: func(ctx context.Context, key, etag string, value any) error {
						if name == "saves" && !repaired.Load() {
							return errFailed
						}
						return memory.save(ctx, key, etag, value)
					},
				}
				in := newTestInbox(&counted{s, &calls})
				start := time.Now()
				_, err := in.Apply(soon(t), event("e1", "apple"))
				is.True(errors.Is(err, errFailed))
				is.True(errors.Is(err, context.DeadlineExceeded))
				is.True(!errors.Is(err, ErrFinal)) // a redelivery helps
				is.Equal(time.Since(start), 10*time.Second)
				is.True(calls > 10 && calls < 80) // it backs off
				is.True(errors.Is(in.Set(soon(t), "apple", 1), errFailed))
				time.Sleep(2 * time.Second)
				calls = 0
				time.Sleep(time.Hour)
				is.Equal(calls, 0) // no caller waits
				start = time.Now()
				go func() {
					time.Sleep(100 * time.Millisecond)
					repaired.Store(true)
				}()
				is.Equal(must(t, in, event("e1", "apple")), Result[int64]{After: -1})
				is.True(time.Since(start) < 2*time.Second)
				_, err = in.Apply(soon(t), event("e2", "apple"))
				is.NoErr(err)
			})
		})
	}
}

// An outage that is over delays no change.
func TestBackoffIsResetByASave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		in := newTestInbox(nil)
		saves := 0
		var took time.Duration
		in.store = &hooked{store: memory, onSave: func(ctx context.Context, key, etag string, value any) error {
			switch saves++; saves {
			case 9: // the worker goes on with a change that arrives during this save
				go func() {
					start := time.Now()
					must(t, in, event("e2", "apple"))
					took = time.Since(start)
				}()
				time.Sleep(time.Millisecond)
			default:
				if saves <= 10 {
					return errFailed
				}
			}
			return memory.save(ctx, key, etag, value)
		}}
		must(t, in, event("e1", "apple"))
		in.settle()
		synctest.Wait()
		is.Equal(saves, 11)
		is.True(took < 25*time.Millisecond)
	})
}

// counted counts reads and saves.
type counted struct {
	store
	calls *int
}

func (s *counted) read(ctx context.Context, key string) (stored, error) {
	*s.calls++
	return s.store.read(ctx, key)
}

func (s *counted) save(ctx context.Context, key, etag string, value any) error {
	*s.calls++
	return s.store.save(ctx, key, etag, value)
}

func TestGetFromAFailingStoreIsAnError(t *testing.T) {
	is := is.New(t)
	in := newTestInbox(&hooked{onRead: func(context.Context, string) (stored, error) { return stored{}, errFailed }})
	_, err := in.Get(t.Context(), "apple")
	is.True(errors.Is(err, errFailed)) // never a made-up 0
}

func TestStoreWithoutETagsIsRefused(t *testing.T) {
	is := is.New(t)
	in := newTestInbox(&hooked{onRead: func(context.Context, string) (stored, error) { return stored{value: []byte("100")}, nil }})
	_, err := in.Apply(t.Context(), event("e1", "apple"))
	is.True(errors.Is(err, errNoETag))
	is.True(!errors.Is(err, ErrFinal))
}

func TestHangingKeyDelaysNoOtherKey(t *testing.T) {
	for _, call := range []string{"read", "save", "mark"} {
		t.Run(call, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				is := is.New(t)
				memory := &memoryStore{}
				hang := func(what, key string) error {
					if what == call && key == "slow" {
						time.Sleep(8 * time.Second)
						return errFailed
					}
					return nil
				}
				in := newTestInbox(&hooked{
					store: memory,
					onRead: func(ctx context.Context, key string) (stored, error) {
						if err := hang("read", key); err != nil {
							return stored{}, err
						}
						return memory.read(ctx, key)
					},
					onSave: func(ctx context.Context, key, etag string, value any) error {
						return cmp.Or(hang("save", key), memory.save(ctx, key, etag, value))
					},
					onMark: func(ctx context.Context, key string, ids idSet) error {
						return cmp.Or(hang("mark", key), memory.mark(ctx, key, ids))
					},
				})
				in.tuning.keep = func(int, int) int { return 0 } // markers are written after each save
				start := time.Now()
				ctx := soon(t)
				var wg sync.WaitGroup
				wg.Go(func() {
					for i := range 20 {
						_, err := in.Apply(ctx, event(strconv.Itoa(i), "slow"))
						if call == "mark" {
							is.NoErr(err) // markers delay no change, not even of their own key
							is.True(time.Since(start) < 7*time.Second)
						} else {
							is.True(err != nil)
						}
					}
				})
				for i := range 20 {
					must(t, in, event(strconv.Itoa(i), "other"))
					is.Equal(time.Since(start), time.Duration(0))
				}
				wg.Wait()
				time.Sleep(time.Minute)
			})
		})
	}
}

func TestErrorOfApplyIsFinal(t *testing.T) {
	is := is.New(t)
	in := newTestInbox(&memoryStore{})
	soldOut := errors.New("sold out")
	must(t, in, event("e1", "apple"))
	_, err := in.Apply(t.Context(), Change[int64]{Key: "apple", ID: EventID("test", "bad"), Apply: func(int64) (int64, error) { return 5, soldOut }})
	is.True(errors.Is(err, ErrFinal))
	is.True(errors.Is(err, soldOut))
	is.Equal(err.Error(), "sold out")
	is.Equal(must(t, in, event("e2", "apple")), Result[int64]{Before: -1, After: -2})
	_, err = in.Apply(t.Context(), event("e3", ""))
	is.True(errors.Is(err, ErrFinal)) // no key
	_, err = in.Apply(t.Context(), lower("e3", "apple", 1))
	is.True(errors.Is(err, ErrFinal)) // no ID
}

// An Apply function that panics must not end the program, and with it each replica that gets
// the redelivery.
func TestPanicOfApplyIsFinal(t *testing.T) {
	is := is.New(t)
	in := newInbox[map[string]int](&memoryStore{})
	sell := func(m map[string]int) (map[string]int, error) { m["a"]++; return m, nil }
	_, err := in.Apply(t.Context(), Change[map[string]int]{Key: "apple", ID: EventID("test", "e1"), Apply: sell})
	is.True(errors.Is(err, ErrFinal))
	is.True(strings.Contains(err.Error(), "assignment to entry in nil map"))
}

// A marker that can't be decoded does not prove that the event is new.
func TestDamagedMarkerIsNoProof(t *testing.T) {
	for _, damaged := range []string{`""`, `"x"`, `5`, `<html>`, ``} {
		synctest.Test(t, func(t *testing.T) {
			is := is.New(t)
			memory := &memoryStore{}
			in := newTestInbox(memory)
			in.tuning.keep = func(int, int) int { return 0 }
			must(t, in, event("e1", "apple"))
			in.settle()
			must(t, in, event("e2", "apple"))
			in.settle()
			memory.put(markerKey("apple", event("e1", "apple").ID), []byte(damaged))
			_, err := in.Apply(soon(t), event("e1", "apple"))
			is.True(errors.Is(err, context.DeadlineExceeded))
			is.True(strings.Contains(err.Error(), "a marker can't be decoded"))
			in.settle()
		})
	}
}

// A final error is answered only after an acknowledged save over the record in which it
// was found.
func TestErrorOfApplyOnAStaleReadIsNotAnswered(t *testing.T) {
	is := is.New(t)
	memory := &memoryStore{}
	is.NoErr(newTestInbox(memory).Set(t.Context(), "apple", 10))
	missed := false
	in := newTestInbox(&hooked{store: memory, onRead: func(ctx context.Context, key string) (stored, error) {
		if !missed {
			missed = true
			return stored{}, nil
		}
		return memory.read(ctx, key)
	}})
	buy := Change[int64]{Key: "apple", ID: testID("e1"), Apply: func(v int64) (int64, error) {
		if v < 1 {
			return 0, errors.New("sold out")
		}
		return v - 1, nil
	}}
	is.Equal(must(t, in, buy), Result[int64]{Before: 10, After: 9})
}

func TestValueWithoutJSONIsAFinalErrorOfItsChangeAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s, reading, goOn := hold(&memoryStore{})
		in := newInbox[float64](s)
		change := func(id string, value float64) Change[float64] {
			return Change[float64]{Key: "apple", ID: testID(id), Apply: func(v float64) (float64, error) { return v + value, nil }}
		}
		var wrong, right error
		go func() { _, wrong = in.Apply(soon(t), change("e1", math.NaN())) }()
		<-reading
		go func() { _, right = in.Apply(soon(t), change("e2", 1)) }()
		synctest.Wait()
		close(goOn)
		in.settle()
		synctest.Wait()
		is.True(errors.Is(wrong, ErrFinal))
		is.NoErr(right)
	})
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
			must(t, in, lower(EventID("test", newKey(t)), key, daprhttp.MaxInteger-1))
		}
	})
}

// The backoff begins at 10 ms and stays below a second.
func TestBackoffIsBounded(t *testing.T) {
	is := is.New(t)
	for faults := 1; faults < 100; faults++ {
		d := backoff(faults)
		is.True(d >= 10*time.Millisecond && d < time.Second)
		is.True(faults > 1 || d < 20*time.Millisecond)
		is.True(faults < 7 || d >= time.Second/2)
	}
}

func TestValueOfAnyType(t *testing.T) {
	type sales struct {
		Orders int      `json:"orders"`
		Last   string   `json:"last"`
		Names  []string `json:"names"`
	}
	testStores(t, func(t *testing.T, s store) {
		is := is.New(t)
		in, key := newInbox[sales](s), newKey(t)
		for i := range 3 {
			name := strconv.Itoa(i)
			c := Change[sales]{Key: key, ID: EventID(key, name), Apply: func(v sales) (sales, error) {
				return sales{v.Orders + 1, name, append(v.Names[:len(v.Names):len(v.Names)], name)}, nil
			}}
			for range 2 {
				_, err := in.Apply(t.Context(), c)
				is.NoErr(err)
			}
		}
		got, err := in.Get(t.Context(), key)
		is.NoErr(err)
		is.Equal(got, sales{3, "2", []string{"0", "1", "2"}})
	})
}

func TestValueThatIsNull(t *testing.T) {
	is := is.New(t)
	in := newInbox[[]string](&memoryStore{})
	nothing := func(id string) Change[[]string] {
		return Change[[]string]{Key: "apple", ID: EventID("test", id), Apply: func([]string) ([]string, error) { return nil, nil }}
	}
	for _, id := range []string{"e1", "e2"} {
		_, err := in.Apply(t.Context(), nothing(id))
		is.NoErr(err)
	}
	again, err := in.Apply(t.Context(), nothing("e1"))
	is.NoErr(err)
	is.True(again.Duplicate)
}
