package e2e

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

var componentsFolder = flag.String("components", "", "test the promises with the component files in this folder, whose servers run")

// untested are the promises that can't be tested with servers that run already, and why.
var untested = map[string]string{
	"Walkthrough":  "it needs this project's files",
	"ItemRefused":  "it needs a rule in the state store",
	"DeadLetters":  "it needs a look into the broker",
	"Poison":       "it needs a look into the broker",
	"BrokerKilled": "the broker would have to be stopped",
}

// TestGivenComponents tests the promises with a user's component files, and prints the table of
// the promises that they keep.
func TestGivenComponents(t *testing.T) {
	if *componentsFolder == "" {
		t.Skip("no component files were given: make test-backends COMPONENTS=folder")
	}
	folder, err := filepath.Abs(*componentsFolder)
	harness.Must(t, err)
	run := fmt.Sprintf("run%d-", time.Now().UnixMilli())
	table := fmt.Sprintf("| test | %s |\n| --- | --- |\n", filepath.Base(folder))
	for _, p := range promises {
		backend, err := stack.GivenBackend(folder, run)
		harness.Must(t, err)
		figures := try(t, p, backend)
		table += fmt.Sprintf("| %s | %s |\n", p.text, figures)
		if strings.HasPrefix(figures, "NOT KEPT") {
			t.Errorf("with the files in %s this promise is not kept: %s", folder, p.text)
		}
	}
	fmt.Print(table)
}

// try tests one promise with a backend whose servers run.
func try(t *testing.T, p promise, backend stack.Backend) (figures string) {
	if why, not := untested[p.name]; not {
		return "not run: " + why
	}
	if p.name == "StateStoreAway" && !backend.Reachable { // this test breaks the network to the state store
		return "not run: no setting of the state store names a host and a port"
	}
	// A broken promise fails its test, so each test runs in its own process.
	command := stack.Command{
		Name: p.name, Path: os.Args[0], Env: backend.Env, Dir: filepath.Join(harness.Project.Root, "e2e"),
		Args: []string{"-test.run", "^TestOnePromise$", "-test.timeout", "10m", "-components", backend.Folder, "-promise", p.name, "-run.name", backend.Given},
	}
	process, err := stack.Start(command)
	harness.Must(t, err)
	<-process.Done()
	var why string // the first thing that was wrong
	for line := range strings.Lines(process.Log()) {
		if _, verdict, found := strings.Cut(line, "VERDICT: "); found {
			figures = strings.TrimSpace(verdict)
		}
		if failed := failure.FindStringSubmatch(line); failed != nil && why == "" {
			why = failed[1]
		}
	}
	switch figures {
	case "":
		t.Logf("%s:\n%s", p.name, process.Log())
		return "NOT KEPT: it did not come to an end"
	case "NOT KEPT":
		return "NOT KEPT: " + why
	}
	return figures
}

// failure is how a test says what is wrong.
var failure = regexp.MustCompile(`^ +[a-z_]+\.go:[0-9]+: (.*)`)

var (
	onePromise = flag.String("promise", "", "the promise that is tested with -components")
	runName    = flag.String("run.name", "", "the beginning of each name in the servers of -components")
)

// TestOnePromise tests one promise with a user's component files, and prints what it has seen.
func TestOnePromise(t *testing.T) {
	if *onePromise == "" {
		t.Skip("TestGivenComponents runs this test in a process of its own")
	}
	for _, p := range promises {
		if p.name != *onePromise {
			continue
		}
		backend, err := stack.GivenBackend(*componentsFolder, *runName)
		harness.Must(t, err)
		var figures string
		defer func() {
			if t.Failed() {
				figures = "NOT KEPT"
				if why, ok := harness.Verdicts.Load(t.Name()); ok {
					figures += fmt.Sprint(": ", why)
				}
			}
			fmt.Println("VERDICT:", figures)
		}()
		figures = p.test(t, backend)
	}
}

// With the component files that `dapr init` leaves, orders go to the dead-letter topic while
// the state store is away. The table must say so.
func TestComponentsOfDaprInit(t *testing.T) {
	t.Parallel()
	harness.UnlessShort(t)
	redis, err := stack.StartRedis(t.Context(), t.TempDir(), 0)
	harness.Must(t, err)
	t.Cleanup(func() { harness.Must(t, redis.Stop(20*time.Second)) })
	harness.Must(t, redis.Client().Set(t.Context(), "a user's", "own", 0).Err())
	folder := filepath.Join(t.TempDir(), "components")
	harness.Must(t, os.MkdirAll(folder, 0o755))
	for _, name := range []string{"pubsub.yaml", "statestore.yaml"} {
		text, err := os.ReadFile(filepath.Join("testdata", "dapr-init", name))
		harness.Must(t, err)
		harness.Must(t, os.WriteFile(filepath.Join(folder, name), []byte(strings.ReplaceAll(string(text), stack.DefaultRedisAddr, redis.Addr)), 0o644))
	}
	t.Run("tested", func(t *testing.T) {
		for name, want := range map[string]*regexp.Regexp{
			"OrdersAtTheSameTime": regexp.MustCompile(`^2000 of 2000 applied$`),
			"EventDeliveredAgain": regexp.MustCompile(`^52 deliveries, applied once$`),
			"UnusualIDs":          regexp.MustCompile(`^26 of 26$`),
			"StateStoreAway":      regexp.MustCompile(`^NOT KEPT: .* in the dead-letter topic`),
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				backend, err := stack.GivenBackend(folder, "trial-"+strings.ToLower(name)+"-")
				harness.Must(t, err)
				p := promises[slices.IndexFunc(promises, func(p promise) bool { return p.name == name })]
				if got := try(t, p, backend); !want.MatchString(got) {
					t.Errorf("%s: %s; want %s", p.text, got, want)
				}
			})
		}
	})
	keys, err := redis.Client().Keys(t.Context(), "*").Result()
	harness.Must(t, err)
	if len(keys) != 1 {
		t.Errorf("the Redis is left with %q", keys)
	}
}
