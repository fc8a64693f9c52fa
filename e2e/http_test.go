package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
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

// A described is a program that the page describes.
type described struct {
	name, column string // its name, and its column in the table of variables
	service      stack.Service
	app          *stack.App
	routes       *http.ServeMux  // as the page has them
	untried      map[string]bool // the routes to which the test has sent no request yet
}

// describedPrograms returns the programs, without their apps and routes.
func describedPrograms() []*described {
	return []*described{
		{name: "order service", column: "order", service: stack.Order},
		{name: "inventory service", column: "inventory", service: stack.Inventory},
		{name: "dead-letter keeper", column: "dead letters", service: stack.DeadLetters},
	}
}

// sourceOf returns the Go code in folders, without tests.
func sourceOf(t *testing.T, folders ...string) string {
	t.Helper()
	var source strings.Builder
	for _, folder := range folders {
		for _, file := range projectFiles(t, folder+"/*.go") {
			if !strings.HasSuffix(file, "_test.go") {
				source.WriteString(harness.Document(t, file))
			}
		}
	}
	return source.String()
}

// TestHTTPReference sends each request of the page to the running programs and compares the
// answers. It compares the routes, limits, metrics and log lines of the page with the programs.
func TestHTTPReference(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{Tokens: true})
	programs := describedPrograms()
	order, inventory, keeper := programs[0], programs[1], programs[2]
	order.app, inventory.app, keeper.app = s.Order, s.Inventory[0], s.StartDeadLetters("serve", "OrderPlaced-dead-letter", "OrderPlaced")
	checkRoutes(s, programs)

	ofSection := map[string]*described{
		"Order service": order, "Idempotency-Key": order, "Inventory service": inventory, "Deliveries": inventory, "Dead-letter keeper": keeper,
	}
	for _, table := range harness.Tables(t, httpPage) {
		if table.Rows[0][0] != "request" {
			continue
		}
		if table.Heading == "When the sidecar fails" {
			checkLimits(s)
			s.Drained("inventory-service") // the next replica can't apply orders: leave it no event
			order.app, inventory.app = without(s, "pubsub.yaml", stack.Order), without(s, "statestore.yaml", stack.Inventory)
		}
		for _, row := range table.Rows[1:] {
			method, path, _ := strings.Cut(strings.Join(harness.Code(row[0]), ""), " ")
			hasRoute := func(p *described) bool { return p != nil && p.route(method, path) != "" }
			to := []*described{ofSection[table.Heading]}
			if table.Heading == "All programs" {
				to = programs
			} else if i := slices.IndexFunc(programs, hasRoute); i >= 0 && !hasRoute(to[0]) {
				to = programs[i : i+1]
			}
			for _, p := range to {
				delete(p.untried, p.route(method, path))
				tryRow(s, p, method, path, row[1:])
			}
		}
	}
	forged := http.Header{"Content-Type": {harness.EventsJSON}, "Dapr-Api-Token": {"wrong"}}
	s.Send("POST", s.Inventory[0].URL("/orders"), "{}", forged) // for the log
	checkMetrics(s, programs)
	for _, p := range programs {
		for route := range p.untried {
			t.Errorf("%s: the page has no request to %s", p.name, route)
		}
	}
	harness.Must(t, s.StopApps()) // for the last line of each log
	checkLogLines(s)
}

// checkRoutes reads the page's table of routes, and compares it with the routes in the code
// and with those to which the programs subscribe.
func checkRoutes(s *harness.System, programs []*described) {
	s.T.Helper()
	for _, p := range programs {
		p.routes, p.untried = http.NewServeMux(), make(map[string]bool)
		for _, row := range harness.TableOf(s.T, httpPage, "route") {
			if slices.Contains(strings.Split(row[1], "; "), fmt.Sprintf("%s, %d", p.name, p.service.Port)) {
				for _, route := range harness.Code(row[0]) {
					p.routes.Handle(route, http.NotFoundHandler())
					p.untried[route] = true
				}
			}
		}
		has := make(map[string]bool)
		source := sourceOf(s.T, p.service.Folder)
		for _, match := range regexp.MustCompile(`\.Handle(?:Func)?\("([A-Z]+ [^"]+)"`).FindAllStringSubmatch(source, -1) {
			has[strings.ReplaceAll(match[1], "...}", "}")] = true
		}
		if a := s.Send("GET", p.app.URL("/dapr/subscribe"), "", nil); a.Status == http.StatusOK {
			has["GET /dapr/subscribe"] = true
			var subscriptions []struct{ Route string }
			harness.Must(s.T, json.Unmarshal([]byte(a.Body), &subscriptions))
			for _, subscription := range subscriptions {
				has["POST /"+subscription.Route] = true
			}
		}
		if diff := cmp.Diff(p.untried, has); diff != "" {
			s.T.Errorf("routes of the %s (-page +program):\n%s", p.name, diff)
		}
	}
}

// route returns the program's route for a request, or "".
func (p *described) route(method, path string) string {
	_, route := p.routes.Handler(httptest.NewRequest(method, path, nil))
	return route
}

