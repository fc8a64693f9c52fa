package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

// A sleeper is a part of two programs that do nothing.
type sleeper struct {
	*parts
	*part
	programs []*stack.Process
	ready    func(context.Context) error // what Start returns once the programs run
}

// newSleeper returns a sleeper that runs, the only part of a system.
func newSleeper(ctx context.Context, t *testing.T, id string) *sleeper {
	s := &sleeper{ready: func(context.Context) error { return nil }}
	s.part = &part{
		ID: id, Name: "the sleeper", Gone: "It is missed.", Still: "It waits.", Back: "All is well.",
		Processes: func() []*stack.Process { return s.programs },
		Start: func(ctx context.Context) error {
			s.programs = nil
			for range 2 {
				program, err := stack.Start(stack.Command{Name: "sleeper", Path: "sleep", Args: []string{"60"}})
				if err != nil {
					return err
				}
				s.programs = append(s.programs, program)
			}
			return s.ready(ctx)
		},
	}
	harness.Must(t, s.Start(ctx))
	t.Cleanup(func() { s.kill() })
	s.parts = newParts(ctx, newJournal(time.Now), s.part)
	return s
}

func (s *sleeper) do(do action) error { return s.parts.do(s.part, do) }

// running returns how many of the programs run.
func (s *sleeper) running() (n int) {
	for _, program := range s.programs {
		if program.Ended() == nil {
			n++
		}
	}
	return n
}

// becomes waits until the sleeper has a status, and for the note that says so.
func (s *sleeper) becomes(t *testing.T, want status, note string) {
	t.Helper()
	harness.WaitFor(t, 20*time.Second, func() error {
		now, notes := s.parts.status(s.part), s.journal.news(0).Notes
		if now != want || len(notes) == 0 || !strings.HasPrefix(notes[len(notes)-1].Text, note) {
			return fmt.Errorf("the sleeper is %s, want %s; the notes are %v, want %q", now, want, notes, note)
		}
		return nil
	})
}

func TestAPartIsBrokenAndMended(t *testing.T) {
	is := is.New(t)
	s := newSleeper(t.Context(), t, "sleeper")

	is.NoErr(s.do(actionFreeze))
	is.True(s.journal.healthySince.IsZero()) // something is broken
	s.becomes(t, statusFrozen, "The sleeper stands still, as after kill -STOP: it is there and does nothing. It waits.")
	is.Equal(s.do(actionRestart).Error(), "The sleeper is frozen: it can't be made to restart") // it would not hear that it is to end
	is.NoErr(s.do(actionThaw))
	s.becomes(t, statusUp, "The sleeper goes on. All is well.")
	is.True(!s.journal.healthySince.IsZero())

	first := s.programs[0]
	is.NoErr(s.do(actionRestart))
	s.becomes(t, statusUp, "The sleeper is up. All is well.")
	is.True(first.Ended() != nil)
	is.Equal(s.running(), 2)

	is.NoErr(s.do(actionKill))
	is.Equal(s.running(), 0)
	s.becomes(t, statusDown, "The sleeper was killed, as kill -9 does. It is missed.")
	is.True(s.do(actionKill) != nil)

	s.ready = func(context.Context) error { return errors.New("there is no bed") }
	is.NoErr(s.do(actionStart))
	s.becomes(t, statusDown, "The sleeper did not start: there is no bed")
	is.Equal(s.running(), 0)
	for _, note := range s.journal.news(0).Notes {
		is.True(!strings.Contains(note.Text, "by itself"))
	}
}

// It may get ready at the moment when it is killed.
func TestAPartThatStartsCanBeKilled(t *testing.T) {
	is := is.New(t)
	s := newSleeper(t.Context(), t, "sleeper")
	is.NoErr(s.do(actionKill))
	settled := false
	s.ready = func(ctx context.Context) error { <-ctx.Done(); settled = true; return nil }
	is.NoErr(s.do(actionStart))
	is.NoErr(s.do(actionKill))
	is.True(settled)
	is.Equal(s.running(), 0)
	s.becomes(t, statusDown, "The sleeper was killed")
	is.Equal(len(s.journal.news(0).Notes), 2) // it was killed twice, and is not up in between
}

// Of a replica, the sidecar may end and the service run on. Then the service ends, too.
func TestAPartThatEndsByItselfEndsWhole(t *testing.T) {
	is := is.New(t)
	s := newSleeper(t.Context(), t, "sleeper")
	old := s.programs
	old[0].Kill()
	s.becomes(t, statusDown, "The sleeper has ended by itself.")
	is.NoErr(s.do(actionStart))
	s.becomes(t, statusUp, "The sleeper is up.")
	is.True(old[1].Ended() != nil)
	is.Equal(s.running(), 2)
}

func TestFrozenPartsGoOnAtTheEnd(t *testing.T) {
	is := is.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	s := newSleeper(ctx, t, "sleeper")
	is.NoErr(s.do(actionFreeze))
	harness.WaitFor(t, 10*time.Second, func() error {
		state, err := exec.Command("ps", "-o", "stat=", "-p", fmt.Sprint(s.programs[0].PID())).Output()
		if err == nil && !strings.HasPrefix(string(state), "T") {
			err = fmt.Errorf("the frozen program's state is %s", state)
		}
		return err
	})
	cancel()
	s.close()
	is.NoErr(s.programs[0].Stop(10 * time.Second)) // it hears that it is to end
}
