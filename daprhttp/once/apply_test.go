package once

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/matryer/is"

	"example.com/dapr-orders/daprhttp"
)

// Some events have ids with a time, others have not. Their IDs leave the records meanwhile.
func TestConcurrentReplicasApplyEveryEventOnce(t *testing.T) {
	const replicas, events, keys, deliveries = 3, 240, 3, 3
	testStores(t, func(t *testing.T, s store) {
		is := is.New(t)
		prefix := newKey(t)
		key := func(i int) string { return fmt.Sprintf("%s/%d", prefix, i%keys) }
		for i := range keys {
			is.NoErr(newInbox[int64](s).Set(t.Context(), key(i), 1000))
		}
		var inboxes []*Inbox[int64]
		for i := range replicas {
			inboxes = append(inboxes, newTestInbox(flaky(s, uint64(i)), 5))
		}
		var changes []Change[int64]
		var wg sync.WaitGroup
		for i := range events {
			id := prefix + strconv.Itoa(i)
			if i%2 == 0 {
				id = uuid(time.Now(), i) + "." + prefix
			}
			c := event(id, key(i))
			changes = append(changes, c)
			for delivery := range deliveries {
				wg.Go(func() { must(t, inboxes[(i+delivery)%replicas], c) })
			}
		}
		wg.Wait()
		for _, in := range inboxes {
			in.settle()
		}
		last := newTestInbox(s, 5) // prunes each record, whatever failed before
		for i := range keys {
			must(t, last, event(prefix+" last", key(i)))
		}
		last.settle()
		mustBeDuplicates(t, s, changes)
		for i := range keys {
			r := storedRecord(t, s, key(i))
			is.Equal(r.Value, int64(1000-events/keys-1))
			is.True(r.Watermark != "") // IDs have left
			is.True(r.IDs.len() < events/keys)
		}
	})
}

func TestOneEventChangesManyKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		in := newTestInbox(&memoryStore{}, 0)
		is.Equal(must(t, in, event("e1", "apple")), Result[int64]{After: -1})
		in.settle() // the ID has left the record of apple
		must(t, in, event("e2", "pear"))
		in.settle() // the record of pear has a watermark
		is.Equal(must(t, in, event("e1", "pear")), Result[int64]{Before: -1, After: -2})
		in.settle()
		is.Equal(must(t, in, event("e1", "apple")), duplicate)
		is.Equal(must(t, in, event("e1", "pear")), duplicate)
	})
}

func TestValuesOfAnyTypeAreKept(t *testing.T) {
	type sales struct {
		Orders int      `json:"orders"`
		Names  []string `json:"names"`
	}
	testStores(t, func(t *testing.T, s store) {
		testValue(t, s, sales{3, []string{"<0>", "1"}})
		testValue(t, s, int64(daprhttp.MaxInteger))
		testValue(t, s, []string(nil)) // null
	})
}

func testValue[V any](t *testing.T, s store, value V) {
	in, key := newInbox[V](s), newKey(t)
	change := func(id string) Change[V] {
		return Change[V]{Key: key, ID: EventID(key, id), Apply: func(before V) (V, error) {
			if id == "e2" && !cmp.Equal(before, value) {
				t.Errorf("the value is %v, want %v", before, value)
			}
			return value, nil
		}}
	}
	for i, id := range []string{"e1", "e2", "e1"} {
		r, err := in.Apply(t.Context(), change(id))
		if err != nil || r.Duplicate != (i == 2) {
			t.Errorf("%s of %v: %+v, %v", id, value, r, err)
		}
	}
	var zero V
	for _, v := range []V{zero, value} { // each Set counts, even two of one moment
		if err := in.Set(t.Context(), key, v); err != nil {
			t.Error(err)
		}
	}
	if got, err := in.Get(t.Context(), key); err != nil || !cmp.Equal(got, value) {
		t.Errorf("the value is %v, want %v; %v", got, value, err)
	}
}

func TestWaitingChangesAreSavedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		s, goOn := hold(memory)
		in := newInbox[int64](s)
		for i := range 100 {
			go must(t, in, event(strconv.Itoa(i), "apple"))
		}
		go must(t, in, event("0", "apple")) // an event delivered twice
		synctest.Wait()
		is.Equal(in.Stats(), Stats{Waiting: 101})
		time.Sleep(time.Second)
		is.Equal(in.Stats().Oldest, time.Second)
		close(goOn)
		in.settle()
		synctest.Wait()
		is.Equal(memory.writes, 1)
		is.Equal(in.Stats(), Stats{Commits: 1})
		is.Equal(storedRecord(t, memory, "apple").Value, int64(-100))
	})
}

