package daprhttp

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
)

// A BulkEntry is one event of many that a sidecar delivers with one request, as
// a [Subscription] with BulkSubscribe asks for.
type BulkEntry struct {
	EntryID     string          // names the entry in the answer, and nothing else
	Event       json.RawMessage // see DecodeEvent
	ContentType string
}

// ErrNotBulk is wrapped by every error of [BulkEntries] for a body that is
// complete and no bulk delivery.
var ErrNotBulk = errors.New("not a bulk delivery")

const (
	// maxEntryBytes bounds the event of an entry: a sidecar takes 4 MiB at most for
	// a message, unless it is told otherwise, and base64 makes that a third more.
	maxEntryBytes = 6 << 20

	maxEntryText = 4 << 10 // of an entry's other fields
)

// BulkEntries reads the body of a bulk delivery, and yields the entries one by
// one, so that only one has to be in memory, or an error, which ends it. An event
// beyond 6 MiB is an error.
//
// It is for a program that wants no more than that; [DeliveryHandler] does all that
// a subscriber has to.
//
// See https://docs.dapr.io/reference/api/pubsub_api/#expected-http-request-for-bulk-subscribe.
func BulkEntries(body io.Reader) iter.Seq2[BulkEntry, error] {
	return func(yield func(BulkEntry, error) bool) {
		var event []byte
		room := func() ([]byte, int) { return event[:0], maxEntryBytes }
		err := scanBulk(body, room, func(e scannedEntry) error {
			if e.size > maxEntryBytes {
				return fmt.Errorf("an event is longer than %d bytes", maxEntryBytes)
			}
			event = e.event
			if !yield(BulkEntry{e.id, slices.Clone(e.event), e.contentType}, nil) {
				return errStopped
			}
			return nil
		})
		if err != nil && err != errStopped {
			yield(BulkEntry{}, fmt.Errorf("%w: %w", ErrNotBulk, err))
		}
	}
}

var errStopped = errors.New("the caller wants no more")

// A scannedEntry is an entry of a bulk as it is scanned.
type scannedEntry struct {
	id, contentType string
	event           []byte // what room returned, and the event behind it as far as it was kept
	tail            []byte // the end of an event that was not
	size            int    // of the event
}

// scanBulk goes through a bulk delivery and hands over each entry. room says where
// its event is to be kept: what it is appended to, and the length that this may
// have then.
func scanBulk(body io.Reader, room func() ([]byte, int), entry func(scannedEntry) error) error {
	s := newScanner(body)
	has := false
	err := s.members(func(name string) error {
		if name != "entries" {
			return s.skip()
		}
		has = true
		return s.each('[', ']', func() error {
			var e scannedEntry
			err := s.members(func(name string) (err error) {
				switch name {
				case "entryId":
					e.id, err = s.text(maxEntryText)
				case "contentType":
					e.contentType, err = s.text(maxEntryText)
				case "event":
					to, limit := room()
					s.tail = s.tail[:0]
					e.event, e.size, err = s.value(to, limit)
					e.tail = s.tail
				default:
					err = s.skip()
				}
				return err
			})
			if err != nil {
				return err
			}
			return entry(e)
		})
	})
	if err == nil && !has {
		err = errors.New(`it has no "entries"`)
	}
	return err
}

// A BulkResponse is what a subscriber answers to a bulk delivery, with HTTP
// status 200. What has no status in it is delivered again.
//
// Beware of StatusDrop: when a bulk has been delivered a second time, for some of
// its entries only, Dapr (seen in 1.18.2) moves another entry to the dead-letter topic,
// or none. A subscriber that can publish does better to do that by itself, as a
// [DeliveryHandler] does.
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
