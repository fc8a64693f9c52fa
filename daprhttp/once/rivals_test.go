package once

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/matryer/is"
)

func TestCommitsNameTheRivals(t *testing.T) {
	is := is.New(t)
	c := commits("C.9 A.2 C.8 B.1 A.1")
	is.Equal(c.rivals("C"), 2)
	is.Equal(c.rivals("D"), 3)
	is.Equal(commits("").rivals("A"), 0)
	is.True(c.has("B.1") && !c.has("B.2") && !c.has("C") && !c.has(""))
	is.True(c.newestBy("C") && !c.newestBy("A") && !commits("").newestBy(""))
	is.Equal(c.with("B.2"), commits("B.2 C.9 A.2 C.8 B.1 A.1"))

	for i := range 30 { // if one author made all commits, only the newest is named
		c = c.with(fmt.Sprint("A.", i))
		is.Equal(c.rivals("A") == 0, i >= maxCommits-1)
	}
	is.Equal(c, commits("A.29"))
	a, b := newAuthor(), newAuthor()
	first, second := a.next(), a.next()
	is.True(first != second && first != b.next())
}

// No change of a hot key waits longer than its replicas take for a few commits each. The
// test runs in virtual time.
func TestReplicasShareAHotKeyFairly(t *testing.T) {
	for _, replicas := range []int{1, 2, 3, 8, 16} {
		for _, commit := range []time.Duration{time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond, 200 * time.Millisecond} {
			for _, ids := range []string{"UUIDv7", "client's keys"} {
				t.Run(fmt.Sprintf("%d replicas, commits of %v, %s", replicas, commit, ids), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) { testShare(t, replicas, commit, ids == "UUIDv7") })
				})
			}
		}
	}
}

func testShare(t *testing.T, replicas int, commit time.Duration, timed bool) {
	const perSecond, seconds = 100, 10 // of events of the hot key
	memory := &memoryStore{}
	random := newRandom(uint64(replicas))
	store := slow(memory, commit/2) // a commit is a read and a save
	var inboxes []*Inbox[int64]
	for range replicas {
		inboxes = append(inboxes, newInbox[int64](store))
	}
	var mu sync.Mutex
	var longest time.Duration // that a change waited
	var wg sync.WaitGroup
	for i := range perSecond * seconds {
		time.Sleep(time.Second / perSecond)
		id := fmt.Sprint("event ", i)
		if timed {
			id = uuid(time.Now(), i)
		}
		in := inboxes[random(replicas)]
		wg.Go(func() {
			began := time.Now()
			if r := must(t, in, event(id, "hot")); r.Duplicate {
				t.Errorf("event %d: %+v", i, r)
			}
			mu.Lock()
			defer mu.Unlock()
			longest = max(longest, time.Since(began))
		})
	}
	wg.Wait()
	conflicts := int64(0)
	for _, in := range inboxes {
		in.settle()
		conflicts += in.Stats().Conflicts
	}
	if got := storedRecord(t, memory, "hot").Value; got != -perSecond*seconds {
		t.Errorf("%d events are applied, want %d", -got, perSecond*seconds)
	}
	slowest := commit * 3 / 2
	if !timed {
		slowest += commit * 3 / 4 // for look-ups
	}
	t.Logf("the slowest change waited %v: %.1f slow commits of each replica; %d conflicts, %d look-ups",
		longest, float64(longest)/float64(slowest)/float64(replicas), conflicts, memory.looks)
	if bound := 3 * time.Duration(replicas+1) * slowest; longest > bound {
		t.Errorf("a change waited for %v, more than %v", longest, bound)
	}
}
