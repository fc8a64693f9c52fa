package daprtest

import (
	"cmp"
	"encoding/json"
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
	for k := range s.state {
		if v := s.value(k); k.store == storeName && v.etag != "" {
			values[k.key] = string(v.json)
		}
	}
	return values
}

// SetState stores the JSON of a value under a key, as another program would, without an
// expiry. The value gets a new ETag.
func (s *Sidecar) SetState(storeName, key, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(stateKey{storeName, key}, stateValue{json: []byte(value)})
}

type stateKey struct{ store, key string }

type stateValue struct {
	json    []byte
	etag    string    // empty: the store does not have the key
	expires time.Time // zero: never
}

// value returns the value of a key, unless it has expired.
func (s *Sidecar) value(k stateKey) stateValue {
	v := s.state[k]
	if !v.expires.IsZero() && !time.Now().Before(v.expires) {
		return stateValue{}
	}
	return v
}

// set stores a value under the next ETag.
func (s *Sidecar) set(k stateKey, v stateValue) {
	if s.state == nil {
		s.state = make(map[stateKey]stateValue)
	}
	s.writes++
	v.etag = strconv.Itoa(s.writes)
	s.state[k] = v
}

// An operation changes one key of a store.
type operation struct {
	Operation string    `json:"operation"` // "upsert" or "delete"
	Request   stateItem `json:"request"`
}

type stateItem struct {
	Key      string `json:"key"`
	Value    any    `json:"value"` // its numbers become float64, as in a sidecar
	ETag     string `json:"etag"`
	Metadata struct {
		TTLInSeconds string `json:"ttlInSeconds"`
	} `json:"metadata"`
	Options struct {
		Concurrency string `json:"concurrency"`
	} `json:"options"`
}

// write carries out operations in their order. Like Redis, it goes on after an operation
// that fails. The answer then has errorCode, and its text begins with message.
func (s *Sidecar) write(storeName, errorCode, message string, operations ...operation) answer {
	for _, o := range operations {
		if strings.Contains(o.Request.Key, "||") {
			return refuseKey(o.Request.Key)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := noContent
	for _, o := range operations {
		if status, problem := s.apply(stateKey{storeName, o.Request.Key}, o); problem != "" {
			a = refuse(status, errorCode, message+": "+problem)
		}
	}
	return a
}

// apply carries out one operation. If it can't, it returns the status and the problem that a
// sidecar with Redis names.
func (s *Sidecar) apply(k stateKey, o operation) (status int, problem string) {
	item, stored, upsert := o.Request, s.value(k), o.Operation == "upsert"
	switch {
	case upsert && item.Options.Concurrency == "last-write":
	case item.ETag != "" && item.ETag != stored.etag:
		return http.StatusConflict, "possible etag mismatch. error from state store: failed to set key " + k.key
	case upsert && item.Options.Concurrency == "first-write" && item.ETag == "" && stored.etag != "":
		return http.StatusInternalServerError, "failed to set key " + k.key
	}
	if !upsert {
		delete(s.state, k)
		return 0, ""
	}
	v := stateValue{json: encode(item.Value)}
	seconds, err := strconv.Atoi(cmp.Or(item.Metadata.TTLInSeconds, "0"))
	if err != nil {
		return http.StatusInternalServerError, "failed to parse ttl from metadata: " + err.Error()
	}
	if seconds > 0 { // otherwise the value does not expire
		v.expires = time.Now().Add(time.Duration(seconds) * time.Second)
	}
	s.set(k, v)
	return 0, ""
}

func malformed(problem string) answer {
	return refuse(http.StatusBadRequest, "ERR_MALFORMED_REQUEST", problem)
}

func refuseKey(key string) answer {
	return malformed("input key/keyPrefix '" + key + "' can't contain '||'")
}

func (s *Sidecar) getState(storeName, key string) answer {
	if strings.Contains(key, "||") {
		return refuseKey(key)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.value(stateKey{storeName, key})
	if v.etag == "" {
		return noContent
	}
	a := jsonAnswer(http.StatusOK, v.json)
	a.header.Set("ETag", v.etag)
	return a
}

func (s *Sidecar) getBulkState(storeName string, r Request) answer {
	var request struct{ Keys []string }
	if err := json.Unmarshal([]byte(r.Body), &request); err != nil {
		return malformed(err.Error())
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
		if strings.Contains(key, "||") {
			return refuseKey(key)
		}
		v := s.value(stateKey{storeName, key})
		values = append(values, value{key, v.json, v.etag})
	}
	return jsonAnswer(http.StatusOK, encode(values))
}

func (s *Sidecar) saveState(storeName string, r Request) answer {
	var items []stateItem
	if err := json.Unmarshal([]byte(r.Body), &items); err != nil {
		return malformed(err.Error())
	}
	var operations []operation
	for _, item := range items {
		if item.Key == "" {
			return malformed(`"key" is a required field`)
		}
		item.Metadata.TTLInSeconds = cmp.Or(r.Query.Get("metadata.ttlInSeconds"), item.Metadata.TTLInSeconds)
		operations = append(operations, operation{"upsert", item})
	}
	return s.write(storeName, "ERR_STATE_SAVE", "failed saving state in state store "+storeName, operations...)
}

func (s *Sidecar) deleteState(storeName, key string, r Request) answer {
	item := stateItem{Key: key, ETag: r.Header.Get("If-Match")}
	return s.write(storeName, "ERR_STATE_DELETE", "failed deleting state with key "+key, operation{"delete", item})
}

func (s *Sidecar) stateTransaction(storeName string, r Request) answer {
	var request struct{ Operations []operation }
	if err := json.Unmarshal([]byte(r.Body), &request); err != nil {
		return malformed(err.Error())
	}
	for _, o := range request.Operations {
		if o.Operation != "upsert" && o.Operation != "delete" {
			return refuse(http.StatusBadRequest, "ERR_NOT_SUPPORTED_STATE_OPERATION", "operation type "+o.Operation+" not supported")
		}
	}
	a := s.write(storeName, "ERR_STATE_TRANSACTION", "error while executing state transaction", request.Operations...)
	if a.status == http.StatusConflict { // a sidecar does not pass this status on
		a.status = http.StatusInternalServerError
	}
	return a
}
