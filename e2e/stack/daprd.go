package stack

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// Daprd returns the path of the sidecar's program: the one that `dapr init` has
// installed, or else one built from Dapr's published Go module, which takes
// minutes the first time. It says on progress what it is doing.
func Daprd(ctx context.Context, root string, progress io.Writer) (string, error) {
	if home, err := os.UserHomeDir(); err == nil {
		installed := filepath.Join(home, ".dapr", "bin", executable("daprd"))
		if isFile(installed) {
			return installed, nil
		}
	}
	version, err := daprVersion(root)
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("there is no folder to keep daprd in: %w", err)
	}
	built := filepath.Join(cache, "dapr-orders", executable("daprd-"+version))
	if isFile(built) {
		return built, nil
	}
	return built, buildDaprd(ctx, root, version, built, progress)
}

// daprVersion reads from the sidecar's module which Dapr it is.
func daprVersion(root string) (string, error) {
	name := filepath.Join(root, "e2e", "daprd", "go.mod")
	text, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	match := regexp.MustCompile(`(?m)^\s*(?:require )?github\.com/dapr/dapr v(\S+)`).FindSubmatch(text)
	if match == nil {
		return "", fmt.Errorf("%s does not require github.com/dapr/dapr", name)
	}
	return string(match[1]), nil
}

func buildDaprd(ctx context.Context, root, version, target string, progress io.Writer) error {
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	// Another build may run at the same time: each has a file of its own, and
	// whichever is last replaces the other's in one step.
	temporary := fmt.Sprintf("%s.%d", target, os.Getpid())
	defer os.Remove(temporary)

	fmt.Fprintf(progress, "Building the Dapr sidecar (daprd %s) from its Go module. This takes some minutes, once.\n", version)
	started := time.Now()
	var downloaded, compiled int
	build, err := Start(Command{
		Name: "the build of daprd",
		Path: "go",
		Args: []string{"build", "-v", "-tags", "stablecomponents",
			"-ldflags", "-s -w -X github.com/dapr/dapr/pkg/buildinfo.version=" + version,
			"-o", temporary, "github.com/dapr/dapr/cmd/daprd"},
		Dir: filepath.Join(root, "e2e", "daprd"),
		Env: []string{"GOWORK=off"}, // the sidecar's module stands alone
		Output: func(line string) {
			if strings.HasPrefix(line, "go: downloading ") {
				downloaded++
			} else {
				compiled++
			}
			if n := downloaded + compiled; n%100 == 0 {
				fmt.Fprintf(progress, "  %4.0fs  %d modules downloaded, %d packages compiled (of some 2,200)\n",
					time.Since(started).Seconds(), downloaded, compiled)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("%w (is Go installed? see https://go.dev/dl)", err)
	}
	select {
	case <-build.Done():
	case <-ctx.Done():
		build.Kill()
		return ctx.Err()
	}
	if build.err != nil {
		return fmt.Errorf("daprd could not be built (%w); `dapr init --slim` installs a ready one. The build wrote last:\n%s", build.err, tail(build.Log(), 10))
	}
	fmt.Fprintf(progress, "Built %s in %.0f s.\n", target, time.Since(started).Seconds())
	return os.Rename(temporary, target)
}

// BuildServices builds the order and the inventory service, and the program that keeps
// dead letters, into dir.
func BuildServices(ctx context.Context, root, dir string) error {
	for _, folder := range []string{"order", "inventory", "daprhttp/deadletters"} {
		service := path.Base(folder)
		build := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, executable(service)), ".")
		build.Dir = filepath.Join(root, filepath.FromSlash(folder))
		if output, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("%s could not be built (%w):\n%s", service, err, output)
		}
	}
	return nil
}

// Root returns the folder of the project: the nearest one, from the working
// directory up, that has components/pubsub.yaml.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if isFile(filepath.Join(dir, "components", "pubsub.yaml")) {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("the working directory is not inside the project")
		}
		dir = parent
	}
}

func executable(name string) string {
	if runtime.GOOS == "windows" {
		return name + ".exe"
	}
	return name
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}
