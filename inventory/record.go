package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"example.com/dapr-orders/daprhttp"
)

// A record is what the state store holds under an item's key.
type record struct {
	// Quantity is the stock. It may be below zero: more was ordered than there
	// is, and it is not for a subscriber to deny it.
	Quantity int64 `json:"quantity"`

	// Latest has the IDs of the changes that Quantity includes, but for those
	// that were taken out because they have a marker.
	Latest idSet `json:"latest,omitempty"`

	// Marked is the greatest ID that was ever taken out of Latest. No change
	// with a greater one has a marker and is not in Latest.
	Marked string `json:"marked,omitempty"`

	// Commit names the commit that wrote the record, so that its author knows
	// it again after a save of which it never learned the end.
	Commit string `json:"commit,omitempty"`
}

// errUncountable is wrapped by the errors of a change that will fail again
// however often it is tried.
var errUncountable = errors.New("can't be counted")

// decodeRecord reads a stored value. Nothing stored is an item never seen, and a
// bare number is a quantity that another program has left.
func decodeRecord(value []byte) (record, error) {
	if value == nil {
		return record{}, nil
	}
	var quantity float64
	isObject := bytes.HasPrefix(value, []byte("{")) // which needs no look as a number
	if !isObject && string(value) != "null" && json.Unmarshal(value, &quantity) == nil {
		if quantity != math.Trunc(quantity) || math.Abs(quantity) > daprhttp.MaxInteger {
			return record{}, fmt.Errorf("%w: the stored stock %s is not an integer up to %d", errUncountable, value, int64(daprhttp.MaxInteger))
		}
		return record{Quantity: int64(quantity)}, nil
	}
	var r struct {
		record
		Quantity *int64 `json:"quantity"`
	}
	err := json.Unmarshal(value, &r)
	if err != nil || !r.Latest.valid() || r.Quantity == nil || *r.Quantity > daprhttp.MaxInteger || *r.Quantity < -daprhttp.MaxInteger {
		return record{}, fmt.Errorf("%w: what is stored for the item is not a stock record", errUncountable)
	}
	r.record.Quantity = *r.Quantity
	return r.record, nil
}

// A change is something that happens to the stock of one item, once.
type change struct {
	id       string // no other change has it
	itemID   string
	set      bool // to quantity; otherwise the stock falls by quantity
	quantity int64
}

// apply returns the stock after the change.
func (c change) apply(stock int64) (int64, error) {
	if c.set {
		return c.quantity, nil
	}
	if stock-c.quantity < -daprhttp.MaxInteger {
		return 0, fmt.Errorf("%w: the stock would fall below %d", errUncountable, int64(-daprhttp.MaxInteger))
	}
	return stock - c.quantity, nil
}

// markerPrefix begins the keys of markers.
const markerPrefix = "~"

// itemKey returns the key of an item's record: its ID, unless that begins like a
// marker or has a character that not every store takes in a key. Then it begins
// with two "~", as no marker does, and has these characters escaped.
func itemKey(itemID string) string {
	if strings.HasPrefix(itemID, markerPrefix) || strings.ContainsAny(itemID, `/\?#`) {
		return markerPrefix + markerPrefix + keyEscapes.Replace(itemID)
	}
	return itemID
}

var keyEscapes = strings.NewReplacer("~", "~7E", "/", "~2F", `\`, "~5C", "?", "~3F", "#", "~23")
