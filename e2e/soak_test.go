//go:build soak

package e2e

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

var (
	soakFor  = flag.Duration("soak.for", 2*time.Minute, "how long the soak goes on")
	soakSeed = flag.Uint64("soak.seed", uint64(time.Now().UnixNano()), "seed of the random faults")
)

// TestSoak lets one random fault after another happen while clients place orders, and counts
// the orders at the end. Half of the orders are for one item. A quarter is for a catalogue of
// items in turn. Each order of the last quarter is for an item of its own.
func TestSoak(t *testing.T) {
	t.Logf("seed %d, for %v", *soakSeed, *soakFor)
	random := rand.New(rand.NewPCG(*soakSeed, 0))
	logs, err := os.Create(filepath.Join(harness.Project.Root, ".run", "soak.log"))
	harness.Must(t, err)
	defer logs.Close()
	s := harness.Start(t, harness.Options{Replicas: 3, SeparateState: true, Network: true, Logs: logs})
	deadLetters := s.StartDeadLetters("serve", harness.DeadLetterTopic, "OrderPlaced")
	l := s.StartLoad("hot", 50, func(n int) string {
		switch n % 4 {
		case 0:
			return fmt.Sprint("own-", n)
		case 2:
			return fmt.Sprint("catalogue-", n/4%20)
		}
		return "hot"
	})
	actors := startActors(s, l)

	faults := soakFaults(s, t, random)
	faults["dead letters killed"] = func() {
		deadLetters.Service.Kill()
		time.Sleep(time.Second) // the fault itself
		harness.Must(t, deadLetters.StartService(t.Context()))
	}
	names := slices.Sorted(maps.Keys(faults))
	happened := make(map[string]int)
	for end := time.Now().Add(*soakFor); time.Now().Before(end); {
		name := names[random.IntN(len(names))]
		happened[name]++
		fmt.Fprintf(logs, "%s FAULT: %s\n", time.Now().Format(time.StampMilli), name)
		faults[name]()
		time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond)
	}

	l.Stop()
	actors.workers.Wait()
	for topic, app := range map[string]string{"OrderPlaced": "inventory-service", "OrderPlaced-retry": "inventory-service", harness.DeadLetterTopic: "dead-letters"} {
		harness.WaitFor(t, 5*time.Minute, func() error { return s.Broker.Drained(topic, app) })
	}
	applied, lost, doubled := audit(s, t, l)
	letters := s.Metrics(deadLetters.URL("/metrics"))["dead_letters"]
	if letters != fmt.Sprint(actors.poison.Load()) {
		t.Errorf("there are %s dead letters of %d invalid events", letters, actors.poison.Load())
	}
	if n := actors.forged.Load(); n > 0 {
		t.Errorf("%d requests of the stranger were carried out", n)
	}
	orderID, latest := l.Latest()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "orders accepted\t%d\n", l.NumAccepted())
	fmt.Fprintf(w, "orders applied\t%d\n", applied)
	fmt.Fprintf(w, "lost\t%d\n", lost)
	fmt.Fprintf(w, "doubled\t%d\n", doubled)
	fmt.Fprintf(w, "invalid events published, and dead letters kept\t%d, %s\n", actors.poison.Load(), letters)
	fmt.Fprintf(w, "a stranger's forgeries that were answered, and carried out\t%d, %d\n", actors.tried.Load(), actors.forged.Load())
	fmt.Fprintf(w, "times an order was moved to the retry topic\t%d\n", s.Moved.Load())
	fmt.Fprintf(w, "requests refused or unanswered, and sent again\t%d\n", l.Refused.Load())
	fmt.Fprintf(w, "longest time from accepted to applied\t%v\t(%s)\n", latest.Round(10*time.Millisecond), orderID)
	for _, name := range names {
		fmt.Fprintf(w, "%s\t%d\n", name, happened[name])
	}
	w.Flush()
	t.Logf("seed %d, %v:\n%s", *soakSeed, *soakFor, b.String())
	if lost > 0 || doubled > 0 {
		t.Errorf("%d orders were lost and %d doubled", lost, doubled)
	}
	s.AppliedOnce(t, l.OrderIDs()) // in one stock, a lost order can hide a doubled one
}

// actors are other programs that run while clients place orders.
type actors struct {
	workers sync.WaitGroup
	poison  atomic.Int64 // invalid events published
	tried   atomic.Int64 // forged requests
	forged  atomic.Int64 // forged requests that were carried out
}

// startActors starts a publisher of invalid events, and an app that hides its name, forges
// deliveries and sets the stock. They stop with the load.
func startActors(s *harness.System, l *harness.Load) *actors {
	a := &actors{}
	stranger := s.Serve("stranger", http.NewServeMux())
	every := func(d time.Duration, do func(n int)) {
		a.workers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-l.Stopping():
					return
				case <-time.After(d):
					do(n)
				}
			}
		})
	}
	every(500*time.Millisecond, func(n int) {
		m := daprhttp.Message{
			Data: fmt.Appendf(nil, `{"orderId":"poison-%d","itemId":"hot","quantity":"many"}`, n),
			ID:   fmt.Sprint("poison-", n),
		}
		for s.Sidecar(s.Order).Publish(s.T.Context(), "pubsub", "OrderPlaced", m) != nil {
			time.Sleep(50 * time.Millisecond)
		}
		a.poison.Add(1)
	})
	every(200*time.Millisecond, func(n int) {
		path, contentType, body := "/inventory/hot", harness.PlainJSON, `{"quantity":1}`
		if n%2 == 0 {
			path, contentType = "/orders", harness.EventsJSON
			body = fmt.Sprintf(`{"specversion":"1.0","id":"forged-%d","source":"order-service","type":"OrderPlaced","data":{"orderId":"forged-%[1]d","itemId":"hot","quantity":1}}`, n)
		}
		header, disguises := http.Header{"Content-Type": {contentType}}, harness.Disguises(s.Inventory[0])
		maps.Copy(header, disguises[n/2%len(disguises)])
		answer, err := s.TrySend("POST", stranger.DaprURL("/v1.0/invoke/inventory-service/method"+path), body, header)
		switch {
		case err == nil && answer.Status == http.StatusOK:
			a.forged.Add(1)
			a.tried.Add(1)
		case err == nil && answer.Status == http.StatusForbidden:
			a.tried.Add(1)
		}
	})
	return a
}

