package stack

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// A talk is a connection over a link to a server that sends back each line.
type talk struct {
	*Link
	conn  net.Conn
	lines *bufio.Reader
}

func newTalk(t *testing.T) talk {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
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
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(link.Close)
	conn, err := net.Dial("tcp", link.Addr())
	if err != nil {
		t.Fatal(err)
	}
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
	link := newTalk(t)
	if _, err := link.say(time.Minute); err != nil {
		t.Fatalf("nothing comes back: %v", err)
	}
	link.Set(Weather{Delay: 300 * time.Millisecond})
	if took, err := link.say(time.Minute); err != nil || took < 300*time.Millisecond {
		t.Errorf("with a delay of 300 ms: %v, %v", took, err)
	}
	for _, cut := range []Weather{Cut, {CutThere: true}, {CutBack: true}} {
		link.Set(cut)
		if took, err := link.say(300 * time.Millisecond); err == nil {
			t.Errorf("%+v: something came back after %v", cut, took)
		}
		link.Set(Weather{}) // What was sent meanwhile arrives.
		if err := link.hear(time.Minute); err != nil {
			t.Errorf("%+v, over: %v", cut, err)
		}
	}
}

// Every packet arrives, and a lost packet arrives late.
func TestLinkLosesPackets(t *testing.T) {
	link := newTalk(t)
	link.Set(Weather{Loss: 0.1})
	for range 500 { // None of 1,000 packets is lost: once in 10^45 runs.
		took, err := link.say(time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if took >= retransmission {
			return
		}
	}
	t.Error("no packet was late")
}

func TestClosedLinkBreaksItsConnections(t *testing.T) {
	link := newTalk(t)
	if _, err := link.say(time.Minute); err != nil {
		t.Fatal(err)
	}
	addr := link.Addr()
	link.Close()
	if _, err := link.say(time.Minute); err == nil {
		t.Error("a connection goes on")
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("a new connection is taken")
	}
	if err := link.open(addr); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", addr); err != nil {
		t.Error(err)
	}
}
