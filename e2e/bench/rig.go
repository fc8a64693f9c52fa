package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"example.com/dapr-orders/e2e/stack"
)

// A rig is a system that runs.
type rig struct {
	*stack.System
	b           *bench
	system      system
	dir         string
	redis       *stack.Redis
	link        *stack.Link // to a state store that answers late
	publisher   *stack.App  // the order service, or a program that does the same
	subscribers []*stack.App

	placed int           // orders so far
	took   time.Duration // the last load or drain

	mu   sync.Mutex
	seen map[string]time.Time // when an order was applied; nil while that is of no interest
}

// start starts a Redis, a publisher, and replicas of a subscriber, each with its sidecar.
func (b *bench) start(ctx context.Context, s system) (r *rig, err error) {
	r = &rig{b: b, system: s}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.stop())
		}
	}()
	if r.dir, err = os.MkdirTemp("", "dapr-orders-bench"); err != nil {
		return r, err
	}
	stack.DeleteAtEnd(r.dir)
	if r.System, err = b.project.StartServers(ctx, stack.Backends[0], r.dir); err != nil {
		return r, err
	}
	r.redis = r.Broker.(*stack.Redis)
	if s.late {
		if r.link, err = stack.NewLink(r.State.Address()); err != nil {
			return r, err
		}
		r.link.Set(stack.Weather{Delay: 10 * time.Millisecond})
		files := filepath.Join(b.project.Root, filepath.FromSlash(stack.Backends[0].Folder))
		r.Resources = filepath.Join(r.dir, "late")
		if err := stack.WriteComponents(files, r.Resources, r.Broker, stack.Through(r.State, r.link.Addr())); err != nil {
			return r, err
		}
	}
	apps := []stack.AppOptions{r.app(stack.Order.AppID, s.publisher)}
	for range s.replicas {
		o := r.app(stack.Inventory.AppID, s.subscriber)
		if s.subscriber.grpc {
			port, err := stack.FreePort()
			if err != nil {
				return r, err
			}
			o.Env = append(o.Env, fmt.Sprint("GRPC_PORT=", port))
			o.SidecarArgs = []string{"--app-protocol", "grpc", "--app-port", fmt.Sprint(port)}
		}
		apps = append(apps, o)
	}
	started, err := r.Start(ctx, apps...)
	if err != nil {
		return r, err
	}
	r.publisher, r.subscribers = started[0], started[1:]
	return r, nil
}

// app returns the options of a program that takes the place of a service.
func (r *rig) app(id string, p program) stack.AppOptions {
	return stack.AppOptions{ID: id, Program: filepath.Join(r.b.project.Bin, p.name), Env: []string{p.env}, Output: r.watch}
}

func (r *rig) stop() (err error) {
	if r.System != nil {
		err = r.Stop()
	}
	if r.link != nil {
		r.link.Close()
	}
	return errors.Join(err, os.RemoveAll(r.dir))
}

// watch notes when an order was applied: the inventory service says so in its log, and a
// subscriber that does nothing shows the event.
func (r *rig) watch(_, line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		return
	}
	for _, before := range []string{"Processed OrderPlaced event. orderId=", `"orderId":"`} {
		if _, rest, ok := strings.Cut(line, before); ok {
			r.seen[rest[:max(0, strings.IndexAny(rest, `,"`))]] = time.Now()
		}
	}
}

// load places orders from a process of its own. It notes how long that took, and returns
// what the process printed.
func (r *rig) load(how, to string, orders int, t task) (string, error) {
	command := exec.Command(filepath.Join(r.b.project.Bin, "load"), strings.Fields(fmt.Sprintln(
		"-how", how, "-to", to, "-n", orders, "-first", r.placed, "-item", t.item, "-items", t.items, "-rate", t.rate, fmt.Sprint("-keys=", t.keys)))...)
	var stderr strings.Builder
	command.Stderr = &stderr
	start := time.Now()
	output, err := command.Output()
	r.took = time.Since(start)
	if err != nil {
		return "", fmt.Errorf("load: %w: %s", err, stderr.String())
	}
	r.placed += orders
	return string(output), nil
}

