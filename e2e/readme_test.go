package e2e

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
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
	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// Pages with commands, next to the README.
const (
	windows  = "components/windows.md"
	oneOrder = "inventory/one-order.md"
)

// promiseWalkthrough types every bash command of the README and of the page about one order
// and compares the answers with those shown. Then it does so again, and then with the
// commands for PowerShell: the answers repeat.
func promiseWalkthrough(t *testing.T, b stack.Backend) string {
	s := harness.Start(t, harness.Options{Backend: b})
	var commands int
	for range 2 {
		commands = s.TypeBash("README.md", harness.LinesOf(t, "README.md", "json")) +
			s.TypeBash(oneOrder, harness.LinesOf(t, oneOrder, "json"))
	}
	s.TypeAll(harness.LinesOf(t, windows, "powershell"), harness.LinesOf(t, windows, "json"), func(line string) *exec.Cmd {
		args, body, err := powerShell(line)
		harness.Must(t, err)
		curl := exec.CommandContext(t.Context(), "curl", args...)
		curl.Stdin = strings.NewReader(body)
		return curl
	})
	return fmt.Sprintf("%d commands", commands)
}

// powerShell returns what curl.exe gets from a line of one of the two forms
//
//	'text' | curl.exe argument "an argument" …
//	curl.exe argument …
//
// in Windows PowerShell 5.1 and in PowerShell 7 alike: a text in single quotes is as
// it stands, and gets an end of line in the pipe; an argument in double quotes must
// hold nothing that PowerShell or Windows would read otherwise. New-Guid is the only
// command that a line may call: as $(New-Guid) in an argument, and to replace NEW in the text.
func powerShell(line string) (args []string, input string, err error) {
	line = strings.ReplaceAll(strings.TrimSpace(line), "$(New-Guid)", rand.Text())
	if before, after, found := strings.Cut(line, " -replace 'NEW', (New-Guid)"); found {
		line = strings.Replace(before, "NEW", rand.Text(), 1) + after
	}
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
	for _, line := range []string{`curl http://localhost`, `'a' | curl http://localhost`, `curl.exe -d '{"a":1}'`, `curl.exe -d @-`, `'it''s' | curl.exe x`, `curl.exe "$a"`, `'a' -replace 'a', (Get-Date) | curl.exe x`} {
		if args, input, err := powerShell(line); err == nil {
			t.Errorf("%s: got %q, %q", line, args, input)
		}
	}
	args, input, err := powerShell(`'{"a": 1}' | curl.exe -X POST http://localhost:1/x -H "A: b" -d "@-"`)
	harness.Must(t, err)
	if diff := cmp.Diff([]string{"-sS", "-X", "POST", "http://localhost:1/x", "-H", "A: b", "-d", "@-"}, args); diff != "" || input != "{\"a\": 1}\r\n" {
		t.Errorf("input %q, arguments (-want +got):\n%s", input, diff)
	}
}

// The page about one order shows the subscriptions, an event as it arrives and a record. They
// equal what is sent and stored, except for IDs and times.
func TestOneOrderShowsWhatIsSentAndStored(t *testing.T) {
	t.Parallel()
	shown := harness.LinesOf(t, oneOrder, "jsonc")
	if len(shown) != 3 {
		t.Fatalf("the page shows %d JSON texts", len(shown))
	}
	zipkin := httptest.NewServer(http.NotFoundHandler()) // dapr init starts one
	defer zipkin.Close()
	s := harness.Start(t, harness.Options{Admit: "audit-service=OrderPlaced", Each: reportingTo(t, zipkin.URL)})
	arrived := make(chan string, 10)
	s.Serve("audit-service", harness.Subscribing(daprhttp.Subscription{Topic: "OrderPlaced"}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		arrived <- string(body)
	})))
	s.SetStock("item1", 100)
	s.Place("order-1001", "item1", 10)
	s.WaitForStock("item1", 90)

	const varies = `"(id|time|traceid|traceparent|ids|by)":"[^"]+"`
	read := func(text string) (v any) {
		harness.Must(t, json.Unmarshal([]byte(regexp.MustCompile(varies).ReplaceAllString(text, `"$1":"…"`)), &v))
		return v
	}
	for i, got := range []string{
		s.Invoke(s.Inventory[0], "GET", "/dapr/subscribe", "", "").Body,
		<-arrived,
		s.Send("GET", s.Inventory[0].DaprURL("/v1.0/state/statestore/item1"), "", nil).Body,
	} {
		if diff := cmp.Diff(read(shown[i]), read(got)); diff != "" {
			t.Errorf("(-page +got):\n%s", diff)
		}
	}
}

// The sidecar starts first. Its service then starts as from an editor: its only settings are
// the ports.
func TestReadmeServiceFromAnEditor(t *testing.T) {
	t.Parallel()
	waiting := make(chan struct{}, 1)
	s := harness.Start(t, harness.Options{Each: func(o *stack.AppOptions) {
		if o.Program == "" {
			o.Output = func(_, line string) {
				if strings.Contains(line, "This will block until the app is listening on that port") {
					waiting <- struct{}{}
				}
			}
		}
	}})
	harness.Must(t, s.Inventory[0].Stop())
	s.Place("order-1001", "item1", 10) // waits for a subscriber
	// At level info it says that it waits.
	sidecar := stack.AppOptions{
		ID: stack.Inventory.AppID, SidecarArgs: []string{"--log-level", "info"}, Port: harness.FreePort(t), DaprPort: harness.FreePort(t),
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
	service := startAlone(t, stack.Inventory, fmt.Sprint("PORT=", sidecar.Port), fmt.Sprint("DAPR_HTTP_PORT=", sidecar.DaprPort))
	harness.Must(t, <-ready)
	harness.Said(t, service, "Processed OrderPlaced event. orderId=order-1001, itemId=item1, ordered=10, remaining=-10")
}

// Every file, heading and line that the documents link to is there. The text of a link to a
// line is a part of the line.
func TestLinks(t *testing.T) {
	t.Parallel()
	links := 0
	link := regexp.MustCompile("(?:\\[`([^`]+)`)?\\]\\(([^)\\s]+)\\)|(?:src|srcset)=\"([^\"]+)\"")
	for _, name := range documents(t) {
		for _, match := range link.FindAllStringSubmatch(harness.Document(t, name), -1) {
			shown, to := match[1], match[2]+match[3]
			if strings.HasPrefix(to, "https://") {
				continue
			}
			links++
			file, anchor, _ := strings.Cut(to, "#")
			target := path.Join(path.Dir(name), file)
			if file == "" {
				target = name
			}
			line, isLine := strings.CutPrefix(anchor, "L")
			number, err := strconv.Atoi(line)
			if _, missing := os.Stat(filepath.Join(harness.Project.Root, target)); missing != nil {
				t.Errorf("%s links to %s, which is not there", name, to)
			} else if isLine && err == nil {
				lines := strings.Split(harness.Document(t, target), "\n")
				if shown == "" || number > len(lines) || !strings.Contains(lines[number-1], shown) {
					has := 1 + slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, shown) })
					t.Errorf("%s: line %d of %s does not have %q, but line %d has", name, number, target, shown, has)
				}
			} else if anchor != "" && !slices.Contains(anchors(harness.Document(t, target)), anchor) {
				t.Errorf("%s links to %s, and %s has no such heading", name, to, target)
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
