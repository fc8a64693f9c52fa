package stack

import (
	"context"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// A Server is a broker or a state store.
type Server interface {
	Named
	Address() string // host and port; empty for a database without a port

	Kill()                         // at once, as kill -9 does
	Restart(context.Context) error // after Kill; returns when the server is ready
	Stop(grace time.Duration) error
}

// A Broker is a Server that has topics.
type Broker interface {
	Server
	// Drained returns nil once an app has acknowledged every event of a topic.
	Drained(topic, appID string) error
	// Len returns how many events a topic has for an app.
	Len(topic, appID string) (int, error)
}

// A Named is a server as component files name it.
type Named interface {
	// In takes the text of one of the project's component files, and returns it with this
	// server in the place of the server that the file names.
	In(component string) string
}

// Through returns a Named that writes the links' ports in place of the server's. Each link
// goes to one address of the server.
func Through(server Named, links ...*Link) Named { return through{server, links} }

type through struct {
	Named
	links []*Link
}

func (t through) In(component string) string {
	text := t.Named.In(component)
	for _, link := range t.links { // both ends are on this machine: only the ports differ
		text = strings.ReplaceAll(text, port(link.servers[0]), port(link.Addr()))
	}
	return text
}

// A naming is the Named that replaces the documented address, which is in the project's
// component files, by the actual one.
type naming struct{ documented, actual string }

func (n naming) In(component string) string {
	return strings.ReplaceAll(component, n.documented, n.actual)
}

// A server is a program that listens on a port of its own and keeps its data in a folder
// of its own.
type server struct {
	*Process // the latest one; nil before the first
	naming

	Addr    string                      // host and port
	command Command                     // starts the program
	ready   func(context.Context) error // returns nil once the server is ready
}

// newServer prepares a server of a program on a port of the loopback interface, or on a
// free one for port 0. It makes the folder dir for the server's data.
func newServer(p Program, port int, dir string) (s server, err error) {
	s.command.Name = p.name
	if s.command.Path, err = p.Find(); err != nil {
		return s, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return s, err
	}
	if port == 0 {
		if port, err = FreePort(); err != nil {
			return s, err
		}
	}
	s.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	s.ready = tcpReady(s.Addr)
	return s, nil
}

// Address returns the host and port where the server listens.
func (s *server) Address() string { return s.Addr }

// Restart starts the server, or starts it again after it was killed. It returns when the
// server is ready.
func (s *server) Restart(ctx context.Context) (err error) {
	s.Process, err = startReady(ctx, s.command, s.ready)
	return err
}

// port returns the port of an address.
func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }
