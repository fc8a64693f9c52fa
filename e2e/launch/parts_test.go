package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"example.com/dapr-orders/e2e/stack"
)

// A sleeper is a part whose program does nothing.
type sleeper struct {
	part    *part
	process *stack.Process
	fails   error
	ready   chan struct{} // Start waits until it is closed, or for ever if it is nil
}

func newSleeper(t *testing.T, id string) *sleeper {
	t.Helper()
	s := &sleeper{ready: make(chan struct{})}
	close(s.ready)
	s.part = &part{
		ID: id, Name: "the sleeper", Gone: "It is missed.", Still: "It waits.", Back: "All is well.",
		Start: func(ctx context.Context) (err error) {
			if s.fails != nil {
				return s.fails
			}
			if s.process, err = stack.Start(stack.Command{Name: "sleeper", Path: "sleep", Args: []string{"60"}}); err != nil {
				return err
			}
			select {
			case <-s.ready:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
		Processes: func() []*stack.Process {
			if s.process == nil {
				return nil
			}
			return []*stack.Process{s.process}
		},
	}
	if err := s.part.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.process.Kill() })
	return s
}

func (s *sleeper) runs() bool { return s.process.Ended() == nil }

// becomes waits until a part has a status.
func becomes(t *testing.T, ps *parts, p *part, want status) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ps.status(p) != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it is %s, not %s", ps.status(p), want)
		}
	}
}

// latestNote waits for a note, which is written after the status has changed.
func latestNote(t *testing.T, j *journal, want string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		notes := j.all().Notes
		if len(notes) > 0 && strings.HasPrefix(notes[len(notes)-1].Text, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the latest note is not %q: %v", want, notes)
		}
	}
}

func TestAPartIsBrokenAndMended(t *testing.T) {
	is := is.New(t)
	s := newSleeper(t, "sleeper")
	j := newJournal(time.Now)
	ps := newParts(t.Context(), j, s.part)
	p := s.part

	is.NoErr(ps.do(p, actionFreeze))
	is.True(j.wellFrom.IsZero()) // something is broken
	latestNote(t, j, "The sleeper stands still, as after kill -STOP: it is there and does nothing. It waits.")
	var notNow errNotNow
	is.True(errors.As(ps.do(p, actionRestart), &notNow)) // one that stands still does not hear that it is to end
	is.NoErr(ps.do(p, actionThaw))
	latestNote(t, j, "The sleeper goes on. All is well.")
	is.True(!j.wellFrom.IsZero())

	first := s.process
	is.NoErr(ps.do(p, actionRestart))
	becomes(t, ps, p, statusUp)
	is.True(first.Ended() != nil)
	is.True(s.runs())
	latestNote(t, j, "The sleeper is up. All is well.")

	is.NoErr(ps.do(p, actionKill))
	is.True(!s.runs())
	latestNote(t, j, "The sleeper was killed, as kill -9 does. It is missed.")
	is.True(errors.As(ps.do(p, actionKill), &notNow))

	s.fails = errors.New("there is no bed")
	is.NoErr(ps.do(p, actionStart))
	becomes(t, ps, p, statusDown)
	latestNote(t, j, "The sleeper did not start: there is no bed")
	s.fails = nil
	is.NoErr(ps.do(p, actionStart))
	becomes(t, ps, p, statusUp)

	s.process.Kill() // by somebody else
	becomes(t, ps, p, statusDown)
	latestNote(t, j, "The sleeper has ended by itself.")
}

func TestAPartThatDoesNotGetReadyCanBeKilled(t *testing.T) {
	is := is.New(t)
	s := newSleeper(t, "sleeper")
	j := newJournal(time.Now)
	ps := newParts(t.Context(), j, s.part)
	is.NoErr(ps.do(s.part, actionKill))
	s.ready = nil
	is.NoErr(ps.do(s.part, actionStart))
	is.NoErr(ps.do(s.part, actionKill))
	is.True(!s.runs())
	becomes(t, ps, s.part, statusDown)
	latestNote(t, j, "The sleeper was killed")
}

func TestPartsThatStandStillAreLetGoAtTheEnd(t *testing.T) {
	is := is.New(t)
	s := newSleeper(t, "sleeper")
	ctx, cancel := context.WithCancel(t.Context())
	ps := newParts(ctx, newJournal(time.Now), s.part)
	is.NoErr(ps.do(s.part, actionFreeze))
	cancel()
	ps.close()
	is.NoErr(s.process.Stop(10 * time.Second)) // it hears that it is to end
}
