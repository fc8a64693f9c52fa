package harness

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/stack"
)

// A System is a running order service and replicas of the inventory service, with their
// sidecars and servers.
type System struct {
	*stack.System
	T           *testing.T
	Order       *stack.App
	Inventory   []*stack.App
	DaprToken   string
	AppAPIToken string
	prefix      string // of each app ID; empty for none

	logs    io.Writer    // may be nil
	tries   atomic.Int64 // to apply an order, as the logs tell
	started atomic.Int64 // apps: the number makes an MQTT client's name unique
	Moved   atomic.Int64 // orders moved to the retry topic, as the logs tell

	links     map[int]*Links // by the port of an app's sidecar
	mu        sync.Mutex
	processed map[string]int       // how often the logs said that an order was processed, by order ID
	applied   map[string]time.Time // when a log first named an order as processed or as a duplicate
}

// Options say how a system differs from the one in the README.
type Options struct {
	Backend       stack.Backend // the first one if it has no name
	Replicas      int           // of the inventory service; 0 means 1
	SeparateState bool          // a server for the state store alone
	Tokens        bool          // both ways
	Sentry        string        // the program by which the sidecars prove who they are, if they have to
	Logs          io.Writer     // takes every line that services and sidecars write; may be nil

	// Mesh gives apps IDs that no other system has, so that what is sent from one to another
	// by service invocation stays in this one.
	Mesh bool

	// Each may change the options of every app before it is started.
	Each func(*stack.AppOptions)

	// Prepare may change the component files, which are in a folder.
	Prepare func(resources string)

	// Unfiltered starts sidecars without the filter: see components/dapr-issues.md.
	Unfiltered bool

	// Admit is a subscriber next to the inventory service, as components/redis/pubsub.yaml
	// wants it: "audit-service=OrderPlaced".
	Admit string

	// Network lets all that goes from one process to another go over links: see [Links].
	Network bool
}

