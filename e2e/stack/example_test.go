package stack_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"

	"example.com/dapr-orders/e2e/stack"
)

// Your own service runs next to a real sidecar, over a Redis of its own, without Docker and
// without the Dapr CLI. A test would use t.TempDir and t.Cleanup.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	must(err)
	project, err := stack.Open(ctx, dir, os.Stderr) // builds daprd where there is none
	must(err)
	system, err := project.StartServers(ctx, stack.Backends[0], dir)
	must(err)
	defer system.Stop()
	apps, err := system.Start(ctx, stack.AppOptions{ID: "my-service", Program: "./my-service"})
	must(err) // with what the program has written last
	me := apps[0]

	resp, err := http.Get(me.DaprURL("/v1.0/state/statestore/key"))
	must(err)
	resp.Body.Close()
	fmt.Println(resp.Status)

	me.Sidecar.Kill()
	must(me.StartSidecar(ctx))
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
