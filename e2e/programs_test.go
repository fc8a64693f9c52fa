package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/stack"
)

// A guest is a program that a document shows, and how the document starts it.
type guest struct {
	appID          string
	port, daprPort int      // free ones, in the place of the document's
	command        []string // go run ., or python3 main.py

	ports *strings.Replacer // of a text of the document's
}

// guests returns the programs that a document starts with `dapr run`, by app ID.
func guests(t *testing.T, page string) map[string]guest {
	t.Helper()
	found := make(map[string]guest)
	for _, match := range regexp.MustCompile(`(?m)^dapr run --app-id (\S+) --app-port (\d+) --dapr-http-port (\d+) --config \S+ --resources-path \S+ --log-level warn -- (.*)$`).FindAllStringSubmatch(document(t, page), -1) {
		g := guest{appID: match[1], command: strings.Fields(match[4])}
		var err error
		g.port, err = stack.FreePort()
		must(t, err)
		g.daprPort, err = stack.FreePort()
		must(t, err)
		g.ports = strings.NewReplacer(match[2], strconv.Itoa(g.port), match[3], strconv.Itoa(g.daprPort))
		found[g.appID] = g
	}
	return found
}

// startGuest starts a program in a folder, and its sidecar.
func (s *system) startGuest(g guest, dir string, command ...string) *stack.App {
	s.t.Helper()
	service := startProgram(s.t, g.appID, dir, command...)
	app := s.start(stack.AppOptions{ID: g.appID, Port: g.port, DaprPort: g.daprPort})
	app.Service = service
	return app
}

// startProgram starts a program in a folder. It is killed when the test ends.
func startProgram(t *testing.T, name, dir string, command ...string) *stack.Process {
	t.Helper()
	p, err := stack.Start(stack.Command{Name: name, Path: command[0], Args: command[1:], Dir: dir})
	must(t, err)
	t.Cleanup(p.Kill)
	return p
}

// said waits until a program has written a text.
func said(t *testing.T, p *stack.Process, text string) {
	t.Helper()
	waitFor(t, time.Minute, func() error {
		if log := p.Log(); !strings.Contains(log, text) {
			return fmt.Errorf("%s has not said %q:\n%s", p.Name, text, log)
		}
		return nil
	})
}

// applyYAML changes the component file that a document's block names in its first line:
// the block has a list with a new end, or a line whose value has one.
func applyYAML(t *testing.T, resources, block string) {
	t.Helper()
	name, changed, _ := strings.Cut(block, "\n")
	file := filepath.Join(resources, filepath.Base(name))
	text, err := os.ReadFile(file)
	must(t, err)
	lines := strings.SplitAfter(strings.TrimSuffix(changed, "\n"), "\n")
	old := strings.Join(lines[:len(lines)-1], "") // the list without its end
	if value, ok := strings.CutPrefix(changed, `      value: "`); ok {
		for line := range strings.Lines(string(text)) {
			before, ok := strings.CutPrefix(line, `      value: "`)
			if before = strings.TrimSuffix(before, "\"\n"); ok && strings.Contains(before, "=") && strings.HasPrefix(value, before+";") {
				old = line
			}
		}
	}
	if old == "" {
		t.Fatalf("%s does not have what this changes:\n%s", file, block)
	}
	edit(t, file, old, changed)
}
