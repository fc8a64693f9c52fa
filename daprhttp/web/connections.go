package web

import (
	"container/list"
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
// that hold connections open therefore keep no other client out. A complete
// request keeps its connection until its answer is sent. When every connection has a
// complete request, a new connection waits.
type limiter struct {
	net.Listener
	most int

	mu      sync.Mutex
	open    int
	waiting list.List // of *limitedConn without a complete request, the longest wait first
	closed  bool
	changed sync.Cond
}

// limit returns a limiter around the listener of a server. The server tells the limiter
// when a request is complete, and when its answer is sent.
func limit(server *http.Server, ln net.Listener, most int) *limiter {
	type key struct{}
	l := &limiter{Listener: ln, most: most}
	l.changed.L = &l.mu
	server.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, key{}, conn)
	}
	server.ConnState = func(conn net.Conn, state http.ConnState) {
		if state == http.StateIdle {
			conn.(*limitedConn).answered()
		}
	}
	next := server.Handler
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn := r.Context().Value(key{}).(*limitedConn)
		if r.Body == http.NoBody {
			conn.arrived()
		} else {
			r.Body = &arriving{r.Body, conn}
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
	for l.open >= l.most && !l.closed {
		if l.waiting.Len() == 0 {
			l.changed.Wait()
			continue
		}
		longest := l.waiting.Front().Value.(*limitedConn)
		if left := patience - time.Since(longest.since); left > 0 {
			timer := time.AfterFunc(left, func() {
				l.mu.Lock() // until Accept waits
				defer l.mu.Unlock()
				l.changed.Signal()
			})
			l.changed.Wait()
			timer.Stop()
			continue
		}
		_ = longest.close()
	}
	if l.closed {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	l.open++
	c := &limitedConn{Conn: conn, l: l}
	c.wait()
	return c, nil
}

func (l *limiter) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.changed.Signal()
	return l.Listener.Close()
}

// A limitedConn is an open connection of a limiter, which guards its fields.
type limitedConn struct {
	net.Conn
	l      *limiter
	place  *list.Element // in the limiter's list; nil: the connection has a complete request
	since  time.Time     // when it was put into the list
	closed bool
}

func (c *limitedConn) Close() error {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	return c.close()
}

// close closes the connection. The caller holds the limiter's lock.
func (c *limitedConn) close() error {
	if !c.closed {
		c.closed = true
		c.l.open--
		c.leave()
		c.l.changed.Signal()
	}
	return c.Conn.Close()
}

func (c *limitedConn) wait() { c.place, c.since = c.l.waiting.PushBack(c), time.Now() }

func (c *limitedConn) leave() {
	if c.place != nil {
		c.l.waiting.Remove(c.place)
		c.place = nil
	}
}

// arrived notes that a request is complete.
func (c *limitedConn) arrived() {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	c.leave()
}

// answered notes that the answer is sent, and the connection is open for another request.
func (c *limitedConn) answered() {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	if !c.closed && c.place == nil {
		c.wait()
		c.l.changed.Signal()
	}
}

// An arriving is the body of a request. Its end completes the request.
type arriving struct {
	io.ReadCloser
	conn *limitedConn
}

func (b *arriving) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.conn.arrived()
	}
	return n, err
}
