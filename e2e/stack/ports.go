package stack

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

var handedOut struct {
	sync.Mutex
	ports map[int]bool
}

// FreePort returns a TCP port of the loopback interface that nothing listens on
// and that it has not returned before. It stays below the range from which
// systems take ports for outgoing connections, so that none of these takes it
// before its server does.
func FreePort() (int, error) {
	handedOut.Lock()
	defer handedOut.Unlock()
	if handedOut.ports == nil {
		handedOut.ports = make(map[int]bool)
	}
	for range 1000 {
		port := 15000 + rand.IntN(15000)
		if !handedOut.ports[port] && PortIsFree(port) {
			handedOut.ports[port] = true
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port between 15000 and 30000")
}

// PortIsFree reports whether nothing listens on a TCP port of this machine.
func PortIsFree(port int) bool {
	// Not only 127.0.0.1: a program may hold the port on all interfaces.
	for _, host := range []string{"127.0.0.1", ""} {
		ln, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			return false
		}
		_ = ln.Close()
	}
	return true
}
