package web

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// Main calls run with [os.Getenv], [os.Stdout] and a context that Ctrl-C or SIGTERM ends.
// When run returns an error, Main writes it to standard error behind the program's name and
// ends the program with status 1.
//
// Unless GOGC is set, the garbage collector lets the heap grow to five times its live
// size. A service with a heap of a few megabytes would otherwise collect many times a second.
func Main(name string, run func(ctx context.Context, getenv func(string) string, stdout io.Writer) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	err := run(ctx, os.Getenv, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}
