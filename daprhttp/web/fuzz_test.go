package web

import (
	"encoding/json"
	"strings"
	"testing"
)

// Text returns what encoding/json reads, and never adds a replacement character (U+FFFD).
func FuzzObject(f *testing.F) {
	for _, seed := range []string{
		`{"key":"a","n":1}`, `{"key":"\ud83d\ude00","n":9007199254740991}`, `{"key":"\ud800"}`, `{"key":"\\ud800\\"}`,
		`{"key":1}`, `{"n":1e3}`, `{"n":-0}`, `{"n":"1"}`, `{"n":99999999999999999999}`, `null`, `[`, "\xff",
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
		var want string
		key, err := o.Text("key", notEmpty)
		if err != nil || o["key"] == nil {
			return
		}
		if json.Unmarshal(o["key"], &want) != nil || key != want {
			t.Errorf("%s was read as %q", o["key"], key)
		}
		raw := strings.ToLower(string(o["key"]))
		if strings.Count(key, "\uFFFD") > strings.Count(raw, "\uFFFD")+strings.Count(raw, `\ufffd`) {
			t.Errorf("%s was read as %q", raw, key)
		}
	})
}
