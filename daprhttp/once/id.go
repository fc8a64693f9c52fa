package once

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"

	"example.com/dapr-orders/daprhttp"
)

// An ID identifies an event. Its 24 characters encode the time of the event (6 bytes:
// milliseconds since 1970, or 0 if unknown) and a hash of its source and id (12 bytes).
// IDs sort by that time.
type ID string

const (
	idLength     = 24
	idTimeLength = 8
)

// idEncoding is base64 with characters in ascending order. IDs therefore sort like their
// bytes. They need no escaping in a URL.
var idEncoding = base64.NewEncoding(idCharacters).WithPadding(base64.NoPadding)

const (
	idCharacters = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
	lastID       = ID("zzzzzzzzzzzzzzzzzzzzzzzz")
)

// EventID returns the ID of the CloudEvent with this source and id. Two events with the
// same source and id are the same event.
//
// Give events UUIDs of version 7 as ids, or ids that begin with such a UUID and a full
// stop. Such an id tells the time of the event. A new event then needs no look-up.
//
// See https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#id.
func EventID(source, id string) ID {
	var ms uint64
	if madeAt, ok := daprhttp.EventTime(id); ok {
		ms = uint64(madeAt.UnixMilli())
	}
	return newID(ms, fmt.Appendf(nil, "%d:%s%s", len(source), source, id))
}

// newID returns the ID with this time and a hash of identity.
func newID(madeAt uint64, identity []byte) ID {
	var id [18]byte
	sum := sha256.Sum256(identity)
	binary.BigEndian.PutUint64(id[:], madeAt<<16)
	copy(id[6:], sum[:])
	return ID(idEncoding.EncodeToString(id[:]))
}

// valid tells whether [newID] can return the ID. Any other text would damage a record.
func (id ID) valid() bool {
	return len(id) == idLength && strings.Trim(string(id), idCharacters) == ""
}

// madeAt returns the time of the event, in milliseconds since 1970, or 0.
func (id ID) madeAt() uint64 {
	var ms [8]byte
	if len(id) != idLength {
		return 0
	}
	if _, err := idEncoding.Decode(ms[2:], []byte(id[:idTimeLength])); err != nil {
		return 0
	}
	return binary.BigEndian.Uint64(ms[:])
}

// span returns the number of the 8 ms interval in which the event happened, or 0.
func (id ID) span() uint64 { return id.madeAt() >> 3 }
