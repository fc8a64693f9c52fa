// Command bench measures the services over real sidecars and a real Redis, each
// time against something to compare with, by turns in the same run. It prints a
// table, and writes it into e2e/README.md with a chart.
//
// Every figure is a median over the rounds. Orders are counted per second like
// this: subscribers are frozen, thousands of orders are published, subscribers go
// on, and the clock runs until the broker has nothing left that is not acknowledged.
// So nothing but the delivery and the subscriber itself takes processor time.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/perf/benchmath"

	"example.com/dapr-orders/e2e/stack"
)

func main() {
	log.SetFlags(0)
	rounds := flag.Int("rounds", 6, "how often each side is measured")
	orders := flag.Int("orders", 2_000, "how many orders are counted in a round")
	history := flag.Int("history", 30_000, "how many orders the history has")
	write := flag.Bool("write", true, "write the table and the chart into e2e/README.md")
	only := flag.String("only", "", "measure only the rows whose names match this regular expression, and write nothing")
	flag.Parse()
	if err := run(*rounds, *orders, *history, *write && *only == "", *only); err != nil {
		log.Fatal("bench: ", err)
	}
}

func run(rounds, orders, history int, write bool, only string) (err error) {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("it reads processor time and memory from /proc, which only Linux has, and this is %s", runtime.GOOS)
	}
	ctx := context.Background()
	b := &bench{rounds: rounds, orders: orders, history: history}
	if b.only, err = regexp.Compile(only); err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	bin, err := os.MkdirTemp("", "dapr-orders-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(bin)
	stack.DeleteAtEnd(bin)
	if b.project, err = stack.Open(ctx, bin, os.Stderr); err != nil {
		return err
	}
	for _, program := range []string{"load", "subscriber", "sdk"} {
		// The SDK is required by a module of its own alone.
		if err := stack.Build(ctx, filepath.Join(b.project.Root, "e2e", "bench", program), filepath.Join(bin, program), "GOWORK=off"); err != nil {
			return err
		}
	}
	for _, measure := range []func(context.Context) error{b.counting, b.accepting, b.latency, b.sharing, b.growth} {
		if err := measure(ctx); err != nil {
			return err
		}
	}
	return b.report(write)
}

// A bench is the benchmark and what it has found so far.
type bench struct {
	project                 *stack.Project
	rounds, orders, history int
	only                    *regexp.Regexp

	comparisons []comparison
	facts       []fact
}

// A comparison is what both sides of a row reached, round by round.
type comparison struct {
	name         string
	unit         string // of both
	less         bool   // is better
	ours, theirs []float64
	note         string
}

// ratio returns ours through theirs.
func (c comparison) ratio() float64 { return median(c.ours) / median(c.theirs) }

// sure reports whether the two sides are further apart than they spread.
func (c comparison) sure() bool {
	ours, theirs := spread(c.ours), spread(c.theirs)
	return ours.Lo > theirs.Hi || ours.Hi < theirs.Lo
}

// spread returns the median and the interval in which the true one is with a
// confidence of 95 %, which takes six rounds.
func spread(values []float64) benchmath.Summary {
	return benchmath.AssumeNothing.Summary(benchmath.NewSample(values, &benchmath.DefaultThresholds), 0.95)
}

// A fact is a figure without anything to compare it with.
type fact struct{ name, value string }

func median(values []float64) float64 { return spread(values).Center }

func percentile(values []float64, p int) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)*p/100, len(sorted)-1)]
}

