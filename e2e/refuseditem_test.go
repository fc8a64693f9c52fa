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

// Orders for an item that the state store refuses wait, and are applied when the store accepts
// the item again. Meanwhile, the orders for other items are applied.
func promiseItemRefused(t *testing.T, b stack.Backend) string {
	return stuckItem(t, b, harness.Refuse)
}

// The same is true while the state store hangs on the record of an item.
func TestItemOnWhichTheStoreHangs(t *testing.T) {
	t.Parallel()
	for i, b := range []stack.Backend{redisWithPostgreSQL(t), stack.Backends[1]} {
		t.Run(b.Name, func(t *testing.T) {
			if i > 0 {
				leftToBackends(t)
			}
			t.Parallel()
			stuckItem(t, b, func(t *testing.T, state stack.Server, itemID string) (accept func()) {
				release, err := state.(*stack.PostgreSQL).Hold(t.Context(),
					"do $$ begin perform from state where key = 'inventory-service||"+itemID+"' for update; assert found; end $$")
				harness.Must(t, err)
				return func() { harness.Must(t, release()) }
			})
		})
	}
}

// Events that move from the retry topic to its end neither multiply, though the service
// publishes each twice, nor get lost when the broker is killed.
func TestRetryTopicIsBounded(t *testing.T) {
	t.Parallel()
	leftToBackends(t)
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
	harness.WaitFor(t, time.Minute, func() error { // until the moved events are acknowledged
		n, err := s.Broker.(*stack.RabbitMQ).Len("OrderPlaced-retry", "inventory-service")
		if err == nil && n != events {
			err = fmt.Errorf("%d events are in the retry topic, not %d", n, events)
		}
		return err
	})
	for range 3 {
		moves(events / 3)
		s.Broker.Kill() // while other events move
		harness.Must(t, s.Broker.Restart(t.Context()))
	}
	accept()
	s.WaitForStock("refused", 1000-orders)
	s.DrainedOf("OrderPlaced-retry", "inventory-service")
	s.WaitForStock("refused", 1000-orders)
}

// A sidecar of Redis takes over an order that waits in another sidecar for longer than
// processingTimeout. Both would then move the order, and each copy again. So a sidecar
// fetches few orders ahead.
func TestRetryTopicOfRedisIsBounded(t *testing.T) {
	t.Parallel()
	leftToBackends(t)
	const orders, rounds = 1000, 2
	s := harness.Start(t, harness.Options{Replicas: 2, SeparateState: true})
	s.SetStock("refused", orders)
	accept := harness.Refuse(t, s.State, "refused")
	harness.InParallel(orders, 8, func(i int) { s.Place(fmt.Sprint("refused-", i), "refused", 1) })
	harness.WaitFor(t, 5*time.Minute, func() error {
		if moved := s.Moved.Load(); moved < (1+rounds)*orders {
			return fmt.Errorf("the orders have moved %d times", moved)
		}
		return nil
	})
	harness.WaitFor(t, time.Minute, func() error { // until the moved events are acknowledged
		waiting, err := s.Broker.(*stack.Redis).Waiting("OrderPlaced-retry", "inventory-service")
		if err == nil && waiting != orders {
			err = fmt.Errorf("the retry topic has %d events of %d orders", waiting, orders)
		}
		return err
	})
	accept()
	s.WaitForStock("refused", 0)
	s.DrainedOf("OrderPlaced-retry", "inventory-service")
}

// redisWithPostgreSQL returns the default backend with another state store: PostgreSQL can
// hang on one key, Redis can't.
func redisWithPostgreSQL(t *testing.T) stack.Backend {
	t.Helper()
	dir := t.TempDir()
	for _, from := range []string{"redis/pubsub.yaml", "redis/retry.yaml", "redis/resiliency.yaml", "redis/answered.yaml", "rabbitmq-postgres/statestore.yaml"} {
		harness.Must(t, os.WriteFile(filepath.Join(dir, filepath.Base(from)), []byte(harness.Document(t, "components/"+from)), 0o644))
	}
	folder, err := filepath.Rel(harness.Project.Root, dir)
	harness.Must(t, err)
	return stack.Backend{Name: "Redis + PostgreSQL", Folder: filepath.ToSlash(folder), Broker: stack.Backends[0].Broker, State: stack.Backends[1].State}
}

// stuckItem lets the state store refuse the orders for one item for some time, while clients
// order other items, too.
func stuckItem(t *testing.T, b stack.Backend, refuse func(t *testing.T, state stack.Server, itemID string) (accept func())) string {
	t.Helper()
	long := 20 * time.Second // some orders are tried twice from the retry topic
	if *promisesFile != "" || *onePromise != "" {
		long = time.Minute
	}
	s := harness.Start(t, harness.Options{Backend: b, Replicas: 2, SeparateState: true})
	s.SetStock("refused", 10_000)
	l := s.StartLoad("item1", 50, nil)
	l.GoesOn(t, 50)

	// Many more orders for the item than a sidecar delivers at the same time. Without a retry
	// topic, each order keeps its place in the sidecar.
	perSecond := 20
	if s.HasRetryTopic() {
		perSecond = 100
	}
	accept := refuse(t, s.State, "refused")
	began, ordered := time.Now(), 0
	for every := time.NewTicker(time.Second / time.Duration(perSecond)); time.Since(began) < long; <-every.C { // the fault itself
		ordered++
		s.Place(fmt.Sprint("refused-", ordered), "refused", 1)
	}
	if stock, err := s.Stock("refused"); err == nil && stock != 10_000 {
		t.Errorf("the stock of the item is %d: the store has not refused it", stock)
	}
	if s.HasRetryTopic() && s.Moved.Load() == 0 {
		t.Error("no order was moved to the retry topic")
	}
	accept()

	s.WaitForStock("refused", 10_000-ordered)
	figures := l.EndsExact(t)
	s.WaitForStock("refused", 10_000-ordered)
	// The orders for other items wait at most until the first orders for the item have moved.
	// SQLite has one writer: an order that waits 2 s for it moves to the retry topic, behind
	// the orders for the item.
	most := 10 * time.Second
	if _, oneWriter := s.State.(*stack.SQLite); oneWriter {
		most = 40 * time.Second
	}
	if orderID, late := l.Latest(); late > most {
		t.Errorf("%s was applied %v after it was accepted", orderID, late)
	}
	return fmt.Sprintf("%s of other items, %d of %d of this item", figures, ordered, ordered)
}
