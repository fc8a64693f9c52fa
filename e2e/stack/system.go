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
	Broker    Broker // nil if somebody else has started it
	State     Server // the broker, or another
	Resources string // the folder of component files
	Configs   string // the folder of Dapr Configurations; empty for none, and so without the filter

	// Each completes the options of every app before it is started. It may be nil.
	Each func(*AppOptions)

	mu    sync.Mutex
	apps  []*App          // in the order in which they were started
	known map[string]bool // the IDs of apps of which one was started
}

// StartServers starts the servers of a backend and writes component files that name
// them, all of it into dir. When it fails, nothing is left running.
func (p *Project) StartServers(ctx context.Context, b Backend, dir string) (s *System, err error) {
	s = &System{Project: p, Resources: filepath.Join(dir, "components")}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()
	started, err := b.Broker(ctx, p, filepath.Join(dir, "broker"))
	if err != nil {
		return s, err
	}
	s.Broker, s.State = started, started
	if b.State != nil {
		state, err := b.State(ctx, filepath.Join(dir, "state"))
		if err != nil {
			return s, err
		}
		s.State = state
	}
	if b.Given != "" {
		err = writeGiven(b.Folder, s.Resources, b.Given, s.Broker, s.State)
		if err == nil { // Dapr's own fault is not the fault of what is given
			err = addFilter(p.Root, s.Resources)
		}
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
// them in the order of their options; when one does not start, an error. The Configuration
// of an app that names none is DefaultConfig.
//
// Of an app that is new, one goes first: its sidecar makes what the state store needs, and
// of two that make the tables of a database at the same moment, one may end.
func (s *System) Start(ctx context.Context, options ...AppOptions) ([]*App, error) {
	apps, errs := make([]*App, len(options)), make([]error, len(options))
	var first, others []int // of the options
	for i, o := range options {
		if s.isNew(o.ID) {
			first = append(first, i)
		} else {
			others = append(others, i)
		}
	}
	for _, together := range [][]int{first, others} {
		var wg sync.WaitGroup
		for _, i := range together {
			o := options[i]
			o.Daprd = cmp.Or(o.Daprd, s.Project.Daprd)
			o.Resources = cmp.Or(o.Resources, s.Resources)
			if o.Config = cmp.Or(o.Config, DefaultConfig); s.Configs == "" {
				o.Config = ""
			} else {
				o.Config = filepath.Join(s.Configs, o.Config)
			}
			if s.Each != nil {
				s.Each(&o)
			}
			wg.Go(func() { apps[i], errs[i] = StartApp(ctx, o) })
		}
		wg.Wait()
	}
	s.mu.Lock()
	s.apps = append(s.apps, slices.DeleteFunc(slices.Clone(apps), func(a *App) bool { return a == nil })...)
	s.mu.Unlock()
	return apps, errors.Join(errs...)
}

// isNew reports whether it is asked about an app for the first time.
func (s *System) isNew(appID string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.known[appID]
	if s.known == nil {
		s.known = make(map[string]bool)
	}
	s.known[appID] = true
	return !known
}

// Apps returns the apps that have been started.
func (s *System) Apps() []*App {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.apps)
}

// StopApps stops the apps, all at the same time.
func (s *System) StopApps() error {
	apps := s.Apps()
	errs := make([]error, len(apps))
	var wg sync.WaitGroup
	for i, app := range apps {
		wg.Go(func() { errs[i] = app.Stop() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

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
