package stack

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// A Link is a stretch of network between programs and a server: a proxy of TCP
// connections that loses, delays and keeps back what goes over it, as its Weather is.
// With several servers it is a load balancer: a connection goes to the first that takes
// it.
type Link struct {
	ln      net.Listener
	servers []string
	ctx     context.Context // of all that it does
	end     context.CancelFunc
	all     sync.WaitGroup

	mu      sync.Mutex
	weather Weather
	changed chan struct{} // closed when the weather changes

	connections context.Context // of all that there are
	breakAll    context.CancelFunc
}

// Weather is what a Link does to what goes over it. The zero value does nothing.
type Weather struct {
	// CutThere and CutBack keep back all that goes to the server, and all that comes
	// from it. As when packets are dropped, neither end is told: connections stay, those
	// that are begun get no answer, and what was sent arrives when it is over.
	CutThere, CutBack bool

	// Broken breaks the connections, and refuses new ones, as when a server is stopped.
	Broken bool

	// Delay is by how much later everything arrives that comes from the server.
	Delay time.Duration

	// Loss is the part of packets, up to 1, that are lost. What TCP makes of that is
	// what a Link does: a packet is sent again after 200 ms, after twice that when it is
	// lost again, and so on, and what is behind it waits.
	Loss float64
}

// Cut is the Weather in which nothing gets through.
var Cut = Weather{CutThere: true, CutBack: true}

// retransmission is how long TCP waits at first before it sends a packet again.
const retransmission = 200 * time.Millisecond

// NewLink returns a link to a server, or to the first that takes a connection.
func NewLink(servers ...string) (*Link, error) {
	ln, err := listen()
	if err != nil {
		return nil, err
	}
	l := &Link{ln: ln, servers: servers, changed: make(chan struct{})}
	l.ctx, l.end = context.WithCancel(context.Background())
	l.connections, l.breakAll = context.WithCancel(l.ctx)
	l.all.Go(l.accept)
	return l, nil
}

// listen listens on a free port, of which another program may be faster.
func listen() (ln net.Listener, err error) {
	for range 5 {
		var port int
		if port, err = FreePort(); err != nil {
			return nil, err
		}
		if ln, err = net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}); err == nil {
			return ln, nil
		}
	}
	return nil, err
}

// Addr returns the address at which the link stands for its server.
func (l *Link) Addr() string { return l.ln.Addr().String() }

// Set changes the weather, for the connections that there are as well.
func (l *Link) Set(w Weather) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.Broken {
		l.breakAll()
		l.connections, l.breakAll = context.WithCancel(l.ctx)
	}
	l.weather = w
	close(l.changed)
	l.changed = make(chan struct{})
}

// Close breaks all connections, and takes none any more.
func (l *Link) Close() {
	l.end()
	_ = l.ln.Close()
	l.all.Wait()
}

func (l *Link) accept() {
	for {
		client, err := l.ln.Accept()
		if err != nil {
			return
		}
		l.all.Go(func() { l.serve(client) })
	}
}

// serve carries one connection until one end closes it.
func (l *Link) serve(client net.Conn) {
	defer client.Close()
	if !l.pass(l.ctx, func(w Weather) bool { return w.CutThere || w.CutBack }) { // nobody answers
		return
	}
	server, err := l.dial()
	if err != nil {
		return
	}
	defer server.Close()
	l.mu.Lock()
	connections, broken := l.connections, l.weather.Broken
	l.mu.Unlock()
	if broken {
		return
	}
	ctx, cancel := context.WithCancel(connections)
	defer cancel()
	context.AfterFunc(ctx, func() { client.Close(); server.Close() })
	var ways sync.WaitGroup
	ways.Go(func() {
		defer cancel()
		l.carry(ctx, server, client, func(w Weather) (bool, time.Duration) { return w.CutThere, 0 })
	})
	ways.Go(func() {
		defer cancel()
		l.carry(ctx, client, server, func(w Weather) (bool, time.Duration) { return w.CutBack, w.Delay })
	})
	ways.Wait()
}

func (l *Link) dial() (server net.Conn, err error) {
	d := net.Dialer{Timeout: time.Second}
	for _, addr := range l.servers {
		if server, err = d.DialContext(l.ctx, "tcp", addr); err == nil {
			return server, nil
		}
	}
	return nil, err
}

// pass waits until the weather is no longer so. It returns false when ctx is done
// before.
func (l *Link) pass(ctx context.Context, so func(Weather) bool) bool {
	for {
		l.mu.Lock()
		wait, changed := so(l.weather), l.changed
		l.mu.Unlock()
		if !wait {
			return ctx.Err() == nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// carry copies what it reads, late and in order, until it can't. way tells of the
// weather what concerns this direction.
func (l *Link) carry(ctx context.Context, to io.Writer, from io.Reader, way func(Weather) (cut bool, delay time.Duration)) {
	type packet struct {
		bytes []byte
		due   time.Time
	}
	packets := make(chan packet, 4096)
	go func() {
		defer close(packets)
		for {
			buffer := make([]byte, 16<<10)
			n, err := from.Read(buffer)
			if n > 0 {
				select {
				case packets <- packet{buffer[:n], time.Now().Add(l.late(way))}:
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	for p := range packets {
		select {
		case <-time.After(time.Until(p.due)):
		case <-ctx.Done():
			return
		}
		if !l.pass(ctx, func(w Weather) bool { cut, _ := way(w); return cut }) {
			return
		}
		if _, err := to.Write(p.bytes); err != nil {
			return
		}
	}
	// The end of a connection is a packet, too.
	l.pass(ctx, func(w Weather) bool { cut, _ := way(w); return cut })
}

// late returns by how much later a packet arrives.
func (l *Link) late(way func(Weather) (bool, time.Duration)) time.Duration {
	l.mu.Lock()
	w := l.weather
	l.mu.Unlock()
	_, late := way(w)
	for again := retransmission; w.Loss > 0 && rand.Float64() < w.Loss; again *= 2 {
		late += again
	}
	return late
}
