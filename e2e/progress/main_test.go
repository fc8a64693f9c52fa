package main

import (
	"strings"
	"testing"

	"github.com/matryer/is"
)

func TestShow(t *testing.T) {
	const passes = `{"Action":"run","Package":"p","Test":"A"}
{"Action":"run","Package":"p","Test":"B"}
{"Action":"pass","Package":"p","Test":"A","Elapsed":1.25}
`
	const rest = `{"Action":"pass","Package":"p","Test":"B","Elapsed":0.01}
{"Action":"pass","Package":"p","Elapsed":2}
`
	const fails = `{"Action":"output","Package":"p","Test":"B","Output":"    b_test.go:7: got 1, want 2\n"}
{"Action":"fail","Package":"p","Test":"B","Elapsed":0.01}
{"Action":"fail","Package":"p","Elapsed":2}
`
	const panics = `{"Action":"output","Package":"p","Test":"B/c","Output":"    --- FAIL: B/c\n"}
{"Action":"output","Package":"p","Test":"B","Output":"--- FAIL: B\n"}
{"Action":"fail","Package":"p","Test":"B/c","Elapsed":0.01}
{"Action":"fail","Package":"p","Test":"B","Elapsed":0.01}
{"Action":"output","Package":"p","Output":"panic: oops\n"}
{"Action":"fail","Package":"p","Elapsed":2}
`
	for _, tt := range []struct {
		input, shown string
		passed       bool
	}{
		{passes + rest, "pass   1.2 s  A (running: B)\npass   2.0 s  p\n", true},
		{passes + fails, "b_test.go:7: got 1, want 2\n\n--- FAIL: p B\n--- FAIL: p\n", false},
		{passes + panics, "--- FAIL: B\npanic: oops\n\n--- FAIL: p B/c\n--- FAIL: p B\n--- FAIL: p\n", false},
		{passes, "A (running: B)\n", false}, // and then the tests were killed
		{"", "", false},
		{"no such package\n", "no such package\n", false},
	} {
		is := is.New(t)
		var shown strings.Builder
		is.Equal(show(strings.NewReader(tt.input), &shown), tt.passed)
		is.True(strings.HasSuffix(shown.String(), tt.shown))
	}
}