// A refused change delays no change in the same commit.
func TestRefusedChangeIsAFinalErrorOfThatChangeAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		soldOut := errors.New("sold out")
		changes := map[string]Change[float64]{ // by error
			"sold out":                             {"apple", testID("e1"), func(float64) (float64, error) { return 5, soldOut }},
			"Apply panicked: no apple":             {"apple", testID("e2"), func(float64) (float64, error) { panic("no apple") }},
			"json: unsupported value: NaN":         {"apple", testID("e3"), func(float64) (float64, error) { return math.NaN(), nil }},
			`"e4" is not an ID: EventID makes IDs`: {"apple", "e4", nil},
			`"--------\n--------\r------" is not an ID: EventID makes IDs`:  {"apple", "--------\n--------\r------", nil},
			`"\xff-----------------------" is not an ID: EventID makes IDs`: {"apple", "\xff-----------------------", nil},
			"key must not be empty": {"", testID("e5"), nil},
			"":                      {"apple", testID("e6"), func(v float64) (float64, error) { return v + 1, nil }},
		}
		s, goOn := hold(&memoryStore{})
		in := newInbox[float64](s)
		for want, c := range changes {
			go func() {
				is := is.New(t)
				r, err := in.Apply(t.Context(), c)
				if want == "" {
					is.NoErr(err)
					is.Equal(r, Result[float64]{After: 1})
					return
				}
				is.Equal(err.Error(), want)
				is.True(errors.Is(err, ErrFinal))
				is.Equal(errors.Is(err, soldOut), want == "sold out")
			}()
		}
		synctest.Wait()
		close(goOn)
		in.settle()
		synctest.Wait()
	})
}

// A save may take effect although it failed. The result is that of a new change, even if
// other replicas have saved since, and the name of the commit has left the record before
// the save that answers.
func TestFailedSaveThatTookEffectIsRecognised(t *testing.T) {
	is := is.New(t)
	memory := &memoryStore{}
	events := 0
	rivals := func(n int) {
		for range n {
			events++
			must(t, newInbox[int64](memory), event(strconv.Itoa(events), "apple"))
		}
	}
	failed := false
	s := failOnce(memory, func(c call) {
		failed = true
		_ = c.do()
		rivals(5)
	})
	in := newInbox[int64](hooked{s, func(c call) error {
		err := c.do()
		if failed && c.method == "read" { // this read shows the commit, the next one does not
			failed = false
			rivals(maxCommits + 1)
		}
		return err
	}})
	is.Equal(must(t, in, lower(testID("e1"), "apple", 10)), Result[int64]{Before: 0, After: -10})
}

// A save takes effect late. Meanwhile its second change was planned again, and refused,
// because the caller of the first one had gone. The refusal must not be the answer.
func TestChangeOfALateSaveIsNotRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		memory := &memoryStore{}
		saves := 0
		var late func() error
		in := newInbox[int64](hooked{memory, func(c call) error {
			if c.method == "read" && saves == 0 {
				time.Sleep(time.Second) // until both changes wait
			}
			if c.method == "save" {
				saves++
			}
			switch {
			case c.method == "save" && saves == 1:
				late = c.do
				time.Sleep(3 * time.Second)
				return errFailed
			case c.method == "save" && saves == 2:
				is.NoErr(late())
			}
			return c.do()
		}})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		go func() { _, _ = in.Apply(ctx, lower(testID("e1"), "apple", -10)) }()
		synctest.Wait()
		got := must(t, in, Change[int64]{"apple", testID("e2"), func(v int64) (int64, error) {
			if v < 10 {
				return 0, errors.New("there are not enough")
			}
			return v - 10, nil
		}})
		in.settle()
		is.Equal(got, Result[int64]{Duplicate: true})
		is.Equal(storedRecord(t, memory, "apple").Value, int64(0))
	})
}

// Another program's value stays, even if the event was applied before that value was written.
func TestForeignValueIsNotOverwrittenByADuplicate(t *testing.T) {
	is := is.New(t)
	memory := &memoryStore{}
	memory.put("apple", prunedRecord(100, "tttt"))
	late := lower(testID("t"), "apple", 1)
	is.NoErr(memory.mark(t.Context(), "apple", idSet(late.ID)))
	const foreign = `"another program's value"`
	in := newInbox[int64](failOnce(memory, func(call) { memory.put("apple", foreign) }))
	_, err := in.Apply(t.Context(), late)
	is.True(errors.Is(err, ErrFinal))
	is.Equal(string(memory.values["apple"].value), foreign)
}

