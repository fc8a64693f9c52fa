package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"example.com/dapr-orders/daprhttp/web"
	"example.com/dapr-orders/e2e/stack"
)

// A system is what `make run` starts.
type system struct {
	root, work                string // the project, and the folder for what is left behind
	resources                 string // the component files
	inventory, order          stack.Service
	redisPort, pagePort       int
	daprAPIToken, appAPIToken string
	openBrowser               bool
}

// theSystem returns the system of the README.
func theSystem(root string, getenv func(string) string) (system, error) {
	env := web.NewEnv(getenv)
	return system{
		root:         root,
		work:         filepath.Join(root, ".run"),
		resources:    filepath.Join(root, filepath.FromSlash(stack.Backends[0].Folder)),
		inventory:    stack.Inventory,
		order:        stack.Order,
		redisPort:    6379,
		pagePort:     5090, // 5000 is taken on every Mac
		daprAPIToken: env.Secret("DAPR_API_TOKEN"),
		appAPIToken:  env.Secret("APP_API_TOKEN"),
		openBrowser:  env.Flag("OPEN"),
	}, env.Err()
}

// run starts everything, tries it out, and serves the page until ctx is done. Nothing
// that it started is left when it returns.
func (s system) run(ctx context.Context, stdout io.Writer) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	bin := filepath.Join(s.work, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	out := &console{w: stdout, dir: s.work}
	for _, port := range []int{s.order.Port, s.inventory.Port, s.order.DaprPort, s.inventory.DaprPort, s.pagePort} {
		if !stack.PortIsFree(port) {
			return fmt.Errorf("port %d is taken: stop the program that listens on it (`lsof -i :%d` names it)", port, port)
		}
	}
	pages, err := writePagesFilter(s.work)
	if err != nil {
		return err
	}
	if err := stack.WriteConfigs(s.root, s.work, stack.Extras{Collector: fmt.Sprintf("http://127.0.0.1:%d", s.pagePort), APIFilter: pagesFilter}); err != nil {
		return err
	}
	project, err := stack.Open(ctx, bin, out)
	if err != nil {
		return err
	}
	running := &stack.System{Project: project, Resources: s.resources, Configs: s.work}
	defer func() {
		out.printf("Stopping.")
		err = errors.Join(err, running.Stop())
	}()
	redis, err := s.startRedis(ctx, out)
	if err != nil {
		return err
	}
	if redis != nil {
		running.Broker = redis
	}

	out.printf("Starting both services with their sidecars. The sidecars' logs are in %s.", s.work)
	j := newJournal(time.Now)
	j.also = func(text string) { out.printf("launcher | %s", text) }
	option := func(service stack.Service, name string) stack.AppOptions {
		o := project.App(service)
		o.Env = []string{"LOG_FORMAT=json"}
		o.SidecarEnv = []string{stack.SpansSoon}
		o.SidecarArgs = []string{"--resources-path", pages}
		o.Dir = filepath.Join(s.root, service.Folder) // as `dapr run` has it: the component files say ../components
		o.DaprAPIToken, o.AppAPIToken = s.daprAPIToken, s.appAPIToken
		o.Output = func(process, line string) {
			if process == o.ID {
				l, text := readLog(line)
				j.line(name, l)
				line = text
			}
			out.process(process, line)
		}
		return o
	}
	options := []stack.AppOptions{option(s.inventory, "inventory-service"), option(s.order, "order-service")}
	for i, service := range []stack.Service{s.inventory, s.order} {
		options[i].Port, options[i].DaprPort = service.Port, service.DaprPort
	}
	starting, cancelStart := context.WithTimeout(ctx, time.Minute)
	defer cancelStart()
	apps, err := running.Start(starting, options...)
	if err != nil {
		return err
	}
	second := func(ctx context.Context) (*stack.App, error) {
		apps, err := running.Start(ctx, option(s.inventory, "inventory-service, the second replica"))
		return apps[0], err
	}
	ps := newParts(ctx, j, partsOf(apps[0], apps[1], second, redis)...)
	defer ps.close()
	defer cancel()

	ln, err := web.Listen(net.JoinHostPort("127.0.0.1", strconv.Itoa(s.pagePort)))
	if err != nil {
		return err
	}
	p := newPage(ctx, s, cmp.Or(redis, stack.RedisAt(s.redisAddr())), j, ps)
	served := make(chan error, 1)
	go func() { served <- web.Serve(ctx, ln, p.handler(), 5*time.Second) }()
	watched := make(chan struct{})
	go func() { p.watch(); close(watched) }()
	defer func() { <-watched }()
	defer cancel()

	if err := s.placeOrder(ctx, out); err != nil {
		return err
	}
	address := fmt.Sprintf("http://localhost:%d", s.pagePort)
	out.printf("\nIt is up: order-service on %d, inventory-service on %d. Ctrl-C stops everything.\nWatch orders travel, place more, and break things: %s\n",
		s.order.Port, s.inventory.Port, address)
	if s.openBrowser {
		if err := openBrowser(ctx, address); err != nil {
			out.printf("No browser could be opened: %v", err)
		}
	}
	return <-served
}

