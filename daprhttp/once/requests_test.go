package once

import (
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/daprtest"
)

// The requests must ask the store for the promises that the invariants rely on. Replicas
// of the next version must be able to read what is saved. A quiet key costs a read and a
// save for an event, and a marker, a read and a save when its ID leaves the record.
func TestRequestsToTheStateStore(t *testing.T) {
	for _, tt := range []struct {
		options          Options
		consistency, ttl string
	}{
		{Options{}, "strong", "86400"},
		{Options{MarkerTTL: 1500 * time.Millisecond, Consistency: daprhttp.Eventual}, "eventual", "2"},
		{Options{MarkerTTL: time.Minute, DefaultConsistency: true}, "", "60"},
		{Options{MarkerTTL: math.MaxInt64}, "strong", "9223372037"},
	} {
		is := is.New(t)
		sidecar := new(daprtest.Sidecar)
		sidecar.SetState("statestore", "apple", "100")
		in := New[int64](&daprhttp.Client{HTTPClient: sidecar.Client()}, "statestore", tt.options)
		in.author.name = "A"
		in.tuning.keep = func(int, int) int { return 0 }
		is.Equal(must(t, in, event("e1", "apple")), Result[int64]{Before: 100, After: 99})
		in.settle()

		var reads, saves []string
		for _, r := range sidecar.Requests() {
			if r.Method == http.MethodGet {
				reads = append(reads, r.Path+"?"+r.Query.Encode())
			} else {
				saves = append(saves, r.Body)
			}
		}
		query, options, markerOptions := "", `"concurrency":"first-write"`, ""
		if tt.consistency != "" {
			query = "consistency=" + tt.consistency
			options += `,"consistency":"` + tt.consistency + `"`
			markerOptions = `,"options":{"consistency":"` + tt.consistency + `"}`
		}
		read, id := "/v1.0/state/statestore/apple?"+query, string(EventID("test", "e1"))
		is.Equal(reads, []string{read, read})
		is.Equal(saves, []string{
			`[{"key":"apple","value":{"once":2,"value":99,"ids":"` + id + `","by":"A.1"},"etag":"1","options":{` + options + `}}]`,
			`[{"key":"~DbjIsYN9EHbid2Qw.` + id + `","value":"` + id + `","metadata":{"ttlInSeconds":"` + tt.ttl + `"}` + markerOptions + `}]`,
			`[{"key":"apple","value":{"once":2,"value":99,"watermark":"` + id + `","pruned":"A.2","by":"A.2"},"etag":"2","options":{` + options + `}}]`,
		})
	}
}

// Markers expire. The records of keys that look like markers do not.
func TestMarkersExpireAndRecordsDoNot(t *testing.T) {
	is := is.New(t)
	sidecar := new(daprtest.Sidecar)
	s := &daprStore{sidecar: &daprhttp.Client{HTTPClient: sidecar.Client()}, name: "statestore", markerTTL: time.Minute}
	is.NoErr(s.save(t.Context(), sharedKey("apple", 1), "", 1))
	for _, key := range []string{"apple", "~apple", "a/b", markerKey("apple", testID("e1"))} {
		is.NoErr(s.save(t.Context(), recordKey(key), "", 1))
	}
	for i, r := range sidecar.Requests() {
		is.Equal(strings.Contains(r.Body, "ttlInSeconds"), i == 0) // only the marker expires
	}
}

func TestKeysOfRecordsAndMarkersDiffer(t *testing.T) {
	is := is.New(t)
	keys := make(map[string]string)
	markers := append(oldMarkerKeys("apple", testID("t")),
		markerKey("apple", testID("t")), markerKey("apple", testID("e1")), markerKey("pear", testID("e1")), sharedKey("apple", 1))
	for _, key := range markers {
		is.Equal(keys[key], "")
		keys[key] = "a marker"
	}
	for _, key := range append(markers, "apple", "~", "~~", "~"+markers[0], "~apple", "~~apple",
		"a/b", "a~2Fb", "~a/b", "~~a~2Fb", `a\b`, "a?b", "a#b", "~/", "~2F") {
		stored := recordKey(key)
		is.Equal(keys[stored], "") // no other key is stored there
		is.True(!strings.ContainsAny(stored, `/\?#`))
		keys[stored] = key
	}
}
