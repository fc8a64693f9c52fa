package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/dapr-orders/e2e/stack"
)

// A part is a program of the running system, or the two programs of a replica. A person may
// break it.
type part struct {
	ID   string
	Name string // in a sentence: "the inventory service"

	// Start starts the part, and returns when it is ready. Processes returns what Start has
	// started; it is not called while Start runs.
	Start     func(context.Context) error
	Processes func() []*stack.Process

	// What it means that the part is gone, that it stands still, and that it is back.
	Gone, Still, Back string

	status   status         // guarded by parts.mu
	stop     func()         // ends the latest start
	settled  chan struct{}  // closed when that start has ended
	watchers sync.WaitGroup // end with the processes
}

// A status is what a part is doing.
type status string

const (
	statusAbsent   status = "not there" // it was never started
	statusStarting status = "starting"
	statusUp       status = "running"
	statusFrozen   status = "frozen"
	statusEnding   status = "ending"
	statusDown     status = "down"
)

// An action is what can be done to a part.
type action string

const (
	actionStart   action = "start"
	actionKill    action = "kill"
	actionFreeze  action = "freeze"
	actionThaw    action = "thaw"
	actionRestart action = "restart"
)

// actions are what can be done to a part, by its status.
var actions = map[status][]action{
	statusAbsent:   {actionStart},
	statusStarting: {actionKill},
	statusUp:       {actionKill, actionFreeze, actionRestart},
	statusFrozen:   {actionKill, actionThaw},
	statusEnding:   {},
	statusDown:     {actionStart},
}

// A state is what a page shows of a part.
type state struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Status  status   `json:"status"`
	Actions []action `json:"actions"`
}

// parts are the parts of a system. The journal gets their states.
type parts struct {
	ctx     context.Context // of the launcher
	journal *journal
	list    []*part // as they are shown

	acting sync.Mutex // held while an action begins
	mu     sync.Mutex
}

// newParts returns the parts of a running system. A part without processes was never started.
func newParts(ctx context.Context, journal *journal, list ...*part) *parts {
	ps := &parts{ctx: ctx, journal: journal, list: list}
	for _, p := range list {
		if len(p.Processes()) > 0 {
			ps.change(p, statusUp, "")
			ps.watch(p)
		} else {
			ps.change(p, statusAbsent, "")
		}
	}
	return ps
}

// partsOf returns the parts of the running system: the two apps, a second replica of the
// inventory service, which startSecond starts the first time, and Redis, unless the launcher
// found it running.
func partsOf(inventory, order *stack.App, startSecond func(context.Context) (*stack.App, error), redis *stack.Redis) []*part {
	only := func(process **stack.Process) func() []*stack.Process {
		return func() []*stack.Process { return []*stack.Process{*process} }
	}
	const (
		accepted = "Orders are still accepted: the broker keeps the events."
		takeover = " A second replica takes over what this one had 11 s after it was fetched."
	)
	var second *stack.App
	list := []*part{
		{
			ID: "order-sidecar", Name: "the order service's sidecar",
			Start: order.StartSidecar, Processes: only(&order.Sidecar),
			Gone:  "No order can be placed now. What is on its way already goes on.",
			Still: "A new order gets no answer. What is on its way already goes on.",
			Back:  "Orders are accepted again. An order that was sent again with its Idempotency-Key is applied once.",
		},
		{
			ID: "inventory", Name: "the inventory service",
			Start: inventory.StartService, Processes: only(&inventory.Service),
			Gone:  accepted + " The sidecar tries to deliver them until the service answers." + takeover,
			Still: accepted + " The sidecar waits for answers." + takeover,
			Back:  "It applies the orders that wait. It recognises those that it had applied without an answer.",
		},
		{
			ID: "inventory-sidecar", Name: "the inventory service's sidecar",
			Start: inventory.StartSidecar, Processes: only(&inventory.Sidecar),
			Gone: "Nothing reaches the service. " + accepted +
				" What this sidecar had fetched is handed to another, or to it when it is back, 11 s after it was fetched.",
			Still: "Nothing reaches the service. " + accepted + takeover,
			Back:  "It delivers what waits.",
		},
		{
			ID: "second", Name: "the second replica",
			Start: func(ctx context.Context) (err error) {
				if second == nil {
					second, err = startSecond(ctx)
					return err
				}
				if err := second.StartService(ctx); err != nil {
					return err
				}
				return second.StartSidecar(ctx)
			},
			Processes: func() []*stack.Process {
				if second == nil {
					return nil
				}
				return []*stack.Process{second.Sidecar, second.Service}
			},
			Gone:  "That is a machine that fails: service and sidecar. The first one goes on, and takes over what this one had 11 s after it was fetched.",
			Still: "The first one goes on, and takes over what this one had 11 s after it was fetched.",
			Back:  "Service and sidecar of its own, the same app ID: the broker gives each event to one of the two.",
		},
	}
	if redis.Process != nil {
		list = append(list, &part{
			ID: "redis", Name: "Redis, broker and state store in one",
			Start: redis.Restart, Processes: only(&redis.Process),
			Gone:  "Orders are refused, and none is applied. What it acknowledged is on the disk.",
			Still: "Orders get no answer, and none is applied.",
			Back:  "It has what it acknowledged. The sidecars find it again by themselves.",
		})
	}
	return list
}

