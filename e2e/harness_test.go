package e2e

import (
	"bytes"
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

// A system is a running whole, whose apps are the order service and replicas of the
// inventory service.
type system struct {
	*stack.System
	t           *testing.T
	order       *stack.App
	inventory   []*stack.App
	daprToken   string
	appAPIToken string
	prefix      string // of each app ID; empty for none

	logs       io.Writer    // may be nil
	deliveries atomic.Int64 // of which the logs tell
	sidecars   atomic.Int64 // so far, each of which has a name
	moved      atomic.Int64 // orders moved to the retry topic, as the logs tell

	links     map[int]*links // by the port of an app's sidecar
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
	backend       stack.Backend // the first one if it has no name
	replicas      int           // of the inventory service; 0 means 1
	separateState bool          // a server for the state store alone
	tokens        bool          // both ways
	sentry        string        // the program by which the sidecars prove who they are, if they have to
	logs          io.Writer     // takes every line that services and sidecars write; may be nil

	// mesh gives apps IDs that no other system has, so that what is sent from one to another
	// by service invocation stays in this one.
	mesh bool

	// each may change the options of every app before it is started.
	each func(*stack.AppOptions)

	// prepare may change the component files, which are in a folder.
	prepare func(resources string)

	// unfiltered starts sidecars without the filter: see components/dapr-issues.md.
	unfiltered bool

	// admit is a subscriber beside the inventory service, as components/redis/pubsub.yaml
	// wants it: "audit-service=OrderPlaced".
	admit string

	// network lets all that goes from one process to another go over links: see links.
	network bool
}

// isInventory reports whether options are of the inventory service, whatever its ID.
func isInventory(o *stack.AppOptions) bool { return filepath.Base(o.Program) == "inventory" }

// startSystem starts a system for one test. When the test ends it is stopped,
// and if the test failed, the logs are shown.
func startSystem(t *testing.T, o systemOptions) *system {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if o.backend.Name == "" {
		o.backend = stack.Backends[0]
	}
	if o.separateState {
		o.backend = o.backend.WithStateApart()
	}
	servers, err := project.StartServers(ctx, o.backend, t.TempDir())
	must(t, err)
	t.Cleanup(func() {
		if err := servers.Stop(); err != nil {
			t.Error(err)
		}
	})
	if o.unfiltered {
		servers.Configs = ""
		must(t, os.Remove(filepath.Join(servers.Resources, stack.FilterFile)))
	}
	s := &system{System: servers, t: t, logs: o.logs, processed: make(map[string][]time.Time)}
	if o.mesh {
		s.prefix = fmt.Sprintf("run%d-%d-", os.Getpid(), time.Now().UnixNano()%1e9)
	}
	if o.tokens {
		s.daprToken, s.appAPIToken = "token for the sidecar", "token for the app"
	}
	s.editComponents(o)
	var sidecarArgs, sidecarEnv []string
	if o.sentry != "" {
		sentry, args, env, err := stack.StartSentry(ctx, o.sentry, t.TempDir())
		must(t, err)
		t.Cleanup(sentry.Kill)
		sidecarArgs, sidecarEnv = args, env
	}
	s.Each = func(app *stack.AppOptions) {
		app.Env = slices.Concat(o.backend.Env, app.Env)
		app.SidecarEnv = append(app.SidecarEnv, fmt.Sprintf("MQTT_CLIENT_ID=%s-%d", app.ID, s.sidecars.Add(1)))
		app.ID = s.prefix + app.ID
		if run := o.backend.Given; run != "" {
			app.ID = run + app.ID
			app.SidecarEnv = append(app.SidecarEnv, "NAMESPACE="+run) // with which topics begin
		}
		app.DaprAPIToken, app.AppAPIToken = s.daprToken, s.appAPIToken
		app.SidecarArgs = slices.Concat(sidecarArgs, app.SidecarArgs)
		app.SidecarEnv = slices.Concat(sidecarEnv, app.SidecarEnv)
		app.Output = s.watch
		if o.network {
			s.network(app, filepath.Join(project.Root, o.backend.Folder))
		}
		if o.each != nil {
			o.each(app)
		}
	}
	t.Cleanup(func() { // when the apps have stopped
		for _, link := range s.allLinks() {
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
	apps, err := s.Start(ctx, append([]stack.AppOptions{project.App(stack.Order)}, slices.Repeat([]stack.AppOptions{project.App(stack.Inventory)}, max(o.replicas, 1))...)...)
	must(t, err)
	s.order, s.inventory = apps[0], apps[1:]
	if broker, ok := s.Broker.(observed); ok {
		s.observe(broker)
	}
	return s
}

// editComponents changes the system's component files as its options want it.
func (s *system) editComponents(o systemOptions) {
	s.t.Helper()
	if o.admit != "" && o.backend.Given == "" { // where nobody is shut out
		edit(s.t, filepath.Join(s.Resources, "pubsub.yaml"), `;inventory-service=OrderPlaced"`, `;inventory-service=OrderPlaced;`+o.admit+`"`)
	}
	if s.prefix != "" {
		files, err := filepath.Glob(filepath.Join(s.Resources, "*.yaml"))
		must(s.t, err)
		for _, file := range files {
			s.rename(file, file)
		}
	}
	if o.prepare != nil {
		o.prepare(s.Resources)
	}
}

// rename copies a file to another, with the services' IDs as they are in the system.
func (s *system) rename(file, to string) {
	s.t.Helper()
	text, err := os.ReadFile(file)
	must(s.t, err)
	for _, service := range stack.Services {
		text = bytes.ReplaceAll(text, []byte(service.AppID), []byte(s.prefix+service.AppID))
	}
	must(s.t, os.WriteFile(to, text, 0o644))
}

// edit replaces what stands exactly once in a file.
func edit(t *testing.T, file, old, new string) {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	if bytes.Count(text, []byte(old)) != 1 {
		t.Fatalf("%s does not have %s once", file, old)
	}
	editAll(t, file, old, new)
}

// editAll replaces what stands in a file, however often.
func editAll(t *testing.T, file, old, new string) {
	t.Helper()
	text, err := os.ReadFile(file)
	must(t, err)
	if !bytes.Contains(text, []byte(old)) {
		t.Fatalf("%s does not have %s", file, old)
	}
	must(t, os.WriteFile(file, bytes.ReplaceAll(text, []byte(old), []byte(new)), 0o644))
}

// redis returns the broker of a system on the default backend.
func (s *system) redis() *stack.Redis { return s.Broker.(*stack.Redis) }

// start starts one more app of the system.
func (s *system) start(o stack.AppOptions) *stack.App {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	apps, err := s.Start(ctx, o)
	must(s.t, err)
	return apps[0]
}

// showLogs logs the last lines of all apps.
func (s *system) showLogs() {
	for _, app := range s.Apps() {
		for _, p := range []*stack.Process{app.Service, app.Sidecar} {
			if p != nil {
				lines := strings.SplitAfter(p.Log(), "\n")
				s.t.Logf("%s wrote last:\n%s", p.Name, strings.Join(lines[max(0, len(lines)-25):], ""))
			}
		}
	}
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
	s.drainedOf("OrderPlaced", appID)
}

// drainedOf is drained for another topic.
func (s *system) drainedOf(topic, appID string) {
	s.t.Helper()
	waitFor(s.t, time.Minute, func() error { return s.Broker.Drained(topic, appID) })
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

// needsOwnRedis fails a test that stops and starts Redis where none can be had.
func needsOwnRedis(t *testing.T) {
	t.Helper()
	if borrow {
		t.Fatal("this test stops and starts a Redis of its own: install redis-server")
	}
}

// must fails the test with an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
