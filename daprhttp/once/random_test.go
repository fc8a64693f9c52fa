package once

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Three replicas die and restart. Calls fail or take effect late. Callers give up. The
// publishers' clocks are late or early, by more than MarkerTTL too. Some events have no
// time.
func TestRandomRunsApplyEachEventOnce(t *testing.T) {
	runs := uint64(1000)
	if raceDetector || testing.Short() {
		runs = 60
	}
	for seed := range runs {
		synctest.Test(t, func(t *testing.T) { randomRun(t, seed) })
	}
}

func randomRun(t *testing.T, seed uint64) {
	const replicas, events, deliveries = 3, 40, 3
	random := newRandom(seed)
	memory := &memoryStore{}
	keep, maxFuture := random(5), random(3)
	maxIDs := keep + maxFuture + 1 + random(10)                    // a record that is full has IDs that can leave
	clock := time.Duration(1+random(2)*200_000) * time.Millisecond // the unit by which clocks are wrong
	var mu sync.Mutex
	var inboxes [replicas]*Inbox[int64]
	var kill [replicas]context.CancelFunc
	start := func(i int) {
		var process context.Context
		process, kill[i] = context.WithCancel(t.Context())
		inboxes[i] = newInbox[int64](hooked{flaky(memory, uint64(random(1e9))), func(c call) error {
			time.Sleep(time.Millisecond)
			if process.Err() != nil {
				return errFailed
			}
			return c.do()
		}})
		inboxes[i].tuning = tuning{keep: func(int, int) int { return keep }, maxIDs: maxIDs, maxFuture: maxFuture}
	}
	for i := range replicas {
		start(i)
	}
	pickReplica := func() *Inbox[int64] {
		mu.Lock()
		defer mu.Unlock()
		if random(20) == 0 {
			i := random(replicas)
			kill[i]()
			start(i)
		}
		return inboxes[random(replicas)]
	}
	var wg sync.WaitGroup
	for n := range events {
		id := fmt.Sprint("event ", n)
		if random(4) > 0 {
			id = uuid(time.Now().Add(time.Duration(random(2000)-1000)*clock), n)
		}
		for range deliveries {
			pause := time.Duration(random(3000)) * time.Millisecond
			wg.Go(func() {
				time.Sleep(pause)
				for err := context.Canceled; err != nil; {
					ctx, giveUp := context.WithTimeout(t.Context(), time.Duration(random(500))*time.Millisecond)
					_, err = pickReplica().Apply(ctx, event(id, fmt.Sprint("item ", n%2)))
					giveUp()
				}
			})
		}
	}
	wg.Wait()
	time.Sleep(time.Minute) // late effects
	for i, in := range inboxes {
		in.settle()
		kill[i]()
	}
	for i := range 2 {
		if got := storedRecord(t, memory, fmt.Sprint("item ", i)).Value; got != -events/2 {
			t.Errorf("seed %d: item %d is %d after %d events", seed, i, got, events/2)
		}
	}
}
