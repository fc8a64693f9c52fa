package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"example.com/dapr-orders/e2e/stack"
)

var screenshots = flag.Bool("screenshots", false, "write the README's screenshots anew")

// A window is a tab of a real browser that shows the page. All that goes wrong in it is
// an error of the test.
type window struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex
	problems []string
}

// startBrowser starts a browser, without a window that a person would see.
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

// open opens the page of a system in a new window.
func open(t *testing.T, browser context.Context, s system, before ...chromedp.Action[chromedp.Void]) *window {
	t.Helper()
	w := &window{t: t}
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
		if problem != "" {
			w.mu.Lock()
			w.problems = append(w.problems, problem)
			w.mu.Unlock()
		}
	}))
	w.ctx = tab
	t.Cleanup(cancel)
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, problem := range w.problems {
			t.Errorf("the browser's console: %s", problem)
		}
	})
	w.start()
	w.do(before...)
	w.do(chromedp.Navigate(fmt.Sprintf("http://localhost:%d", s.pagePort)))
	w.until("the page is connected", `document.querySelector("#parts li") !== null`)
	return w
}

// start makes the tab, which lives as long as the context that it is made with.
func (w *window) start() {
	w.t.Helper()
	if err := chromedp.Do(w.ctx); err != nil {
		w.t.Fatal(err)
	}
}

// do has the browser do something.
func (w *window) do(actions ...chromedp.Action[chromedp.Void]) {
	w.t.Helper()
	ask(w, chromedp.Steps(actions...))
}

// ask has the browser do something, and returns what comes of it.
func ask[T any](w *window, action chromedp.Action[T]) T {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, 30*time.Second)
	defer cancel()
	result, err := chromedp.Run(ctx, action)
	if err != nil {
		w.t.Fatal(err)
	}
	return result
}

// until waits until a JavaScript expression is true.
func (w *window) until(what, expression string) {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ask(w, chromedp.Evaluate[bool](expression)); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("it never came to pass that %s:\n%s", what, w.text("body"))
		}
	}
}

// text returns what is to be read in a part of the page.
func (w *window) text(selector string) string {
	w.t.Helper()
	return ask(w, chromedp.Evaluate[string](fmt.Sprintf("document.querySelector(%q).innerText", selector)))
}

