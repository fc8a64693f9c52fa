package once

import (
	"cmp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// A scenario is run in every order of the replicas' requests, with every fault at every
// request (schedule_test.go). After each run, a new replica gets the changes that were not
// acknowledged, as Dapr would redeliver them. Then it gets every change again.
type scenario struct {
	start      string            // the record of apple; empty: none
	markers    map[string]string // the other content of the store
	deliveries []handover
	faults     int   // the most faults in one run
	failover   bool  // the store is cut off from its replica, which later takes its place
	cutFor     int   // how many calls the store serves while it is cut off, at most; 0: three
	long       bool  // it has more than 2,000 runs
	keep       int   // how many recent IDs a record keeps
	maxIDs     int   // how many IDs a record has room for; 0: 1000
	sharing    bool  // even a single ID gets a marker that later IDs could share
	want       int64 // the value of apple in the end
}

// A handover delivers changes to a replica, one after another.
type handover struct {
	to      int // A or B
	changes []Change[int64]
}

func TestEveryInterleavingAppliesEachEventOnce(t *testing.T) {
	const A, B = 0, 1
	to := func(replica int, changes ...Change[int64]) handover { return handover{replica, changes} }
	order := func(name string, by int64) Change[int64] { return lower(testID(name), "apple", by) }
	e1, e2, e3 := order("e1", 10), order("e2", 5), order("e3", 1)
	// The events with times: t0 is the first, t1 and t2 are of the same moment, t4 is the last.
	t0, t1, t2, t4 := order("t", 10), order("t1", 1), order("t2", 10), order("tttt", 1)
	hundred := testRecord(100)
	quoted := func(id ID) string { return `"` + string(id) + `"` }

	for name, s := range map[string]scenario{
		"one event, two replicas": {
			start: hundred, keep: 2, faults: 2, long: true, deliveries: []handover{to(A, e1), to(B, e1)}, want: 90,
		},
		"one event, one replica, four faults": {
			start: hundred, faults: 4, long: true, deliveries: []handover{to(A, e1)}, want: 90,
		},
		"one event that is marked at once, two replicas": {
			start: hundred, faults: 1, long: true, deliveries: []handover{to(A, e1), to(B, e1)}, want: 90,
		},
		"two events, two replicas": {
			start: hundred, keep: 2, faults: 2, long: true, deliveries: []handover{to(A, e1), to(B, e2)}, want: 85,
		},
		"two events that are marked at once, two replicas": {
			start: hundred, deliveries: []handover{to(A, e1), to(B, e2)}, want: 85,
		},
		"one event, redelivered while its ID leaves the record": {
			start: hundred, long: true, deliveries: []handover{to(A, e1, e2), to(B, e1)}, want: 85,
		},
		"an event whose replica died before it was marked": {
			start: testRecord(90, "e1"), keep: 1, faults: 1, deliveries: []handover{to(A, e2), to(B, e1)}, want: 85,
		},
		"a new item": {
			keep: 2, faults: 1, deliveries: []handover{to(A, e1), to(B, e2)}, want: -15,
		},
		"an event that comes late, twice": {
			start: testRecord(100, "tt"), deliveries: []handover{to(A, t0), to(B, t0)}, want: 90,
		},
		"a record of version 1": {
			start: `{"value":100,"latest":` + quoted(testID("ttt")) +
				`,"older":"` + string(setOf([]ID{t0.ID, testID("tt")})) + `","watermark":` + quoted(t0.ID) + `,"commits":"X.1"}`,
			markers: map[string]string{"~" + string(e1.ID): quoted(e1.ID)}, keep: 1,
			deliveries: []handover{to(A, t4), to(B, e1)}, want: 99,
		},
		"events whose IDs have left the record, in one commit": {
			start: prunedRecord(90, "t"), keep: 3, faults: 1,
			markers:    map[string]string{markerKey("apple", e1.ID): quoted(e1.ID), markerKey("apple", e2.ID): quoted(e2.ID)},
			deliveries: []handover{to(A, e1), to(A, e2), to(A, e3)}, want: 89,
		},
		"a look-up that finds no marker, while an ID leaves": {
			start:      `{"once":2,"value":100,"ids":` + quoted(t1.ID) + `,"pruned":"X.1","watermark":` + quoted(t2.ID) + `}`,
			deliveries: []handover{to(A, e1), to(B, e1)}, want: 90,
		},
		"an ID that leaves while another replica looks for it": {
			start: prunedRecord(100, "t2"), deliveries: []handover{to(A, e1), to(B, e1)}, want: 90,
		},
		"events of one moment share a marker, and one is redelivered": {
			start: testRecord(100, "t1"), sharing: true, faults: 1, long: true, deliveries: []handover{to(A, t2), to(B, t2)}, want: 90,
		},
		"an event that comes after its moment has a marker": {
			start: prunedRecord(100, "ttt"), sharing: true, long: true,
			markers:    map[string]string{sharedKey("apple", t1.ID.span()): quoted(t1.ID)},
			deliveries: []handover{to(A, t2), to(B, t1)}, want: 90,
		},
		"a failover while IDs that share a marker leave": {
			start: testRecord(100, "t1"), sharing: true, failover: true, deliveries: []handover{to(A, t2), to(A, t2)}, want: 90,
		},
		"a full record": {
			start: testRecord(100, "t1", "t2"), maxIDs: 2, long: true, deliveries: []handover{to(A, t0), to(B, t1)}, want: 90,
		},
		"a full record, and faults": {
			start: testRecord(100, "t1", "t2"), maxIDs: 2, faults: 2, deliveries: []handover{to(A, t0), to(A, t1)}, want: 90,
		},
		"three events of one replica, and another replica": {
			start: hundred, keep: 5, deliveries: []handover{to(A, e1, e2, e3), to(B, e2)}, want: 84,
		},
		"three events of one replica": {
			start: hundred, keep: 5, faults: 2, deliveries: []handover{to(A, e1, e2, e3)}, want: 84,
		},
		"a failover, one event": {
			start: hundred, keep: 2, failover: true, deliveries: []handover{to(A, e1), to(B, e1)}, want: 90,
		},
		"a failover while an ID leaves": {
			start: hundred, failover: true, long: true, deliveries: []handover{to(A, e1), to(B, e1)}, want: 90,
		},
		"a failover while IDs leave a full record": {
			start: testRecord(90, "e1"), maxIDs: 1, faults: 1, failover: true, deliveries: []handover{to(A, e2), to(A, e1)}, want: 85,
		},
		"a failover after a look-up that found no marker": {
			start: prunedRecord(100, "t2"), failover: true, cutFor: 2, long: true, deliveries: []handover{to(A, e1), to(B, e1)}, want: 90,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if s.long && (raceDetector || testing.Short()) {
				t.Skip("it takes long")
			}
			t.Parallel()
			c := &choices{}
			runs := 1
			for ; ; runs++ {
				synctest.Test(t, func(t *testing.T) { s.run(t, c) })
				if t.Failed() || !c.again() {
					break
				}
			}
			t.Logf("%d runs", runs)
		})
	}
}

