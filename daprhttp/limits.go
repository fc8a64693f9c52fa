package daprhttp

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxInteger is the greatest integer that passes through Dapr unchanged. Dapr
// keeps the numbers of events and of saved values as float64.
const MaxInteger = 1<<53 - 1

// maxKeyBytes is the length of a key that every state store takes, with room for the
// prefix that Dapr puts before it.
const maxKeyBytes = 256

// CheckKey returns nil if key can be the key of a value in any state store and
// a segment of a URL. Otherwise the error names the broken rule, in words that
// follow the key's name: "must not be empty".
func CheckKey(key string) error {
	switch {
	case key == "":
		return errors.New("must not be empty")
	case len(key) > maxKeyBytes:
		return fmt.Errorf("must not be longer than %d bytes", maxKeyBytes)
	case !utf8.ValidString(key):
		return errors.New("must be valid UTF-8")
	case strings.ContainsFunc(key, unicode.IsControl):
		return errors.New("must not contain control characters")
	case strings.Contains(key, "||"): // Dapr puts it between its prefix and the key
		return errors.New(`must not contain "||"`)
	case key == "." || key == "..":
		return errors.New(`must not be "." or ".."`)
	}
	return nil
}
