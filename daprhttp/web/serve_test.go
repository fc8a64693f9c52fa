package web

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/matryer/is"
)

// A memory is a listener whose connections are in memory, so that a server works in a
// bubble of package synctest.
type memory struct{ conns, closed chan net.Conn }

func newMemory() memory { return memory{make(chan net.Conn), make(chan net.Conn)} }

func (m memory) Accept() (net.Conn, error) {
	select {
	case conn := <-m.conns:
		return conn, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m memory) Close() error   { close(m.closed); return nil }
func (m memory) Addr() net.Addr { return new(net.TCPAddr) }

// dial returns a connection when the server has accepted it.
func (m memory) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case m.conns <- server:
		return client, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

// client returns a client that makes a new connection for each request.
func (m memory) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: m.dial, DisableKeepAlives: true}}
}

// serveInMemory calls test with a server in a bubble, and stops the server after it.
func serveInMemory(t *testing.T, h http.HandlerFunc, test func(t *testing.T, m memory)) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- Serve(ctx, m, h, time.Minute) }()
		defer func() {
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}()
		test(t, m)
	})
}

const (
	get        = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	halfHeader = "POST / HTTP/1.1\r\nHost: x\r\nA-Header-That-Never-"
	halfBody   = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\na body that never"
	halfChunk  = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
)

// echo answers a request with its body.
func echo(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }

func TestConnectionsOfSlowClientsAreClosed(t *testing.T) {
	serveInMemory(t, echo, func(t *testing.T, m memory) {
		for _, tt := range []struct {
			name, sent string
			want       time.Duration
		}{
			{"never a byte", "", 5 * time.Second},
			{"half a header", halfHeader, 5 * time.Second},
			{"half a body", halfBody, 15 * time.Second},
			{"no second request", get, 30 * time.Second},
			{"the answer is not read", get + strings.Repeat("x", 1<<20), 60 * time.Second}, // the client writes instead
		} {
			conn, err := m.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			if _, err := io.WriteString(conn, tt.sent); err == nil {
				_, _ = io.Copy(io.Discard, conn)
			}
			if got := time.Since(start); got != tt.want {
				t.Errorf("%s: the server closed the connection after %v, want %v", tt.name, got, tt.want)
			}
		}
	})
}

// A server has 512 connections. One more client takes the place of the one that the server
// has waited for longest, 100 ms at least. A complete request keeps its connection. When
// every connection has one, a new connection waits.
func TestConnectionsAreLimited(t *testing.T) {
	var atWork atomic.Int64
	var finish, brief chan struct{}
	h := func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > 0 {
			echo(w, r)
		}
		switch r.URL.Path {
		case "/slow":
			atWork.Add(1)
			<-finish
		case "/brief":
			atWork.Add(1)
			<-brief
		}
	}
	serveInMemory(t, h, func(t *testing.T, m memory) {
		is := is.New(t)
		finish, brief = make(chan struct{}), make(chan struct{}) // in the bubble
		answered := make(chan error, maxConnections+1)
		order := func(body string) {
			resp, err := m.client().Post("http://x/slow", "text/plain", strings.NewReader(body))
			if err == nil {
				err = resp.Body.Close()
			}
			answered <- err
		}
		for i := range maxConnections - 4 {
			go order([]string{"", "a body"}[i%2])
		}
		synctest.Wait()
		start := time.Now()
		closed := make(chan string)
		var conns []net.Conn
		for _, sent := range []string{"", halfHeader, halfBody, halfChunk} {
			conn, err := m.dial(t.Context(), "", "")
			is.NoErr(err)
			_, err = io.WriteString(conn, sent)
			is.NoErr(err)
			conns = append(conns, conn)
			go func() { _, _ = io.Copy(io.Discard, conn); closed <- sent }()
			time.Sleep(10 * time.Millisecond)
		}
		_, err := io.WriteString(conns[0], strings.Replace(get, "/", "/brief", 1))
		is.NoErr(err)
		for i, want := range []string{halfHeader, halfBody, halfChunk} {
			go order("a body")
			is.Equal(<-closed, want)
			is.Equal(time.Since(start), time.Duration(110+10*i)*time.Millisecond)
		}
		go order("") // every connection has a request
		time.Sleep(time.Second)
		is.Equal(atWork.Load(), int64(maxConnections))
		start = time.Now()
		brief <- struct{}{} // after its answer the connection waits for another request
		is.Equal(<-closed, "")
		is.Equal(time.Since(start), 100*time.Millisecond)
		go order("")
		time.Sleep(time.Second)
		is.Equal(atWork.Load(), int64(maxConnections+1))
		finish <- struct{}{} // the client closes this connection
		synctest.Wait()
		is.Equal(atWork.Load(), int64(maxConnections+2))
		close(finish)
		for range maxConnections + 1 {
			is.NoErr(<-answered)
		}
		start = time.Now()
		for range maxConnections + 1 { // a closed connection takes no place
			order("a body")
			is.NoErr(<-answered)
		}
		is.Equal(time.Since(start), time.Duration(0))
	})
}

