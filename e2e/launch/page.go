package main

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/web"
	"example.com/dapr-orders/e2e/load"
	"example.com/dapr-orders/e2e/stack"
)

// The page's files, as a browser gets them.
//
//go:embed page
var pageFiles embed.FS

// A page shows a browser what happens in a running system, and lets a person change it:
//
//	GET  /                           the page
//	GET  /news                       what happens, as server-sent events
//	GET  /orders/{eventId}           what is known of one order
//	POST /orders                     {"orderId":"…","itemId":"…","quantity":10} places an order
//	POST /stocks/{itemId}            {"quantity":100} sets the stock of an item
//	POST /load                       {"itemId":"…"} places many orders for it
//	POST /parts/{part}/{action}      breaks a part, or repairs it
//	POST /api/v2/spans               takes the sidecars' spans, in Zipkin's format
type page struct {
	ctx     context.Context // of the launcher
	system  system
	broker  *stack.Redis
	journal *journal
	parts   *parts

	watching atomic.Int64 // browsers that get the news
	loads    atomic.Int64 // under way
}

// handler returns the routes. A browser may use them only from the page itself.
func (p *page) handler() http.Handler {
	files, err := fs.Sub(pageFiles, "page")
	if err != nil {
		panic(err) // the folder is named above
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(files))
	mux.HandleFunc("GET /news", p.news)
	mux.HandleFunc("GET /orders/{eventId}", p.details)
	mux.HandleFunc("POST /orders", p.placeOrder)
	mux.HandleFunc("POST /stocks/{itemId}", p.setStock)
	mux.HandleFunc("POST /load", p.placeLoad)
	mux.HandleFunc("POST /parts/{part}/{action}", p.act)
	mux.HandleFunc("POST /api/v2/spans", p.journal.takeSpans)
	return withHeaders(web.RefuseOtherSites(http.MaxBytesHandler(mux, 16<<20)))
}

// withHeaders adds headers to the answers. They forbid frames, which stops clickjacking.
func withHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// How often a browser gets the news, and how often the launcher asks for stocks.
const (
	newsEvery  = 200 * time.Millisecond
	stockEvery = 250 * time.Millisecond
)

// news sends what there is to show, and then the changes. It lets a browser go that does not
// read; the browser asks again.
func (p *page) news(w http.ResponseWriter, r *http.Request) {
	p.watching.Add(1)
	defer p.watching.Add(-1)
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Time{}); err != nil { // a browser sends nothing more
		web.WriteError(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	tick := time.NewTicker(newsEvery)
	defer tick.Stop()
	for told := 0; ; {
		if n := p.journal.news(told); n.version > told {
			told = n.version
			text, err := json.Marshal(n)
			if err != nil {
				panic(err) // a mistake of the program
			}
			_ = control.SetWriteDeadline(time.Now().Add(10 * time.Second))
			fmt.Fprintf(w, "retry: 1000\ndata: %s\n\n", text)
			if control.Flush() != nil {
				return
			}
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		case <-p.ctx.Done():
			return
		}
	}
}

// watch keeps the journal up to date, until the launcher ends.
func (p *page) watch() {
	every := func(pause time.Duration, do func()) func() {
		return func() {
			for tick := time.Tick(pause); ; {
				select {
				case <-tick:
					do()
				case <-p.ctx.Done():
					return
				}
			}
		}
	}
	var wg sync.WaitGroup
	wg.Go(every(time.Second, p.journal.tick))
	wg.Go(every(stockEvery, p.askStocks))
	wg.Wait()
}

// askStocks asks the inventory service for the stocks that may have changed, if a browser
// shows them.
func (p *page) askStocks() {
	if p.watching.Load() == 0 {
		return
	}
	for _, item := range p.journal.staleItems() {
		ctx, cancel := context.WithTimeout(p.ctx, 2*time.Second)
		stock, err := p.system.stock(ctx, item.ItemID)
		cancel()
		if err != nil {
			return // the service does not answer for the other items either
		}
		p.journal.setStock(item, stock)
	}
}

func (p *page) placeOrder(w http.ResponseWriter, r *http.Request) {
	p.try(w, r, p.system.orderCall)
}

func (p *page) setStock(w http.ResponseWriter, r *http.Request) {
	p.try(w, r, func(body string) call { return p.system.setStockCall(r.PathValue("itemId"), body) })
}

// try makes a call with the body of a request, and answers with the result.
func (p *page) try(w http.ResponseWriter, r *http.Request, with func(body string) call) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		web.WriteError(w, http.StatusBadRequest, err.Error())
		return
	}
	c := with(string(body))
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	result := struct {
		Command string `json:"command"` // that does the same
		Status  int    `json:"status"`  // of the answer; 0 if there was none
		Answer  string `json:"answer"`
	}{Command: p.system.curl(c)}
	switch a, err := p.system.do(ctx, c); {
	case errors.Is(err, context.DeadlineExceeded):
		result.Answer = "There was no answer within 10 s."
	case err != nil:
		result.Answer = "There was no answer: " + err.Error()
	default:
		result.Status, result.Answer = a.status, a.body
	}
	web.WriteJSON(w, http.StatusOK, result)
}

