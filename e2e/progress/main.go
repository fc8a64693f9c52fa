// Command progress shows how tests proceed. It reads what `go test -json` prints, and
// writes a line for each test that fails or takes 0.1 s or longer: its result, how long it
// took, its name, and the tests that are running. At the end it writes the whole output of
// the first failure, of its parents and of its package. Its exit status is 1 when a test has failed.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// An event is a line of `go test -json`. See https://pkg.go.dev/cmd/test2json.
type event struct {
	Action, Package, ImportPath, Test, Output string
	Elapsed                                   float64 // seconds
}

func main() {
	if !show(os.Stdin, os.Stdout) {
		os.Exit(1)
	}
}

// show shows the progress of the tests, and returns whether all of them passed.
func show(from io.Reader, to io.Writer) bool {
	output := make(map[string][]string) // by the name of the test
	var running, failed []string        // the names of tests
	passed := 0                         // packages
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil { // a message of the go command
			fmt.Fprintln(to, lines.Text())
			continue
		}
		name := strings.Trim(cmp.Or(e.Package, e.ImportPath)+" "+e.Test, " ")
		switch e.Action {
		case "run", "cont":
			running = append(running, name)
		case "pause":
			running = without(running, name)
		case "output", "build-output":
			output[name] = append(output[name], e.Output)
		case "pass", "skip", "fail", "build-fail":
			running = without(running, name)
			switch {
			case strings.HasSuffix(e.Action, "fail"):
				failed = append(failed, name)
			case e.Test == "" && e.Action == "pass":
				passed++
			}
			if e.Elapsed >= 0.1 && (e.Test != "" || e.Action != "skip") || strings.HasSuffix(e.Action, "fail") {
				fmt.Fprintf(to, "%-4s %5.1f s  %s%s\n", e.Action, e.Elapsed, cmp.Or(e.Test, name), names(running))
			}
			if e.Action == "skip" && e.Test != "" {
				fmt.Fprint(to, strings.Join(output[name], ""))
			}
		}
	}
	if len(failed) > 0 {
		fmt.Fprintf(to, "\nThe first failure, %s:\n", failed[0])
		for _, name := range failed {
			if strings.HasPrefix(failed[0], name) { // a panic is in the output of the parent or the package
				fmt.Fprint(to, strings.Join(output[name], ""))
			}
		}
		fmt.Fprintln(to)
		for _, name := range failed {
			fmt.Fprintf(to, "--- FAIL: %s\n", name)
		}
	}
	return lines.Err() == nil && len(failed) == 0 && len(running) == 0 && passed > 0
}

// names returns the names of tests, without the packages and without the tests that wait for
// their subtests.
func names(tests []string) string {
	var leaves []string
	for _, t := range tests {
		if !slices.ContainsFunc(tests, func(u string) bool { return strings.HasPrefix(u, t+"/") }) {
			_, name, _ := strings.Cut(t, " ")
			leaves = append(leaves, name)
		}
	}
	if len(leaves) == 0 {
		return ""
	}
	return " (running: " + strings.Join(leaves, ", ") + ")"
}

// without returns the names but for one.
func without(names []string, name string) []string {
	return slices.DeleteFunc(names, func(n string) bool { return n == name })
}
