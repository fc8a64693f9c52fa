package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A Backend is a folder of component files and the servers that they name.
type Backend struct {
	Name   string // for people
	Folder string // of the component files, in the project

	// Broker and State start servers with their data in a folder. Without State the
	// broker is the state store, too.
	Broker func(ctx context.Context, dir string) (Broker, error)
	State  func(ctx context.Context, dir string) (Server, error)

	Env []string // for the services, as "NAME=value"

	// Cannot says why the backend can't keep a promise, by the promise's name.
	Cannot map[string]string

	// Forgets says that the broker keeps nothing for an app that was never there.
	Forgets bool

	// Given is the prefix of everything that is put into servers that run already: see
	// GivenBackend. It is empty where the servers are started.
	Given     string
	Reachable bool // GivenBackend knows how to break the network to the state store
}

// Backends are the backends that the project supports. The first is what `dapr init`
// starts.
var Backends = []Backend{
	{
		Name:   "Redis",
		Folder: "components/redis",
		Broker: redisBroker,
	},
	{
		Name:   "RabbitMQ + PostgreSQL",
		Folder: "components/rabbitmq-postgres",
		Broker: func(ctx context.Context, dir string) (Broker, error) { return startRabbitMQ(ctx, dir, 1) },
		State:  postgreSQLState,
		Env:    []string{"PUBLISH_TWICE=true"},
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
		Broker:  startMosquitto,
		State:   postgreSQLState,
		Forgets: true,
		Cannot: map[string]string{
			"BrokerKilled": "Mosquitto acknowledges an event up to a second before it writes it to disk",
		},
	},
}

// Replicated is a backend that outlives its machines: RabbitMQ on three nodes, behind a
// load balancer, and PostgreSQL with a synchronous standby.
var Replicated = Backend{
	Name:   "RabbitMQ cluster + PostgreSQL with a standby",
	Folder: "components/replicated",
	Broker: func(ctx context.Context, dir string) (Broker, error) { return startRabbitMQ(ctx, dir, 3) },
	State:  func(ctx context.Context, _ string) (Server, error) { return startPostgreSQLPair(ctx) },
	Env:    []string{"PUBLISH_TWICE=true", "SUBSCRIPTION_METADATA=queueType=quorum"},
}

func redisBroker(ctx context.Context, dir string) (Broker, error) { return StartRedis(ctx, dir, 0) }

func redisState(ctx context.Context, dir string) (Server, error) { return StartRedis(ctx, dir, 0) }

func postgreSQLState(ctx context.Context, _ string) (Server, error) { return StartPostgreSQL(ctx) }

// WithStateApart returns the backend with a server for the state store alone.
func (b Backend) WithStateApart() Backend {
	if b.State == nil {
		b.State = redisState
	}
	return b
}

// documentedAddresses are the addresses in the project's component files, where a user's own
// servers may listen.
var documentedAddresses = []string{DefaultRedisAddr, rabbitMQAddr, postgreSQLPort, sqliteFile, mosquittoAddr}

// WriteComponents copies the component files in a folder into dir, with the broker and
// the state store in the place of the servers that they name, and with a full path of the
// filter. The rest of each file stays as users have it.
func WriteComponents(folder, dir string, broker, state Named) error {
	return copyFiles(filepath.Join(folder, "*.yaml"), dir, func(file, original string) (string, error) {
		var server Named
		switch filepath.Base(file) {
		case FilterFile:
			return filterIn(original)
		case "pubsub.yaml", "retry.yaml":
			server = broker
		case "statestore.yaml":
			server = state
		case "resiliency.yaml": // It names no server.
		default:
			return "", errors.New("it is not known which server this file names")
		}
		text := original
		if server != nil {
			text = server.In(original)
			if text == original {
				return "", errors.New("it does not name the server that it is for")
			}
		}
		for _, address := range documentedAddresses {
			if strings.Contains(text, address) {
				return "", fmt.Errorf("it would still name %s", address)
			}
		}
		return text, nil
	})
}

// copyFiles copies the files that a pattern matches into dir, each as edit returns it.
func copyFiles(pattern, dir string, edit func(file, text string) (string, error)) error {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("there is no file %s", pattern)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		edited, err := edit(file, string(text))
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), []byte(edited), 0o644); err != nil {
			return err
		}
	}
	return nil
}