// openBrowser shows a page in the browser that a person uses.
func openBrowser(ctx context.Context, address string) error {
	command := []string{"xdg-open"}
	switch runtime.GOOS {
	case "darwin":
		command = []string{"open"}
	case "windows":
		command = []string{"rundll32", "url.dll,FileProtocolHandler"}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return exec.CommandContext(ctx, command[0], append(command[1:], address)...).Run()
}

func (s system) redisAddr() string { return fmt.Sprintf("localhost:%d", s.redisPort) }

// startRedis returns the Redis server that it started, or nil if one runs
// already where the component files expect it.
func (s system) startRedis(ctx context.Context, out *console) (*stack.Redis, error) {
	if stack.PortIsFree(s.redisPort) {
		if err := stack.RedisServer.Install(ctx, out); err != nil {
			return nil, err
		}
	}
	if stack.PortIsFree(s.redisPort) { // some systems start what they install
		dir := filepath.Join(s.work, "redis")
		out.printf("Starting Redis on port %d, with its data in %s.", s.redisPort, dir)
		return stack.StartRedis(ctx, dir, s.redisPort)
	}
	if err := stack.RedisAt(s.redisAddr()).Ping(ctx); err != nil {
		return nil, fmt.Errorf("port %d is taken, but not by a Redis that can be used (%w): stop that program, or name another Redis in components/redis/*.yaml", s.redisPort, err)
	}
	out.printf("Using the Redis that runs on port %d.", s.redisPort)
	return nil, nil
}

// partsOf returns what can be broken in the running system: the two apps, a second
// replica of inventory, which second starts the first time, and Redis unless it is
// somebody else's.
func partsOf(inventory, order *stack.App, second func(context.Context) (*stack.App, error), redis *stack.Redis) []*part {
	one := func(p func() *stack.Process) func() []*stack.Process {
		return func() []*stack.Process { return []*stack.Process{p()} }
	}
	var replica *stack.App
	list := []*part{
		{
			ID: "order-sidecar", Name: "the order service's sidecar",
			Start: order.StartSidecar, Processes: one(func() *stack.Process { return order.Sidecar }),
			Gone:  "Nobody can place an order now. What is on its way already goes on.",
			Still: "Whoever places an order gets no answer. What is on its way already goes on.",
			Back:  "Orders are accepted again. One that was sent again with its Idempotency-Key counts once.",
		},
		{
			ID: "inventory", Name: "the inventory service",
			Start: inventory.StartService, Processes: one(func() *stack.Process { return inventory.Service }),
			Gone: "Orders are still accepted: the broker keeps the events, and the sidecar tries to deliver them until somebody answers." +
				" A second replica takes over what this one had 11 s after it was fetched.",
			Still: "Orders are still accepted: the broker keeps the events. The sidecar waits for answers." +
				" A second replica takes over what this one had 11 s after it was fetched.",
			Back: "It counts what waits for it. What it had counted, and could not say so, it recognises.",
		},
		{
			ID: "inventory-sidecar", Name: "the inventory service's sidecar",
			Start: inventory.StartSidecar, Processes: one(func() *stack.Process { return inventory.Sidecar }),
			Gone: "Nothing reaches the service. Orders are still accepted: the broker keeps the events." +
				" What this sidecar had fetched is handed to another, or to it when it is back, 11 s after it was fetched.",
			Still: "Nothing reaches the service. Orders are still accepted: the broker keeps the events." +
				" A second replica takes over what this one had 11 s after it was fetched.",
			Back: "It delivers what waits.",
		},
		{
			ID: "second", Name: "the second replica",
			Start: func(ctx context.Context) (err error) {
				if replica == nil {
					replica, err = second(ctx)
					return err
				}
				if err := replica.StartService(ctx); err != nil {
					return err
				}
				return replica.StartSidecar(ctx)
			},
			Processes: func() []*stack.Process {
				if replica == nil {
					return nil
				}
				return []*stack.Process{replica.Sidecar, replica.Service}
			},
			Gone:  "That is a machine that fails: service and sidecar. The first one goes on, and takes over what this one had 11 s after it was fetched.",
			Still: "The first one goes on, and takes over what this one had 11 s after it was fetched.",
			Back:  "Service and sidecar of its own, the same app ID: the broker gives each event to one of the two.",
		},
	}
	if redis != nil {
		list = append(list, &part{
			ID: "redis", Name: "Redis, broker and state store in one",
			Start: redis.Restart, Processes: one(func() *stack.Process { return redis.Process }),
			Gone:  "Orders are refused, and none is counted. What it acknowledged is on the disk.",
			Still: "Orders get no answer, and none is counted.",
			Back:  "It has all that it acknowledged. The sidecars find it again by themselves.",
		})
	}
	return list
}
