package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"example.com/dapr-orders/e2e/stack"
)

// A side is a program that is measured.
type side struct {
	program string // of the project, or of e2e/bench
	env     string // which of several it is
	counts  bool   // it keeps a stock
}

var (
	// Subscribers.
	inventory = side{program: "inventory", counts: true}
	inBulk    = side{program: "inventory", env: "BULK_SUBSCRIBE=true", counts: true}
	nothing   = side{program: "subscriber", env: "SUBSCRIBER=nothing"}
	show      = side{program: "subscriber", env: "SUBSCRIBER=show"}
	bulk      = side{program: "subscriber", env: "SUBSCRIBER=bulk"}
	usual     = side{program: "subscriber", env: "SUBSCRIBER=usual", counts: true}
	careful   = side{program: "sdk", env: "SDK=careful", counts: true}

	// Publishers.
	order    = side{program: "order"}
	sdkOrder = side{program: "sdk", env: "SDK=order"}
)

// A rig is a running system of which one side is measured.
type rig struct {
	*stack.System
	b           *bench
	dir         string
	redis       *stack.Redis
	publisher   *stack.App // the order service, or another that does the same
	subscribers []*stack.App

	placed int           // orders so far
	took   time.Duration // the last measurement

	mu   sync.Mutex
	seen map[string]time.Time // when a subscriber told of an order
}

// start starts a Redis, a publisher, and replicas of a subscriber, each with its
// sidecar.
func (b *bench) start(ctx context.Context, publisher, subscriber side, replicas int) (r *rig, err error) {
	r = &rig{b: b, seen: make(map[string]time.Time)}
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
	apps := []stack.AppOptions{r.app(stack.Order.AppID, publisher)}
	for range replicas {
		o := r.app(stack.Inventory.AppID, subscriber)
		o.SidecarArgs = b.project.App(stack.Inventory).SidecarArgs // the same for all
		apps = append(apps, o)
	}
	started, err := r.Start(ctx, apps...)
	if err != nil {
		return r, err
	}
	r.publisher, r.subscribers = started[0], started[1:]
	return r, nil
}

// app returns the options of a side that takes the place of a service.
func (r *rig) app(id string, s side) stack.AppOptions {
	return stack.AppOptions{
		ID: id, Program: filepath.Join(r.b.project.Bin, s.program), Env: []string{s.env}, Output: r.watch,
	}
}

func (r *rig) stop() (err error) {
	if r.System != nil {
		err = r.Stop()
	}
	return errors.Join(err, os.RemoveAll(r.dir))
}

// watch notes when a subscriber has told of an order: the inventory service in
// its log, the other by showing the event.
func (r *rig) watch(name, line string) {
	for _, before := range []string{"Processed OrderPlaced event. orderId=", `"orderId":"`} {
		if _, rest, ok := strings.Cut(line, before); ok {
			id, _, _ := strings.Cut(strings.ReplaceAll(rest, `"`, ","), ",")
			r.mu.Lock()
			r.seen[id] = time.Now()
			r.mu.Unlock()
		}
	}
}

// load places orders from a process of its own, and notes how long that took.
func (r *rig) load(how, to string, orders, items int, more ...string) error {
	output, err := r.loadOutput(how, to, orders, items, more...)
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseFloat(strings.TrimSpace(output), 64)
	r.took = time.Duration(seconds * float64(time.Second))
	return err
}

func (r *rig) loadOutput(how, to string, orders, items int, more ...string) (string, error) {
	command := exec.Command(filepath.Join(r.b.project.Bin, "load"),
		append(args("-how", how, "-to", to, "-n", orders, "-first", r.placed, "-items", items), more...)...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("load: %w: %s", err, stderr.String())
	}
	r.placed += orders
	return string(output), nil
}

