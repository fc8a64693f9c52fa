package stack

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// A Mosquitto is an MQTT broker with a data folder and a port of its own.
type Mosquitto struct {
	server
	Observer
}

// mosquittoAddr is where the project's component files expect Mosquitto.
const mosquittoAddr = "localhost:1883"

// startMosquitto starts a Mosquitto on a free port, with its data in dir.
func startMosquitto(ctx context.Context, dir string) (Broker, error) {
	s, err := newServer(MosquittoServer, 0, dir)
	if err != nil {
		return nil, err
	}
	m := &Mosquitto{server: s}
	m.naming = naming{mosquittoAddr, m.Addr}
	// The last four are what components/mqtt-postgres/pubsub.yaml asks for.
	config := fmt.Sprintf(`listener %s 127.0.0.1
allow_anonymous true
user root
persistence_location %s/
persistence true
autosave_interval 1
max_queued_messages 0
max_inflight_messages 0
`, port(m.Addr), filepath.ToSlash(dir))
	file := filepath.Join(dir, "mosquitto.conf")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return nil, err
	}
	m.command.Args = []string{"-c", file}
	return m, m.Restart(ctx)
}

// An Observer answers the questions of a [Broker] for a broker that can't be asked them.
type Observer struct {
	quiet   func() error
	letters func() int
}

// Observe sets how the questions are answered: quiet returns nil when nothing has been
// delivered for a while, and letters returns how many events of the dead-letter topic
// were seen.
func (o *Observer) Observe(quiet func() error, letters func() int) {
	o.quiet, o.letters = quiet, letters
}

// Drained returns nil when nothing has been delivered for a while.
func (o *Observer) Drained(string, string) error { return o.quiet() }

// Len returns how many events of the dead-letter topic were seen.
func (o *Observer) Len(string, string) (int, error) { return o.letters(), nil }
