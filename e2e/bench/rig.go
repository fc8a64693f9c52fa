package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/load"
	"example.com/dapr-orders/e2e/stack"
)

// A rig is a system that runs.
type rig struct {
	*stack.System
	system      system
	dir         string
	redis       *stack.Redis
	link        *stack.Link // to a state store that answers late; nil to another
	publisher   *stack.App  // the order service, or a program that does the same
	subscribers []*stack.App
	placed      int // orders so far

	mu     sync.Mutex
	began  map[string]time.Time // when a paced order that is not applied yet was placed
	delays []float64            // of the paced orders that are applied, in milliseconds
}

// start starts a Redis, a publisher, and replicas of a subscriber, each with its sidecar.
func (b *bench) start(s system) *rig {
	dir := must(os.MkdirTemp(b.project.Bin, "system"))
	r := &rig{system: s, dir: dir, began: make(map[string]time.Time)}
	r.System = must(b.project.StartServers(context.Background(), stack.Backends[0], dir))
	r.redis = r.Broker.(*stack.Redis)
	if s.late {
		r.link = must(stack.NewLink(r.State.Address()))
		r.link.Set(stack.Weather{Delay: 10 * time.Millisecond})
		files := filepath.Join(b.project.Root, filepath.FromSlash(stack.Backends[0].Folder))
		check(stack.WriteComponents(files, r.Resources, r.Broker, stack.Through(r.State, r.link)))
	}
	apps := []stack.AppOptions{r.app(stack.Order.AppID, s.publisher)}
	for range s.replicas {
		apps = append(apps, r.app(stack.Inventory.AppID, s.subscriber))
	}
	started := must(r.Start(context.Background(), apps...))
	r.publisher, r.subscribers = started[0], started[1:]
	return r
}

// app returns the options of a program that takes the place of a service.
func (r *rig) app(id string, p program) stack.AppOptions {
	o := stack.AppOptions{ID: id, Program: filepath.Join(r.Project.Bin, p.name), Env: []string{p.env}, Output: r.watch}
	if p.grpc {
		port := strconv.Itoa(must(stack.FreePort()))
		o.Env = append(o.Env, "GRPC_PORT="+port)
		o.SidecarArgs = []string{"--app-protocol", "grpc", "--app-port", port}
	}
	return o
}

func (r *rig) stop() {
	check(r.Stop())
	if r.link != nil {
		r.link.Close()
	}
	check(os.RemoveAll(r.dir))
}

// watch notes the delay of a paced order when it is applied: the inventory service then
// logs the order, and the program that it is compared with prints the event.
func (r *rig) watch(_, line string) {
	for _, before := range []string{"Processed OrderPlaced event. orderId=", `"orderId":"`} {
		if _, rest, ok := strings.Cut(line, before); ok {
			id := rest[:max(0, strings.IndexAny(rest, `,"`))]
			r.mu.Lock()
			if began, ok := r.began[id]; ok {
				r.delays = append(r.delays, float64(time.Since(began))/float64(time.Millisecond))
				delete(r.began, id)
			}
			r.mu.Unlock()
		}
	}
}

// order sends an order to the publisher.
func (r *rig) order(ctx context.Context, o load.Order) error {
	return load.Target{URL: r.publisher.URL("/order"), Timeout: 30 * time.Second}.Place(ctx, o)
}

// pacedOrder is order for an order whose delay is measured.
func (r *rig) pacedOrder(ctx context.Context, o load.Order) error {
	r.mu.Lock()
	r.began[o.ID] = time.Now()
	r.mu.Unlock()
	return r.order(ctx, o)
}

// publish publishes an order through the publisher's sidecar.
func (r *rig) publish(ctx context.Context, o load.Order) error {
	sidecar := daprhttp.Client{Endpoint: r.publisher.DaprURL("")}
	m := daprhttp.Message{ID: cmp.Or(o.Key, daprhttp.NewEventID()), Data: must(json.Marshal(o))}
	return sidecar.Publish(ctx, "pubsub", "OrderPlaced", m)
}

