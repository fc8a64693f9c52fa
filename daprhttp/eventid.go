package daprhttp

import (
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// NewEventID returns a new event id: a UUID of version 7, which begins with the time. The
// time tells a subscriber that an event is newer than those that it has forgotten.
//
// See https://www.rfc-editor.org/rfc/rfc9562#section-5.7.
func NewEventID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	ms := time.Now().UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	id[6] = id[6]&0x0F | 0x70 // version
	id[8] = id[8]&0x3F | 0x80 // variant
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// EventTime returns the time in an event id, to the millisecond. It returns false unless the
// id is a UUID of version 7, or begins with such a UUID and a full stop.
func EventTime(id string) (time.Time, bool) {
	const length = 36
	if len(id) < length || len(id) > length && id[length] != '.' {
		return time.Time{}, false
	}
	if id[8] != '-' || id[13] != '-' || id[18] != '-' || id[23] != '-' {
		return time.Time{}, false
	}
	digits := id[:8] + id[9:13] + id[14:18] + id[19:23] + id[24:length]
	if !isHex(digits) || id[14] != '7' || !strings.Contains("89abAB", id[19:20]) {
		return time.Time{}, false
	}
	ms, _ := strconv.ParseUint(digits[:12], 16, 64) // 12 digits fit
	return time.UnixMilli(int64(ms)), ms > 0
}

// isHex reports whether a text has only hexadecimal digits.
func isHex(text string) bool { return strings.Trim(text, "0123456789abcdefABCDEF") == "" }