// find returns a part by its ID, or nil.
func (ps *parts) find(id string) *part {
	if i := slices.IndexFunc(ps.list, func(p *part) bool { return p.ID == id }); i >= 0 {
		return ps.list[i]
	}
	return nil
}

// change sets the status of a part if its status is one of from, and reports whether it was.
func (ps *parts) change(p *part, to status, from ...status) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if !slices.Contains(from, p.status) {
		return false
	}
	p.status = to
	states, broken := make([]state, len(ps.list)), false
	for i, p := range ps.list {
		states[i] = state{p.ID, p.Name, p.status, actions[p.status]}
		broken = broken || p.status != statusUp && p.status != statusAbsent
	}
	ps.journal.setParts(states, broken)
	return true
}

func (ps *parts) status(p *part) status {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return p.status
}

// do does something to a part, or returns an error that says why that can't be done now.
// Ending and starting go on after do has returned.
func (ps *parts) do(p *part, do action) error {
	ps.acting.Lock()
	defer ps.acting.Unlock()
	now := ps.status(p)
	if !slices.Contains(actions[now], do) {
		return fmt.Errorf("%s is %s: it can't be made to %s", upper(p.Name), now, do)
	}
	// Meanwhile a start may end, or the part may end by itself: kill and restart allow for both.
	switch do {
	case actionKill:
		ps.change(p, statusDown, now, statusUp)
		p.settle()
		p.kill()
		ps.journal.say("%s was killed, as kill -9 does. %s", upper(p.Name), p.Gone)
	case actionFreeze:
		if err := p.each((*stack.Process).Freeze); err != nil {
			return err
		}
		ps.change(p, statusFrozen, now)
		ps.journal.say("%s stands still, as after kill -STOP: it is there and does nothing. %s", upper(p.Name), p.Still)
	case actionThaw:
		if err := p.each((*stack.Process).Thaw); err != nil {
			return err
		}
		ps.change(p, statusUp, now)
		ps.journal.say("%s goes on. %s", upper(p.Name), p.Back)
	case actionStart:
		ps.change(p, statusStarting, now)
		ps.start(p, func() {})
	case actionRestart:
		ps.journal.say("%s is asked to end, as kill does: it finishes what it has begun, and is then started again.", upper(p.Name))
		ps.change(p, statusEnding, now, statusDown)
		ps.start(p, func() {
			_ = p.each(func(process *stack.Process) error { return process.Stop(20 * time.Second) })
			ps.change(p, statusStarting, statusEnding)
		})
	}
	return nil
}

// start starts a part when first has returned.
func (ps *parts) start(p *part, first func()) {
	p.settle()
	ctx, cancel := context.WithCancel(ps.ctx)
	p.stop, p.settled = cancel, make(chan struct{})
	go func() {
		defer close(p.settled)
		defer cancel()
		first()
		p.watchers.Wait()
		err := p.Start(ctx)
		switch {
		case err == nil && ps.change(p, statusUp, statusStarting):
			ps.watch(p)
			ps.journal.say("%s is up. %s", upper(p.Name), p.Back)
		case err != nil && ps.change(p, statusDown, statusStarting) && ps.ctx.Err() == nil:
			p.kill() // one of two may have started
			ps.journal.say("%s did not start: %v", upper(p.Name), err)
		}
	}()
}

// watch notes it when a part that is up ends by itself.
func (ps *parts) watch(p *part) {
	for _, process := range p.Processes() {
		p.watchers.Go(func() {
			<-process.Done()
			// An action that ends a process has changed the status before.
			if ps.ctx.Err() == nil && ps.change(p, statusDown, statusUp, statusFrozen) {
				ps.journal.say("%s has ended by itself. %v", upper(p.Name), process.Ended())
				p.kill() // the other one of two
			}
		})
	}
}

// close ends the starts that are under way, and lets frozen parts go on, so that they can be
// asked to end. The context of the launcher has ended before.
func (ps *parts) close() {
	ps.acting.Lock() // for good
	for _, p := range ps.list {
		p.settle()
		if ps.status(p) == statusFrozen {
			_ = p.each((*stack.Process).Thaw) // fails only when it has ended
		}
	}
}

// settle ends a start that is under way.
func (p *part) settle() {
	if p.stop != nil {
		p.stop()
		<-p.settled
	}
}

func (p *part) kill() {
	for _, process := range p.Processes() {
		process.Kill()
	}
}

func (p *part) each(do func(*stack.Process) error) error {
	for _, process := range p.Processes() {
		if err := do(process); err != nil {
			return fmt.Errorf("%s: %w", process.Name, err)
		}
	}
	return nil
}

// upper returns a text with a capital letter.
func upper(text string) string { return strings.ToUpper(text[:1]) + text[1:] }
