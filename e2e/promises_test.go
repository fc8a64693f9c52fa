package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

var promisesFile = flag.String("promises", "", "prove every promise on every backend, and write what was seen to this file")

// leftToBackends skips a test that only make test-backends runs.
func leftToBackends(t *testing.T) {
	t.Helper()
	if *promisesFile == "" {
		t.Skip("make test-backends runs this test")
	}
}

// A promise holds on every backend. Its test proves it on one, and returns what it has seen
// in a few words.
type promise struct {
	name string // of the test
	text string // in e2e/README.md
	core bool   // make test proves it on every backend, not only on the first
	test func(t *testing.T, b stack.Backend) string
}

// The promises, in the order of e2e/README.md.
var promises = []promise{
	{"Walkthrough", "the walkthrough, word for word", false, promiseWalkthrough},
	{"OrdersAtTheSameTime", "concurrent orders, with three replicas", true, promiseOrdersAtTheSameTime},
	{"EventDeliveredAgain", "one event redelivered many times, and after restarts", false, promiseEventDeliveredAgain},
	{"UnusualIDs", "items with unusual IDs", false, promiseUnusualIDs},
	{"PackageOnce", "the tests of package `once`, over this store", false, promisePackageOnce},
	{"Poison", "invalid events are moved to the dead-letter topic", false, promisePoison},
	{"DeadLetters", "dead letters survive `kill -9`, are listed, resent and applied once", true, promiseDeadLetters},
	{"ItemRefused", "the state store refuses one item for a minute, under load", false, promiseItemRefused},
	{"StateStoreAway", "the state store unavailable for 10 s, under load", false, promiseStateStoreAway},
	{"BrokerKilled", "the broker killed with `kill -9` and restarted, under load", false, promiseBrokerKilled},
	{"ProcessesKilled", "services and sidecars killed with `kill -9`, under load", true, promiseProcessesKilled},
	{"RollingRestart", "three replicas restarted one after another, under load", false, promiseRollingRestart},
}

// kept has what the tests have seen, by the names of promise and backend.
var kept sync.Map

func TestPromises(t *testing.T) {
	t.Parallel()
	for _, p := range promises {
		for i, b := range stack.Backends {
			t.Run(p.name+"/"+b.Name, func(t *testing.T) {
				if i > 0 && !p.core {
					leftToBackends(t)
				}
				t.Parallel()
				if why := b.Cannot[p.name]; why != "" {
					t.Skipf("not promised: %s", why)
				}
				figures := "NOT KEPT"
				defer func() {
					if t.Skipped() {
						figures = "not run"
					}
					kept.Store([2]string{p.name, b.Name}, figures)
				}()
				if seen := p.test(t, b); !t.Failed() {
					figures = seen
				}
			})
		}
	}
}

// promisesTable returns the promises as e2e/README.md shows them.
func promisesTable() string {
	var b strings.Builder
	fmt.Fprint(&b, "| test |")
	for _, backend := range stack.Backends {
		fmt.Fprintf(&b, " %s |", backend.Name)
	}
	fmt.Fprintf(&b, "\n| --- |%s\n", strings.Repeat(" --- |", len(stack.Backends)))
	for _, p := range promises {
		fmt.Fprintf(&b, "| %s |", p.text)
		for _, backend := range stack.Backends {
			figures, tested := kept.Load([2]string{p.name, backend.Name})
			if why := backend.Cannot[p.name]; why != "" {
				figures = "no: " + why
			} else if !tested {
				figures = "not run"
			}
			fmt.Fprintf(&b, " %s |", figures)
		}
		fmt.Fprintln(&b)
	}
	return b.String()
}

// writePromises writes the table, and compares it with the one in e2e/README.md. Only the
// figures may differ.
func writePromises() error {
	table := promisesTable()
	if err := os.WriteFile(*promisesFile, []byte(table), 0o644); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(harness.Project.Root, "e2e", "README.md"))
	if err != nil {
		return err
	}
	figure := regexp.MustCompile(`[0-9][0-9,]*`)
	shown := strings.Split(figure.ReplaceAllString(string(text), "0"), "\n")
	for line := range strings.Lines(table) {
		if !slices.Contains(shown, figure.ReplaceAllString(strings.TrimSpace(line), "0")) {
			return fmt.Errorf("the table of promises in e2e/README.md does not have\n%s", line)
		}
	}
	return nil
}
