package once

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"example.com/dapr-orders/daprhttp"
)

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
