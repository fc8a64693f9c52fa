package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/matryer/is"

	"example.com/dapr-orders/e2e/stack"
)

// A story is a journal whose time a test makes.
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

func (s *story) published(id string) {
	s.line("order-service", logLine{Time: s.time, Message: "Published OrderPlaced event.", EventID: id, TraceID: "trace-" + id, OrderID: "order-" + id, ItemID: "item1", Quantity: 10})
}

func (s *story) processed(id string) {
	s.line("inventory-service", logLine{Time: s.time, Message: "Processed OrderPlaced event.", EventID: id, OrderID: "order-" + id, ItemID: "item1", Ordered: 10, Remaining: 90})
}

func (s *story) repeated(id string) {
	s.line("inventory-service", logLine{Time: s.time, Message: "OrderPlaced event had been processed already.", EventID: id, OrderID: "order-" + id, ItemID: "item1"})
}

func (s *story) refused(id string) {
	s.line("inventory-service", logLine{Time: s.time, Message: "Refused OrderPlaced event.", EventID: id, OrderID: "order-" + id, ItemID: "item1", Error: "the stock would fall too low"})
}

func (s *story) set(quantity int64) {
	s.line("inventory-service", logLine{Time: s.time, Message: "Set inventory quantity.", ItemID: "item1", Quantity: quantity})
}

func TestJournalCounts(t *testing.T) {
	for name, c := range map[string]struct {
		lines func(*story)
		want  totals
		item  string // set, ordered, waiting
	}{
		"an order under way":             {func(s *story) { s.published("a") }, totals{Accepted: 1, Waiting: 1}, "100 10 1"},
		"a counted order":                {func(s *story) { s.published("a"); s.processed("a") }, totals{Accepted: 1, Counted: 1}, "100 10 0"},
		"counted before it is published": {func(s *story) { s.processed("a"); s.published("a") }, totals{Accepted: 1, Counted: 1}, "100 10 0"},
		"sent twice with one key":        {func(s *story) { s.published("a"); s.published("a"); s.processed("a") }, totals{Accepted: 1, Counted: 1}, "100 10 0"},
		"delivered twice":                {func(s *story) { s.published("a"); s.processed("a"); s.repeated("a") }, totals{Accepted: 1, Counted: 1, Repeated: 1}, "100 10 0"},
		"counted by who died then":       {func(s *story) { s.published("a"); s.repeated("a") }, totals{Accepted: 1, Counted: 1, Repeated: 1}, "100 10 0"},
		"counted by who was frozen then": {func(s *story) { s.published("a"); s.repeated("a"); s.processed("a") }, totals{Accepted: 1, Counted: 1, Repeated: 1}, "100 10 0"},
		"counted twice":                  {func(s *story) { s.published("a"); s.processed("a"); s.processed("a") }, totals{Accepted: 1, Counted: 1, Doubled: 1}, "100 10 0"},
		"a dead letter":                  {func(s *story) { s.published("a"); s.refused("a") }, totals{Accepted: 1, Dead: 1}, "100 0 0"},
		"a dead letter before published": {func(s *story) { s.refused("a"); s.published("a") }, totals{Accepted: 1, Dead: 1}, "100 0 0"},
		"a dead letter that is sent again": {func(s *story) { s.published("a"); s.refused("a"); s.processed("a") },
			totals{Accepted: 1, Counted: 1}, "100 10 0"},
		"stock that is set with orders under way": {func(s *story) { s.published("a"); s.set(50); s.processed("a") },
			totals{Accepted: 1, Counted: 1}, "? 0 0"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory()
			s.set(100)
			c.lines(s)
			all := s.all()
			if diff := cmp.Diff(c.want, all.Totals); diff != "" {
				t.Errorf("totals, want -, got +:\n%s", diff)
			}
			set := "?"
			if all.Items[0].Set != nil {
				set = fmt.Sprint(*all.Items[0].Set)
			}
			if got := fmt.Sprint(set, " ", all.Items[0].Ordered, " ", all.Items[0].Waiting); got != c.item {
				t.Errorf("set, ordered, waiting: got %s, want %s", got, c.item)
			}
		})
	}
}

