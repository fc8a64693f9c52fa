package main

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"example.com/dapr-orders/daprhttp"
	"example.com/dapr-orders/daprhttp/web"
	"example.com/dapr-orders/e2e/stack"
)

// The page's files, as a browser gets them.
//
//go:embed page
var pageFiles embed.FS

// A page shows a browser what happens in a running system, and lets a person do
// something to it:
//
//	GET  /                           the page
//	GET  /news                       what happens, as server-sent events
//	GET  /orders/{eventId}           all that is known of one order
//	POST /orders                     {"orderId":"…","itemId":"…","quantity":10} places an order
//	POST /stocks/{itemId}            {"quantity":100} sets the stock of an item
//	POST /load                       {"itemId":"…"} places many orders for it
//	POST /parts/{part}/{action}      breaks a part, or mends it
//	POST /api/v2/spans               takes the sidecars' spans, in Zipkin's format
type page struct {
	system  system
	broker  *stack.Redis
	journal *journal
	parts   *parts
	load    *load
	ctx     context.Context // of the launcher

	mu      sync.Mutex
	readers map[chan []byte]struct{}
}

func newPage(ctx context.Context, s system, broker *stack.Redis, j *journal, ps *parts) *page {
	return &page{
		system: s, broker: broker, journal: j, parts: ps, load: &load{system: s}, ctx: ctx,
		readers: make(map[chan []byte]struct{}),
	}
}

const maxPageBody = 64 << 10

// handler returns all routes. A browser may only use them from the page itself.
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
	return onlyHere(p.system.pagePort, web.RefuseOtherSites(mux))
}

// onlyHere returns a handler that answers requests to this machine by the names that it
// has for itself. A page of another site can have its own name mean this machine, but
// then it is that name which the browser sends (DNS rebinding). Nor may another site
// show the page in a frame, and have somebody click what he does not see.
func onlyHere(port int, next http.Handler) http.Handler {
	var hosts []string
	for _, host := range []string{"localhost", "127.0.0.1", "::1"} {
		hosts = append(hosts, net.JoinHostPort(host, strconv.Itoa(port)))
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(hosts, r.Host) {
			web.WriteError(w, http.StatusForbidden, "this page is at http://"+hosts[0])
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// How often a page is told what is new, and asks for stocks.
const (
	newsEvery  = 200 * time.Millisecond
	stockEvery = 250 * time.Millisecond
)

// watch tells every page what is new, until the launcher ends.
func (p *page) watch() {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(p.askStocks)

	newsTick, second := time.NewTicker(newsEvery), time.NewTicker(time.Second)
	defer newsTick.Stop()
	defer second.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-second.C:
			p.journal.tick()
		case <-newsTick.C:
			p.tell()
		}
	}
}

// tell sends what is new to every reader. One that does not read is let go; its browser
// asks again, and gets all.
func (p *page) tell() {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.journal.changes()
	n.Parts = p.parts.news()
	if len(p.readers) == 0 || n.empty() {
		return
	}
	message := event("news", n)
	for reader := range p.readers {
		select {
		case reader <- message:
		default:
			delete(p.readers, reader)
			close(reader)
		}
	}
}

// event returns a server-sent event.
func event(name string, data any) []byte {
	text, err := json.Marshal(data)
	if err != nil {
		panic(err) // all that is sent can be encoded
	}
	return fmt.Appendf(nil, "event: %s\ndata: %s\n\n", name, text)
}

// news sends all that there is to show, and then what is new.
func (p *page) news(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	if err := errors.Join(control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Time{})); err != nil {
		web.WriteError(w, http.StatusInternalServerError, err.Error())
		return
	}
	reader := make(chan []byte, 50)
	p.mu.Lock()
	all := p.journal.all()
	all.Parts = p.parts.states()
	p.readers[reader] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.readers, reader)
	}()

	w.Header().Set("Content-Type", "text/event-stream")
	message := append([]byte("retry: 1000\n"), event("all", all)...)
	for {
		if _, err := w.Write(message); err != nil || control.Flush() != nil {
			return
		}
		var open bool
		select {
		case message, open = <-reader:
			if !open {
				return
			}
		case <-r.Context().Done():
			return
		case <-p.ctx.Done():
			return
		}
	}
}

func (p *page) watched() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.readers) > 0
}

// askStocks asks the inventory service for the stocks that may have changed, while
// somebody watches.
func (p *page) askStocks() {
	every := time.NewTicker(stockEvery)
	defer every.Stop()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-every.C:
		}
		if !p.watched() {
			continue
		}
		for _, item := range p.journal.staleItems() {
			ctx, cancel := context.WithTimeout(p.ctx, 2*time.Second)
			stock, err := p.system.stock(ctx, item.ItemID)
			cancel()
			if err != nil {
				break // the others are not answered either; it is asked again
			}
			p.journal.setStock(item, stock)
		}
	}
}

// A tried is what came of a call that a person made on the page.
type tried struct {
	Command string `json:"command"` // that does the same
	Status  int    `json:"status"`  // of the answer; 0 if there was none
	Answer  string `json:"answer"`
}

