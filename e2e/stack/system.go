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

	// Each completes the options of every app before it is started. It may be nil.
	Each func(*AppOptions)

	mu   sync.Mutex
	apps []*App // in the order in which they were started
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
		return s, writeGiven(b.Folder, s.Resources, b.Given, s.Broker, s.State)
	}
	return s, WriteComponents(filepath.Join(p.Root, filepath.FromSlash(b.Folder)), s.Resources, s.Broker, s.State)
}

// Start starts apps, all at the same time, and waits until they are ready. It returns
// them in the order of their options; when one does not start, an error. While a SQLite
// database is not there, they are started one after the other, so that one makes it.
func (s *System) Start(ctx context.Context, options ...AppOptions) ([]*App, error) {
	apps, errs := make([]*App, len(options)), make([]error, len(options))
	var wg sync.WaitGroup
	for i, o := range options {
		o.Daprd = cmp.Or(o.Daprd, s.Project.Daprd)
		o.Resources = cmp.Or(o.Resources, s.Resources)
		if s.Each != nil {
			s.Each(&o)
		}
		if db, ok := s.State.(*SQLite); ok && !db.Created() {
			apps[i], errs[i] = StartApp(ctx, o)
			continue
		}
		wg.Go(func() { apps[i], errs[i] = StartApp(ctx, o) })
	}
	wg.Wait()
	s.mu.Lock()
	s.apps = append(s.apps, slices.DeleteFunc(slices.Clone(apps), func(a *App) bool { return a == nil })...)
	s.mu.Unlock()
	return apps, errors.Join(errs...)
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
