package stack

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// A Link is a stretch of network between programs and a server: a proxy of TCP
// connections that loses, delays and keeps back what goes over it, as its Weather is.
// With several servers it is a load balancer: a connection goes to the first server that
// takes it.
type Link struct {
	ln      net.Listener
	servers []string
	ctx     context.Context // done when the link is closed
	end     context.CancelFunc
	all     sync.WaitGroup // its connections

	mu      sync.Mutex
	weather Weather
	changed chan struct{} // closed when the weather changes
	held    atomic.Int64
}

// Weather is what a Link does to what goes over it. The zero value does nothing.
type Weather struct {
	// CutThere and CutBack keep back what goes to the server, and what comes from it. As
	// when packets are dropped, neither end is told: connections stay, new connections get
	// no answer, and what was sent arrives when the cut is over.
	CutThere, CutBack bool

	// Delay is how much later everything arrives that comes from the server.
	Delay time.Duration

	// Loss is the part of packets, from 0 to 1, that are lost in either direction. A Link
	// does what TCP makes of that: it sends a lost packet again after 200 ms, then after
	// twice that, and so on, and what is behind the packet waits.
	Loss float64
}

// Cut is the Weather in which nothing gets through.
var Cut = Weather{CutThere: true, CutBack: true}

// retransmission is how long TCP waits at first before it sends a packet again.
const retransmission = 200 * time.Millisecond

// NewLink returns a link to a server, or to several, on a free port.
func NewLink(servers ...string) (*Link, error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	l := &Link{servers: servers, changed: make(chan struct{})}
	return l, l.open(net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}

// open lets the link take connections at an address, also after Close.
func (l *Link) open(addr string) (err error) {
	if l.ln, err = net.Listen("tcp", addr); err != nil {
		return err
	}
	l.ctx, l.end = context.WithCancel(context.Background())
	l.all.Go(l.accept)
	return nil
}

// Addr returns the address at which the link stands for its server.
func (l *Link) Addr() string { return l.ln.Addr().String() }

// Set changes the weather, also for the connections that are open.
func (l *Link) Set(w Weather) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.weather = w
	close(l.changed)
	l.changed = make(chan struct{})
}

// now returns the weather, and a channel that is closed when it changes.
func (l *Link) now() (Weather, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.weather, l.changed
}

// Held returns how many packets, and connections that begin or end, were kept back or late.
func (l *Link) Held() int64 { return l.held.Load() }

// Close breaks every connection and refuses new ones, as when a server is stopped.
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
	there := func(w Weather) (bool, time.Duration) { return w.CutThere, 0 }
	back := func(w Weather) (bool, time.Duration) { return w.CutBack, w.Delay }
	ctx, cancel := context.WithCancel(l.ctx)
	defer cancel()
	if !l.pass(ctx, there) || !l.pass(ctx, back) {
		return
	}
	server, err := l.dial(ctx)
	if err != nil {
		return
	}
	context.AfterFunc(ctx, func() { client.Close(); server.Close() })
	var ways sync.WaitGroup
	ways.Go(func() { l.carry(ctx, server, client, there); cancel() })
	ways.Go(func() { l.carry(ctx, client, server, back); cancel() })
	ways.Wait()
}

func (l *Link) dial(ctx context.Context) (server net.Conn, err error) {
	d := net.Dialer{Timeout: time.Second}
	for _, addr := range l.servers {
		if server, err = d.DialContext(ctx, "tcp", addr); err == nil {
			return server, nil
		}
	}
	return nil, err
}

// A way is a direction of a link: it returns what the weather does to it.
type way func(Weather) (cut bool, delay time.Duration)

// pass waits until the way is not cut. It returns false when ctx is done before.
func (l *Link) pass(ctx context.Context, way way) bool {
	for {
		weather, changed := l.now()
		if cut, _ := way(weather); !cut {
			return ctx.Err() == nil
		}
		l.held.Add(1)
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// carry copies what it reads, late and in order, until one end closes the connection.
func (l *Link) carry(ctx context.Context, to io.Writer, from io.Reader, way way) {
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
			if err != nil {
				return
			}
			select {
			case packets <- packet{buffer[:n], time.Now().Add(l.late(way))}:
			case <-ctx.Done():
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
		if !l.pass(ctx, way) {
			return
		}
		if _, err := to.Write(p.bytes); err != nil {
			return
		}
	}
	l.pass(ctx, way) // The end of a connection is a packet, too.
}

// late returns how much later a packet arrives.
func (l *Link) late(way way) time.Duration {
	weather, _ := l.now()
	_, late := way(weather)
	for again := retransmission; rand.Float64() < weather.Loss; again *= 2 {
		late += again
	}
	if late > 0 {
		l.held.Add(1)
	}
	return late
}