// try makes a call and answers with what came of it.
func (p *page) try(w http.ResponseWriter, r *http.Request, c call) {
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	t := tried{Command: p.system.curl(c)}
	a, err := p.system.do(ctx, c)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		t.Answer = "There was no answer within 10 s."
	case err != nil:
		t.Answer = "There was no answer: " + err.Error()
	default:
		t.Status, t.Answer = a.status, a.body
	}
	web.WriteJSON(w, http.StatusOK, t)
}

func (p *page) placeOrder(w http.ResponseWriter, r *http.Request) {
	if body, ok := readBody(w, r); ok {
		p.try(w, r, p.system.orderCall(body))
	}
}

func (p *page) setStock(w http.ResponseWriter, r *http.Request) {
	if body, ok := readBody(w, r); ok {
		p.try(w, r, p.system.setStockCall(r.PathValue("itemId"), body))
	}
}

// readBody returns the body of a request. If there is none to return, the request has
// its answer.
func readBody(w http.ResponseWriter, r *http.Request) (string, bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPageBody))
	if err != nil {
		web.WriteError(w, http.StatusBadRequest, err.Error())
		return "", false
	}
	return string(body), true
}

func (p *page) placeLoad(w http.ResponseWriter, r *http.Request) {
	fields, err := web.ReadObject(r, maxPageBody)
	var itemID string
	if err == nil {
		itemID, err = fields.Text("itemId", daprhttp.CheckKey)
	}
	if err == nil && itemID == "" {
		err = errors.New("itemId is required")
	}
	if err != nil {
		web.WriteBodyError(w, err)
		return
	}
	if p.load.pending.Add(loadOrders) > loadPending {
		p.load.pending.Add(-loadOrders)
		web.WriteError(w, http.StatusConflict, fmt.Sprintf("%d orders are still to be accepted: wait for them", p.load.pending.Load()))
		return
	}
	name := "order-" + strconv.FormatInt(time.Now().UnixMilli(), 36)
	p.journal.say("%d orders for %s are placed, %d a second. What is refused is sent again until it is accepted.", loadOrders, itemID, loadRate)
	go p.load.place(p.ctx, name, itemID, loadOrders)
	web.WriteJSON(w, http.StatusAccepted, struct {
		Orders int `json:"orders"`
	}{loadOrders})
}

// act breaks a part, or mends it.
func (p *page) act(w http.ResponseWriter, r *http.Request) {
	part := p.parts.find(r.PathValue("part"))
	if part == nil {
		web.WriteError(w, http.StatusNotFound, "there is no such part")
		return
	}
	var notNow errNotNow
	switch err := p.parts.do(part, action(r.PathValue("action"))); {
	case errors.As(err, &notNow):
		web.WriteError(w, http.StatusConflict, err.Error())
	case err != nil:
		web.WriteError(w, http.StatusInternalServerError, err.Error())
	default:
		w.WriteHeader(http.StatusNoContent)
	}
}

// A detail is what a page shows of one order.
type detail struct {
	order
	Happened []happened `json:"happened"`
	Command  string     `json:"command"` // that places the same order
	Event    string     `json:"event"`   // the CloudEvent, as the broker has it
	Record   string     `json:"record"`  // of the item in the state store, as it is now
	Look     string     `json:"look"`    // the command that shows the record
}

// details answers with all that is known of an order.
func (p *page) details(w http.ResponseWriter, r *http.Request) {
	o, ok := p.journal.tell(r.PathValue("eventId"))
	if !ok {
		web.WriteError(w, http.StatusNotFound, "this order is not known any more")
		return
	}
	body, err := json.Marshal(struct {
		OrderID  string `json:"orderId"`
		ItemID   string `json:"itemId"`
		Quantity int64  `json:"quantity"`
	}{o.OrderID, o.ItemID, o.Quantity})
	if err != nil {
		web.WriteError(w, http.StatusInternalServerError, err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 3*time.Second)
	defer cancel()
	d := detail{order: o.order, Happened: o.happened(), Command: p.system.curl(p.system.orderCall(string(body)))}

	record := p.system.recordCall(o.ItemID)
	d.Look = p.system.curl(record)
	var wg sync.WaitGroup
	wg.Go(func() {
		switch a, err := p.system.do(ctx, record); {
		case err != nil:
			d.Record = "The sidecar does not answer: " + err.Error()
		default:
			d.Record = "ETag: " + a.etag + "\n\n" + indented(a.body)
		}
	})
	wg.Go(func() {
		switch text, err := p.broker.Entry(ctx, topic, `"`+o.EventID+`"`, o.first()); {
		case err != nil:
			d.Event = "The broker does not answer: " + err.Error()
		case text == "":
			d.Event = "The broker does not have it: it was brought to the inventory service by hand, or is older than a week."
		default:
			d.Event = indented(text)
		}
	})
	wg.Wait()
	web.WriteJSON(w, http.StatusOK, d)
}

// topic is where the order service publishes.
const topic = "OrderPlaced"

// indented returns JSON for people, and what is none as it is.
func indented(text string) string {
	var b bytes.Buffer
	if json.Indent(&b, []byte(text), "", "  ") != nil {
		return text
	}
	return b.String()
}
