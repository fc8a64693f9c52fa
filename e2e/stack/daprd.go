package stack

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
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
	return built(ctx, root, "daprd", progress)
}

// Sentry returns the path of the program that gives sidecars their certificates. It
// is built like Daprd, in seconds where that was.
func Sentry(ctx context.Context, root string, progress io.Writer) (string, error) {
	return built(ctx, root, "sentry", progress)
}

// packages are what Dapr's programs are built from, as seen from their module. The sidecar
// is the project's own main package, which adds the WebAssembly middleware.
var packages = map[string]string{"daprd": ".", "sentry": "github.com/dapr/dapr/cmd/sentry"}

// built returns the path of one of Dapr's programs, which it builds if that was not
// done before.
func built(ctx context.Context, root, program string, progress io.Writer) (string, error) {
	version, sources, err := daprVersion(filepath.Join(root, "e2e", "daprd"))
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("there is no folder to keep %s in: %w", program, err)
	}
	target := filepath.Join(cache, "dapr-orders", executable(program+"-"+version+"-"+sources))
	if isFile(target) {
		return target, nil
	}
	return target, buildDapr(ctx, root, program, version, target, progress)
}

// daprVersion reads the version of Dapr from the sidecar's module. It also returns a hash of
// the module's files: a program that was built from other files has another name.
func daprVersion(module string) (version, sources string, err error) {
	hash := sha256.New()
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		text, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return "", "", err
		}
		fmt.Fprintf(hash, "%s %d\n%s", name, len(text), text)
		if name != "go.mod" {
			continue
		}
		match := regexp.MustCompile(`(?m)^\s*(?:require )?github\.com/dapr/dapr v(\S+)`).FindSubmatch(text)
		if match == nil {
			return "", "", fmt.Errorf("%s does not require github.com/dapr/dapr", filepath.Join(module, name))
		}
		version = string(match[1])
	}
	return version, fmt.Sprintf("%x", hash.Sum(nil)[:4]), nil
}

func buildDapr(ctx context.Context, root, program, version, target string, progress io.Writer) error {
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	// Another build may run at the same time: each has a file of its own, and
	// whichever is last replaces the other's in one step.
	temporary := fmt.Sprintf("%s.%d", target, os.Getpid())
	defer os.Remove(temporary)

	fmt.Fprintf(progress, "Building Dapr's %s %s from its Go module, once.%s\n", program, version, expected[program])
	started := time.Now()
	var downloaded, compiled int
	compiling := started // since when nothing was downloaded
	p, err := Start(Command{
		Name: "the build of " + program,
		Path: "go",
		Args: []string{"build", "-v", "-tags", "stablecomponents",
			"-ldflags", "-s -w -X github.com/dapr/dapr/pkg/buildinfo.version=" + version,
			"-o", temporary, packages[program]},
		Dir: filepath.Join(root, "e2e", "daprd"),
		Env: []string{"GOWORK=off"}, // the sidecar's module stands alone
		Output: func(line string) {
			if strings.HasPrefix(line, "go: downloading ") {
				downloaded++
				compiling = time.Now()
			} else {
				compiled++
			}
			if n := downloaded + compiled; n%100 == 0 {
				fmt.Fprintf(progress, "  %4.0fs  %d modules downloaded, %d packages compiled%s\n",
					time.Since(started).Seconds(), downloaded, compiled, left(program, compiled, time.Since(compiling)))
			}
		},
	})
	if err != nil {
		return fmt.Errorf("%w (is Go installed? see https://go.dev/dl)", err)
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		p.Kill()
		return ctx.Err()
	}
	if p.err != nil {
		return fmt.Errorf("%s could not be built (%w); `dapr init --slim` installs a ready daprd. The build wrote last:\n%s", program, p.err, tail(p.Log(), 10))
	}
	fmt.Fprintf(progress, "Built %s in %.0f s.\n", target, time.Since(started).Seconds())
	return os.Rename(temporary, target)
}

// expected says what a person should know of a build before it begins.
var expected = map[string]string{
	"daprd": " That takes four to nine minutes on two processors.\n" +
		"(`dapr init`, or `dapr init --slim`, installs a ready one in less: then stop this with Ctrl-C, and start again after it.)",
}

// left returns, in words, how much longer a build of daprd may take, of which so many
// packages were compiled in so much time. Of another program it is not known.
func left(program string, compiled int, took time.Duration) string {
	const all, linking = 2207, 10 * time.Second // of Dapr 1.18.2
	if program != "daprd" || compiled == 0 {
		return ""
	}
	rest := took/time.Duration(compiled)*time.Duration(max(0, all-compiled)) + linking
	return fmt.Sprintf(" of %d, about %v left", all, rest.Round(10*time.Second))
}
