package once

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Three replicas die and restart. Calls fail or take effect late. Callers give up. The
// publishers' clocks are late or early, and some events have no time.
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
	random := rand.New(rand.NewPCG(seed, 9))
	memory := &memoryStore{}
	keep, maxIDs, maxFuture := random.IntN(5), 5+random.IntN(10), random.IntN(3)
	var mu sync.Mutex // guards random, inboxes and kill
	var inboxes [replicas]*Inbox[int64]
	var kill [replicas]context.CancelFunc
	start := func(i int) {
		ctx, cancel := context.WithCancel(t.Context())
		dead := func() error {
			if ctx.Err() != nil {
				return errDead
			}
			time.Sleep(time.Millisecond)
			return ctx.Err()
		}
		s := flaky(memory, random.Uint64())
		inboxes[i] = newTestInbox(&hooked{
			onRead: func(ctx context.Context, key string) (stored, error) {
				if err := dead(); err != nil {
					return stored{}, err
				}
				return s.read(ctx, key)
			},
			onSave: func(ctx context.Context, key, etag string, value any) error {
				if err := dead(); err != nil {
					return err
				}
				return s.save(ctx, key, etag, value)
			},
			onMark: func(ctx context.Context, key string, ids idSet) error {
				if err := dead(); err != nil {
					return err
				}
				return s.mark(ctx, key, ids)
			},
		})
		inboxes[i].tuning = tuning{keep: func(int, int) int { return keep }, maxIDs: maxIDs, maxFuture: maxFuture}
		kill[i] = cancel
	}
	for i := range replicas {
		start(i)
	}
	var wg sync.WaitGroup
	mu.Lock()
	for n := range events {
		id := fmt.Sprint("event ", n)
		if random.IntN(4) > 0 {
			id = uuid(time.Now().Add(time.Duration(random.IntN(2000)-1000)*time.Millisecond), n)
		}
		c := event(id, fmt.Sprint("item ", n%2))
		for range deliveries {
			pause := time.Duration(random.IntN(3000)) * time.Millisecond
			wg.Go(func() {
				time.Sleep(pause)
				for {
					mu.Lock()
					in, patience := inboxes[random.IntN(replicas)], time.Duration(random.IntN(500))*time.Millisecond
					if random.IntN(20) == 0 {
						i := random.IntN(replicas)
						kill[i]()
						start(i)
					}
					mu.Unlock()
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					_, err := in.Apply(ctx, c)
					cancel()
					if err == nil {
						return
					}
				}
			})
		}
	}
	mu.Unlock()
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
