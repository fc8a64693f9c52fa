package once

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"example.com/dapr-orders/daprhttp"
)

// memoryStore is a state store in memory that is as unhelpful as real ones are:
// it writes some of many values and fails with the same error for everything.
type memoryStore struct {
	atomic bool // of many writes all take effect or none, as in stores that save in a transaction

	mu     sync.Mutex
	values map[string][]byte
	etags  map[string]int
	writes int
}

func (s *memoryStore) read(_ context.Context, keys []string) (map[string]stored, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := make(map[string]stored)
	for _, key := range keys {
		if value, ok := s.values[key]; ok {
			found[key] = stored{value: value, etag: strconv.Itoa(s.etags[key])}
		}
	}
	return found, nil
}

func (s *memoryStore) readStrong(ctx context.Context, keys []string) map[string]stored {
	found, _ := s.read(ctx, keys) // never fails
	return found
}

var errFailed = errors.New("sidecar answered 500")

func (s *memoryStore) save(_ context.Context, writes []write) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var failed error
	values, etags := maps.Clone(s.values), maps.Clone(s.etags)
	for _, w := range writes {
		current := ""
		if _, ok := s.values[w.key]; ok {
			current = strconv.Itoa(s.etags[w.key])
		}
		if current != w.etag && !w.always {
			failed = errFailed
			continue
		}
		value, err := json.Marshal(w.value)
		if err != nil {
			panic(err)
		}
		s.put(w.key, value)
	}
	if failed != nil && s.atomic {
		s.values, s.etags = values, etags
	}
	return failed
}

// put stores a value under a new ETag.
func (s *memoryStore) put(key string, value []byte) {
	if s.values == nil {
		s.values, s.etags = make(map[string][]byte), make(map[string]int)
	}
	s.writes++
	s.values[key], s.etags[key] = value, s.writes
}

// written reports whether anything was ever written.
func (s *memoryStore) written() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writes > 0
}

// testStores calls f with each store that an inbox is tried over. Where
// ONCE_SIDECAR holds the URL of a sidecar with a state store, that is one.
func testStores(t *testing.T, f func(t *testing.T, s store)) {
	t.Run("memory", func(t *testing.T) { f(t, &memoryStore{}) })
	t.Run("atomic memory", func(t *testing.T) { f(t, &memoryStore{atomic: true}) })
	if endpoint := os.Getenv("ONCE_SIDECAR"); endpoint != "" {
		t.Run("sidecar", func(t *testing.T) {
			f(t, daprStore{&daprhttp.Client{Endpoint: endpoint, APIToken: os.Getenv("DAPR_API_TOKEN")}, "statestore", time.Hour, daprhttp.Strong})
		})
	}
}

// newKey returns a key that no other test uses: the store behind
// a sidecar outlives a test.
func newKey(t *testing.T) string {
	return fmt.Sprintf("%s %d", t.Name(), time.Now().UnixNano())
}
