package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/matryer/is"
)

func TestPageIsForThisMachineAndForNoOtherSite(t *testing.T) {
	sleeper := newSleeper(t, "redis")
	j := newJournal(time.Now)
	p := newPage(t.Context(), system{pagePort: 5090}, nil, j, newParts(t.Context(), j, sleeper.part))
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

		// A name of somebody else's that means this machine (DNS rebinding).
		{"GET evil.example:5090/", "", 403},
		{"GET localhost.evil.example:5090/news", "", 403},
		{"GET localhost:80/", "", 403},
		{"GET localhost/", "", 403},
		{"POST evil.example:5090/parts/redis/kill", "Origin: http://evil.example:5090", 403},

		// A page of another site.
		{"POST localhost:5090/parts/redis/kill", "Origin: http://evil.example", 403},
		{"POST localhost:5090/parts/redis/kill", "Origin: http://localhost:3000", 403},
		{"POST localhost:5090/parts/redis/kill", "Origin: null", 403},
		{"POST localhost:5090/parts/redis/kill", "Sec-Fetch-Site: cross-site", 403},
		{"POST localhost:5090/load", "Sec-Fetch-Site: same-site", 403},
		{"POST localhost:5090/orders", "Sec-Fetch-Site: cross-site", 403},
		{"POST localhost:5090/stocks/item1", "Sec-Fetch-Site: cross-site", 403},

		// What a link, an image or a prefetching browser sends.
		{"GET localhost:5090/parts/redis/kill", "", 404},
		{"HEAD localhost:5090/parts/redis/kill", "", 404},
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
			r := httptest.NewRequest(method, "http://"+target, http.NoBody)
			if name, value, ok := strings.Cut(c.headers, ": "); ok {
				r.Header.Set(name, value)
			}
			w := httptest.NewRecorder()
			p.handler().ServeHTTP(w, r)
			is.Equal(w.Code, c.want)
			is.Equal(sleeper.runs(), c.want != 204) // broken by nothing else
			if c.want != 403 {
				is.True(strings.Contains(w.Header().Get("Content-Security-Policy"), "frame-ancestors 'none'"))
			}
		})
	}
}

func TestNewsGoesToWhoReads(t *testing.T) {
	is := is.New(t)
	s := newStory()
	p := newPage(t.Context(), system{}, nil, s.journal, newParts(t.Context(), s.journal))
	reader, idle := make(chan []byte, 1), make(chan []byte)
	p.readers[reader], p.readers[idle] = struct{}{}, struct{}{}
	s.published("a")
	p.tell()
	message := string(<-reader)
	is.True(strings.HasPrefix(message, "event: news\ndata: {"))
	is.True(strings.HasSuffix(message, "}\n\n"))
	is.True(strings.Contains(message, `"eventId":"a"`))
	_, open := <-idle
	is.True(!open) // it is let go
	p.tell()
	is.Equal(len(reader), 0) // there is nothing new
}

func TestLoadIsBounded(t *testing.T) {
	is := is.New(t)
	s := newStory()
	p := newPage(t.Context(), system{pagePort: 5090}, nil, s.journal, newParts(t.Context(), s.journal))
	p.load.pending.Store(loadPending - loadOrders + 1)
	w := httptest.NewRecorder()
	p.handler().ServeHTTP(w, httptest.NewRequest("POST", "http://localhost:5090/load", strings.NewReader(`{"itemId":"item1"}`)))
	is.Equal(w.Code, 409)
	is.Equal(strings.TrimSpace(w.Body.String()), fmt.Sprintf(`{"error":"%d orders are still to be accepted: wait for them"}`, loadPending-loadOrders+1))
	is.Equal(p.load.pending.Load(), int64(loadPending-loadOrders+1))
}
