package once

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	maxFailing   = 1 << 12         // keys that are remembered to fail
	failingAfter = 1 * time.Minute // for how long

	// A key that fails rests for factor times as long as its last try took, and a try may
	// take factor times as long as a save of another did; both within bounds.
	factor      = 10
	maxRest     = 10 * time.Second
	minPatience = 1 * time.Second
	maxPatience = 10 * time.Second
)

// failing remembers the keys whose changes were handed back because their saves kept
// failing. What comes for these is tried once, and by itself, so that nothing else waits
// for it again. And where failing takes long, because the store does not refuse but
// hangs, most is not tried at all: a sidecar that delivers one event after another has
// others to deliver. Nothing else depends on it.
type failing struct {
	mu   sync.Mutex
	keys map[string]*failure

	worked time.Time     // when the store last saved something
	took   time.Duration // how long that took
}

// A failure is what is known of a key that fails.
type failure struct {
	err         error
	first, last time.Time // when it failed
	rests       time.Time // until when it is not tried
	tried       bool      // at this moment
}

// add notes that a key keeps failing, and how long that took. It rests only when the store
// has saved something else meanwhile: one that was away is back for all.
func (f *failing) add(key string, took time.Duration, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := f.keys[key]
	if k == nil {
		if f.keys == nil || len(f.keys) >= maxFailing {
			f.keys = make(map[string]*failure)
		}
		k = new(failure)
		f.keys[key] = k
	}
	if time.Since(k.last) > 2*maxRest { // it is not the same that fails
		k.first = time.Now()
	}
	k.err, k.last = err, time.Now()
	if f.worked.After(k.first) {
		k.rests = k.last.Add(min(factor*took, maxRest))
	}
}

// has reports whether a key is known to fail.
func (f *failing) has(key string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.find(key) != nil
}

// find returns what is known of a key. The caller holds f.mu.
func (f *failing) find(key string) *failure {
	k := f.keys[key]
	if k != nil && time.Since(k.last) > failingAfter {
		delete(f.keys, key)
		return nil
	}
	return k
}

// saved notes that a key was saved, and how long that took.
func (f *failing) saved(key string, took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.keys, key)
	f.worked, f.took = time.Now(), took
}

// patience returns how long a commit of a key that is known to fail may take: much longer
// than that of another took, if there was one meanwhile.
func (f *failing) patience(key string) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if k := f.find(key); k == nil || !f.worked.After(k.first) {
		return maxPatience
	}
	return min(max(factor*f.took, minPatience), maxPatience)
}

// A trial is a call that may try keys that are known to fail.
type trial struct {
	*failing
	keys []string
}

// admit returns why a change of a key is not to be tried now, or nil.
func (t *trial) admit(key string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.find(key)
	switch {
	case k == nil || slices.Contains(t.keys, key):
		return nil
	case k.tried || time.Now().Before(k.rests):
		return fmt.Errorf("not tried yet, since another has failed: %w", k.err)
	}
	k.tried = true
	t.keys = append(t.keys, key)
	return nil
}

// end lets others try.
func (t *trial) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, key := range t.keys {
		if k := t.failing.keys[key]; k != nil {
			k.tried = false
		}
	}
}
