package daprhttp

import (
	"strings"
	"testing"
)

func TestCheckKey(t *testing.T) {
	for _, key := range []string{"a", "a/b", "a b", "%", "📦", "|", "...", "\uFFFD", strings.Repeat("x", 256)} {
		if err := CheckKey(key); err != nil {
			t.Errorf("%q: %v", key, err)
		}
	}
	for _, key := range []string{"", ".", "..", "a||b", "a\x00", "\x7f", "\u0080", "\xff", strings.Repeat("x", 257)} {
		if CheckKey(key) == nil {
			t.Errorf("%q: no error", key)
		}
	}
}

func TestMaxIntegerIsTheLastThatAFloat64TellsFromTheNext(t *testing.T) {
	n := int64(MaxInteger)
	if float64(n) == float64(n+1) || float64(n+1) != float64(n+2) {
		t.Error(MaxInteger)
	}
}
