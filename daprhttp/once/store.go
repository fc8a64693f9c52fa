package once

import (
	"context"
	"math"
	"time"

	"example.com/dapr-orders/daprhttp"
)

// A store has the operations of a state store that an [Inbox] needs.
type store interface {
	// read returns the value of a key. It shows every save that was acknowledged
	// before.
	read(ctx context.Context, key string) (stored, error)

	// save writes a value if the key still has this ETag, or still has no value if
	// the ETag is empty. After an error the value may have been written. The value of
	// a marker expires.
	save(ctx context.Context, key, etag string, value any) error

	// mark writes a marker for each of these IDs, or writes it again. After an error
	// any of the markers may have been written.
	mark(ctx context.Context, key string, ids idSet) error
}

// stored is the value and the ETag of a key.
type stored struct {
	value []byte // nil: the store does not have the key
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
	// A bulk read can't ask for strong consistency. When a store breaks it off, Dapr 1.18.2
	// may answer as if the keys did not exist.
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

// expiry returns the metadata of a marker.
func (s *daprStore) expiry() map[string]string {
	return daprhttp.TTL(int(math.Ceil(s.markerTTL.Seconds())))
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
