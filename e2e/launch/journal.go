package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/dapr-orders/daprhttp/web"
	"example.com/dapr-orders/e2e/stack"
)

// A journal keeps what became of every order, as the services' logs tell it, and what
// the sidecars' spans tell of the way that it took. It remembers the latest orders, and
// all that are not at their end.
type journal struct {
	now  func() time.Time
	also func(text string) // gets each note, too

	mu      sync.Mutex
	orders  map[string]*order // by event ID
	seen    []*order          // the same, the longest known first
	waiting map[string]*order // which of them are not at their end
	items   map[string]*item  // by item ID
	touched []*item           // the same, the latest last
	traces  traces
	totals  totals
	points  []point // of the latest two minutes, one a second
	notes   []note

	wellFrom time.Time // since when nothing is broken; zero while something is

	// Of orders that ended since the latest time when none waited: how many took longer
	// than slow, and how long the slowest took.
	slow    int
	slowest time.Duration

	// Since the latest call of changes.
	changedOrders []*order
	changedItems  bool
	newNotes      []note
	newPoints     []point
}

// What a journal remembers at the most.
const (
	journalOrders = 50_000
	journalItems  = 1_000
	journalNotes  = 100
	journalPoints = 121 // with both ends
	orderSteps    = 20
)

const (
	// lostAfter is how long an order may wait while nothing is broken before it is
	// called lost. All are promised to be counted within half of it.
	lostAfter = time.Minute

	// slowAfter is from when on it is worth a note that an order had to wait.
	slowAfter = 2 * time.Second
)

// An order is one OrderPlaced event.
type order struct {
	EventID  string `json:"eventId"`
	OrderID  string `json:"orderId"`
	ItemID   string `json:"itemId"`
	Quantity int64  `json:"quantity"` // 0 if it is not known yet
	Stage    stage  `json:"stage"`
	Took     int64  `json:"tookMicros"` // from published to counted; 0 if that is not known
	By       string `json:"by"`         // who has told of its end
	Repeated int    `json:"repeated"`   // deliveries that were recognised as repeated

	steps            []step
	traceIDs         []string
	published, ended time.Time
	processed        int // how often a service has said that it counted it
	changed          bool
}

// A stage is how far an order is.
type stage string

const (
	stagePublished stage = "published" // the broker has it
	stageRetried   stage = "retried"   // the broker has it, in the retry topic
	stageCounted   stage = "counted"
	stageDead      stage = "dead" // it can't be counted, and goes to the dead-letter topic
)

// A step is what one line of a log says of an order.
type step struct {
	At   time.Time
	Who  string
	What string
}

// An item is what is known of the stock of an item.
type item struct {
	ItemID  string `json:"itemId"`
	Stock   *int64 `json:"stock"`   // as the inventory service answered last; nil if it has not
	Set     *int64 `json:"set"`     // what it was set to; nil if orders were on their way then, or nobody has
	Ordered int64  `json:"ordered"` // pieces, since it was set
	Waiting int    `json:"waiting"` // orders

	Fresh bool `json:"fresh"` // the stock is as it was asked for since something happened

	changes, asked int // how often something has happened to it, and had when it was asked for
}

// totals are counts of orders, each of which is one however often it is delivered.
type totals struct {
	Accepted int `json:"accepted"`
	Counted  int `json:"counted"`
	Waiting  int `json:"waiting"`
	Dead     int `json:"dead"`
	Lost     int `json:"lost"`
	Doubled  int `json:"doubled"`
	Repeated int `json:"repeated"` // deliveries
}

// A point is of the chart.
type point struct {
	At       int64 `json:"at"` // milliseconds since 1970
	Accepted int   `json:"accepted"`
	Counted  int   `json:"counted"` // and those that can't be
}

// A note is a line of what happened, in plain words.
type note struct {
	At   int64  `json:"at"` // milliseconds since 1970
	Text string `json:"text"`
}

func newJournal(now func() time.Time) *journal {
	return &journal{
		now:      now,
		also:     func(string) {},
		orders:   make(map[string]*order),
		waiting:  make(map[string]*order),
		items:    make(map[string]*item),
		traces:   traces{spans: make(map[string][]stack.Span)},
		wellFrom: now(),
	}
}

// A logLine is what a line of a service's log says.
type logLine struct {
	Time                              time.Time
	Message                           string
	EventID, TraceID, OrderID, ItemID string
	Quantity                          int64 // of an order that is published, or of a stock that is set
	Ordered, Remaining                int64
	Error                             string
}

