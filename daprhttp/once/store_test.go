package once

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"example.com/dapr-orders/daprhttp"
)

// memoryStore is a state store in memory. Like some real ones, it fails with the same
// error for every reason.
type memoryStore struct {
	mu     sync.Mutex
	values map[string][]byte
	etags  map[string]int
	writes int
	looks  int // markers that were looked for
}

var errFailed = errors.New("sidecar answered 500")

func (s *memoryStore) read(_ context.Context, key string) (stored, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if isMarker(key) {
		s.looks++
	}
	value, ok := s.values[key]
	if !ok {
		return stored{}, nil
	}
	return stored{value, strconv.Itoa(s.etags[key])}, nil
}

func isMarker(key string) bool { return len(key) > 1 && key[0] == '~' && key[1] != '~' }

func (s *memoryStore) save(_ context.Context, key, etag string, value any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	current := ""
	if _, ok := s.values[key]; ok {
		current = strconv.Itoa(s.etags[key])
	}
	if current != etag {
		return errFailed
	}
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	s.put(key, text)
	return nil
}

func (s *memoryStore) mark(_ context.Context, key string, ids idSet) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range ids.all() {
		s.put(markerKey(key, id), []byte(`"`+id+`"`))
	}
	return nil
}

// put stores a value under a new ETag.
func (s *memoryStore) put(key string, value []byte) {
	if s.values == nil {
		s.values, s.etags = make(map[string][]byte), make(map[string]int)
	}
	s.writes++
	s.values[key], s.etags[key] = value, s.writes
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

// A hooked store calls functions instead of the methods of another, where there are
// any.
type hooked struct {
	store
	onRead func(ctx context.Context, key string) (stored, error)
	onSave func(ctx context.Context, key, etag string, value any) error
	onMark func(ctx context.Context, key string, ids idSet) error
}

func (s *hooked) read(ctx context.Context, key string) (stored, error) {
	if s.onRead != nil {
		return s.onRead(ctx, key)
	}
	return s.store.read(ctx, key)
}

func (s *hooked) save(ctx context.Context, key, etag string, value any) error {
	if s.onSave != nil {
		return s.onSave(ctx, key, etag, value)
	}
	return s.store.save(ctx, key, etag, value)
}

func (s *hooked) mark(ctx context.Context, key string, ids idSet) error {
	if s.onMark != nil {
		return s.onMark(ctx, key, ids)
	}
	return s.store.mark(ctx, key, ids)
}

// testStores calls f with each store that an inbox is tried over. Where
// ONCE_SIDECAR holds the URL of a sidecar with a state store, that is one.
func testStores(t *testing.T, f func(t *testing.T, s store)) {
	t.Run("memory", func(t *testing.T) { f(t, &memoryStore{}) })
	if endpoint := os.Getenv("ONCE_SIDECAR"); endpoint != "" {
		t.Run("sidecar", func(t *testing.T) {
			f(t, &daprStore{&daprhttp.Client{Endpoint: endpoint, APIToken: os.Getenv("DAPR_API_TOKEN")}, "statestore", time.Hour, daprhttp.Strong})
		})
	}
}

// newKey returns a key that no other test uses: the store behind
// a sidecar outlives a test.
func newKey(t *testing.T) string {
	return fmt.Sprintf("%s %d", t.Name(), time.Now().UnixNano())
}
