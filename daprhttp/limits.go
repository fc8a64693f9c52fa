package daprhttp

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxInteger is the end of the range in which each integer has a float64 of its own. Dapr
// keeps the numbers in saved values as float64. A greater integer may change, and may
// then be too great for an int64.
const MaxInteger = 1<<53 - 1

const maxKeyBytes = 256

// CheckKey returns nil if key has at most 256 bytes of valid UTF-8, can be a segment of a
// URL, and has no control characters and no "||". Otherwise the error names the broken rule,
// in words that follow the key's name: "must not be empty".
//
// Some state stores take only shorter keys, or refuse characters such as "/": package once
// escapes such characters. A store counts Dapr's prefix too; CheckKey does not.
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
