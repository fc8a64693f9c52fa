package once

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/daprtest"
)

// memoryStore is a state store in memory. As some real stores do, it gives one error for
// every reason.
type memoryStore struct {
	mu     sync.Mutex
	values map[string][]byte
	etags  map[string]int
	writes int
	looks  int // reads of markers
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

// A hooked store calls its functions, where they are set, instead of the methods of its
// store.
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
	if isMarker(key) && s.onMark != nil { // a marker that many IDs share
		if err := s.onMark(ctx, key, ""); err != nil {
			return err
		}
	}
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

// testStores calls f with a store in memory. If ONCE_SIDECAR holds the URL of a sidecar,
// it calls f with the sidecar's state store too.
func testStores(t *testing.T, f func(t *testing.T, s store)) {
	t.Run("memory", func(t *testing.T) { f(t, &memoryStore{}) })
	if endpoint := os.Getenv("ONCE_SIDECAR"); endpoint != "" {
		t.Run("sidecar", func(t *testing.T) {
			f(t, &daprStore{&daprhttp.Client{Endpoint: endpoint, APIToken: os.Getenv("DAPR_API_TOKEN")}, "statestore", time.Hour, daprhttp.Strong})
		})
	}
}

// The requests must ask the store for the promises that the invariants rely on.
func TestRequestsToTheStateStore(t *testing.T) {
	for _, tt := range []struct {
		options          Options
		consistency, ttl string
	}{
		{Options{}, "strong", "86400"},
		{Options{MarkerTTL: 1500 * time.Millisecond, Consistency: daprhttp.Eventual}, "eventual", "2"},
		{Options{MarkerTTL: time.Minute, DefaultConsistency: true}, "", "60"},
	} {
		is := is.New(t)
		sidecar := new(daprtest.Sidecar)
		sidecar.SetState("statestore", "apple", "100")
		in := New[int64](&daprhttp.Client{HTTPClient: sidecar.Client()}, "statestore", tt.options)
		in.author.name = "A"
		in.tuning.keep = func(int, int) int { return 0 }
		is.Equal(must(t, in, event("e1", "apple")), Result[int64]{Before: 100, After: 99})
		in.settle()
		var reads, saves []string
		for _, r := range sidecar.Requests() {
			if r.Method == http.MethodGet {
				reads = append(reads, r.Path+"?"+r.Query.Encode())
			} else {
				saves = append(saves, r.Body)
			}
		}
		query, options := "?", `"concurrency":"first-write"`
		markerOptions := ""
		if tt.consistency != "" {
			query = "?consistency=" + tt.consistency
			options += `,"consistency":"` + tt.consistency + `"`
			markerOptions = `,"options":{"consistency":"` + tt.consistency + `"}`
		}
		id := string(EventID("test", "e1"))
		is.Equal(reads[0], "/v1.0/state/statestore/apple"+query)
		is.Equal(saves[:2], []string{
			`[{"key":"apple","value":{"once":2,"value":99,"ids":"` + id + `","by":"A.1"},"etag":"1","options":{` + options + `}}]`,
			`[{"key":"` + markerKey("apple", ID(id)) + `","value":"` + id + `","metadata":{"ttlInSeconds":"` + tt.ttl + `"}` + markerOptions + `}]`,
		})
	}
}

// Markers expire. The records of keys that look like markers do not.
func TestMarkersExpireAndRecordsDoNot(t *testing.T) {
	is := is.New(t)
	sidecar := new(daprtest.Sidecar)
	s := &daprStore{sidecar: &daprhttp.Client{HTTPClient: sidecar.Client()}, name: "statestore", markerTTL: time.Minute}
	keys := []string{sharedKey("apple", 1), recordKey("apple"), recordKey("~apple"), recordKey("a/b"), recordKey(markerKey("apple", event("e1", "apple").ID))}
	for _, key := range keys {
		is.NoErr(s.save(t.Context(), key, "", 1))
	}
	for i, r := range sidecar.Requests() {
		is.Equal(strings.Contains(r.Body, "ttlInSeconds"), i == 0) // only the marker expires
	}
}

// newKey returns a key that no other test uses: the store of a sidecar outlives a test.
func newKey(t *testing.T) string {
	return fmt.Sprintf("%s %d", t.Name(), time.Now().UnixNano())
}
