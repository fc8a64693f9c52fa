package e2e

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

const httpPage = "inventory/http.md"

// A table is a table of a document.
type table struct {
	heading string // the nearest one above
	columns []string
	rows    [][]string // their cells
}

func tables(t *testing.T, name string) (all []table) {
	t.Helper()
	heading, inTable := "", false
	for line := range strings.Lines(harness.Document(t, name)) {
		line = strings.TrimSpace(line)
		if text, ok := strings.CutPrefix(line, "#"); ok {
			heading = strings.TrimLeft(text, "# ")
		}
		if !strings.HasPrefix(line, "|") {
			inTable = false
			continue
		}
		cells := strings.Split(strings.ReplaceAll(strings.Trim(line, "|"), `\|`, "\x00"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(strings.ReplaceAll(cells[i], "\x00", "|"))
		}
		switch {
		case !inTable:
			all = append(all, table{heading: heading, columns: cells})
		case strings.HasPrefix(cells[0], "---"):
		default:
			last := &all[len(all)-1]
			if len(cells) != len(last.columns) {
				t.Fatalf("%s: a row has %d cells, want %d: %s", name, len(cells), len(last.columns), line)
			}
			last.rows = append(last.rows, cells)
		}
		inTable = true
	}
	return all
}

// tableOf returns the rows of the table of a document whose first column has a name.
func tableOf(t *testing.T, name, column string) [][]string {
	t.Helper()
	for _, table := range tables(t, name) {
		if table.columns[0] == column {
			return table.rows
		}
	}
	t.Fatalf("%s has no table of each %s", name, column)
	return nil
}

// code returns what stands between back-ticks.
func code(text string) (all []string) {
	for _, match := range regexp.MustCompile("`([^`]*)`").FindAllStringSubmatch(text, -1) {
		all = append(all, match[1])
	}
	return all
}

// pattern returns the regular expression of a text in which … stands for any text.
func pattern(text string) string {
	return strings.ReplaceAll(regexp.QuoteMeta(text), "…", `(?s:.*)`)
}

// A referred is a program that the page describes.
type referred struct {
	name, column string // its name, and its column of the environment variables
	service      stack.Service
	app          *stack.App
	routes       *http.ServeMux
	open         map[string]bool // the patterns of routes to which no row is sent so far
}

// programs returns the programs without their apps and routes.
func programs() (order, inventory, keeper *referred) {
	return &referred{name: "order service", column: "order", service: stack.Order},
		&referred{name: "inventory service", column: "inventory", service: stack.Inventory},
		&referred{name: "dead-letter keeper", column: "dead letters", service: stack.DeadLetters}
}

// discover finds the routes of a program: those in its code, and those to which it
// subscribes.
func (p *referred) discover(s *harness.System) {
	p.routes, p.open = http.NewServeMux(), make(map[string]bool)
	add := func(pattern string) {
		if pattern != "/" {
			p.routes.Handle(pattern, http.NotFoundHandler())
			p.open[pattern] = true
		}
	}
	for _, file := range parsed(s.T, p.service.Folder) {
		calls(file, func(_, name string, args []ast.Expr) {
			if name == "Handle" || name == "HandleFunc" {
				add(text(args[0]))
			}
		})
	}
	if a := s.Send("GET", p.app.URL("/dapr/subscribe"), "", nil); a.Status == http.StatusOK {
		add("GET /dapr/subscribe")
		var subscriptions []struct{ Route string }
		harness.Must(s.T, json.Unmarshal([]byte(a.Body), &subscriptions))
		for _, one := range subscriptions {
			add("POST /" + one.Route)
		}
	}
}

// route returns the pattern of the program's route for a request, or "".
func (p *referred) route(method, path string) string {
	_, pattern := p.routes.Handler(httptest.NewRequest(method, path, nil))
	return pattern
}

// TestHTTPReference tries each request of the page against the running programs, and
// compares its routes, limits, metrics and log lines with theirs.
func TestHTTPReference(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{Tokens: true})
	order, inventory, keeper := programs()
	all := []*referred{order, inventory, keeper}
	order.app, inventory.app, keeper.app = s.Order, s.Inventory[0], s.StartDeadLetters("serve", "OrderPlaced-dead-letter", "OrderPlaced")
	documented, routes := make(map[string]bool), make(map[string]bool)
	for _, p := range all {
		p.discover(s)
		for pattern := range p.open {
			routes[p.name+": "+strings.ReplaceAll(pattern, "...}", "}")] = true
		}
	}
	for _, row := range tableOf(t, httpPage, "route") {
		for _, p := range all {
			for _, pattern := range code(row[0]) {
				if slices.Contains(strings.Split(row[1], "; "), fmt.Sprintf("%s, %d", p.name, p.service.Port)) {
					documented[p.name+": "+pattern] = true
				}
			}
		}
	}
	if diff := cmp.Diff(documented, routes); diff != "" {
		t.Errorf("routes (-page +programs):\n%s", diff)
	}

	inSection := map[string][]*referred{
		"Order service": {order}, "Idempotency-Key": {order, inventory},
		"Inventory service": {inventory}, "Deliveries": {inventory}, "Dead-letter keeper": {keeper},
	}
	for _, table := range tables(t, httpPage) {
		if table.columns[0] != "request" {
			continue
		}
		if table.heading == "When the sidecar fails" {
			checkLimits(s)
			s.Drained("inventory-service") // which gets a replica that can't apply orders
			order.app, inventory.app = without(s, "pubsub.yaml", stack.Order), without(s, "statestore.yaml", stack.Inventory)
		}
		for _, row := range table.rows {
			method, path, _ := strings.Cut(strings.Join(code(row[0]), ""), " ")
			to := all // those that have the route, or everyone
			if table.heading != "All programs" {
				to = inSection[table.heading]
				if i := slices.IndexFunc(all, func(p *referred) bool { return p.route(method, path) != "" }); i >= 0 && len(to) != 1 {
					to = all[i : i+1]
				}
			}
			if len(to) == 0 {
				t.Errorf("%s: no program has the route of %s %s", table.heading, method, path)
			}
			for _, p := range to {
				delete(p.open, p.route(method, path))
				tryRow(s, p, method, path, row[1:])
			}
		}
	}
	s.Send("POST", s.Inventory[0].URL("/orders"), "{}", http.Header{"Content-Type": {"application/cloudevents+json"}, "Dapr-Api-Token": {"wrong"}})
	checkMetrics(s, all)
	for _, p := range all {
		for pattern := range p.open {
			t.Errorf("%s: the page has no row for %s", p.name, pattern)
		}
	}
	checkLogLines(s)
}

