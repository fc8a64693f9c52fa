// Package e2e holds the end-to-end tests: real services, real Dapr sidecars, a
// real Redis. Nothing in them is a stand-in.
package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/stack"
)

// What all tests share: where the project is, and the programs.
var (
	root  string
	bin   string
	daprd string
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		err := prepare()
		defer os.RemoveAll(bin)
		if err != nil {
			fmt.Fprintln(os.Stderr, "the end-to-end tests can't start:", err)
			return 1
		}
		code := m.Run()
		if code == 0 && *promisesFile != "" {
			if err := writePromises(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		return code
	}())
}

func prepare() (err error) {
	ctx := context.Background()
	if root, err = stack.Root(); err != nil {
		return err
	}
	if bin, err = os.MkdirTemp("", "dapr-orders"); err != nil {
		return err
	}
	if err := stack.BuildServices(ctx, root, bin); err != nil {
		return err
	}
	if err := stack.RedisServer.Install(ctx, os.Stderr); err != nil {
		if ping := (&stack.Redis{Addr: stack.DefaultRedisAddr}).Ping(); ping != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "There is no redis-server to start: the tests borrow empty databases of the Redis at %s.\n", stack.DefaultRedisAddr)
		borrow = true
	}
	daprd, err = stack.Daprd(ctx, root, os.Stderr)
	return err
}

// borrow is true where tests have to share a Redis that runs already.
var borrow bool

// A system is a running whole: a broker, a state store, the order service,
// replicas of the inventory service, and all their sidecars.
type system struct {
	t           *testing.T
	broker      broker
	state       server
	order       *stack.App
	inventory   []*stack.App
	options     stack.AppOptions // what every app of the system has in common
	daprToken   string
	appAPIToken string

	env          []string // of the services
	inventoryEnv []string // of the inventory service

	inventoryConfig string       // of the inventory service's sidecar
	logs            io.Writer    // may be nil
	deliveries      atomic.Int64 // of which the logs tell
	moved           atomic.Int64 // orders moved to the retry topic, as the logs tell

	mu        sync.Mutex
	processed map[string][]time.Time // when the log said that an order was counted, by order ID
}

// watch reads the lines of the services' logs.
func (s *system) watch(name, line string) {
	if s.logs != nil {
		s.mu.Lock()
		fmt.Fprintf(s.logs, "%s | %s\n", name, line)
		s.mu.Unlock()
	}
	if strings.Contains(line, "rocess") && strings.Contains(line, "OrderPlaced event") {
		s.deliveries.Add(1) // processed now or already, or not for the moment
	}
	if strings.Contains(line, movedLine) {
		s.moved.Add(1)
	}
	if _, rest, ok := strings.Cut(line, "Processed OrderPlaced event. orderId="); ok {
		orderID, _, _ := strings.Cut(rest, ",")
		s.mu.Lock()
		s.processed[orderID] = append(s.processed[orderID], time.Now())
		s.mu.Unlock()
	}
}

// systemOptions say how a system differs from the one in the README.
type systemOptions struct {
	backend       backend  // the default one if it has no name
	replicas      int      // of the inventory service; 0 means 1
	separateState bool     // a server for the state store alone
	tokens        bool     // both ways
	config        string   // a file with a Dapr Configuration
	inventoryID   string   // the app ID of the inventory service, if it is another
	inventoryEnv  []string // what the inventory service is told, as "NAME=value"

	inventoryConfig string    // a file with a Dapr Configuration for that service alone
	healthCheck     bool      // the sidecars check the apps' health
	sentry          string    // the program by which the sidecars prove who they are, if they have to
	logs            io.Writer // takes every line that services and sidecars write; may be nil

	env []string // what the services are told, as "NAME=value"

	// prepare may change the component files, which are in a folder.
	prepare func(resources string)

	// admit is a subscriber beside the inventory service, as components/pubsub.yaml
	// wants it: "audit-service=OrderPlaced".
	admit string

	// proxyState returns the address by which the sidecars are to reach the state
	// store at addr.
	proxyState func(addr string) string
}