// total returns one of the totals.
func (w *window) total(name string) int {
	w.t.Helper()
	n, err := strconv.Atoi(strings.ReplaceAll(w.text(fmt.Sprintf("[data-total=%s]", name)), ",", ""))
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// fill writes into a field, in the place of what is there.
func fill(form, name, value string) chromedp.Action[chromedp.Void] {
	return chromedp.SetValue(fmt.Sprintf("#%s [name=%s]", form, name), value)
}

// submit sends a form.
func submit(form string) chromedp.Action[chromedp.Void] {
	return chromedp.Click("#" + form + " button:not([type=button])")
}

// press presses the button of a part.
func (w *window) press(part string, do action) {
	w.t.Helper()
	w.do(chromedp.Click(fmt.Sprintf("[data-part=%s] [data-action=%s]", part, do), chromedp.NodeVisible))
}

// stockIs is true when the page shows a stock, and that it is what it has to be.
func stockIs(item string, stock int) string {
	return fmt.Sprintf(`[...document.querySelectorAll("#items tr")].some((row) => row.cells[0].innerText === %q &&
		row.cells[1].innerText.replace(",", "") === "%d" && row.cells[2].innerText.endsWith("✓"))`, item, stock)
}

const (
	allCounted = `document.querySelector("[data-total=waiting]").innerText === "0"`
	manyWait   = `Number(document.querySelector("[data-total=waiting]").innerText) > 20`
)

func TestPage(t *testing.T) {
	s := testSystem(t, nil)
	_, end := start(t, s)
	t.Cleanup(func() {
		if err := end(); err != nil {
			t.Error(err)
		}
	})
	browser := startBrowser(t)

	t.Run("a person places an order and sees 90", func(t *testing.T) {
		w := open(t, browser, s)
		w.do(fill("stock-form", "itemId", "pen"), fill("stock-form", "quantity", "100"), submit("stock-form"))
		w.until("the answer is shown", `document.querySelector("#tried-answer").innerText === '{"itemId":"pen","quantity":100}'`)
		w.do(fill("order-form", "orderId", "order-7"), fill("order-form", "itemId", "pen"), submit("order-form"))
		w.until("the order is answered", `document.querySelector("#tried-status").innerText === "It is answered 200"`)
		want := fmt.Sprintf(`curl -X POST http://localhost:%d/v1.0/invoke/order-service/method/order -H "Content-Type: application/json" -d '{"orderId": "order-7", "itemId": "pen", "quantity": 10}'`, s.order.DaprPort)
		if got := w.text("#tried-command"); got != want {
			t.Errorf("the command is\n%s\nwant\n%s", got, want)
		}
		w.until("90 are left", stockIs("pen", 90))
		w.until("the dot has gone its way", `document.querySelectorAll("#dots i").length === 0`)

		w.do(chromedp.Click("#orders li:first-child button"))
		w.until("the order is shown", `document.querySelector("#detail").open`)
		for where, want := range map[string]string{
			"#detail-title":    "order-7: 10 of pen",
			"#detail-stage":    "It is counted after",
			"#detail-happened": "It is counted: 90 are left of pen.",
			"#detail-command":  `{"orderId":"order-7","itemId":"pen","quantity":10}`,
			"#detail-event":    `"type": "OrderPlaced"`,
			"#detail-look":     "/v1.0/state/statestore/pen",
			"#detail-record":   `"value": 90`,
		} {
			if got := w.text(where); !strings.Contains(got, want) {
				t.Errorf("%s shows\n%s\nwithout %s", where, got, want)
			}
		}
		// The sidecars send their spans a little later.
		w.until("the sidecars have told of the order", `(await_spans => {
			if (!document.querySelector("#detail-happened").innerText.includes("writes to the state store: POST /v1.0/state/statestore, answered 204")) {
				document.querySelector("#detail").close();
				document.querySelector("#orders li:first-child button").click();
				return false;
			}
			return true;
		})()`)
		for _, want := range []string{
			"order-service's sidecar\tcalls the service: POST /v1.0/invoke/order-service/method/order, answered 200",
			"order-service's sidecar\thands the event to the broker: POST /v1.0/publish/pubsub/OrderPlaced, answered 204",
			"inventory-service's sidecar\tdelivers the event to the service",
		} {
			if got := w.text("#detail-happened"); !strings.Contains(got, want) {
				t.Errorf("what happened is\n%s\nwithout %s", got, want)
			}
		}
	})

	t.Run("wrong input is answered by the service", func(t *testing.T) {
		w := open(t, browser, s)
		w.do(fill("order-form", "quantity", "1.5"), submit("order-form"))
		w.until("the order is refused", `document.querySelector("#tried-answer").innerText === '{"error":"quantity must be an integer, written without fraction or exponent"}'`)
		if got := w.text("#tried-status"); got != "It is answered 400" {
			t.Errorf("got %s", got)
		}
	})

	t.Run("a character that turns the text around is shown as its code", func(t *testing.T) {
		w := open(t, browser, s)
		w.do(fill("order-form", "orderId", "\u202e1-redro"), fill("order-form", "itemId", "cap\u2028"), fill("order-form", "quantity", "1"), submit("order-form"))
		w.until("the order is listed", `document.querySelector("#orders li:first-child").innerText.startsWith("\\u202e1-redro: 1 of cap\\u2028")`)
		w.do(chromedp.Click("#orders li:first-child button"))
		w.until("the order is shown", `document.querySelector("#detail").open`)
		w.until("nothing invisible is on the page", `!/[\u202e\u2028]/.test(document.body.innerText)`)
	})

	t.Run("it works by keyboard", func(t *testing.T) {
		w := open(t, browser, s)
		w.do(fill("order-form", "itemId", "pen"), fill("order-form", "orderId", "by-keyboard"), chromedp.Focus("#stock-form [name=itemId]"))
		// Pieces, button, order, item, pieces, button.
		for range 6 {
			w.do(chromedp.KeyEvent(kb.Tab))
		}
		w.do(chromedp.KeyEvent(kb.Enter))
		w.until("80 are left", stockIs("pen", 80))
		w.do(chromedp.Focus("#orders li:first-child button"), chromedp.KeyEvent(kb.Enter))
		w.until("the order is shown", `document.querySelector("#detail").open`)
		w.do(chromedp.KeyEvent(kb.Escape))
		w.until("the order is closed", `!document.querySelector("#detail").open && document.activeElement.closest("#orders") !== null`)
		w.do(chromedp.Focus("[data-part=inventory] [data-action=freeze]"), chromedp.KeyEvent(kb.Enter))
		w.until("the focus is on what undoes it", `document.activeElement.matches("[data-part=inventory] [data-action=thaw]")`)
		w.do(chromedp.KeyEvent(kb.Enter))
		w.until("the service goes on", `document.querySelector("[data-part=inventory] small").innerText === "running"`)
	})

	t.Run("the service is killed with orders under way", func(t *testing.T) {
		w := open(t, browser, s)
		w.do(fill("stock-form", "itemId", "ink"), submit("stock-form"))
		w.until("the stock is set", stockIs("ink", 1000))
		before := w.total("accepted")
		w.do(fill("order-form", "itemId", "ink"), chromedp.Click("#load"))
		w.until("orders are on their way", fmt.Sprintf(`Number(document.querySelector("[data-total=accepted]").innerText.replace(",", "")) > %d`, before+50))
		w.press("inventory", actionKill)
		w.until("many wait", manyWait)
		w.until("it is said what that means", `document.querySelector("#log").innerText.includes("The inventory service was killed, as kill -9 does. Orders are still accepted")`)
		w.until("the broker shows them", `!document.querySelector("#waiting").hidden && document.querySelectorAll("#dots i").length > 20`)

		// In the middle of it: the same page again, and in a second window.
		w.do(chromedp.Reload())
		w.until("the page is there again", `document.querySelector("[data-part=inventory] small")?.innerText === "down"`)
		w.until("many still wait", manyWait)
		w.until("dots wait at the broker", `document.querySelectorAll("#dots i.published").length > 20`)
		second := open(t, browser, s)
		second.until("the second window shows them, too", manyWait)

		// At 50 a second the first of 150 has waited for longer than slowAfter.
		second.until("some have waited long enough to be mentioned", `Number(document.querySelector("[data-total=waiting]").innerText) > 150`)
		second.press("inventory", actionStart)
		for _, w := range []*window{w, second} {
			w.until("all were accepted", fmt.Sprintf(`Number(document.querySelector("[data-total=accepted]").innerText.replace(",", "")) === %d`, before+loadOrders))
			w.until("all are counted", allCounted)
			w.until("the stock has fallen by 500", stockIs("ink", 500))
			w.until("it is said that nothing waits any more", `document.querySelector("#log").innerText.includes("Nothing waits any more.")`)
			for _, total := range []string{"lost", "doubled", "dead"} {
				if n := w.total(total); n != 0 {
					t.Errorf("%d are %s", n, total)
				}
			}
			if accepted, counted := w.total("accepted"), w.total("counted"); accepted != counted {
				t.Errorf("%d are accepted, %d counted", accepted, counted)
			}
		}
	})

	t.Run("it can be read", func(t *testing.T) { canBeRead(t, browser, s) })
	t.Run("screenshots", func(t *testing.T) { takeScreenshots(t, browser, s) })

	t.Run("every part can be broken and mended", func(t *testing.T) {
		w := open(t, browser, s)
		is := func(part string, now status) string {
			return fmt.Sprintf(`document.querySelector("[data-part=%s] small").innerText === %q`, part, now)
		}
		// The page may be told of a start only when it is over.
		ups := func(part string) int {
			return ask(w, chromedp.Evaluate[int](fmt.Sprintf(`[...document.querySelectorAll("#log li")].filter((line) =>
				line.innerText.toLowerCase().includes(document.querySelector("[data-part=%s] b").firstChild.data.toLowerCase() + " is up")).length`, part)))
		}
		startBy := func(part string, do action) {
			before := ups(part)
			w.press(part, do)
			for deadline := time.Now().Add(time.Minute); ups(part) == before; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%s does not come up", part)
				}
			}
			w.until(part+" is up", is(part, statusUp))
		}
		startBy("second", actionStart)
		w.do(fill("stock-form", "itemId", "cup"), submit("stock-form"))
		w.until("the stock is set", stockIs("cup", 1000))
		w.do(fill("order-form", "itemId", "cup"), chromedp.Click("#load"))
		for _, part := range []string{"second", "order-sidecar", "inventory-sidecar", "redis", "inventory"} {
			w.press(part, actionFreeze)
			w.until(part+" is frozen", is(part, statusFrozen))
			w.press(part, actionThaw)
			w.until(part+" goes on", is(part, statusUp))
			startBy(part, actionRestart)
			w.press(part, actionKill)
			w.until(part+" is down", is(part, statusDown))
			startBy(part, actionStart)
		}
		w.until("all are counted", stockIs("cup", 500))
		if n := w.total("doubled") + w.total("lost"); n != 0 {
			t.Errorf("%d are lost or doubled", n)
		}
	})
}

