package web

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/matryer/is"
)

func newEnv(variables map[string]string) *Env {
	return NewEnv(func(name string) string { return variables[name] })
}

// A wrong value is named with the rule that it breaks. What may hold a token or a password is
// not shown.
func TestSettings(t *testing.T) {
	const server = "a URL such as http://h: http or https, a host, perhaps a port and a path, and no user, query or fragment"
	for _, tt := range []struct {
		name string
		read func(e *Env) any
		want map[string]any // by the variable's value
		rule string
		bad  []string
	}{
		{"Text", func(e *Env) any { return e.Text("X", "none") }, map[string]any{"": "none", "ä b": "ä b"}, "", nil},
		{"Name", func(e *Env) any { return e.Name("X", "none") }, map[string]any{"": "none", "dead-letters.1": "dead-letters.1"},
			"visible ASCII characters without blanks", []string{" ", "a b", "a\n", "a\u202e", "ä", "\x7f"}},
		{"OneOf", func(e *Env) any { return e.OneOf("X", "text", "json") }, map[string]any{"": "text", "json": "json"}, "text or json", []string{"xml", "JSON", " "}},
		{"Flag", func(e *Env) any { return e.Flag("X") }, map[string]any{"": false, "false": false, "true": true}, "false or true", []string{"yes", "1"}},
		{"Duration", func(e *Env) any { return e.Duration("X", time.Hour, time.Second, 2*time.Hour) },
			map[string]any{"": time.Hour, "90s": 90 * time.Second, "1s": time.Second, "2h": 2 * time.Hour},
			"a duration from 1s to 2h0m0s, such as 1h0m0s", []string{"1", "999ms", "2h1ns"}},
		{"Port", func(e *Env) any { return e.Port(1, "X", "OTHER") }, map[string]any{"": 2, "65535": 65535}, "a port number from 1 to 65535",
			[]string{"x", "0", "-1", "+1", "65536", "5001 "}},
		{"Pairs", func(e *Env) any { return e.Pairs("X") },
			map[string]any{"": map[string]string{}, "queueType=quorum, a = b=c,empty=": map[string]string{"queueType": "quorum", "a": "b=c", "empty": ""}},
			"names and values in visible ASCII characters, each name once, such as name=value,other=value",
			[]string{" ", "a", "=b", "a=b,", "a=b,a=c", "a=b\u202e", "a\n b=c"}},
		{"URL", func(e *Env) any { return e.URL("X", "http://h") },
			map[string]any{"": "", "https://dapr.example:443/": "https://dapr.example:443", "http://h/dapr//": "http://h/dapr", "http://[::1]:3500": "http://[::1]:3500"},
			server, []string{"localhost:3500", "http://", "unix:///run/dapr.sock", "http://h:0", "http://h:", "http://h,i:1", "http://h/ ", "http://h\u202e:1", "http://h/ä", "http://h/%zz"}},
		{"URL that may hold a password", func(e *Env) any { return e.URL("X", "http://h") }, nil,
			server, []string{"http://me:secret@h", "http://@h", "http://h?key=secret", "http://h?", "http://h#secret", "http://me:secret@h:x"}},
		{"Secret", func(e *Env) any { return e.Secret("X") }, map[string]any{"": "", "correct horse": "correct horse", strings.Repeat("s", 2048): strings.Repeat("s", 2048)},
			"at most 2048 visible ASCII characters, without a blank or a newline at its beginning or end",
			[]string{"secret ", " secret", "secret\n", "sec\nret", "sécret", strings.Repeat("secret", 342)}},
	} {
		for value, want := range tt.want {
			e := newEnv(map[string]string{"X": value, "OTHER": "2"})
			if diff := cmp.Diff(want, tt.read(e)); diff != "" || e.Err() != nil {
				t.Errorf("%s of %q: error %v; value (-want +got):\n%s", tt.name, value, e.Err(), diff)
			}
		}
		for _, value := range tt.bad {
			e := newEnv(map[string]string{"X": value})
			tt.read(e)
			want := fmt.Sprintf("X is %q: it must be %s", value, tt.rule)
			if strings.Contains(tt.name, "password") || tt.name == "Secret" {
				want = "X must be " + tt.rule
			}
			if e.Err() == nil || e.Err().Error() != want {
				t.Errorf("%s of %q: got error %v, want %s", tt.name, value, e.Err(), want)
			}
		}
	}
}

func TestAddress(t *testing.T) {
	for _, tt := range []struct{ host, port, appPort, want string }{
		{"", "", "", "127.0.0.1:5001"},
		{"", "", "6001", "127.0.0.1:6001"},
		{"0.0.0.0", "7001", "6001", "0.0.0.0:7001"},
		{"::1", "", "", "[::1]:5001"},
		{"app.example", "", "", "app.example:5001"},
		{"0.0.0.0:5001", "", "", "an error"},
		{"[::1]", "", "", "an error"},
		{"127.0.0.1 ", "", "", "an error"},
		{"http://127.0.0.1", "", "", "an error"},
		{"*", "", "", "an error"},
	} {
		e := newEnv(map[string]string{"APP_HOST": tt.host, "PORT": tt.port, "APP_PORT": tt.appPort})
		got := e.Addr(5001)
		if e.Err() != nil {
			got = "an error"
		}
		if got != tt.want {
			t.Errorf("%+v: got %s, %v", tt, got, e.Err())
		}
	}
}

func TestEveryWrongSettingIsNamed(t *testing.T) {
	is := is.New(t)
	e := newEnv(map[string]string{"PORT": "x", "FLAG": "yes"})
	e.Addr(1)
	e.Flag("FLAG")
	e.Fail(nil)
	e.Fail(fmt.Errorf("more"))
	is.Equal(e.Err().Error(), "PORT is \"x\": it must be a port number from 1 to 65535\nFLAG is \"yes\": it must be false or true\nmore")
}

func TestListenNamesTheVariable(t *testing.T) {
	is := is.New(t)
	taken, err := Listen("127.0.0.1:0")
	is.NoErr(err)
	defer taken.Close()
	for addr, want := range map[string]string{taken.Addr().String(): "PORT", "192.0.2.1:0": "APP_HOST"} {
		_, err := Listen(addr)
		is.True(err != nil)
		is.True(strings.Contains(err.Error(), "(set "+want+" to "))
	}
}
