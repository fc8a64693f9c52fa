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
	e := newEnv(map[string]string{"TEXT": "a", "FLAG": "true", "TTL": "90s", "PAIRS": "queueType=quorum, a = b=c,empty="})
	is.Equal(e.Text("TEXT", "b"), "a")
	is.Equal(e.Text("NONE", "b"), "b")
	is.Equal(e.OneOf("NONE", "x", "y"), "x")
	is.True(e.Flag("FLAG"))
	is.True(!e.Flag("NONE"))
	is.Equal(e.Duration("TTL", time.Hour, time.Second, 2*time.Hour), 90*time.Second)
	is.Equal(e.Duration("NONE", time.Hour, time.Second, 2*time.Hour), time.Hour)
	is.Equal(e.Pairs("PAIRS"), map[string]string{"queueType": "quorum", "a": "b=c", "empty": ""})
	is.Equal(e.Pairs("NONE"), map[string]string{})
	is.NoErr(e.Err())
}

func TestWrongSettingsAreAllNamed(t *testing.T) {
	is := is.New(t)
	e := newEnv(map[string]string{"FLAG": "yes", "TTL": "1", "SHORT": "1ms", "LONG": "3h", "PAIRS": "quorum", "PORT": "x", "FORMAT": "xml"})
	e.Flag("FLAG")
	e.Duration("TTL", time.Hour, time.Second, 2*time.Hour)
	e.Duration("SHORT", time.Hour, time.Second, 2*time.Hour)
	e.Duration("LONG", time.Hour, time.Second, 2*time.Hour)
	e.Pairs("PAIRS")
	e.Addr(1)
	e.OneOf("FORMAT", "text", "json")
	is.Equal(e.Err().Error(), strings.Join([]string{
		`FLAG is "yes": it must be false or true`,
		`TTL is "1": it must be a duration from 1s to 2h0m0s, such as 1h0m0s`,
		`SHORT is "1ms": it must be a duration from 1s to 2h0m0s, such as 1h0m0s`,
		`LONG is "3h": it must be a duration from 1s to 2h0m0s, such as 1h0m0s`,
		`PAIRS is "quorum": it must be names and values in visible ASCII characters, each name once, such as name=value,other=value`,
		`PORT is "x": it must be a port number from 1 to 65535`,
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
		{map[string]string{"PORT": "0"}, ""},
		{map[string]string{"PORT": "+1"}, ""},
		{map[string]string{"PORT": "5001 "}, ""},
		{map[string]string{"APP_HOST": "app.example"}, "app.example:5001"},
		{map[string]string{"APP_HOST": "0.0.0.0:5001"}, ""},
		{map[string]string{"APP_HOST": "[::1]"}, ""},
		{map[string]string{"APP_HOST": "127.0.0.1 "}, ""},
		{map[string]string{"APP_HOST": "http://127.0.0.1"}, ""},
		{map[string]string{"APP_HOST": "*"}, ""},
	} {
		e := newEnv(tt.variables)
		got := e.Addr(5001)
		if (e.Err() == nil) != (tt.want != "") || tt.want != "" && got != tt.want {
			t.Errorf("%v: got %q, %v, want %q", tt.variables, got, e.Err(), tt.want)
		}
	}
}

func TestNamesAndPairsAreChecked(t *testing.T) {
	is := is.New(t)
	e := newEnv(map[string]string{"GOOD": "dead-letters.1", "SECRET": "correct horse", "PAIRS": " "})
	is.Equal(e.Name("GOOD", ""), "dead-letters.1")
	is.Equal(e.Name("NONE", "pubsub"), "pubsub")
	is.Equal(e.Secret("SECRET"), "correct horse")
	is.Equal(e.Secret("NONE"), "")
	is.NoErr(e.Err())
	for _, value := range []string{" ", "a b", "a\n", "a\u202e", "ä"} {
		e := newEnv(map[string]string{"APP_ID": value})
		e.Name("APP_ID", "")
		if e.Err() == nil {
			t.Errorf("APP_ID=%q is accepted", value)
		}
	}
	for _, value := range []string{" ", "a", "=b", "a=b,", "a=b,a=c", "a=b\u202e", "a\n b=c"} {
		e := newEnv(map[string]string{"PAIRS": value})
		e.Pairs("PAIRS")
		if e.Err() == nil {
			t.Errorf("PAIRS=%q is accepted", value)
		}
	}
}

func TestListenNamesTheVariable(t *testing.T) {
	is := is.New(t)
	taken, err := Listen("127.0.0.1:0")
	is.NoErr(err)
	defer taken.Close()
	for addr, want := range map[string]string{taken.Addr().String(): "PORT", "192.0.2.1:0": "APP_HOST", "no-such-host.invalid:0": "APP_HOST"} {
		_, err := Listen(addr)
		is.True(err != nil)
		is.True(strings.Contains(err.Error(), "(set "+want+" to "))
	}
}
