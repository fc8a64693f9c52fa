// Command launch starts the whole system on this machine: both services with their Dapr
// sidecars, and Redis unless it runs already. It places an order, shows each request and
// answer, and stays up until Ctrl-C. Meanwhile it serves a page on which a person sees orders
// travel, and can break each part of the system.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"example.com/dapr-orders/e2e/stack"
)

const usage = `usage: launch followed by one of these commands
  launch run     start everything and place an order; with OPEN=true, open the page in a browser
  launch daprd   print the path of the sidecar that is used; build it first if there is none
  launch setup   install what the end-to-end tests need: the sidecar, Dapr's certificate
                 authority, the servers of every backend, and a browser`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the launcher itself
	err := launch(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "\n%v\n", err)
		os.Exit(1)
	}
}

func launch(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	root, err := stack.Root()
	if err != nil {
		return err
	}
	switch strings.Join(args, " ") {
	case "run":
		s, err := newSystem(root, getenv)
		if err != nil {
			return err
		}
		return s.run(ctx, stdout)
	case "setup":
		for _, program := range []stack.Program{stack.RedisServer, stack.RabbitMQServer, stack.PostgreSQLServer, stack.MosquittoServer, stack.Chromium} {
			if err := program.Install(ctx, stdout); err != nil {
				fmt.Fprintln(stdout, err) // the tests that need the program say so, too
			}
		}
		if _, err := stack.Daprd(ctx, root, stdout); err != nil {
			return err
		}
		_, err := stack.Sentry(ctx, root, stdout)
		return err
	case "daprd":
		path, err := stack.Daprd(ctx, root, stderr)
		if err != nil {
			return err
		}
		fmt.Fprintln(stdout, path)
		return nil
	default:
		return errors.New(usage)
	}
}
