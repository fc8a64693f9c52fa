package e2e

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/stack"
)

// A server is a broker or a state store that a test may let fail.
type server interface {
	stack.Server
	Kill()
	Restart(context.Context) error
	Stop(grace time.Duration) error
}

// A broker is a server that has topics.
type broker interface {
	server
	Drained(topic, appID string) error
	Len(topic, appID string) (int, error)
}

// A backend is a folder of component files and the servers that they name.
type backend struct {
	name   string // for people
	folder string // in the project

	// broker and state start the servers. Without state the broker is the state
	// store too.
	broker func(*testing.T, context.Context) broker
	state  func(*testing.T, context.Context) server

	// env is what the services are told, as "NAME=value".
	env []string
}

// The backends, of which the first is the one that `dapr init` starts.
var backends = []backend{
	{
		name:   "Redis",
		folder: "components",
		broker: func(t *testing.T, ctx context.Context) broker { return startRedis(t, ctx) },
	},
	{
		name:   "RabbitMQ + PostgreSQL",
		folder: "components/rabbitmq-postgres",
		broker: func(t *testing.T, ctx context.Context) broker {
			r, err := stack.StartRabbitMQ(ctx, t.TempDir(), filepath.Join(root, "components", "rabbitmq-postgres", "definitions.json"))
			must(t, err)
			stopAfter(t, r)
			return r
		},
		state: func(t *testing.T, ctx context.Context) server {
			p, err := stack.StartPostgreSQL(ctx)
			must(t, err)
			stopAfter(t, p)
			return p
		},
		env: []string{"PUBLISH_TWICE=true"},
	},
	{
		name:   "Redis + SQLite",
		folder: "components/sqlite",
		broker: func(t *testing.T, ctx context.Context) broker { return startRedis(t, ctx) },
		state:  func(t *testing.T, _ context.Context) server { return stack.NewSQLite(t.TempDir()) },
	},
}

// stopAfter stops a server when the test has ended.
func stopAfter(t *testing.T, s server) {
	t.Cleanup(func() {
		if err := s.Stop(20 * time.Second); err != nil {
			t.Error(err)
		}
	})
}

var promisesFile = flag.String("promises", "", "prove every promise on every backend, and write what was seen to this file")

// The promises, in the order in which the README has them. The core is proven on
// every backend whenever the tests run, the rest on Redis, and on the others with
// -promises.
var (
	walkthrough    = promise{"the walkthrough on this page, word for word", true}
	concurrent     = promise{"orders at the same time, over three replicas", true}
	redelivered    = promise{"one event delivered again and again, and after restarts", false}
	unusualIDs     = promise{"items with unusual IDs", false}
	onceTests      = promise{"the tests of the counting protocol, over this store", false}
	poison         = promise{"what can't be counted goes to the dead-letter topic", false}
	deadLettersApp = promise{"dead letters are kept over a kill -9, listed, sent again, and counted once", true}
	itemRefused    = promise{"an item that the state store refuses for a minute, others under load", true}
	stateAway      = promise{"the state store away for 10 s, under load", false}
	brokerKilled   = promise{"the broker killed with -9 and started again, under load", false}
	processKilled  = promise{"services and sidecars killed with -9, under load", true}
	rollingRestart = promise{"three replicas restarted one after another, under load", false}

	promises = []promise{walkthrough, concurrent, redelivered, unusualIDs, onceTests, poison, deadLettersApp, itemRefused, stateAway, brokerKilled, processKilled, rollingRestart}
)

type promise struct {
	text string
	core bool
}

// kept has what was seen.
var kept = struct {
	sync.Mutex
	figures map[proof]string
}{figures: make(map[proof]string)}

// A proof is of a promise, on the backend of a name.
type proof struct {
	promise promise
	backend string
}

// prove proves a promise on one backend after another, by a test that returns what
// it has seen, in a few words.
func (p promise) prove(t *testing.T, test func(t *testing.T, b backend) string) {
	for i, b := range backends {
		if i > 0 && !p.core && *promisesFile == "" {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			figures := test(t, b)
			if t.Failed() {
				return
			}
			kept.Lock()
			defer kept.Unlock()
			kept.figures[proof{p, b.name}] = figures
		})
	}
}

