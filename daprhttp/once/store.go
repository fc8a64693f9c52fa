package once

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"example.com/dapr-orders/daprhttp"
)

// A store is what an [Inbox] needs of a state store: reads, a compare-and-swap of
// one key, and writes that expire.
type store interface {
	// read returns what is stored under keys, in one go. It may be out of date
	// and may miss what is there, as bulk reads of some stores do: it is good for
	// a save, which fails if it is wrong.
	read(ctx context.Context, keys []string) (map[string]stored, error)

	// readStrong returns what is stored under keys and misses nothing that was
	// acknowledged before.
	readStrong(ctx context.Context, keys []string) map[string]stored

	// save writes values, each only if its key still has the ETag it was read
	// with, or still has nothing. An error tells nothing of what was written.
	save(ctx context.Context, writes []write) error
}

// stored is what a store has under a key.
type stored struct {
	value []byte // nil: nothing
	etag  string
	err   error // the key could not be read, though others were
}

// A write is a value on its way into the store.
type write struct {
	key     string
	etag    string // of the value that it replaces; empty when there is none
	value   any
	expires bool // some time after it was last written
	always  bool // written whatever the key has
}

// daprStore is a state store behind a sidecar.
type daprStore struct {
	sidecar     *daprhttp.Client
	name        string
	markerTTL   time.Duration
	consistency daprhttp.Consistency // what reads and writes ask for
}

func (s daprStore) read(ctx context.Context, keys []string) (map[string]stored, error) {
	if len(keys) == 1 {
		return s.readStrong(ctx, keys), nil
	}
	values, err := s.sidecar.GetBulkState(ctx, s.name, keys, daprhttp.GetBulkStateOptions{})
	var notJSON *json.SyntaxError
	if errors.As(err, &notJSON) {
		// One value that is no JSON spoils the answer for all: read each alone.
		return s.readStrong(ctx, keys), nil
	}
	found := make(map[string]stored, len(keys))
	for _, v := range values {
		if v.Error != "" {
			found[v.Key] = stored{err: errors.New(v.Error)}
		} else {
			found[v.Key] = stored{v.Value, v.ETag, nil}
		}
	}
	return found, err
}

const (
	maxReads = 128              // keys read at the same time, each with a call of its own
	readTime = 10 * time.Second // for all of them
)

// readStrong reads each key alone: in a bulk, there is no asking for strong
// consistency, and stores have been seen whose bulk read, when it broke off,
// said of the rest that it was not there.
func (s daprStore) readStrong(ctx context.Context, keys []string) map[string]stored {
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	values := make([]stored, len(keys))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(len(keys), maxReads) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(keys)); i = next.Add(1) - 1 {
				v, err := s.sidecar.GetState(ctx, s.name, keys[i], daprhttp.GetStateOptions{Consistency: s.consistency})
				values[i] = stored{v.Value, v.ETag, err}
			}
		})
	}
	wg.Wait()
	found := make(map[string]stored, len(keys))
	for i, key := range keys {
		found[key] = values[i]
	}
	return found
}

func (s daprStore) save(ctx context.Context, writes []write) error {
	items := make([]daprhttp.StateItem, len(writes))
	for i, w := range writes {
		items[i] = daprhttp.StateItem{
			Key: w.key, Value: w.value, ETag: w.etag,
			Options: daprhttp.StateOptions{Concurrency: daprhttp.FirstWrite, Consistency: s.consistency},
		}
		if w.always {
			items[i].Options.Concurrency = ""
		}
		if w.expires {
			items[i].Metadata = daprhttp.TTL(int(s.markerTTL.Seconds()))
		}
	}
	return s.sidecar.SaveState(ctx, s.name, items...)
}
