package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// Servers that have no room left, in memory or on the disk: orders are refused, with
// a clear error and soon; what was accepted is counted, once; and all goes on when
// there is room again.

// refused demands that an order is refused, clearly and in bounded time: a client may
// send it again.
func refused(s *harness.System, orderID string) {
	s.T.Helper()
	began := time.Now()
	a := s.Send("POST", s.Order.URL("/order"), fmt.Sprintf(`{"orderId":%q,"itemId":"refused","quantity":1}`, orderID), nil)
	if a.Status != http.StatusInternalServerError || !strings.Contains(a.Body, `"error":"Failed to publish OrderPlaced event","details":`) {
		s.T.Errorf("an order for which there is no room: got %d %s, want 500 and why", a.Status, a.Body)
	}
	// A request to the sidecar may take ten seconds, and the service's own time is
	// more than nothing on a busy machine.
	if took := time.Since(began); took > 20*time.Second {
		s.T.Errorf("it was refused after %v", took)
	} else {
		s.T.Logf("it was refused after %v: %s", took.Round(time.Millisecond), a.Body)
	}
}

func TestRedisWithoutMemory(t *testing.T) {
	t.Parallel()
	harness.NeedsOwnRedis(t)
	for name, servers := range map[string]func(s *harness.System) []*stack.Redis{
		"broker":      func(s *harness.System) []*stack.Redis { return []*stack.Redis{s.Redis()} },
		"state store": func(s *harness.System) []*stack.Redis { return []*stack.Redis{s.State.(*stack.Redis)} },
		"both":        func(s *harness.System) []*stack.Redis { return []*stack.Redis{s.Redis(), s.State.(*stack.Redis)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := harness.Start(t, harness.Options{Replicas: 2, SeparateState: true})
			full := func(bytes string) {
				for _, r := range servers(s) {
					harness.Must(t, r.Client().ConfigSet(t.Context(), "maxmemory", bytes).Err())
				}
			}
			l := s.StartLoad("item1", 50, nil)
			l.GoesOn(t, 50)
			full("1") // and maxmemory-policy is "noeviction"
			if name != "state store" {
				refused(s, "order-1")
			}
			time.Sleep(10 * time.Second) // the fault itself
			full("0")
			l.GoesOn(t, 50)
			l.EndsExact(t)
			if n := l.Refused.Load(); (n > 0) != (name != "state store") {
				t.Errorf("%d orders were refused", n)
			}
			if n, err := s.Stock("refused"); err != nil || n != 0 {
				t.Errorf("what was refused was counted: %d, %v", n, err)
			}
		})
	}
}

// Redis ends itself when it can't write down what it is about to acknowledge.
func TestRedisWithoutRoomOnTheDisk(t *testing.T) {
	t.Parallel()
	harness.NeedsOwnRedis(t)
	for name, server := range map[string]func(s *harness.System) *stack.Redis{
		"broker":      (*harness.System).Redis,
		"state store": func(s *harness.System) *stack.Redis { return s.State.(*stack.Redis) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := harness.Start(t, harness.Options{Replicas: 2, SeparateState: true})
			l := s.StartLoad("item1", 100, nil)
			l.GoesOn(t, 50)
			redis := server(s)
			redis.Kill()
			harness.Must(t, redis.RestartWithin(t.Context(), 256<<10))
			harness.WaitFor(t, 2*time.Minute, func() error {
				if redis.Ended() == nil {
					return fmt.Errorf("the disk is not full yet")
				}
				return nil
			})
			if !strings.Contains(redis.Log(), "AOF write error") {
				t.Fatalf("Redis has ended for another reason:\n%s", redis.Log())
			}
			if name == "broker" {
				refused(s, "order-1")
			}
			l.WhileAway(t, 50)
			harness.Must(t, redis.Restart(t.Context())) // there is room again
			l.GoesOn(t, 50)
			l.EndsExact(t)
		})
	}
}

// RabbitMQ stops reading from whoever publishes when its memory is full.
func TestRabbitMQWithoutMemory(t *testing.T) {
	t.Parallel()
	s := harness.Start(t, harness.Options{Backend: stack.Backends[1], Replicas: 2})
	rabbit := s.Broker.(*stack.RabbitMQ)
	watermark := func(fraction string) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := rabbit.Control(ctx, "set_vm_memory_high_watermark", fraction) // of this machine's memory
		harness.Must(t, err)
	}
	l := s.StartLoad("item1", 50, nil)
	l.GoesOn(t, 50)
	watermark("0.00001")
	refused(s, "order-1")
	time.Sleep(10 * time.Second) // the fault itself
	watermark("0.4")
	l.GoesOn(t, 50)
	l.EndsExact(t)
	n, err := s.Stock("refused")
	harness.Must(t, err)
	t.Logf("of the order that got no answer in time, and was not sent again, %d were counted", -n) // it may have arrived
}
