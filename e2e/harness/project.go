package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"example.com/dapr-orders/e2e/stack"
)

// What all tests share.
var (
	Project *stack.Project

	// Short names the tests that start a system even with -short.
	Short []string
)

// Prepare makes what every test needs. Temporary files go into dir.
func Prepare(dir string) (err error) {
	ctx := context.Background()
	if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL runs as a user of its own
		return err
	}
	if err := os.Setenv("TMPDIR", dir); err != nil {
		return err
	}
	if err := stack.RedisServer.Install(ctx, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err) // the tests that need it are skipped
	}
	Project, err = stack.Open(ctx, filepath.Join(dir, "bin"), os.Stderr)
	return err
}

// UnlessShort skips a test with -short that is not in Short.
func UnlessShort(t *testing.T) {
	t.Helper()
	if testing.Short() && !slices.Contains(Short, t.Name()) {
		t.Skip("this test is left out with -short: go test -timeout 30m ./e2e runs it")
	}
}

// NeedsProgram skips a test where a program of the system is missing.
func NeedsProgram(t *testing.T, name, install string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed: %s", name, install)
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