// When it stops, Run accepts no connection, and waits 20 seconds for the requests under way.
// Then it breaks them off and reports it. The last line of the log says that every request
// has its answer.
func TestRunFinishesRequestsWhenItStops(t *testing.T) {
	for work, want := range map[time.Duration]int{19 * time.Second: maxConnections, 21 * time.Second: 0} {
		synctest.Test(t, func(t *testing.T) {
			is := is.New(t)
			m := newMemory()
			ctx, stop := context.WithCancel(t.Context())
			answers := make(chan error)
			for range maxConnections + 1 { // the last one waits for a connection
				go func() {
					_, err := m.client().Get("http://x")
					answers <- err
				}()
			}
			var atWork atomic.Int64
			var logs bytes.Buffer
			ended := make(chan error, 1)
			go func() {
				ended <- Run(ctx, m, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					atWork.Add(1)
					select {
					case <-time.After(work):
					case <-r.Context().Done():
					}
				}), NewLogger(&logs, "text"), "program", "works")
			}()
			synctest.Wait()
			is.Equal(atWork.Load(), int64(maxConnections))
			stop()
			is.True(<-answers != nil) // of the last one
			_, err := m.dial(ctx, "", "")
			is.Equal(err, net.ErrClosed)
			answered := 0
			for range maxConnections {
				if <-answers == nil {
					answered++
				}
			}
			is.Equal(answered, want)
			err = <-ended
			is.Equal(err == nil, want > 0)
			is.True(strings.Contains(logs.String(), " program listens on http://:0 and works\n"))
			is.Equal(strings.HasSuffix(logs.String(), " program has stopped\n"), want > 0)
			if err != nil {
				is.True(errors.Is(err, context.DeadlineExceeded))
				is.True(strings.Contains(err.Error(), "still under way after 20s"))
			}
		})
	}
}

func TestServeReportsAFailedListener(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if err := Serve(t.Context(), ln, http.NotFoundHandler(), time.Second); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// The metadata of a message becomes headers of its delivery.
func TestServeTakesHeadersAsLongAsAMessage(t *testing.T) {
	serveInMemory(t, echo, func(t *testing.T, m memory) {
		is := is.New(t)
		for bytes, want := range map[int]int{4 << 20: http.StatusOK, 6 << 20: http.StatusRequestHeaderFieldsTooLarge} {
			req, err := http.NewRequest("GET", "http://x", nil)
			is.NoErr(err)
			req.Header.Set("X", strings.Repeat("x", bytes))
			resp, err := m.client().Do(req)
			is.NoErr(err)
			is.NoErr(resp.Body.Close())
			is.Equal(resp.StatusCode, want)
		}
	})
}

// Dapr takes an incomplete answer for success, so that an answer must leave the program in
// one write.
func TestAnswerLeavesInOneWrite(t *testing.T) {
	answer := func(w http.ResponseWriter, _ *http.Request) {
		WriteJSON(w, 200, map[string]string{"a": strings.Repeat("x", 1900)})
	}
	serveInMemory(t, answer, func(t *testing.T, m memory) {
		is := is.New(t)
		conn, err := m.dial(t.Context(), "", "")
		is.NoErr(err)
		_, err = io.WriteString(conn, get)
		is.NoErr(err)
		written := make([]byte, 4<<10)
		n, err := conn.Read(written) // what the server writes at once
		is.NoErr(err)
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(written[:n])), nil)
		is.NoErr(err)
		body, err := io.ReadAll(resp.Body)
		is.NoErr(err)
		is.Equal(resp.ContentLength, int64(len(body)))
	})
}
