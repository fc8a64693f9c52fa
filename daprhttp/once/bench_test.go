package once

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkApply delivers events as sidecars do, with many in flight for each replica. It
// reports how many events are applied in a second.
func BenchmarkApply(b *testing.B) {
	for _, latency := range []time.Duration{time.Millisecond, 10 * time.Millisecond} {
		for _, bench := range []struct {
			name           string
			replicas, keys int
			timed          bool
			inFlight       int // events, for each replica
		}{
			{"hot key", 1, 1, true, 50},
			{"hot key, one by one", 1, 1, true, 1},
			{"hot key, client's keys", 1, 1, false, 50},
			{"hot key, 3 replicas", 3, 1, true, 50},
			{"hot key, 3 replicas, client's keys", 3, 1, false, 50},
			{"1000 keys", 1, 1000, true, 50},
			{"1000 keys, 3 replicas", 3, 1000, true, 50},
		} {
			b.Run(fmt.Sprintf("%s, %v", bench.name, latency), func(b *testing.B) {
				memory := &memoryStore{}
				store := slow(memory, latency)
				var inboxes []*Inbox[int64]
				for range bench.replicas {
					inboxes = append(inboxes, newInbox[int64](store))
				}
				run := newAuthor().name
				var next atomic.Int64
				var wg sync.WaitGroup
				for r := range bench.replicas {
					for range bench.inFlight {
						wg.Go(func() {
							for {
								i := int(next.Add(1))
								if i > b.N {
									return
								}
								time.Sleep(time.Millisecond) // the sidecar delivers
								id := uuid(time.Now(), i)
								if !bench.timed {
									id = fmt.Sprint(run, i)
								}
								if _, err := inboxes[r].Apply(b.Context(), event(id, fmt.Sprint("item ", i%bench.keys))); err != nil {
									b.Error(err)
								}
							}
						})
					}
				}
				wg.Wait()
				var conflicts, commits int64
				for _, in := range inboxes {
					in.settle()
					conflicts += in.Stats().Conflicts
					commits += in.Stats().Commits
				}
				n := float64(b.N)
				b.ReportMetric(n/b.Elapsed().Seconds(), "events/s")
				b.ReportMetric(float64(commits)/n, "saves/event")
				b.ReportMetric(float64(conflicts)/n, "conflicts/event")
				b.ReportMetric(float64(memory.looks)/n, "look-ups/event")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
