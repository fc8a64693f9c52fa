package web

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/matryer/is"
)

// newEnv returns the settings in variables, with one more.
func newEnv(variables map[string]string, name, value string) *Env {
	return NewEnv(func(asked string) string {
		if asked == name {
			return value
		}
		return variables[asked]
	})
}

// A wrong value is named with the rule that it breaks. What may hold a token or a password is
// not shown.
func TestSettings(t *testing.T) {
	for _, tt := range []struct {
		variable string
		read     func(e *Env) any
		want     map[string]any // by the variable's value
		rule     string
		bad      []string
	}{
		{
			"TEXT", func(e *Env) any { return e.Text("TEXT", "none") },
			map[string]any{"": "none", "ä b": "ä b"}, "", nil,
		},
		{
			"NAME", func(e *Env) any { return e.Name("NAME", "none") },
			map[string]any{"": "none", "dead-letters.1": "dead-letters.1"},
			"visible ASCII characters without blanks", []string{" ", "a b", "a\n", "a\u202e", "ä", "\x7f"},
		},
		{
			"FORMAT", func(e *Env) any { return e.OneOf("FORMAT", "text", "json") },
			map[string]any{"": "text", "json": "json"}, "text or json", []string{"xml", "JSON", " "},
		},
		{
			"FLAG", func(e *Env) any { return e.Flag("FLAG") },
			map[string]any{"": false, "false": false, "true": true}, "false or true", []string{"yes", "1"},
		},
		{
			"TTL", func(e *Env) any { return e.Duration("TTL", time.Hour, time.Second, 2*time.Hour) },
			map[string]any{"": time.Hour, "90s": 90 * time.Second, "1s": time.Second, "2h": 2 * time.Hour},
			"a duration from 1s to 2h0m0s, such as 1h0m0s", []string{"1", "999ms", "2h1ns"},
		},
		{
			"PAIRS", func(e *Env) any { return e.Pairs("PAIRS") },
			map[string]any{
				"": map[string]string{}, "queueType=quorum, a = b=c,empty=": map[string]string{"queueType": "quorum", "a": "b=c", "empty": ""},
			},
			"names and values in visible ASCII characters, each name once, such as name=value,other=value",
			[]string{" ", "a", "=b", "a=b,", "a=b,a=c", "a=b\u202e", "a\n b=c"},
		},
		{
			"PORT", func(e *Env) any { return e.Addr(5001) },
			map[string]any{"": "127.0.0.1:6001", "65535": "127.0.0.1:65535"},
			"a port number from 1 to 65535", []string{"x", "0", "-1", "+1", "65536", "5001 "},
		},
		{
			"APP_PORT", func(e *Env) any { return e.Addr(5001) },
			map[string]any{"": "127.0.0.1:5001", "7001": "127.0.0.1:7001"}, "a port number from 1 to 65535", []string{"x"},
		},
		{
			"APP_HOST", func(e *Env) any { return e.Addr(5001) },
			map[string]any{"": "127.0.0.1:6001", "0.0.0.0": "0.0.0.0:6001", "::1": "[::1]:6001", "app.example": "app.example:6001"},
			"an IP address, such as 0.0.0.0, or the name of a host, without a port",
			[]string{"0.0.0.0:5001", "[::1]", "127.0.0.1 ", "http://127.0.0.1", "*"},
		},
		{
			"URL", func(e *Env) any { return e.URL("URL", "http://h") },
			map[string]any{
				"": "", "https://dapr.example:443/": "https://dapr.example:443", "http://h/dapr//": "http://h/dapr", "http://[::1]:1": "http://[::1]:1",
			},
			"a URL such as http://h: http or https, a host, perhaps a port and a path, and no user, query or fragment",
			[]string{
				"localhost:3500", "http://", "unix:///run/dapr.sock", "http://h:0", "http://h:", "http://h,i:1", "http://h/ ", "http://h\u202e:1",
				"http://h/ä", "http://h/%zz", "http://me:secret@h", "http://@h", "http://h?key=secret", "http://h?", "http://h#secret", "http://me:secret@h:x",
				"grpc://h:1", "HTTP//h:1", "/", "http://:1", "http://h:65536", "http://h#", " http://h", "http://h ", "http://h\n",
			},
		},
		{
			"SECRET", func(e *Env) any { return e.Secret("SECRET") },
			map[string]any{"": "", "correct horse": "correct horse", strings.Repeat("s", 2048): strings.Repeat("s", 2048)},
			"at most 2048 visible ASCII characters, without a blank or a newline at its beginning or end",
			[]string{"secret ", " secret", "secret\n", "sec\nret", "secret\x00", "secret\u00a0", "sécret", "\t", strings.Repeat("secret", 342)},
		},
	} {
		for value, want := range tt.want {
			e := newEnv(map[string]string{"APP_PORT": "6001"}, tt.variable, value)
			if diff := cmp.Diff(want, tt.read(e)); diff != "" || e.Err() != nil {
				t.Errorf("%s=%q: error %v; value (-want +got):\n%s", tt.variable, value, e.Err(), diff)
			}
		}
		for _, value := range tt.bad {
			e := newEnv(nil, tt.variable, value)
			tt.read(e)
			want := fmt.Sprintf("%s is %q: it must be %s", tt.variable, value, tt.rule)
			if tt.variable == "SECRET" || tt.variable == "URL" && strings.ContainsAny(value, "@?#") {
				want = tt.variable + " must be " + tt.rule
			}
			if e.Err() == nil || e.Err().Error() != want {
				t.Errorf("%s=%q: got error %v, want %s", tt.variable, value, e.Err(), want)
			}
		}
	}
}

func TestEveryWrongSettingIsNamed(t *testing.T) {
	is := is.New(t)
	e := newEnv(map[string]string{"PORT": "x"}, "FLAG", "yes")
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
		is.True(strings.Contains(err.Error(), "(set "+want))
	}
}
