package web

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An Env reads a program's settings from environment variables and collects the errors,
// so that a program reports all mistakes at once: see [Env.Err]. After an error, a method
// returns a value that the program must not use. An empty variable counts as not set.
// [NewEnv] makes an Env; the zero value can't be used.
type Env struct {
	getenv func(string) string
	errs   []error
}

// NewEnv returns an Env over getenv, which is usually [os.Getenv].
func NewEnv(getenv func(string) string) *Env { return &Env{getenv: getenv} }

// Err returns nil, or an error that names each wrong variable and what it may hold.
func (e *Env) Err() error { return errors.Join(e.errs...) }

// Fail adds an error to those that Err returns. Nil adds nothing.
func (e *Env) Fail(err error) {
	if err != nil {
		e.errs = append(e.errs, err)
	}
}

func (e *Env) wrong(name, rule string) {
	e.Fail(fmt.Errorf("%s is %q: it must be %s", name, e.getenv(name), rule))
}

// Text returns the value of a variable, or fallback when it is not set. Every value is valid.
func (e *Env) Text(name, fallback string) string { return cmp.Or(e.getenv(name), fallback) }

// Name returns the value of a variable, such as the name of a component, or fallback when
// it is not set. The value must be visible ASCII characters without blanks.
func (e *Env) Name(name, fallback string) string {
	value := e.Text(name, fallback)
	if !isVisibleASCII(value) || strings.Contains(value, " ") {
		e.wrong(name, "visible ASCII characters without blanks")
	}
	return value
}

// maxSecret leaves room for other headers in the 8 KiB that a sidecar reads.
const maxSecret = 2 << 10

// Secret returns the value of a variable that travels in an HTTP header, such as a token,
// or "" when it is not set. The value must be at most 2048 visible ASCII characters and
// blanks, without a blank at its beginning or end. The error does not show the value.
func (e *Env) Secret(name string) string {
	value := e.getenv(name)
	if !isVisibleASCII(value) || strings.TrimSpace(value) != value || len(value) > maxSecret {
		e.Fail(fmt.Errorf("%s must be at most %d visible ASCII characters, without a blank or a newline at its beginning or end", name, maxSecret))
	}
	return value
}

// isVisibleASCII reports whether a text has only visible ASCII characters and blanks.
func isVisibleASCII(text string) bool {
	return !strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' })
}

// URL returns the value of a variable without the slashes at its end, or "" when it is not
// set. The value must be an http or https URL with a host, and may have a port and a path,
// but no user, query or fragment. The error shows the example, and it shows the value only
// when no password can be in it.
func (e *Env) URL(name, example string) string {
	value := e.getenv(name)
	if value == "" || isServer(value) {
		return strings.TrimRight(value, "/")
	}
	rule := "a URL such as " + example + ": http or https, a host, perhaps a port and a path, and no user, query or fragment"
	if strings.ContainsAny(value, "@?#") {
		e.Fail(fmt.Errorf("%s must be %s", name, rule))
	} else {
		e.wrong(name, rule)
	}
	return ""
}

// isServer reports whether a URL has only a server and perhaps a path.
func isServer(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.User != nil || strings.ContainsAny(text, "?# ") || !isVisibleASCII(text) {
		return false
	}
	port := u.Port()
	return (u.Scheme == "http" || u.Scheme == "https") && isHost(u.Hostname()) && (port == "" || isPort(port)) && !strings.HasSuffix(u.Host, ":")
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?$`)

func isHost(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil || hostName.MatchString(text)
}

func isPort(text string) bool {
	port, err := strconv.ParseUint(text, 10, 16)
	return err == nil && port > 0
}

// OneOf returns the value of a variable, which must be one of the choices, or the first
// choice when it is not set. There must be a choice.
func (e *Env) OneOf(name string, choices ...string) string {
	value := e.Text(name, choices[0])
	if !slices.Contains(choices, value) {
		e.wrong(name, strings.Join(choices, " or "))
	}
	return value
}

// Flag reports whether the value of a variable is "true". It must be "true" or "false", or
// not set, which means false.
func (e *Env) Flag(name string) bool { return e.OneOf(name, "false", "true") == "true" }

// Duration returns the value of a variable, or fallback when it is not set. Both must be
// from least to most. The value has the form of [time.ParseDuration], such as 1h30m.
func (e *Env) Duration(name string, fallback, least, most time.Duration) time.Duration {
	d, err := time.ParseDuration(e.Text(name, fallback.String()))
	if err != nil || d < least || d > most {
		e.wrong(name, fmt.Sprintf("a duration from %v to %v, such as %v", least, most, fallback))
	}
	return d
}

// Port returns the TCP port in the first of the variables that is set, or fallback when none
// is set. The value must be from 1 to 65535.
func (e *Env) Port(fallback int, names ...string) int {
	for _, name := range names {
		if value := e.getenv(name); value != "" {
			if !isPort(value) {
				e.wrong(name, "a port number from 1 to 65535")
			}
			port, _ := strconv.Atoi(value)
			return port
		}
	}
	return fallback
}

// Addr returns the address, as host:port, at which a program listens for its sidecar. The
// port is in PORT. Without PORT it is in APP_PORT, which `dapr run --app-port` sets, and
// without both it is defaultPort. The host, an IP address or a name, is in APP_HOST. Without
// APP_HOST it is 127.0.0.1, because the sidecar runs on the same machine.
func (e *Env) Addr(defaultPort int) string {
	host := e.Text("APP_HOST", "127.0.0.1")
	if !isHost(host) {
		e.wrong("APP_HOST", "an IP address, such as 0.0.0.0, or the name of a host, without a port")
	}
	return net.JoinHostPort(host, strconv.Itoa(e.Port(defaultPort, "PORT", "APP_PORT")))
}

// Pairs returns the values in a variable such as "queueType=quorum,a=b", by their names and
// without the blanks around them. The names and values must be visible ASCII characters and
// blanks, each name once. The map is never nil.
func (e *Env) Pairs(name string) map[string]string {
	pairs := make(map[string]string)
	if e.getenv(name) == "" {
		return pairs
	}
	for pair := range strings.SplitSeq(e.getenv(name), ",") {
		key, value, found := strings.Cut(pair, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if _, again := pairs[key]; again || !found || key == "" || !isVisibleASCII(key+value) {
			e.wrong(name, "names and values in visible ASCII characters, each name once, such as name=value,other=value")
			return pairs
		}
		pairs[key] = value
	}
	return pairs
}