// tryRow sends the request of a row and compares the answer.
func tryRow(s *harness.System, p *referred, method, path string, row []string) {
	headers, body, status, want := row[0], strings.Join(code(row[1]), ""), row[2], strings.Join(code(row[3]), "")
	header := make(http.Header)
	for _, one := range code(headers) {
		name, value, _ := strings.Cut(one, ":")
		header.Add(name, strings.TrimSpace(value))
	}
	try := func() error {
		a := s.Send(method, p.app.URL(path), body, header)
		if got := strconv.Itoa(a.Status); got != status {
			return fmt.Errorf("%s: %s %s %v %s: got status %s %s, the page has %s", p.name, method, path, header, body, got, a.Body, status)
		}
		if diff := diffAnswer(want, a.Body); diff != "" {
			return fmt.Errorf("%s: %s %s %v %s (-page +got):\n%s", p.name, method, path, header, body, diff)
		}
		return nil
	}
	if method != "GET" {
		if err := try(); err != nil {
			s.T.Error(err)
		}
		return
	}
	s.Drained("inventory-service")
	harness.WaitFor(s.T, time.Minute, try) // what was published may be under way
}

// diffAnswer compares two answers in full. In the wanted one, … stands for any text.
func diffAnswer(want, got string) string {
	var w, g any
	if json.Unmarshal([]byte(want), &w) != nil || json.Unmarshal([]byte(got), &g) != nil {
		return cmp.Diff(want, fill(want, got))
	}
	return cmp.Diff(w, fill(w, g))
}

