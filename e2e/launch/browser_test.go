package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"example.com/dapr-orders/e2e/harness"
	"example.com/dapr-orders/e2e/stack"
)

var screenshots = flag.Bool("screenshots", false, "write the README's screenshots anew")

// A window is a tab of a real browser.
type window struct {
	t   *testing.T
	ctx context.Context
}

// startBrowser starts a browser that has no window on the screen.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	program, err := stack.Chromium.Find()
	if err != nil {
		t.Skip(err)
	}
	options := []chromedp.ExecAllocatorOption{chromedp.ExecPath(program)}
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // it refuses to run as root with one
	}
	browser, cancel := chromedp.NewContext(context.Background(), chromedp.WithAllocatorOptions(options...))
	t.Cleanup(cancel)
	if err := chromedp.Do(browser); err != nil {
		t.Fatalf("%s does not start: %v", program, err)
	}
	return browser
}

// open opens the page of a system in a new window. Each error and warning in the browser's
// console fails the test.
func open(t *testing.T, browser context.Context, s system) *window {
	t.Helper()
	problems := make(chan string, 100)
	tab, cancel := chromedp.NewContext(browser, chromedp.WithListener(func(event any) {
		var problem string
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			problem = e.ExceptionDetails.Text + " " + e.ExceptionDetails.Exception.Description
		case *runtime.EventConsoleAPICalled:
			if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
				problem = fmt.Sprintf("%s: %s", e.Type, e.Args[0].Value)
			}
		case *log.EventEntryAdded:
			if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
				problem = e.Entry.Text + " " + e.Entry.URL
			}
		}
		if problem != "" && len(problems) < cap(problems) {
			problems <- problem
		}
	}))
	t.Cleanup(func() {
		cancel()
		for len(problems) > 0 {
			t.Errorf("the browser's console: %s", <-problems)
		}
	})
	harness.Must(t, chromedp.Do(tab)) // the tab lives as long as this context
	w := &window{t, tab}
	w.do(chromedp.Navigate(fmt.Sprintf("http://localhost:%d", s.pagePort)))
	w.until("the page is connected", `document.querySelector("#parts li") !== null`)
	return w
}

// do has the browser do something.
func (w *window) do(actions ...chromedp.Action[chromedp.Void]) {
	w.t.Helper()
	ask(w, chromedp.Steps(actions...))
}

// ask has the browser do something, and returns the result.
func ask[T any](w *window, action chromedp.Action[T]) T {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, 30*time.Second)
	defer cancel()
	result, err := chromedp.Run(ctx, action)
	harness.Must(w.t, err)
	return result
}

// until waits until a JavaScript expression is true.
func (w *window) until(what, expression string) {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ask(w, chromedp.Evaluate[bool](expression)); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("still not: %s\n%s", what, ask(w, chromedp.Evaluate[string]("document.body.innerText")))
		}
	}
}

// shows waits until a text is to be read in a part of the page.
func (w *window) shows(selector, text string) {
	w.t.Helper()
	w.until(selector+" shows "+text, fmt.Sprintf("document.querySelector(%q).innerText.includes(%q)", selector, text))
}

// stock waits until the page shows this stock with a check mark.
func (w *window) stock(item string, stock int) {
	w.t.Helper()
	w.until(fmt.Sprintf("%d of %s are left", stock, item), fmt.Sprintf(`[...document.querySelectorAll("#items tr")].some((row) =>
		row.cells[0].innerText === %q && row.cells[1].innerText.replace(",", "") === "%d" && row.cells[2].innerText.endsWith("✓"))`, item, stock))
}

// total is an expression for one of the totals.
func total(name string) string {
	return fmt.Sprintf(`Number(document.querySelector("[data-total=%s]").innerText.replace(",", ""))`, name)
}

func (w *window) total(name string) int { return ask(w, chromedp.Evaluate[int](total(name))) }

// fill writes into a field of a form, in the place of its text.
func fill(form, name, value string) chromedp.Action[chromedp.Void] {
	return chromedp.SetValue(fmt.Sprintf("#%s [name=%s]", form, name), value)
}

// submit sends a form.
func submit(form string) chromedp.Action[chromedp.Void] {
	return chromedp.Click("#" + form + " button:not([type=button])")
}

// openLatest opens the latest order.
func (w *window) openLatest() {
	w.t.Helper()
	w.do(chromedp.Click("#orders li:first-child button"))
	w.until("the order is shown", `document.querySelector("#detail").open`)
}

