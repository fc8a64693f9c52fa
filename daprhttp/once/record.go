package once

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// format is the version of the records that are written. Versions 1 and 2 are read. A
// record of version 1 does not name its version (upgrade.go).
const format = 2

// errNewer means that a newer version of this package has written a record.
var errNewer = errors.New("the stored record has a newer format than this replica can read: upgrade the replica")

// A record is the content of a key in the state store.
type record[V any] struct {
	envelope
	Value V

	damaged error  // why the value or the IDs can't be read
	raw     []byte // the damaged record as it is stored; nil: another program wrote it
}

// envelope is a record as JSON.
type envelope struct {
	Format    int             `json:"once,omitempty"`
	JSON      json.RawMessage `json:"value"`               // the value; nil: the key is new
	IDs       idSet           `json:"ids,omitempty"`       // those of the changes in the value that have not left
	Watermark ID              `json:"watermark,omitempty"` // the greatest ID that ever left
	Pruned    string          `json:"pruned,omitempty"`    // the last commit that took IDs out
	Commits   commits         `json:"by,omitempty"`        // the latest commits
	Old       *oldMarkers     `json:"old,omitempty"`
}

// foreign reports whether the value is another program's and can't be decoded. Only a Set
// that succeeds may overwrite it.
func (r *record[V]) foreign() bool { return r.damaged != nil && r.raw == nil }

// encode returns the record to be saved as JSON. A damaged record is saved unchanged. If the
// zero value of a new key has no JSON, null is saved.
func (r *record[V]) encode() any {
	if r.damaged != nil {
		return json.RawMessage(r.raw)
	}
	e := r.envelope
	e.Format = format
	if e.JSON == nil {
		_ = safely("encoding", func() (err error) { e.JSON, err = json.Marshal(r.Value); return err })
	}
	return e
}

// decodeRecord decodes a record, or a bare value that another program left. If stored is
// nil, the key is new. An error means that the record must not be overwritten. A damaged
// record keeps the fields that can be read.
func decodeRecord[V any](stored []byte) (record[V], error) {
	var r record[V]
	if stored == nil {
		return r, nil
	}
	var e struct {
		envelope
		version1
	}
	damaged := json.Unmarshal(stored, &e) // it goes on after a field that it can't read
	switch {
	case e.Format > format:
		return r, errNewer
	case e.Format > 0:
	case e.version1.Commits != nil && e.JSON != nil:
		e.upgrade(&e.envelope)
	default:
		if err := r.decodeValue(stored); err != nil {
			r.damaged = fmt.Errorf("the stored value can't be decoded: %w", err)
		}
		r.JSON = stored
		return r, nil
	}
	r.envelope = e.envelope
	if !r.IDs.valid() {
		r.IDs, damaged = r.IDs.readable(), errors.New("its IDs are damaged")
	}
	// A watermark that can't be read is taken for the greatest: that costs look-ups.
	if e.Watermark != "" && !e.Watermark.valid() || e.Watermark == "" && damaged != nil && bytes.Contains(stored, []byte(`"watermark"`)) {
		r.Watermark, damaged = lastID, cmp.Or(damaged, errors.New("its watermark is damaged"))
	}
	if damaged = cmp.Or(damaged, r.decodeValue(e.JSON)); damaged != nil {
		r.damaged, r.raw = fmt.Errorf("the stored record can't be decoded: %w", damaged), stored
	}
	return r, nil
}

func (r *record[V]) decodeValue(text []byte) error {
	return safely("decoding", func() error { return json.Unmarshal(text, &r.Value) })
}

// safely calls a function of the caller or a method of V. A panic must not end the program:
// the redelivery would end the next replica.
func safely(what string, do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s panicked: %v", what, p)
		}
	}()
	return do()
}

// mayHaveLeft tells whether the ID of a change may have left the record.
func (r *record[V]) mayHaveLeft(id ID) bool {
	return id <= r.Watermark || r.Old.mayHave(id)
}

// takeOut takes IDs out of the record, and returns how many of them were in it.
func (r *record[V]) takeOut(ids idSet, commit string) int {
	if ids == "" {
		return 0
	}
	left := r.IDs.filter(ids.has)
	if left != "" {
		r.IDs = r.IDs.filter(func(id ID) bool { return !ids.has(id) })
		r.Watermark = max(r.Watermark, left.at(left.len()-1))
		r.Pruned = commit
	}
	return left.len()
}

// markerPrefix begins the keys of markers.
const markerPrefix = "~"

// markerKey returns the key of the marker that one change to a key has.
func markerKey(key string, id ID) string { return markerPrefix + hashOf(key) + "." + string(id) }

// sharedKey returns the key of the marker that the changes to a key share in a span.
func sharedKey(key string, span uint64) string {
	return markerPrefix + hashOf(key) + ".s" + strconv.FormatUint(span, 36)
}

// isMarker tells whether a key belongs to a marker.
func isMarker(key string) bool {
	return strings.HasPrefix(key, markerPrefix) && !strings.HasPrefix(key, markerPrefix+markerPrefix)
}

// markerKeys returns the keys under which the marker of a change may be.
func (r *record[V]) markerKeys(key string, id ID) []string {
	var keys []string
	if id <= r.Watermark {
		if span := id.span(); span != 0 {
			keys = append(keys, sharedKey(key, span))
		}
		keys = append(keys, markerKey(key, id))
	}
	if r.Old.mayHave(id) {
		keys = append(keys, oldMarkerKeys(key, id)...)
	}
	return keys
}

func hashOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return idEncoding.EncodeToString(sum[:12])
}

// recordKey returns the key under which a record is stored: the caller's key. A key that
// begins like a marker's, or has a character that some stores refuse, is escaped after
// two "~".
func recordKey(key string) string {
	if strings.HasPrefix(key, markerPrefix) || strings.ContainsAny(key, `/\?#`) {
		return markerPrefix + markerPrefix + keyEscapes.Replace(key)
	}
	return key
}

var keyEscapes = strings.NewReplacer("~", "~7E", "/", "~2F", `\`, "~5C", "?", "~3F", "#", "~23")
