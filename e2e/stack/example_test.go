package stack_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"

	"example.com/dapr-orders/e2e/stack"
)

// A service of somebody's own beside a real sidecar, over a Redis of its own, without
// Docker and without the Dapr CLI. A test would use t.TempDir and t.Cleanup. The folder
// "components" has pubsub.yaml and statestore.yaml as `dapr init` leaves them.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	project, err := stack.Open(ctx, dir, os.Stderr) // builds daprd where there is none
	if err != nil {
		log.Fatal(err)
	}
	system, err := project.StartServers(ctx, stack.Backends[0], dir)
	if err != nil {
		log.Fatal(err)
	}
	defer system.Stop()
	apps, err := system.Start(ctx, stack.AppOptions{ID: "my-service", Program: "./my-service"})
	if err != nil {
		log.Fatal(err) // with what the program has written last
	}
	me := apps[0]

	resp, err := http.Get(me.DaprURL("/v1.0/state/statestore/key"))
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println(resp.Status)

	me.Sidecar.Kill() // and see what becomes of it
	if err := me.StartSidecar(ctx); err != nil {
		log.Fatal(err)
	}
}
