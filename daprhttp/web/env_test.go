package web

import (
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"
)

func newEnv(variables map[string]string) *Env {
	return NewEnv(func(name string) string { return variables[name] })
}

func TestSettings(t *testing.T) {
	is := is.New(t)
	e := newEnv(map[string]string{"TEXT": "a", "FLAG": "true", "TTL": "90s", "PAIRS": "queueType=quorum, a=b=c,empty=", "LIST": "a, b,c"})
	is.Equal(e.Text("TEXT", "b"), "a")
	is.Equal(e.Text("NONE", "b"), "b")
	is.Equal(e.OneOf("NONE", "x", "y"), "x")
	is.True(e.Flag("FLAG"))
	is.True(!e.Flag("NONE"))
	is.Equal(e.Duration("TTL", time.Hour, time.Second), 90*time.Second)
	is.Equal(e.Duration("NONE", time.Hour, time.Second), time.Hour)
	is.Equal(e.Pairs("PAIRS"), map[string]string{"queueType": "quorum", "a": "b=c", "empty": ""})
	is.Equal(e.Pairs("NONE"), map[string]string{})
	is.Equal(e.List("LIST"), []string{"a", "b", "c"})
	is.NoErr(e.Err())
}

func TestWrongSettingsAreAllNamed(t *testing.T) {
	is := is.New(t)
	e := newEnv(map[string]string{"FLAG": "yes", "TTL": "1", "SHORT": "1ms", "PAIRS": "quorum", "PORT": "x", "FORMAT": "xml"})
	e.Flag("FLAG")
	e.Duration("TTL", time.Hour, time.Second)
	e.Duration("SHORT", time.Hour, time.Second)
	e.Pairs("PAIRS")
	e.Addr(1)
	e.OneOf("FORMAT", "text", "json")
	is.Equal(e.Err().Error(), strings.Join([]string{
		`FLAG is "yes": it must be false or true`,
		`TTL is "1": it must be a duration of at least 1s, such as 1h0m0s`,
		`SHORT is "1ms": it must be a duration of at least 1s, such as 1h0m0s`,
		`PAIRS is "quorum": it must be names and values, such as name=value,other=value`,
		`PORT is "x": it must be a port number from 0 to 65535`,
		`FORMAT is "xml": it must be text or json`,
	}, "\n"))
}

func TestAddress(t *testing.T) {
	for _, tt := range []struct {
		variables map[string]string
		want      string // empty: an error
	}{
		{nil, "127.0.0.1:5001"},
		{map[string]string{"APP_PORT": "6001"}, "127.0.0.1:6001"},
		{map[string]string{"APP_PORT": "6001", "PORT": "7001"}, "127.0.0.1:7001"},
		{map[string]string{"PORT": "7001", "APP_HOST": "0.0.0.0"}, "0.0.0.0:7001"},
		{map[string]string{"APP_HOST": "::1"}, "[::1]:5001"},
		{map[string]string{"PORT": "x"}, ""},
		{map[string]string{"APP_PORT": "99999"}, ""},
		{map[string]string{"APP_PORT": "-1"}, ""},
	} {
		e := newEnv(tt.variables)
		got := e.Addr(5001)
		if (e.Err() == nil) != (tt.want != "") || tt.want != "" && got != tt.want {
			t.Errorf("%v: got %q, %v, want %q", tt.variables, got, e.Err(), tt.want)
		}
	}
}
