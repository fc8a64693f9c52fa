package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"example.com/dapr-orders/e2e/stack"
)

// A system is what `make run` starts.
type system struct {
	root, work                       string // the project, and the folder for what is left behind
	resources                        string // the component files
	orderPort, orderDaprPort         int
	inventoryPort, inventoryDaprPort int
	redisPort                        int
	daprAPIToken, appAPIToken        string
}

// theSystem returns the system of the README.
func theSystem(root string, getenv func(string) string) system {
	return system{
		root:              root,
		work:              filepath.Join(root, ".run"),
		resources:         filepath.Join(root, "components"),
		orderPort:         5002,
		orderDaprPort:     3501,
		inventoryPort:     5001,
		inventoryDaprPort: 3500,
		redisPort:         6379,
		daprAPIToken:      getenv("DAPR_API_TOKEN"),
		appAPIToken:       getenv("APP_API_TOKEN"),
	}
}

// run starts everything, tries it out, and waits for ctx or for something to go
// wrong. Nothing that it started is left when it returns.
func (s system) run(ctx context.Context, stdout io.Writer) (err error) {
	bin := filepath.Join(s.work, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	out := &console{w: stdout, dir: s.work}
	for _, port := range []int{s.orderPort, s.inventoryPort, s.orderDaprPort, s.inventoryDaprPort} {
		if !stack.PortIsFree(port) {
			return fmt.Errorf("port %d is taken: stop the program that listens on it (`lsof -i :%d` names it)", port, port)
		}
	}
	daprd, err := stack.Daprd(ctx, s.root, out)
	if err != nil {
		return err
	}
	if err := stack.BuildServices(ctx, s.root, bin); err != nil {
		return err
	}

	redis, err := s.startRedis(ctx, out)
	if err != nil {
		return err
	}
	if redis != nil {
		defer func() { err = errors.Join(err, redis.Stop(10*time.Second)) }()
	}

	out.printf("Starting both services with their sidecars. The sidecars' logs are in %s.", s.work)
	apps, err := s.startApps(ctx, daprd, bin, out)
	defer func() {
		out.printf("Stopping.")
		err = errors.Join(err, stopApps(apps))
	}()
	if err != nil {
		return err
	}
	if err := s.placeOrder(ctx, out); err != nil {
		return err
	}
	out.printf("\nIt is up: order-service on %d, inventory-service on %d. Place more orders from another terminal; Ctrl-C stops everything.\n",
		s.orderPort, s.inventoryPort)
	return wait(ctx, apps, redis)
}

// startRedis returns the Redis server that it started, or nil if one runs
// already where the component files expect it.
func (s system) startRedis(ctx context.Context, out *console) (*stack.Redis, error) {
	addr := fmt.Sprintf("localhost:%d", s.redisPort)
	if stack.PortIsFree(s.redisPort) {
		if err := stack.RedisServer.Install(ctx, out); err != nil {
			return nil, err
		}
	}
	if stack.PortIsFree(s.redisPort) { // some systems start what they install
		dir := filepath.Join(s.work, "redis")
		out.printf("Starting Redis on port %d, with its data in %s.", s.redisPort, dir)
		return stack.StartRedis(ctx, dir, s.redisPort, nil)
	}
	if err := (&stack.Redis{Addr: addr}).Ping(); err != nil {
		return nil, fmt.Errorf("port %d is taken, but not by a Redis that can be used (%w): stop that program, or name another Redis in components/*.yaml", s.redisPort, err)
	}
	out.printf("Using the Redis that runs on port %d.", s.redisPort)
	return nil, nil
}

// apps returns what is to be started: both services, whose programs are in bin.
func (s system) apps(bin string) []stack.AppOptions {
	both := stack.AppOptions{
		Resources:    s.resources,
		DaprAPIToken: s.daprAPIToken,
		AppAPIToken:  s.appAPIToken,
	}
	inventory, order := both, both
	inventory.ID, inventory.Program = "inventory-service", filepath.Join(bin, "inventory")
	inventory.Port, inventory.DaprPort = s.inventoryPort, s.inventoryDaprPort
	order.ID, order.Program = "order-service", filepath.Join(bin, "order")
	order.Port, order.DaprPort = s.orderPort, s.orderDaprPort
	return []stack.AppOptions{inventory, order}
}

// startApps starts both services at the same time. It returns those that did
// start, with an error when one did not.
func (s system) startApps(ctx context.Context, daprd, bin string, out *console) ([]*stack.App, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var (
		mu     sync.Mutex
		apps   []*stack.App
		failed error
		wg     sync.WaitGroup
	)
	for _, o := range s.apps(bin) {
		o.Daprd, o.Output = daprd, out.process
		wg.Go(func() {
			app, err := stack.StartApp(ctx, o)
			mu.Lock()
			defer mu.Unlock()
			failed = errors.Join(failed, err)
			if err == nil {
				apps = append(apps, app)
			}
		})
	}
	wg.Wait()
	return apps, failed
}

func stopApps(apps []*stack.App) error {
	errs := make([]error, len(apps))
	var wg sync.WaitGroup
	for i, app := range apps {
		wg.Go(func() { errs[i] = app.Stop() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// wait returns when ctx is done, or with an error when a process has ended.
func wait(ctx context.Context, apps []*stack.App, redis *stack.Redis) error {
	var processes []*stack.Process
	for _, app := range apps {
		processes = append(processes, app.Service, app.Sidecar)
	}
	if redis != nil {
		processes = append(processes, redis.Process)
	}
	ended := make(chan error, len(processes))
	for _, p := range processes {
		go func() {
			<-p.Done()
			ended <- p.Ended()
		}()
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		return err
	}
}
