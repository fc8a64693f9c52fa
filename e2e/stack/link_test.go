package stack

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/matryer/is"
)

// A talk is a connection over a link to a server that sends back each line.
type talk struct {
	*Link
	conn  net.Conn
	lines *bufio.Reader
}

func newTalk(t *testing.T) talk {
	t.Helper()
	is := is.New(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	is.NoErr(err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { defer conn.Close(); _, _ = io.Copy(conn, conn) }()
		}
	}()
	link, err := NewLink("127.0.0.1:1", ln.Addr().String()) // Nothing listens at the first.
	is.NoErr(err)
	t.Cleanup(link.Close)
	conn, err := net.Dial("tcp", link.Addr())
	is.NoErr(err)
	t.Cleanup(func() { conn.Close() })
	return talk{link, conn, bufio.NewReader(conn)}
}

// hear waits for a line.
func (t talk) hear(within time.Duration) error {
	_ = t.conn.SetReadDeadline(time.Now().Add(within))
	_, err := t.lines.ReadString('\n')
	return err
}

// say sends a line, and returns how long it takes there and back.
func (t talk) say(within time.Duration) (time.Duration, error) {
	began := time.Now()
	fmt.Fprintln(t.conn, "hello")
	err := t.hear(within)
	return time.Since(began), err
}

func TestLinkDelaysAndKeepsBack(t *testing.T) {
	is, link := is.New(t), newTalk(t)
	_, err := link.say(time.Minute)
	is.NoErr(err)
	is.Equal(link.Held(), int64(0)) // in good weather
	link.Set(Weather{Delay: 300 * time.Millisecond})
	took, err := link.say(time.Minute)
	is.NoErr(err)
	is.True(took >= 300*time.Millisecond) // with a delay of 300 ms
	for _, cut := range []Weather{Cut, {CutThere: true}, {CutBack: true}} {
		link.Set(cut)
		_, err := link.say(300 * time.Millisecond)
		is.True(err != nil) // nothing comes back
		link.Set(Weather{})
		is.NoErr(link.hear(time.Minute)) // what was sent during the cut arrives
	}
}

// Every packet arrives, and a lost packet arrives late.
func TestLinkLosesPackets(t *testing.T) {
	is, link := is.New(t), newTalk(t)
	link.Set(Weather{Loss: 0.1})
	for range 500 { // None of 1,000 packets is lost: once in 10^45 runs.
		took, err := link.say(time.Minute)
		is.NoErr(err)
		if took >= retransmission {
			return
		}
	}
	t.Error("no packet was late")
}

func TestClosedLinkBreaksItsConnections(t *testing.T) {
	is, link := is.New(t), newTalk(t)
	_, err := link.say(time.Minute)
	is.NoErr(err)
	link.Close()
	_, err = link.say(time.Minute)
	is.True(err != nil) // the connection is broken
	_, err = net.Dial("tcp", link.Addr())
	is.True(err != nil) // a new connection is refused
	is.NoErr(link.open(link.Addr()))
	conn, err := net.Dial("tcp", link.Addr())
	is.NoErr(err)
	conn.Close()
}