func TestJournalCallsLostWhatWaitsWhileNothingIsBroken(t *testing.T) {
	is := is.New(t)
	s := newStory()
	s.setWell(false)
	s.published("a")
	s.after(10 * lostAfter).tick()
	is.Equal(s.all().Totals.Lost, 0) // something is broken

	s.setWell(true)
	s.after(lostAfter).tick()
	is.Equal(s.all().Totals.Lost, 0) // not yet
	s.after(time.Second).tick()
	is.Equal(s.all().Totals.Lost, 1)
	s.processed("a")
	s.tick()
	is.Equal(s.all().Totals.Lost, 0) // it was late
}

func TestJournalSaysWhenNothingWaitsAnyMore(t *testing.T) {
	is := is.New(t)
	s := newStory()
	s.published("quick")
	s.after(time.Second).processed("quick")
	s.published("a")
	s.published("b")
	s.after(21300 * time.Millisecond).processed("a")
	s.tick()
	is.Equal(len(s.all().Notes), 0) // one waits
	s.after(time.Second).processed("b")
	s.tick()
	s.tick()
	notes := s.all().Notes
	is.Equal(len(notes), 1)
	is.Equal(notes[0].Text, "Nothing waits any more. Orders that had waited for more than 2s: 2, the longest for 22.3 s, and now all are counted.")
}

func TestJournalTellsOfAnOrder(t *testing.T) {
	s := newStory()
	s.published("a")
	s.after(2 * time.Millisecond).processed("a")
	delivery := stack.Span{TraceID: "trace-a", Name: "pubsub/orderplaced", Timestamp: s.time.Add(-time.Millisecond).UnixMicro(), Duration: 900}
	delivery.Endpoint.ServiceName = "inventory-service"
	s.traces.add(delivery)
	s.traces.add(stack.Span{TraceID: "trace-b", Name: "of another order"})
	a, ok := s.tell("a")
	if !ok || a.Took != 2000 {
		t.Errorf("got %v, %d µs", ok, a.Took)
	}
	want := []happened{
		{0, 0, "order-service", "The broker has it: it is published."},
		{1000, 900, "inventory-service's sidecar", "delivers the event to the service, and waits for its answer"},
		{2000, 0, "inventory-service", "It is counted: 90 are left of item1."},
	}
	if diff := cmp.Diff(want, a.happened()); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	if _, ok := s.tell("b"); ok {
		t.Error("an order is known that was never told of")
	}
}

func TestJournalForgetsWhatIsLongAtItsEnd(t *testing.T) {
	is := is.New(t)
	s := newStory()
	s.published("waits")
	for i := range journalOrders + 10 {
		id := fmt.Sprint(i)
		s.published(id)
		s.processed(id)
	}
	is.Equal(len(s.seen), journalOrders)
	is.Equal(len(s.orders), journalOrders)
	_, known := s.tell("waits")
	is.True(known)
	s.repeated("0") // which is forgotten, and was counted
	is.Equal(s.all().Totals, totals{Accepted: journalOrders + 11, Counted: journalOrders + 10, Waiting: 1})
	is.Equal(len(s.changes().Orders), newsOrders)
	is.True(s.changes().empty())
}

func TestALogInJSONReadsAsOneForPeople(t *testing.T) {
	is := is.New(t)
	l, text := readLog(`{"time":"2026-11-25T21:46:11.159389993Z","level":"INFO","msg":"Processed OrderPlaced event.","eventId":"7f3a","traceId":"b58f","orderId":"o1","itemId":"item1","ordered":10,"remaining":9007199254740991}`)
	is.Equal(text, `2026/11/25 21:46:11 eventId="7f3a" Processed OrderPlaced event. orderId=o1, itemId=item1, ordered=10, remaining=9007199254740991`)
	is.Equal(l.Remaining, int64(9007199254740991))
	l, text = readLog("panic: runtime error")
	is.Equal(text, "panic: runtime error")
	is.Equal(l, logLine{})
}

func TestCommandsAreQuotedForAShell(t *testing.T) {
	is := is.New(t)
	s, err := theSystem("", func(name string) string { return map[string]string{"DAPR_API_TOKEN": "secret"}[name] })
	is.NoErr(err)
	command := s.curl(s.orderCall(`{"orderId":"it's"}`))
	is.True(strings.HasSuffix(command, ` -H "dapr-api-token: $DAPR_API_TOKEN" -H "Content-Type: application/json" -d '{"orderId":"it'\''s"}'`))
	is.True(strings.HasSuffix(s.stockCall("a+b/c").url, "/method/inventory/a%252Bb%252Fc"))
}
