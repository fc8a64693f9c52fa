package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"example.com/dapr-orders/e2e/stack"
)

// A system is what `make run` starts.
type system struct {
	root, work                string // the project, and the folder for what is left behind
	resources                 string // the component files
	inventory, order          stack.Service
	redisPort                 int
	daprAPIToken, appAPIToken string
}

// theSystem returns the system of the README.
func theSystem(root string, getenv func(string) string) system {
	return system{
		root:         root,
		work:         filepath.Join(root, ".run"),
		resources:    filepath.Join(root, "components"),
		inventory:    stack.Inventory,
		order:        stack.Order,
		redisPort:    6379,
		daprAPIToken: getenv("DAPR_API_TOKEN"),
		appAPIToken:  getenv("APP_API_TOKEN"),
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
	for _, port := range []int{s.order.Port, s.inventory.Port, s.order.DaprPort, s.inventory.DaprPort} {
		if !stack.PortIsFree(port) {
			return fmt.Errorf("port %d is taken: stop the program that listens on it (`lsof -i :%d` names it)", port, port)
		}
	}
	project, err := stack.Open(ctx, bin, out)
	if err != nil {
		return err
	}
	running := &stack.System{Project: project, Resources: s.resources}
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
	starting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if _, err := running.Start(starting, s.apps(project, out)...); err != nil {
		return err
	}
	if err := s.placeOrder(ctx, out); err != nil {
		return err
	}
	out.printf("\nIt is up: order-service on %d, inventory-service on %d. Place more orders from another terminal; Ctrl-C stops everything.\n",
		s.order.Port, s.inventory.Port)
	return running.Wait(ctx)
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
	if err := stack.RedisAt(addr, 0).Ping(ctx); err != nil {
		return nil, fmt.Errorf("port %d is taken, but not by a Redis that can be used (%w): stop that program, or name another Redis in components/*.yaml", s.redisPort, err)
	}
	out.printf("Using the Redis that runs on port %d.", s.redisPort)
	return nil, nil
}

// apps returns what is to be started: both services.
func (s system) apps(project *stack.Project, out *console) (apps []stack.AppOptions) {
	for _, service := range []stack.Service{s.inventory, s.order} {
		o := project.App(service)
		o.Port, o.DaprPort = service.Port, service.DaprPort
		o.DaprAPIToken, o.AppAPIToken = s.daprAPIToken, s.appAPIToken
		o.Output = out.process
		apps = append(apps, o)
	}
	return apps
}
