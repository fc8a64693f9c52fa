package once

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/matryer/is"
)

// A record is full when markers could not be written for a while. Any replica can prune
// it then, even a replica that has just started.
func TestFullRecordIsPrunedByAnyReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		const maxIDs = 400
		memory := &memoryStore{}
		in := newTestInbox(on("mark", memory, func(call) error {
			time.Sleep(100 * time.Millisecond)
			return errFailed
		}), 20)
		in.tuning.maxIDs = maxIDs
		var applied []Change[int64]
		for n := range maxIDs {
			applied = append(applied, numbered(n))
			must(t, in, applied[n])
		}
		for i := range 20 { // the error tells why, whenever the caller gives up
			ctx, cancel := context.WithTimeout(t.Context(), time.Second+time.Duration(i)*37*time.Millisecond)
			_, err := in.Apply(ctx, event("one more", "apple"))
			is.True(errors.Is(err, errFailed))
			is.True(errors.Is(err, context.DeadlineExceeded))
			is.True(!errors.Is(err, ErrFinal))
			cancel()
		}
		is.Equal(storedRecord(t, memory, "apple").IDs.len(), maxIDs)
		is.NoErr(in.Set(t.Context(), "apple", 500)) // Set has room in a full record
		in.settle()

		in = newTestInbox(memory, 20) // a replica that starts when markers can be written
		in.tuning.maxIDs = maxIDs
		is.Equal(must(t, in, event("one more", "apple")), Result[int64]{Before: 500, After: 499})
		is.True(storedRecord(t, memory, "apple").IDs.len() < maxIDs/4)
		mustBeDuplicates(t, memory, applied)
	})
}

// newFullInbox returns an Inbox for records that are full with two IDs.
func newFullInbox(s store) *Inbox[int64] {
	in := newTestInbox(s, 1)
	in.tuning.maxIDs = 2
	return in
}

// Even Set has no room in a record with twice as many IDs. It then waits for the markers, as
// other changes do, and makes few calls.
func TestChangesOfAFullRecordBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		memory.put("apple", testRecord(98, "e1", "e2", "e3", "e4"))
		in := newFullInbox(on("mark", memory, fail))
		is.True(errors.Is(in.Set(soon(t), "apple", 500), errFailed))
		_, err := in.Apply(soon(t), event("e5", "apple"))
		is.True(errors.Is(err, errFailed))
		is.True(memory.writes < 200)
		in.settle()
	})
}

func TestSetWorksOnAFullRecordWhileMarkersHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		memory.put("apple", testRecord(98, "e1", "e2"))
		in := newFullInbox(on("mark", memory, func(call) error {
			time.Sleep(time.Minute)
			return errFailed
		}))
		var waits error
		go func() { _, waits = in.Apply(soon(t), event("e3", "apple")) }()
		synctest.Wait()
		start := time.Now()
		is.NoErr(in.Set(t.Context(), "apple", 500))
		is.True(time.Since(start) < time.Second)
		in.settle()
		synctest.Wait()
		is.True(errors.Is(waits, context.DeadlineExceeded))
		is.Equal(storedRecord(t, memory, "apple").Value, int64(500))
	})
}
