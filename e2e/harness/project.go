package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"example.com/dapr-orders/e2e/stack"
)

// What all tests share.
var (
	Project *stack.Project
	Borrow  bool // tests have to share a Redis that runs already
)

// Prepare gets ready what all tests need. All that is temporary goes into dir.
func Prepare(dir string) (err error) {
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
		Borrow = true
	}
	Project, err = stack.Open(ctx, filepath.Join(dir, "bin"), os.Stderr)
	return err
}

// NeedsOwnRedis fails a test that stops and starts Redis where none can be had.
func NeedsOwnRedis(t *testing.T) {
	t.Helper()
	if Borrow {
		t.Fatal("this test stops and starts a Redis of its own: install redis-server")
	}
}

// DaprModule returns the folder of a module that the sidecar is built from.
func DaprModule(t *testing.T, path string) string {
	t.Helper()
	download := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", path)
	download.Dir = filepath.Join(Project.Root, "e2e", "daprd")
	download.Env = append(os.Environ(), "GOWORK=off")
	output, err := download.Output()
	if err != nil {
		t.Fatalf("the module %s can't be had: %v %s", path, err, output)
	}
	var module struct{ Dir string }
	Must(t, json.Unmarshal(output, &module))
	return module.Dir
}
