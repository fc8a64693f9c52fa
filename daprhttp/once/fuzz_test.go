package once

import (
	"encoding/json"
	"testing"
)

func FuzzDecodeRecord(f *testing.F) {
	for _, seed := range []string{
		`100`, `-5`, `1e2`, `{"value":90,"latest":"-----------------0123456","watermark":"a","commits":"c.1"}`, `{"value":1,"commits":"","ahead":{"first":"a","last":"b","until":1}}`,
		`{"value":1e2,"commits":""}`, `{"Value":1,"commits":""}`, `{"latest":""}`, `null`, `"100"`, `[]`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		r, err := decodeRecord[int64](value)
		if err != nil {
			return
		}
		saved, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodeRecord[int64](saved)
		if err != nil {
			t.Fatalf("%q was saved as %s: %v", value, saved, err)
		}
		if twice, err := json.Marshal(again); err != nil || string(twice) != string(saved) {
			t.Errorf("%q was saved as %s, and then as %s", value, saved, twice)
		}
	})
}
