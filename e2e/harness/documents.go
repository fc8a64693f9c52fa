package harness

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/dapr-orders/e2e/stack"
)

// Document returns the text of a file of the project.
func Document(t *testing.T, name string) string {
	t.Helper()
	return read(t, filepath.Join(Project.Root, name))
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	Must(t, err)
	return string(text)
}

// Blocks returns what stands between ```language and ``` in a document, in order.
func Blocks(t *testing.T, name, language string) []string {
	t.Helper()
	var found []string
	for _, match := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(Document(t, name), -1) {
		found = append(found, match[1])
	}
	return found
}

// LinesOf returns the lines of a document's blocks of a language.
func LinesOf(t *testing.T, name, language string) []string {
	t.Helper()
	text := strings.Join(Blocks(t, name, language), "")
	text = regexp.MustCompile("`\n *").ReplaceAllString(text, "") // PowerShell: a back-tick at the end continues the command
	return strings.Split(strings.TrimSpace(text), "\n")
}

// A Table is a table of a document.
type Table struct {
	Heading string     // the nearest one above
	Rows    [][]string // of cells; the first has the names of the columns
}

// Tables returns the tables of a document.
func Tables(t *testing.T, name string) (all []Table) {
	t.Helper()
	heading, inTable := "", false
	for line := range strings.Lines(Document(t, name)) {
		line = strings.TrimSpace(line)
		if text, ok := strings.CutPrefix(line, "#"); ok {
			heading = strings.TrimLeft(text, "# ")
		}
		isRow := strings.HasPrefix(line, "|")
		if isRow && !inTable {
			all = append(all, Table{Heading: heading})
		}
		if isRow && !strings.HasPrefix(line, "| ---") {
			cells := strings.Split(strings.ReplaceAll(strings.Trim(line, "|"), `\|`, "\x00"), "|")
			for i := range cells {
				cells[i] = strings.TrimSpace(strings.ReplaceAll(cells[i], "\x00", "|"))
			}
			last := &all[len(all)-1]
			last.Rows = append(last.Rows, cells)
			if want := len(last.Rows[0]); len(cells) != want {
				t.Fatalf("%s: a row has %d cells, want %d: %s", name, len(cells), want, line)
			}
		}
		inTable = isRow
	}
	return all
}

// TableOf returns the rows of the table of a document whose first column has a name.
func TableOf(t *testing.T, name, column string) [][]string {
	t.Helper()
	for _, table := range Tables(t, name) {
		if table.Rows[0][0] == column {
			return table.Rows[1:]
		}
	}
	t.Fatalf("%s has no table of each %s", name, column)
	return nil
}

// Code returns what stands between back-ticks.
func Code(text string) (all []string) {
	for _, match := range regexp.MustCompile("`([^`]*)`").FindAllStringSubmatch(text, -1) {
		all = append(all, match[1])
	}
	return all
}

// TypeBash is TypeAll for the bash commands of a page.
func (s *System) TypeBash(page string, answers []string) int {
	s.T.Helper()
	return s.TypeAll(LinesOf(s.T, page, "bash"), answers, func(line string) *exec.Cmd {
		return exec.CommandContext(s.T.Context(), "bash", "-c", line)
	})
}

// TypeAll runs commands of a page with the ports of this system, and compares the answers
// with those shown, which are a line for each URL. It returns the number of commands.
func (s *System) TypeAll(commands, answers []string, parse func(line string) *exec.Cmd) int {
	t := s.T
	t.Helper()
	NeedsProgram(t, "curl", "apt-get install curl, or brew install curl")
	var ports []string // only these change in a command
	for service, app := range map[stack.Service]*stack.App{stack.Order: s.Order, stack.Inventory: s.Inventory[0]} {
		for documented, actual := range map[int]int{service.Port: app.Port, service.DaprPort: app.DaprPort} {
			ports = append(ports, fmt.Sprintf("localhost:%d/", documented), fmt.Sprintf("localhost:%d/", actual))
		}
	}
	if urls := strings.Count(strings.Join(commands, ""), "http://"); urls != len(answers) || urls == 0 {
		t.Fatalf("%d URLs are asked, and %d answers shown", urls, len(answers))
	}
	for _, command := range commands {
		urls := strings.Count(command, "http://")
		want := strings.Join(answers[:urls], "\n")
		answers = answers[urls:]
		typed := func() error {
			program := parse(strings.NewReplacer(ports...).Replace(command))
			var diagnostics bytes.Buffer
			program.Stderr = &diagnostics
			got, err := program.Output()
			if err != nil {
				t.Fatalf("%s: %v %s", command, err, &diagnostics)
			}
			if diff := cmp.Diff(want, strings.TrimSpace(string(got))); diff != "" {
				return fmt.Errorf("%s (-page +got):\n%s", command, diff)
			}
			return nil
		}
		if strings.Contains(command, "-d ") {
			Must(t, typed())
		} else { // a query may be asked again until the event has come through
			WaitFor(t, time.Minute, typed)
		}
	}
	return len(commands)
}

