// Command launch starts the whole system on this machine: Redis unless it runs
// already, and both services with their Dapr sidecars. It places an order, shows
// every request and answer, and stays up until Ctrl-C. Meanwhile it serves a page on
// which orders are seen to travel, and on which all of it can be broken.
//
//	launch run     what `make run` does; with OPEN=true it opens the page in a browser
//	launch daprd   print the path of the sidecar that is used, building it first
//	               where there is none
//	launch setup   get ready what the end-to-end tests need: the sidecar, Dapr's
//	               certificate authority, the servers of every backend, and a browser
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"example.com/dapr-orders/e2e/stack"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the launcher itself
	err := launch(ctx, os.Args[1:], os.Getenv, os.Stdout)
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "\n%v\n", err)
		os.Exit(1)
	}
}

func launch(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	root, err := stack.Root()
	if err != nil {
		return err
	}
	var command string
	if len(args) == 1 {
		command = args[0]
	}
	switch command {
	case "run":
		s, err := theSystem(root, getenv)
		if err != nil {
			return err
		}
		return s.run(ctx, stdout)
	case "setup":
		// What can't be installed, the tests that need it say again; for Redis they
		// may find one that runs.
		for _, program := range []stack.Program{stack.RedisServer, stack.RabbitMQServer, stack.PostgreSQLServer, stack.MosquittoServer, stack.Chromium} {
			if err := program.Install(ctx, stdout); err != nil {
				fmt.Fprintln(stdout, err)
			}
		}
		if _, err := stack.Daprd(ctx, root, stdout); err != nil {
			return err
		}
		_, err := stack.Sentry(ctx, root, stdout)
		return err
	case "daprd":
		path, err := stack.Daprd(ctx, root, stdout)
		if err != nil {
			return err
		}
		fmt.Fprintln(stdout, path)
		return nil
	default:
		return errors.New("usage: launch run | daprd | setup")
	}
}
