// Command load makes the load of the benchmark, in a process of its own. With a rate, it
// prints the ID of each order and when it placed the order, in nanoseconds since 1970.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"example.com/dapr-orders/daprhttp"
)

func main() {
	log.SetFlags(0)
	var l load
	var (
		how   = flag.String("how", "order", "order: POST /order; publish: straight to the sidecar; bulk: the same, 100 at a time")
		n     = flag.Int("n", 1000, "how many orders")
		first = flag.Int("first", 0, "number of the first order")
		rate  = flag.Int("rate", 0, "orders a second; 0: as many as are taken")
	)
	flag.StringVar(&l.to, "to", "", "URL of the order service, or of a sidecar")
	flag.StringVar(&l.item, "item", "item", "before the number of each item")
	flag.IntVar(&l.items, "items", 1, "for how many items in turn")
	flag.BoolVar(&l.keys, "keys", false, "the ids of the events are UUIDs of version 4, as clients may choose them; otherwise 7")
	flag.Parse()
	l.sidecar = &daprhttp.Client{Endpoint: l.to}
	send, each, clients := l.order, 1, 32
	switch *how {
	case "publish":
		send = l.publish
	case "bulk":
		send, each, clients = l.bulk, 100, 4
	}

	var tick <-chan time.Time
	if *rate > 0 {
		tick = time.Tick(time.Second / time.Duration(*rate))
		l.placed = bufio.NewWriter(os.Stdout)
		defer l.placed.Flush()
	}
	numbers := make(chan int)
	var workers sync.WaitGroup
	for range clients {
		workers.Go(func() {
			for i := range numbers {
				if err := send(i, min(each, *first+*n-i)); err != nil {
					log.Fatal("load: ", err)
				}
			}
		})
	}
	for i := *first; i < *first+*n; i += each {
		if tick != nil {
			<-tick
		}
		numbers <- i
	}
	close(numbers)
	workers.Wait()
}

type load struct {
	to      string
	item    string
	items   int
	keys    bool
	sidecar *daprhttp.Client

	mu     sync.Mutex
	placed *bufio.Writer
}

func orderID(i int) string { return "order-" + strconv.Itoa(i) }

// body returns the ith order.
func (l *load) body(i int) []byte {
	return fmt.Appendf(nil, `{"orderId":%q,"itemId":"%s-%d","quantity":1}`, orderID(i), l.item, i%l.items)
}

// id returns an id for the ith order's event.
func (l *load) id(i int) string {
	if l.keys {
		return fmt.Sprintf("%08x-%04x-4000-8000-%012x", rand.Uint32(), rand.Uint32()>>16, i)
	}
	return daprhttp.NewEventID()
}

var client = &http.Client{
	Timeout:   30 * time.Second,
	Transport: &http.Transport{MaxIdleConns: 256, MaxIdleConnsPerHost: 256},
}

func (l *load) order(i, _ int) error {
	start := time.Now()
	req, err := http.NewRequest(http.MethodPost, l.to+"/order", bytes.NewReader(l.body(i)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if l.keys {
		req.Header.Set("Idempotency-Key", l.id(i))
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("POST /order answered %s: %s", resp.Status, answer)
	}
	if l.placed != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		fmt.Fprintln(l.placed, orderID(i), start.UnixNano())
	}
	return err
}

func (l *load) publish(i, _ int) error {
	return l.sidecar.Publish(context.Background(), "pubsub", "OrderPlaced", daprhttp.Message{Data: l.body(i)})
}

// bulk publishes orders with one call of Dapr's bulk publish API.
func (l *load) bulk(i, n int) error {
	type entry struct {
		EntryID     string            `json:"entryId"`
		Event       json.RawMessage   `json:"event"`
		ContentType string            `json:"contentType"`
		Metadata    map[string]string `json:"metadata"`
	}
	entries := make([]entry, n)
	for j := range entries {
		entries[j] = entry{strconv.Itoa(j), l.body(i + j), "application/json", map[string]string{"cloudevent.id": l.id(i + j)}}
	}
	body, err := json.Marshal(entries)
	if err != nil {
		return err
	}
	resp, err := client.Post(l.to+"/v1.0/publish/bulk/pubsub/OrderPlaced", "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("bulk publish answered %s", resp.Status)
	}
	return nil
}
