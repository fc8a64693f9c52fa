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
// says, and lets it receive an event.
func TestReadmeSubscriber(t *testing.T) {
	t.Parallel()
	const admit = "audit-service=OrderPlaced"
	if !strings.Contains(readme(t), `"inventory-service=OrderPlaced;`+admit+`"`) {
		t.Fatal("the README does not say how to admit the subscriber")
	}
	s := startSystem(t, systemOptions{admit: admit})
	port, err := stack.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	programs := blocks(t, "go")
	if len(programs) != 1 {
		t.Fatalf("the README has %d Go programs, want 1", len(programs))
	}
	dir := t.TempDir()
	program := strings.ReplaceAll(programs[0], "127.0.0.1:5003", fmt.Sprintf("127.0.0.1:%d", port))
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(program), 0o644); err != nil {
		t.Fatal(err)
	}
	var module string
	for line := range strings.Lines(strings.Join(blocks(t, "sh"), "")) {
		if strings.HasPrefix(line, "go mod ") {
			module += strings.ReplaceAll(line, "=../daprhttp", "="+filepath.Join(root, "daprhttp"))
		}
	}
	build := exec.CommandContext(t.Context(), "bash", "-ec", module+"go vet . && go build -o audit .")
	build.Dir = dir
	build.Env = append(os.Environ(), "GOWORK=off")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("the README's subscriber can't be built: %v\n%s", err, output)
	}
	audit, err := stack.Start(stack.Command{Name: "audit", Path: filepath.Join(dir, "audit")})
	if err != nil {
		t.Fatal(err)
	}
	defer audit.Kill()
	if s.startApp(t.Context(), "audit-service", "", port) == nil {
		t.FailNow()
	}
	s.place("order-1001", "item1", 10)
	want := regexp.MustCompile(`event \S+ from order-service: {"itemId":"item1","orderId":"order-1001","quantity":10}`)
	waitFor(t, time.Minute, func() error {
		if !want.MatchString(audit.Log()) {
			return fmt.Errorf("the subscriber has not printed the event:\n%s", audit.Log())
		}
		return nil
	})
	s.waitForStock("item1", -10)
}
