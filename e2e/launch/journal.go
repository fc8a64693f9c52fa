package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"example.com/dapr-orders/daprhttp/web"
)

// A journal keeps what happened to each order, as the services' logs and the sidecars'
// spans tell it. It remembers every order under way, and the latest of those that ended.
type journal struct {
	now  func() time.Time
	also func(text string) // gets each note, too

	mu      sync.Mutex
	version int                            // grows with each change
	orders  *simplelru.LRU[string, *order] // by event ID; the order with the latest step is the last
	waiting map[string]*order              // the orders under way, by event ID
	items   *simplelru.LRU[string, *item]  // by item ID; the item with the latest change is the last
	traces  *simplelru.LRU[string, []step] // what the sidecars did, by trace ID
	totals  totals
	points  []point // of the latest two minutes, one a second
	notes   []note
	parts   []state

	itemsVersion, partsVersion int // of their latest change

	healthySince time.Time // zero while a part is broken

	// Orders that took longer than slowAfter, since the latest moment without orders under
	// way: how many they are, and how long the slowest took.
	slow    int
	slowest time.Duration
}

// How much a journal remembers.
const (
	journalOrders = 50_000
	journalItems  = 1_000
	journalTraces = 10_000
	journalNotes  = 100
	journalPoints = 121 // with both ends
	orderSteps    = 20
	traceSteps    = 40
)

// How much a page shows that was just opened.
const (
	newsOrders = 30
	newsItems  = 8
)

const (
	// lostAfter is how long an order may wait while nothing is broken. After that it is lost.
	lostAfter = time.Minute

	// slowAfter is how long an order takes that is worth a note.
	slowAfter = 2 * time.Second
)

// An order is one OrderPlaced event.
type order struct {
	EventID  string `json:"eventId"`
	OrderID  string `json:"orderId"`
	ItemID   string `json:"itemId"`
	Quantity int64  `json:"quantity"` // 0 if it is not known yet
	Stage    stage  `json:"stage"`
	Took     int64  `json:"tookMicros"` // from published to applied; 0 if it is not known
	By       string `json:"by"`         // the process that logged its end
	Repeated int    `json:"repeated"`   // deliveries that the service recognised as duplicates

	version          int // of its latest step
	steps            []step
	traceIDs         []string
	first            time.Time // the time of the first log line about it
	published, ended time.Time
	processed        int // how often a service logged that it applied the order
}

// A stage is how far an order is.
type stage string

const (
	stagePublished stage = "published" // the broker has it
	stageRetried   stage = "retried"   // the broker has it, in the retry topic
	stageApplied   stage = "applied"
	stageDead      stage = "dead" // it can't be applied, and goes to the dead-letter topic
)

// A step is one thing that happened to an order.
type step struct {
	At   int64  `json:"atMicros"`   // since 1970
	Took int64  `json:"tookMicros"` // 0 if it is not known
	Who  string `json:"who"`
	What string `json:"what"`
}

// An item is what is known of the stock of an item.
type item struct {
	ItemID  string `json:"itemId"`
	Stock   *int64 `json:"stock"`   // the latest answer of the inventory service; nil before the first
	Set     *int64 `json:"set"`     // what the stock was set to; nil if that is not known, or orders were under way
	Ordered int64  `json:"ordered"` // pieces, since the stock was set
	Waiting int    `json:"waiting"` // orders under way
	Fresh   bool   `json:"fresh"`   // Stock was asked for after the latest change

	version, asked int // of its latest change, and of the change before Stock was asked for
}

// totals count orders, not deliveries.
type totals struct {
	Accepted int `json:"accepted"`
	Applied  int `json:"applied"`
	Waiting  int `json:"waiting"`
	Dead     int `json:"dead"`
	Lost     int `json:"lost"`
	Doubled  int `json:"doubled"`
	Repeated int `json:"repeated"` // deliveries
}

// A point is one second of the chart.
type point struct {
	At       int64 `json:"at"` // milliseconds since 1970
	Accepted int   `json:"accepted"`
	Applied  int   `json:"applied"` // and dead letters
	version  int
}

// A note is a sentence about what happened.
type note struct {
	At      int64  `json:"at"` // milliseconds since 1970
	Text    string `json:"text"`
	version int
}

func newJournal(now func() time.Time) *journal {
	return &journal{
		now:          now,
		also:         func(string) {},
		orders:       latest[*order](journalOrders),
		waiting:      make(map[string]*order),
		items:        latest[*item](journalItems),
		traces:       latest[[]step](journalTraces),
		healthySince: now(),
	}
}

// latest returns a map that keeps this number of values and forgets the one that was used
// longest ago.
func latest[V any](most int) *simplelru.LRU[string, V] {
	values, err := simplelru.NewLRU[string, V](most, nil)
	if err != nil {
		panic(err) // most is not positive
	}
	return values
}

// change returns the version of a change that begins.
func (j *journal) change() int {
	j.version++
	return j.version
}