// drain publishes orders while the subscribers are frozen, and notes how long the
// subscribers take for them.
func (r *rig) drain(orders int, t task) error {
	for _, app := range r.subscribers {
		if err := app.Service.Freeze(); err != nil {
			return err
		}
	}
	_, err := r.load("bulk", r.publisher.DaprURL(""), orders, t)
	start := time.Now()
	for _, app := range r.subscribers {
		err = errors.Join(err, app.Service.Thaw())
	}
	if err != nil {
		return err
	}
	err = r.drained()
	r.took = time.Since(start)
	return err
}

// drained waits until the subscribers have acknowledged every order.
func (r *rig) drained() error {
	deadline := time.Now().Add(2 * time.Minute)
	for _, topic := range []string{"OrderPlaced", "OrderPlaced-retry"} {
		if topic != "OrderPlaced" && r.system.subscriber != inventory {
			continue
		}
		for err := error(nil); ; time.Sleep(5 * time.Millisecond) {
			if err = r.redis.Drained(topic, stack.Inventory.AppID); err == nil {
				break
			}
			if time.Now().After(deadline) {
				return err
			}
		}
	}
	return nil
}

// A result is what came of a task.
type result struct {
	rate         float64 // orders a second
	half, most   float64 // of the orders were applied within so many milliseconds; most is 99 %
	placed, lost int     // orders; those that are lost are not in the stock
	cost         usage
}

// fast measures how fast orders are taken or applied, and what that costs.
func (r *rig) fast(t task) (res result, err error) {
	orders, apps, work := r.b.orders, r.subscribers, r.drain
	if r.system.slow {
		orders /= 4
	}
	if t.do != apply {
		how, to := "order", r.publisher.URL("")
		if t.do == publish {
			how, to = "publish", r.publisher.DaprURL("")
		}
		apps, work = []*stack.App{r.publisher}, func(orders int, t task) error {
			_, err := r.load(how, to, orders, t)
			return err
		}
	}
	if err := work(orders/10, t); err != nil { // to warm up
		return res, err
	}
	if res.cost, err = r.use(apps, func() error { return work(orders, t) }); err != nil {
		return res, err
	}
	for part := range peak {
		res.cost[part] *= 1000 / float64(orders)
	}
	res.rate, res.placed = float64(orders)/r.took.Seconds(), orders/10+orders
	if t.do == apply && r.system.subscriber.applies {
		var stock int
		stock, err = r.stock(t)
		res.lost = res.placed + stock
	}
	return res, err
}

// pace measures how long it takes from the request for an order until the order is
// applied, at a rate.
func (r *rig) pace(t task) (res result, err error) {
	r.mu.Lock()
	r.seen = make(map[string]time.Time)
	r.mu.Unlock()
	var output string
	for _, seconds := range []int{1, 8} { // the first warms up
		if output, err = r.load("order", r.publisher.URL(""), seconds*t.rate, t); err != nil {
			return res, err
		}
	}
	if err := r.drained(); err != nil {
		return res, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var delays []float64
	for line := range strings.Lines(output) {
		var id string
		var placed int64 // in nanoseconds since 1970
		if _, err := fmt.Sscan(line, &id, &placed); err != nil {
			return res, err
		}
		if r.seen[id].IsZero() {
			return res, fmt.Errorf("the subscriber never told of %s", id)
		}
		delays = append(delays, float64(r.seen[id].UnixNano()-placed)/1e6)
	}
	r.seen = nil
	slices.Sort(delays)
	return result{half: delays[len(delays)/2], most: delays[len(delays)*99/100]}, nil
}

// stock returns the stock of a task's items together.
func (r *rig) stock(t task) (sum int, err error) {
	items := r.subscribers[0].DaprURL("/v1.0/state/statestore/") // where others keep a number
	if r.system.subscriber == inventory {
		items = r.subscribers[0].URL("/inventory/")
	}
	for i := range t.items {
		resp, err := http.Get(fmt.Sprint(items, t.item, "-", i))
		if err != nil {
			return 0, err
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return 0, err
		}
		number := strings.Trim(string(text[bytes.LastIndexByte(text, ':')+1:]), "}\n") // of {…,"quantity":-5} or -5
		quantity, err := strconv.Atoi(number)
		if err != nil {
			return 0, err
		}
		sum += quantity
	}
	return sum, nil
}
