package once

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"
)

// A memoryStore is a state store in memory. As some real stores do, it gives one error for
// every reason.
//
// It is a primary that can be cut off from its synchronous replica. Then it acknowledges
// no write, because the replica does not have it, but shows the write to every reader.
// When the replica takes its place, these writes are lost.
type memoryStore struct {
	mu     sync.Mutex
	values map[string]stored
	writes int // so far: the last ETag
	looks  int // reads of markers

	cutOff    bool
	partition string            // the key that is cut off; empty: every key
	replica   map[string]stored // what the replica has
}

var errFailed = errors.New("sidecar answered 500")

func (s *memoryStore) read(_ context.Context, key string) (stored, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if isMarker(key) {
		s.looks++
	}
	return s.values[key], nil
}

func (s *memoryStore) save(_ context.Context, key, etag string, value any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.values[key].etag != etag {
		return errFailed
	}
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	s.put(key, string(text))
	return s.acknowledge(key)
}

func (s *memoryStore) mark(_ context.Context, key string, ids idSet) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range ids.all() {
		s.put(markerKey(key, id), `"`+string(id)+`"`)
	}
	return s.acknowledge("")
}

// put stores the JSON of a value under a new ETag, as another program would.
func (s *memoryStore) put(key, value string) {
	if s.values == nil {
		s.values = make(map[string]stored)
	}
	s.writes++
	s.values[key] = stored{[]byte(value), strconv.Itoa(s.writes)}
}

func (s *memoryStore) acknowledge(key string) error {
	if s.cutOff && (s.partition == "" || s.partition == key) {
		return errFailed
	}
	return nil
}

// cut cuts the store, or the partition that has one key, off from the replica.
func (s *memoryStore) cut(partition string) {
	s.cutOff, s.partition, s.replica = true, partition, maps.Clone(s.values)
}

// failOver puts the replica in the place of the store. No ETag comes back.
func (s *memoryStore) failOver() {
	s.cutOff = false
	if s.partition != "" {
		s.values[s.partition] = s.replica[s.partition]
		return
	}
	s.values = s.replica
}

// markers returns how many markers are stored.
func (s *memoryStore) markers() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.values {
		if isMarker(key) {
			n++
		}
	}
	return n
}

// A call is a call of a method of a store. Saving a shared marker is a "mark".
type call struct {
	method string // "read", "save" or "mark"
	key    string
	value  any   // of a save
	ids    idSet // to be marked, if each one gets a marker of its own
	do     func() error
}

// A hooked store hands each call to its hook. The hook makes the call with call.do.
type hooked struct {
	store
	hook func(call) error
}

func (s hooked) read(ctx context.Context, key string) (found stored, err error) {
	err = s.hook(call{method: "read", key: key, do: func() error {
		found, err = s.store.read(ctx, key)
		return err
	}})
	return found, err
}

func (s hooked) save(ctx context.Context, key, etag string, value any) error {
	method := "save"
	if isMarker(key) {
		method = "mark"
	}
	return s.hook(call{method: method, key: key, value: value, do: func() error { return s.store.save(ctx, key, etag, value) }})
}

func (s hooked) mark(ctx context.Context, key string, ids idSet) error {
	return s.hook(call{method: "mark", key: key, ids: ids, do: func() error { return s.store.mark(ctx, key, ids) }})
}

// on returns a store that hands the calls of one method to a hook.
func on(method string, s store, hook func(call) error) store {
	return hooked{s, func(c call) error {
		if c.method == method {
			return hook(c)
		}
		return c.do()
	}}
}

// fail is the hook of calls that fail without effect.
func fail(call) error { return errFailed }

// failOnce returns a store whose first save fails. It calls instead in place of that save.
func failOnce(s store, instead func(call)) store {
	failed := false
	return on("save", s, func(c call) error {
		if failed {
			return c.do()
		}
		failed = true
		instead(c)
		return errFailed
	})
}

// flaky returns a store whose saves and markers fail at random: without effect, with an
// effect, or with a late effect.
func flaky(s store, seed uint64) store {
	random := newRandom(seed)
	return hooked{s, func(c call) error {
		fault, later := random(20), time.Duration(random(100))*time.Millisecond
		switch {
		case c.method == "read" || fault > 2:
			return c.do()
		case fault == 1:
			_ = c.do()
		case fault == 2:
			time.AfterFunc(later, func() { _ = c.do() })
		}
		return errFailed
	}}
}

// slow returns a store whose calls take latency, plus or minus a half, and longer for many
// markers. Half of the time passes before the call takes effect.
func slow(s store, latency time.Duration) store {
	random := newRandom(uint64(latency))
	sleep := func() { time.Sleep(latency/4 + time.Duration(random(int(latency/2)))) }
	return hooked{s, func(c call) error {
		sleep()
		defer sleep()
		time.Sleep(time.Duration(c.ids.len()) * latency / 50)
		return c.do()
	}}
}

// hold returns a store whose calls wait until the channel is closed.
func hold(s store) (store, chan struct{}) {
	goOn := make(chan struct{})
	return hooked{s, func(c call) error {
		<-goOn
		return c.do()
	}}, goOn
}

// newRandom returns a function that returns random numbers below n. Many goroutines may
// call it.
func newRandom(seed uint64) func(n int) int {
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(1, seed))
	return func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return random.IntN(n)
	}
}
