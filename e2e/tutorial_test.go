package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/stack"
)

const tutorial = "daprhttp/subscriber.md"

// TestTutorial makes the subscriber that the tutorial shows, with its commands, and has it
// do after each step what the tutorial says.
func TestTutorial(t *testing.T) {
	t.Parallel()
	needsOwnRedis(t)
	s := startSystem(t, systemOptions{separateState: true})
	g := guests(t, tutorial)["sales-service"]
	programs, files := blocks(t, tutorial, "go"), blocks(t, tutorial, "yaml")
	if len(programs) != 3 || len(files) != 5 {
		t.Fatalf("the tutorial has %d programs and %d changes of component files", len(programs), len(files))
	}
	dir := workspace(t)
	write := func(name, program string) {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(g.ports.Replace(program)), 0o644))
	}
	build := func() {
		t.Helper()
		c := exec.CommandContext(t.Context(), "sh", "-ec", `test -z "$(gofmt -l .)" && go vet . && go build -o sales .`)
		c.Dir = dir
		if output, err := c.CombinedOutput(); err != nil {
			t.Fatalf("the subscriber can't be built: %v\n%s", err, output)
		}
	}
	var sales *stack.App
	start := func() {
		t.Helper()
		build()
		sales = s.startGuest(g, dir, "./sales")
	}

	// Step 1: events are received.
	write("main.go", programs[0])
	for line := range strings.Lines(strings.Join(blocks(t, tutorial, "sh"), "")) {
		if strings.HasPrefix(line, "go ") {
			c := exec.CommandContext(t.Context(), "sh", "-c", line)
			c.Dir = dir
			if output, err := c.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", line, err, output)
			}
		}
	}
	applyYAML(t, s.Resources, files[0])
	start()
	s.place("order-1001", "item1", 10)
	answers := strings.Split(strings.Join(blocks(t, tutorial, "text"), ""), "\n")
	said(t, sales.Service, answers[0])
	must(t, sales.Stop())

	// Step 2: each event is applied once, over a duplicate and a kill -9.
	write("sold.go", programs[1])
	edit(t, filepath.Join(dir, "main.go"), "Handler: show", "Handler: count")
	applyYAML(t, s.Resources, files[1])
	start()
	again := daprhttp.Message{Data: []byte(`{"orderId":"order-1002","itemId":"item1","quantity":10}`), ID: "the same event"}
	s.publish(s.order, "OrderPlaced", again)
	said(t, sales.Service, answers[1])
	sales.Service.Kill()
	s.publish(s.order, "OrderPlaced", again)
	s.place("order-1003", "item1", 1)
	sales.Service = startProgram(t, g.appID, dir, "./sales")
	said(t, sales.Service, "Sold 1 of item1, 11 in all")
	said(t, sales.Service, "Duplicate of event the same event")
	must(t, sales.Stop())

	// Step 3: what can't be applied, now or ever, waits elsewhere.
	write("main.go", programs[2])
	applyYAML(t, s.Resources, files[2])
	applyYAML(t, s.Resources, files[3])
	start()
	s.publish(s.order, "OrderPlaced", daprhttp.Message{Data: []byte(`{"itemId":"item1","quantity":"many"}`)})
	waitFor(t, time.Minute, func() error {
		letter, err := s.redis().Entry(t.Context(), deadLetterTopic, `"deadletterapp":"sales-service"`, time.Now())
		if err == nil && !strings.Contains(letter, `"deadletterreason":"json: cannot unmarshal string`) {
			err = fmt.Errorf("the dead letter is %q", letter)
		}
		return err
	})
	state := s.State.(*stack.Redis).Client()
	must(t, state.Do(t.Context(), "ACL", "SETUSER", "default", "resetkeys", "~*||[^s]*").Err()) // refuses the item "stuck"
	s.place("order-1004", "stuck", 1)
	waitFor(t, time.Minute, func() error {
		n, err := s.Broker.Len("sales-retry", "sales-service")
		if err == nil && n == 0 {
			err = errors.New("no order was moved to the retry topic")
		}
		return err
	})
	s.place("order-1005", "item1", 1)
	said(t, sales.Service, "Sold 1 of item1, 12 in all")
	must(t, state.Do(t.Context(), "ACL", "SETUSER", "default", "allkeys").Err())
	said(t, sales.Service, "Sold 1 of stuck, 1 in all")
	s.drained("sales-service")
	s.drainedOf("sales-retry", "sales-service")
}

// workspace returns a new folder in a copy of the project's workspace.
func workspace(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, module := range []string{"daprhttp", "order", "inventory", "e2e"} {
		must(t, os.Symlink(filepath.Join(project.Root, module), filepath.Join(root, module)))
	}
	text, err := os.ReadFile(filepath.Join(project.Root, "go.work"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(root, "go.work"), text, 0o644))
	dir := filepath.Join(root, "sales")
	must(t, os.Mkdir(dir, 0o755))
	return dir
}

// Subscribers in other languages get every event, the inventory service too, and the order
// service knows of none.
func TestSubscribersInOtherLanguages(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{})
	files := blocks(t, tutorial, "yaml")
	applyYAML(t, s.Resources, files[len(files)-1])
	apps := guests(t, tutorial)
	start := func(appID, language, file string) *stack.App {
		g := apps[appID]
		if _, err := exec.LookPath(g.command[0]); err != nil {
			t.Fatalf("the subscriber in %s can't run: %v", language, err)
		}
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, file), []byte(g.ports.Replace(blocks(t, tutorial, language)[0])), 0o644))
		return s.startGuest(g, dir, g.command...)
	}
	python := start("notifications", "python", "main.py")
	node := start("analytics", "js", "main.js")
	s.publish(s.order, "OrderPlaced", daprhttp.Message{Data: []byte(`"not an order"`)})
	for i := range 9 {
		s.place(fmt.Sprint("order-100", i+1), "item1", 1)
	}
	for _, app := range []*stack.App{python, node} {
		s.drained(app.ID)
	}
	for i := range 9 {
		said(t, python.Service, fmt.Sprintf("Notify: order-100%d, 1 of item1\n", i+1))
		said(t, node.Service, fmt.Sprintf("Sold: %d of item1\n", i+1))
	}
	s.waitForStock("item1", -9)
}
