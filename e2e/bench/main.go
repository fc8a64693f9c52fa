// Command bench measures the services over real sidecars and a real Redis, by turns with
// what they are compared with. It prints a table, and writes it into e2e/README.md with a
// chart.
//
// Every figure is a median over the rounds. The rate at which orders are applied is found
// like this: the subscribers are frozen, thousands of orders are published, the
// subscribers go on, and the clock runs until the broker has no order left that is not
// acknowledged. So only the deliveries and the subscribers take processor time.
package main

import (
	"cmp"
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
	"time"

	"golang.org/x/perf/benchmath"

	"example.com/dapr-orders/e2e/stack"
)

func main() {
	log.SetFlags(0)
	b := &bench{results: make(map[measurement][]result)}
	flag.IntVar(&b.rounds, "rounds", 6, "how often each side is measured")
	flag.IntVar(&b.orders, "orders", 10_000, "how many orders are applied in a round; slow systems get a quarter of them")
	flag.IntVar(&b.history, "history", 220_000, "how many orders the history has")
	write := flag.Bool("write", true, "write the table and the chart into e2e/README.md")
	only := flag.String("only", "", "measure only the rows whose names match this regular expression, and write nothing")
	flag.Parse()
	if err := b.run(context.Background(), *write && *only == "", *only); err != nil {
		log.Fatal("bench: ", err)
	}
}

// A bench is the benchmark and what it has found so far.
type bench struct {
	project                 *stack.Project
	rounds, orders, history int
	only                    *regexp.Regexp
	results                 map[measurement][]result // round by round
	comparisons             []comparison
	facts                   [][2]string // figures without anything to compare with: name and value
}

func (b *bench) run(ctx context.Context, write bool, only string) (err error) {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("it reads processor time and memory from /proc, which only Linux has, and this is %s", runtime.GOOS)
	}
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
		// Only the SDK's own module requires the SDK.
		if err := stack.Build(ctx, filepath.Join(b.project.Root, "e2e", "bench", program), filepath.Join(bin, program), "GOWORK=off"); err != nil {
			return err
		}
	}
	start := time.Now()
	if err := b.measure(ctx); err != nil {
		return err
	}
	b.compare()
	if err := b.growth(ctx); err != nil {
		return err
	}
	log.Printf("All measurements took %v.", time.Since(start).Round(time.Second))
	return b.report(write)
}

// measure measures in each round every system whose tasks the rows compare, and starts
// each system once a round.
func (b *bench) measure(ctx context.Context) error {
	var systems []system
	tasks := make(map[system][]task)
	for _, r := range rows {
		for _, m := range []measurement{r.theirs, r.ours} {
			if !b.only.MatchString(r.name) || slices.Contains(tasks[m.system], m.task) {
				continue
			}
			if tasks[m.system] == nil {
				systems = append(systems, m.system)
			}
			tasks[m.system] = append(tasks[m.system], m.task)
		}
	}
	for round := range b.rounds {
		log.Printf("Round %d of %d: %d systems.", round+1, b.rounds, len(systems))
		for _, s := range systems {
			// Delays come first, on a sidecar that has done nothing yet.
			slices.SortStableFunc(tasks[s], func(t, u task) int { return cmp.Compare(t.do, u.do) })
			if err := b.tasks(ctx, s, tasks[s]); err != nil {
				return err
			}
		}
	}
	return nil
}

// tasks starts a system and has it do tasks.
func (b *bench) tasks(ctx context.Context, s system, tasks []task) (err error) {
	r, err := b.start(ctx, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	for _, t := range tasks {
		measure := r.fast
		if t.do == pace {
			measure = r.pace
		}
		res, err := measure(t)
		if err == nil && res.lost != 0 && s.subscriber == inventory {
			err = fmt.Errorf("the inventory service lost %d orders", res.lost)
		}
		what := fmt.Sprintf("%s, %s, %d of %s %s", t.item, s.publisher.name, s.replicas, s.subscriber.name, s.subscriber.env)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		log.Printf("%s: %+v", what, res)
		m := measurement{s, t}
		b.results[m] = append(b.results[m], res)
	}
	return nil
}

// A comparison is what both sides of a row reached, round by round.
type comparison struct {
	name         string
	figure       figure
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

func median(values []float64) float64 { return spread(values).Center }

// compare makes the comparisons and the facts of what was measured.
func (b *bench) compare() {
	for _, r := range rows {
		if !b.only.MatchString(r.name) {
			continue
		}
		ours, theirs := b.results[r.ours], b.results[r.theirs]
		c := comparison{name: r.name, figure: r.figure, ours: all(ours, r.figure.of), theirs: all(theirs, r.figure.of)}
		if peer := r.theirs.system.subscriber; peer.applies && peer != inventory {
			lost := median(all(theirs, func(r result) float64 { return float64(r.lost) / float64(r.placed) }))
			c.note = fmt.Sprintf("the other lost %.0f %% of the orders, the inventory service none", 100*lost)
		}
		b.comparisons = append(b.comparisons, c)
	}
	for _, cost := range costs {
		if results := b.results[cost.of]; len(results) > 0 {
			var u usage
			for part := range u {
				u[part] = median(all(results, func(r result) float64 { return r.cost[part] }))
			}
			b.facts = append(b.facts, [2]string{"1,000 orders, " + cost.name, u.String()})
		}
	}
}

// growth compares the last tenth of a long history of orders with the first. The items
// are ordered in turn, and have more IDs in their records than the service remembers.
func (b *bench) growth(ctx context.Context) (err error) {
	const each, parts = 400, 60
	t := task{do: apply, item: "turn", items: b.history / each}
	c := comparison{name: fmt.Sprintf("%d items in turn: the last tenth of %d orders, against the first tenth", t.items, b.history), figure: perSecond}
	if !b.only.MatchString(c.name) {
		return nil
	}
	r, err := b.start(ctx, one)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	if err := r.drain(b.history/parts, task{do: apply, item: "warm", items: t.items}); err != nil {
		return err
	}
	var rates []float64
	for range parts {
		if err := r.drain(b.history/parts, t); err != nil {
			return err
		}
		rates = append(rates, float64(b.history/parts)/r.took.Seconds())
	}
	c.theirs, c.ours = rates[:parts/10], rates[parts-parts/10:]
	stock, err := r.stock(t)
	if err != nil {
		return err
	}
	if placed := parts * (b.history / parts); stock != -placed {
		return fmt.Errorf("the stock after %d orders is %d", placed, stock)
	}
	b.comparisons = append(b.comparisons, c)
	record, err := r.longestRecord(t)
	if err != nil {
		return err
	}
	keys, err := r.redis.Client().DBSize(ctx).Result()
	b.facts = append(b.facts, [2]string{fmt.Sprintf("After %d orders for %d items", r.placed, 2*t.items),
		fmt.Sprintf("longest record: %d bytes; keys in Redis: %d; memory of the service: %.0f MiB", record, keys, peakMemory(r.subscribers[0].Service))})
	return err
}
