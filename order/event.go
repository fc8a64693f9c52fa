package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/once"
)

const (
	keyHeader = "Idempotency-Key"

	// maxAhead is how far the clock of a client may be ahead of this service's.
	maxAhead = 5 * time.Minute
)

// eventID returns the id of the event that an order in a request leads to. Its
// errors are meant for the client.
//
// A client that repeats a request with the same Idempotency-Key gets an event with
// the same id, which subscribers count once. Another order under that key is
// another event: it must not be taken for the first one, whose key it may have by
// chance. An id begins with the key, so that one that tells the time keeps it;
// without a key it is new.
func eventID(h http.Header, o order) (string, error) {
	keys := h.Values(keyHeader)
	switch len(keys) {
	case 0:
		return newUUID(time.Now()), nil
	case 1:
	default:
		return "", fmt.Errorf("the header %s must be given once", keyHeader)
	}
	if err := daprhttp.CheckKey(keys[0]); err != nil {
		return "", fmt.Errorf("the header %s %w", keyHeader, err)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%s%d:%s%d", len(o.OrderID), o.OrderID, len(o.ItemID), o.ItemID, o.Quantity))
	id := keys[0] + "." + base64.RawURLEncoding.EncodeToString(sum[:12])
	if madeAt, ok := once.EventTime(id); ok && time.Until(madeAt) > maxAhead {
		return "", fmt.Errorf("the header %s is a UUID of version 7 whose time is more than %.0f minutes ahead: set the clock, or use another key", keyHeader, maxAhead.Minutes())
	}
	return id, nil
}

// newUUID returns a UUID of version 7. It begins with the time, which lets a
// subscriber that remembers many events keep those of a moment together.
//
// See https://www.rfc-editor.org/rfc/rfc9562#section-5.7.
func newUUID(now time.Time) string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	ms := now.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	id[6] = id[6]&0x0F | 0x70 // version
	id[8] = id[8]&0x3F | 0x80 // variant
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}
