package harness

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"example.com/dapr-orders/e2e/stack"
)

// IsInventory reports whether these are the options of the inventory service. Its app ID
// may be any.
func IsInventory(o *stack.AppOptions) bool { return filepath.Base(o.Program) == "inventory" }

// Edit replaces what stands exactly once in a file.
func Edit(t *testing.T, file, old, new string) {
	t.Helper()
	text, err := os.ReadFile(file)
	Must(t, err)
	if bytes.Count(text, []byte(old)) != 1 {
		t.Fatalf("%s does not have %s once", file, old)
	}
	editAll(t, file, old, new)
}

// editAll replaces what stands in a file, however often.
func editAll(t *testing.T, file, old, new string) {
	t.Helper()
	text, err := os.ReadFile(file)
	Must(t, err)
	if !bytes.Contains(text, []byte(old)) {
		t.Fatalf("%s does not have %s", file, old)
	}
	Must(t, os.WriteFile(file, bytes.ReplaceAll(text, []byte(old), []byte(new)), 0o644))
}

// AdmitAll takes from the component files who may publish and receive what.
func AdmitAll(t *testing.T) func(resources string) {
	return func(resources string) {
		file := filepath.Join(resources, "pubsub.yaml")
		text, err := os.ReadFile(file)
		Must(t, err)
		before, _, found := bytes.Cut(text, []byte("    - name: protectedTopics"))
		if !found {
			t.Fatalf("%s protects no topics", file)
		}
		Must(t, os.WriteFile(file, before, 0o644))
	}
}

// CheckHealth lets a sidecar check its app's health.
func CheckHealth(o *stack.AppOptions) {
	o.SidecarArgs = append(o.SidecarArgs, "--enable-app-health-check")
}
