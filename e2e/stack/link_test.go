package stack

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// echo is a server that sends back each line.
func echo(t *testing.T) (addr string) {
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
	return ln.Addr().String()
}

func TestLink(t *testing.T) {
	link, err := NewLink("127.0.0.1:1", echo(t)) // nobody is at the first
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	conn, err := net.Dial("tcp", link.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	lines := bufio.NewReader(conn)
	// say returns how long a line takes there and back, or an error after a while.
	say := func(within time.Duration) (time.Duration, error) {
		began := time.Now()
		_ = conn.SetReadDeadline(began.Add(within))
		fmt.Fprintln(conn, "hello")
		_, err := lines.ReadString('\n')
		return time.Since(began), err
	}
	if _, err := say(time.Minute); err != nil {
		t.Fatalf("nothing comes back: %v", err)
	}
	link.Set(Weather{Delay: 300 * time.Millisecond})
	if took, err := say(time.Minute); err != nil || took < 300*time.Millisecond {
		t.Errorf("with a delay of 300 ms: %v, %v", took, err)
	}
	for _, cut := range []Weather{Cut, {CutThere: true}, {CutBack: true}} {
		link.Set(cut)
		if took, err := say(300 * time.Millisecond); err == nil {
			t.Errorf("%+v: something came back after %v", cut, took)
		}
		link.Set(Weather{}) // and what was sent meanwhile arrives
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := lines.ReadString('\n'); err != nil {
			t.Errorf("%+v, over: %v", cut, err)
		}
	}
	link.Set(Weather{Broken: true})
	if _, err := say(time.Minute); err == nil {
		t.Error("a link that is broken carries on")
	}
}

// Of packets half of which are lost, each comes all the same, and some come late.
func TestLinkThatLosesPackets(t *testing.T) {
	link, err := NewLink(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	link.Set(Weather{Loss: 0.5})
	conn, err := net.Dial("tcp", link.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	late := 0
	for range 8 {
		began := time.Now()
		fmt.Fprintln(conn, "hello")
		if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if time.Since(began) >= retransmission {
			late++
		}
	}
	if late == 0 {
		t.Error("no packet was late")
	}
}
