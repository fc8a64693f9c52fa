package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"example.com/dapr-orders/daprhttp"
)

// A store is what the ledger needs of a state store: reads, a compare-and-swap
// of one key, and writes that expire.
type store interface {
	// read returns what is stored under keys. Keys that have nothing, and only
	// those, may be left out.
	read(ctx context.Context, keys []string) (map[string]stored, error)

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

const stateStoreName = "statestore"

// daprStore is the state store behind a sidecar.
type daprStore struct {
	sidecar   *daprhttp.Client
	markerTTL time.Duration
}

func (s daprStore) read(ctx context.Context, keys []string) (map[string]stored, error) {
	found := make(map[string]stored, len(keys))
	if len(keys) > 1 {
		values, err := s.sidecar.GetBulkState(ctx, stateStoreName, keys, daprhttp.GetBulkStateOptions{})
		for _, v := range values {
			if v.Error != "" {
				found[v.Key] = stored{err: errors.New(v.Error)}
			} else {
				found[v.Key] = stored{v.Value, v.ETag, nil}
			}
		}
		var notJSON *json.SyntaxError
		if !errors.As(err, &notJSON) {
			return found, err
		}
		// One value that is no JSON spoils the answer for all: read each alone.
	}
	for _, key := range keys {
		v, err := s.sidecar.GetState(ctx, stateStoreName, key, daprhttp.GetStateOptions{Consistency: daprhttp.Strong})
		if err != nil {
			return nil, err
		}
		found[key] = stored{v.Value, v.ETag, nil}
	}
	return found, nil
}

func (s daprStore) save(ctx context.Context, writes []write) error {
	items := make([]daprhttp.StateItem, len(writes))
	for i, w := range writes {
		items[i] = daprhttp.StateItem{
			Key: w.key, Value: w.value, ETag: w.etag,
			Options: daprhttp.StateOptions{Concurrency: daprhttp.FirstWrite, Consistency: daprhttp.Strong},
		}
		if w.always {
			items[i].Options.Concurrency = ""
		}
		if w.expires {
			items[i].Metadata = daprhttp.TTL(int(s.markerTTL.Seconds()))
		}
	}
	return s.sidecar.SaveState(ctx, stateStoreName, items...)
}
