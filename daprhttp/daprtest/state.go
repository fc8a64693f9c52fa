package daprtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// State returns the content of a state store: the JSON of each value, by its key, without
// the prefix that Dapr puts before a key. Values that have expired are left out.
func (s *Sidecar) State(storeName string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	values := make(map[string]string)
	for key := range s.stores[storeName] {
		if v, ok := s.value(storeName, key); ok {
			values[key] = string(v.json)
		}
	}
	return values
}

// SetState stores the JSON of a value under a key, as another program would, without an
// expiry. The value gets a new ETag.
func (s *Sidecar) SetState(storeName, key, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(storeName, key, stateValue{json: []byte(value)})
}

// A stateValue is what a state store has under a key.
type stateValue struct {
	json    []byte
	etag    string
	expires time.Time // zero: never
}

// value returns what is stored under a key and has not expired.
func (s *Sidecar) value(storeName, key string) (stateValue, bool) {
	v, ok := s.stores[storeName][key]
	if !ok || !v.expires.IsZero() && !time.Now().Before(v.expires) {
		return stateValue{}, false
	}
	return v, true
}

// set stores a value under the next ETag.
func (s *Sidecar) set(storeName, key string, v stateValue) {
	if s.stores == nil {
		s.stores = make(map[string]map[string]stateValue)
	}
	if s.stores[storeName] == nil {
		s.stores[storeName] = make(map[string]stateValue)
	}
	s.writes++
	v.etag = strconv.Itoa(s.writes)
	s.stores[storeName][key] = v
}

// A stateItem is a key to save or to delete.
type stateItem struct {
	Key      string            `json:"key"`
	Value    any               `json:"value"` // in which numbers become float64, as in a sidecar
	ETag     string            `json:"etag"`
	Metadata map[string]string `json:"metadata"`
	Options  struct {
		Concurrency string `json:"concurrency"`
	} `json:"options"`
}

// A conflict is the error of a write that the store refuses.
type conflict struct {
	key    string
	status int
}

func (c conflict) Error() string {
	if c.status == http.StatusConflict {
		return "possible etag mismatch. error from state store: failed to set key " + c.key
	}
	return "failed to set key " + c.key
}

// check returns nil if an item may be written. The sidecar's own message and status are
// those that it has for Redis: an ETag that does not match is 409, a key that exists 500.
func (s *Sidecar) check(storeName string, item stateItem) error {
	current, exists := s.value(storeName, item.Key)
	switch {
	case item.Options.Concurrency == "last-write":
	case item.ETag != "" && item.ETag != current.etag:
		return conflict{item.Key, http.StatusConflict}
	case item.ETag == "" && item.Options.Concurrency == "first-write" && exists:
		return conflict{item.Key, http.StatusInternalServerError}
	}
	return nil
}

// save writes an item, if it may be written.
func (s *Sidecar) save(storeName string, item stateItem) error {
	if err := s.check(storeName, item); err != nil {
		return err
	}
	v := stateValue{json: encode(item.Value)}
	if text := item.Metadata["ttlInSeconds"]; text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("failed to parse ttl from metadata: %w", err)
		}
		if seconds > 0 { // otherwise the value does not expire
			v.expires = time.Now().Add(time.Duration(seconds) * time.Second)
		}
	}
	s.set(storeName, item.Key, v)
	return nil
}

// remove deletes the key of an item, if it may be written.
func (s *Sidecar) remove(storeName string, item stateItem) error {
	item.Options.Concurrency = "" // to delete a key that exists is no conflict
	if err := s.check(storeName, item); err != nil {
		return err
	}
	delete(s.stores[storeName], item.Key)
	return nil
}

// refuseState returns the answer to a call for a store or keys that can't be, or nil.
func (s *Sidecar) refuseState(storeName string, keys ...string) *answer {
	if !s.has(storeName) {
		a := refuse(http.StatusBadRequest, "ERR_STATE_STORE_NOT_FOUND", fmt.Sprintf("state store %s is not found", storeName))
		return &a
	}
	for _, key := range keys {
		if strings.Contains(key, "||") {
			a := refuse(http.StatusBadRequest, "ERR_MALFORMED_REQUEST", "input key/keyPrefix '"+key+"' can't contain '||'")
			return &a
		}
	}
	return nil
}

