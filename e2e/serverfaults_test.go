//go:build faults

package e2e

import (
	"cmp"
	"fmt"
	"strings"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// Mosquitto loses what it has acknowledged in the last second before it is killed. The table of
// promises says so.
func TestMosquittoForgetsTheLastSecond(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{Backend: stack.Backends[3]})
	harness.Must(t, s.Inventory[0].Sidecar.Freeze())
	const orders = 20
	for i := range orders {
		s.Place(fmt.Sprint("order-", i), "item1", 1)
	}
	s.Broker.Kill()
	s.Inventory[0].Sidecar.Kill()
	harness.Must(t, s.Broker.Restart(t.Context()))
	harness.Must(t, s.Inventory[0].StartSidecar(t.Context()))
	// A new sidecar drops what Mosquitto has kept for it. A restart of Mosquitto delivers that.
	harness.Must(t, s.Broker.Stop(20*time.Second))
	harness.Must(t, s.Broker.Restart(t.Context()))
	s.Drained("inventory-service")
	stock, err := s.Stock("item1")
	harness.Must(t, err)
	t.Logf("%d of %d orders were applied", -stock, orders)
	if -stock == orders {
		t.Error("nothing was lost: the table of promises says otherwise")
	}
}

// Redis acknowledges a write before its replica has it. So a failover loses acknowledged
// writes.
func TestRedisFailoverLosesWhatItAcknowledged(t *testing.T) {
	t.Parallel()
	for _, minReplicas := range []string{"0", "1"} {
		t.Run("min-replicas-to-write "+minReplicas, func(t *testing.T) {
			ctx := t.Context()
			primary, err := stack.StartRedis(ctx, t.TempDir(), 0)
			harness.Must(t, err)
			replica, err := stack.StartRedis(ctx, t.TempDir(), 0)
			harness.Must(t, err)
			between, err := stack.NewLink(primary.Addr)
			harness.Must(t, err)
			t.Cleanup(func() { primary.Kill(); harness.Must(t, replica.Stop(20*time.Second)); between.Close() })
			host, port, _ := strings.Cut(between.Addr(), ":")
			harness.Must(t, replica.Client().SlaveOf(ctx, host, port).Err())
			harness.Must(t, primary.Client().ConfigSet(ctx, "min-replicas-to-write", minReplicas).Err())
			harness.Must(t, primary.Client().ConfigSet(ctx, "min-replicas-max-lag", "2").Err())
			acknowledged := 0
			write := func() error {
				err := primary.Client().Incr(ctx, "count").Err()
				if err == nil {
					acknowledged++
				}
				return err
			}
			harness.WaitFor(t, time.Minute, func() error { // an error while the replica has no value
				return cmp.Or(write(), replica.Client().Get(ctx, "count").Err())
			})
			between.Set(stack.Cut)
			for cut := time.Now(); time.Since(cut) < 10*time.Second && write() == nil; { // the fault itself
				time.Sleep(time.Millisecond)
			}
			primary.Kill()
			harness.Must(t, replica.Client().SlaveOf(ctx, "no", "one").Err())
			kept, err := replica.Client().Get(ctx, "count").Int()
			harness.Must(t, err)
			t.Logf("| Redis whose replica takes over, min-replicas-to-write %s | %d writes acknowledged | %d of them lost |", minReplicas, acknowledged, acknowledged-kept)
			if acknowledged == kept {
				t.Error("nothing was lost: components/operations.md says otherwise")
			}
		})
	}
}
