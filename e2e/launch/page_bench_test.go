//go:build unix

package main

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/stack"
)

// BenchmarkPage says how much of a processor the launcher takes while orders are placed
// by another program, with the page open and with no page open: cores, and the ratio of
// the two.
//
//	go test -run '^$' -bench Page -benchtime 1x ./e2e/launch
func BenchmarkPage(b *testing.B) {
	const rate, seconds = 300, 15
	s := testSystem(b, nil)
	place := filepath.Join(b.TempDir(), "load")
	if err := stack.Build(b.Context(), filepath.Join(s.root, "e2e", "bench", "load"), place); err != nil {
		b.Fatal(err)
	}
	_, end := start(b, s)
	defer func() {
		if err := end(); err != nil {
			b.Error(err)
		}
	}()
	first := 0
	// cores returns what this process, the launcher, takes of a processor.
	cores := func() float64 {
		load := exec.Command(place, "-to", fmt.Sprintf("http://127.0.0.1:%d", s.order.Port), "-items", "8",
			"-first", strconv.Itoa(first), "-n", strconv.Itoa(rate*seconds), "-rate", strconv.Itoa(rate))
		first += rate * seconds
		before, began := processorTime(b), time.Now()
		if output, err := load.CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, output)
		}
		return (processorTime(b) - before).Seconds() / time.Since(began).Seconds()
	}
	for b.Loop() {
		closed := cores()
		page := exec.Command("curl", "-sN", "-o", "/dev/null", fmt.Sprintf("http://localhost:%d/news", s.pagePort))
		if err := page.Start(); err != nil {
			b.Fatal(err)
		}
		opened := cores()
		_ = page.Process.Kill()
		_ = page.Wait()
		b.ReportMetric(opened, "cores/open")
		b.ReportMetric(closed, "cores/closed")
		b.ReportMetric(opened/closed, "open/closed")
	}
}

// processorTime returns how much time processors have spent on this process.
func processorTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