// soakFaults returns the faults, by name. Each fault is over when its function returns.
func soakFaults(s *harness.System, t *testing.T, random *rand.Rand) map[string]func() {
	pause := func(most time.Duration) { time.Sleep(time.Duration(random.Int64N(int64(most)))) }
	replica := func() *stack.App { return s.Inventory[random.IntN(len(s.Inventory))] }
	killService := func(a *stack.App) {
		a.Service.Kill()
		pause(3 * time.Second)
		harness.Must(t, a.StartService(t.Context()))
	}
	killSidecar := func(a *stack.App) {
		a.Sidecar.Kill()
		pause(3 * time.Second)
		harness.Must(t, a.StartSidecar(t.Context()))
	}
	killServer := func(r stack.Server) {
		r.Kill()
		pause(8 * time.Second)
		harness.Must(t, r.Restart(t.Context()))
	}
	freeze := func(p *stack.Process, most time.Duration) {
		harness.Must(t, p.Freeze())
		pause(most)
		harness.Must(t, p.Thaw())
	}
	storm := func(w stack.Weather, most time.Duration, links ...*stack.Link) {
		harness.Rage(w, time.Duration(random.Int64N(int64(most))), links...)
	}
	return map[string]func(){
		"network: broker cut off":                func() { storm(stack.Cut, 10*time.Second, s.BrokerLinks()...) },
		"network: state store cut off":           func() { storm(stack.Cut, 10*time.Second, s.StateLinks()...) },
		"network: nothing gets to the broker":    func() { storm(stack.Weather{CutThere: true}, 10*time.Second, s.BrokerLinks()...) },
		"network: nothing comes from the store":  func() { storm(stack.Weather{CutBack: true}, 10*time.Second, s.StateLinks()...) },
		"network: a replica without its store":   func() { storm(stack.Cut, 20*time.Second, s.LinksOf(replica()).State) },
		"network: a replica without its broker":  func() { storm(stack.Cut, 20*time.Second, s.LinksOf(replica()).Broker) },
		"network: a replica without its sidecar": func() { l := s.LinksOf(replica()); storm(stack.Cut, 20*time.Second, l.Service, l.Sidecar) },
		"network: 30 % of all packets lost":      func() { storm(stack.Weather{Loss: 0.3}, 10*time.Second, s.AllLinks()...) },
		"network: all answers 2 s late":          func() { storm(stack.Weather{Delay: 2 * time.Second}, 10*time.Second, s.AllLinks()...) },
		"inventory service killed":               func() { killService(replica()) },
		"inventory service frozen":               func() { freeze(replica().Service, 8*time.Second) },
		"inventory sidecar killed":               func() { killSidecar(replica()) },
		"inventory sidecar frozen":               func() { freeze(replica().Sidecar, 25*time.Second) },
		"inventory replica killed":               func() { a := replica(); a.Sidecar.Kill(); killService(a); harness.Must(t, a.StartSidecar(t.Context())) },
		"inventory replica restarted": func() {
			a := replica()
			harness.Must(t, a.Stop())
			harness.Must(t, a.StartService(t.Context()))
			harness.Must(t, a.StartSidecar(t.Context()))
		},
		"order service killed":          func() { killService(s.Order) },
		"order sidecar killed":          func() { killSidecar(s.Order) },
		"state store killed":            func() { killServer(s.State) },
		"hot item refused by the store": func() { accept := harness.Refuse(t, s.State, "hot"); pause(15 * time.Second); accept() },
		"state store frozen":            func() { freeze(s.State.(*stack.Redis).Process, 8*time.Second) },
		"broker killed":                 func() { killServer(s.Broker) },
		"broker frozen":                 func() { freeze(s.Redis().Process, 8*time.Second) },
		"broker and state store killed": func() { s.State.Kill(); killServer(s.Broker); harness.Must(t, s.State.Restart(t.Context())) },
	}
}

// audit compares the stock of every item with the orders that were accepted.
func audit(s *harness.System, t *testing.T, l *harness.Load) (applied, lost, doubled int) {
	ordered := map[string]int{l.ItemID: 0}
	for orderID := range l.Accepted() {
		ordered[orderID[:strings.LastIndex(orderID, "-")]]++ // before it is the item
	}
	items := slices.Collect(maps.Keys(ordered))
	var mu sync.Mutex
	harness.InParallel(len(items), 8, func(i int) {
		item := items[i]
		stock, err := s.Stock(item)
		if err != nil {
			t.Error(err)
			return
		}
		if item == l.ItemID {
			stock -= l.Stock
		}
		mu.Lock()
		defer mu.Unlock()
		if stock != -ordered[item] {
			t.Errorf("item %s: ordered %d, applied %d; .run/soak.log has all that was written", item, ordered[item], -stock)
		}
		applied += -stock
		lost += max(0, ordered[item]+stock)
		doubled += max(0, -stock-ordered[item])
	})
	return applied, lost, doubled
}
