package once

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// Records of version 1 are read, and saved as version 2. IDs that left them have markers
// of another form, which hold many IDs. These are looked for and no longer written. They
// expire within Options.MarkerTTL of the upgrade. A key keeps its record of version 1 until
// its next change. When no such marker and record is left, all but markerHas can be removed.

// version1 has the fields that only records of version 1 have.
type version1 struct {
	Latest  idSet    `json:"latest"`
	Older   idSet    `json:"older"`
	Ahead   *idRange `json:"ahead"`
	Commits *string  `json:"commits"`
}

// oldMarkers tells which IDs may have a marker of version 1.
type oldMarkers struct {
	Watermark ID       `json:"watermark,omitempty"`
	Ahead     *idRange `json:"ahead,omitempty"` // IDs from the future
}

type idRange struct {
	First ID `json:"first"`
	Last  ID `json:"last"`
}

// upgrade makes an envelope of version 2.
func (v version1) upgrade(e *envelope) {
	e.IDs = v.Latest + " " + v.Older
	if v.Latest.valid() && v.Older.valid() {
		e.IDs = e.IDs.readable()
	}
	if e.Watermark != "" || v.Ahead != nil {
		e.Old = &oldMarkers{e.Watermark, v.Ahead}
	}
	e.Watermark = ""
}

func (o *oldMarkers) mayHave(id ID) bool {
	return o != nil && (id <= o.Watermark || o.Ahead != nil && o.Ahead.First <= id && id <= o.Ahead.Last)
}

// oldMarkerKeys returns the keys under which version 1 may have put the marker of a
// change: that of the event alone, and those of spans of 16 ms, 128 ms and so on.
func oldMarkerKeys(key string, id ID) []string {
	keys := []string{markerPrefix + string(id)}
	for span := range 7 {
		if ms := id.madeAt(); ms != 0 {
			number := strconv.FormatUint(ms>>(4+3*span), 36)
			keys = append(keys, markerPrefix+hashOf(key)+"."+strconv.Itoa(span)+"."+number)
		}
	}
	return keys
}

// markerHas tells whether a marker of version 1 or 2 has an ID. A marker that can't be
// decoded does not prove that it lacks the ID.
func markerHas(value []byte, id ID) (bool, error) {
	var ids idSet
	if value == nil {
		return false, nil
	}
	if err := json.Unmarshal(value, &ids); err != nil || ids == "" || !ids.valid() {
		return false, fmt.Errorf("a marker can't be decoded: %.100q", value)
	}
	return ids.has(id), nil
}