// act presses the button of a part, and waits until the page shows what came of it: the
// part's status, and the latest note about it.
func (w *window) act(part string, do action, now status, note string) {
	w.t.Helper()
	w.do(chromedp.Click(fmt.Sprintf("[data-part=%s] [data-action=%s]", part, do), chromedp.NodeVisible))
	w.until(fmt.Sprintf("%s %s: %s", part, note, now), fmt.Sprintf(`((row) => {
		const name = row.querySelector("b").firstChild.data.toLowerCase() + " ";
		const notes = [...document.querySelectorAll("#log li")].map((line) => line.lastChild.data.toLowerCase());
		return row.querySelector("small").innerText === %q && notes.find((note) => note.startsWith(name))?.startsWith(name + %q);
	})(document.querySelector("[data-part=%s]")) ?? false`, now, note, part))
}

func TestPage(t *testing.T) {
	s := testSystem(t)
	_, end := start(t, s)
	t.Cleanup(end)
	browser := startBrowser(t)

	t.Run("a page of another site can't use the sidecars", func(t *testing.T) { otherSite(t, browser, s) })

	t.Run("a person places an order and sees 90", func(t *testing.T) {
		w := open(t, browser, s)
		w.do(fill("stock-form", "itemId", "pen"), fill("stock-form", "quantity", "100"), submit("stock-form"))
		w.shows("#tried-answer", `{"itemId":"pen","quantity":100}`)
		w.do(fill("order-form", "orderId", "order-7"), fill("order-form", "itemId", "pen"), submit("order-form"))
		w.shows("#tried-status", "It is answered 200")
		w.shows("#tried-command", fmt.Sprintf(`curl -X POST http://localhost:%d/v1.0/invoke/order-service/method/order -H "Content-Type: application/json" -d '{"orderId": "order-7", "itemId": "pen", "quantity": 10}'`, s.order.DaprPort))
		w.stock("pen", 90)
		w.until("the dot has gone its way", `document.querySelectorAll("#dots i").length === 0`)

		w.openLatest()
		w.shows("#detail-title", "order-7: 10 of pen")
		w.shows("#detail-stage", "It is applied after")
		w.shows("#detail-command", `{"orderId":"order-7","itemId":"pen","quantity":10}`)
		w.shows("#detail-event", `"type": "OrderPlaced"`)
		w.shows("#detail-look", "/v1.0/state/statestore/pen")
		w.shows("#detail-record", `"value": 90`)
		for _, happened := range []string{ // the sidecars send their spans a little later
			"It is applied: 90 are left of pen.",
			"order-service's sidecar\tcalls the service: POST /v1.0/invoke/order-service/method/order, answered 200",
			"order-service's sidecar\thands the event to the broker: POST /v1.0/publish/pubsub/OrderPlaced, answered 204",
			"inventory-service's sidecar\tdelivers the event to the service",
			"inventory-service's sidecar\treads from the state store: GET /v1.0/state/statestore/pen, answered 200",
			"inventory-service's sidecar\twrites to the state store: POST /v1.0/state/statestore, answered 204",
		} {
			w.until("it is shown that "+happened, fmt.Sprintf(`document.querySelector("#detail-happened").innerText.includes(%q) ||
				(document.querySelector("#orders li:first-child button").click(), false)`, happened))
		}

		w.do(chromedp.KeyEvent(kb.Escape), fill("order-form", "quantity", "1.5"), submit("order-form"))
		w.shows("#tried-answer", `{"error":"quantity must be an integer, written without fraction or exponent"}`)
		w.shows("#tried-status", "It is answered 400")
	})

	t.Run("a character that turns the text around is shown as its code", func(t *testing.T) {
		w := open(t, browser, s)
		w.do(fill("order-form", "orderId", "\u202e1-redro"), fill("order-form", "itemId", "cap\u2028"), fill("order-form", "quantity", "1"), submit("order-form"))
		w.shows("#orders li:first-child", `\u202e1-redro: 1 of cap\u2028`)
		w.openLatest()
		w.until("nothing invisible is on the page", `!/[\u202e\u2028]/.test(document.body.innerText)`)
	})

	t.Run("it works by keyboard", func(t *testing.T) {
		w := open(t, browser, s)
		w.do(fill("order-form", "itemId", "pen"), fill("order-form", "orderId", "by-keyboard"), chromedp.Focus("#stock-form [name=itemId]"))
		for range len([]string{"pieces", "button", "order", "item", "pieces", "button"}) {
			w.do(chromedp.KeyEvent(kb.Tab))
		}
		w.do(chromedp.KeyEvent(kb.Enter))
		w.stock("pen", 80)
		w.do(chromedp.Focus("#orders li:first-child button"), chromedp.KeyEvent(kb.Enter))
		w.until("the order is shown", `document.querySelector("#detail").open`)
		w.do(chromedp.KeyEvent(kb.Escape))
		w.until("the order is closed", `!document.querySelector("#detail").open && document.activeElement.closest("#orders") !== null`)
		w.do(chromedp.Focus("[data-part=inventory] [data-action=freeze]"), chromedp.KeyEvent(kb.Enter))
		w.until("the focus is on what undoes it", `document.activeElement.matches("[data-part=inventory] [data-action=thaw]")`)
		w.do(chromedp.KeyEvent(kb.Enter))
		w.shows("[data-part=inventory] small", "running")
	})

	t.Run("the service is killed with orders under way", func(t *testing.T) {
		w := open(t, browser, s)
		w.do(fill("stock-form", "itemId", "ink"), submit("stock-form"))
		w.stock("ink", 1000)
		before := w.total("accepted")
		w.do(fill("order-form", "itemId", "ink"), chromedp.Click("#load"))
		w.until("orders are on their way", fmt.Sprint(total("accepted"), " > ", before+50))
		w.act("inventory", actionKill, statusDown, "was killed, as kill -9 does. orders are still accepted")
		w.until("many wait", total("waiting")+" > 20")
		w.until("the broker shows them", `!document.querySelector("#waiting").hidden && document.querySelectorAll("#dots i").length > 20`)

		// In the middle of it: the same page again, and in a second window.
		w.do(chromedp.Reload())
		w.until("the page is there again", `document.querySelector("[data-part=inventory] small")?.innerText === "down"`)
		w.until("many still wait", total("waiting")+" > 20")
		w.until("dots wait at the broker", `document.querySelectorAll("#dots i.published").length > 20`)
		second := open(t, browser, s)

		// At 50 a second the first of 150 has waited for longer than slowAfter.
		second.until("some have waited long enough to be mentioned", total("waiting")+" > 150")
		second.act("inventory", actionStart, statusUp, "is up")
		for _, w := range []*window{w, second} {
			w.until("all were accepted", fmt.Sprint(total("accepted"), " === ", before+loadOrders))
			w.until("all are applied", total("waiting")+" === 0")
			w.stock("ink", 500)
			w.until("every dot has gone its way", `document.querySelectorAll("#dots i").length === 0`)
			w.shows("#log", "Nothing waits any more.")
			if lost, doubled, dead, missing := w.total("lost"), w.total("doubled"), w.total("dead"), w.total("accepted")-w.total("applied"); lost+doubled+dead+missing != 0 {
				t.Errorf("%d are lost, %d doubled, %d dead letters, %d not applied", lost, doubled, dead, missing)
			}
		}
	})

	t.Run("screenshots", func(t *testing.T) { takeScreenshots(t, browser, s) })
	t.Run("it can be read", func(t *testing.T) { canBeRead(t, browser, s) })

	t.Run("every part can be broken and mended", func(t *testing.T) {
		w := open(t, browser, s)
		w.act("second", actionStart, statusUp, "is up")
		w.do(fill("stock-form", "itemId", "cup"), submit("stock-form"))
		w.stock("cup", 1000)
		w.do(fill("order-form", "itemId", "cup"), chromedp.Click("#load"))
		for _, part := range []string{"second", "order-sidecar", "inventory-sidecar", "redis", "inventory"} {
			w.act(part, actionFreeze, statusFrozen, "stands still")
			w.act(part, actionThaw, statusUp, "goes on")
			w.act(part, actionRestart, statusUp, "is up")
			w.act(part, actionKill, statusDown, "was killed")
			w.act(part, actionStart, statusUp, "is up")
		}
		w.stock("cup", 500)
		if n := w.total("doubled") + w.total("lost"); n != 0 {
			t.Errorf("%d are lost or doubled", n)
		}
	})
}

