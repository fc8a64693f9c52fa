package stack

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

var handedOut sync.Map // of the ports that FreePort has returned

// FreePort returns a TCP port of the loopback interface on which no program listens and
// which it has not returned before. The port is below the range that systems use for
// outgoing connections, so that no such connection takes it before its server does.
func FreePort() (int, error) {
	for range 1000 {
		port := 15000 + rand.IntN(15000)
		if _, taken := handedOut.LoadOrStore(port, true); !taken && PortIsFree(port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port between 15000 and 30000")
}

// PortIsFree reports whether no program listens on a TCP port of this machine.
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
