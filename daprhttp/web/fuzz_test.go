package web

import (
	"encoding/json"
	"testing"
)

func FuzzObject(f *testing.F) {
	for _, seed := range []string{
		`{"key":"a","n":1}`, `{"key":"\ud83d\ude00","n":9007199254740991}`, `{"key":"\ud800"}`, `{"key":"\\ud800"}`,
		`{"key":"a||b"}`, `{"key":".."}`, `{"key":1}`, `{"n":1e3}`, `{"n":-0}`, `{"n":"1"}`, `{"n":99999999999999999999}`, `null`, `[`, "\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := DecodeObject(body)
		if err != nil {
			return
		}
		if n, err := o.Integer("n", 1<<53); err == nil && (n < 0 || n > 1<<53) {
			t.Errorf("integer %d was accepted", n)
		}
		key, err := o.Text("key", anyText)
		if err != nil || key == "" {
			return
		}
		raw, err := json.Marshal(map[string]string{"key": key})
		if err != nil {
			t.Fatal(err)
		}
		again, err := DecodeObject(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := again.Text("key", anyText); err != nil || got != key {
			t.Errorf("key %q came back as %q, %v", key, got, err)
		}
	})
}
