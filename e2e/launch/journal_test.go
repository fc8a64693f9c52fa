package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"
)

// A story is a journal, and the time in it.
type story struct {
	*journal
	time time.Time
}

func newStory() *story {
	s := &story{time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	s.journal = newJournal(func() time.Time { return s.time })
	return s
}

// after lets time pass.
func (s *story) after(d time.Duration) *story {
	s.time = s.time.Add(d)
	return s
}

// messages are what the services log, by a word for it.
var messages = map[string]string{
	"published": "Published OrderPlaced event.",
	"applied":   "Processed OrderPlaced event.",
	"repeated":  "OrderPlaced event had been processed already.",
	"refused":   "Refused OrderPlaced event.",
	"set":       "Set inventory quantity.",
}

// log takes lines of the services' logs, given as words, about an order for 10 pieces of item1.
func (s *story) log(words, id string) {
	for word := range strings.FieldsSeq(words) {
		who := "inventory-service"
		if word == "published" {
			who = "order-service"
		}
		s.line(who, logLine{Time: s.time, Message: messages[word], EventID: id, TraceID: "trace-" + id, OrderID: "order-" + id,
			ItemID: "item1", Quantity: 10, Ordered: 10, Remaining: 90})
	}
}

func TestJournalCounts(t *testing.T) {
	for name, c := range map[string]struct {
		log  string
		want totals
		item string // set, ordered, waiting
	}{
		"an order under way":                                   {"published", totals{Accepted: 1, Waiting: 1}, "10 10 1"},
		"an applied order":                                     {"published applied", totals{Accepted: 1, Applied: 1}, "10 10 0"},
		"applied before it is published":                       {"applied published", totals{Accepted: 1, Applied: 1}, "10 10 0"},
		"sent twice with one key":                              {"published published applied", totals{Accepted: 1, Applied: 1}, "10 10 0"},
		"delivered twice":                                      {"published applied repeated", totals{Accepted: 1, Applied: 1, Repeated: 1}, "10 10 0"},
		"applied by a replica that died":                       {"published repeated", totals{Accepted: 1, Applied: 1, Repeated: 1}, "10 10 0"},
		"applied by a replica that froze, and logged so later": {"published repeated applied", totals{Accepted: 1, Applied: 1, Repeated: 1}, "10 10 0"},
		"applied twice":                                        {"published applied applied", totals{Accepted: 1, Applied: 1, Doubled: 1}, "10 10 0"},
		"a dead letter":                                        {"published refused", totals{Accepted: 1, Dead: 1}, "10 0 0"},
		"a dead letter before it is published":                 {"refused published", totals{Accepted: 1, Dead: 1}, "10 0 0"},
		"a dead letter that is sent again":                     {"published refused applied", totals{Accepted: 1, Applied: 1}, "10 10 0"},
		"stock is set with an order on its way":                {"published set applied", totals{Accepted: 1, Applied: 1}, "? 0 0"},
	} {
		t.Run(name, func(t *testing.T) {
			is := is.New(t)
			s := newStory()
			s.log("set "+c.log, "a")
			n := s.news(0)
			is.Equal(n.Totals, c.want)
			set := "?"
			if n.Items[0].Set != nil {
				set = fmt.Sprint(*n.Items[0].Set)
			}
			is.Equal(fmt.Sprint(set, " ", n.Items[0].Ordered, " ", n.Items[0].Waiting), c.item)
		})
	}
}

func TestJournalCallsLostWhatWaitsWhileNothingIsBroken(t *testing.T) {
	is := is.New(t)
	s := newStory()
	s.setParts(nil, true)
	s.log("published", "a")
	s.after(10 * lostAfter).tick()
	is.Equal(s.news(0).Totals.Lost, 0) // something is broken

	s.setParts(nil, false)
	s.after(lostAfter).tick()
	is.Equal(s.news(0).Totals.Lost, 0) // not yet
	s.after(time.Second).log("published", "b")
	s.tick()
	is.Equal(s.news(0).Totals.Lost, 1)
	s.log("applied", "a")
	s.tick()
	is.Equal(s.news(0).Totals.Lost, 0) // it was late
}

func TestJournalSaysWhenNothingWaitsAnyMore(t *testing.T) {
	is := is.New(t)
	s := newStory()
	s.log("published", "quick")
	s.after(time.Second).log("applied", "quick")
	s.log("published", "a")
	s.log("published", "b")
	s.after(21300*time.Millisecond).log("applied", "a")
	s.tick()
	is.Equal(len(s.news(0).Notes), 0) // one waits
	s.after(time.Second).log("applied", "b")
	s.tick()
	s.tick()
	notes := s.news(0).Notes
	is.Equal(len(notes), 1)
	is.Equal(notes[0].Text, "Nothing waits any more. Orders that had waited for more than 2s: 2, the longest for 22.3 s, and now all are applied.")
}

func TestJournalTellsOfAnOrder(t *testing.T) {
	is := is.New(t)
	s := newStory()
	began := s.time.UnixMicro()
	s.log("published", "a")
	s.after(2*time.Millisecond).log("applied", "a")
	s.traces.Add("trace-a", []step{{began + 1000, 900, "inventory-service's sidecar", "delivers the event"}})
	s.traces.Add("trace-b", []step{{began, 0, "order-service's sidecar", "calls the service"}})
	a, happened, known := s.tell("a")
	is.True(known)
	is.Equal(a.Took, int64(2000))
	is.Equal(happened, []step{
		{began, 0, "order-service", "The broker has it: it is published."},
		{began + 1000, 900, "inventory-service's sidecar", "delivers the event"},
		{began + 2000, 0, "inventory-service", "It is applied: 90 are left of item1."},
	})
	_, _, known = s.tell("b")
	is.True(!known)
	s.log("applied published", "c")
	c, _, _ := s.tell("c")
	is.Equal(c.Took, int64(1))
}

func TestNewsHasEachChangeOnce(t *testing.T) {
	is := is.New(t)
	s := newStory()
	for i := range 1000 {
		s.log("published", fmt.Sprint(i))
	}
	s.say("%d are published", 1000)
	s.tick()
	opened := s.news(0)
	is.True(opened.All)
	is.Equal(len(opened.Orders), newsOrders)
	is.Equal(opened.Orders[newsOrders-1].EventID, "999") // the latest

	for i := range 1000 {
		s.log("applied", fmt.Sprint(i))
	}
	s.say("they are applied")
	s.setParts([]state{{ID: "redis"}}, false)
	s.log("applied", "0") // again
	n := s.news(opened.version)
	is.Equal(len(n.Orders), 1000) // the page shows a dot for some of them
	is.Equal(n.Orders[999].EventID, "0")
	is.Equal(n.Orders[0].Stage, stageApplied)
	is.Equal(len(n.Notes), 1)
	is.Equal(len(n.Items), 1)
	is.Equal(n.Parts, []state{{ID: "redis"}})
	is.Equal(len(n.Points), 0)
	is.Equal(s.news(n.version), news{version: n.version, Totals: n.Totals}) // nothing is new

	stale := s.staleItems()
	is.Equal(len(stale), 1)
	s.setStock(stale[0], 90)
	is.Equal(len(s.staleItems()), 0)
	is.True(s.news(n.version).Items[0].Fresh)
	s.log("published", "more") // while the stock was asked for
	is.True(!s.news(n.version).Items[0].Fresh)
	s.setStock(stale[0], 90)
	is.Equal(len(s.staleItems()), 1)
	is.True(!s.news(n.version).Items[0].Fresh)
}

func TestJournalForgetsOrdersThatEndedLongAgo(t *testing.T) {
	is := is.New(t)
	s := newStory()
	s.log("published", "waits")
	for i := range journalOrders + 10 {
		s.log("published applied", fmt.Sprint(i))
	}
	_, _, known := s.tell("waits")
	is.True(known)
	_, _, known = s.tell("0")
	is.True(!known)
	s.log("repeated", "0") // which was applied
	is.Equal(s.news(0).Totals, totals{Accepted: journalOrders + 11, Applied: journalOrders + 10, Waiting: 1})
	s.log("applied", "waits")
	is.Equal(s.news(0).Totals, totals{Accepted: journalOrders + 11, Applied: journalOrders + 11})
}

func TestALogInJSONReadsAsOneForPeople(t *testing.T) {
	is := is.New(t)
	l, text := readLog(`{"time":"2026-11-25T21:46:11.159389993Z","level":"INFO","msg":"Processed OrderPlaced event.","eventId":"7f3a","traceId":"b58f","orderId":"o1","itemId":"item1","ordered":10,"remaining":9007199254740991}`)
	is.Equal(text, `2026/11/25 21:46:11 eventId="7f3a" Processed OrderPlaced event. orderId=o1, itemId=item1, ordered=10, remaining=9007199254740991`)
	is.Equal(l, logLine{Time: time.Date(2026, 11, 25, 21, 46, 11, 159389993, time.UTC), Message: "Processed OrderPlaced event.",
		EventID: "7f3a", TraceID: "b58f", OrderID: "o1", ItemID: "item1", Ordered: 10, Remaining: 9007199254740991})
	l, text = readLog("panic: runtime error")
	is.Equal(text, "panic: runtime error")
	is.Equal(l, logLine{})
}
