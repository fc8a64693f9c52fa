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

// A part is a program of the running system, or the two of a replica, which a person
// may break.
type part struct {
	ID   string
	Name string // "inventory's sidecar", as it stands in a sentence

	// Start starts it, and returns when it is ready. Processes returns what it has
	// started; it is not called while Start runs.
	Start     func(context.Context) error
	Processes func() []*stack.Process

	// What it means that it is gone, that it stands still, and that it is back.
	Gone, Still, Back string

	acting  sync.Mutex // while something is done to it
	status  status     // guarded by parts.mu
	runs    int        // how often it came up; guarded by parts.mu
	cancel  context.CancelFunc
	settled chan struct{} // closed when what cancel cancels has ended
}

// A status is what a part is doing.
type status string

const (
	statusAbsent   status = "not there" // nobody has started it
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

// actions returns what can be done to a part that is doing this.
func (s status) actions() []action {
	switch s {
	case statusUp:
		return []action{actionKill, actionFreeze, actionRestart}
	case statusFrozen:
		return []action{actionKill, actionThaw}
	case statusStarting:
		return []action{actionKill}
	case statusEnding:
		return []action{}
	default:
		return []action{actionStart}
	}
}

// A state is what a page shows of a part.
type state struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Status  status   `json:"status"`
	Actions []action `json:"actions"`
}

// parts are all that can be broken.
type parts struct {
	ctx     context.Context // of the launcher
	journal *journal
	list    []*part // as they are shown

	mu      sync.Mutex
	changed bool // since the latest call of news
}

// newParts returns the parts of a system that runs, but for those that have no
// processes: they are not there yet.
func newParts(ctx context.Context, journal *journal, list ...*part) *parts {
	ps := &parts{ctx: ctx, journal: journal, list: list}
	for _, p := range list {
		p.status = statusUp
		if len(p.Processes()) == 0 {
			p.status = statusAbsent
		}
		ps.watch(p)
	}
	return ps
}

// find returns a part by its ID, or nil.
func (ps *parts) find(id string) *part {
	for _, p := range ps.list {
		if p.ID == id {
			return p
		}
	}
	return nil
}

// states returns what to show of the parts.
func (ps *parts) states() []state {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	states := make([]state, len(ps.list))
	for i, p := range ps.list {
		states[i] = state{p.ID, p.Name, p.status, p.status.actions()}
	}
	return states
}

// news returns the states if one has changed since it was called last, or else nil.
func (ps *parts) news() []state {
	ps.mu.Lock()
	changed := ps.changed
	ps.changed = false
	ps.mu.Unlock()
	if !changed {
		return nil
	}
	return ps.states()
}

// change sets the status of a part, if it has one of those that it may come from.
func (ps *parts) change(p *part, to status, from ...status) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if !slices.Contains(from, p.status) {
		return false
	}
	p.status = to
	ps.changed = true
	ps.journal.setWell(!slices.ContainsFunc(ps.list, func(p *part) bool {
		return p.status != statusUp && p.status != statusAbsent
	}))
	return true
}

func (ps *parts) status(p *part) status {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return p.status
}

// An errNotNow says that something can't be done to a part as it is.
type errNotNow struct{ text string }

func (e errNotNow) Error() string { return e.text }

// do does something to a part. What takes long, ending and starting, goes on after it
// has returned.
func (ps *parts) do(p *part, do action) error {
	if !p.acting.TryLock() {
		return errNotNow{upper(p.Name) + " is being acted on: try again"}
	}
	defer p.acting.Unlock()
	now := ps.status(p)
	if !slices.Contains(now.actions(), do) {
		return errNotNow{fmt.Sprintf("%s is %s: it can't be made to %s", upper(p.Name), now, do)}
	}
	switch do {
	case actionKill:
		ps.change(p, statusDown, now)
		p.settle()
		for _, process := range p.Processes() {
			process.Kill()
		}
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
		ps.begin(p, now, statusStarting)
	case actionRestart:
		ps.journal.say("%s is asked to end, as kill does: it finishes what it has begun, and is then started again.", upper(p.Name))
		ps.begin(p, now, statusEnding)
	}
	return nil
}

// begin has a part end, if that is how it begins, and then start.
func (ps *parts) begin(p *part, now, first status) {
	ctx, cancel := context.WithCancel(ps.ctx)
	p.cancel, p.settled = cancel, make(chan struct{})
	ps.change(p, first, now)
	go func() {
		defer close(p.settled)
		defer cancel()
		if first == statusEnding {
			_ = p.each(func(process *stack.Process) error { return process.Stop(20 * time.Second) })
			ps.change(p, statusStarting, statusEnding)
		}
		if err := p.Start(ctx); err == nil {
			if ps.change(p, statusUp, statusStarting) {
				ps.journal.say("%s is up. %s", upper(p.Name), p.Back)
				ps.watch(p)
			}
		} else if ps.change(p, statusDown, statusStarting) && ps.ctx.Err() == nil {
			for _, process := range p.Processes() {
				process.Kill() // one of two may have started
			}
			ps.journal.say("%s did not start: %v", upper(p.Name), err)
		}
	}()
}

// watch notes it when a part that is up ends by itself.
func (ps *parts) watch(p *part) {
	ps.mu.Lock()
	p.runs++
	run := p.runs
	ps.mu.Unlock()
	for _, process := range p.Processes() {
		go func() {
			<-process.Done()
			// Whoever ends it on purpose has changed its status before.
			ps.mu.Lock()
			same := p.runs == run && ps.ctx.Err() == nil
			ps.mu.Unlock()
			if same && ps.change(p, statusDown, statusUp, statusFrozen) {
				ps.journal.say("%s has ended by itself. %v", upper(p.Name), process.Ended())
			}
		}()
	}
}

// close ends what is being done to the parts, and lets those that stand still go on, so
// that they can be asked to end. The context of the launcher has ended before.
func (ps *parts) close() {
	for _, p := range ps.list {
		p.acting.Lock() // for good
		p.settle()
		if ps.status(p) == statusFrozen {
			_ = p.each((*stack.Process).Thaw) // fails only when it has ended
		}
	}
}

// settle ends a start that is under way.
func (p *part) settle() {
	if p.cancel != nil {
		p.cancel()
		<-p.settled
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
