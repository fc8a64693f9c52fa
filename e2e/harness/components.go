package harness

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/dapr-orders/e2e/stack"
)

// IsInventory reports whether these are the options of the inventory service, with any app ID.
func IsInventory(o *stack.AppOptions) bool { return filepath.Base(o.Program) == "inventory" }

// Edit replaces a text that is in a file exactly once.
func Edit(t *testing.T, file, old, new string) {
	t.Helper()
	text := read(t, file)
	if n := strings.Count(text, old); n != 1 {
		t.Fatalf("%s has %q %d times, want once", file, old, n)
	}
	Must(t, os.WriteFile(file, []byte(strings.Replace(text, old, new, 1)), 0o644))
}

// AdmitAll lets every app publish and receive every topic. It is for Options.Prepare.
func AdmitAll(t *testing.T) func(resources string) {
	return func(resources string) {
		file := filepath.Join(resources, "pubsub.yaml")
		before, _, found := strings.Cut(read(t, file), "    - name: allowedTopics")
		if !found {
			t.Fatalf("%s allows every topic", file)
		}
		Must(t, os.WriteFile(file, []byte(before), 0o644))
	}
}
