package once

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/matryer/is"
)

func TestFailingStoreIsRetriedUntilTheCallerGivesUp(t *testing.T) {
	for _, method := range []string{"read", "save"} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				is := is.New(t)
				calls := 0
				var repaired atomic.Bool
				in := newInbox[int64](hooked{&memoryStore{}, func(c call) error {
					calls++
					if c.method == method && !repaired.Load() {
						return errFailed
					}
					return c.do()
				}})
				start := time.Now()
				_, err := in.Apply(soon(t), event("e1", "apple"))
				is.True(errors.Is(err, errFailed))
				is.True(errors.Is(err, context.DeadlineExceeded))
				is.True(!errors.Is(err, ErrFinal)) // a redelivery helps
				is.Equal(time.Since(start), 10*time.Second)
				is.True(calls > 10 && calls < 80) // it backs off
				is.True(errors.Is(in.Set(soon(t), "apple", 1), errFailed))
				_, err = in.Get(t.Context(), "apple")
				is.Equal(errors.Is(err, errFailed), method == "read") // never a made-up 0
				time.Sleep(2 * time.Second)
				calls = 0
				time.Sleep(time.Hour)
				is.Equal(calls, 0) // no caller waits
				start = time.Now()
				time.AfterFunc(100*time.Millisecond, func() { repaired.Store(true) })
				is.Equal(must(t, in, event("e1", "apple")), Result[int64]{After: -1})
				is.True(time.Since(start) < 2*time.Second)
				must(t, in, event("e2", "apple"))
			})
		})
	}
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

// An outage that is over delays no change.
func TestBackoffIsResetByASave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		var in *Inbox[int64]
		saves := 0
		var took time.Duration
		in = newInbox[int64](on("save", &memoryStore{}, func(c call) error {
			saves++
			if saves == 9 { // the worker goes on with a change that arrives during this save
				go func() {
					start := time.Now()
					must(t, in, event("e2", "apple"))
					took = time.Since(start)
				}()
				time.Sleep(time.Millisecond)
			} else if saves <= 10 {
				return errFailed
			}
			return c.do()
		}))
		must(t, in, event("e1", "apple"))
		in.settle()
		synctest.Wait()
		is.Equal(saves, 11)
		is.True(took < 25*time.Millisecond)
	})
}

func TestStoreWithoutETagsIsRefused(t *testing.T) {
	is := is.New(t)
	memory := &memoryStore{values: map[string]stored{"apple": {value: []byte("100")}}}
	_, err := newInbox[int64](memory).Apply(t.Context(), event("e1", "apple"))
	is.True(errors.Is(err, errNoETag))
	is.True(!errors.Is(err, ErrFinal))
}

func TestHangingKeyDelaysNoOtherKey(t *testing.T) {
	for _, method := range []string{"read", "save"} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				is := is.New(t)
				in := newInbox[int64](on(method, &memoryStore{}, func(c call) error {
					if c.key == "slow" {
						time.Sleep(8 * time.Second)
						return errFailed
					}
					return c.do()
				}))
				start, ctx := time.Now(), soon(t)
				for i := range 20 {
					go func() {
						_, err := in.Apply(ctx, event(strconv.Itoa(i), "slow"))
						is.True(errors.Is(err, errFailed))
					}()
					synctest.Wait()
					must(t, in, event(strconv.Itoa(i), "other"))
				}
				is.Equal(time.Since(start), time.Duration(0))
				in.settle()
			})
		})
	}
}

// A change that arrives when its worker is about to end is applied.
func TestWorkerDoesNotEndWhileAChangeWaits(t *testing.T) {
	is := is.New(t)
	in := newInbox[int64](&memoryStore{})
	w := &worker[int64]{in: in, key: "apple", waiting: []*entry[int64]{{}}}
	in.workers["apple"] = w
	is.True(!w.end())
	is.Equal(in.workers["apple"], w)
	w.waiting = nil
	is.True(w.end())
	is.Equal(len(in.workers), 0)
}

// A change whose marker can't be read waits. Other changes of its key do not. A damaged
// marker does not prove that the event is new.
func TestUnreadableMarkerDelaysOnlyItsChange(t *testing.T) {
	for name, marker := range map[string]string{
		"the read fails": "", "empty text": `""`, "no ID": `"x"`, "a number": `5`, "HTML": `<html>`, "no JSON": ` `,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				is := is.New(t)
				memory := &memoryStore{}
				memory.put("apple", prunedRecord(100, "tttt"))
				late := lower(testID("t"), "apple", 1)
				key, broken := markerKey("apple", late.ID), true
				memory.put(key, marker)
				in := newInbox[int64](hooked{memory, func(c call) error {
					if broken && marker == "" && c.key == key {
						return errFailed
					}
					return c.do()
				}})
				_, err := in.Apply(soon(t), late)
				is.True(errors.Is(err, context.DeadlineExceeded))
				is.True(strings.Contains(err.Error(), "a marker can't be decoded") || errors.Is(err, errFailed))
				var got Result[int64]
				go func() { got = must(t, in, late) }()
				for i := range 20 {
					must(t, in, event(strconv.Itoa(i), "apple"))
					time.Sleep(50 * time.Millisecond)
				}
				synctest.Wait()
				is.Equal(got, Result[int64]{})
				broken = false
				delete(memory.values, key)
				in.settle()
				synctest.Wait()
				is.Equal(got, Result[int64]{Before: 80, After: 79})
			})
		})
	}
}
