package web

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An Env reads a program's settings from environment variables and collects what is
// wrong with them, so that a program reports all mistakes at once: see [Env.Err].
// An empty variable counts as one that is not set.
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

// Text returns a variable, or fallback when it is not set.
func (e *Env) Text(name, fallback string) string {
	if value := e.getenv(name); value != "" {
		return value
	}
	return fallback
}

// OneOf returns a variable that holds one of the choices, or the first choice when it
// is not set.
func (e *Env) OneOf(name string, choices ...string) string {
	value := e.Text(name, choices[0])
	if !slices.Contains(choices, value) {
		e.wrong(name, strings.Join(choices, " or "))
	}
	return value
}

// Flag returns whether a variable is "true" rather than "false" or not set.
func (e *Env) Flag(name string) bool { return e.OneOf(name, "false", "true") == "true" }

// Duration returns a variable in the form of [time.ParseDuration] that is at least
// least, or fallback when it is not set.
func (e *Env) Duration(name string, fallback, least time.Duration) time.Duration {
	if e.getenv(name) == "" {
		return fallback
	}
	d, err := time.ParseDuration(e.getenv(name))
	if err != nil || d < least {
		e.wrong(name, fmt.Sprintf("a duration of at least %v, such as %v", least, fallback))
	}
	return d
}

// Port returns a TCP port from the first variable that is set, or fallback.
func (e *Env) Port(fallback int, names ...string) int {
	for _, name := range names {
		if e.getenv(name) == "" {
			continue
		}
		port, err := strconv.Atoi(e.getenv(name))
		if err != nil || port < 0 || port > 65535 {
			e.wrong(name, "a port number from 0 to 65535")
		}
		return port
	}
	return fallback
}

// Addr returns the address at which a program listens for its sidecar: the port in
// PORT, else in APP_PORT (which `dapr run --app-port` sets), else defaultPort; on the
// host in APP_HOST, else on 127.0.0.1, because the sidecar runs on the same machine.
func (e *Env) Addr(defaultPort int) string {
	return net.JoinHostPort(e.Text("APP_HOST", "127.0.0.1"), strconv.Itoa(e.Port(defaultPort, "PORT", "APP_PORT")))
}

// Pairs returns the names and values in a variable such as "queueType=quorum,a=b". It
// is never nil.
func (e *Env) Pairs(name string) map[string]string {
	pairs := make(map[string]string)
	if e.getenv(name) == "" {
		return pairs
	}
	for pair := range strings.SplitSeq(e.getenv(name), ",") {
		key, value, found := strings.Cut(strings.TrimSpace(pair), "=")
		if !found || key == "" {
			e.wrong(name, "names and values, such as name=value,other=value")
		}
		pairs[key] = value
	}
	return pairs
}

// List returns the words in a variable, which commas or spaces separate.
func (e *Env) List(name string) []string {
	return strings.FieldsFunc(e.getenv(name), func(r rune) bool { return r == ',' || r == ' ' })
}
