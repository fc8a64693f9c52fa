package stack

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A Server is a broker or a state store, which a component file names.
type Server interface {
	Named
	Address() string // of its TCP port, or empty where there is none

	Kill()                         // at once, as kill -9 does
	Restart(context.Context) error // after Kill
	Stop(grace time.Duration) error
}

// A Named takes the place of the server that a component file names.
type Named interface {
	// In returns the text of a component file with this server in the place of
	// the one that the project's files name.
	In(component string) string
}

// Through returns a server as component files name it that reach it at another
// address, by way of a [Link].
func Through(s Server, addr string) Named { return through{s, addr} }

type through struct {
	Server
	addr string
}

func (t through) In(component string) string {
	_, there, _ := net.SplitHostPort(t.Server.Address())
	_, here, _ := net.SplitHostPort(t.addr)
	return strings.NewReplacer(t.Server.Address(), t.addr, "port="+there, "port="+here).Replace(t.Server.In(component))
}

// A Broker is a Server that has topics.
type Broker interface {
	Server
	// Drained returns nil once an app has handled all that a topic has.
	Drained(topic, appID string) error
	// Len returns how many events a topic has for an app.
	Len(topic, appID string) (int, error)
}

// An Observer stands for the questions to a broker that nobody can ask it.
type Observer struct {
	quiet   func() error
	letters func() int
}

// Observe has quiet return nil when nothing has been delivered for a while, and letters
// how many events the dead-letter topic was seen to have.
func (o *Observer) Observe(quiet func() error, letters func() int) {
	o.quiet, o.letters = quiet, letters
}

// Drained returns nil once nothing is delivered any more.
func (o *Observer) Drained(string, string) error { return o.quiet() }

// Len returns how many events the dead-letter topic was seen to have.
func (o *Observer) Len(string, string) (int, error) { return o.letters(), nil }

// A Backend is a folder of component files and the servers that they name.
type Backend struct {
	Name   string // for people
	Folder string // of the component files, in the project

	// Broker and State start servers with their data in a folder. Without State the
	// broker is the state store, too.
	Broker func(ctx context.Context, p *Project, dir string) (Broker, error)
	State  func(ctx context.Context, dir string) (Server, error)

	Env []string // for the services, as "NAME=value"

	// Cannot says of promises, by their names, why this backend can't keep them.
	Cannot map[string]string

	// Forgets says that the broker keeps nothing for an app that was never there.
	Forgets bool

	// Given is what all begins with that is put into servers which run already: see
	// GivenBackend. It is empty where the servers are started.
	Given     string
	Reachable bool // and it is known how to break the network to the state store
}

// The backends, of which the first is what `dapr init` starts.
var Backends = []Backend{
	{
		Name:   "Redis",
		Folder: "components/redis",
		Broker: redisBroker,
	},
	{
		Name:   "RabbitMQ + PostgreSQL",
		Folder: "components/rabbitmq-postgres",
		Broker: func(ctx context.Context, p *Project, dir string) (Broker, error) {
			return StartRabbitMQ(ctx, dir, filepath.Join(p.Root, "components", "rabbitmq-definitions.json"))
		},
		State: func(ctx context.Context, _ string) (Server, error) { return StartPostgreSQL(ctx) },
		Env:   []string{"PUBLISH_TWICE=true"},
	},
	{
		Name:   "Redis + SQLite",
		Folder: "components/sqlite",
		Broker: redisBroker,
		State:  func(_ context.Context, dir string) (Server, error) { return NewSQLite(dir) },
	},
	{
		Name:    "MQTT + PostgreSQL",
		Folder:  "components/mqtt-postgres",
		Broker:  func(ctx context.Context, _ *Project, dir string) (Broker, error) { return StartMosquitto(ctx, dir) },
		State:   func(ctx context.Context, _ string) (Server, error) { return StartPostgreSQL(ctx) },
		Forgets: true,
		Cannot: map[string]string{
			"BrokerKilled": "Mosquitto acknowledges an event up to a second before it writes it to disk",
		},
	},
}

// WithStateApart returns the backend with a server for the state store alone.
func (b Backend) WithStateApart() Backend {
	if b.State == nil {
		b.State = func(ctx context.Context, dir string) (Server, error) { return OwnRedis(ctx, dir) }
	}
	return b
}

func redisBroker(ctx context.Context, _ *Project, dir string) (Broker, error) {
	return OwnRedis(ctx, dir)
}

// usersAddresses are in the project's component files. A server of a user's may be
// there, which is none of ours.
var usersAddresses = []string{DefaultRedisAddr, rabbitMQAddr, postgreSQLPort, sqliteFile, mosquittoAddr}

// WriteComponents copies the component files in a folder into dir, with the broker and
// the state store that are to be used in the place of those that they name. The path of
// the filter becomes a full one. All else in them stays as users have it.
func WriteComponents(folder, dir string, broker, state Named) error {
	root, err := Root()
	if err != nil {
		return err
	}
	return copyComponents(folder, dir, func(file, original string) (string, error) {
		text := original
		var server Named
		switch filepath.Base(file) {
		case FilterFile:
			return filterIn(root, text)
		case "pubsub.yaml", "retry.yaml":
			server = broker
		case "statestore.yaml":
			server = state
		case "resiliency.yaml": // names none
		default:
			return "", fmt.Errorf("it is not known which server %s names", file)
		}
		if server != nil {
			if text = server.In(text); text == original {
				return "", fmt.Errorf("%s does not name the server that it is for", file)
			}
		}
		for _, address := range usersAddresses {
			if strings.Contains(text, address) {
				return "", fmt.Errorf("%s would still name %s", file, address)
			}
		}
		return text, nil
	})
}

// copyComponents copies the component files in a folder into dir, each as edit returns it.
func copyComponents(folder, dir string, edit func(file, text string) (string, error)) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("there are no component files in %s", folder)
	}
	for _, file := range files {
		original, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		text, err := edit(file, string(original))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