// prefer has the browser say what a person prefers: names of media features, each with
// its value.
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

// canBeRead asks of the page what is asked of pages: names, labels, contrast, room.
func canBeRead(t *testing.T, browser context.Context, s system) {
	checks, err := os.ReadFile(filepath.Join("testdata", "readable.js"))
	if err != nil {
		t.Fatal(err)
	}
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{360, 1280} {
			w := open(t, browser, s,
				prefer("prefers-color-scheme", scheme, "prefers-reduced-motion", "reduce"),
				chromedp.EmulateViewport(width, 800))
			w.do(fill("order-form", "itemId", "pen"), submit("order-form"))
			w.until("the order is answered", `document.querySelector("#tried-status").innerText === "It is answered 200"`)
			w.until("it is counted", allCounted)
			for _, dialog := range []bool{false, true} {
				if dialog {
					w.do(chromedp.Click("#orders li:first-child button"))
					w.until("the order is shown", `document.querySelector("#detail").open`)
				}
				for _, problem := range ask(w, chromedp.Evaluate[[]string](string(checks))) {
					t.Errorf("%s, %d pixels wide, an order shown %v: %s", scheme, width, dialog, problem)
				}
			}
			if moving := ask(w, chromedp.Evaluate[int](`document.getAnimations().length`)); moving != 0 {
				t.Errorf("%d things move for somebody who wants none to", moving)
			}
		}
	}
}

