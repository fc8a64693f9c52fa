package stack

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The estimate is right within a factor of two, measured by a build on two processors
// that took 263 s in all.
func TestWhatIsLeftOfABuild(t *testing.T) {
	for compiled, took := range map[int]int{100: 10, 300: 24, 500: 61, 700: 74, 900: 85, 1100: 114, 1300: 130, 1500: 180, 1700: 203, 1900: 230, 2100: 245} {
		text := left(2207, compiled, time.Duration(took)*time.Second)
		_, rest, _ := strings.Cut(text, "about ")
		estimate, err := time.ParseDuration(strings.TrimSuffix(rest, " left"))
		if err != nil {
			t.Fatal(text)
		}
		if really := time.Duration(263-took) * time.Second; estimate > 2*really || 2*estimate < really {
			t.Errorf("after %d packages in %d s:%s, and it was %v", compiled, took, text, really)
		}
	}
	if text := left(2207, 0, 0) + left(0, 10, time.Minute); text != "" {
		t.Errorf("an estimate without a reason: %s", text)
	}
}

// A change of what the sidecar is built from changes the name of the program.
func TestSidecarIsBuiltAgainWhenItsSourcesChange(t *testing.T) {
	module := t.TempDir()
	files := map[string]string{"go.mod": "require github.com/dapr/dapr v1.18.2\n", "go.sum": "sums", "main.go": "package main"}
	seen := make(map[string]bool)
	for _, changed := range []string{"", "go.mod", "go.sum", "main.go"} {
		for name, text := range files {
			if name == changed {
				text += "\n"
			}
			write(t, filepath.Join(module, name), text)
		}
		version, sources, err := daprVersion(module)
		if err != nil || version != "1.18.2" || seen[sources] {
			t.Errorf("after a change of %q: %s, %s, %v", changed, version, sources, err)
		}
		seen[sources] = true
	}
	if err := os.Remove(filepath.Join(module, "main.go")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := daprVersion(module); err == nil {
		t.Error("no main.go: no error")
	}
}
