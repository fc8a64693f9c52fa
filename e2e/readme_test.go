package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/stack"
)

func readme(t *testing.T) string { return document(t, "README.md") }

// document returns a text of the project's.
func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(project.Root, name))
	must(t, err)
	return string(text)
}

// blocks returns what stands between ```language and ``` in a document, in order.
func blocks(t *testing.T, name, language string) []string {
	t.Helper()
	var found []string
	for _, match := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(document(t, name), -1) {
		found = append(found, match[1])
	}
	return found
}

// lines returns the lines of the README's blocks of a language.
func lines(t *testing.T, language string) []string { return linesOf(t, "README.md", language) }

// linesOf returns the lines of a document's blocks of a language.
func linesOf(t *testing.T, name, language string) []string {
	t.Helper()
	text := strings.Join(blocks(t, name, language), "")
	text = regexp.MustCompile("`\n *").ReplaceAllString(text, "") // a back-tick goes on in the next line
	return strings.Split(strings.TrimSpace(text), "\n")
}

// promiseWalkthrough types every bash command of the README, one after another, and
// compares the answers with those shown.
func promiseWalkthrough(t *testing.T, b stack.Backend) string {
	s := startSystem(t, systemOptions{backend: b})
	return s.typeAll(lines(t, "bash"), lines(t, "json"), func(line string) *exec.Cmd {
		return exec.CommandContext(t.Context(), "bash", "-c", line)
	})
}

// TestReadmePowerShell runs with curl what PowerShell would make of the README's
// commands for it.
func TestReadmePowerShell(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{})
	s.typeAll(lines(t, "powershell"), lines(t, "powershell-answer"), func(line string) *exec.Cmd {
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

// typeAll runs commands of the README's, one after another and but for the ports, and
// compares the answers with those shown, a line for each. It returns how many there
// were.
func (s *system) typeAll(commands, answers []string, parse func(line string) *exec.Cmd) string {
	t := s.t
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("the walkthrough needs curl: install it with your system's package manager")
	}
	var ports []string // nothing else in a command is changed
	for service, app := range map[stack.Service]*stack.App{stack.Order: s.order, stack.Inventory: s.inventory[0]} {
		for readmes, ours := range map[int]int{service.Port: app.Port, service.DaprPort: app.DaprPort} {
			ports = append(ports, fmt.Sprintf("localhost:%d/", readmes), fmt.Sprintf("localhost:%d/", ours))
		}
	}
	if len(commands) != len(answers) || len(commands) == 0 {
		t.Fatalf("there are %d commands and %d answers", len(commands), len(answers))
	}
	for i, command := range commands {
		typed := func() error {
			got, err := parse(strings.NewReplacer(ports...).Replace(command)).Output()
			if err != nil {
				t.Fatalf("%s: %v", command, err)
			}
			if diff := cmp.Diff(answers[i], strings.TrimSpace(string(got))); diff != "" {
				return fmt.Errorf("%s (-README +got):\n%s", command, diff)
			}
			return nil
		}
		if strings.Contains(command, "-d ") {
			must(t, typed())
		} else { // a query may be asked again until the event has come through
			waitFor(t, time.Minute, typed)
		}
	}
	return fmt.Sprintf("%d commands", len(commands))
}

// What the README shows of the subscriptions, of an event as it arrives, and of what is
// stored, is so, but for what is another each time.
func TestReadmeShowsWhatIsSentAndStored(t *testing.T) {
	t.Parallel()
	shown := lines(t, "jsonc")
	if len(shown) != 3 {
		t.Fatalf("the README shows %d JSON texts", len(shown))
	}
	s := startSystem(t, systemOptions{admit: "audit-service=OrderPlaced"})
	arrived := make(chan string, 10)
	s.serve("audit-service", subscribing(daprhttp.Subscription{Topic: "OrderPlaced"}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		arrived <- string(body)
	})))
	s.setStock("item1", 100)
	s.place("order-1001", "item1", 10)
	s.waitForStock("item1", 90)

	const varies = `"(id|time|ids|by)":"[^"]+"`
	read := func(text string) (v any) {
		must(t, json.Unmarshal([]byte(regexp.MustCompile(varies).ReplaceAllString(text, `"$1":"…"`)), &v))
		return v
	}
	for i, got := range []string{
		s.invoke(s.inventory[0], "GET", "/dapr/subscribe", "", "").body,
		<-arrived,
		s.send("GET", s.inventory[0].DaprURL("/v1.0/state/statestore/item1"), "", nil).body,
	} {
		if diff := cmp.Diff(read(shown[i]), read(got)); diff != "" {
			t.Errorf("(-README +got):\n%s", diff)
		}
	}
}

