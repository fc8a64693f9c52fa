package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"
)

func TestPageIsForThisMachineAndForNoOtherSite(t *testing.T) {
	sleeper := newSleeper(t.Context(), t, "redis")
	p := &page{ctx: t.Context(), journal: sleeper.journal, parts: sleeper.parts}
	for _, c := range []struct {
		request string
		headers string
		want    int
	}{
		{"GET localhost:5090/", "", 200},
		{"GET 127.0.0.1:5090/page.js", "", 200},
		{"GET [::1]:5090/page.css", "", 200},
		{"GET localhost:5090/orders/unknown", "", 404},
		{"GET localhost:5090/nothing", "", 404},

		// Another name that means this machine (DNS rebinding).
		{"GET evil.example:5090/", "", 403},
		{"GET localhost.evil.example:5090/news", "", 403},
		{"POST evil.example:5090/parts/redis/kill", "Origin: http://evil.example:5090", 403},

		// A page of another site.
		{"POST localhost:5090/parts/redis/kill", "Origin: http://evil.example", 403},
		{"POST localhost:5090/parts/redis/kill", "Sec-Fetch-Site: cross-site", 403},

		// What a link, an image or a prefetching browser sends.
		{"GET localhost:5090/parts/redis/kill", "", 404},
		{"GET localhost:5090/load", "", 404},

		{"POST localhost:5090/parts/nothing/kill", "", 404},
		{"POST localhost:5090/parts/redis/paint", "", 409},
		{"POST localhost:5090/load", "", 400},
		{"POST localhost:5090/api/v2/spans", "", 400},

		{"POST localhost:5090/parts/redis/kill", "Sec-Fetch-Site: same-origin", 204},
	} {
		t.Run(c.request+" "+c.headers, func(t *testing.T) {
			is := is.New(t)
			method, target, _ := strings.Cut(c.request, " ")
			here := context.WithValue(t.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5090})
			r := httptest.NewRequestWithContext(here, method, "http://"+target, http.NoBody)
			if name, value, ok := strings.Cut(c.headers, ": "); ok {
				r.Header.Set(name, value)
			}
			w := httptest.NewRecorder()
			p.handler().ServeHTTP(w, r)
			is.Equal(w.Code, c.want)
			is.Equal(sleeper.running() == 0, c.want == 204) // no other request breaks it
			is.True(strings.Contains(w.Header().Get("Content-Security-Policy"), "frame-ancestors 'none'"))
		})
	}
}

func TestLoadsAreBounded(t *testing.T) {
	is := is.New(t)
	p := &page{ctx: t.Context(), journal: newJournal(time.Now)}
	p.loads.Store(loadsAtOnce)
	for body, want := range map[string]string{
		`{"itemId":"item1"}`: "4 loads of 500 orders are under way: wait for one to end",
		`{}`:                 "itemId is required",
	} {
		w := httptest.NewRecorder()
		p.handler().ServeHTTP(w, httptest.NewRequest("POST", "http://localhost:5090/load", strings.NewReader(body)))
		is.Equal(w.Body.String(), `{"error":"`+want+`"}`+"\n")
		is.True(w.Code >= 400)
		is.Equal(p.loads.Load(), int64(loadsAtOnce))
	}
}

func TestCommandsAreQuotedForAShellAndShowNoToken(t *testing.T) {
	is := is.New(t)
	s, err := newSystem("", func(name string) string {
		return map[string]string{"DAPR_API_TOKEN": "one", "APP_API_TOKEN": "two"}[name]
	})
	is.NoErr(err)
	is.Equal([]string{s.daprAPIToken, s.appAPIToken}, []string{"one", "two"})
	is.Equal(s.curl(s.orderCall(`{"orderId":"it's"}`)), `curl -X POST http://localhost:3501/v1.0/invoke/order-service/method/order`+
		` -H "dapr-api-token: $DAPR_API_TOKEN" -H "Content-Type: application/json" -d '{"orderId":"it'\''s"}'`)
	is.Equal(s.stockCall("a+b/c").url, "http://localhost:3500/v1.0/invoke/inventory-service/method/inventory/a%252Bb%252Fc")
}
