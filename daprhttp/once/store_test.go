package once

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"example.com/dapr-orders/daprhttp"
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

// A call is a call of a method of a store. To save a marker that many IDs share is to mark.
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

// testStores calls f with a store in memory. If ONCE_SIDECAR holds the URL of a sidecar,
// it calls f with the sidecar's state store too.
func testStores(t *testing.T, f func(t *testing.T, s store)) {
	t.Run("memory", func(t *testing.T) { f(t, &memoryStore{}) })
	if endpoint := os.Getenv("ONCE_SIDECAR"); endpoint != "" {
		t.Run("sidecar", func(t *testing.T) {
			client := &daprhttp.Client{Endpoint: endpoint, APIToken: os.Getenv("DAPR_API_TOKEN")}
			f(t, &daprStore{client, "statestore", time.Hour, daprhttp.Strong})
		})
	}
}

// newKey returns a key that no other test uses: the store of a sidecar outlives a test.
func newKey(t *testing.T) string {
	return fmt.Sprintf("%s %d", t.Name(), time.Now().UnixNano())
}

// newTestInbox returns an Inbox that keeps this many recent IDs in a record.
func newTestInbox(s store, keep int) *Inbox[int64] {
	in := newInbox[int64](s)
	in.tuning.keep = func(int, int) int { return keep }
	return in
}

// lower returns a change that lowers a value.
func lower(id ID, key string, by int64) Change[int64] {
	return Change[int64]{Key: key, ID: id, Apply: func(v int64) (int64, error) { return v - by, nil }}
}

// event returns the change of an event that lowers a value by one.
func event(id, key string) Change[int64] { return lower(EventID("test", id), key, 1) }

// timed returns the change of the event with this number, which happened at a time. It
// lowers the value of apple by one.
func timed(at time.Time, n int) Change[int64] { return event(uuid(at, n), "apple") }

// numbered returns the change of the event with this number. Its time is as many
// milliseconds after a moment in 1973.
func numbered(n int) Change[int64] { return timed(time.UnixMilli(1e11+int64(n)), n) }

// uuid returns a UUID of version 7.
func uuid(madeAt time.Time, n int) string {
	ms := madeAt.UnixMilli()
	return fmt.Sprintf("%08x-%04x-7000-8000-%012x", ms>>16, ms&0xffff, n)
}

// testID returns the ID of a name. If the name begins with "t", its length in seconds is
// the time of the ID.
func testID(name string) ID {
	var ms uint64
	if name[0] == 't' {
		ms = uint64(len(name)) * 1000
	}
	return newID(ms, []byte(name))
}

// testRecord returns a record as it is stored, with the IDs of these names.
func testRecord(value int, names ...string) string {
	var ids []ID
	for _, name := range names {
		ids = append(ids, testID(name))
	}
	return fmt.Sprintf(`{"once":2,"value":%d,"ids":"%s"}`, value, setOf(ids))
}

// prunedRecord returns a record as it is stored. IDs up to that of the name watermark have
// left it.
func prunedRecord(value int, watermark string) string {
	return fmt.Sprintf(`{"once":2,"value":%d,"pruned":"X.1","watermark":"%s"}`, value, testID(watermark))
}

// storedRecord returns the record of a key.
func storedRecord(t *testing.T, s store, key string) record[int64] {
	t.Helper()
	found, err := s.read(t.Context(), recordKey(key))
	if err != nil {
		t.Fatal(err)
	}
	r, err := decodeRecord[int64](found.value)
	if err != nil || r.damaged != nil {
		t.Fatal(err, r.damaged)
	}
	return r
}

// must applies a change and fails the test if that fails.
func must(t *testing.T, in *Inbox[int64], c Change[int64]) Result[int64] {
	t.Helper()
	r, err := in.Apply(t.Context(), c)
	if err != nil {
		t.Errorf("%s of %s: %v", c.ID, c.Key, err)
	}
	return r
}

// raceDetector tells whether the tests run with the race detector.
var raceDetector bool

var duplicate = Result[int64]{Duplicate: true}

// mustBeDuplicates fails the test if a replica that has just started does not recognise a
// redelivery of each change.
func mustBeDuplicates(t *testing.T, s store, changes []Change[int64]) {
	t.Helper()
	for _, c := range changes {
		if r := must(t, newInbox[int64](s), c); r != duplicate {
			t.Errorf("%s of %s is applied again: %+v", c.ID, c.Key, r)
		}
	}
}

// soon returns a context that ends soon.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// settle waits until all workers have ended.
func (in *Inbox[V]) settle() {
	for {
		in.mu.Lock()
		n := len(in.workers)
		in.mu.Unlock()
		if n == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}