// A Guest is a program that a document shows, and how the document starts it.
type Guest struct {
	AppID          string
	Port, DaprPort int      // free ones, in the place of the document's
	Command        []string // go run ., or python3 main.py

	Ports *strings.Replacer // replaces the document's ports in a text
}

// Guests returns the programs that a document starts with `dapr run`, by app ID.
func Guests(t *testing.T, page string) map[string]Guest {
	t.Helper()
	found := make(map[string]Guest)
	command := regexp.MustCompile(`(?m)^dapr run --app-id (\S+) --app-port (\d+) --dapr-http-port (\d+) .* -- (.*)$`)
	for _, match := range command.FindAllStringSubmatch(Document(t, page), -1) {
		g := Guest{AppID: match[1], Port: FreePort(t), DaprPort: FreePort(t), Command: strings.Fields(match[4])}
		g.Ports = strings.NewReplacer(match[2], strconv.Itoa(g.Port), match[3], strconv.Itoa(g.DaprPort))
		found[g.AppID] = g
	}
	return found
}

// StartGuest starts a program in a folder, and its sidecar.
func (s *System) StartGuest(g Guest, dir string, command ...string) *stack.App {
	s.T.Helper()
	service := StartProgram(s.T, g.AppID, dir, command...)
	app := s.StartApp(stack.AppOptions{ID: g.AppID, Port: g.Port, DaprPort: g.DaprPort})
	app.Service = service
	return app
}

// StartProgram starts a program in a folder. It is killed when the test ends.
func StartProgram(t *testing.T, name, dir string, command ...string) *stack.Process {
	t.Helper()
	p, err := stack.Start(stack.Command{Name: name, Path: command[0], Args: command[1:], Dir: dir})
	Must(t, err)
	t.Cleanup(p.Kill)
	return p
}

// Said waits until a program has written a text.
func Said(t *testing.T, p *stack.Process, text string) {
	t.Helper()
	WaitFor(t, time.Minute, func() error {
		if log := p.Log(); !strings.Contains(log, text) {
			return fmt.Errorf("%s has not said %q:\n%s", p.Name, text, log)
		}
		return nil
	})
}

// ApplyYAML changes a component file as a block of a document shows. The block's first line
// names the file. Each value in the block begins with the file's value. The block's scopes
// replace the file's.
func ApplyYAML(t *testing.T, resources, block string) {
	t.Helper()
	name, changes, _ := strings.Cut(block, "\n")
	file := filepath.Join(resources, filepath.Base(name))
	for _, m := range regexp.MustCompile(`(?m)^    - name: (.*)\n      value: "(.*)"\n`).FindAllStringSubmatch(changes, -1) {
		old := regexp.MustCompile(`    - name: ` + m[1] + `\n      value: "(.*)"\n`).FindStringSubmatch(read(t, file))
		if old == nil || !strings.HasPrefix(m[2], old[1]) {
			t.Fatalf("%s has %q, which does not go on as %s", file, old, m[0])
		}
		Edit(t, file, old[0], m[0])
	}
	if scopes := regexp.MustCompile(`(?ms)^scopes:\n.*`); scopes.MatchString(changes) {
		Edit(t, file, scopes.FindString(read(t, file)), scopes.FindString(changes))
	}
}