// A logLine is a line of a service's log.
type logLine struct {
	Time                              time.Time
	Message                           string `json:"msg"`
	EventID, TraceID, OrderID, ItemID string
	Quantity                          int64 // of an order that is published, or of a stock that is set
	Ordered, Remaining                int64
	Error                             string
}

// line takes a line of a service's log. It ignores lines that tell nothing of an order.
func (j *journal) line(who string, l logLine) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch l.Message {
	case "Published OrderPlaced event.":
		o := j.order(l, l.Quantity)
		if o.published.IsZero() {
			o.published = l.Time
		}
		o.time() // its end may have been logged first
		j.step(o, who, l, "The broker has it: it is published.")
	case "Processed OrderPlaced event.":
		o := j.order(l, l.Ordered)
		if o.processed++; o.processed > 1 {
			j.totals.Doubled++
		}
		j.end(o, stageApplied, who, l.Time)
		j.step(o, who, l, fmt.Sprintf("It is applied: %d are left of %s.", l.Remaining, l.ItemID))
	case "OrderPlaced event had been processed already.":
		if j.find(l.EventID) == nil && j.orders.Len() == journalOrders {
			return // the journal may have forgotten this order
		}
		// If no replica logged that it applied the order, the replica died before it could.
		o := j.order(l, 0)
		o.Repeated++
		j.totals.Repeated++
		j.end(o, stageApplied, who, l.Time)
		j.step(o, who, l, "It was delivered again, and recognised: it is applied already.")
	case "Refused OrderPlaced event.":
		o := j.order(l, 0)
		j.end(o, stageDead, who, l.Time)
		j.step(o, who, l, "It can't be applied, and goes to the dead-letter topic: "+l.Error)
	case "Moved OrderPlaced event to the retry topic":
		if o := j.waiting[l.EventID]; o != nil {
			o.Stage = stageRetried
			j.step(o, who, l, "It is moved to the retry topic, where it is tried again and holds up no other order.")
		}
	case "Failed to process OrderPlaced event.":
		if o := j.find(l.EventID); o != nil {
			j.step(o, who, l, "It was delivered, and could not be applied: "+l.Error)
		}
	case "Set inventory quantity.":
		i := j.item(l.ItemID)
		i.Set, i.Ordered = &l.Quantity, 0
		if i.Waiting > 0 {
			i.Set = nil // some of these orders are applied before it, and some after it
		}
	}
}

// find returns an order that the journal remembers, or nil.
func (j *journal) find(eventID string) *order {
	if o := j.waiting[eventID]; o != nil {
		return o
	}
	o, _ := j.orders.Peek(eventID)
	return o
}

// order returns the order of a log line, with what the line adds to it. It counts an order
// that it does not know as accepted and under way.
func (j *journal) order(l logLine, quantity int64) *order {
	o, i := j.find(l.EventID), j.item(l.ItemID)
	if o == nil {
		o = &order{EventID: l.EventID, OrderID: l.OrderID, ItemID: l.ItemID, Stage: stagePublished, first: l.Time}
		j.waiting[o.EventID] = o
		j.totals.Accepted++
		i.Waiting++
	}
	if o.Quantity == 0 {
		o.Quantity = quantity
		if o.Stage != stageDead {
			i.Ordered += quantity
		}
	}
	if l.TraceID != "" && len(o.traceIDs) < 5 && !slices.Contains(o.traceIDs, l.TraceID) {
		o.traceIDs = append(o.traceIDs, l.TraceID)
	}
	return o
}

// item returns an item, a new one if it is not known. It gives the item a new version.
func (j *journal) item(id string) *item {
	i, known := j.items.Get(id)
	if !known {
		i = &item{ItemID: id}
		j.items.Add(id, i)
	}
	i.version, i.Fresh = j.change(), false
	j.itemsVersion = i.version
	return i
}

// end notes that an order has come to its end.
func (j *journal) end(o *order, how stage, who string, at time.Time) {
	i := j.item(o.ItemID)
	switch {
	case j.waiting[o.EventID] != nil:
		delete(j.waiting, o.EventID)
		i.Waiting--
	case o.Stage == stageDead && how == stageApplied: // the dead letter was sent again
		j.totals.Dead--
		i.Ordered += o.Quantity
	default:
		return
	}
	o.Stage, o.By = how, who
	if how == stageDead {
		j.totals.Dead++
		i.Ordered -= o.Quantity
		return
	}
	j.totals.Applied++
	o.ended = at
	if took := o.time(); took > slowAfter {
		j.slow++
		j.slowest = max(j.slowest, took)
	}
}

// time returns how long it took from published to applied, or 0 if one is not known.
func (o *order) time() time.Duration {
	if o.published.IsZero() || o.ended.IsZero() {
		return 0
	}
	// The log may say that the order is published after it says that the order is applied.
	o.Took = max(o.ended.Sub(o.published).Microseconds(), 1)
	return time.Duration(o.Took) * time.Microsecond
}

