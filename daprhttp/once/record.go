package once

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A record is what the state store holds under a key: the value, and what tells
// which changes are in it.
type record[V any] struct {
	Value V `json:"value"`

	// Latest and Older have the IDs of the changes that Value includes, but for
	// those that were taken out. An ID begins in Latest; with all the others it
	// becomes one of Older, and when all of these have markers, they are taken out.
	// Generation grows by one with either step.
	Latest     idSet `json:"latest,omitempty"`
	Older      idSet `json:"older,omitempty"`
	Generation int64 `json:"generation,omitempty"`

	// Watermark is the greatest ID that was ever taken out, but for IDs
	// from the future, which are in Ahead.
	Watermark ID     `json:"watermark,omitempty"`
	Ahead     *ahead `json:"ahead,omitempty"`

	// Commits names the latest commits.
	Commits commits `json:"commits"`
}

// ahead is the range of the IDs that were taken out of a record long before the
// time that is in them. They must not lift the watermark, or every order until
// then would be looked for among the markers.
type ahead struct {
	First ID    `json:"first"`
	Last  ID    `json:"last"`
	Until int64 `json:"until"` // milliseconds since 1970; then the last marker has expired
}

// clockSkew is by how much the clocks of publishers and replicas may differ
// before it costs anything. Nothing is counted wrong beyond it.
const clockSkew = 5 * time.Minute

// fromFuture reports whether an ID was made later than clocks can tell.
func fromFuture(id ID, now time.Time) bool {
	return id.madeAt() > uint64(now.Add(clockSkew).UnixMilli())
}

// has reports whether the record has the ID of a change.
func (r *record[V]) has(id ID) bool { return r.Latest.has(id) || r.Older.has(id) }

func (r *record[V]) ids() int { return r.Latest.len() + r.Older.len() }

// mayHaveMarker reports whether a change may have been taken out.
func (r *record[V]) mayHaveMarker(id ID) bool {
	return id <= r.Watermark || r.Ahead != nil && r.Ahead.First <= id && id <= r.Ahead.Last
}

// age makes the latest IDs older ones.
func (r *record[V]) age() {
	r.Older = r.Older.with(slices.Collect(r.Latest.all()))
	r.Latest = ""
	r.Generation++
}

// takeOut takes out the older IDs, all of which have markers that last for ttl.
func (r *record[V]) takeOut(now time.Time, ttl time.Duration) {
	older := r.Older
	r.Older = ""
	r.Generation++
	if a := r.Ahead; a != nil {
		switch {
		case a.Until < now.UnixMilli():
			r.Ahead = nil
		case !fromFuture(a.Last, now): // the time in them has come
			r.Watermark, r.Ahead = max(r.Watermark, a.Last), nil
		}
	}
	for id := range older.all() {
		if !fromFuture(id, now) {
			r.Watermark = max(r.Watermark, id)
			continue
		}
		a := ahead{First: id, Last: id}
		if r.Ahead != nil {
			a = ahead{First: min(r.Ahead.First, id), Last: max(r.Ahead.Last, id)}
		}
		a.Until = now.Add(ttl + clockSkew).UnixMilli()
		r.Ahead = &a // a new one: the record that was read still has the old one
	}
}

// decodeRecord reads a stored value. Nothing stored is a value never changed, and
// what is no record is a value that another program has left.
func decodeRecord[V any](stored []byte) (record[V], error) {
	if stored == nil {
		return record[V]{}, nil
	}
	var found struct {
		record[json.RawMessage]
		Commits *commits `json:"commits"`
	}
	if bytes.HasPrefix(stored, []byte("{")) && json.Unmarshal(stored, &found) == nil && found.Commits != nil && found.Value != nil {
		f := found.record
		r := record[V]{Latest: f.Latest, Older: f.Older, Generation: f.Generation, Watermark: f.Watermark, Ahead: f.Ahead, Commits: *found.Commits}
		if !r.Latest.valid() || !r.Older.valid() {
			return record[V]{}, errors.New("what is stored is no record: its IDs are none")
		}
		if err := json.Unmarshal(f.Value, &r.Value); err != nil {
			return record[V]{}, fmt.Errorf("the stored record has no value: %w", err)
		}
		return r, nil
	}
	var r record[V]
	if err := json.Unmarshal(stored, &r.Value); err != nil {
		return record[V]{}, fmt.Errorf("what is stored is no value: %w", err)
	}
	return r, nil
}

// markerPrefix begins the keys of markers.
const markerPrefix = "~"

// recordKey returns the key under which the record of a key of the user's is
// stored: the same, unless that begins like a marker or has a character that not
// every store takes in a key. Then it begins with two "~", as no marker does, and
// has these characters escaped.
func recordKey(key string) string {
	if strings.HasPrefix(key, markerPrefix) || strings.ContainsAny(key, `/\?#`) {
		return markerPrefix + markerPrefix + keyEscapes.Replace(key)
	}
	return key
}

var keyEscapes = strings.NewReplacer("~", "~7E", "/", "~2F", `\`, "~5C", "?", "~3F", "#", "~23")
