// Command bench measures the services over real sidecars and a real Redis, by turns with
// the programs that they are compared with. It prints a table, writes the table and a
// chart into e2e/README.md, and figures into README.md.
//
// A figure is a median over the rounds, except those of grow, which runs once. The rate at
// which orders are applied is found like this: the subscribers are frozen, thousands of
// orders are published, the subscribers go on, and the clock runs until every order is
// acknowledged. So only the deliveries and the subscribers take processor time.
//
// The first error ends the command. Package stack then ends the processes and deletes the
// folders.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"time"

	"golang.org/x/perf/benchmath"

	"example.com/dapr-orders/e2e/stack"
)

func main() {
	log.SetFlags(0)
	rounds := flag.Int("rounds", 6, "how often each side is measured")
	write := flag.Bool("write", true, "write the table and the chart into e2e/README.md, and figures into README.md")
	only := flag.String("only", "", "measure only the rows whose names match this regular expression, and write nothing")
	flag.Parse()
	if runtime.GOOS != "linux" {
		log.Fatalf("bench: it reads processor time and memory from /proc, which only Linux has, and this is %s", runtime.GOOS)
	}
	bin := must(os.MkdirTemp("", "dapr-orders-bench"))
	stack.DeleteAtEnd(bin)
	b := &bench{project: must(stack.Open(context.Background(), bin, os.Stderr)), rounds: *rounds, results: make(map[measurement][]result)}
	for _, program := range []string{"subscriber", "sdk"} {
		// Only the SDK's own module requires the SDK.
		check(stack.Build(context.Background(), filepath.Join(b.project.Root, "e2e", "bench", program), filepath.Join(bin, program), "GOWORK=off"))
	}
	start, wanted := time.Now(), must(regexp.Compile(*only))
	b.rows = slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return !wanted.MatchString(r.name) })
	for round := range b.rounds {
		log.Printf("Round %d of %d.", round+1, b.rounds)
		b.round()
	}
	b.compare()
	if wanted.MatchString(growth) {
		b.grow()
	}
	log.Printf("All measurements took %v.", time.Since(start).Round(time.Second))
	fmt.Print("\n", b.table())
	if *write && *only == "" {
		b.write()
	}
}

func check(err error) {
	if err != nil {
		log.Fatal("bench: ", err)
	}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

// A bench is the benchmark and what it has found so far.
type bench struct {
	project     *stack.Project
	rounds      int
	rows        []row                    // that are wanted
	results     map[measurement][]result // round by round
	comparisons []comparison
	facts       [][2]string // name and value of a figure that is compared with nothing
}

// round measures both sides of every row once. It starts each system once.
func (b *bench) round() {
	var systems []system
	tasks := make(map[system][]task)
	for _, r := range b.rows {
		for _, m := range []measurement{r.theirs, r.ours} {
			if tasks[m.system] == nil {
				systems = append(systems, m.system)
			}
			if !slices.Contains(tasks[m.system], m.task) {
				tasks[m.system] = append(tasks[m.system], m.task)
			}
		}
	}
	for _, s := range systems {
		// Delays come first, on a sidecar that has done nothing yet.
		slices.SortStableFunc(tasks[s], func(t, u task) int { return cmp.Compare(u.rate, t.rate) })
		r := b.start(s)
		for _, t := range tasks[s] {
			res := r.measure(t)
			log.Printf("%s, %s, %d of %s %s: %+v", t.item, s.publisher.name, s.replicas, s.subscriber.name, s.subscriber.env, res)
			if res.lost != 0 && s.subscriber == inventory {
				log.Fatalf("bench: the inventory service lost %d orders", res.lost)
			}
			m := measurement{s, t}
			b.results[m] = append(b.results[m], res)
		}
		r.stop()
	}
}

// A comparison has the figures of both sides of a row, round by round.
type comparison struct {
	name         string
	figure       figure
	ours, theirs []float64
	note         string
}

// ratio returns the median of this project's figures divided by the other side's.
func (c comparison) ratio() float64 { return median(c.ours) / median(c.theirs) }

// sure reports whether the intervals of the two sides do not overlap.
func (c comparison) sure() bool {
	ours, theirs := spread(c.ours), spread(c.theirs)
	return ours.Lo > theirs.Hi || ours.Hi < theirs.Lo
}

// spread returns the median, and the interval that has the true median with a confidence
// of 95 %. The interval needs six rounds.
func spread(values []float64) benchmath.Summary {
	return benchmath.AssumeNothing.Summary(benchmath.NewSample(values, &benchmath.DefaultThresholds), 0.95)
}

func median(values []float64) float64 { return spread(values).Center }

// compare makes comparisons and facts from the results.
func (b *bench) compare() {
	for _, r := range b.rows {
		ours, theirs := b.results[r.ours], b.results[r.theirs]
		c := comparison{name: r.name, figure: r.figure, ours: each(ours, r.figure.of), theirs: each(theirs, r.figure.of)}
		if peer := r.theirs.system.subscriber; peer.applies && peer != inventory {
			lost := median(each(theirs, func(r result) float64 { return float64(r.lost) / float64(r.placed) }))
			c.note = fmt.Sprintf(" (the other lost %.0f %% of the orders, the inventory service none)", 100*lost)
		}
		b.comparisons = append(b.comparisons, c)
	}
	for _, cost := range costs {
		if results := b.results[cost.of]; len(results) > 0 {
			var u usage
			for part := range u {
				u[part] = median(each(results, func(r result) float64 { return r.cost[part] }))
			}
			b.facts = append(b.facts, [2]string{"1,000 orders, " + cost.name, u.String()})
		}
	}
}

// growth is the name of the row that grow measures.
var growth = fmt.Sprintf("%d items in turn: the last tenth of %d orders, against the first tenth", growthItems, growthOrders)

const growthItems, growthOrders = 550, 220_000

// grow compares the last tenth of a long history of orders with the first. Each item gets
// more orders than the service remembers in the item's record.
func (b *bench) grow() {
	const parts, orders = 60, growthOrders / 60 // of each part
	r := b.start(one)
	defer r.stop()
	r.drain(orders, task{item: "warm", items: growthItems})
	t := task{item: "turn", items: growthItems}
	var rates []float64
	for range parts {
		rates = append(rates, orders/r.drain(orders, t).Seconds())
	}
	b.comparisons = append(b.comparisons, comparison{name: growth, figure: perSecond, theirs: rates[:parts/10], ours: rates[parts-parts/10:]})
	if stock := r.stock(t); stock != -parts*orders {
		log.Fatalf("bench: the stock after %d orders is %d", parts*orders, stock)
	}
	b.facts = append(b.facts, [2]string{fmt.Sprintf("After %d orders for %d items", r.placed, 2*t.items),
		fmt.Sprintf("longest record: %d bytes; keys in Redis: %d; memory of the service: %.0f MiB",
			r.longestRecord(t), must(r.redis.Client().DBSize(context.Background()).Result()), peakMemory(r.subscribers[0].Service))})
}
