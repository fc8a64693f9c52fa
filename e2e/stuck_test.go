package e2e

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the driver

	"example.com/dapr-orders/e2e/stack"
)

// refuse lets a state store refuse the inventory service's record of an item, by
// means of its own. accept ends it.
func refuse(t *testing.T, state stack.Server, itemID string) (accept func()) {
	t.Helper()
	key := "inventory-service||" + itemID
	ctx := t.Context()
	switch s := state.(type) {
	case *stack.Redis: // knows no rule for one key: it refuses all that begin with the same letter
		must(t, s.Client().Do(ctx, "ACL", "SETUSER", "default", "resetkeys", "~inventory-service||[^"+itemID[:1]+"]*").Err())
		return func() { must(t, s.Client().Do(ctx, "ACL", "SETUSER", "default", "allkeys").Err()) }
	case *stack.PostgreSQL:
		_, err := s.Query(ctx, `create function refuse() returns trigger language plpgsql as 'begin raise exception ''refused''; end';
			create trigger refuse before insert or update on state for each row when (new.key = '`+key+`') execute function refuse()`)
		must(t, err)
		return func() { _, err := s.Query(ctx, "drop trigger refuse on state; drop function refuse"); must(t, err) }
	case *stack.SQLite:
		db, err := sql.Open("sqlite", "file:"+s.File+"?_pragma=busy_timeout(10000)")
		must(t, err)
		t.Cleanup(func() { must(t, db.Close()) })
		exec := func(statement string) { _, err := db.ExecContext(ctx, statement); must(t, err) }
		for _, event := range []string{"insert", "update"} {
			exec(`create trigger refuse_` + event + ` before ` + event + ` on state when new.key = '` + key + `' begin select raise(abort, 'refused'); end`)
		}
		return func() { exec("drop trigger refuse_insert"); exec("drop trigger refuse_update") }
	}
	t.Fatalf("a %T can't refuse an item", state)
	return nil
}

// movedLine is what a service logs when it moves an order to the retry topic.
const movedLine = "Moved OrderPlaced event to the retry topic"

// Orders for an item that the state store refuses wait by themselves, for as long as
// it takes, and nobody else's wait for them.
func promiseItemRefused(t *testing.T, b stack.Backend) string {
	needsOwnRedis(t)
	long := 20 * time.Second // some orders are tried twice from the retry topic
	if *promisesFile != "" || *onePromise != "" {
		long = time.Minute
	}
	return stuckItem(t, b, long, refuse)
}

// The same goes for an item on whose record the state store hangs: somebody has it
// locked, and whoever saves it waits.
func TestItemOnWhichTheStoreHangs(t *testing.T) {
	t.Parallel()
	needsOwnRedis(t)
	hang := func(t *testing.T, state stack.Server, itemID string) (accept func()) {
		release, err := state.(*stack.PostgreSQL).LockRow(t.Context(), "state", "inventory-service||"+itemID)
		must(t, err)
		return func() { must(t, release()) }
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
	s := startSystem(t, systemOptions{backend: stack.Backends[1], replicas: 2, separateState: true})
	const orders = 25
	s.setStock("refused", 1000)
	accept := refuse(t, s.State, "refused")
	for i := range orders {
		s.place(fmt.Sprint("refused-", i), "refused", 1)
	}
	// The order service publishes an order twice, and the inventory service what it moves.
	const events = 4 * orders
	moves := func(n int64) {
		before := s.moved.Load()
		waitFor(t, 2*time.Minute, func() error {
			if moved := s.moved.Load() - before; moved < n {
				return fmt.Errorf("%d events of %d were moved to the end of the retry topic", moved, n)
			}
			return nil
		})
	}
	moves(3 * events)
	waitFor(t, time.Minute, func() error { // until those that are being moved are acknowledged
		n, err := s.Broker.(*stack.RabbitMQ).Len("OrderPlaced-retry", "inventory-service")
		if err == nil && n != events {
			err = fmt.Errorf("%d events are in the retry topic, not %d", n, events)
		}
		return err
	})
	for range 3 {
		moves(events / 3)
		s.Broker.Kill() // in the middle of the other moves
		must(t, s.Broker.Restart(t.Context()))
	}
	accept()
	s.waitForStock("refused", 1000-orders)
	s.drainedOf("OrderPlaced-retry", "inventory-service")
	s.waitForStock("refused", 1000-orders)
}

// redisWithPostgreSQL returns a backend of the default's broker and a state store that
// can hang on one key, as Redis can't.
func redisWithPostgreSQL(t *testing.T) stack.Backend {
	t.Helper()
	dir := t.TempDir()
	for _, from := range []string{"components/redis/pubsub.yaml", "components/redis/retry.yaml", "components/redis/resiliency.yaml", "components/redis/answered.yaml", "components/rabbitmq-postgres/statestore.yaml"} {
		text, err := os.ReadFile(filepath.Join(project.Root, filepath.FromSlash(from)))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, filepath.Base(from)), text, 0o644))
	}
	folder, err := filepath.Rel(project.Root, dir)
	must(t, err)
	return stack.Backend{Name: "Redis + PostgreSQL", Folder: filepath.ToSlash(folder), Broker: stack.Backends[0].Broker, State: stack.Backends[1].State}
}

// stuckItem has orders for one item get stuck in the state store for some time, among
// others.
func stuckItem(t *testing.T, b stack.Backend, long time.Duration, refuse func(t *testing.T, state stack.Server, itemID string) (accept func())) string {
	t.Helper()
	s := startSystem(t, systemOptions{backend: b, replicas: 2, separateState: true})
	s.setStock("refused", 10_000)
	l := s.startLoad("item1", 50, nil)
	l.goesOn(t, 50)

	// Many more orders for it than a sidecar delivers at the same time.
	accept := refuse(t, s.State, "refused")
	began, ordered := time.Now(), 0
	for every := time.NewTicker(time.Second / 20); time.Since(began) < long; <-every.C { // the fault itself
		ordered++
		s.place(fmt.Sprint("refused-", ordered), "refused", 1)
	}
	if stock, err := s.stock("refused"); err == nil && stock != 10_000 {
		t.Errorf("the stock of the item that is refused is %d: it has not been refused", stock)
	}
	_, err := os.Stat(filepath.Join(s.Resources, "retry.yaml"))
	if s.moved.Load() == 0 && err == nil {
		t.Error("no order was moved to the retry topic")
	}
	accept()

	s.waitForStock("refused", 10_000-ordered)
	figures := l.endsExact(t)
	if err == nil {
		s.drainedOf("OrderPlaced-retry", "inventory-service")
	}
	s.waitForStock("refused", 10_000-ordered)
	// Others wait for as long as it takes to see that it is this item and not the
	// store: some 5 s. The rest is for a machine that is busy.
	if orderID, late := l.latest(); late > 20*time.Second {
		t.Errorf("%s was counted %v after it was accepted", orderID, late)
	} else {
		t.Logf("%d orders for the item that was refused, %d moved to the retry topic; of the others, the latest was counted %v after it was accepted",
			ordered, s.moved.Load(), late.Round(time.Millisecond))
	}
	return fmt.Sprintf("%s of other items, %d of %d of this item", figures, ordered, ordered)
}