// line takes a line of a service's log. What tells nothing of an order it ignores.
func (j *journal) line(who string, l logLine) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch l.Message {
	case "Published OrderPlaced event.":
		o := j.order(l, l.Quantity)
		if o.published.IsZero() {
			o.published = l.Time
		}
		o.time() // its end may have been told first
		j.step(o, who, l, "The broker has it: it is published.")
	case "Processed OrderPlaced event.":
		o := j.order(l, l.Ordered)
		if o.processed++; o.processed > 1 {
			j.totals.Doubled++
		}
		j.end(o, stageCounted, who, l.Time)
		j.step(o, who, l, fmt.Sprintf("It is counted: %d are left of %s.", l.Remaining, l.ItemID))
	case "OrderPlaced event had been processed already.":
		if j.orders[l.EventID] == nil && len(j.seen) >= journalOrders {
			return // it may be one that is forgotten
		}
		// If nobody has said that it was counted, who counted it died before it could.
		o := j.order(l, 0)
		o.Repeated++
		j.totals.Repeated++
		j.end(o, stageCounted, who, l.Time)
		j.step(o, who, l, "It was delivered again, and recognised: it is counted already.")
	case "Refused OrderPlaced event.":
		o := j.order(l, 0)
		j.end(o, stageDead, who, l.Time)
		j.step(o, who, l, "It can't be counted, and goes to the dead-letter topic: "+l.Error)
	case "Moved OrderPlaced event to the retry topic":
		if o := j.waiting[l.EventID]; o != nil {
			o.Stage = stageRetried
			j.step(o, who, l, "It is moved to the retry topic, where it is tried again and holds up no others.")
		}
	case "Failed to process OrderPlaced event.":
		if o := j.orders[l.EventID]; o != nil {
			j.step(o, who, l, "It was delivered, and handed back: "+l.Error)
		}
	case "Set inventory quantity.":
		i := j.item(l.ItemID)
		i.Set, i.Ordered = &l.Quantity, 0
		if i.Waiting > 0 {
			i.Set = nil // some of these count before it was set, and some after
		}
	}
}

// order returns the order that a line tells of.
func (j *journal) order(l logLine, quantity int64) *order {
	o := j.orders[l.EventID]
	i := j.item(l.ItemID)
	if o == nil {
		j.forgetOrder()
		o = &order{EventID: l.EventID, OrderID: l.OrderID, ItemID: l.ItemID, Stage: stagePublished}
		j.orders[o.EventID] = o
		j.seen = append(j.seen, o)
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

// forgetOrder makes room for one more order if there are enough that are at their end.
func (j *journal) forgetOrder() {
	for range min(len(j.seen), 1+len(j.waiting)) {
		if len(j.seen) < journalOrders {
			return
		}
		oldest := j.seen[0]
		j.seen = j.seen[1:]
		if j.waiting[oldest.EventID] != nil {
			j.seen = append(j.seen, oldest)
			continue
		}
		delete(j.orders, oldest.EventID)
	}
}

// item returns an item that something happens to.
func (j *journal) item(id string) *item {
	i := j.items[id]
	if i == nil {
		if len(j.touched) >= journalItems {
			delete(j.items, j.touched[0].ItemID)
			j.touched = j.touched[1:]
		}
		i = &item{ItemID: id}
		j.items[id] = i
		j.touched = append(j.touched, i)
	} else if last := len(j.touched) - 1; j.touched[last] != i {
		at := slices.Index(j.touched, i)
		j.touched = append(slices.Delete(j.touched, at, at+1), i)
	}
	i.changes++
	i.Fresh = false
	j.changedItems = true
	return i
}

// end notes that an order has come to its end.
func (j *journal) end(o *order, how stage, who string, at time.Time) {
	i := j.item(o.ItemID)
	switch {
	case j.waiting[o.EventID] != nil:
		delete(j.waiting, o.EventID)
		i.Waiting--
	case o.Stage == stageDead && how == stageCounted: // somebody has sent it again
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
	j.totals.Counted++
	o.ended = at
	if took := o.time(); took > slowAfter {
		j.slow++
		j.slowest = max(j.slowest, took)
	}
}

// time returns how long it took from published to counted, or 0 if one is not known.
func (o *order) time() time.Duration {
	if o.published.IsZero() || o.ended.IsZero() {
		return 0
	}
	// The service may say that it is published after it was counted.
	o.Took = max(o.ended.Sub(o.published).Microseconds(), 1)
	return time.Duration(o.Took) * time.Microsecond
}

// step adds what happened to an order.
func (j *journal) step(o *order, who string, l logLine, what string) {
	if len(o.steps) == orderSteps {
		o.steps = slices.Delete(o.steps, 1, 2) // the first and the latest tell most
	}
	o.steps = append(o.steps, step{l.Time, who, what})
	if !o.changed {
		o.changed = true
		j.changedOrders = append(j.changedOrders, o)
	}
}

// say notes in plain words that something happened.
func (j *journal) say(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.note(fmt.Sprintf(format, args...))
}

func (j *journal) note(text string) {
	text = web.Visible(text)
	n := note{j.now().UnixMilli(), text}
	j.notes = append(j.notes[max(0, len(j.notes)+1-journalNotes):], n)
	j.newNotes = append(j.newNotes, n)
	j.also(text)
}

// setWell notes that something is broken, or that nothing is.
func (j *journal) setWell(well bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case !well:
		j.wellFrom = time.Time{}
	case j.wellFrom.IsZero():
		j.wellFrom = j.now()
	}
}

// tick is to be called once a second. It adds a point to the chart, looks for orders
// that are lost, and notes when none waits any more.
func (j *journal) tick() {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := j.now()
	lost := 0
	if !j.wellFrom.IsZero() && now.Sub(j.wellFrom) > lostAfter {
		for _, o := range j.waiting {
			if !o.published.IsZero() && now.Sub(o.published) > lostAfter {
				lost++
			}
		}
	}
	j.totals.Lost = lost
	if len(j.waiting) == 0 && j.slow > 0 {
		j.note(fmt.Sprintf("Nothing waits any more. Orders that had waited for more than %v: %d, the longest for %.1f s, and now all are counted.",
			slowAfter, j.slow, j.slowest.Seconds()))
		j.slow, j.slowest = 0, 0
	}
	p := point{now.UnixMilli(), j.totals.Accepted, j.totals.Counted + j.totals.Dead}
	j.points = append(j.points[max(0, len(j.points)+1-journalPoints):], p)
	j.newPoints = append(j.newPoints, p)
}

// news are what a page has to show, or what is new since the latest.
type news struct {
	Totals totals  `json:"totals"`
	Orders []order `json:"orders"` // the latest last
	Items  []item  `json:"items"`  // nil if nothing has changed
	Notes  []note  `json:"notes"`
	Points []point `json:"points"`
	Parts  []state `json:"parts"`
}

// empty reports whether there is nothing new.
func (n news) empty() bool {
	return len(n.Orders) == 0 && n.Items == nil && n.Notes == nil && n.Points == nil && n.Parts == nil
}

// newsOrders and newsItems are how many orders and items a page is told of at once.
const (
	newsOrders = 30
	newsItems  = 8
)

// all returns what a page that was just opened has to show.
func (j *journal) all() news {
	j.mu.Lock()
	defer j.mu.Unlock()
	return news{
		Totals: j.currentTotals(), Orders: copies(j.seen), Items: j.latestItems(),
		Notes: slices.Clone(j.notes), Points: slices.Clone(j.points),
	}
}

// changes returns what is new since it was called last.
func (j *journal) changes() news {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := news{Totals: j.currentTotals(), Orders: copies(j.changedOrders), Notes: j.newNotes, Points: j.newPoints}
	if j.changedItems {
		n.Items = j.latestItems()
	}
	for _, o := range j.changedOrders {
		o.changed = false
	}
	j.changedOrders, j.changedItems, j.newNotes, j.newPoints = nil, false, nil, nil
	return n
}

// copies returns the latest of orders as they are now.
func copies(orders []*order) []order {
	latest := make([]order, 0, newsOrders)
	for _, o := range orders[max(0, len(orders)-newsOrders):] {
		latest = append(latest, *o)
	}
	return latest
}

func (j *journal) currentTotals() totals {
	t := j.totals
	t.Waiting = len(j.waiting)
	return t
}

// latestItems returns the items that something happened to last, by their IDs.
func (j *journal) latestItems() []item {
	items := make([]item, 0, newsItems)
	for _, i := range j.touched[max(0, len(j.touched)-newsItems):] {
		items = append(items, *i)
	}
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.ItemID, b.ItemID) })
	return items
}