// takeScreenshots takes the README's two, of a system in which something is broken.
func takeScreenshots(t *testing.T, browser context.Context, s system) {
	if !*screenshots {
		t.Skip("the screenshots are taken by: go test ./e2e/launch -screenshots")
	}
	w := open(t, browser, s, chromedp.EmulateViewport(1280, 1180, chromedp.EmulateScale(1)))
	w.do(fill("stock-form", "itemId", "item1"), submit("stock-form"))
	w.until("the stock is set", stockIs("item1", 1000))
	before := w.total("accepted")
	w.do(chromedp.Click("#load"))
	w.until("some are accepted", fmt.Sprintf(`Number(document.querySelector("[data-total=accepted]").innerText.replace(",", "")) > %d`, before+150))
	w.press("inventory", actionKill)
	w.until("many wait", `Number(document.querySelector("[data-total=waiting]").innerText) > 150`)
	w.press("inventory", actionStart)
	w.until("all are counted", stockIs("item1", 500))
	w.do(chromedp.Click("#load"))
	w.until("some are accepted", fmt.Sprintf(`Number(document.querySelector("[data-total=accepted]").innerText.replace(",", "")) > %d`, before+loadOrders+100))
	w.press("inventory-sidecar", actionKill)
	w.until("some wait", manyWait)
	for _, scheme := range []string{"light", "dark"} {
		w.do(prefer("prefers-color-scheme", scheme))
		image := ask(w, chromedp.CaptureScreenshot())
		if err := os.WriteFile(filepath.Join("page-"+scheme+".png"), image, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w.press("inventory-sidecar", actionStart)
}