// step adds what happened to an order.
func (j *journal) step(o *order, who string, l logLine, what string) {
	if len(o.steps) == orderSteps {
		o.steps = slices.Delete(o.steps, 1, 2) // the first and the latest tell most
	}
	o.steps = append(o.steps, step{l.Time.UnixMicro(), 0, who, what})
	o.version = j.change()
	j.orders.Add(o.EventID, o)
}

// say adds a note.
func (j *journal) say(format string, args ...any) {
	text := web.Visible(fmt.Sprintf(format, args...))
	j.mu.Lock()
	j.notes = append(j.notes[max(0, len(j.notes)+1-journalNotes):], note{j.now().UnixMilli(), text, j.change()})
	j.mu.Unlock()
	j.also(text)
}

// setParts takes what the parts are doing, and whether one of them is broken.
func (j *journal) setParts(parts []state, broken bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.parts, j.partsVersion = parts, j.change()
	switch {
	case broken:
		j.healthySince = time.Time{}
	case j.healthySince.IsZero():
		j.healthySince = j.now()
	}
}

// tick is called once a second. It adds a point to the chart, counts the lost orders, and
// notes when slow orders have ended and none is under way.
func (j *journal) tick() {
	if slow, slowest := j.addPoint(); slow > 0 {
		j.say("Nothing waits any more. Orders that had waited for more than %v: %d, the longest for %.1f s, and now all are applied.",
			slowAfter, slow, slowest.Seconds())
	}
}

func (j *journal) addPoint() (slow int, slowest time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := j.now()
	j.totals.Lost = 0
	if !j.healthySince.IsZero() && now.Sub(j.healthySince) > lostAfter {
		for _, o := range j.waiting {
			if !o.published.IsZero() && now.Sub(o.published) > lostAfter {
				j.totals.Lost++
			}
		}
	}
	p := point{now.UnixMilli(), j.totals.Accepted, j.totals.Applied + j.totals.Dead, j.change()}
	j.points = append(j.points[max(0, len(j.points)+1-journalPoints):], p)
	if len(j.waiting) == 0 {
		slow, slowest = j.slow, j.slowest
		j.slow, j.slowest = 0, 0
	}
	return slow, slowest
}

// news are the changes since a version. A field is nil if nothing in it has changed.
type news struct {
	version int
	All     bool    `json:"all"` // a page that was just opened has to show nothing but this
	Totals  totals  `json:"totals"`
	Orders  []order `json:"orders"` // the one with the latest step is the last
	Items   []item  `json:"items"`
	Notes   []note  `json:"notes"`
	Points  []point `json:"points"`
	Parts   []state `json:"parts"`
}

// news returns the changes since a version; since version 0, what a page has to show that
// was just opened.
func (j *journal) news(since int) news {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := news{version: j.version, All: since == 0, Totals: j.totals}
	n.Totals.Waiting = len(j.waiting)
	for _, o := range slices.Backward(j.orders.Values()) {
		if o.version <= since || n.All && len(n.Orders) == newsOrders {
			break
		}
		n.Orders = append(n.Orders, *o)
	}
	slices.Reverse(n.Orders)
	if j.itemsVersion > since {
		n.Items = j.latestItems()
		slices.SortFunc(n.Items, func(a, b item) int { return strings.Compare(a.ItemID, b.ItemID) })
	}
	if j.partsVersion > since {
		n.Parts = j.parts
	}
	for _, note := range j.notes {
		if note.version > since {
			n.Notes = append(n.Notes, note)
		}
	}
	for _, point := range j.points {
		if point.version > since {
			n.Points = append(n.Points, point)
		}
	}
	return n
}

// latestItems returns the items that a page shows.
func (j *journal) latestItems() (items []item) {
	values := j.items.Values()
	for _, i := range values[max(0, len(values)-newsItems):] {
		items = append(items, *i)
	}
	return items
}

// staleItems returns the items that a page shows and that have changed since their stock was
// asked for.
func (j *journal) staleItems() []item {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.DeleteFunc(j.latestItems(), func(i item) bool { return i.asked == i.version })
}

// setStock takes the stock of an item, which was asked for when the item was as given.
func (j *journal) setStock(then item, stock int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if i, known := j.items.Peek(then.ItemID); known {
		i.Stock, i.asked, i.Fresh = &stock, then.version, then.version == i.version
		j.itemsVersion = j.change()
	}
}

// tell returns an order and what happened to it, by time, if the journal remembers it.
func (j *journal) tell(eventID string) (o order, happened []step, known bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	found := j.find(eventID)
	if found == nil {
		return order{}, nil, false
	}
	happened = slices.Clone(found.steps)
	for _, id := range found.traceIDs {
		spans, _ := j.traces.Peek(id)
		happened = append(happened, spans...)
	}
	slices.SortStableFunc(happened, func(a, b step) int { return cmp.Compare(a.At, b.At) })
	return *found, happened, true
}
