// Command bench measures the services over real sidecars and a real Redis, each
// time against something to compare with, by turns in the same run. It prints a
// table, and writes it into the README with a chart.
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
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"example.com/dapr-orders/e2e/stack"
)

func main() {
	log.SetFlags(0)
	rounds := flag.Int("rounds", 5, "how often each side is measured")
	orders := flag.Int("orders", 10_000, "how many orders are counted in a round")
	history := flag.Int("history", 200_000, "how many orders the history has")
	write := flag.Bool("write", true, "write the table and the chart into the README")
	flag.Parse()
	if err := run(*rounds, *orders, *history, *write); err != nil {
		log.Fatal("bench: ", err)
	}
}

func run(rounds, orders, history int, write bool) (err error) {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("it reads processor time and memory from /proc, which only Linux has, and this is %s", runtime.GOOS)
	}
	ctx := context.Background()
	b := &bench{rounds: rounds, orders: orders, history: history}
	if b.root, err = stack.Root(); err != nil {
		return err
	}
	if b.bin, err = os.MkdirTemp("", "dapr-orders-bench"); err != nil {
		return err
	}
	defer os.RemoveAll(b.bin)
	if err := stack.BuildServices(ctx, b.root, b.bin); err != nil {
		return err
	}
	for _, program := range []string{"load", "subscriber"} {
		build := exec.Command("go", "build", "-o", filepath.Join(b.bin, program), "./e2e/bench/"+program)
		build.Dir = b.root
		if output, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("go build ./e2e/bench/%s: %w\n%s", program, err, output)
		}
	}
	if b.daprd, err = stack.Daprd(ctx, b.root, os.Stderr); err != nil {
		return err
	}
	for _, measure := range []func(context.Context) error{b.counting, b.accepting, b.latency, b.growth} {
		if err := measure(ctx); err != nil {
			return err
		}
	}
	return b.report(write)
}

// A bench is the benchmark and what it has found so far.
type bench struct {
	root, bin, daprd        string
	rounds, orders, history int

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

// A fact is a figure without anything to compare it with.
type fact struct{ name, value string }

func median(values []float64) float64 { return percentile(values, 50) }

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
		name     string
		against  side
		replicas int
		items    int
		usage    bool // is of interest
	}{
		{"One hot item", nothing, 1, 1, true},
		{"40 items", nothing, 1, 40, false},
		{"1,000 items", nothing, 1, 1000, true},
		{"Three replicas, one hot item", nothing, 3, 1, false},
		{"Three replicas, 40 items", nothing, 3, 40, false},
		{"Three replicas, 1,000 items", nothing, 3, 1000, false},
		{"One hot item, against doing nothing in bulk", bulk, 1, 1, false},
		{"One hot item, against the usual read-then-write", usual, 1, 1, false},
		{"1,000 items, against the usual read-then-write", usual, 1, 1000, false},
	}
	for _, tt := range tests {
		c := comparison{name: tt.name, unit: "orders/s"}
		var lost int64
		var used []usage
		for range b.rounds {
			theirs, err := b.count(ctx, tt.against, tt.replicas, tt.items)
			if err != nil {
				return err
			}
			ours, err := b.count(ctx, inventory, tt.replicas, tt.items)
			if err != nil {
				return err
			}
			if ours.lost != 0 {
				return fmt.Errorf("%s: the inventory service lost %d orders", tt.name, ours.lost)
			}
			lost += theirs.lost
			c.ours = append(c.ours, ours.rate)
			c.theirs = append(c.theirs, theirs.rate)
			used = append(used, ours.usage)
		}
		if tt.against == usual {
			c.note = fmt.Sprintf("it lost %.0f%% of the orders; the inventory service none", 100*float64(lost)/float64(b.rounds*(b.orders+b.warmUp())))
		}
		b.compared(c)
		if tt.usage {
			b.used(tt.name, used)
		}
	}
	return nil
}

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

// accepting compares POST /order with publishing straight to the sidecar.
func (b *bench) accepting(ctx context.Context) error {
	c := comparison{name: "POST /order, against publishing straight to the sidecar", unit: "orders/s"}
	memory := 0.0
	for range b.rounds {
		r, err := b.start(ctx, inventory, 0)
		if err != nil {
			return err
		}
		var rates [2]float64
		for i, how := range []string{"publish", "order"} {
			to := r.publisher.DaprURL("")
			if how == "order" {
				to = r.publisher.URL("")
			}
			for _, orders := range []int{b.warmUp(), b.orders / 2} { // the second is measured
				if err := r.load(how, to, orders, 1); err != nil {
					return errors.Join(err, r.stop())
				}
			}
			rates[i] = float64(b.orders/2) / r.took.Seconds()
		}
		c.theirs, c.ours = append(c.theirs, rates[0]), append(c.ours, rates[1])
		memory = max(memory, peakMemory(r.publisher.Service.PID()))
		if err := r.stop(); err != nil {
			return err
		}
	}
	b.compared(c)
	b.found("Most memory of the order service", fmt.Sprintf("%.0f MiB", memory))
	return nil
}

// latency compares the time from POST /order to counted at 100 orders a second.
func (b *bench) latency(ctx context.Context) error {
	half := comparison{name: "From POST /order to counted, at 100 orders/s: median", unit: "ms", less: true}
	most := comparison{name: "From POST /order to counted, at 100 orders/s: 99th percentile", unit: "ms", less: true}
	for range b.rounds {
		theirs, err := b.delays(ctx, show)
		if err != nil {
			return err
		}
		ours, err := b.delays(ctx, inventory)
		if err != nil {
			return err
		}
		half.theirs, half.ours = append(half.theirs, percentile(theirs, 50)), append(half.ours, percentile(ours, 50))
		most.theirs, most.ours = append(most.theirs, percentile(theirs, 99)), append(most.ours, percentile(ours, 99))
	}
	b.compared(half)
	b.compared(most)
	return nil
}

// growth compares the inventory service before and after a long history.
func (b *bench) growth(ctx context.Context) error {
	const items = 40
	r, err := b.start(ctx, inventory, 1)
	if err != nil {
		return err
	}
	defer r.stop()
	c := comparison{name: fmt.Sprintf("After %d orders, against the first", b.history), unit: "orders/s"}
	measure := func() (rates []float64, err error) {
		for range b.rounds {
			if err := r.drain(ctx, b.orders/2, items); err != nil {
				return nil, err
			}
			rates = append(rates, float64(b.orders/2)/r.took.Seconds())
		}
		return rates, nil
	}
	if err := r.drain(ctx, b.warmUp(), items); err != nil {
		return err
	}
	if c.theirs, err = measure(); err != nil {
		return err
	}
	before := memory(r.subscribers[0].Service.PID())
	for r.placed < b.history {
		if err := r.drain(ctx, b.orders, items); err != nil {
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
	b.found(fmt.Sprintf("Keys in the state store after %d orders for %d items", r.placed, items),
		fmt.Sprintf("%d that last, %d that expire", lasting, expiring))
	return nil
}

func (b *bench) warmUp() int { return b.orders / 10 }

// args makes a list of command-line arguments.
func args(values ...any) []string {
	return strings.Fields(fmt.Sprintln(values...))
}