// promisesTable returns the promises as the README shows them.
func promisesTable() string {
	kept.Lock()
	defer kept.Unlock()
	var b strings.Builder
	fmt.Fprint(&b, "| |")
	for _, backend := range backends {
		fmt.Fprintf(&b, " %s |", backend.name)
	}
	fmt.Fprintf(&b, "\n| --- |%s\n", strings.Repeat(" --- |", len(backends)))
	for _, p := range promises {
		fmt.Fprintf(&b, "| %s |", p.text)
		for _, backend := range backends {
			figures := kept.figures[proof{p, backend.name}]
			if figures == "" {
				figures = "NOT PROVEN"
			}
			fmt.Fprintf(&b, " %s |", figures)
		}
		fmt.Fprintln(&b)
	}
	return b.String()
}

// writePromises writes the table, and compares it with the README's: all but the
// figures must be the same.
func writePromises() error {
	table := promisesTable()
	if err := os.WriteFile(*promisesFile, []byte(table), 0o644); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		return err
	}
	figure := regexp.MustCompile(`[0-9][0-9,]*`)
	shown := strings.Split(figure.ReplaceAllString(string(text), "0"), "\n")
	for line := range strings.Lines(table) {
		if !slices.Contains(shown, figure.ReplaceAllString(strings.TrimSpace(line), "0")) {
			return fmt.Errorf("the README's table of promises does not have\n%s", line)
		}
	}
	return nil
}

// Files that are the same for several backends have not been changed for one of
// them alone.
func TestBackendsShareTheirFiles(t *testing.T) {
	t.Parallel()
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(root, "components", name))
		must(t, err)
		return string(text)
	}
	for copied, original := range map[string]string{
		"rabbitmq-postgres/resiliency.yaml": "resiliency.yaml",
		"sqlite/resiliency.yaml":            "resiliency.yaml",
		"sqlite/pubsub.yaml":                "pubsub.yaml",
		"sqlite/retry.yaml":                 "retry.yaml",
		"azure/resiliency.yaml":             "resiliency.yaml",
	} {
		if read(copied) != read(original) {
			t.Errorf("components/%s differs from components/%s", copied, original)
		}
	}
}

// The two services and daprhttp know nothing of what is behind their sidecars.
func TestNoBackendIsNamedInTheServices(t *testing.T) {
	t.Parallel()
	names := regexp.MustCompile(`(?i)redis|rabbit|postgres|sqlite|cosmos|service ?bus|kafka|azure`)
	for _, folder := range []string{"order", "inventory", "daprhttp"} {
		files := 0
		must(t, filepath.WalkDir(filepath.Join(root, folder), func(file string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			files++
			text, err := os.ReadFile(file)
			if name := names.Find(text); name != nil {
				t.Errorf("%s names %s", file, name)
			}
			return err
		}))
		if files < 3 {
			t.Errorf("there are %d files in %s", files, folder)
		}
	}
}

// The services run with the component files that `dapr init` leaves, too. What is
// weaker then is what the README says: an order that can't be counted at once is
// not tried again, and goes to the dead-letter topic.
func TestDefaultComponentsOfDaprInit(t *testing.T) {
	t.Parallel()
	needsOwnRedis(t)
	b := backends[0]
	b.folder = "e2e/testdata/dapr-init"
	testWalkthrough(t, b)

	const orders = 20
	s := startSystem(t, systemOptions{backend: b, separateState: true})
	s.setStock("item1", orders)
	s.state.Kill()
	inParallel(orders, 4, func(i int) { s.place(fmt.Sprint("order-", i), "item1", 1) })
	s.drained("inventory-service")
	must(t, s.state.Restart(t.Context()))
	var stock int
	waitFor(t, time.Minute, func() (err error) { stock, err = s.stock("item1"); return err })
	t.Logf("%d of %d orders counted, %d in the dead-letter topic", orders-stock, orders, s.deadLetters())
	if counted := orders - stock; counted+s.deadLetters() != orders {
		t.Errorf("of %d orders %d are counted and %d in the dead-letter topic", orders, counted, s.deadLetters())
	}
}
