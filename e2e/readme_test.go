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
	s := startSystem(t, systemOptions{backend: b})
	return s.typeAll(blocks(t, "bash"), blocks(t, "json"), func(line string) *exec.Cmd {
		return exec.CommandContext(t.Context(), "bash", "-c", line)
	})
}

// TestReadmePowerShell runs with curl what PowerShell would make of the README's
// commands for it.
func TestReadmePowerShell(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{})
	commands := blocks(t, "powershell")
	for i := range commands { // a back-tick goes on in the next line
		commands[i] = regexp.MustCompile("`\n *").ReplaceAllString(commands[i], "")
	}
	s.typeAll(commands, blocks(t, "powershell-answer"), func(line string) *exec.Cmd {
		args, body, err := powerShell(line)
		must(t, err)
		curl := exec.CommandContext(t.Context(), "curl", args...)
		curl.Stdin = strings.NewReader(body)
		return curl
	})
}

// powerShell returns what curl.exe gets from a line of one of the two forms
//
//	'text' | curl.exe argument "an argument" …
//	curl.exe argument …
//
// in Windows PowerShell 5.1 and in PowerShell 7 alike: a text in single quotes is as
// it stands, and gets an end of line in the pipe; an argument in double quotes must
// hold nothing that PowerShell or Windows would read otherwise.
func powerShell(line string) (args []string, input string, err error) {
	line = strings.TrimSpace(line)
	if strings.HasPrefix(line, "'") {
		text, rest, found := strings.Cut(line[1:], "' | ")
		if !found || strings.Contains(text, "'") {
			return nil, "", fmt.Errorf("%s: a text that is not as expected", line)
		}
		input, line = text+"\r\n", rest
	}
	rest, found := strings.CutPrefix(line, "curl.exe ")
	if !found {
		return nil, "", fmt.Errorf("%s: not curl.exe", line)
	}
	for _, word := range regexp.MustCompile(`"[^"]*"|\S+`).FindAllString(rest, -1) {
		if bare := strings.Trim(word, `"`); strings.ContainsAny(bare, "\"'`$;&|(){}<>\\") || strings.HasPrefix(word, "@") {
			return nil, "", fmt.Errorf("%s: %s means something to PowerShell", line, word)
		}
		args = append(args, strings.Trim(word, `"`))
	}
	return append([]string{"-sS"}, args...), input, nil
}

// The rules for PowerShell refuse what they do not know.
func TestPowerShellThatIsNotUnderstood(t *testing.T) {
	t.Parallel()
	for _, line := range []string{`curl http://localhost`, `'a' | curl http://localhost`, `curl.exe -d '{"a":1}'`, `curl.exe -d @-`, `'it''s' | curl.exe x`, `curl.exe "$a"`} {
		if args, input, err := powerShell(line); err == nil {
			t.Errorf("%s: got %q, %q", line, args, input)
		}
	}
	args, input, err := powerShell(`'{"a": 1}' | curl.exe -X POST http://localhost:1/x -H "A: b" -d "@-"`)
	must(t, err)
	if diff := cmp.Diff([]string{"-sS", "-X", "POST", "http://localhost:1/x", "-H", "A: b", "-d", "@-"}, args); diff != "" || input != "{\"a\": 1}\r\n" {
		t.Errorf("input %q, arguments (-want +got):\n%s", input, diff)
	}
}

// typeAll runs the README's commands, which are in blocks, one after another, but for
// the ports, and compares the answers with those shown, a block for each. It returns
// how many there were.
func (s *system) typeAll(commands, answers []string, parse func(line string) *exec.Cmd) string {
	t := s.t
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("the walkthrough needs curl: install it with your system's package manager")
	}
	ours := strings.NewReplacer( // nothing else in a command is changed
		"localhost:5001", fmt.Sprintf("localhost:%d", s.inventory[0].Port),
		"localhost:5002", fmt.Sprintf("localhost:%d", s.order.Port),
		"localhost:3500", fmt.Sprintf("localhost:%d", s.inventory[0].DaprPort),
		"localhost:3501", fmt.Sprintf("localhost:%d", s.order.DaprPort),
	)
	if len(commands) != len(answers) || len(commands) < 6 {
		t.Fatalf("the README has %d blocks of commands and %d of answers", len(commands), len(answers))
	}
	for i, block := range commands {
		want := strings.TrimSpace(answers[i])
		typed := func() string {
			var got []string
			for line := range strings.Lines(block) {
				output, err := parse(ours.Replace(line)).Output()
				if err != nil {
					t.Fatalf("%s: %v", line, err)
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