// without starts a service next to a sidecar that lacks a component file.
func without(s *harness.System, component string, service stack.Service) *stack.App {
	s.T.Helper()
	o := harness.Project.App(service)
	o.Resources = s.T.TempDir()
	harness.Must(s.T, stack.WriteComponents(filepath.Join(harness.Project.Root, "components", "redis"), o.Resources, s.Broker, s.State))
	harness.Must(s.T, os.Remove(filepath.Join(o.Resources, component)))
	return s.StartApp(o)
}

// tryRow sends the request of a row and compares the answer.
func tryRow(s *harness.System, p *described, method, path string, row []string) {
	headers, body, status, want := row[0], strings.Join(harness.Code(row[1]), ""), row[2], strings.Join(harness.Code(row[3]), "")
	header := make(http.Header)
	for _, one := range harness.Code(headers) {
		name, value, _ := strings.Cut(one, ":")
		header.Add(name, strings.TrimSpace(value))
	}
	try := func() error {
		a := s.Send(method, p.app.URL(path), body, header)
		if diff := cmp.Diff(status, strconv.Itoa(a.Status)) + diffAnswer(want, a.Body); diff != "" {
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

// diffAnswer compares two answers. In the wanted one, … stands for any text.
func diffAnswer(want, got string) string {
	var w, g any
	if json.Unmarshal([]byte(want), &w) != nil || json.Unmarshal([]byte(got), &g) != nil {
		w, g = want, got
	}
	return cmp.Diff(w, g, cmp.Comparer(func(a, b string) bool {
		return a == b || strings.Contains(a, "…") && pattern(a).MatchString(b) || strings.Contains(b, "…") && pattern(b).MatchString(a)
	}))
}

// pattern returns the regular expression of a text in which … stands for any text.
func pattern(text string) *regexp.Regexp {
	return regexp.MustCompile(`^(?s:` + strings.ReplaceAll(regexp.QuoteMeta(text), "…", `.*`) + `)$`)
}

// checkMetrics compares the metrics of the programs with the page's.
func checkMetrics(s *harness.System, programs []*described) {
	s.T.Helper()
	documented, served := make(map[string]string), make(map[string]string)
	for _, row := range harness.TableOf(s.T, httpPage, "metric") {
		for _, name := range harness.Code(row[0]) {
			documented[row[1]+": "+name] = strings.TrimSpace(row[2] + " " + row[3])
		}
	}
	for _, p := range programs {
		delete(p.untried, "GET /metrics")
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

// checkLogLines compares the page's log lines with those that the programs have written. A
// line that takes a fault is compared with the code.
func checkLogLines(s *harness.System) {
	s.T.Helper()
	var written []string
	for _, app := range s.Apps() {
		for line := range strings.Lines(app.Service.Log()) {
			written = append(written, regexp.MustCompile(`^\S+ \S+ (eventId="\S+" )?`).ReplaceAllString(strings.TrimSpace(line), ""))
		}
	}
	source := sourceOf(s.T, "order", "inventory", "daprhttp/deadletters", "daprhttp/web")
	var messages []string // the beginnings of the page's lines, without values
	for _, row := range harness.TableOf(s.T, httpPage, "line") {
		for _, line := range harness.Code(row[0]) {
			message, _, _ := strings.Cut(line, "…")
			message, _, _ = strings.Cut(message, ". ")
			messages = append(messages, message)
			begins := func(w string) bool { return strings.HasPrefix(w, message) }
			if slices.ContainsFunc(written, begins) && !slices.ContainsFunc(written, pattern(line).MatchString) {
				s.T.Errorf("the programs have written no line as the page has it: %s", line)
			}
			if !slices.ContainsFunc(written, begins) && !strings.Contains(source, `"`+message) {
				s.T.Errorf("no program writes the log line %q", line)
			}
		}
	}
	for _, line := range written {
		if !slices.ContainsFunc(messages, func(message string) bool { return strings.HasPrefix(line, message) }) {
			s.T.Errorf("the page does not have the log line %q", line)
		}
	}
}

// TestHTTPReferenceHeaders compares the headers on the page with those that the code names.
func TestHTTPReferenceHeaders(t *testing.T) {
	t.Parallel()
	documented := make(map[string]bool)
	for _, row := range harness.TableOf(t, httpPage, "header") {
		for _, name := range harness.Code(row[0]) {
			documented[http.CanonicalHeaderKey(name)] = true
		}
	}
	used := map[string]bool{"Host": true, "Origin": true, "Sec-Fetch-Site": true, "Allow": true} // in net/http
	source := sourceOf(t, "order", "inventory", "daprhttp", "daprhttp/web", "daprhttp/deadletters")
	for _, match := range regexp.MustCompile(`(?:\.(?:Get|Values|Set)\(|Header, |\w+Header += )"([\w-]+)"`).FindAllStringSubmatch(source, -1) {
		used[http.CanonicalHeaderKey(match[1])] = true
	}
	if diff := cmp.Diff(documented, used); diff != "" {
		t.Errorf("headers (-page +code):\n%s", diff)
	}
}