// fill returns got with each text replaced by the wanted one that it matches.
func fill(want, got any) any {
	switch w := want.(type) {
	case string:
		if g, ok := got.(string); ok && regexp.MustCompile("^"+pattern(w)+"$").MatchString(g) {
			return w
		}
	case map[string]any:
		if g, ok := got.(map[string]any); ok {
			for name := range g {
				g[name] = fill(w[name], g[name])
			}
		}
	case []any:
		if g, ok := got.([]any); ok && len(g) == len(w) {
			for i := range g {
				g[i] = fill(w[i], g[i])
			}
		}
	}
	return got
}

// checkMetrics compares the metrics of the programs with the page's.
func checkMetrics(s *harness.System, all []*referred) {
	s.T.Helper()
	documented, served := make(map[string]string), make(map[string]string)
	for _, row := range tableOf(s.T, httpPage, "metric") {
		for _, name := range code(row[0]) {
			documented[row[1]+": "+name] = strings.TrimSpace(row[2] + " " + row[3])
		}
	}
	for _, p := range all {
		delete(p.open, "GET /metrics")
		metrics := s.Send("GET", p.app.URL("/metrics"), "", nil).Body
		for _, match := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllStringSubmatch(metrics, -1) {
			var outcomes []string
			for _, label := range regexp.MustCompile(`(?m)^`+match[1]+`\{outcome="(.*)"\} \S+$`).FindAllStringSubmatch(metrics, -1) {
				outcomes = append(outcomes, label[1])
			}
			served[p.column+": "+match[1]] = strings.TrimSpace(match[2] + " " + strings.Join(outcomes, ", "))
		}
	}
	if diff := cmp.Diff(documented, served); diff != "" {
		s.T.Errorf("metrics (-page +programs):\n%s", diff)
	}
}

// checkLogLines compares the page's log lines with the messages in the code, and with the
// lines that the programs have written.
func checkLogLines(s *harness.System) {
	s.T.Helper()
	var written strings.Builder
	for _, app := range s.Apps() {
		written.WriteString(app.Service.Log())
	}
	var lines []string
	for _, row := range tableOf(s.T, httpPage, "line") {
		lines = append(lines, code(row[0])...)
	}
	known, seen := make(map[string]bool), 0
	for _, file := range parsed(s.T, "order", "inventory", "daprhttp/deadletters", "daprhttp/web") {
		calls(file, func(_, name string, args []ast.Expr) {
			if len(args) == 0 || name != "Info" && name != "Warn" {
				return
			}
			message, found := text(args[0]), false
			for _, line := range lines {
				if regexp.MustCompile("^"+pattern(message)).MatchString(line) || regexp.MustCompile("^"+pattern(line)+"$").MatchString(message) {
					known[line], found = true, true
				}
			}
			if !found {
				s.T.Errorf("the page does not have the log line %q", message)
			}
		})
	}
	for _, line := range lines {
		if !known[line] {
			s.T.Errorf("no program writes the log line %q", line)
		}
		beginning, _, _ := strings.Cut(line, "…")
		if message, _, cut := strings.Cut(beginning, ". "); cut {
			beginning = message + ". "
		}
		if !strings.Contains(written.String(), beginning) {
			continue // it takes a fault that is not made here
		}
		seen++
		whole := `(?m)^\S+ \S+ (?:eventId="\S+" )?` + strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*") + `$`
		if !regexp.MustCompile(whole).MatchString(written.String()) {
			s.T.Errorf("no log line is as the page has it: %s", line)
		}
	}
	if seen < 15 {
		s.T.Errorf("the programs have written only %d of the page's log lines", seen)
	}
}
