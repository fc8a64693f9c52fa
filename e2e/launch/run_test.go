package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// testSystem returns the system of the README with ports and data of its own.
func testSystem(t *testing.T) system {
	t.Helper()
	root, err := stack.Root()
	harness.Must(t, err)
	s, err := newSystem(root, func(string) string { return "" })
	harness.Must(t, err)
	for _, port := range []*int{&s.order.Port, &s.order.DaprPort, &s.inventory.Port, &s.inventory.DaprPort, &s.redisPort, &s.pagePort} {
		*port = harness.FreePort(t)
	}
	s.work = t.TempDir()
	redis := stack.RedisAt(net.JoinHostPort("127.0.0.1", strconv.Itoa(s.redisPort)))
	documented := s.resources
	s.resources = filepath.Join(s.work, "components")
	harness.Must(t, stack.WriteComponents(documented, s.resources, redis, redis))
	return s
}

// start runs a system until it is up. shown returns what a person sees, and end does what
// Ctrl-C does.
func start(t *testing.T, s system) (shown func() string, end func()) {
	t.Helper()
	if testing.Short() {
		t.Skip("this test is left out with -short: go test ./e2e/launch runs it")
	}
	screen, err := os.Create(filepath.Join(t.TempDir(), "screen"))
	harness.Must(t, err)
	shown = func() string {
		text, err := os.ReadFile(screen.Name())
		harness.Must(t, err)
		return string(text)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx, screen) }()
	for !strings.Contains(shown(), "It is up") {
		select {
		case err := <-ended:
			cancel()
			t.Fatalf("the launcher ended: %v\n%s", err, shown())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return shown, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// walkthrough returns the first three commands of the README's walkthrough and their
// answers, with the ports of a system. What a command has behind its URL is apart, because a
// token may stand before it.
func walkthrough(t *testing.T, s system) (texts []string) {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join(s.root, "README.md"))
	harness.Must(t, err)
	ports := strings.NewReplacer(
		fmt.Sprint(":", stack.Inventory.DaprPort, "/"), fmt.Sprint(":", s.inventory.DaprPort, "/"),
		fmt.Sprint(":", stack.Order.DaprPort, "/"), fmt.Sprint(":", s.order.DaprPort, "/"),
	)
	for _, block := range regexp.MustCompile("(?m)^```(?:bash|json)\n(.*)\n```$").FindAllStringSubmatch(string(readme), 6) {
		command, options, _ := strings.Cut(block[1], " -H ")
		texts = append(texts, ports.Replace(command), options)
	}
	if len(texts) != 12 || !strings.HasSuffix(texts[10], `90}`) {
		t.Fatalf("the README's walkthrough does not begin as expected: %q", texts)
	}
	return texts
}

func TestRunShowsTheStockFallAndLeavesNothingRunning(t *testing.T) {
	s := testSystem(t)
	for _, token := range []string{"", "secret"} { // the second time with the data of the first
		s.daprAPIToken, s.appAPIToken = token, token
		shown, end := start(t, s)
		wants := append(walkthrough(t, s), fmt.Sprintf("and break things: http://localhost:%d\n\n", s.pagePort))
		end()
		wants = append(wants, "Processed OrderPlaced event. orderId=order-1001, itemId=item1, ordered=10, remaining=90")
		for _, want := range wants {
			if !strings.Contains(shown(), want) {
				t.Errorf("not shown: %s", want)
			}
		}
		if token != "" && strings.Contains(shown(), token) {
			t.Error("a token was shown")
		}
		for _, port := range []int{s.order.Port, s.order.DaprPort, s.inventory.Port, s.inventory.DaprPort, s.redisPort, s.pagePort} {
			if !stack.PortIsFree(port) {
				t.Errorf("port %d is still taken", port)
			}
		}
		if t.Failed() {
			t.Fatalf("what was shown:\n%s", shown())
		}
	}
}

func TestRunSaysWhatIsInTheWay(t *testing.T) {
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	port := other.Listener.Addr().(*net.TCPAddr).Port
	for want, take := range map[string]func(*system){
		"port %d is taken: stop the program that listens on it": func(s *system) { s.inventory.Port = port },
		"port %d is taken, but not by a Redis":                  func(s *system) { s.redisPort = port },
	} {
		s := testSystem(t)
		take(&s)
		if err := s.run(t.Context(), io.Discard); err == nil || !strings.Contains(err.Error(), fmt.Sprintf(want, port)) {
			t.Errorf("got %v, want %s", err, fmt.Sprintf(want, port))
		}
	}
}

func TestRunUsesARedisThatRunsAlreadyAndLeavesItRunning(t *testing.T) {
	is := is.New(t)
	s := testSystem(t)
	redis, err := s.startRedis(t.Context(), &console{w: io.Discard})
	harness.Must(t, err)
	defer func() { is.NoErr(redis.Stop(10 * time.Second)) }()
	shown, end := start(t, s)
	resp, err := http.Post(fmt.Sprintf("http://localhost:%d/parts/redis/kill", s.pagePort), "", nil)
	is.NoErr(err)
	resp.Body.Close()
	is.Equal(resp.StatusCode, http.StatusNotFound) // the launcher's page has no such part
	end()
	is.True(strings.Contains(shown(), "Using the Redis that runs"))
	is.NoErr(redis.Ping(t.Context()))
}

func TestWrongArgumentsAreAnsweredWithTheCommands(t *testing.T) {
	for _, args := range [][]string{nil, {"start"}, {"run", "setup"}} {
		err := launch(t.Context(), args, os.Getenv, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "launch run ") {
			t.Errorf("%q: got %v", args, err)
		}
	}
}

// `make daprd` prints a path that a command can use, also when the sidecar is built first.
func TestProgressOfABuildIsNotAPath(t *testing.T) {
	is := is.New(t)
	for _, name := range []string{"HOME", "XDG_CACHE_HOME"} { // no sidecar is there
		t.Setenv(name, t.TempDir())
	}
	t.Setenv("PATH", "") // and no Go to build it
	var stdout, stderr strings.Builder
	is.True(launch(t.Context(), []string{"daprd"}, os.Getenv, &stdout, &stderr) != nil)
	is.True(strings.Contains(stderr.String(), "Building Dapr's daprd"))
	is.Equal(stdout.String(), "")
}