// drain publishes orders while the subscribers are frozen, and notes how long
// they take for them.
func (r *rig) drain(orders int, w work) error {
	for _, app := range r.subscribers {
		if err := app.Service.Freeze(); err != nil {
			return err
		}
	}
	err := r.load("bulk", r.publisher.DaprURL(""), orders, w.items, "-clients", "4", "-uuid", w.uuid())
	start := time.Now()
	for _, app := range r.subscribers {
		err = errors.Join(err, app.Service.Thaw())
	}
	if err != nil {
		return err
	}
	for deadline := start.Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		err := r.redis.Drained("OrderPlaced", stack.Inventory.AppID)
		if err == nil {
			r.took = time.Since(start)
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

// work is what is to be counted.
type work struct {
	replicas int // 0 means 1
	items    int
	orders   float64 // times as many as the others; 0 means 1
	v4       bool    // the ids of the events are UUIDs of version 4, which tell no time
}

func (w work) uuid() string {
	if w.v4 {
		return "4"
	}
	return "7"
}

// A counted is what came of one round of counting.
type counted struct {
	rate   float64 // orders a second
	placed int64
	lost   int64 // orders that are not in the stock
	usage
}

// usage is what some orders have cost.
type usage struct {
	orders                  int
	service, sidecar, redis float64 // processor seconds
	calls                   float64 // of the state API
	memory                  float64 // most of any service, MiB
}

// count measures one side once.
func (b *bench) count(ctx context.Context, s side, w work) (c counted, err error) {
	r, err := b.start(ctx, order, s, max(w.replicas, 1))
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	orders := int(cmp.Or(w.orders, 1) * float64(b.orders))
	if err := r.drain(orders/10, w); err != nil { // to warm up
		return c, err
	}
	before, err := r.usage()
	if err != nil {
		return c, err
	}
	if err := r.drain(orders, w); err != nil {
		return c, err
	}
	after, err := r.usage()
	if err != nil {
		return c, err
	}
	c.rate, c.placed = float64(orders)/r.took.Seconds(), int64(r.placed)
	c.usage = usage{
		orders: orders, memory: after.memory,
		service: after.service - before.service, sidecar: after.sidecar - before.sidecar, redis: after.redis - before.redis,
		calls: after.calls - before.calls,
	}
	if s.counts {
		stock, err := r.stock(w.items)
		if err != nil {
			return c, err
		}
		c.lost = c.placed + stock
	}
	return c, nil
}

// delays returns how many milliseconds it took from the request of each of some
// orders for one item until it was counted, at so many a second.
func (b *bench) delays(ctx context.Context, s side, replicas, rate int) (delays []float64, err error) {
	r, err := b.start(ctx, order, s, replicas)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	orders, perSecond := 10*rate, fmt.Sprint(rate)
	if _, err := r.loadOutput("order", r.publisher.URL(""), rate, 1, "-rate", perSecond, "-show"); err != nil {
		return nil, err
	}
	output, err := r.loadOutput("order", r.publisher.URL(""), orders, 1, "-rate", perSecond, "-show")
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(time.Minute); r.redis.Drained("OrderPlaced", stack.Inventory.AppID) != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return nil, errors.New("orders are still not counted")
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for line := range strings.Lines(output) {
		var id string
		var placed int64 // in nanoseconds since 1970
		if _, err := fmt.Sscan(line, &id, &placed); err != nil {
			return nil, err
		}
		if r.seen[id].IsZero() {
			return nil, fmt.Errorf("the subscriber never told of %s", id)
		}
		delays = append(delays, float64(r.seen[id].UnixNano()-placed)/1e6)
	}
	return delays, nil
}

// stock returns the stock of all items together.
func (r *rig) stock(items int) (sum int64, err error) {
	for i := range items {
		resp, err := http.Get(r.subscribers[0].URL("/inventory/item-" + strconv.Itoa(i)))
		if err != nil {
			return 0, err
		}
		var answer struct{ Quantity int64 }
		err = json.NewDecoder(resp.Body).Decode(&answer)
		resp.Body.Close()
		if err != nil {
			return 0, err
		}
		sum += answer.Quantity
	}
	return sum, nil
}

// keys returns how many keys the state store has for the inventory service, with
// and without an end.
func (r *rig) keys() (lasting, expiring int, err error) {
	ctx := context.Background()
	text, err := r.redis.Client().Info(ctx, "keyspace").Result()
	if err != nil {
		return 0, 0, err
	}
	_, counts, _ := strings.Cut(text, "db0:")
	if _, err := fmt.Sscanf(counts, "keys=%d,expires=%d", &lasting, &expiring); err != nil {
		return 0, 0, fmt.Errorf("INFO keyspace answered %q", text)
	}
	streams, err := r.redis.Client().Exists(ctx, "OrderPlaced").Result()
	return lasting - int(streams) - expiring, expiring, err
}

// usage returns what all have used since they were started.
func (r *rig) usage() (u usage, err error) {
	u.redis = processorSeconds(r.redis.PID())
	for _, app := range r.subscribers {
		u.service += processorSeconds(app.Service.PID())
		u.sidecar += processorSeconds(app.Sidecar.PID())
		u.memory = max(u.memory, peakMemory(app.Service.PID()))
		calls, err := stateCalls(app.MetricsPort)
		if err != nil {
			return u, err
		}
		u.calls += calls
	}
	return u, nil
}

// stateCalls returns how often the state API of a sidecar was called, as its
// metrics tell.
func stateCalls(port int) (calls float64, err error) {
	resp, err := http.Get("http://127.0.0.1:" + strconv.Itoa(port) + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if !strings.HasPrefix(lines.Text(), "dapr_component_state_count{") {
			continue
		}
		value := lines.Text()[strings.LastIndexByte(lines.Text(), ' ')+1:]
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, err
		}
		calls += n
	}
	return calls, lines.Err()
}

// processorSeconds returns the processor time that a process has used.
func processorSeconds(pid int) float64 {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := bytes.Cut(stat, []byte(") ")) // behind the name
	fields := bytes.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseFloat(string(fields[11]), 64)
	system, _ := strconv.ParseFloat(string(fields[12]), 64)
	const ticksPerSecond = 100 // USER_HZ, which Linux fixes for /proc
	return (user + system) / ticksPerSecond
}

// memory returns the resident memory of a process, in MiB, and peakMemory the
// most that it ever had.
func memory(pid int) float64     { return status(pid, "VmRSS:") }
func peakMemory(pid int) float64 { return status(pid, "VmHWM:") }

func status(pid int, name string) float64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(text), name)
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kib, _ := strconv.ParseFloat(fields[0], 64)
	return kib / 1024
}
