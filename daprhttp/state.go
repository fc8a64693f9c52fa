package daprhttp

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

// Concurrency says whether a write succeeds when another writer came first. Empty
// leaves it to the state store.
//
// See https://docs.dapr.io/reference/api/state_api/#concurrency.
type Concurrency string

// FirstWrite lets the first of two writers win. A write fails if its ETag is not
// the stored one, or if it has no ETag and the key exists. With LastWrite every
// write succeeds. Some state stores are less strict: a write with an ETag succeeds if the key
// does not exist, and one without an ETag if the key was saved without FirstWrite.
const (
	FirstWrite Concurrency = "first-write"
	LastWrite  Concurrency = "last-write"
)

// Consistency says how much of a replicated store must agree. Empty leaves it
// to the state store.
//
// See https://docs.dapr.io/reference/api/state_api/#consistency.
type Consistency string

// A Strong read sees every write that was acknowledged before it. An Eventual
// read may not.
const (
	Eventual Consistency = "eventual"
	Strong   Consistency = "strong"
)

// StateOptions are the options of a write.
type StateOptions struct {
	Concurrency Concurrency `json:"concurrency,omitempty"`
	Consistency Consistency `json:"consistency,omitempty"`
}

// A StateItem is one key to save.
type StateItem struct {
	Key string `json:"key"`

	// Value is saved as its JSON. Dapr reads every number in it as a float64: an
	// integer beyond ±MaxInteger may change.
	Value any `json:"value,omitempty"`

	// ETag, unless it is empty, must be the stored one. Otherwise the write fails.
	// Set Options.Concurrency to FirstWrite, too: with LastWrite, some stores ignore the
	// ETag.
	ETag string `json:"etag,omitempty"`

	Metadata map[string]string `json:"metadata,omitempty"` // such as TTL(60)
	Options  StateOptions      `json:"options,omitzero"`
}

// SaveState saves items, one or many.
//
// After an error, any of the items may have been saved. A program that must know
// reads the keys again. When an ETag does not match, the [*Error] has the status
// 409 on most stores, and 500 on some.
//
//	POST /v1.0/state/<storename>
//
// See https://docs.dapr.io/reference/api/state_api/#save-state.
func (c *Client) SaveState(ctx context.Context, storeName string, items ...StateItem) error {
	_, err := c.doJSON(ctx, request{method: http.MethodPost, path: statePath(storeName)}, items)
	return err
}

// A StateValue is the stored value of a key, with its ETag.
type StateValue struct {
	Key   string          `json:"key"`
	Value json.RawMessage `json:"data"` // nil: the store has no such key
	ETag  string          `json:"etag"`

	// Error says why GetBulkState could not read this key. GetState returns an
	// error instead.
	Error string `json:"error"`
}

// GetStateOptions are the options of [Client.GetState].
type GetStateOptions struct {
	Consistency Consistency
	Metadata    map[string]string
}

// GetState reads one key. If the store does not have the key, the Value is nil and so is
// the error. The keys "", "." and ".." are errors: they can't be part of a URL's path.
// GetBulkState and StateTransaction take them.
//
//	GET /v1.0/state/<storename>/<key>[?consistency=<consistency>&<metadata>]
//
// See https://docs.dapr.io/reference/api/state_api/#get-state.
func (c *Client) GetState(ctx context.Context, storeName, key string, o GetStateOptions) (StateValue, error) {
	path, err := stateKeyPath(storeName, key)
	if err != nil {
		return StateValue{}, err
	}
	query := metadataQuery(o.Metadata)
	setNotEmpty(query, "consistency", string(o.Consistency))
	a, err := c.do(ctx, request{method: http.MethodGet, path: path, query: query})
	if err != nil {
		return StateValue{}, err
	}
	v := StateValue{Key: key}
	if a.status != http.StatusNoContent {
		v.Value, v.ETag = a.body, a.header.Get("ETag")
	}
	return v, nil
}

// GetBulkStateOptions are the options of [Client.GetBulkState].
type GetBulkStateOptions struct {
	Parallelism int // how many keys the sidecar reads at once; zero leaves it to Dapr
	Metadata    map[string]string
}

// GetBulkState reads many keys with one call. The values come in any order. A
// store may leave out keys that it does not have. A key that can't be read has an
// Error.
//
//	POST /v1.0/state/<storename>/bulk[?<metadata>]
//
// See https://docs.dapr.io/reference/api/state_api/#get-bulk-state.
func (c *Client) GetBulkState(ctx context.Context, storeName string, keys []string, o GetBulkStateOptions) ([]StateValue, error) {
	read := request{method: http.MethodPost, path: statePath(storeName) + "/bulk", query: metadataQuery(o.Metadata)}
	a, err := c.doJSON(ctx, read, struct {
		Keys        []string `json:"keys"`
		Parallelism int      `json:"parallelism"`
	}{keys, o.Parallelism})
	if err != nil {
		return nil, err
	}
	// Dapr answers 200 with an empty body when a value is not JSON.
	var values []StateValue
	if err := json.Unmarshal(a.body, &values); err != nil {
		return nil, fmt.Errorf("daprhttp: %s %s: the answer is not the JSON that the Dapr reference describes: %w", read.method, read.path, err)
	}
	return values, nil
}

// DeleteState deletes the key of an item, and ignores its Value. Deleting a key that does
// not exist is an error only with an ETag, and not on all state stores.
//
//	DELETE /v1.0/state/<storename>/<key>[?concurrency=<concurrency>&consistency=<consistency>&<metadata>]
//
// See https://docs.dapr.io/reference/api/state_api/#delete-state.
func (c *Client) DeleteState(ctx context.Context, storeName string, item StateItem) error {
	path, err := stateKeyPath(storeName, item.Key)
	if err != nil {
		return err
	}
	query := metadataQuery(item.Metadata)
	setNotEmpty(query, "concurrency", string(item.Options.Concurrency))
	setNotEmpty(query, "consistency", string(item.Options.Consistency))
	_, err = c.do(ctx, request{method: http.MethodDelete, path: path, query: query, ifMatch: item.ETag})
	return err
}

// A StateOperation is one step of a transaction.
type StateOperation struct {
	Operation string    `json:"operation"` // "upsert" or "delete"
	Request   StateItem `json:"request"`
}

// StateTransaction carries out operations in their order, on stores that have
// transactions. Not every store is atomic: on some, operations before and after a
// failed one take effect.
//
//	POST /v1.0/state/<storename>/transaction
//
// See https://docs.dapr.io/reference/api/state_api/#state-transactions.
func (c *Client) StateTransaction(ctx context.Context, storeName string, operations []StateOperation, metadata map[string]string) error {
	_, err := c.doJSON(ctx, request{method: http.MethodPost, path: statePath(storeName) + "/transaction"}, struct {
		Operations []StateOperation  `json:"operations"`
		Metadata   map[string]string `json:"metadata,omitempty"`
	}{operations, metadata})
	return err
}

// TTL returns the metadata of a value that expires after this many seconds. The number must
// be at least 1.
func TTL(seconds int) map[string]string {
	return map[string]string{"ttlInSeconds": strconv.Itoa(seconds)}
}

func statePath(storeName string) string {
	return "/v1.0/state/" + segment(storeName)
}

func stateKeyPath(storeName, key string) (string, error) {
	if key == "" || key == "." || key == ".." {
		return "", fmt.Errorf("daprhttp: the key %q can't be part of a URL's path", key)
	}
	return statePath(storeName) + "/" + segment(key), nil
}
