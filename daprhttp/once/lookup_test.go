package once

import (
	"cmp"
	"math/rand/v2"
	"slices"
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
				random := rand.New(rand.NewPCG(1, 2))
				type delivery struct {
					Change[int64]
					at int
				}
				deliveries := make([]delivery, 2000)
				start := time.Now()
				for n := range deliveries {
					madeAt := start.Add(time.Duration(n) * 10 * time.Millisecond)
					if n%100 == 99 {
						madeAt = madeAt.Add(tt.ahead)
					}
					deliveries[n] = delivery{timed(madeAt, n), n + random.IntN(tt.inFlight)}
				}
				slices.SortStableFunc(deliveries, func(a, b delivery) int { return cmp.Compare(a.at, b.at) })
				memory := &memoryStore{}
				in := newInbox[int64](memory)
				var all []Change[int64]
				for _, d := range deliveries {
					time.Sleep(time.Until(start.Add(time.Duration(d.at) * 10 * time.Millisecond)))
					must(t, in, d.Change)
					all = append(all, d.Change)
				}
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