// otherSite shows a page of another site, which sends the sidecars requests of the kind that
// a browser sends without asking the sidecar first.
func otherSite(t *testing.T, browser context.Context, s system) {
	site := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer site.Close()
	tab, cancel := chromedp.NewContext(browser)
	defer cancel()
	harness.Must(t, chromedp.Do(tab))
	w := &window{t, tab}
	w.do(chromedp.Navigate(site.URL))

	const order, shutdown = `{"orderId":"forged","itemId":"item1","quantity":5}`, "/v1.0/shutdown"
	requests := []struct {
		port       int
		path, body string
	}{
		{s.order.DaprPort, "/v1.0/publish/pubsub/OrderPlaced", order},
		{s.order.DaprPort, "/v1.0/invoke/order-service/method/order", order},
		{s.inventory.DaprPort, "/v1.0/invoke/inventory-service/method/inventory/item1", `{"quantity":1}`},
		{s.inventory.DaprPort, "/v1.0/state/statestore", `[{"key":"item1","value":1}]`},
		{s.order.DaprPort, shutdown, ""},
		{s.inventory.DaprPort, shutdown, ""},
	}
	for _, r := range requests {
		ask(w, chromedp.Evaluate[bool](fmt.Sprintf(`(fetch("http://localhost:%d%s", {method: "POST", mode: "no-cors", headers: {"Content-Type": "text/plain"}, body: %q})
			.finally(() => window.answered = (window.answered || 0) + 1), true)`, r.port, r.path, r.body)))
	}
	w.until("all requests of the page are answered", fmt.Sprint("window.answered === ", len(requests)))

	// The sidecars are there, and refuse such a request.
	for _, r := range requests {
		req, err := http.NewRequestWithContext(t.Context(), "POST", fmt.Sprintf("http://127.0.0.1:%d%s", r.port, r.path), strings.NewReader(r.body))
		harness.Must(t, err)
		req.Header.Set("Origin", "null")
		resp, err := http.DefaultClient.Do(req)
		harness.Must(t, err)
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("POST %s with an Origin: got %s, want 403", r.path, resp.Status)
		}
	}
	if stock, err := s.stock(t.Context(), "item1"); err != nil || stock != 90 {
		t.Errorf("the stock is %d, %v, want 90", stock, err)
	}
}