// place sends orders of a task, and returns how long that took.
func (r *rig) place(orders int, t task, send func(context.Context, load.Order) error) time.Duration {
	first, start := r.placed, time.Now()
	r.placed += orders
	check(load.Load{Clients: 32, PerSecond: t.rate, Count: orders}.Run(context.Background(), func(ctx context.Context, n int) error {
		o := load.Order{ID: fmt.Sprint("order-", first+n), ItemID: fmt.Sprintf("%s-%d", t.item, (first+n)%t.items), Quantity: 1}
		if t.keys {
			o.Key = uuid.NewString()
		}
		return send(ctx, o)
	}))
	return time.Since(start)
}

// drain publishes orders while the subscribers are frozen, and returns how long the
// subscribers take to apply them.
func (r *rig) drain(orders int, t task) time.Duration {
	for _, app := range r.subscribers {
		check(app.Service.Freeze())
	}
	r.place(orders, t, r.publish)
	start := time.Now()
	for _, app := range r.subscribers {
		check(app.Service.Thaw())
	}
	await(func() error {
		err := r.redis.Drained("OrderPlaced", stack.Inventory.AppID)
		if err == nil && r.system.subscriber == inventory {
			err = r.redis.Drained("OrderPlaced-retry", stack.Inventory.AppID)
		}
		return err
	})
	return time.Since(start)
}

// await waits until done returns nil.
func await(done func() error) {
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		err := done()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			log.Fatal("bench: ", err)
		}
	}
}

// A result has the figures of one measurement.
type result struct {
	rate         float64 // orders per second
	half, p99    float64 // milliseconds within which half, and 99 %, of the orders were applied
	placed, lost int     // orders; a lost order is not in the stock
	cost         usage
}

// measure has the system do a task: at the task's rate, or as fast as the system can.
func (r *rig) measure(t task) (res result) {
	if t.rate > 0 {
		r.place(t.rate, t, r.order) // to warm up
		r.place(8*t.rate, t, r.pacedOrder)
		return r.delay()
	}
	apps, work := r.subscribers, r.drain
	if t.do != apply {
		send := r.order
		if t.do == publish {
			send = r.publish
		}
		apps, work = []*stack.App{r.publisher}, func(orders int, t task) time.Duration { return r.place(orders, t, send) }
	}
	orders := 10_000
	if r.system.slow {
		orders /= 4
	}
	work(orders/10, t) // to warm up
	before := r.used(apps)
	took := work(orders, t)
	res.cost = r.used(apps)
	for part := range peak {
		res.cost[part] = (res.cost[part] - before[part]) * 1000 / float64(orders)
	}
	res.rate, res.placed = float64(orders)/took.Seconds(), orders/10+orders
	if t.do == apply && r.system.subscriber.applies {
		res.lost = res.placed + r.stock(t)
	}
	return res
}

// delay waits until the paced orders are applied, and returns their delays.
func (r *rig) delay() (res result) {
	await(func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.began) > 0 {
			return fmt.Errorf("%d orders are not applied", len(r.began))
		}
		slices.Sort(r.delays)
		res.half, res.p99 = r.delays[len(r.delays)/2], r.delays[len(r.delays)*99/100]
		r.delays = nil
		return nil
	})
	return res
}

// stock returns the stock of a task's items together.
func (r *rig) stock(t task) (sum int) {
	items := r.subscribers[0].DaprURL("/v1.0/state/statestore/") // the other subscribers keep a number there
	if r.system.subscriber == inventory {
		items = r.subscribers[0].URL("/inventory/")
	}
	for i := range t.items {
		text := get(fmt.Sprint(items, t.item, "-", i))
		number := strings.Trim(string(text[bytes.LastIndexByte(text, ':')+1:]), "}\n") // of {…,"quantity":-5} or -5
		sum += must(strconv.Atoi(number))
	}
	return sum
}
