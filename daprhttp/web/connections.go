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
	// sidecar needs as many as it delivers events at once.
	maxConnections = 512

	// patience is how long a client has at least to send a request, however many others
	// there are.
	patience = 100 * time.Millisecond
)

// A limiter keeps a server at a number of open connections. A new one takes the place of
// the one that the server has waited for longest: for a request, or for the rest of one. So
// clients that hold connections open keep no other client out. A request that has arrived
// whole keeps its connection until its answer is sent. When all connections have such
// requests, a new connection waits.
type limiter struct {
	net.Listener
	most int

	mu      sync.Mutex
	open    int
	waiting list.List // of *limitedConn: the server waits for their clients, for the first one longest
	closed  bool
	changed sync.Cond
}

// limit returns a limiter around the listener of a server. The server tells the limiter
// when a request has arrived whole, and when its answer is sent.
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
				l.mu.Lock() // so that Accept waits already
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
	place  *list.Element // among those that are waited for; nil: a request has arrived whole
	since  time.Time     // when it came there
	closed bool
}

func (c *limitedConn) Close() error {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	return c.close()
}

// close is to be called with the limiter's lock.
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

// arrived is told that a request has arrived whole.
func (c *limitedConn) arrived() {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	c.leave()
}

// answered is told that the answer is sent, and the connection kept for another request.
func (c *limitedConn) answered() {
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	if !c.closed && c.place == nil {
		c.wait()
		c.l.changed.Signal()
	}
}

// An arriving is the body of a request.
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