const (
	loadOrders   = 500
	loadRate     = 50 // orders a second
	loadsAtOnce  = 4
	loadPatience = 5 * time.Second // how long a request waits for an answer
	loadPause    = 500 * time.Millisecond
)

// placeLoad begins to place many orders. A refused order is sent again with the same
// Idempotency-Key, as a careful client does, and so is applied once.
func (p *page) placeLoad(w http.ResponseWriter, r *http.Request) {
	fields, err := web.ReadObject(r, 4<<10)
	itemID, wrong := fields.Text("itemId", daprhttp.CheckKey)
	if err = cmp.Or(err, wrong); err == nil && itemID == "" {
		err = errors.New("itemId is required")
	}
	if err != nil {
		web.WriteBodyError(w, err)
		return
	}
	if p.loads.Add(1) > loadsAtOnce {
		p.loads.Add(-1)
		web.WriteError(w, http.StatusConflict, fmt.Sprintf("%d loads of %d orders are under way: wait for one to end", loadsAtOnce, loadOrders))
		return
	}
	p.journal.say("%d orders for %s are placed, %d a second. What is refused is sent again until it is accepted.", loadOrders, itemID, loadRate)
	name := "order-" + strconv.FormatInt(time.Now().UnixMilli(), 36)
	target := load.Target{URL: onIPv4(p.system.orderCall("").url), Token: p.system.daprAPIToken, Timeout: loadPatience, Pause: loadPause}
	go func() {
		defer p.loads.Add(-1)
		err := load.Load{Clients: loadOrders, PerSecond: loadRate, Count: loadOrders}.Run(p.ctx, func(ctx context.Context, n int) error {
			id := fmt.Sprintf("%s-%d", name, n+1)
			return target.Place(ctx, load.Order{ID: id, ItemID: itemID, Quantity: 1, Key: id})
		})
		if err != nil && p.ctx.Err() == nil {
			p.journal.say("No more orders for %s are placed: %v", itemID, err)
		}
	}()
	w.WriteHeader(http.StatusAccepted)
}

// act breaks a part, or repairs it.
func (p *page) act(w http.ResponseWriter, r *http.Request) {
	part := p.parts.find(r.PathValue("part"))
	if part == nil {
		web.WriteError(w, http.StatusNotFound, "there is no such part")
		return
	}
	if err := p.parts.do(part, action(r.PathValue("action"))); err != nil {
		web.WriteError(w, http.StatusConflict, err.Error())
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// A detail is what a page shows of one order.
type detail struct {
	order
	Happened []step `json:"happened"`
	Command  string `json:"command"` // that places the same order
	Event    string `json:"event"`   // the CloudEvent, as the broker has it
	Record   string `json:"record"`  // of the item in the state store, as it is now
	Look     string `json:"look"`    // the command that shows the record
}

// details answers with what is known of an order.
func (p *page) details(w http.ResponseWriter, r *http.Request) {
	o, happened, known := p.journal.tell(r.PathValue("eventId"))
	if !known {
		web.WriteError(w, http.StatusNotFound, "this order is not known any more")
		return
	}
	body, err := json.Marshal(load.Order{ID: o.OrderID, ItemID: o.ItemID, Quantity: int(o.Quantity)})
	if err != nil {
		panic(err) // a mistake of the program
	}
	record := p.system.recordCall(o.ItemID)
	d := detail{order: o, Happened: happened, Command: p.system.curl(p.system.orderCall(string(body))), Look: p.system.curl(record)}
	ctx, cancel := context.WithTimeout(r.Context(), 3*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		if a, err := p.system.do(ctx, record); err != nil {
			d.Record = "The sidecar does not answer: " + err.Error()
		} else {
			d.Record = "ETag: " + a.etag + "\n\n" + indented(a.body)
		}
	})
	wg.Go(func() {
		switch text, err := p.broker.Entry(ctx, "OrderPlaced", `"`+o.EventID+`"`, o.first); {
		case err != nil:
			d.Event = "The broker does not answer: " + err.Error()
		case text == "":
			d.Event = "The broker does not have it: it was sent to the inventory service directly, or is older than a week."
		default:
			d.Event = indented(text)
		}
	})
	wg.Wait()
	web.WriteJSON(w, http.StatusOK, d)
}

// indented returns JSON for people, and other text as it is.
func indented(text string) string {
	var b bytes.Buffer
	if json.Indent(&b, []byte(text), "", "  ") != nil {
		return text
	}
	return b.String()
}
