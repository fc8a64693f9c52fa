package web

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/matryer/is"
)

// strangers hold n connections open until ctx is done. They replace each connection that
// the server closes.
func strangers(ctx context.Context, addr string, n int) (held, again *atomic.Int64, wait func()) {
	held, again = new(atomic.Int64), new(atomic.Int64)
	beginnings := []string{
		"", // never a byte
		"POST / HTTP/1.1\r\nHost: x\r\nA-Header-That-Never-",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\na body that never",
		"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n", // no second request
	}
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			for ctx.Err() == nil {
				conn, err := net.Dial("tcp", addr)
				if err != nil {
					continue
				}
				stop := context.AfterFunc(ctx, func() { conn.Close() })
				_, _ = io.WriteString(conn, beginnings[i%len(beginnings)])
				held.Add(1)
				_, _ = io.Copy(io.Discard, conn)
				held.Add(-1)
				again.Add(1)
				stop()
				conn.Close()
			}
		})
	}
	return held, again, all.Wait
}

// Strangers that hold all connections open block neither deliveries nor the health check,
// even without timeouts.
func TestStrangersDoNotBlockDeliveries(t *testing.T) {
	t.Parallel()
	is := is.New(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(err)
	addr := ln.Addr().String()
	begun, finish := make(chan struct{}), make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil && r.URL.Path == "/slow" {
			close(begun)
			<-finish
		}
		_, _ = w.Write(body)
	})}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, ln, time.Minute, server) }()

	// Each request has a new connection, which competes with the strangers.
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	deliver := func(path string) (string, error) {
		resp, err := client.Post("http://"+addr+path, "application/cloudevents+json", strings.NewReader("an event"))
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}
	slow := make(chan string, 1)
	go func() {
		body, err := deliver("/slow")
		if err != nil {
			body = err.Error()
		}
		slow <- body
	}()
	<-begun

	flood, end := context.WithCancel(ctx)
	held, again, wait := strangers(flood, addr, maxConnections+50)
	defer func() { end(); wait() }()
	for again.Load() < 100 || held.Load() < maxConnections/2 {
		time.Sleep(time.Millisecond)
	}
	for range 20 {
		body, err := deliver("/")
		is.NoErr(err)
		is.Equal(body, "an event")
		resp, err := client.Get("http://" + addr + "/healthz")
		is.NoErr(err)
		is.NoErr(resp.Body.Close())
		is.Equal(resp.StatusCode, 200)
	}
	close(finish) // a complete delivery is not cut off
	is.Equal(<-slow, "an event")
	end()
	wait()
	stop()
	is.NoErr(<-ended)
}

// A complete request keeps its connection. A new connection waits.
func TestConnectionsAreLimited(t *testing.T) {
	is := is.New(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(err)
	begun, finish := make(chan struct{}), make(chan struct{})
	var atWork, most atomic.Int64
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		most.Store(max(most.Load(), atWork.Add(1)))
		begun <- struct{}{}
		<-finish
		atWork.Add(-1)
	})}
	go func() { _ = server.Serve(limit(server, ln, 3)) }()
	defer server.Close()
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	answers := make(chan error, 10)
	for range 10 {
		go func() {
			resp, err := client.Get("http://" + ln.Addr().String())
			if err == nil {
				resp.Body.Close()
			}
			answers <- err
		}()
	}
	for range 3 {
		<-begun
	}
	for range 7 {
		finish <- struct{}{}
		is.NoErr(<-answers)
		<-begun
	}
	for range 3 {
		finish <- struct{}{}
		is.NoErr(<-answers)
	}
	is.Equal(most.Load(), int64(3))
}