// Start starts a system for one test. When the test ends it is stopped,
// and if the test failed, the logs are shown. Start skips a test that needs a server that is
// not installed, and with -short each test that is not in Short.
func Start(t *testing.T, o Options) *System {
	t.Helper()
	UnlessShort(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if o.Backend.Name == "" {
		o.Backend = stack.Backends[0]
	}
	if o.SeparateState {
		o.Backend = o.Backend.WithStateApart()
	}
	servers, err := Project.StartServers(ctx, o.Backend, t.TempDir())
	Must(t, err)
	t.Cleanup(func() {
		if err := servers.Stop(); err != nil {
			t.Error(err)
		}
	})
	if o.Unfiltered {
		servers.Configs = ""
		Must(t, os.Remove(filepath.Join(servers.Resources, stack.FilterFile)))
	}
	s := &System{System: servers, T: t, logs: o.Logs, processed: make(map[string]int), applied: make(map[string]time.Time)}
	if o.Mesh {
		s.prefix = fmt.Sprintf("run%d-%d-", os.Getpid(), time.Now().UnixNano()%1e9)
	}
	if o.Tokens {
		s.DaprToken, s.AppAPIToken = "token for the sidecar", "token for the app"
	}
	s.editComponents(o)
	var sidecarArgs, sidecarEnv []string
	if o.Sentry != "" {
		sentry, args, env, err := stack.StartSentry(ctx, o.Sentry, t.TempDir())
		Must(t, err)
		t.Cleanup(sentry.Kill)
		sidecarArgs, sidecarEnv = args, env
	}
	s.Each = func(app *stack.AppOptions) {
		app.Env = slices.Concat(o.Backend.Env, app.Env)
		app.SidecarEnv = append(app.SidecarEnv, fmt.Sprintf("MQTT_CLIENT_ID=%s-%d", app.ID, s.started.Add(1)))
		app.ID = s.prefix + app.ID
		if run := o.Backend.Given; run != "" {
			app.ID = run + app.ID
			app.SidecarEnv = append(app.SidecarEnv, "NAMESPACE="+run) // with which topics begin
		}
		app.DaprAPIToken, app.AppAPIToken = s.DaprToken, s.AppAPIToken
		app.SidecarArgs = slices.Concat(sidecarArgs, app.SidecarArgs)
		app.SidecarEnv = slices.Concat(sidecarEnv, app.SidecarEnv)
		app.Output = s.watch
		if o.Network {
			s.network(app, filepath.Join(Project.Root, o.Backend.Folder))
		}
		if o.Each != nil {
			o.Each(app)
		}
	}
	t.Cleanup(func() { // when the apps have stopped
		for _, link := range s.AllLinks() {
			link.Close()
		}
	})
	t.Cleanup(func() {
		if err := s.StopApps(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			s.showLogs()
		}
	})
	apps, err := s.Start(ctx, append([]stack.AppOptions{Project.App(stack.Order)}, slices.Repeat([]stack.AppOptions{Project.App(stack.Inventory)}, max(o.Replicas, 1))...)...)
	Must(t, err)
	s.Order, s.Inventory = apps[0], apps[1:]
	if broker, ok := s.Broker.(observed); ok {
		s.observe(broker)
	}
	return s
}

// editComponents changes the component files as the options demand.
func (s *System) editComponents(o Options) {
	s.T.Helper()
	if o.Admit != "" && o.Backend.Given == "" { // a user's own components may have no scopes
		Edit(s.T, filepath.Join(s.Resources, "pubsub.yaml"), `;inventory-service=OrderPlaced"`, `;inventory-service=OrderPlaced;`+o.Admit+`"`)
	}
	if s.prefix != "" {
		files, err := filepath.Glob(filepath.Join(s.Resources, "*.yaml"))
		Must(s.T, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			Must(s.T, err)
			for _, service := range stack.Services {
				text = bytes.ReplaceAll(text, []byte(service.AppID), []byte(s.prefix+service.AppID))
			}
			Must(s.T, os.WriteFile(file, text, 0o644))
		}
	}
	if o.Prepare != nil {
		o.Prepare(s.Resources)
	}
}

// StartApp starts one more app of the system.
func (s *System) StartApp(o stack.AppOptions) *stack.App {
	s.T.Helper()
	ctx, cancel := context.WithTimeout(s.T.Context(), time.Minute)
	defer cancel()
	apps, err := s.Start(ctx, o)
	Must(s.T, err)
	return apps[0]
}

// Redis returns the broker of a system on the default backend.
func (s *System) Redis() *stack.Redis { return s.Broker.(*stack.Redis) }

// showLogs logs the last lines of all apps.
func (s *System) showLogs() {
	for _, app := range s.Apps() {
		for _, p := range []*stack.Process{app.Service, app.Sidecar} {
			if p != nil {
				lines := strings.SplitAfter(p.Log(), "\n")
				s.T.Logf("%s wrote last:\n%s", p.Name, strings.Join(lines[max(0, len(lines)-25):], ""))
			}
		}
	}
}

// movedLine is what a service logs when it moves an order to the retry topic.
const movedLine = "Moved OrderPlaced event to the retry topic"

// watch reads the lines that services and sidecars write.
func (s *System) watch(name, line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.logs != nil {
		fmt.Fprintf(s.logs, "%s | %s\n", name, line)
	}
	if strings.Contains(line, "rocess") && strings.Contains(line, "OrderPlaced event") {
		s.tries.Add(1) // processed now or already, or not for the moment
	}
	if strings.Contains(line, movedLine) {
		s.Moved.Add(1)
	}
	orderID, processed := orderIn(line, "Processed OrderPlaced event. orderId=")
	if processed {
		s.processed[orderID]++
	} else if orderID, processed = orderIn(line, "OrderPlaced event had been processed already. orderId="); !processed {
		return
	}
	if s.applied[orderID].IsZero() {
		s.applied[orderID] = time.Now()
	}
}

// orderIn returns the order ID that follows a text in a log line.
func orderIn(line, text string) (orderID string, ok bool) {
	_, rest, ok := strings.Cut(line, text)
	orderID, _, _ = strings.Cut(rest, ",")
	return orderID, ok
}

// Applied returns when a log first named an order as processed or as a duplicate, by order
// ID. The log names only a duplicate when the store saved the order and answered that it had
// not.
func (s *System) Applied() map[string]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.applied)
}

// AppliedOnce waits until the log names each order as processed or as a duplicate. It fails
// when an order is processed twice.
func (s *System) AppliedOnce(t *testing.T, orderIDs []string) {
	t.Helper()
	WaitFor(t, time.Minute, func() error {
		if lost := s.unnamed(orderIDs); len(lost) > 0 {
			return fmt.Errorf("no log names these accepted orders as processed: %v", lost)
		}
		return nil
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for orderID, times := range s.processed {
		if times > 1 {
			t.Errorf("the order %s was applied %d times", orderID, times)
		}
	}
}

// unnamed returns those of the orders that no log names as processed.
func (s *System) unnamed(orderIDs []string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(orderIDs), func(id string) bool { return !s.applied[id].IsZero() })
}
