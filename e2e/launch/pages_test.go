package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
)

// A page of another site that is open in a browser can't use the sidecars, though its requests
// are of the kind that a browser sends without asking the sidecar first.
func TestPagesOfOtherSitesCanNotUseTheSidecars(t *testing.T) {
	s := testSystem(t, nil)
	_, end := start(t, s)
	defer end()
	site := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer site.Close()
	tab, cancel := chromedp.NewContext(startBrowser(t))
	defer cancel()
	w := &window{t: t, ctx: tab}
	w.start()
	w.do(chromedp.Navigate(site.URL))

	requests := []struct {
		port       int
		path, body string
	}{
		{s.order.DaprPort, "/v1.0/publish/pubsub/OrderPlaced", `{"orderId":"forged","itemId":"item1","quantity":5}`},
		{s.order.DaprPort, "/v1.0/invoke/order-service/method/order", `{"orderId":"forged","itemId":"item1","quantity":5}`},
		{s.inventory.DaprPort, "/v1.0/invoke/inventory-service/method/inventory/item1", `{"quantity":1}`},
		{s.inventory.DaprPort, "/v1.0/state/statestore", `[{"key":"item1","value":1}]`},
		{s.order.DaprPort, "/v1.0/shutdown", ""},
		{s.inventory.DaprPort, "/v1.0/shutdown", ""},
	}
	for _, r := range requests {
		ask(w, chromedp.Evaluate[bool](fmt.Sprintf(`(fetch("http://localhost:%d%s", {method: "POST", mode: "no-cors", headers: {"Content-Type": "text/plain"}, body: %q})
			.finally(() => window.answered = (window.answered || 0) + 1), true)`, r.port, r.path, r.body)))
	}
	w.until("all requests of the page are answered", fmt.Sprint("window.answered === ", len(requests)))

	// The sidecars are there, and refuse such a request.
	for _, r := range requests {
		req, err := http.NewRequestWithContext(t.Context(), "POST", fmt.Sprintf("http://127.0.0.1:%d%s", r.port, r.path), bytes.NewReader([]byte(r.body)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", "null")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("POST %s with an Origin: got %s, want 403", r.path, resp.Status)
		}
	}
	if stock, err := s.stock(t.Context(), "item1"); err != nil || stock != 90 {
		t.Errorf("the stock is %d, %v, want 90", stock, err)
	}
}

// The module that sidecars load is what its text says.
func TestPagesFilterIsBuiltFromItsText(t *testing.T) {
	if _, err := exec.LookPath("wat2wasm"); err != nil {
		t.Skip("wat2wasm is not installed: apt-get install wabt, or brew install wabt")
	}
	built := filepath.Join(t.TempDir(), "pages.wasm")
	if output, err := exec.CommandContext(t.Context(), "wat2wasm", "pages.wat", "-o", built).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	if got, err := os.ReadFile(built); err != nil || !bytes.Equal(got, pagesModule) {
		t.Errorf("pages.wasm is not built from pages.wat: %v", err)
	}
}