// startSystem starts a system for one test. When the test ends it is stopped,
// and if the test failed, the logs are shown.
func startSystem(t *testing.T, o systemOptions) *system {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if o.backend.name == "" {
		o.backend = backends[0]
	}
	s := &system{t: t, broker: o.backend.broker(t, ctx), env: slices.Concat(o.backend.env, o.env), inventoryEnv: o.inventoryEnv, inventoryConfig: o.inventoryConfig, logs: o.logs, processed: make(map[string][]time.Time)}
	s.state = s.broker
	if o.backend.state != nil {
		s.state = o.backend.state(t, ctx)
	} else if o.separateState {
		s.state = startRedis(t, ctx)
	}
	if o.tokens {
		s.daprToken, s.appAPIToken = "token for the sidecar", "token for the app"
	}
	resources := filepath.Join(t.TempDir(), "components")
	var state stack.Server = s.state
	if o.proxyState != nil {
		state = &stack.Redis{Addr: o.proxyState(s.state.(*stack.Redis).Addr)}
	}
	if err := stack.WriteComponents(filepath.Join(root, o.backend.folder), resources, s.broker, state); err != nil {
		t.Fatal(err)
	}
	if o.admit != "" {
		edit(t, filepath.Join(resources, "pubsub.yaml"), `;inventory-service=OrderPlaced"`, `;inventory-service=OrderPlaced;`+o.admit+`"`)
	}
	if o.inventoryID != "" {
		for _, file := range []string{"pubsub.yaml", "retry.yaml", "statestore.yaml"} {
			editAll(t, filepath.Join(resources, file), "inventory-service", o.inventoryID)
		}
	}
	if o.prepare != nil {
		o.prepare(resources)
	}
	s.options = stack.AppOptions{
		Daprd: daprd, Resources: resources,
		DaprAPIToken: s.daprToken, AppAPIToken: s.appAPIToken,
		Config: o.config,
		Output: s.watch,
	}
	if o.healthCheck {
		s.options.SidecarArgs = []string{"--enable-app-health-check"}
	}
	if o.sentry != "" {
		sentry, args, env, err := stack.StartSentry(ctx, o.sentry, t.TempDir())
		must(t, err)
		t.Cleanup(sentry.Kill)
		s.options.SidecarArgs, s.options.SidecarEnv = args, env
	}

	apps := make([]*stack.App, 1+max(o.replicas, 1))
	var wg sync.WaitGroup
	for i := range apps {
		wg.Go(func() {
			id, program := cmp.Or(o.inventoryID, "inventory-service"), "inventory"
			if i == 0 {
				id, program = "order-service", "order"
			}
			apps[i] = s.startApp(ctx, id, program, 0)
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	s.order, s.inventory = apps[0], apps[1:]
	return s
}

// edit replaces what stands exactly once in a file.
func edit(t *testing.T, file, old, new string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), old) != 1 {
		t.Fatalf("%s does not have %s once", file, old)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), old, new, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// editAll replaces what stands in a file, however often.
func editAll(t *testing.T, file, old, new string) {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file, bytes.ReplaceAll(text, []byte(old), []byte(new)), 0o644))
}

// redis returns the broker of a system on the default backend.
func (s *system) redis() *stack.Redis { return s.broker.(*stack.Redis) }

// startApp starts one more app of the system: one of the services, or, without a
// program, a sidecar for what listens on port in the test itself.
func (s *system) startApp(ctx context.Context, id, program string, port int) *stack.App {
	o := s.options
	o.ID, o.Port = id, port
	if program != "" {
		o.Program = filepath.Join(bin, program)
	}
	o.Env = slices.Concat(o.Env, s.env)
	if program == "inventory" {
		o.Config = cmp.Or(s.inventoryConfig, o.Config)
		o.Env = slices.Concat(o.Env, s.inventoryEnv)
	}
	app, err := stack.StartApp(ctx, o)
	if err != nil {
		s.t.Error(err)
		return nil
	}
	s.t.Cleanup(func() {
		if err := app.Stop(); err != nil {
			s.t.Error(err)
		}
		if s.t.Failed() {
			s.showLogs(app.Service, app.Sidecar)
		}
	})
	return app
}

// showLogs logs the last lines of processes.
func (s *system) showLogs(processes ...*stack.Process) {
	for _, p := range processes {
		if p != nil {
			lines := strings.SplitAfter(p.Log(), "\n")
			s.t.Logf("%s wrote last:\n%s", p.Name, strings.Join(lines[max(0, len(lines)-25):], ""))
		}
	}
}

