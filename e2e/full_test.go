package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/dapr-orders/e2e/stack"
)

// Servers that have no room left, in memory or on the disk: orders are refused, with
// a clear error and soon; what was accepted is counted, once; and all goes on when
// there is room again.

// refused demands that an order is refused, clearly and in bounded time: a client may
// send it again.
func (s *system) refused(orderID string) {
	s.t.Helper()
	began := time.Now()
	a := s.send("POST", s.order.URL("/order"), fmt.Sprintf(`{"orderId":%q,"itemId":"refused","quantity":1}`, orderID), nil)
	if a.status != http.StatusInternalServerError || !strings.Contains(a.body, `"error":"Failed to publish OrderPlaced event","details":`) {
		s.t.Errorf("an order for which there is no room: got %d %s, want 500 and why", a.status, a.body)
	}
	// A request to the sidecar may take ten seconds, and the service's own time is
	// more than nothing on a busy machine.
	if took := time.Since(began); took > 20*time.Second {
		s.t.Errorf("it was refused after %v", took)
	} else {
		s.t.Logf("it was refused after %v: %s", took.Round(time.Millisecond), a.body)
	}
}

func TestRedisWithoutMemory(t *testing.T) {
	t.Parallel()
	needsOwnRedis(t)
	for name, servers := range map[string]func(s *system) []*stack.Redis{
		"broker":      func(s *system) []*stack.Redis { return []*stack.Redis{s.redis()} },
		"state store": func(s *system) []*stack.Redis { return []*stack.Redis{s.State.(*stack.Redis)} },
		"both":        func(s *system) []*stack.Redis { return []*stack.Redis{s.redis(), s.State.(*stack.Redis)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSystem(t, systemOptions{replicas: 2, separateState: true})
			full := func(bytes string) {
				for _, r := range servers(s) {
					must(t, r.Client().ConfigSet(t.Context(), "maxmemory", bytes).Err())
				}
			}
			l := s.startLoad("item1", 50, nil)
			l.goesOn(t, 50)
			full("1") // and maxmemory-policy is "noeviction"
			if name != "state store" {
				s.refused("order-1")
			}
			time.Sleep(10 * time.Second) // the fault itself
			full("0")
			l.goesOn(t, 50)
			l.endsExact(t)
			if n := l.refused.Load(); (n > 0) != (name != "state store") {
				t.Errorf("%d orders were refused", n)
			}
			if n, err := s.stock("refused"); err != nil || n != 0 {
				t.Errorf("what was refused was counted: %d, %v", n, err)
			}
		})
	}
}

// Redis ends itself when it can't write down what it is about to acknowledge.
func TestRedisWithoutRoomOnTheDisk(t *testing.T) {
	t.Parallel()
	needsOwnRedis(t)
	for name, server := range map[string]func(s *system) *stack.Redis{
		"broker":      (*system).redis,
		"state store": func(s *system) *stack.Redis { return s.State.(*stack.Redis) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSystem(t, systemOptions{replicas: 2, separateState: true})
			l := s.startLoad("item1", 100, nil)
			l.goesOn(t, 50)
			redis := server(s)
			redis.Kill()
			must(t, redis.RestartWithin(t.Context(), 256<<10))
			waitFor(t, 2*time.Minute, func() error {
				if redis.Ended() == nil {
					return fmt.Errorf("the disk is not full yet")
				}
				return nil
			})
			if !strings.Contains(redis.Log(), "AOF write error") {
				t.Fatalf("Redis has ended for another reason:\n%s", redis.Log())
			}
			if name == "broker" {
				s.refused("order-1")
			}
			l.whileAway(t, 50)
			must(t, redis.Restart(t.Context())) // there is room again
			l.goesOn(t, 50)
			l.endsExact(t)
		})
	}
}

// RabbitMQ stops reading from whoever publishes when its memory is full.
func TestRabbitMQWithoutMemory(t *testing.T) {
	t.Parallel()
	s := startSystem(t, systemOptions{backend: stack.Backends[1], replicas: 2})
	rabbit := s.Broker.(*stack.RabbitMQ)
	watermark := func(fraction string) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		must(t, rabbit.SetMemoryWatermark(ctx, fraction))
	}
	l := s.startLoad("item1", 50, nil)
	l.goesOn(t, 50)
	watermark("0.00001")
	s.refused("order-1")
	time.Sleep(10 * time.Second) // the fault itself
	watermark("0.4")
	l.goesOn(t, 50)
	l.endsExact(t)
	n, err := s.stock("refused")
	must(t, err)
	t.Logf("of the order that got no answer in time, and was not sent again, %d were counted", -n) // it may have arrived
}