// inbox returns the Inbox of a replica.
func (s scenario) inbox(store store, replica string) *Inbox[int64] {
	in := newTestInbox(store, s.keep)
	in.author.name = replica
	in.tuning.maxIDs = cmp.Or(s.maxIDs, 1000)
	if s.sharing {
		in.tuning.sharers = 1
	}
	return in
}

func (s scenario) run(t *testing.T, c *choices) {
	memory := &memoryStore{}
	if s.start != "" {
		memory.put("apple", s.start)
	}
	for key, marker := range s.markers {
		memory.put(key, marker)
	}
	p := &scheduler{choices: c, store: memory, faults: s.faults, failover: s.failover, cutFor: cmp.Or(s.cutFor, 3)}
	var inboxes []*Inbox[int64]
	for i, name := range []string{"A", "B"} {
		p.add(t, name)
		inboxes = append(inboxes, s.inbox(hooked{memory, p.replicas[i].call}, name))
	}
	acknowledged := make(map[ID]bool)
	var mu sync.Mutex
	for _, d := range s.deliveries {
		r := p.replicas[d.to]
		go func() {
			for _, change := range d.changes {
				_, err := inboxes[d.to].Apply(r.callers, change)
				mu.Lock()
				if err == nil && !r.dead.Load() {
					acknowledged[change.ID] = true
				}
				mu.Unlock()
			}
		}()
	}
	p.run()
	for _, in := range inboxes {
		in.settle()
	}

	redelivered := s.inbox(memory, "C")
	for _, again := range []bool{false, true} {
		for _, d := range s.deliveries {
			for _, change := range d.changes {
				if again || !acknowledged[change.ID] {
					must(t, redelivered, change)
				}
			}
		}
		redelivered.settle()
		if got := storedRecord(t, memory, "apple").Value; got != s.want {
			t.Errorf("the value is %d, want %d, after:\n%s", got, s.want, strings.Join(c.log, "\n"))
		}
	}
}