func malformed(err error) answer {
	return refuse(http.StatusBadRequest, "ERR_MALFORMED_REQUEST", err.Error())
}

func (s *Sidecar) getState(storeName, key string) answer {
	if a := s.refuseState(storeName, key); a != nil {
		return *a
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.value(storeName, key)
	if !ok {
		return noContent
	}
	a := jsonAnswer(http.StatusOK, v.json)
	a.header.Set("ETag", v.etag)
	return a
}

func (s *Sidecar) getBulkState(storeName string, r Request) answer {
	var request struct{ Keys []string }
	if a := s.refuseState(storeName); a != nil {
		return *a
	}
	if err := json.Unmarshal([]byte(r.Body), &request); err != nil {
		return malformed(err)
	}
	if a := s.refuseState(storeName, request.Keys...); a != nil {
		return *a
	}
	type value struct {
		Key  string          `json:"key"`
		Data json.RawMessage `json:"data,omitempty"`
		ETag string          `json:"etag,omitempty"`
	}
	values := make([]value, 0, len(request.Keys))
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range request.Keys {
		v, _ := s.value(storeName, key)
		values = append(values, value{key, v.json, v.etag})
	}
	return jsonAnswer(http.StatusOK, encode(values))
}

// saveState saves the items of a call. Like a sidecar, it saves those that it can.
func (s *Sidecar) saveState(storeName string, r Request) answer {
	var items []stateItem
	if a := s.refuseState(storeName); a != nil {
		return *a
	}
	if err := json.NewDecoder(strings.NewReader(r.Body)).Decode(&items); err != nil {
		return malformed(err)
	}
	for i, item := range items {
		if item.Key == "" {
			return malformed(fmt.Errorf(`"key" is a required field`))
		}
		if a := s.refuseState(storeName, item.Key); a != nil {
			return *a
		}
		if item.Metadata == nil {
			items[i].Metadata = make(map[string]string)
		}
		maps.Copy(items[i].Metadata, metadataOf(r))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var failed error
	for _, item := range items {
		if err := s.save(storeName, item); err != nil {
			failed = err
		}
	}
	return stateAnswer(failed, "ERR_STATE_SAVE", "failed saving state in state store "+storeName)
}

func (s *Sidecar) deleteState(storeName, key string, r Request) answer {
	if a := s.refuseState(storeName, key); a != nil {
		return *a
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.remove(storeName, stateItem{Key: key, ETag: r.Header.Get("If-Match")})
	return stateAnswer(err, "ERR_STATE_DELETE", "failed deleting state with key "+key)
}

// stateAnswer returns the answer to a write that failed with err, which may be nil.
func stateAnswer(err error, errorCode, message string) answer {
	if err == nil {
		return noContent
	}
	status := http.StatusInternalServerError
	if c, ok := err.(conflict); ok {
		status = c.status
	}
	return refuse(status, errorCode, message+": "+err.Error())
}

// stateTransaction carries out operations in their order. As on Redis, those beside one
// that fails stay done.
func (s *Sidecar) stateTransaction(storeName string, r Request) answer {
	var request struct {
		Operations []struct {
			Operation string    `json:"operation"`
			Request   stateItem `json:"request"`
		} `json:"operations"`
	}
	if a := s.refuseState(storeName); a != nil {
		return *a
	}
	if err := json.NewDecoder(strings.NewReader(r.Body)).Decode(&request); err != nil {
		return malformed(err)
	}
	for _, o := range request.Operations {
		if o.Operation != "upsert" && o.Operation != "delete" {
			return refuse(http.StatusBadRequest, "ERR_NOT_SUPPORTED_STATE_OPERATION", "operation type "+o.Operation+" not supported")
		}
		if a := s.refuseState(storeName, o.Request.Key); a != nil {
			return *a
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var failed error
	for _, o := range request.Operations {
		write := s.save
		if o.Operation == "delete" {
			write = s.remove
		}
		if err := write(storeName, o.Request); err != nil {
			failed = err
		}
	}
	if failed != nil {
		return refuse(http.StatusInternalServerError, "ERR_STATE_TRANSACTION", "error while executing state transaction: "+failed.Error())
	}
	return noContent
}
