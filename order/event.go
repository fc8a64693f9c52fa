package main

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"time"

	"example.com/dapr-orders/daprhttp"
)

const (
	keyHeader = "Idempotency-Key"

	// maxClockLead bounds how far a client's clock may be ahead of this service's.
	maxClockLead = 5 * time.Minute
)

// eventID returns the id of the event that publishes an order. Its errors are meant for
// the client.
//
// A request that is repeated with the same Idempotency-Key makes an event with the same id,
// which subscribers apply once. Another order under that key is another event, because two
// clients may use the same key by chance. The id begins with the key. A key that is a UUID of
// version 7 holds a time, and the id keeps it. Without a key the id is new.
func eventID(h http.Header, o order) (string, error) {
	keys := h.Values(keyHeader)
	switch len(keys) {
	case 0:
		return daprhttp.NewEventID(), nil
	case 1:
	default:
		return "", fmt.Errorf("the header %s must be given once", keyHeader)
	}
	if err := daprhttp.CheckKey(keys[0]); err != nil {
		return "", fmt.Errorf("the header %s %w", keyHeader, err)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%s%d:%s%d", len(o.OrderID), o.OrderID, len(o.ItemID), o.ItemID, o.Quantity))
	id := keys[0] + "." + base64.RawURLEncoding.EncodeToString(sum[:12])
	if madeAt, ok := daprhttp.EventTime(id); ok && time.Until(madeAt) > maxClockLead {
		return "", fmt.Errorf("the header %s is a UUID of version 7 whose time is more than %.0f minutes ahead: set the clock, or use another key",
			keyHeader, maxClockLead.Minutes())
	}
	return id, nil
}
