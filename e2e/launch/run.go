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

// The ports of the README.
const (
	orderPort, orderDaprPort         = 5002, 3501
	inventoryPort, inventoryDaprPort = 5001, 3500
	redisPort                        = 6379
)

// run starts everything, tries it out, and waits for ctx or for something to go
// wrong. Nothing that it started is left when it returns.
func run(ctx context.Context, root string, getenv func(string) string, stdout io.Writer) (err error) {
	work := filepath.Join(root, ".run")
	bin := filepath.Join(work, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	out := &console{w: stdout, dir: work}
	for _, port := range []int{orderPort, inventoryPort, orderDaprPort, inventoryDaprPort} {
		if !stack.PortIsFree(port) {
			return fmt.Errorf("port %d is taken: stop the program that listens on it (`lsof -i :%d` names it)", port, port)
		}
	}
	daprd, err := stack.Daprd(ctx, root, out)
	if err != nil {
		return err
	}
	if err := stack.BuildServices(ctx, root, bin); err != nil {
		return err
	}

	redis, err := startRedis(ctx, filepath.Join(work, "redis"), out)
	if err != nil {
		return err
	}
	if redis != nil {
		defer func() { err = errors.Join(err, redis.Stop(10*time.Second)) }()
	}

	out.printf("Starting both services with their sidecars. The sidecars' logs are in %s.", work)
	apps, err := startApps(ctx, stack.AppOptions{
		Daprd:        daprd,
		Resources:    filepath.Join(root, "components"),
		DaprAPIToken: getenv("DAPR_API_TOKEN"),
		AppAPIToken:  getenv("APP_API_TOKEN"),
		Output:       out.process,
	}, bin)
	defer func() {
		out.printf("Stopping.")
		err = errors.Join(err, stopApps(apps))
	}()
	if err != nil {
		return err
	}

	if err := placeOrder(ctx, getenv("APP_API_TOKEN"), out); err != nil {
		return err
	}
	out.printf("\nIt is up: order-service on %d, inventory-service on %d. Place more orders from another terminal; Ctrl-C stops everything.\n",
		orderPort, inventoryPort)
	return wait(ctx, apps, redis)
}

// startRedis returns the Redis server that it started, or nil if one runs
// already where the component files expect it.
func startRedis(ctx context.Context, dir string, out *console) (*stack.Redis, error) {
	if !stack.PortIsFree(redisPort) {
		if err := (&stack.Redis{Addr: stack.DefaultRedisAddr}).Ping(); err != nil {
			return nil, fmt.Errorf("port %d is taken, but not by a Redis that can be used (%w): stop that program, or name another Redis in components/*.yaml", redisPort, err)
		}
		out.printf("Using the Redis that runs on port %d.", redisPort)
		return nil, nil
	}
	if err := stack.InstallRedis(ctx, out); err != nil {
		return nil, err
	}
	if !stack.PortIsFree(redisPort) { // some systems start what they install
		return startRedis(ctx, dir, out)
	}
	out.printf("Starting Redis on port %d, with its data in %s.", redisPort, dir)
	return stack.StartRedis(ctx, dir, redisPort, nil)
}

// startApps starts both services at the same time. It returns those that did
// start, with an error when one did not.
func startApps(ctx context.Context, common stack.AppOptions, bin string) ([]*stack.App, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var (
		mu     sync.Mutex
		apps   []*stack.App
		failed error
		wg     sync.WaitGroup
	)
	for _, service := range []struct {
		id, program    string
		port, daprPort int
	}{
		{"inventory-service", "inventory", inventoryPort, inventoryDaprPort},
		{"order-service", "order", orderPort, orderDaprPort},
	} {
		wg.Go(func() {
			o := common
			o.ID, o.Program = service.id, filepath.Join(bin, service.program)
			o.Port, o.DaprPort = service.port, service.daprPort
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
