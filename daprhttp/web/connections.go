package web

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// maxConnections is how many connections a server has open at the same time. A
	// sidecar needs one for each event in flight.
	maxConnections = 512

	// patience is the least time that a client has to send a request, even if other
	// connections wait.
	patience = 100 * time.Millisecond
)

// A limiter bounds the open connections of a server. A new connection takes the place of
// the connection that has been without a complete request for the longest time. Clients
// that hold connections open therefore keep no other client out. A request is complete
// when its handler has read the body to the end. It keeps its connection until its answer
// is sent. When every connection has a complete request, a new connection waits.
type limiter struct {
	net.Listener

	mu      sync.Mutex
	open    map[net.Conn]time.Time // since when the server waits for a request; zero: it has a complete one
	closed  bool
	changed sync.Cond
}

// limit returns a limiter around the listener of a server. The server tells the limiter
// when a request is complete, when its answer is sent, and when a connection is closed.
func limit(server *http.Server, ln net.Listener) *limiter {
	type key struct{}
	l := &limiter{Listener: ln, open: make(map[net.Conn]time.Time)}
	l.changed.L = &l.mu
	server.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, key{}, conn)
	}
	server.ConnState = func(conn net.Conn, state http.ConnState) {
		switch state {
		case http.StateIdle:
			l.waits(conn, time.Now())
		case http.StateClosed, http.StateHijacked:
			l.forget(conn)
		}
	}
	next := server.Handler
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		complete := func() { l.waits(r.Context().Value(key{}).(net.Conn), time.Time{}) }
		if r.Body == http.NoBody {
			complete()
		} else {
			r.Body = &arrivingBody{r.Body, complete}
		}
		next.ServeHTTP(w, r)
	})
	return l
}

func (l *limiter) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.open) >= maxConnections && !l.closed {
		longest, since := l.longest()
		if longest == nil {
			l.changed.Wait()
		} else if left := patience - time.Since(since); left > 0 {
			timer := time.AfterFunc(left, func() {
				l.mu.Lock() // until Accept waits
				defer l.mu.Unlock()
				l.changed.Signal()
			})
			l.changed.Wait()
			timer.Stop()
		} else {
			_ = longest.Close()
			delete(l.open, longest)
		}
	}
	if l.closed {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	l.open[conn] = time.Now()
	return conn, nil
}

// Close also ends a waiting Accept. Otherwise Shutdown would wait for it forever.
func (l *limiter) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.changed.Signal()
	return l.Listener.Close()
}

// longest returns the connection that has been without a complete request for the longest
// time, and since when. It returns nil when every connection has a complete request.
func (l *limiter) longest() (longest net.Conn, since time.Time) {
	for conn, s := range l.open {
		if !s.IsZero() && (longest == nil || s.Before(since)) {
			longest, since = conn, s
		}
	}
	return longest, since
}

// waits notes since when the server waits for a request on an open connection. The zero
// time means that the request is complete.
func (l *limiter) waits(conn net.Conn, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[conn] = since
	l.changed.Signal()
}

// forget removes a closed connection, so that another can take its place.
func (l *limiter) forget(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, conn)
	l.changed.Signal()
}

// An arrivingBody is the body of a request. Its end completes the request.
type arrivingBody struct {
	io.ReadCloser
	complete func()
}

func (b *arrivingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.complete()
	}
	return n, err
}
