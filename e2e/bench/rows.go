package main

// A program takes the place of one of the services.
type program struct {
	name    string // of the project's programs, or of those in e2e/bench
	env     string // selects one of the subscribers, or of the services, in the program
	applies bool   // it keeps a stock
	grpc    bool   // the sidecar delivers to it over gRPC
}

var (
	// Subscribers.
	inventory = program{name: "inventory", applies: true}
	nothing   = program{name: "subscriber", env: "SUBSCRIBER=nothing"}
	show      = program{name: "subscriber", env: "SUBSCRIBER=show"}
	usual     = program{name: "subscriber", env: "SUBSCRIBER=usual", applies: true}
	careful   = program{name: "sdk", env: "SDK=careful", applies: true, grpc: true}

	// Publishers.
	order    = program{name: "order"}
	sdkOrder = program{name: "sdk", env: "SDK=order"}
)

// A system is a publisher and replicas of a subscriber.
type system struct {
	publisher, subscriber program
	replicas              int
	late                  bool // the state store answers 10 ms late
	slow                  bool // measured with a quarter of the orders
}

var (
	one       = system{publisher: order, subscriber: inventory, replicas: 1}
	three     = system{publisher: order, subscriber: inventory, replicas: 3}
	idleOne   = system{publisher: order, subscriber: nothing, replicas: 1}
	idleThree = system{publisher: order, subscriber: nothing, replicas: 3}
	showOne   = system{publisher: order, subscriber: show, replicas: 1}
	usualOne  = system{publisher: order, subscriber: usual, replicas: 1}
	teamOne   = system{publisher: order, subscriber: careful, replicas: 1, slow: true}
	lateOne   = system{publisher: order, subscriber: inventory, replicas: 1, late: true, slow: true}
	lateThree = system{publisher: order, subscriber: inventory, replicas: 3, late: true, slow: true}
	takes     = system{publisher: order}
	sdkTakes  = system{publisher: sdkOrder}
)

// A task is what a measurement has a system do.
type task struct {
	do    kind
	item  string // before the numbers of the items
	items int    // how many items are ordered in turn
	keys  bool   // the clients choose the ids of the events: UUIDs of version 4, which tell no time
	rate  int    // orders per second; 0 for as many as the system can
}

type kind int

const (
	apply   kind = iota // apply orders that wait in the broker
	accept              // accept orders; with a rate, apply them, too
	publish             // publish orders through the publisher's sidecar
)

var (
	hot      = task{do: apply, item: "hot", items: 1}
	many     = task{do: apply, item: "many", items: 1000}
	hotKeys  = task{do: apply, item: "keys", items: 1, keys: true}
	at100    = task{do: accept, item: "at100", items: 1, rate: 100}
	at300    = task{do: accept, item: "at300", items: 1, rate: 300}
	keys300  = task{do: accept, item: "keys300", items: 1, rate: 300, keys: true}
	post     = task{do: accept, item: "post", items: 1}
	straight = task{do: publish, item: "straight", items: 1}
)

// A measurement is one side of a row.
type measurement struct {
	system system
	task   task
}

// A figure is the part of a result that a row compares.
type figure struct {
	unit   string
	digits int // after the point
	of     func(result) float64
}

var (
	perSecond = figure{"orders/s", 0, func(r result) float64 { return r.rate }}
	half      = figure{"ms", 1, func(r result) float64 { return r.half }}
	p99       = figure{"ms", 1, func(r result) float64 { return r.p99 }}
)

// each returns a figure of each result.
func each(results []result, figure func(result) float64) (values []float64) {
	for _, r := range results {
		values = append(values, figure(r))
	}
	return values
}

// A row of the table compares two measurements.
type row struct {
	name         string
	figure       figure
	ours, theirs measurement
}

// rows are the rows of the table, the most useful first.
var rows = []row{
	{"All orders for one item, against the usual read-then-write", perSecond, measurement{one, hot}, measurement{usualOne, hot}},
	{"Orders for 1,000 items, against the usual read-then-write", perSecond, measurement{one, many}, measurement{usualOne, many}},
	{"All orders for one item, against a careful team's with the Go SDK", perSecond, measurement{one, hot}, measurement{teamOne, hot}},
	{"Orders for 1,000 items, against a careful team's with the Go SDK", perSecond, measurement{one, many}, measurement{teamOne, many}},
	{"POST /order, against the same with the Go SDK", perSecond, measurement{takes, post}, measurement{sdkTakes, post}},
	{"POST /order, against publishing straight to the sidecar", perSecond, measurement{takes, post}, measurement{takes, straight}},
	{"From POST /order to applied: half within, against doing nothing", half, measurement{one, at100}, measurement{showOne, at100}},
	{"From POST /order to applied: 99 % within, against doing nothing", p99, measurement{one, at100}, measurement{showOne, at100}},
	{"Slow store, three replicas: half applied within, against one replica", half, measurement{lateThree, at300}, measurement{lateOne, at300}},
	{"Slow store, three replicas: 99 % applied within, against one replica", p99, measurement{lateThree, at300}, measurement{lateOne, at300}},
	{"Slow store, three replicas, client's keys: half applied within, against one", half, measurement{lateThree, keys300}, measurement{lateOne, keys300}},
	{"Slow store, three replicas, client's keys: 99 % applied within, against one", p99, measurement{lateThree, keys300}, measurement{lateOne, keys300}},
	{"Slow store, three replicas: most orders for one item, against one replica", perSecond, measurement{lateThree, hot}, measurement{lateOne, hot}},
	{"All orders for one item, against doing nothing", perSecond, measurement{one, hot}, measurement{idleOne, hot}},
	{"Orders for 1,000 items, against doing nothing", perSecond, measurement{one, many}, measurement{idleOne, many}},
	{"All orders for one item, client's keys, against doing nothing", perSecond, measurement{one, hotKeys}, measurement{idleOne, hotKeys}},
	{"Three replicas, all orders for one item, against doing nothing", perSecond, measurement{three, hot}, measurement{idleThree, hot}},
	{"Three replicas, orders for 1,000 items, against doing nothing", perSecond, measurement{three, many}, measurement{idleThree, many}},
	{"Three replicas, one item, client's keys, against doing nothing", perSecond, measurement{three, hotKeys}, measurement{idleThree, hotKeys}},
}

// costs are the measurements whose cost is in the report.
var costs = []struct {
	name string
	of   measurement
}{
	{"one item", measurement{one, hot}},
	{"1,000 items", measurement{one, many}},
	{"one item, client's keys", measurement{one, hotKeys}},
	{"one item, the usual read-then-write", measurement{usualOne, hot}},
	{"1,000 items, the usual read-then-write", measurement{usualOne, many}},
	{"one item, a careful team's with the Go SDK", measurement{teamOne, hot}},
	{"1,000 items, a careful team's with the Go SDK", measurement{teamOne, many}},
	{"POST /order", measurement{takes, post}},
	{"POST /order with the Go SDK", measurement{sdkTakes, post}},
}
