package once

import (
	"context"
	"slices"
	"sync"
)

// readAhead reads a record again as soon as it was saved, for the next commit of
// its key, which then need not wait for it. A record may be as old as it likes: if
// it is out of date, its save fails.
//
// It is for a replica that is alone with the key. With rivals, what was read ahead
// would be out of date most of the time. And it is for keys that are saved again soon:
// for others it would be a read more.
type readAhead struct {
	store store // nil: nothing is read ahead

	mu      sync.Mutex
	records map[string]<-chan stored // by key in the store
	saved   [maxAhead]string         // the keys that were saved last
	saves   int
}

const maxAhead = 64 // records; beyond, none is kept

// start begins to read a record, if it was saved a short while ago, too.
func (a *readAhead) start(ctx context.Context, key string) {
	if a.store == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	again := slices.Contains(a.saved[:], key)
	a.saved[a.saves%len(a.saved)] = key
	a.saves++
	if !again {
		return
	}
	if a.records == nil || len(a.records) >= maxAhead {
		a.records = make(map[string]<-chan stored)
	}
	read := make(chan stored, 1)
	a.records[key] = read
	go func() { read <- a.store.readStrong(ctx, []string{key})[key] }()
}

// drop forgets what was read ahead: the keys are read anew, and what is older than
// that must not be taken after it.
func (a *readAhead) drop(keys []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, key := range keys {
		delete(a.records, key)
	}
}

// take returns what was read ahead for a key, once, if it could be read.
func (a *readAhead) take(key string) (stored, bool) {
	a.mu.Lock()
	read := a.records[key]
	delete(a.records, key)
	a.mu.Unlock()
	if read == nil {
		return stored{}, false
	}
	s := <-read
	return s, s.err == nil
}
