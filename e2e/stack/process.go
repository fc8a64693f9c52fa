// Package stack starts services, their Dapr sidecars, and the servers behind them as a
// [System] of real processes on this machine. The end-to-end tests, the benchmark and
// `make run` use it. [Services] and [Backends] list what it can start.
package stack

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A Process is a program that runs next to this one. A nil Process has ended.
type Process struct {
	Name string
	cmd  *exec.Cmd
	done chan struct{} // closed when the program has ended
	err  error         // of the program; read it when done is closed

	mu  sync.Mutex
	log bytes.Buffer // what the program has written
}

// A Command says what to start.
type Command struct {
	Name string   // for people: "Redis", "order-service sidecar"
	Path string   // of the program
	Args []string // without the program
	Env  []string // added to this process's own, as "NAME=value"
	Dir  string   // where the program runs; empty for this process's own folder

	// Output takes the command's name and each line that the program writes. It may be nil.
	Output func(name, line string)

	prepare func(*exec.Cmd) // may change the command; may be nil
}

// Start starts a program in a process group of its own: a Ctrl-C in the terminal reaches
// this process alone, which then stops its programs in order.
func Start(c Command) (*Process, error) {
	p := &Process{Name: c.Name, cmd: exec.Command(c.Path, c.Args...), done: make(chan struct{})}
	p.cmd.Env = append(cleanEnv(), c.Env...)
	p.cmd.Dir = c.Dir
	output, err := p.cmd.StdoutPipe()
	p.cmd.Stderr = p.cmd.Stdout
	setProcessGroup(p.cmd)
	if c.prepare != nil {
		c.prepare(p.cmd)
	}
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("%s did not start: %w", c.Name, err)
	}
	tellWatchdog("add", p.PID())
	go func() {
		p.read(output, c.Output)
		p.err = p.cmd.Wait()
		tellWatchdog("remove", p.PID())
		close(p.done)
	}()
	return p, nil
}

// maxLog bounds what is kept of a program's output. What is older is forgotten.
const maxLog = 8 << 20

// read keeps what the program writes, and passes on each line, until the program ends.
func (p *Process) read(output io.Reader, each func(name, line string)) {
	for lines := bufio.NewReader(output); ; {
		line, err := lines.ReadString('\n')
		p.mu.Lock()
		if p.log.Len() > maxLog {
			p.log.Next(maxLog / 2)
		}
		p.log.WriteString(line)
		p.mu.Unlock()
		if each != nil && line != "" {
			each(p.Name, strings.TrimSuffix(line, "\n"))
		}
		if err != nil {
			return
		}
	}
}

// startReady starts a program and waits until ready returns nil. When it fails, the
// program has ended.
func startReady(ctx context.Context, c Command, ready func(context.Context) error) (*Process, error) {
	p, err := Start(c)
	if err != nil {
		return nil, err
	}
	if err := p.waitReady(ctx, ready); err != nil {
		p.Kill()
		return p, err
	}
	return p, nil
}

// run starts a program and waits until it has ended. When the program fails, the error
// has what it wrote last.
func run(ctx context.Context, c Command) error {
	p, err := Start(c)
	if err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.Kill()
		return ctx.Err()
	}
	if p.err != nil {
		return p.Ended()
	}
	return nil
}

// cleanEnv returns the environment without the settings of services and sidecars: they are
// set for each program.
func cleanEnv() []string {
	ours := strings.Fields(`PORT APP_PORT APP_HOST DAPR_HTTP_PORT DAPR_HTTP_ENDPOINT DAPR_GRPC_PORT DAPR_API_TOKEN APP_API_TOKEN APP_ID
		MARKER_TTL STATE_CONSISTENCY PUBLISH_TWICE SUBSCRIPTION_METADATA LOG_FORMAT PUBSUB_NAME DEAD_LETTERS_DIR`)
	return slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.Contains(ours, name)
	})
}

// PID returns the process ID.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Log returns what the program has written so far.
func (p *Process) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// Done returns a channel that is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended returns nil while the program runs, and then an error that says how it ended and
// what it wrote last.
func (p *Process) Ended() error {
	if p == nil {
		return errors.New("the program has not started")
	}
	select {
	case <-p.done:
		return fmt.Errorf("%s has ended (%v); it wrote last:\n%s", p.Name, p.cmd.ProcessState, tail(p.Log()))
	default:
		return nil
	}
}

// Kill ends the program at once, as kill -9 does, and waits until it has ended.
func (p *Process) Kill() {
	if p.Ended() == nil {
		_ = killGroup(p.cmd.Process) // It fails only when the program has just ended.
		<-p.done
	}
}

// Stop asks the program to end, as kill does, and waits until it has ended. After the
// grace it kills the program and returns an error.
func (p *Process) Stop(grace time.Duration) error { return p.end(syscall.SIGTERM, grace) }

// end is Stop with another signal.
func (p *Process) end(signal os.Signal, grace time.Duration) error {
	if p.Ended() != nil {
		return nil
	}
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.Kill() // On Windows no program can ask another to end.
		return nil
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(grace):
		p.Kill()
		return fmt.Errorf("%s had not ended %v after it was asked to", p.Name, grace)
	}
}

// waitReady waits until ready returns nil. It fails when the program or ctx ends before.
func (p *Process) waitReady(ctx context.Context, ready func(context.Context) error) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := ready(attempt)
		cancel()
		if ended := p.Ended(); ended != nil {
			return ended // What is ready at the address is another program.
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w; it wrote last:\n%s", p.Name, err, tail(p.Log()))
		case <-p.done:
		case <-time.After(25 * time.Millisecond):
		}
	}
}

// tcpReady returns a readiness check: a program accepts connections at an address.
func tcpReady(addr string) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

// tail returns the last 15 lines of a text.
func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}
