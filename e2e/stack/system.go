package stack

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// A System is a broker, a state store, and apps that share them.
type System struct {
	Project   *Project
	Broker    Broker // nil if the launcher found it running
	State     Server // the broker, or another server; may be nil, too
	Resources string // the folder of component files
	Configs   string // the folder of Dapr Configurations; empty for none, and so without the filter

	// Each completes the options of every app before the app is started. It may be nil.
	Each func(*AppOptions)

	mu   sync.Mutex
	apps []*App // in the order in which they were started
}

// StartServers starts the servers of a backend, and writes component files that name
// them and Configurations, all of it into dir. When it fails, nothing is left running.
func (p *Project) StartServers(ctx context.Context, b Backend, dir string) (s *System, err error) {
	s = &System{Project: p, Resources: filepath.Join(dir, "components")}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	broker, err := b.Broker(ctx, filepath.Join(dir, "broker"))
	if err != nil {
		return s, err
	}
	s.Broker, s.State = broker, broker
	if b.State != nil {
		state, err := b.State(ctx, filepath.Join(dir, "state"))
		if err != nil {
			return s, err
		}
		s.State = state
	}
	if b.Given != "" {
		err = writeGiven(b, p.Root, s.Resources, s.Broker, s.State)
	} else {
		err = WriteComponents(filepath.Join(p.Root, filepath.FromSlash(b.Folder)), s.Resources, s.Broker, s.State)
	}
	if err != nil || !isFile(filepath.Join(s.Resources, FilterFile)) {
		return s, err
	}
	s.Configs = dir
	return s, WriteConfigs(p.Root, dir, Extras{})
}

// Start starts apps, all at the same time, and waits until they are ready. It returns
// them in the order of their options, nil for an app that does not start, and the errors
// together. The Configuration of an app that names none is DefaultConfig.
//
// The first app with an ID starts before its replicas: its sidecar makes what the state
// store needs. When two sidecars make the tables of a database at the same moment, one may
// end.
func (s *System) Start(ctx context.Context, options ...AppOptions) ([]*App, error) {
	known := make(map[string]bool)
	for _, app := range s.Apps() {
		known[app.ID] = true
	}
	apps, options := make([]*App, len(options)), slices.Clone(options)
	var first, replicas []int // of the options
	for i, o := range options {
		if known[o.ID] {
			replicas = append(replicas, i)
		} else {
			first = append(first, i)
		}
		known[o.ID] = true
	}
	var err error
	for _, together := range [][]int{first, replicas} {
		for _, i := range together {
			s.complete(&options[i])
		}
		err = errors.Join(err, each(together, func(i int) (err error) {
			apps[i], err = StartApp(ctx, options[i])
			return err
		}))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.apps = append(s.apps, slices.DeleteFunc(slices.Clone(apps), func(a *App) bool { return a == nil })...)
	return apps, err
}

// complete sets the options of an app that follow from the system.
func (s *System) complete(o *AppOptions) {
	o.Daprd = cmp.Or(o.Daprd, s.Project.Daprd)
	o.Resources = cmp.Or(o.Resources, s.Resources)
	o.Config = filepath.Join(s.Configs, cmp.Or(o.Config, DefaultConfig))
	if s.Configs == "" {
		o.Config = ""
	}
	if s.Each != nil {
		s.Each(o)
	}
}

// each calls do for every item, all at the same time, and returns the errors together.
func each[T any](items []T, do func(T) error) error {
	errs := make([]error, len(items))
	var wg sync.WaitGroup
	for i, item := range items {
		wg.Go(func() { errs[i] = do(item) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Apps returns the apps that have been started.
func (s *System) Apps() []*App {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.apps)
}

// StopApps stops the apps, all at the same time.
func (s *System) StopApps() error { return each(s.Apps(), (*App).Stop) }

// Stop stops the apps, and then the servers.
func (s *System) Stop() error {
	err := s.StopApps()
	if s.State != nil && s.State != Server(s.Broker) {
		err = errors.Join(err, s.State.Stop(20*time.Second))
	}
	if s.Broker != nil {
		err = errors.Join(err, s.Broker.Stop(20*time.Second))
	}
	return err
}
