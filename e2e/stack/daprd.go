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

// Daprd returns the path of the sidecar's program: the one that `dapr init` has installed,
// or one built from Dapr's published Go module, which takes minutes the first time. It
// says on progress what it is doing.
func Daprd(ctx context.Context, root string, progress io.Writer) (string, error) {
	if home, err := os.UserHomeDir(); err == nil {
		installed := filepath.Join(home, ".dapr", "bin", executable("daprd"))
		if isFile(installed) {
			return installed, nil
		}
	}
	// The project's own main package adds the WebAssembly middleware.
	return built(ctx, root, "daprd", ".", progress)
}

// Sentry returns the path of the program that gives sidecars their certificates. It is
// built like Daprd, in seconds when that has been built.
func Sentry(ctx context.Context, root string, progress io.Writer) (string, error) {
	return built(ctx, root, "sentry", "github.com/dapr/dapr/cmd/sentry", progress)
}

// built returns the path of one of Dapr's programs. It builds the program from a package,
// as seen from the sidecar's module, unless that was done before.
func built(ctx context.Context, root, program, source string, progress io.Writer) (string, error) {
	module := filepath.Join(root, "e2e", "daprd")
	version, sources, err := daprVersion(module)
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
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return "", err
	}
	// Another build may run at the same time: each has a file of its own, and replaces the
	// target in one step.
	temporary := fmt.Sprintf("%s.%d", target, os.Getpid())
	defer os.Remove(temporary)

	fmt.Fprintf(progress, "Building Dapr's %s %s from its Go module, once.\n", program, version)
	started, packages := time.Now(), 0
	if program == "daprd" {
		fmt.Fprint(progress, daprdTakesLong)
		packages = 2207 // of Dapr 1.18.2
	}
	err = run(ctx, Command{
		Name: "the build of " + program,
		Path: "go",
		Args: []string{"build", "-v", "-tags", "stablecomponents",
			"-ldflags", "-s -w -X github.com/dapr/dapr/pkg/buildinfo.version=" + version, "-o", temporary, source},
		Dir:    module,
		Env:    []string{"GOWORK=off"}, // the sidecar's module stands alone
		Output: countBuild(packages, progress),
	})
	if err != nil {
		return "", fmt.Errorf("%s could not be built: %w\nGo (https://go.dev/dl) builds it; `dapr init --slim` installs a ready daprd", program, err)
	}
	fmt.Fprintf(progress, "Built %s in %.0f s.\n", target, time.Since(started).Seconds())
	return target, os.Rename(temporary, target)
}

const daprdTakesLong = "That takes four to nine minutes on two processors.\n" +
	"(To save time: stop this with Ctrl-C, run `dapr init` or `dapr init --slim`, and start again.)\n"

// daprVersion reads the version of Dapr from the sidecar's module, and returns a hash of the
// module's files, too: a program that is built from other files has another name.
func daprVersion(module string) (version, sources string, err error) {
	var all []byte
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		text, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return "", "", err
		}
		all = fmt.Appendf(all, "%s %d\n%s", name, len(text), text)
	}
	match := regexp.MustCompile(`(?m)^\s*(?:require )?github\.com/dapr/dapr v(\S+)`).FindSubmatch(all)
	if match == nil {
		return "", "", fmt.Errorf("%s does not require github.com/dapr/dapr", filepath.Join(module, "go.mod"))
	}
	return string(match[1]), fmt.Sprintf("%x", sha256.Sum256(all))[:8], nil
}

// countBuild returns the Output of a build with `go build -v`. At each hundredth module or
// package it says on progress how far the build is. packages is how many are compiled in
// all, or 0 where that is not known.
func countBuild(packages int, progress io.Writer) func(name, line string) {
	started := time.Now()
	compiling := started // the time since which no module was downloaded
	var downloaded, compiled int
	return func(_, line string) {
		if strings.HasPrefix(line, "go: downloading ") {
			downloaded++
			compiling = time.Now()
		} else {
			compiled++
		}
		if (downloaded+compiled)%100 == 0 {
			fmt.Fprintf(progress, "  %4.0fs  %d modules downloaded, %d packages compiled%s\n",
				time.Since(started).Seconds(), downloaded, compiled, left(packages, compiled, time.Since(compiling)))
		}
	}
}

// left estimates, in words, the rest of a build from the time that its compiled packages took.
// It returns "" without a number of packages.
func left(packages, compiled int, took time.Duration) string {
	if packages == 0 || compiled == 0 {
		return ""
	}
	const linking = 10 * time.Second
	rest := took/time.Duration(compiled)*time.Duration(max(0, packages-compiled)) + linking
	return fmt.Sprintf(" of %d, about %v left", packages, rest.Round(10*time.Second))
}
