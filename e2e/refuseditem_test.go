package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// Orders for an item that the state store refuses wait by themselves, for as long as
// it takes, and nobody else's wait for them.
func promiseItemRefused(t *testing.T, b stack.Backend) string {
	harness.NeedsOwnRedis(t)
	long := 20 * time.Second // some orders are tried twice from the retry topic
	if *promisesFile != "" || *onePromise != "" {
		long = time.Minute
	}
	return stuckItem(t, b, long, harness.Refuse)
}

// The same goes for an item on whose record the state store hangs: somebody has it
// locked, and whoever saves it waits.
func TestItemOnWhichTheStoreHangs(t *testing.T) {
	t.Parallel()
	harness.NeedsOwnRedis(t)
	hang := func(t *testing.T, state stack.Server, itemID string) (accept func()) {
		release, err := state.(*stack.PostgreSQL).Hold(t.Context(),
			"do $$ begin perform from state where key = 'inventory-service||"+itemID+"' for update; assert found; end $$")
		harness.Must(t, err)
		return func() { harness.Must(t, release()) }
	}
	t.Run("Redis", func(t *testing.T) {
		t.Parallel()
		stuckItem(t, redisWithPostgreSQL(t), 30*time.Second, hang)
	})
	if *promisesFile == "" {
		return
	}
	t.Run("RabbitMQ", func(t *testing.T) {
		t.Parallel()
		stuckItem(t, stack.Backends[1], time.Minute, hang)
	})
}

// Orders that go round in the retry topic become no more there, though all that is
// published is published twice, and no fewer when the broker is killed.
func TestRetryTopicIsBounded(t *testing.T) {
	t.Parallel()
	if *promisesFile == "" {
		t.Skip("it takes two minutes: make test-backends runs it")
	}
	s := harness.Start(t, harness.Options{Backend: stack.Backends[1], Replicas: 2, SeparateState: true})
	const orders = 25
	s.SetStock("refused", 1000)
	accept := harness.Refuse(t, s.State, "refused")
	for i := range orders {
		s.Place(fmt.Sprint("refused-", i), "refused", 1)
	}
	// The order service publishes an order twice, and the inventory service what it moves.
	const events = 4 * orders
	moves := func(n int64) {
		before := s.Moved.Load()
		harness.WaitFor(t, 2*time.Minute, func() error {
			if moved := s.Moved.Load() - before; moved < n {
				return fmt.Errorf("%d events of %d were moved to the end of the retry topic", moved, n)
			}
			return nil
		})
	}
	moves(3 * events)
	harness.WaitFor(t, time.Minute, func() error { // until those that are being moved are acknowledged
		n, err := s.Broker.(*stack.RabbitMQ).Len("OrderPlaced-retry", "inventory-service")
		if err == nil && n != events {
			err = fmt.Errorf("%d events are in the retry topic, not %d", n, events)
		}
		return err
	})
	for range 3 {
		moves(events / 3)
		s.Broker.Kill() // in the middle of the other moves
		harness.Must(t, s.Broker.Restart(t.Context()))
	}
	accept()
	s.WaitForStock("refused", 1000-orders)
	s.DrainedOf("OrderPlaced-retry", "inventory-service")
	s.WaitForStock("refused", 1000-orders)
}

// redisWithPostgreSQL returns a backend of the default's broker and a state store that
// can hang on one key, as Redis can't.
func redisWithPostgreSQL(t *testing.T) stack.Backend {
	t.Helper()
	dir := t.TempDir()
	for _, from := range []string{"components/redis/pubsub.yaml", "components/redis/retry.yaml", "components/redis/resiliency.yaml", "components/redis/answered.yaml", "components/rabbitmq-postgres/statestore.yaml"} {
		text, err := os.ReadFile(filepath.Join(harness.Project.Root, filepath.FromSlash(from)))
		harness.Must(t, err)
		harness.Must(t, os.WriteFile(filepath.Join(dir, filepath.Base(from)), text, 0o644))
	}
	folder, err := filepath.Rel(harness.Project.Root, dir)
	harness.Must(t, err)
	return stack.Backend{Name: "Redis + PostgreSQL", Folder: filepath.ToSlash(folder), Broker: stack.Backends[0].Broker, State: stack.Backends[1].State}
}

// stuckItem has orders for one item get stuck in the state store for some time, among
// others.
func stuckItem(t *testing.T, b stack.Backend, long time.Duration, refuse func(t *testing.T, state stack.Server, itemID string) (accept func())) string {
	t.Helper()
	s := harness.Start(t, harness.Options{Backend: b, Replicas: 2, SeparateState: true})
	s.SetStock("refused", 10_000)
	l := s.StartLoad("item1", 50, nil)
	l.GoesOn(t, 50)

	// Many more orders for it than a sidecar delivers at the same time.
	accept := refuse(t, s.State, "refused")
	began, ordered := time.Now(), 0
	for every := time.NewTicker(time.Second / 20); time.Since(began) < long; <-every.C { // the fault itself
		ordered++
		s.Place(fmt.Sprint("refused-", ordered), "refused", 1)
	}
	if stock, err := s.Stock("refused"); err == nil && stock != 10_000 {
		t.Errorf("the stock of the item that is refused is %d: it has not been refused", stock)
	}
	_, err := os.Stat(filepath.Join(s.Resources, "retry.yaml"))
	if s.Moved.Load() == 0 && err == nil {
		t.Error("no order was moved to the retry topic")
	}
	accept()

	s.WaitForStock("refused", 10_000-ordered)
	figures := l.EndsExact(t)
	if err == nil {
		s.DrainedOf("OrderPlaced-retry", "inventory-service")
	}
	s.WaitForStock("refused", 10_000-ordered)
	// Others wait for as long as it takes to see that it is this item and not the
	// store: some 5 s. The rest is for a machine that is busy.
	if orderID, late := l.Latest(); late > 20*time.Second {
		t.Errorf("%s was counted %v after it was accepted", orderID, late)
	} else {
		t.Logf("%d orders for the item that was refused, %d moved to the retry topic; of the others, the latest was counted %v after it was accepted",
			ordered, s.Moved.Load(), late.Round(time.Millisecond))
	}
	return fmt.Sprintf("%s of other items, %d of %d of this item", figures, ordered, ordered)
}
