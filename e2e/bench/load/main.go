// Command load makes the load of the benchmark, in a process of its own. It
// prints when it placed each order, or only how many seconds all of them took.
package main

import (
	"bufio"
	"bytes"
	"context"
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
	var (
		to      = flag.String("to", "", "URL of the order service, or of a sidecar")
		how     = flag.String("how", "order", "order: POST /order; publish: straight to the sidecar; bulk: the same, 100 at a time")
		n       = flag.Int("n", 1000, "how many orders")
		first   = flag.Int("first", 0, "number of the first order")
		items   = flag.Int("items", 1, "for how many items in turn")
		clients = flag.Int("clients", 32, "how many clients place orders at the same time")
		rate    = flag.Int("rate", 0, "orders a second; 0: as many as are taken")
		uuid    = flag.Int("uuid", 7, "the version of the UUIDs that are the ids of what is published in bulk: 7 or 4")
		show    = flag.Bool("show", false, "print the ID of each order and when it was placed, in nanoseconds since 1970")
	)
	flag.Parse()
	l := load{to: *to, items: *items, uuid: *uuid, sidecar: &daprhttp.Client{Endpoint: *to}}
	if *show {
		l.placed = bufio.NewWriter(os.Stdout)
	}
	send, each := l.order, 1
	switch *how {
	case "publish":
		send = l.publish
	case "bulk":
		send, each = l.bulk, 100
	}

	var tick <-chan time.Time
	if *rate > 0 {
		tick = time.Tick(time.Second / time.Duration(*rate))
	}
	numbers := make(chan int)
	var workers sync.WaitGroup
	for range *clients {
		workers.Go(func() {
			for i := range numbers {
				if err := send(i, min(each, *first+*n-i)); err != nil {
					log.Fatal("load: ", err)
				}
			}
		})
	}
	start := time.Now()
	for i := *first; i < *first+*n; i += each {
		if tick != nil {
			<-tick
		}
		numbers <- i
	}
	close(numbers)
	workers.Wait()
	if *show {
		_ = l.placed.Flush()
	} else {
		fmt.Println(time.Since(start).Seconds())
	}
}

type load struct {
	to      string
	items   int
	uuid    int
	sidecar *daprhttp.Client

	mu     sync.Mutex
	placed *bufio.Writer
}

func orderID(i int) string { return "order-" + strconv.Itoa(i) }

// body returns the ith order.
func (l *load) body(i int) []byte {
	return fmt.Appendf(nil, `{"orderId":%q,"itemId":"item-%d","quantity":1}`, orderID(i), i%l.items)
}

var client = &http.Client{
	Timeout:   30 * time.Second,
	Transport: &http.Transport{MaxIdleConns: 256, MaxIdleConnsPerHost: 256},
}

func (l *load) order(i, _ int) error {
	start := time.Now()
	resp, err := client.Post(l.to+"/order", "application/json", bytes.NewReader(l.body(i)))
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

func (l *load) bulk(i, n int) error {
	messages := make([]daprhttp.BulkMessage, n)
	now := time.Now().UnixMilli()
	for j := range messages {
		id := fmt.Sprintf("%08x-%04x-7000-8000-%012x", now>>16, now&0xFFFF, i+j)
		if l.uuid == 4 {
			id = fmt.Sprintf("%08x-%04x-4000-8000-%012x", rand.Uint32(), rand.Uint32()>>16, i+j)
		}
		messages[j] = daprhttp.BulkMessage{EntryID: id, Message: daprhttp.Message{
			Data:     l.body(i + j),
			Metadata: map[string]string{daprhttp.MetadataEventID: id},
		}}
	}
	_, err := l.sidecar.BulkPublish(context.Background(), "pubsub", "OrderPlaced", messages, nil)
	return err
}
