package stack

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"
)

// The estimate is right within a factor of two, measured by a build on two processors
// that took 263 s in all.
func TestWhatIsLeftOfABuild(t *testing.T) {
	is := is.New(t)
	for compiled, took := range map[int]int{100: 10, 500: 61, 900: 85, 1300: 130, 1700: 203, 2100: 245} {
		text := left(2207, compiled, time.Duration(took)*time.Second)
		_, rest, _ := strings.Cut(text, "about ")
		estimate, err := time.ParseDuration(strings.TrimSuffix(rest, " left"))
		is.NoErr(err)
		if really := time.Duration(263-took) * time.Second; estimate > 2*really || 2*estimate < really {
			t.Errorf("after %d packages in %d s:%s, and it was %v", compiled, took, text, really)
		}
	}
	is.Equal(left(2207, 0, 0)+left(0, 10, time.Minute), "") // no estimate without a reason
}

// A change of what the sidecar is built from changes the name of the program.
func TestSidecarIsBuiltAgainWhenItsSourcesChange(t *testing.T) {
	is, module := is.New(t), t.TempDir()
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
		is.NoErr(err)
		is.Equal(version, "1.18.2")
		is.True(!seen[sources]) // after the change
		seen[sources] = true
	}
	is.NoErr(os.Remove(filepath.Join(module, "main.go")))
	_, _, err := daprVersion(module)
	is.True(err != nil) // no main.go
}
