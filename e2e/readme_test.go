package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/stack"
)

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// blocks returns what stands between ```language and ``` in the README, in order.
func blocks(t *testing.T, language string) []string {
	t.Helper()
	var found []string
	for _, match := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(readme(t), -1) {
		found = append(found, match[1])
	}
	return found
}

// TestPromiseReadmeWalkthrough types every bash command of the README, one after
// another, and compares the answers with those shown.
func TestPromiseReadmeWalkthrough(t *testing.T) {
	t.Parallel()
	walkthrough.prove(t, testWalkthrough)
}

func testWalkthrough(t *testing.T, b backend) string {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("the walkthrough needs curl: install it with your system's package manager")
	}
	s := startSystem(t, systemOptions{backend: b})
	ours := strings.NewReplacer( // nothing else in a command is changed
		"localhost:5001", fmt.Sprintf("localhost:%d", s.inventory[0].Port),
		"localhost:5002", fmt.Sprintf("localhost:%d", s.order.Port),
		"localhost:3500", fmt.Sprintf("localhost:%d", s.inventory[0].DaprPort),
		"localhost:3501", fmt.Sprintf("localhost:%d", s.order.DaprPort),
	)
	commands, answers := blocks(t, "bash"), blocks(t, "json")
	if len(commands) != len(answers) || len(commands) < 8 {
		t.Fatalf("the README has %d blocks of commands and %d of answers", len(commands), len(answers))
	}
	for i, block := range commands {
		want := strings.TrimSpace(answers[i])
		typed := func() string {
			var got []string
			for command := range strings.Lines(block) {
				output, err := exec.CommandContext(t.Context(), "bash", "-c", ours.Replace(command)).Output()
				if err != nil {
					t.Fatalf("%s: %v", command, err)
				}
				got = append(got, strings.TrimSpace(string(output)))
			}
			return strings.Join(got, "\n")
		}
		if !strings.Contains(block, "-d ") { // a query may be asked again until the event has come through
			waitFor(t, time.Minute, func() error {
				if diff := cmp.Diff(want, typed()); diff != "" {
					return fmt.Errorf("%s (-README +got):\n%s", block, diff)
				}
				return nil
			})
		} else if diff := cmp.Diff(want, typed()); diff != "" {
			t.Errorf("%s (-README +got):\n%s", block, diff)
		}
	}
	return fmt.Sprintf("%d commands", strings.Count(strings.Join(commands, ""), "\n"))
}

// What the quick start shows, the walkthrough shows too.
func TestReadmeQuickStartShowsTheWalkthrough(t *testing.T) {
	t.Parallel()
	text := readme(t)
	quick, _, _ := strings.Cut(text, "## By hand")
	commands, answers := blocks(t, "bash"), blocks(t, "json")
	for i := range 3 {
		if !strings.Contains(quick, "    $ "+commands[i]+"    "+strings.TrimSpace(answers[i])) {
			t.Errorf("the quick start does not show\n$ %s%s", commands[i], answers[i])
		}
	}
	const line = "Processed OrderPlaced event. orderId=order-1001, itemId=item1, ordered=10, remaining=90"
	if !strings.Contains(quick, line) {
		t.Errorf("the quick start does not show %s", line)
	}
}

// TestReadmeSubscriber builds the subscriber that the README shows, as the README
// says, and has it count: every order once, over a kill -9 and events that come
// again.
func TestReadmeSubscriber(t *testing.T) {
	t.Parallel()
	const admit, scope = "sales-service=OrderPlaced", "  - inventory-service\n  - sales-service\n"
	if text := readme(t); !strings.Contains(text, `;inventory-service=OrderPlaced;`+admit+`"`) || !strings.Contains(text, scope) {
		t.Fatal("the README does not say how to admit the subscriber")
	}
	s := startSystem(t, systemOptions{admit: admit})
	edit(t, filepath.Join(s.options.Resources, "statestore.yaml"), "  - inventory-service\n", scope)
	port, err := stack.FreePort()
	must(t, err)
	s.options.DaprPort, err = stack.FreePort()
	must(t, err)
	programs := blocks(t, "go")
	if len(programs) != 1 {
		t.Fatalf("the README has %d Go programs, want 1", len(programs))
	}
	dir := t.TempDir()
	program := strings.ReplaceAll(programs[0], "127.0.0.1:5003", fmt.Sprintf("127.0.0.1:%d", port))
	must(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(program), 0o644))
	var module string
	for line := range strings.Lines(strings.Join(blocks(t, "sh"), "")) {
		if strings.HasPrefix(line, "go mod ") {
			module += strings.ReplaceAll(line, "=../daprhttp", "="+filepath.Join(root, "daprhttp"))
		}
	}
	build := exec.CommandContext(t.Context(), "bash", "-ec", module+"go vet . && go build -o sales .")
	build.Dir = dir
	build.Env = append(os.Environ(), "GOWORK=off")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("the README's subscriber can't be built: %v\n%s", err, output)
	}

	start := func() *stack.Process {
		sales, err := stack.Start(stack.Command{
			Name: "sales", Path: filepath.Join(dir, "sales"), Env: []string{fmt.Sprint("DAPR_HTTP_PORT=", s.options.DaprPort)},
		})
		must(t, err)
		t.Cleanup(sales.Kill)
		return sales
	}
	sold := func(want string) {
		t.Helper()
		waitFor(t, time.Minute, func() error {
			a, err := s.trySend("GET", fmt.Sprintf("http://127.0.0.1:%d/sold/item1", port), "", nil)
			if err == nil && a.body != want {
				err = fmt.Errorf("%s are sold, want %s", a.body, want)
			}
			return err
		})
	}
	sales := start()
	if s.startApp(t.Context(), "sales-service", "", port) == nil {
		t.FailNow()
	}
	again := daprhttp.Message{
		Data:     []byte(`{"orderId":"order-1001","itemId":"item1","quantity":10}`),
		Metadata: map[string]string{daprhttp.MetadataEventID: "the same event"},
	}
	s.publish(s.order, "OrderPlaced", again)
	s.place("order-1002", "item1", 5)
	sold("15")
	sales.Kill()
	s.publish(s.order, "OrderPlaced", again)
	s.publish(s.order, "OrderPlaced", daprhttp.Message{Data: []byte(`{"itemId":"item1","quantity":"many"}`)}) // is dropped
	s.place("order-1003", "item1", 1)
	sales = start()
	sold("16")
	s.drained("sales-service")
	sold("16")
	if want := "sold 1 of item1, 16 in all"; !strings.Contains(sales.Log(), want) {
		t.Errorf("the subscriber has not said %q:\n%s", want, sales.Log())
	}
	s.waitForStock("item1", -16) // the inventory service has a stock of its own
}