// A sidecar may be started first, and alone, and its service then from an editor, with
// no settings but the ports, which are not the README's here.
func TestReadmeServiceFromAnEditor(t *testing.T) {
	t.Parallel()
	waiting := make(chan struct{}, 1)
	s := startSystem(t, systemOptions{each: func(o *stack.AppOptions) {
		if o.Program == "" {
			o.Output = func(_, line string) {
				if strings.Contains(line, "This will block until the app is listening on that port") {
					waiting <- struct{}{}
				}
			}
		}
	}})
	must(t, s.inventory[0].Stop())
	s.place("order-1001", "item1", 10) // waits for a subscriber
	// At level info it says that it waits.
	sidecar := stack.AppOptions{ID: stack.Inventory.AppID, SidecarArgs: []string{"--log-level", "info"}}
	for _, port := range []*int{&sidecar.Port, &sidecar.DaprPort} {
		var err error
		*port, err = stack.FreePort()
		must(t, err)
	}
	ready := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		_, err := s.Start(ctx, sidecar)
		ready <- err
	}()
	select {
	case <-waiting:
	case err := <-ready:
		t.Fatalf("the sidecar did not wait for its service: %v", err)
	}
	service, err := stack.Start(stack.Command{
		Name: "inventory", Path: filepath.Join(project.Bin, "inventory"),
		Env: []string{fmt.Sprint("PORT=", sidecar.Port), fmt.Sprint("DAPR_HTTP_PORT=", sidecar.DaprPort)},
	})
	must(t, err)
	t.Cleanup(service.Kill)
	must(t, <-ready)
	waitFor(t, time.Minute, func() error {
		if want := "Processed OrderPlaced event. orderId=order-1001, itemId=item1, ordered=10, remaining=-10"; !strings.Contains(service.Log(), want) {
			return fmt.Errorf("the service has not said %q:\n%s", want, service.Log())
		}
		return nil
	})
}

// What the documents link to is there.
func TestLinks(t *testing.T) {
	t.Parallel()
	documents := []string{"README.md", "components/README.md", "components/backends.md", "components/dapr-issues.md", "components/kubernetes/README.md",
		"components/operations.md", "components/security.md", "components/troubleshooting.md", "e2e/README.md", "inventory/shortest.md", "inventory/http.md",
		"daprhttp/README.md", "daprhttp/subscriber.md", "daprhttp/once/README.md"}
	links := 0
	line := regexp.MustCompile(`^L\d+$`)
	for _, name := range documents {
		for _, match := range regexp.MustCompile(`\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"`).FindAllStringSubmatch(document(t, name), -1) {
			link := match[1] + match[2]
			if strings.HasPrefix(link, "https://") {
				continue
			}
			links++
			file, anchor, _ := strings.Cut(link, "#")
			target := path.Join(path.Dir(name), file)
			if file == "" {
				target = name
			}
			if _, err := os.Stat(filepath.Join(project.Root, target)); err != nil {
				t.Errorf("%s links to %s, which is not there", name, link)
			} else if line.MatchString(anchor) {
				continue // see below
			} else if anchor != "" && !slices.Contains(anchors(document(t, target)), anchor) {
				t.Errorf("%s links to %s, and %s has no such heading", name, link, target)
			}
		}
		// A link to a line has a part of the line as its text.
		for _, match := range regexp.MustCompile("\\[`([^`]+)`\\]\\(([^)#\\s]+)#L(\\d+)\\)").FindAllStringSubmatch(document(t, name), -1) {
			var have []string
			for i, line := range strings.Split(document(t, path.Join(path.Dir(name), match[2])), "\n") {
				if strings.Contains(line, match[1]) {
					have = append(have, strconv.Itoa(i+1))
				}
			}
			if !slices.Contains(have, match[3]) {
				t.Errorf("%s: line %s of %s does not have %s, which these lines have: %v", name, match[3], match[2], match[1], have)
			}
		}
	}
	if links < 40 {
		t.Errorf("the documents have only %d links", links)
	}
}

// anchors returns the names by which GitHub lets one link to the headings of a text.
func anchors(text string) (names []string) {
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}
