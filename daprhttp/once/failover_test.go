package once

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"testing/synctest"

	"github.com/matryer/is"
)

// A cutOff store is a primary that can be cut off from its synchronous replica. Then it
// acknowledges no save, because the replica does not have it, but shows the save to every
// reader. When the replica takes its place, these saves are lost.
type cutOff struct {
	*memoryStore
	promised *memoryStore // the content of the replica; nil: the primary is not cut off
	only     string       // the key whose partition is cut off; empty: all keys
}

func (s *cutOff) cut() {
	s.promised = &memoryStore{values: maps.Clone(s.values), etags: maps.Clone(s.etags), writes: s.writes + 1000} // no ETag comes back
}

func (s *cutOff) failOver() {
	if s.only != "" { // other partitions are unchanged
		value, etag := s.promised.values[s.only], s.promised.etags[s.only]
		s.values[s.only], s.etags[s.only], s.writes, s.promised = value, etag, s.writes+1000, nil
		return
	}
	s.memoryStore, s.promised = s.promised, nil
}

func (s *cutOff) save(ctx context.Context, key, etag string, value any) error {
	err := s.memoryStore.save(ctx, key, etag, value)
	if s.promised != nil && (s.only == "" || s.only == key) {
		err = errors.Join(err, errFailed)
	}
	return err
}

func (s *cutOff) mark(ctx context.Context, key string, ids idSet) error {
	err := s.memoryStore.mark(ctx, key, ids)
	if s.promised != nil && s.only == "" {
		err = errors.Join(err, errFailed)
	}
	return err
}

func TestUnacknowledgedSavesOfACutOffPrimaryAreNotAnswered(t *testing.T) {
	for _, first := range []bool{true, false} {
		t.Run(fmt.Sprintf("first event of the key: %v", first), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				is := is.New(t)
				store := &cutOff{memoryStore: &memoryStore{}}
				in := newTestInbox(store)
				if !first {
					must(t, in, event("before", "apple"))
				}
				before, err := in.Get(t.Context(), "apple")
				is.NoErr(err)

				store.cut()
				order := lower(testID("e1"), "apple", 10)
				if _, err := in.Apply(soon(t), order); err == nil {
					t.Error("the event is answered as applied, and its save will be lost")
				}
				another := newTestInbox(store)
				if _, err := another.Apply(soon(t), order); err == nil {
					t.Error("the redelivered event is answered as applied, and its save will be lost")
				}
				if err := in.Set(soon(t), "apple", 500); err == nil {
					t.Error("the value is answered as set, and its save will be lost")
				}
				refuse := Change[int64]{Key: "apple", ID: testID("e2"), Apply: func(int64) (int64, error) { return 0, errFailed }}
				if _, err := in.Apply(soon(t), refuse); errors.Is(err, ErrFinal) {
					t.Error("the event has a final error because of a value that will be lost")
				}
				in.settle()
				another.settle()

				store.failOver()
				is.Equal(must(t, another, order), Result[int64]{Before: before, After: before - 10})
				is.Equal(must(t, another, order), duplicate)
			})
		})
	}
}

// Markers that the store shows but did not acknowledge are lost with the primary.
func TestIDsLeaveOnlyAfterTheirMarkersAreAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		store := &cutOff{memoryStore: &memoryStore{}}
		in := newTestInbox(store)
		in.tuning.keep = func(int, int) int { return 2 }
		const orders = 6
		for i := range orders - 1 { // the next order crosses the limit
			must(t, in, event(fmt.Sprint(i), "apple"))
		}
		in.settle()
		store.cut()
		_, err := in.Apply(soon(t), event(fmt.Sprint(orders-1), "apple"))
		is.True(err != nil)
		in.settle()
		store.failOver()
		for i := range 3 * orders { // now IDs leave the record
			must(t, in, event(fmt.Sprint(i), "apple"))
			in.settle()
		}
		for i := range 3 * orders {
			is.Equal(must(t, newTestInbox(store), event(fmt.Sprint(i), "apple")), duplicate)
		}
		is.Equal(storedRecord(t, store, "apple").Value, int64(-3*orders))
	})
}

// A change that was never acknowledged must get no marker. Otherwise its redelivery is
// taken for a duplicate after its save is lost.
func TestOnlyAcknowledgedChangesAreMarked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		store := &cutOff{memoryStore: &memoryStore{}, only: "apple"}
		must(t, newTestInbox(store), event("first", "apple"))
		store.cut()
		const orders = 12
		for i := range orders { // other replicas see the unacknowledged record, and commit over it
			in := newTestInbox(store)
			in.tuning.keep = func(int, int) int { return 0 }
			in.tuning.maxIDs = 4
			_, err := in.Apply(soon(t), event(fmt.Sprint(i), "apple"))
			is.True(err != nil)
			in.settle()
		}
		is.Equal(store.markers(), 0)
		store.failOver()
		for i := range orders {
			is.Equal(must(t, newTestInbox(store), event(fmt.Sprint(i), "apple")).Duplicate, false)
		}
		is.Equal(storedRecord(t, store, "apple").Value, int64(-orders-1))
	})
}

// After a failover, a count of prunings would have the same value again. The name of the
// commit that pruned does not come back. Here a look-up finds no marker while the primary
// is cut off. After the failover the ID is applied, marked, and has left the record.
func TestLookUpDoesNotStayValidAfterAFailover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		store := &cutOff{memoryStore: &memoryStore{}}
		store.put("apple", []byte(`{"once":2,"value":100,"pruned":"X.6","watermark":"`+string(testID("t9"))+`"}`))
		store.cut()
		store.put("apple", []byte(`{"once":2,"value":99,"pruned":"Y.7","watermark":"`+string(testID("t9"))+`"}`))
		slow := newTestInbox(store) // its look-up is made before the failover, its save after
		wait := make(chan struct{})
		slow.store = &hooked{store: store, onSave: func(ctx context.Context, key, etag string, value any) error {
			<-wait
			return store.save(ctx, key, etag, value)
		}}
		var got Result[int64]
		go func() { got = must(t, slow, event("e1", "apple")) }()
		synctest.Wait()
		store.failOver()
		fast := newTestInbox(store)
		fast.tuning.keep = func(int, int) int { return 0 }
		must(t, fast, event("e1", "apple"))
		fast.settle()
		is.Equal(storedRecord(t, store, "apple").IDs, idSet("")) // it has left the record
		close(wait)
		slow.settle()
		synctest.Wait()
		is.Equal(got, duplicate)
		is.Equal(storedRecord(t, store, "apple").Value, int64(99))
	})
}