// counting compares how fast orders are counted.
func (b *bench) counting(ctx context.Context) error {
	tests := []struct {
		name         string
		ours, theirs side
		work         work
		usage        bool // is of interest
	}{
		{"One hot item", inventory, nothing, work{items: 1}, true},
		{"40 items", inventory, nothing, work{items: 40}, false},
		{"1,000 items", inventory, nothing, work{items: 1000}, true},
		{"One hot item, client's keys", inventory, nothing, work{items: 1, v4: true}, true},
		{"Three replicas, one hot item", inventory, nothing, work{replicas: 3, items: 1}, false},
		{"Three replicas, 1,000 items", inventory, nothing, work{replicas: 3, items: 1000}, false},
		{"Three replicas, one hot item, client's keys", inventory, nothing, work{replicas: 3, items: 1, v4: true}, false},
		{"In bulk, one hot item", inBulk, bulk, work{items: 1, orders: inBulks}, true},
		{"In bulk, 1,000 items", inBulk, bulk, work{items: 1000, orders: inBulks}, true},
		{"In bulk, three replicas, one hot item", inBulk, bulk, work{replicas: 3, items: 1, orders: inBulks}, false},
		{"In bulk, one hot item, client's keys", inBulk, bulk, work{items: 1, v4: true, orders: inBulks}, false},
		{"One hot item, against the usual read-then-write", inventory, usual, work{items: 1}, false},
		{"Three replicas, one hot item, against the usual read-then-write", inventory, usual, work{replicas: 3, items: 1}, false},
		{"One hot item, against a careful team's, with the SDK", inventory, careful, work{items: 1, orders: 0.3}, false},
		{"1,000 items, against a careful team's, with the SDK", inventory, careful, work{items: 1000, orders: 0.3}, false},
	}
	for _, tt := range tests {
		if !b.only.MatchString(tt.name) {
			continue
		}
		c := comparison{name: tt.name, unit: "orders/s"}
		var lost, placed int64
		var used []usage
		for range b.rounds {
			theirs, err := b.count(ctx, tt.theirs, tt.work)
			if err != nil {
				return err
			}
			ours, err := b.count(ctx, tt.ours, tt.work)
			if err != nil {
				return err
			}
			if ours.lost != 0 {
				return fmt.Errorf("%s: the inventory service lost %d orders", tt.name, ours.lost)
			}
			lost += theirs.lost
			placed += theirs.placed
			c.ours = append(c.ours, ours.rate)
			c.theirs = append(c.theirs, theirs.rate)
			used = append(used, ours.usage)
		}
		if tt.theirs.counts {
			c.note = fmt.Sprintf("it lost %.0f%% of the orders; the inventory service none", 100*float64(lost)/float64(placed))
		}
		b.compared(c)
		if tt.usage {
			b.used(tt.name, used)
		}
	}
	return nil
}

// inBulks is how many times as many orders are counted in bulk, so that it takes a second.
const inBulks = 6

// used notes what the inventory service and what it stands on have used.
func (b *bench) used(name string, used []usage) {
	perThousand := func(f func(usage) float64) float64 {
		var values []float64
		for _, u := range used {
			values = append(values, f(u)*1000/float64(u.orders))
		}
		return median(values)
	}
	b.found(name+": processor time for 1,000 orders", fmt.Sprintf("service %.0f ms, its sidecar %.0f ms, Redis %.0f ms",
		1000*perThousand(func(u usage) float64 { return u.service }),
		1000*perThousand(func(u usage) float64 { return u.sidecar }),
		1000*perThousand(func(u usage) float64 { return u.redis })))
	b.found(name+": calls of the state API for 1,000 orders", fmt.Sprintf("%.0f", perThousand(func(u usage) float64 { return u.calls })))
	memory := 0.0
	for _, u := range used {
		memory = max(memory, u.memory)
	}
	b.found(name+": most memory of the inventory service", fmt.Sprintf("%.0f MiB", memory))
}

func (b *bench) compared(c comparison) {
	b.comparisons = append(b.comparisons, c)
	log.Printf("%s: %s against %s: %.2f %s", c.name, c.figures(c.ours), c.figures(c.theirs), c.ratio(), c.note)
}

func (b *bench) found(name, value string) {
	b.facts = append(b.facts, fact{name, value})
	log.Printf("%s: %s", name, value)
}

// accepting compares POST /order with publishing straight to the sidecar, and with
// the same service written with the SDK.
func (b *bench) accepting(ctx context.Context) error {
	straight := comparison{name: "POST /order, against publishing straight to the sidecar", unit: "orders/s"}
	sdk := comparison{name: "POST /order, against the same over gRPC, with the SDK", unit: "orders/s"}
	if !b.only.MatchString(straight.name) && !b.only.MatchString(sdk.name) {
		return nil
	}
	var peak float64
	for range b.rounds {
		published, _, err := b.accept(ctx, order, "publish")
		if err != nil {
			return err
		}
		theirs, _, err := b.accept(ctx, sdkOrder, "order")
		if err != nil {
			return err
		}
		ours, memory, err := b.accept(ctx, order, "order")
		if err != nil {
			return err
		}
		straight.theirs, straight.ours = append(straight.theirs, published), append(straight.ours, ours)
		sdk.theirs, sdk.ours = append(sdk.theirs, theirs), append(sdk.ours, ours)
		peak = max(peak, memory)
	}
	b.compared(straight)
	b.compared(sdk)
	b.found("Most memory of the order service", fmt.Sprintf("%.0f MiB", peak))
	return nil
}

