package web

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
)

// Visible returns text with each character that [unicode.IsPrint] does not report
// written as JSON escapes it: U+202E as \u202e. Such a character can hide, reverse or
// break the line that a person reads. A string inside JSON keeps its value.
func Visible(text string) string {
	var b strings.Builder
	for _, c := range text {
		if unicode.IsPrint(c) {
			b.WriteRune(c)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, c) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}

// A visibleWriter makes lines of JSON visible. Each Write is a whole line.
type visibleWriter struct{ w io.Writer }

func (v visibleWriter) Write(line []byte) (int, error) {
	text := strings.TrimSuffix(string(line), "\n")
	_, err := io.WriteString(v.w, Visible(text)+"\n")
	return len(line), err
}
