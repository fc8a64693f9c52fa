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
	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

const tutorial = "daprhttp/subscriber.md"

// TestTutorial makes the subscriber that the tutorial shows, with its commands, and has it
// do after each step what the tutorial says.
func TestTutorial(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{SeparateState: true})
	g := harness.Guests(t, tutorial)["sales-service"]
	programs, files := harness.Blocks(t, tutorial, "go"), harness.Blocks(t, tutorial, "yaml")
	if len(programs) != 5 || len(files) != 5 {
		t.Fatalf("the tutorial has %d programs and %d changes of component files", len(programs), len(files))
	}
	dir := workspace(t)
	write := func(name, program string) {
		harness.Must(t, os.WriteFile(filepath.Join(dir, name), []byte(g.Ports.Replace(program)), 0o644))
	}
	build := func() {
		t.Helper()
		c := exec.CommandContext(t.Context(), "sh", "-ec", `test -z "$(gofmt -l .)" && go vet . && go test -count=2 . && go build -o sales .`)
		c.Dir = dir
		if output, err := c.CombinedOutput(); err != nil {
			t.Fatalf("the subscriber can't be built: %v\n%s", err, output)
		}
	}
	var sales *stack.App
	start := func() {
		t.Helper()
		build()
		sales = s.StartGuest(g, dir, "./sales")
	}

	// Step 1: events are received.
	write("main.go", programs[0])
	for line := range strings.Lines(strings.Join(harness.Blocks(t, tutorial, "sh"), "")) {
		if strings.HasPrefix(line, "go ") {
			c := exec.CommandContext(t.Context(), "sh", "-c", line)
			c.Dir = dir
			if output, err := c.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", line, err, output)
			}
		}
	}
	harness.ApplyYAML(t, s.Resources, files[0])
	start()
	s.Place("order-1001", "item1", 10)
	answers := strings.Split(strings.Join(harness.Blocks(t, tutorial, "text"), ""), "\n")
	harness.Said(t, sales.Service, answers[0])
	harness.Must(t, sales.Stop())

	// Step 2: each event is applied once, over a duplicate and a kill -9.
	write("sold.go", programs[1])
	write("sold_test.go", programs[2])
	harness.Edit(t, filepath.Join(dir, "main.go"), "Handler: show", "Handler: count")
	harness.ApplyYAML(t, s.Resources, files[1])
	start()
	again := daprhttp.Message{Data: []byte(`{"orderId":"order-1002","itemId":"item1","quantity":10}`), ID: "the same event"}
	s.Publish(s.Order, "OrderPlaced", again)
	harness.Said(t, sales.Service, answers[1])
	sales.Service.Kill()
	s.Publish(s.Order, "OrderPlaced", again)
	s.Place("order-1003", "item1", 1)
	sales.Service = harness.StartProgram(t, g.AppID, dir, "./sales")
	harness.Said(t, sales.Service, "Sold 1 of item1, 11 in all")
	harness.Said(t, sales.Service, "Duplicate of event the same event")
	harness.Must(t, sales.Stop())

	// Step 3: what can't be applied, now or ever, waits elsewhere.
	write("main.go", programs[3])
	write("sold_test.go", strings.Replace(programs[2], "\t\"testing\"", "\t\"os\"\n\t\"testing\"", 1)+"\n"+programs[4])
	harness.ApplyYAML(t, s.Resources, files[2])
	harness.ApplyYAML(t, s.Resources, files[3])
	start()
	s.TypeBash(tutorial, []string{""})
	harness.Said(t, sales.Service, " to OrderPlaced-dead-letter\n")
	harness.WaitFor(t, time.Minute, func() error {
		letter, err := s.Redis().Entry(t.Context(), harness.DeadLetterTopic, `"deadletterapp":"sales-service"`, time.Now())
		if err == nil && !strings.Contains(letter, `"deadletterreason":"json: cannot unmarshal string`) {
			err = fmt.Errorf("the dead letter is %q", letter)
		}
		return err
	})
	state := s.State.(*stack.Redis).Client()
	harness.Must(t, state.Do(t.Context(), "ACL", "SETUSER", "default", "resetkeys", "~*||[^s]*").Err()) // refuses the item "stuck"
	s.Place("order-1004", "stuck", 1)
	harness.WaitFor(t, time.Minute, func() error {
		n, err := s.Broker.Len("sales-retry", "sales-service")
		if err == nil && n == 0 {
			err = errors.New("no order was moved to the retry topic")
		}
		return err
	})
	harness.Said(t, sales.Service, "Can't apply event ")
	s.Place("order-1005", "item1", 1)
	harness.Said(t, sales.Service, "Sold 1 of item1, 12 in all")
	harness.Must(t, state.Do(t.Context(), "ACL", "SETUSER", "default", "allkeys").Err())
	harness.Said(t, sales.Service, "Sold 1 of stuck, 1 in all")
	s.Drained("sales-service")
	s.DrainedOf("sales-retry", "sales-service")
}

// workspace returns a new folder in a copy of the project's workspace.
func workspace(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, module := range []string{"daprhttp", "order", "inventory", "e2e"} {
		harness.Must(t, os.Symlink(filepath.Join(harness.Project.Root, module), filepath.Join(root, module)))
	}
	harness.Must(t, os.WriteFile(filepath.Join(root, "go.work"), []byte(harness.Document(t, "go.work")), 0o644))
	dir := filepath.Join(root, "sales")
	harness.Must(t, os.Mkdir(dir, 0o755))
	return dir
}

// Each subscriber, in any language, gets every event. The order service knows no subscriber.
func TestSubscribersInOtherLanguages(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{})
	files := harness.Blocks(t, tutorial, "yaml")
	harness.ApplyYAML(t, s.Resources, files[len(files)-1])
	apps := harness.Guests(t, tutorial)
	start := func(appID, language, file string) *stack.App {
		g := apps[appID]
		harness.NeedsProgram(t, g.Command[0], "apt-get install python3 nodejs, or brew install python node")
		dir := t.TempDir()
		harness.Must(t, os.WriteFile(filepath.Join(dir, file), []byte(g.Ports.Replace(harness.Blocks(t, tutorial, language)[0])), 0o644))
		return s.StartGuest(g, dir, g.Command...)
	}
	python := start("notifications", "python", "main.py")
	node := start("analytics", "js", "main.js")
	if a := s.Send("POST", node.URL("/orders"), "{", nil); a.Status != 400 {
		t.Errorf("a body without JSON got %d", a.Status)
	}
	for _, data := range []string{`"not an order"`, `{"itemId":"item1","quantity":"many"}`} {
		s.Publish(s.Order, "OrderPlaced", daprhttp.Message{Data: []byte(data)})
	}
	for i := range 9 {
		s.Place(fmt.Sprint("order-100", i+1), "item1", 1)
	}
	for _, app := range []*stack.App{python, node} {
		s.Drained(app.ID)
	}
	for i := range 9 {
		harness.Said(t, python.Service, fmt.Sprintf("Notify: order-100%d, 1 of item1\n", i+1))
		harness.Said(t, node.Service, fmt.Sprintf("Sold: %d of item1\n", i+1))
	}
	s.WaitForStock("item1", -9)
}
