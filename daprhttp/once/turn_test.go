package once

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/matryer/is"
)

func TestLineOfReplicas(t *testing.T) {
	is := is.New(t)
	c := commits("C.9 A.2 C.8 B.1 A.1")
	is.Equal(c.before("C"), 2) // it saved last
	is.Equal(c.before("A"), 1)
	is.Equal(c.before("B"), 0)
	is.Equal(c.before("D"), 0) // it has not saved for long
	is.True(c.has("B.1") && !c.has("B.2") && !c.has("C") && !c.has(""))
	is.Equal(c.with("B.2"), commits("B.2 C.9 A.2 C.8 B.1 A.1"))

	for i := range 30 { // one that is alone names its latest commit alone, once the others are forgotten
		c = c.with(fmt.Sprint("A.", i))
		is.Equal(c.before("A") == 0, i >= maxCommits-1)
	}
	is.Equal(c, commits("A.29"))
}

func TestPaceOfOneKey(t *testing.T) {
	is := is.New(t)
	var p pace
	p.saved(10*time.Millisecond, 2)
	is.True(time.Until(p.due) > 15*time.Millisecond) // the others' turns
	pause, _ := p.read("2", false, 2)
	is.Equal(pause, time.Duration(0)) // once is enough

	p.failed(10*time.Millisecond, "2", errFailed)
	pause, fault := p.read("3", false, 1) // somebody else has saved, and one is before
	is.Equal(pause, 10*time.Millisecond)
	is.NoErr(fault)
	p.failed(10*time.Millisecond, "3", errFailed)
	pause, fault = p.read("3", false, 1) // nobody has: the store fails
	is.True(pause > 0 && pause <= 8*time.Millisecond)
	is.Equal(fault, errFailed)

	p.saved(time.Minute, 15) // a commit that hung
	is.True(time.Until(p.due) <= maxPause)
}

// lateStore is a store that takes its time.
type lateStore struct {
	store
	delay  time.Duration // half of a commit without look-ups, give or take a half
	mu     *sync.Mutex
	random *rand.Rand
}

func (s lateStore) sleep() {
	s.mu.Lock()
	d := s.delay/2 + time.Duration(s.random.Int64N(int64(s.delay)))
	s.mu.Unlock()
	time.Sleep(d / 2)
}

func (s lateStore) read(ctx context.Context, keys []string) (map[string]stored, error) {
	s.sleep()
	defer s.sleep()
	return s.store.read(ctx, keys)
}

func (s lateStore) readStrong(ctx context.Context, keys []string) map[string]stored {
	s.sleep()
	defer s.sleep()
	return s.store.readStrong(ctx, keys)
}

func (s lateStore) save(ctx context.Context, writes []write) error {
	s.sleep()
	defer s.sleep()
	return s.store.save(ctx, writes)
}

// Replicas that change the same value share it fairly: no change waits for longer
// than the replicas take for a few commits each, whoever they are, and none is
// handed back. This runs whole systems in virtual time.
func TestReplicasTakeTurns(t *testing.T) {
	for _, replicas := range []int{1, 2, 3, 8, 16} {
		for _, commit := range []time.Duration{time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond, 200 * time.Millisecond} {
			for _, ids := range []string{"UUIDv7", "client's keys"} {
				t.Run(fmt.Sprintf("%d replicas, commits of %v, %s", replicas, commit, ids), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) { testTurns(t, replicas, commit, ids == "UUIDv7") })
				})
			}
		}
	}
}

func testTurns(t *testing.T, replicas int, commit time.Duration, timed bool) {
	const perSecond, seconds = 100, 10 // orders for the hot key; and half as many for forty others
	memory := &memoryStore{}
	random := rand.New(rand.NewPCG(uint64(replicas), uint64(commit)))
	late := lateStore{memory, commit / 2, new(sync.Mutex), rand.New(rand.NewPCG(uint64(replicas), 0))}
	var inboxes []*Inbox[int64]
	for range replicas {
		inboxes = append(inboxes, newTestInbox(late))
	}
	var mu sync.Mutex
	var longest time.Duration
	var wg sync.WaitGroup
	start := time.Now()
	for i := range perSecond * seconds * 3 / 2 {
		time.Sleep(time.Until(start.Add(time.Duration(i) * time.Second / (perSecond * 3 / 2))))
		key := "hot"
		if i%3 == 2 {
			key = fmt.Sprint("item ", i%40)
		}
		id := fmt.Sprint("order ", i)
		if timed {
			id = uuid(time.Now(), i)
		}
		in := inboxes[random.IntN(replicas)]
		wg.Go(func() {
			began := time.Now()
			if r := in.Apply(t.Context(), event(id, key))[0]; r.Err != nil || r.Duplicate {
				t.Errorf("order %d: %+v", i, r)
			}
			mu.Lock()
			defer mu.Unlock()
			longest = max(longest, time.Since(began))
		})
	}
	wg.Wait()
	for _, in := range inboxes {
		in.settle()
	}
	if got := storedRecord(t, memory, "hot").Value; got != -perSecond*seconds {
		t.Errorf("%d orders are counted, want %d", -got, perSecond*seconds)
	}
	slowest := commit * 3 / 2
	if !timed {
		slowest += commit * 3 / 4 // for look-ups
	}
	bound := 3 * time.Duration(replicas+1) * slowest
	t.Logf("the longest wait was %v, as long as %.1f slow commits of each replica; the bound is %v", longest, float64(longest)/float64(slowest)/float64(replicas), bound)
	if longest > bound {
		t.Errorf("a change waited for %v, more than %v", longest, bound)
	}
}
