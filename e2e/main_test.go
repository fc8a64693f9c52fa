// Package e2e has the end-to-end tests, with real services, Dapr sidecars, brokers and state
// stores.
//
// A test starts a system of its own with [harness.Start], places orders with Place or a
// [harness.Load], and waits for a state with [harness.WaitFor]. promises_test.go has the table
// of the promises that hold on every backend.
package e2e

import (
	"fmt"
	"os"
	"testing"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// With -short, these tests start a system. They take two minutes on two processors.
func init() {
	harness.Short = []string{
		"TestPromises/Walkthrough/Redis",
		"TestPromises/DeadLetters/RabbitMQ_+_PostgreSQL",
		"TestPromises/OrdersAtTheSameTime/Redis",
		"TestPromises/EventDeliveredAgain/Redis",
		"TestPromises/Poison/Redis",
		"TestPromises/DeadLetters/Redis",
		"TestPromises/UnusualIDs/Redis",
		"TestPromises/StateStoreAway/Redis",
		"TestPromises/ProcessesKilled/Redis",
		"TestPromises/RollingRestart/Redis",
		"TestHTTPReference",
		"TestStrangersInTheMeshAreDenied",
		"TestNoEventIsLostWhenDeliveriesFail",
		"TestLogsInJSONAndMetrics",
	}
}

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "dapr-orders-e2e")
		if err == nil {
			stack.DeleteAtEnd(dir) // after Ctrl-C, too
			defer os.RemoveAll(dir)
			err = harness.Prepare(dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "the end-to-end tests can't start:", err)
			return 1
		}
		code := m.Run()
		if *promisesFile != "" {
			if err := writePromises(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}
		return code
	}())
}