// Nor does a Set that fails overwrite it.
func TestForeignValueIsNotOverwrittenByASetThatFails(t *testing.T) {
	for _, foreign := range []string{`"precious"`, `[1,2,3]`, `null`} {
		is := is.New(t)
		memory := &memoryStore{}
		memory.put("apple", foreign)
		in := newInbox[map[string]float64](memory)
		is.True(errors.Is(in.Set(t.Context(), "apple", map[string]float64{"weight": math.NaN()}), ErrFinal))
		if foreign != `null` {
			is.Equal(string(memory.values["apple"].value), foreign)
		}
		is.NoErr(in.Set(t.Context(), "apple", map[string]float64{"weight": 1}))
		value, err := in.Get(t.Context(), "apple")
		is.NoErr(err)
		is.Equal(value["weight"], 1.0)
	}
}

// A late change could undo a newer value that its caller has set since. Another delivery of
// its event still waits.
func TestCancelledChangesAreNotApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s, goOn := hold(&memoryStore{})
		in := newInbox[int64](s)
		ctx, leave := context.WithCancel(t.Context())
		var set, gone error
		go func() { set = in.Set(ctx, "apple", 100) }()
		go func() { _, gone = in.Apply(ctx, event("e1", "apple")) }()
		synctest.Wait()
		var got Result[int64]
		go func() { got = must(t, in, event("e1", "apple")) }()
		synctest.Wait()
		leave()
		synctest.Wait()
		is.Equal(set, context.Canceled)
		is.Equal(gone, context.Canceled)
		close(goOn)
		in.settle()
		synctest.Wait()
		is.Equal(got, Result[int64]{After: -1})
	})
}

// hidden has no JSON while it is empty.
type hidden string

func (h hidden) MarshalText() ([]byte, error) {
	if h == "" {
		return nil, errors.New("hidden is empty")
	}
	return []byte(h), nil
}

func (h *hidden) UnmarshalText(text []byte) error { *h = hidden(text); return nil }

// fragile has methods that panic without a target.
type fragile struct{ n *int }

func (f fragile) MarshalJSON() ([]byte, error) { return json.Marshal(*f.n) }

func (f *fragile) UnmarshalJSON([]byte) error { *f.n = 1; return nil }

// A panic of the value's methods must not end the program either.
func TestValueWhoseMethodsPanicIsAFinalError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := &memoryStore{}
		in := newInbox[fragile](s)
		refused := errors.New("refused")
		_, err := in.Apply(t.Context(), Change[fragile]{"a", testID("e1"), func(fragile) (fragile, error) { return fragile{}, refused }})
		is.True(errors.Is(err, ErrFinal) && errors.Is(err, refused))
		s.put("b", "5")
		_, err = in.Get(t.Context(), "b")
		is.True(err != nil)
		_, err = in.Apply(t.Context(), Change[fragile]{"b", testID("e1"), func(f fragile) (fragile, error) { return f, nil }})
		is.True(errors.Is(err, ErrFinal))
		s.put("c", `{"once":2,"value":5}`)
		_, err = in.Get(t.Context(), "c")
		is.True(err != nil)
	})
}

// The value before a change need not have JSON: a new key's zero value may have none.
func TestValueWithoutJSONIsAFinalError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		is := is.New(t)
		s := &memoryStore{}
		type record struct{ Done func() }
		_, err := newInbox[record](s).Apply(t.Context(), Change[record]{"a", testID("e1"), func(record) (record, error) { return record{func() {}}, nil }})
		is.True(errors.Is(err, ErrFinal))
		is.True(errors.Is(newInbox[chan int](s).Set(t.Context(), "b", nil), ErrFinal))

		in := newInbox[hidden](s)
		refused := errors.New("refused")
		_, err = in.Apply(t.Context(), Change[hidden]{"c", testID("e1"), func(hidden) (hidden, error) { return "", refused }})
		is.True(errors.Is(err, ErrFinal) && errors.Is(err, refused))
		_, err = in.Apply(t.Context(), Change[hidden]{"c", testID("e2"), func(h hidden) (hidden, error) { return h + "x", nil }})
		is.NoErr(err)
		got, err := in.Get(t.Context(), "c")
		is.NoErr(err)
		is.Equal(got, hidden("x"))

		// Otherwise the zero value of a new key is saved as it is: null may be no value.
		_, err = newInbox[int64](s).Apply(t.Context(), Change[int64]{"d", testID("e1"), func(int64) (int64, error) { return 0, refused }})
		is.True(errors.Is(err, refused))
		is.Equal(string(storedRecord(t, s, "d").JSON), "0")
	})
}
