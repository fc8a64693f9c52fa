package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// promiseDeadLetters runs the commands for dead letters in components/operations.md.
func promiseDeadLetters(t *testing.T, b stack.Backend) string {
	is := is.New(t)
	commands := strings.Split(strings.TrimSpace(strings.Join(harness.Blocks(t, "components/operations.md", "shell"), "")), "\n")
	if len(commands) != 3 {
		t.Fatalf("components/operations.md has %d commands for dead letters: serve, list and send are 3", len(commands))
	}
	const goRun = "go run ./deadletters "
	flags, args, _ := strings.Cut(commands[0], goRun)
	is.Equal(flags, "dapr run --app-id dead-letters --app-port 5004 --dapr-http-port 3504 --config ../components/config.yaml --resources-path ../components/redis --log-level warn -- ")

	s := harness.Start(t, harness.Options{Backend: b})
	app := s.StartDeadLetters(strings.Fields(args)...)
	// typed runs a command of the page, with another port.
	typed := func(command string) string {
		t.Helper()
		program, found := strings.CutPrefix(command, goRun)
		is.True(found)
		run := exec.CommandContext(t.Context(), filepath.Join(harness.Project.Bin, "deadletters"), strings.Fields(program)...)
		run.Env = append(os.Environ(), "PORT="+strconv.Itoa(app.Port))
		output, err := run.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, output)
		}
		return string(output)
	}
	listed := func(want int, texts ...string) {
		t.Helper()
		harness.WaitFor(t, time.Minute, func() error {
			got := typed(commands[1])
			if n := strings.Count(got, "\n") - 1; n != want {
				return fmt.Errorf("%d dead letters are listed, want %d:\n%s", n, want, got)
			}
			for _, text := range texts {
				if !strings.Contains(got, text) {
					return fmt.Errorf("the list does not have %q:\n%s", text, got)
				}
			}
			return nil
		})
	}

	// settled waits until the broker has nothing left. An event that is published twice
	// becomes two letters with one ID, and the second may come when the first is gone.
	settled := func() {
		t.Helper()
		s.Drained("inventory-service")
		s.DrainedOf(harness.DeadLetterTopic, "dead-letters")
	}

	// Orders that can't be applied because their record is damaged, and an invalid order.
	harness.Must(t, s.Sidecar(s.Inventory[0]).SaveState(t.Context(), "statestore", daprhttp.StateItem{Key: "item1", Value: "a dozen"}))
	const orders = 5
	for i := range orders {
		s.Place(fmt.Sprint("order-", i), "item1", 10)
	}
	s.Publish(s.Order, "OrderPlaced", daprhttp.Message{Data: []byte(`{"orderId":"order-9","itemId":"item1","quantity":"many"}`)})
	listed(orders+1, "order-4", "the stored stock must be an integer", "quantity must be a number")

	app.Service.Kill()
	harness.Must(t, app.StartService(t.Context()))
	listed(orders + 1)
	settled()
	s.SetStock("item1", 100) // which repairs the record
	first := typed(commands[2])
	is.Equal(strings.Count(first, "sent again\n"), orders+1)
	s.WaitForStock("item1", 100-10*orders)
	settled()
	listed(1, "quantity must be a number") // the invalid order has come back
	is.True(strings.HasSuffix(typed(strings.Replace(commands[2], "send", "drop", 1)), " dropped\n"))
	is.Equal(typed(commands[1]), "no dead letters\n")

	s.Drained("inventory-service")
	s.WaitForStock("item1", 100-10*orders)
	return fmt.Sprintf("%d of %d", orders, orders)
}
