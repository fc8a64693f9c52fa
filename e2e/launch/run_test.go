package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/stack"
)

// testSystem returns the system of the README but for its ports and its data,
// which are its own.
func testSystem(t testing.TB, env map[string]string) system {
	t.Helper()
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	s, err := theSystem(root, func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range []*int{&s.order.Port, &s.order.DaprPort, &s.inventory.Port, &s.inventory.DaprPort, &s.redisPort, &s.pagePort} {
		if *port, err = stack.FreePort(); err != nil {
			t.Fatal(err)
		}
	}
	s.work = t.TempDir()
	redis := stack.RedisAt(net.JoinHostPort("127.0.0.1", strconv.Itoa(s.redisPort)))
	users := s.resources
	s.resources = filepath.Join(s.work, "components")
	if err := stack.WriteComponents(users, s.resources, redis, redis); err != nil {
		t.Fatal(err)
	}
	return s
}

// A screen is what a person sees.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// start runs a system until it is up. end is what Ctrl-C does.
func start(t testing.TB, s system) (shown *screen, end func() error) {
	t.Helper()
	if testing.Short() {
		t.Skip("this test is left out with -short: go test ./e2e/launch runs it")
	}
	ctx, cancel := context.WithCancel(t.Context())
	shown = &screen{}
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx, shown) }()
	for !strings.Contains(shown.String(), "It is up") {
		select {
		case err := <-ended:
			cancel()
			t.Fatalf("the launcher ended: %v\n%s", err, shown)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return shown, func() error { cancel(); return <-ended }
}

// walkthrough returns the first three commands of the README's walkthrough and their
// answers, with the ports of a system. What a command has behind its URL is apart, since
// a token may stand before it.
func walkthrough(t *testing.T, s system) (texts []string) {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join(s.root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
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
	for name, env := range map[string]map[string]string{
		"plain":       nil,
		"with tokens": {"DAPR_API_TOKEN": "secret one", "APP_API_TOKEN": "secret two"},
	} {
		t.Run(name, func(t *testing.T) {
			s := testSystem(t, env)
			for range 2 { // the second time with the data of the first
				shown, end := start(t, s)
				for _, want := range walkthrough(t, s) {
					if !strings.Contains(shown.String(), want) {
						t.Errorf("not shown: %s", want)
					}
				}
				if _, last, _ := strings.Cut(shown.String(), "It is up"); !strings.Contains(last, fmt.Sprintf(": http://localhost:%d\n\n", s.pagePort)) {
					t.Errorf("it does not end with the page's address: %s", last)
				}
				if strings.Contains(shown.String(), "secret") {
					t.Error("a token was shown")
				}
				if err := end(); err != nil {
					t.Error(err)
				}
				if line := "Processed OrderPlaced event. orderId=order-1001, itemId=item1, ordered=10, remaining=90"; !strings.Contains(shown.String(), line) {
					t.Errorf("not shown: %s", line)
				}
				for _, port := range []int{s.order.Port, s.order.DaprPort, s.inventory.Port, s.inventory.DaprPort, s.redisPort, s.pagePort} {
					if !stack.PortIsFree(port) {
						t.Errorf("port %d is still taken", port)
					}
				}
				if t.Failed() {
					t.Fatalf("what was shown:\n%s", shown)
				}
			}
		})
	}
}

func TestRunSaysWhatIsInTheWay(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	taken := ln.Addr().(*net.TCPAddr).Port
	go func() {
		for { // a program that is no Redis
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
			conn.Close()
		}
	}()

	t.Run("a port that is taken", func(t *testing.T) {
		s := testSystem(t, nil)
		s.inventory.Port = taken
		want := fmt.Sprintf("port %d is taken: stop the program that listens on it", taken)
		if err := s.run(t.Context(), &screen{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	})
	t.Run("no Redis on Redis's port", func(t *testing.T) {
		s := testSystem(t, nil)
		s.redisPort = taken
		want := fmt.Sprintf("port %d is taken, but not by a Redis", taken)
		if err := s.run(t.Context(), &screen{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	})
}

func TestRunUsesARedisThatRunsAlreadyAndLeavesItRunning(t *testing.T) {
	s := testSystem(t, nil)
	redis, err := s.startRedis(t.Context(), &console{w: &screen{}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := redis.Stop(10 * time.Second); err != nil {
			t.Error(err)
		}
	}()
	shown, end := start(t, s)
	resp, err := http.Post(fmt.Sprintf("http://localhost:%d/parts/redis/kill", s.pagePort), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("killing somebody else's Redis is answered %s", resp.Status)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(shown.String(), "Using the Redis that runs") {
		t.Errorf("the Redis that ran was not used:\n%s", shown)
	}
	if err := redis.Ping(t.Context()); err != nil {
		t.Errorf("the Redis that ran was stopped: %v", err)
	}
}
