package once

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"
)

// An ID tells a change from all others. It has 24 characters: when the change was
// made, in milliseconds since 1970 (6 bytes; 0 where nothing tells), and a hash
// of what identifies it (12 bytes). IDs sort by that time.
type ID string

const (
	idLength     = 24
	idTimeLength = 8
)

// idEncoding is base64 with characters that are in order, so that IDs compare
// as what they encode, and that no URL changes.
var idEncoding = base64.NewEncoding("-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz").WithPadding(base64.NoPadding)

// EventID returns the ID of the change that a CloudEvent with this source and id
// stands for. Events are the same if, and only if, both are.
//
// Use ids that tell when the event was made, as UUIDs of version 7 do (see
// [EventTime]): the change then needs no look at a marker when it is new.
//
// See https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#id.
func EventID(source, id string) ID {
	return newID(uuidTime(id), fmt.Appendf(nil, "%d:%s%s", len(source), source, id))
}

// newID returns the ID of the change that identity tells from all others.
func newID(madeAt uint64, identity []byte) ID {
	var id [18]byte
	sum := sha256.Sum256(identity)
	binary.BigEndian.PutUint64(id[:], madeAt<<16)
	copy(id[6:], sum[:])
	return ID(idEncoding.EncodeToString(id[:]))
}

// madeAt returns when the change was made, in milliseconds since 1970, or 0.
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

// EventTime returns when the event with a CloudEvents id was made, if the id tells:
// if it is a UUID of version 7, or that, a full stop, and more.
//
// See https://www.rfc-editor.org/rfc/rfc9562#section-5.7.
func EventTime(id string) (madeAt time.Time, ok bool) {
	ms := uuidTime(id)
	return time.UnixMilli(int64(ms)), ms != 0
}

// uuidTime returns when the UUID of version 7 was made with which text begins, in
// milliseconds since 1970, and 0 for any other text.
func uuidTime(text string) uint64 {
	const length = 36
	if len(text) < length || text[8] != '-' || text[13] != '-' || text[14] != '7' {
		return 0
	}
	if len(text) > length && text[length] != '.' { // the text goes on with something of its own
		return 0
	}
	ms, err := strconv.ParseUint(text[:8]+text[9:13], 16, 64)
	if err != nil {
		return 0
	}
	return ms
}