// staleItems returns the items that a page shows and whose stock is to be asked for, as
// they are.
func (j *journal) staleItems() (stale []item) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, i := range j.touched[max(0, len(j.touched)-newsItems):] {
		if i.asked != i.changes {
			stale = append(stale, *i)
		}
	}
	return stale
}

// setStock notes the stock of an item that was asked for when the item was as it is given.
func (j *journal) setStock(then item, stock int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if i := j.items[then.ItemID]; i != nil {
		i.Stock, i.asked, i.Fresh = &stock, then.changes, then.changes == i.changes
		j.changedItems = true
	}
}

// A told is all that is known of one order.
type told struct {
	order
	steps []step
	spans []stack.Span
}

// tell returns what is known of an order.
func (j *journal) tell(eventID string) (told, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	o := j.orders[eventID]
	if o == nil {
		return told{}, false
	}
	return told{*o, slices.Clone(o.steps), j.traces.of(o.traceIDs)}, true
}

// first returns when the log told of the order first.
func (t told) first() time.Time {
	if !t.published.IsZero() {
		return t.published
	}
	return t.steps[0].At
}

// A happened is one thing that happened to an order.
type happened struct {
	At   int64  `json:"atMicros"`   // since the first that happened
	Took int64  `json:"tookMicros"` // 0 if it is not known
	Who  string `json:"who"`
	What string `json:"what"`
}

// happened returns what the logs and the sidecars tell of an order, by time.
func (t told) happened() []happened {
	var all []happened
	for _, s := range t.steps {
		all = append(all, happened{s.At.UnixMicro(), 0, s.Who, s.What})
	}
	for _, s := range t.spans {
		all = append(all, happened{s.Timestamp, s.Duration, s.Endpoint.ServiceName + "'s sidecar", words(s)})
	}
	slices.SortStableFunc(all, func(a, b happened) int { return cmp.Compare(a.At, b.At) })
	first := all[0].At
	for i := range all {
		all[i].At -= first
	}
	return all
}
