package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A Mosquitto is an MQTT broker with a data folder and a port of its own.
type Mosquitto struct {
	*Process
	Observer

	program, dir string
	port         int
}

var _ Broker = (*Mosquitto)(nil)

// mosquittoAddr is where the project's component files expect Mosquitto.
const mosquittoAddr = "localhost:1883"

// StartMosquitto starts a Mosquitto on a free port of the loopback interface, with its
// data in dir, and waits until it takes connections.
func StartMosquitto(ctx context.Context, dir string) (*Mosquitto, error) {
	program, err := MosquittoServer.Find()
	if err != nil {
		return nil, err
	}
	m := &Mosquitto{program: program, dir: dir}
	if m.port, err = FreePort(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	// The last four are what components/mqtt-postgres/pubsub.yaml asks for.
	config := fmt.Sprintf(`listener %d 127.0.0.1
allow_anonymous true
user root
persistence_location %s/
persistence true
autosave_interval 1
max_queued_messages 0
max_inflight_messages 0
`, m.port, filepath.ToSlash(dir))
	if err := os.WriteFile(m.config(), []byte(config), 0o644); err != nil {
		return nil, err
	}
	if err := m.Restart(ctx); err != nil {
		return nil, errors.Join(err, m.Stop(time.Second))
	}
	return m, nil
}

func (m *Mosquitto) config() string { return filepath.Join(m.dir, "mosquitto.conf") }

// Restart starts the server, or starts it again after it was killed.
func (m *Mosquitto) Restart(ctx context.Context) error {
	p, err := Start(Command{Name: "Mosquitto", Path: m.program, Args: []string{"-c", m.config()}})
	if err != nil {
		return err
	}
	m.Process = p
	return p.WaitReady(ctx, tcpReady(m.port))
}

// Stop ends the server.
func (m *Mosquitto) Stop(grace time.Duration) error {
	if m.Process == nil {
		return nil
	}
	return m.Process.Stop(grace)
}

// Address returns where the server listens.
func (m *Mosquitto) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(m.port)) }

// In returns the text of a component file with this server in the place of the one that
// the project's files name.
func (m *Mosquitto) In(component string) string {
	return strings.ReplaceAll(component, mosquittoAddr, m.Address())
}
