// Package e2e holds the end-to-end tests: real services, real Dapr sidecars, real
// brokers and state stores. Nothing in them is a stand-in.
//
// A test starts a system of its own with [startSystem], places orders with place or a
// load, and waits for what must be with waitFor and its like: all that is in
// harness_test.go. What is promised on every backend is the table in
// promises_test.go.
package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"example.com/dapr-orders/e2e/stack"
)

// What all tests share.
var (
	project *stack.Project
	borrow  bool // tests have to share a Redis that runs already
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "dapr-orders-e2e")
		if err == nil {
			stack.DeleteAtEnd(dir) // after Ctrl-C, too
			defer os.RemoveAll(dir)
			err = prepare(dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "the end-to-end tests can't start:", err)
			return 1
		}
		code := m.Run()
		if code == 0 && *promisesFile != "" {
			if err := writePromises(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		return code
	}())
}

// prepare gets ready what all tests need. All that is temporary goes into dir.
func prepare(dir string) (err error) {
	ctx := context.Background()
	if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL runs as a user of its own
		return err
	}
	if err := os.Setenv("TMPDIR", dir); err != nil {
		return err
	}
	if err := stack.RedisServer.Install(ctx, os.Stderr); err != nil {
		if stack.RedisAt(stack.DefaultRedisAddr, 0).Ping(ctx) != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "There is no redis-server to start: the tests borrow empty databases of the Redis at %s.\n", stack.DefaultRedisAddr)
		borrow = true
	}
	project, err = stack.Open(ctx, filepath.Join(dir, "bin"), os.Stderr)
	return err
}
