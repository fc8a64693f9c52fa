package once

import (
	"sync"
	"time"
)

const (
	maxFailing   = 1 << 12         // keys that are remembered to fail
	failingAfter = 1 * time.Minute // for how long
)

// failing remembers the keys whose changes were handed back because their saves kept
// failing. What comes for these is tried once, and by itself, so that nothing
// else waits for it again. Nothing else depends on it.
type failing struct {
	mu   sync.Mutex
	last map[string]time.Time // by key, when it last failed
}

func (f *failing) add(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last == nil || len(f.last) >= maxFailing {
		f.last = make(map[string]time.Time)
	}
	f.last[key] = time.Now()
}

func (f *failing) has(key string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	last, ok := f.last[key]
	if ok && time.Since(last) > failingAfter {
		delete(f.last, key)
		return false
	}
	return ok
}

func (f *failing) remove(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.last, key)
}
