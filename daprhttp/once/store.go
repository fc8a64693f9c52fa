package once

import (
	"context"
	"time"

	"example.com/dapr-orders/daprhttp"
)

// A store is what an [Inbox] needs of a state store.
type store interface {
	// read returns the value of a key. It misses nothing that was acknowledged
	// before.
	read(ctx context.Context, key string) (stored, error)

	// save writes a value if the key still has this ETag, or still has no value if
	// the ETag is empty. After an error the value may have been written or not. The
	// value of a marker expires.
	save(ctx context.Context, key, etag string, value any) error

	// mark writes a marker for each of some changes to a key, whether they exist or
	// not. After an error any of them may have been written.
	mark(ctx context.Context, key string, ids idSet) error
}

// stored is what a store has under a key.
type stored struct {
	value []byte // nil: nothing
	etag  string
}

// daprStore is a state store behind a sidecar.
type daprStore struct {
	sidecar     *daprhttp.Client
	name        string
	markerTTL   time.Duration
	consistency daprhttp.Consistency
}

func (s *daprStore) read(ctx context.Context, key string) (stored, error) {
	// A bulk read can't ask for strong consistency. Dapr 1.18.2 answers one that some
	// stores break off as if nothing were stored.
	v, err := s.sidecar.GetState(ctx, s.name, key, daprhttp.GetStateOptions{Consistency: s.consistency})
	return stored{v.Value, v.ETag}, err
}

func (s *daprStore) save(ctx context.Context, key, etag string, value any) error {
	item := daprhttp.StateItem{
		Key: key, Value: value, ETag: etag,
		Options: daprhttp.StateOptions{Concurrency: daprhttp.FirstWrite, Consistency: s.consistency},
	}
	if isMarker(key) {
		item.Metadata = s.expiry()
	}
	return s.sidecar.SaveState(ctx, s.name, item)
}

// expiry lets a marker expire.
func (s *daprStore) expiry() map[string]string {
	return daprhttp.TTL(int((s.markerTTL + time.Second - 1) / time.Second))
}

func (s *daprStore) mark(ctx context.Context, key string, ids idSet) error {
	items := make([]daprhttp.StateItem, 0, ids.len())
	for id := range ids.all() {
		items = append(items, daprhttp.StateItem{
			Key: markerKey(key, id), Value: id, Metadata: s.expiry(),
			Options: daprhttp.StateOptions{Consistency: s.consistency},
		})
	}
	return s.sidecar.SaveState(ctx, s.name, items...)
}
