package once

import (
	"context"
	"errors"
	"maps"
	"testing"

	"github.com/matryer/is"
)

// A cutOff store is a primary that has lost its synchronous replicas: it acknowledges no
// save, since no replica has it, but has it itself, and may let everybody read it. When a
// replica has taken its place, all of that is gone.
type cutOff struct {
	*memoryStore
	promised *memoryStore // what the replica has; nil while nothing is cut off
}

func (s *cutOff) cut() {
	s.promised = &memoryStore{values: maps.Clone(s.values), etags: maps.Clone(s.etags), writes: s.writes}
}

func (s *cutOff) failOver() { s.memoryStore, s.promised = s.promised, nil }

func (s *cutOff) save(ctx context.Context, writes []write) error {
	err := s.memoryStore.save(ctx, writes)
	if s.promised != nil {
		err = errors.Join(err, errFailed)
	}
	return err
}

// What a store shows is not what it keeps: an event that is in a record by a save that
// was never acknowledged may be gone with the server that shows it.
func TestNothingIsAnsweredOnTheWordOfAPrimaryThatIsCutOff(t *testing.T) {
	for name, prepare := range map[string]func(*Inbox[int64]){
		"the first event of all": func(*Inbox[int64]) {},
		"a later one": func(in *Inbox[int64]) {
			in.Apply(t.Context(), event("before", "apple"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			store := &cutOff{memoryStore: &memoryStore{}}
			in := newTestInbox(store)
			prepare(in)
			in.settle()
			before, err := in.Get(t.Context(), "apple")
			is.NoErr(err)

			store.cut()
			order := lower(testID("e1"), "apple", 10)
			if r := in.Apply(t.Context(), order)[0]; r.Err == nil {
				t.Errorf("the event is counted in the one place that will be lost: %+v", r)
			}
			another := newTestInbox(store)
			if r := another.Apply(t.Context(), order)[0]; r.Err == nil {
				t.Errorf("delivered again, it is believed to be counted: %+v", r)
			}
			if err := in.Set(t.Context(), "apple", 500); err == nil {
				t.Error("the value is set in the one place that will be lost")
			}

			store.failOver()
			got := another.Apply(t.Context(), order)[0]
			is.Equal(got, Result[int64]{Before: before, After: before - 10})
			is.Equal(another.Apply(t.Context(), order)[0], Result[int64]{Duplicate: true})
		})
	}
}
