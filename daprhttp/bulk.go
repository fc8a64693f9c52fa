package daprhttp

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
)

// A BulkEntry is one event of many that a sidecar delivers with one request, as
// a [Subscription] with BulkSubscribe asks for.
type BulkEntry struct {
	EntryID     string          `json:"entryId"` // names the entry in the answer, and nothing else
	Event       json.RawMessage `json:"event"`   // see DecodeEvent
	ContentType string          `json:"contentType"`
}

// ErrNotBulk is wrapped by every error of [BulkEntries] for a body that is
// complete and no bulk delivery.
var ErrNotBulk = errors.New("not a bulk delivery")

// maxEntryBytes bounds an entry: a sidecar takes 4 MiB at most for a message,
// unless it is told otherwise, and an encoding in base64 makes that a third more.
const maxEntryBytes = 16 << 20

// BulkEntries reads the body of a bulk delivery, and yields the entries one by
// one, so that only one has to be in memory, or an error, which ends it.
//
// See https://docs.dapr.io/reference/api/pubsub_api/#expected-http-request-for-bulk-subscribe.
func BulkEntries(body io.Reader) iter.Seq2[BulkEntry, error] {
	return func(yield func(BulkEntry, error) bool) {
		limited := &io.LimitedReader{R: body}
		decoder := json.NewDecoder(limited)
		delim := func(want json.Delim) error {
			limited.N = maxEntryBytes
			token, err := decoder.Token()
			if err == nil && token != want {
				err = fmt.Errorf("it has %v instead of %v", token, want)
			}
			return err
		}
		entries := func() error {
			if err := delim('['); err != nil {
				return err
			}
			for decoder.More() {
				var e BulkEntry
				limited.N = maxEntryBytes
				if err := decoder.Decode(&e); err != nil {
					return err
				}
				if !yield(e, nil) {
					return errStopped
				}
			}
			return delim(']')
		}
		has := false
		err := delim('{')
		for err == nil && decoder.More() {
			var name json.Token
			limited.N = maxEntryBytes
			if name, err = decoder.Token(); err != nil {
				break
			}
			if name == "entries" {
				has = true
				err = entries()
			} else {
				err = decoder.Decode(new(json.RawMessage))
			}
		}
		if err == nil {
			err = delim('}')
		}
		if err == nil && !has {
			err = errors.New(`it has no "entries"`)
		}
		if err != nil && err != errStopped {
			yield(BulkEntry{}, fmt.Errorf("%w: %w", ErrNotBulk, err))
		}
	}
}

var errStopped = errors.New("the caller wants no more")

// A BulkResponse is what a subscriber answers to a bulk delivery, with HTTP
// status 200. What has no status in it is delivered again.
//
// Beware of StatusDrop: when a bulk has been delivered a second time, for some of
// its entries only, Dapr 1.18 moves another entry to the dead-letter topic, or
// none. A subscriber that can publish does better to do that by itself.
//
// See https://docs.dapr.io/reference/api/pubsub_api/#expected-http-response-for-bulk-subscribe.
type BulkResponse struct {
	Statuses []BulkStatus `json:"statuses"`
}

// A BulkStatus is the status of one entry.
type BulkStatus struct {
	EntryID string `json:"entryId"`
	Status  Status `json:"status"`
}