// startRedis returns a Redis for one test: a server of its own, or an empty
// database of one that runs already.
func startRedis(t *testing.T, ctx context.Context) *stack.Redis {
	t.Helper()
	if borrow {
		r, release, err := stack.BorrowRedis(stack.DefaultRedisAddr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(release)
		return r
	}
	port, err := stack.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	r, err := stack.StartRedis(ctx, t.TempDir(), port, nil)
	if err != nil {
		t.Fatal(err)
	}
	stopAfter(t, r)
	return r
}

// An answer is what came back for a request.
type answer struct {
	status int
	body   string
}

// send makes one request. It fails the test only if there is no answer at all.
func (s *system) send(method, url, body string, header http.Header) answer {
	s.t.Helper()
	a, err := s.trySend(method, url, body, header)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func (s *system) trySend(method, url, body string, header http.Header) (answer, error) {
	req, err := http.NewRequestWithContext(s.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	maps.Copy(req.Header, header)
	if _, given := req.Header["Dapr-Api-Token"]; s.appAPIToken != "" && !given {
		req.Header.Set("dapr-api-token", s.appAPIToken)
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, strings.TrimSpace(string(text))}, err
}

var client = &http.Client{
	Timeout:   30 * time.Second,
	Transport: &http.Transport{MaxIdleConnsPerHost: 64},
}

// place places an order and demands that it is accepted.
func (s *system) place(orderID, itemID string, quantity int) {
	s.t.Helper()
	body := fmt.Sprintf(`{"orderId":%s,"itemId":%s,"quantity":%d}`, quote(orderID), quote(itemID), quantity)
	if a := s.send("POST", s.order.URL("/order"), body, nil); a.status != http.StatusOK {
		s.t.Fatalf("POST /order %s: got %d %s, want 200", body, a.status, a.body)
	}
}

func quote(text string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(text); err != nil {
		panic(err)
	}
	return strings.TrimSpace(b.String())
}

// setStock sets the stock of an item.
func (s *system) setStock(itemID string, quantity int) {
	s.t.Helper()
	a := s.send("POST", s.inventory[0].URL("/inventory/"+itemID), fmt.Sprintf(`{"quantity":%d}`, quantity), nil)
	if a.status != http.StatusOK {
		s.t.Fatalf("POST /inventory/%s: got %d %s, want 200", itemID, a.status, a.body)
	}
}

// stock returns the stock of an item.
func (s *system) stock(itemID string) (quantity int, err error) {
	a, err := s.trySend("GET", s.inventory[0].URL("/inventory/"+itemID), "", nil)
	if err != nil {
		return 0, err
	}
	var stock struct{ Quantity int }
	if err := json.Unmarshal([]byte(a.body), &stock); err != nil || a.status != http.StatusOK {
		return 0, fmt.Errorf("GET /inventory/%s: got %d %s", itemID, a.status, a.body)
	}
	return stock.Quantity, nil
}

// waitForStock waits until the stock of an item is as wanted.
func (s *system) waitForStock(itemID string, want int) {
	s.t.Helper()
	waitFor(s.t, 2*time.Minute, func() error {
		got, err := s.stock(itemID)
		if err == nil && got != want {
			err = fmt.Errorf("the stock of %s is %d, want %d", itemID, got, want)
		}
		return err
	})
}

// drained waits until the broker has no event left for an app: none waiting and
// none that was delivered but not acknowledged.
func (s *system) drained(appID string) {
	s.t.Helper()
	waitFor(s.t, time.Minute, func() error {
		return s.broker.Drained("OrderPlaced", appID)
	})
}

// publish publishes an event through a sidecar.
func (s *system) publish(app *stack.App, topic string, m daprhttp.Message) {
	s.t.Helper()
	if err := s.sidecar(app).Publish(s.t.Context(), "pubsub", topic, m); err != nil {
		s.t.Fatal(err)
	}
}

func (s *system) sidecar(app *stack.App) *daprhttp.Client {
	return &daprhttp.Client{Endpoint: app.DaprURL(""), APIToken: s.daprToken}
}

// waitFor waits until check returns nil, and fails the test with the last error
// if that takes too long. The bound is there to end a hopeless wait, not to
// measure anything.
func waitFor(t *testing.T, bound time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(bound)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v still: %v", bound, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// inParallel calls do for 0 to n-1, some at a time.
func inParallel(n, atOnce int, do func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range atOnce {
		wg.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}