// prefer tells the browser what a person prefers: names of media features, each with its
// value.
func prefer(features ...string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		var params emulation.SetEmulatedMediaParams
		for i := 0; i < len(features); i += 2 {
			params.Features = append(params.Features, &emulation.MediaFeature{Name: features[i], Value: features[i+1]})
		}
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, params)
		return err
	})
}

// canBeRead checks names, labels, contrast and room.
func canBeRead(t *testing.T, browser context.Context, s system) {
	checks, err := os.ReadFile(filepath.Join("testdata", "readable.js"))
	harness.Must(t, err)
	w := open(t, browser, s)
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{360, 1280} {
			w.do(prefer("prefers-color-scheme", scheme, "prefers-reduced-motion", "reduce"), chromedp.EmulateViewport(width, 800))
			w.do(fill("order-form", "itemId", "pen"), submit("order-form"))
			w.shows("#tried-status", "It is answered 200")
			w.until("it is applied", total("waiting")+" === 0")
			if moving := ask(w, chromedp.Evaluate[int](`document.getAnimations().length`)); moving != 0 {
				t.Errorf("%d things move, though the person prefers that nothing moves", moving)
			}
			problems := ask(w, chromedp.Evaluate[[]string](string(checks)))
			w.openLatest()
			problems = append(problems, ask(w, chromedp.Evaluate[[]string](string(checks)))...)
			for _, problem := range problems {
				t.Errorf("%s, %d pixels wide: %s", scheme, width, problem)
			}
			w.do(chromedp.KeyEvent(kb.Escape))
		}
	}
}

// takeScreenshots takes the README's two, of a system in which something is broken.
func takeScreenshots(t *testing.T, browser context.Context, s system) {
	if !*screenshots {
		t.Skip("the screenshots are taken by: go test ./e2e/launch -run TestPage -screenshots")
	}
	w := open(t, browser, s)
	w.do(chromedp.EmulateViewport(1280, 1180, chromedp.EmulateScale(1)))
	w.do(submit("stock-form"))
	w.stock("item1", 1000)
	before := w.total("accepted")
	w.do(chromedp.Click("#load"))
	w.until("some are accepted", fmt.Sprint(total("accepted"), " > ", before+100))
	w.act("inventory-sidecar", actionKill, statusDown, "was killed")
	w.until("some wait", total("waiting")+" > 20")
	for _, scheme := range []string{"light", "dark"} {
		w.do(prefer("prefers-color-scheme", scheme))
		harness.Must(t, os.WriteFile("page-"+scheme+".png", ask(w, chromedp.CaptureScreenshot()), 0o644))
	}
	w.act("inventory-sidecar", actionStart, statusUp, "is up")
	w.until("all are applied", total("waiting")+" === 0")
}
