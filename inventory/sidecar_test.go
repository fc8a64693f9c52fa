package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/once"
)

// A fakeSidecar has a state store in memory, tells of itself, and keeps what is
// published.
type fakeSidecar struct {
	*httptest.Server

	mu        sync.Mutex
	values    map[string]string
	versions  map[string]int
	writes    int
	broken    bool     // the state store
	metadata  string   // what it tells of itself; nothing is an error
	published []string // URL and body

	publishStatus int
}

func newFakeSidecar(t *testing.T) *fakeSidecar {
	f := &fakeSidecar{values: make(map[string]string), versions: make(map[string]int), publishStatus: http.StatusNoContent}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1.0/metadata", func(w http.ResponseWriter, _ *http.Request) {
		if f.metadata == "" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, f.metadata)
	})
	mux.HandleFunc("POST /v1.0/publish/", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.published = append(f.published, r.URL.String()+" "+string(body))
		w.WriteHeader(f.publishStatus)
	})
	mux.HandleFunc("GET /v1.0/state/statestore/{key}", f.get)
	mux.HandleFunc("POST /v1.0/state/statestore/bulk", f.getBulk)
	mux.HandleFunc("POST /v1.0/state/statestore", f.save)
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	return f
}

func (f *fakeSidecar) client() *daprhttp.Client { return &daprhttp.Client{Endpoint: f.URL} }

func (f *fakeSidecar) newStocks() *once.Inbox[stock] {
	return once.New[stock](f.client(), "statestore", once.Options{})
}

// put stores a value as another program would.
func (f *fakeSidecar) put(key, value string) {
	f.values[key] = value
	f.versions[key]++
	f.writes++
}

// written reports whether anything was ever stored.
func (f *fakeSidecar) written() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writes > 0
}

func (f *fakeSidecar) get(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := r.PathValue("key")
	value, ok := f.values[key]
	switch {
	case f.broken:
		w.WriteHeader(http.StatusInternalServerError)
	case !ok:
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("ETag", strconv.Itoa(f.versions[key]))
		_, _ = io.WriteString(w, value)
	}
}

func (f *fakeSidecar) getBulk(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var request struct{ Keys []string }
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil || f.broken {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	values := []daprhttp.StateValue{}
	for _, key := range request.Keys {
		if value, ok := f.values[key]; ok {
			values = append(values, daprhttp.StateValue{Key: key, Value: json.RawMessage(value), ETag: strconv.Itoa(f.versions[key])})
		}
	}
	_ = json.NewEncoder(w).Encode(values)
}

func (f *fakeSidecar) save(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var items []struct {
		Key, ETag string
		Value     json.RawMessage
	}
	if err := json.NewDecoder(r.Body).Decode(&items); err != nil || f.broken {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	status := http.StatusNoContent
	for _, item := range items {
		current := ""
		if _, ok := f.values[item.Key]; ok {
			current = strconv.Itoa(f.versions[item.Key])
		}
		if item.ETag != current && !strings.HasPrefix(item.Key, "~") {
			status = http.StatusConflict
			continue
		}
		f.put(item.Key, string(item.Value))
	}
	w.WriteHeader(status)
}
