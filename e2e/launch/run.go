package main

import (
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
	"sync"
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

// newSystem returns the system of the README.
func newSystem(root string, getenv func(string) string) (system, error) {
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

// run starts everything, tries it out, and serves the page until ctx is done. It stops what
// it started before it returns.
func (s system) run(ctx context.Context, stdout io.Writer) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	bin := filepath.Join(s.work, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	out := &console{w: stdout, dir: s.work, logs: make(map[string]io.Writer)}
	for _, port := range []int{s.order.Port, s.inventory.Port, s.order.DaprPort, s.inventory.DaprPort, s.pagePort} {
		if !stack.PortIsFree(port) {
			return fmt.Errorf("port %d is taken: stop the program that listens on it (`lsof -i :%d` names it)", port, port)
		}
	}
	extras := stack.Extras{Collector: fmt.Sprintf("http://127.0.0.1:%d", s.pagePort), APIFilter: "pages"} // see pages/pages.yaml
	if err := stack.WriteConfigs(s.root, s.work, extras); err != nil {
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
	if redis.Process != nil {
		running.Broker = redis
	}

	out.printf("Starting both services with their sidecars. The sidecars' logs are in %s.", s.work)
	j := newJournal(time.Now)
	j.also = func(text string) { out.printf("launcher | %s", text) }
	option := func(service stack.Service, name string) stack.AppOptions {
		o := project.App(service)
		o.Port, o.DaprPort = service.Port, service.DaprPort
		o.Env = []string{"LOG_FORMAT=json"}
		o.SidecarEnv = []string{stack.SpansSoon}
		o.SidecarArgs = []string{"--resources-path", filepath.Join(s.root, "e2e", "launch", "pages")}
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
	starting, cancelStart := context.WithTimeout(ctx, time.Minute)
	defer cancelStart()
	apps, err := running.Start(starting, option(s.inventory, "inventory-service"), option(s.order, "order-service"))
	if err != nil {
		return err
	}
	startSecond := func(ctx context.Context) (*stack.App, error) {
		service := s.inventory
		service.Port, service.DaprPort = 0, 0 // free ones
		apps, err := running.Start(ctx, option(service, "inventory-service, the second replica"))
		return apps[0], err
	}
	ps := newParts(ctx, j, partsOf(apps[0], apps[1], startSecond, redis)...)
	defer ps.close()
	var serving sync.WaitGroup
	defer serving.Wait()
	defer cancel()

	ln, err := web.Listen(net.JoinHostPort("127.0.0.1", strconv.Itoa(s.pagePort)))
	if err != nil {
		return err
	}
	p := &page{ctx: ctx, system: s, broker: redis, journal: j, parts: ps}
	serving.Go(p.watch)
	var served error
	serving.Go(func() {
		defer cancel()
		served = web.Serve(ctx, ln, p.handler(), 5*time.Second)
	})

	if err := s.walkThrough(ctx, out); err != nil {
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
	serving.Wait()
	return served
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

// startRedis returns the Redis server that it started, or one without a process if a server
// runs already where the component files expect it.
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
	redis := stack.RedisAt(fmt.Sprintf("localhost:%d", s.redisPort))
	if err := redis.Ping(ctx); err != nil {
		return nil, fmt.Errorf("port %d is taken, but not by a Redis that can be used (%w): stop that program, or name another Redis in components/redis/*.yaml", s.redisPort, err)
	}
	out.printf("Using the Redis that runs on port %d.", s.redisPort)
	return redis, nil
}
