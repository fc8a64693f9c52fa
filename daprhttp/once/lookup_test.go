package once

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/matryer/is"
)

// A sidecar with many events in flight delivers them out of order, and the clock of a
// publisher may be ahead. No event needs a look-up, the record stays short, and each event
// is applied once.
func TestNewEventsNeedNoLookUp(t *testing.T) {
	for name, tt := range map[string]struct {
		inFlight int
		ahead    time.Duration // each hundredth event is from a publisher whose clock is ahead
	}{
		"events overtake each other":    {inFlight: 100},
		"a clock is ahead by 10 ms":     {inFlight: 1, ahead: 10 * time.Millisecond},
		"a clock is ahead by 4 minutes": {inFlight: 1, ahead: 4 * time.Minute},
		"a clock is ahead by a year":    {inFlight: 1, ahead: 365 * 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				is := is.New(t)
				memory := &memoryStore{}
				in := newInbox[int64](memory)
				random := newRandom(2)
				all := make([]Change[int64], 2000)
				var wg sync.WaitGroup
				for n := range all {
					madeAt := time.Now().Add(time.Duration(n) * 10 * time.Millisecond)
					arrives := madeAt.Add(time.Duration(random(tt.inFlight)) * 10 * time.Millisecond)
					if n%100 == 99 {
						madeAt = madeAt.Add(tt.ahead)
					}
					all[n] = timed(madeAt, n)
					wg.Go(func() {
						time.Sleep(time.Until(arrives))
						must(t, in, all[n])
					})
				}
				wg.Wait()
				in.settle()
				is.Equal(memory.looks, 0)
				r := storedRecord(t, memory, "apple")
				is.True(r.Watermark != "")
				is.True(r.IDs.len() < 400)
				mustBeDuplicates(t, memory, all)
			})
		})
	}
}

// A look-up that finds no marker is valid until an ID leaves the record. A save lost to a
// rival therefore costs no second look-up.
func TestMarkerIsLookedUpOnceWhileNoIDLeaves(t *testing.T) {
	is := is.New(t)
	memory := &memoryStore{}
	memory.put("apple", prunedRecord(100, "tttt"))
	in := newInbox[int64](failOnce(memory, func(call) { must(t, newInbox[int64](memory), event("other", "apple")) }))
	must(t, in, event("e1", "apple"))
	is.Equal(memory.looks, 2)
	is.Equal(in.Stats().Conflicts, int64(1))
}