// accept returns how many orders a second are accepted by a publisher, or by its
// sidecar.
func (b *bench) accept(ctx context.Context, publisher side, how string) (rate, memory float64, err error) {
	r, err := b.start(ctx, publisher, inventory, 0)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	to := r.publisher.URL("")
	if how == "publish" {
		to = r.publisher.DaprURL("")
	}
	orders := inBulks * b.orders
	for _, orders := range []int{orders / 10, orders} { // the second is measured
		if err := r.load(how, to, orders, 1); err != nil {
			return 0, 0, err
		}
	}
	return float64(orders) / r.took.Seconds(), peakMemory(r.publisher.Service.PID()), nil
}

// latency compares the time from POST /order to counted at 100 orders a second.
func (b *bench) latency(ctx context.Context) error {
	half := comparison{name: "From POST /order to counted, at 100 orders/s: median", unit: "ms", less: true}
	most := comparison{name: "From POST /order to counted, at 100 orders/s: 99th percentile", unit: "ms", less: true}
	return b.late(ctx, half, most, lateSide{inventory, 1}, lateSide{show, 1}, 100)
}

// sharing compares how soon three replicas count orders for one item with how soon
// one does.
func (b *bench) sharing(ctx context.Context) error {
	for _, tt := range []struct {
		name string
		side side
		rate int
	}{
		{"Three replicas, one hot item, at 100 orders/s, against one replica", inventory, 100},
		{"In bulk, three replicas, one hot item, at 300 orders/s, against one replica", inBulk, 300},
	} {
		half := comparison{name: tt.name + ": median", unit: "ms", less: true}
		most := comparison{name: tt.name + ": 99th percentile", unit: "ms", less: true}
		if err := b.late(ctx, half, most, lateSide{tt.side, 3}, lateSide{tt.side, 1}, tt.rate); err != nil {
			return err
		}
	}
	return nil
}

type lateSide struct {
	side     side
	replicas int
}

// late compares how late orders are counted.
func (b *bench) late(ctx context.Context, half, most comparison, ours, theirs lateSide, rate int) error {
	if !b.only.MatchString(half.name) && !b.only.MatchString(most.name) {
		return nil
	}
	for range b.rounds {
		for s, into := range map[lateSide][2]*[]float64{theirs: {&half.theirs, &most.theirs}, ours: {&half.ours, &most.ours}} {
			delays, err := b.delays(ctx, s.side, s.replicas, rate)
			if err != nil {
				return err
			}
			*into[0] = append(*into[0], percentile(delays, 50))
			*into[1] = append(*into[1], percentile(delays, 99))
		}
	}
	b.compared(half)
	b.compared(most)
	return nil
}

// growth compares the inventory service before and after a long history.
func (b *bench) growth(ctx context.Context) error {
	w := work{items: 40}
	c := comparison{name: fmt.Sprintf("After %d orders, against the first", b.history), unit: "orders/s"}
	if !b.only.MatchString(c.name) {
		return nil
	}
	r, err := b.start(ctx, order, inventory, 1)
	if err != nil {
		return err
	}
	defer r.stop()
	measure := func() (rates []float64, err error) {
		for range b.rounds {
			if err := r.drain(b.orders/2, w); err != nil {
				return nil, err
			}
			rates = append(rates, float64(b.orders/2)/r.took.Seconds())
		}
		return rates, nil
	}
	if err := r.drain(b.orders/10, w); err != nil {
		return err
	}
	if c.theirs, err = measure(); err != nil {
		return err
	}
	before := memory(r.subscribers[0].Service.PID())
	for r.placed < b.history {
		if err := r.drain(b.orders, w); err != nil {
			return err
		}
	}
	if c.ours, err = measure(); err != nil {
		return err
	}
	b.compared(c)
	b.found("Memory of the inventory service, before and after", fmt.Sprintf("%.0f MiB, %.0f MiB", before, memory(r.subscribers[0].Service.PID())))
	lasting, expiring, err := r.keys()
	if err != nil {
		return err
	}
	b.found(fmt.Sprintf("Keys in the state store after %d orders for %d items", r.placed, w.items),
		fmt.Sprintf("%d that last, %d that expire", lasting, expiring))
	return nil
}

// args makes a list of command-line arguments.
func args(values ...any) []string {
	return strings.Fields(fmt.Sprintln(values...))
}
