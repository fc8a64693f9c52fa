package e2e

import (
	"database/sql"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// TestTroubleshooting makes each mistake that components/troubleshooting.md explains, and looks
// for the message that the page shows.
func TestTroubleshooting(t *testing.T) {
	t.Parallel()
	const page = "components/troubleshooting.md"
	const order = `{"orderId":"order-1001","itemId":"item1","quantity":10}`
	// placeOrder returns what the order service answers.
	placeOrder := func(s *harness.System, app *stack.App) string {
		return s.Send("POST", app.URL("/order"), order, nil).Body
	}
	// refuses returns why a sidecar does not start.
	refuses := func(o stack.AppOptions) string {
		o.Daprd = harness.Project.Daprd
		_, err := stack.StartApp(t.Context(), o)
		return fmt.Sprint(err)
	}
	mistakes := []struct {
		see  string // what the page has
		make func(t *testing.T) (seen string)
	}{
		{"error connecting to redis at localhost:6379", func(t *testing.T) string {
			port := harness.FreePort(t)
			away := stack.RedisAt("localhost:" + strconv.Itoa(port))
			resources := t.TempDir()
			harness.Must(t, stack.WriteComponents(filepath.Join(harness.Project.Root, "components", "redis"), resources, away, away))
			return strings.ReplaceAll(refuses(stack.AppOptions{ID: "order-service", Resources: resources}), strconv.Itoa(port), "6379")
		}},
		{"failed to add target ../componentz: no such file or directory", func(t *testing.T) string {
			return refuses(stack.AppOptions{ID: "order-service", Resources: "../componentz"})
		}},
		{"error loading configuration: stat ../components/confg.yaml: no such file or directory", func(t *testing.T) string {
			return refuses(stack.AppOptions{ID: "order-service", Resources: only(t, "redis", stack.FilterFile), Config: "../components/confg.yaml"})
		}},
		{"open ../components/answered.wasm: no such file or directory", func(t *testing.T) string {
			return refuses(stack.AppOptions{ID: "order-service", Resources: only(t, "redis", stack.FilterFile), Dir: t.TempDir()})
		}},
		{"HTTP middleware middleware.http.wasm/v1 has not been registered", func(t *testing.T) string {
			// This sidecar has the middleware. A sidecar that was built without it, with the tag
			// stablecomponents alone, says what this one says about a misspelt type.
			resources := only(t, "redis", stack.FilterFile)
			harness.Edit(t, filepath.Join(resources, stack.FilterFile), "middleware.http.wasm", "middleware.http.wasn")
			return strings.ReplaceAll(refuses(stack.AppOptions{ID: "order-service", Resources: resources}), "middleware.http.wasn", "middleware.http.wasm")
		}},
		{"listen tcp 127.0.0.1:5002: bind: address already in use (set PORT, or --app-port of dapr run, to another port, or stop the program that has this one)", func(t *testing.T) string {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			harness.Must(t, err)
			defer ln.Close()
			port := strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
			p := startAlone(t, stack.Order, "PORT="+port)
			<-p.Done()
			return strings.ReplaceAll(p.Log(), port, "5002")
		}},
		{"dial tcp 127.0.0.1:3501: connect: connection refused", func(t *testing.T) string {
			s := harness.Start(t, harness.Options{})
			harness.Must(t, s.Order.Sidecar.Stop(20*time.Second))
			return strings.ReplaceAll(placeOrder(s, s.Order), strconv.Itoa(s.Order.DaprPort), "3501")
		}},
		{"curl: (7) Failed to connect to localhost port 5001", func(t *testing.T) string {
			s := harness.Start(t, harness.Options{})
			harness.Must(t, s.Inventory[0].Service.Stop(20*time.Second))
			s.Place("order-1001", "item1", 10)
			port := strconv.Itoa(s.Inventory[0].Port)
			seen, _ := exec.CommandContext(t.Context(), "curl", "-sS", "http://localhost:"+port+"/inventory/item1").CombinedOutput()
			harness.Must(t, s.Inventory[0].StartService(t.Context()))
			s.WaitForStock("item1", -10) // as the page promises
			return strings.ReplaceAll(string(seen), port, "5001")
		}},
		{"the body is not valid JSON: invalid character 'o' looking for beginning of object key string", func(t *testing.T) string {
			s := harness.Start(t, harness.Options{})
			return s.Send("POST", s.Order.URL("/order"), strings.ReplaceAll(order, `"`, ""), nil).Body
		}},
		{"the body is not valid JSON: invalid character 'ï' looking for beginning of value", func(t *testing.T) string {
			s := harness.Start(t, harness.Options{})
			return s.Send("POST", s.Order.URL("/order"), "\uFEFF"+order, nil).Body
		}},
		{"pubsub pubsub is not found", func(t *testing.T) string {
			s := harness.Start(t, harness.Options{})
			return placeOrder(s, without(s, "pubsub.yaml", stack.Order))
		}},
		{"topic OrderPlaced is not allowed for app id orders-service", func(t *testing.T) string {
			s := harness.Start(t, harness.Options{})
			o := harness.Project.App(stack.Order)
			o.ID = "orders-service"
			return placeOrder(s, s.StartApp(o))
		}},
		{"subscription to topic 'OrderPlaced' on pubsub 'pubsub' is not allowed", func(t *testing.T) string {
			s := harness.Start(t, harness.Options{})
			o := harness.Project.App(stack.Inventory)
			o.ID = "inventory"
			app := s.StartApp(o)
			harness.Said(t, app.Sidecar, "not allowed") // a moment after it is ready
			return app.Sidecar.Log()
		}},
		{"failed to ping: database is locked (5) (SQLITE_BUSY)", func(t *testing.T) string {
			file, err := stack.NewSQLite(t.TempDir())
			harness.Must(t, err)
			db, err := sql.Open("sqlite", "file:"+file.File)
			harness.Must(t, err)
			defer db.Close()
			_, err = db.ExecContext(t.Context(), "begin exclusive; create table mine (n int)")
			harness.Must(t, err)
			return refuses(stack.AppOptions{ID: "inventory-service", Resources: only(t, "sqlite", "statestore.yaml", file)})
		}},
		{`type "dapr_metadata" already exists (SQLSTATE 42710)`, func(t *testing.T) string {
			database, err := stack.StartPostgreSQL(t.Context())
			harness.Must(t, err)
			defer database.Stop(20 * time.Second)
			_, err = database.Query(t.Context(), "create type dapr_metadata as enum ('of another')")
			harness.Must(t, err)
			resources := only(t, "rabbitmq-postgres", "statestore.yaml", database)
			return strings.ReplaceAll(refuses(stack.AppOptions{ID: "inventory-service", Resources: resources}), `\"`, `"`)
		}},
		{`{"error":"the header dapr-api-token must hold the token in APP_API_TOKEN"}`, func(t *testing.T) string {
			s := harness.Start(t, harness.Options{Tokens: true})
			s.AppAPIToken = ""
			return placeOrder(s, s.Order)
		}},
		{"the header Host must be an IP address or a name without a dot (such as localhost)", func(t *testing.T) string {
			s := harness.Start(t, harness.Options{})
			return s.Send("POST", s.Order.URL("/order"), order, http.Header{"Host": {"shop.example"}}).Body
		}},
		{"access control policy has denied access", func(t *testing.T) (seen string) {
			s := harness.Start(t, harness.Options{Mesh: true})
			harness.WaitFor(t, time.Minute, func() error {
				a := s.InvokeFrom(s.Order, s.Inventory[0], "GET", "/inventory/item1", "", "", nil)
				if seen = a.Body; a.Status != 403 {
					return fmt.Errorf("got %d %s", a.Status, a.Body)
				}
				return nil
			})
			return seen
		}},
		{"invalid api token", func(t *testing.T) string {
			s := harness.Start(t, harness.Options{Tokens: true})
			s.Order.Service.Kill()
			startAlone(t, stack.Order, fmt.Sprint("PORT=", s.Order.Port), fmt.Sprint("DAPR_HTTP_PORT=", s.Order.DaprPort), "DAPR_API_TOKEN=a wrong one")
			harness.WaitFor(t, time.Minute, func() error {
				_, err := s.TrySend("GET", s.Order.URL("/healthz"), "", nil)
				return err
			})
			return placeOrder(s, s.Order)
		}},
	}
	explained := []string{ // not tried: the messages of the Dapr CLI, Docker, PowerShell and mDNS
		"dapr: command not found", "could not connect to docker", "Bind for 0.0.0.0:6379 failed", "`file already exists",
		"failed to bind host port for 0.0.0.0:2379", "invalid configuration for HTTPPort", "Cannot bind parameter 'Headers'", "couldn't find service",
	}
	for _, mistake := range mistakes {
		explained = append(explained, mistake.see)
	}
	for _, table := range harness.Tables(t, page) {
		for _, row := range table.Rows[1:] {
			if !slices.ContainsFunc(explained, func(message string) bool { return strings.Contains(row[0], "`"+message) }) {
				t.Errorf("%s has a message that is not tried: %s", page, row[0])
			}
		}
	}
	for _, mistake := range mistakes {
		t.Run(mistake.see[:min(40, len(mistake.see))], func(t *testing.T) {
			if !strings.Contains(harness.Document(t, page), "`"+mistake.see) {
				t.Errorf("%s does not explain %s", page, mistake.see)
			}
			if seen := mistake.make(t); !strings.Contains(seen, mistake.see) {
				t.Errorf("seen was\n%s\nand not %s", seen, mistake.see)
			}
		})
	}
}

// startAlone starts a program of the project without a sidecar.
func startAlone(t *testing.T, service stack.Service, env ...string) *stack.Process {
	t.Helper()
	program := stack.Command{Name: service.AppID, Path: harness.Project.App(service).Program, Dir: t.TempDir(), Env: env}
	if service == stack.DeadLetters {
		program.Args = []string{"serve", "a", "b"}
	}
	process, err := stack.Start(program)
	harness.Must(t, err)
	t.Cleanup(process.Kill)
	return process
}

// only returns a folder that has one file of a backend, with the addresses of servers.
func only(t *testing.T, backend, file string, servers ...stack.Named) (resources string) {
	t.Helper()
	text := harness.Document(t, "components/"+backend+"/"+file)
	for _, server := range servers {
		text = server.In(text)
	}
	resources = t.TempDir()
	harness.Must(t, os.WriteFile(filepath.Join(resources, file), []byte(text), 0o644))
	return resources
}
