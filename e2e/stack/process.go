// Package stack starts services, their Dapr sidecars, and the servers behind them as a
// [System] of real processes on this machine. The end-to-end tests, the benchmark and
// `make run` use it. [Services] and [Backends] list what it can start.
package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A Process is a program that runs beside this one. A nil Process has ended.
type Process struct {
	Name string
	cmd  *exec.Cmd
	log  *lineWriter
	done chan struct{} // closed when the program has ended
	err  error         // of the program; read it when done is closed
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
	p := &Process{Name: c.Name, log: &lineWriter{name: c.Name, each: c.Output}, done: make(chan struct{})}
	p.cmd = exec.Command(c.Path, c.Args...)
	p.cmd.Env = append(cleanEnv(), c.Env...)
	p.cmd.Dir = c.Dir
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	setProcessGroup(p.cmd)
	if c.prepare != nil {
		c.prepare(p.cmd)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s did not start: %w", c.Name, err)
	}
	tellWatchdog("add", p.PID())
	go func() {
		p.err = p.cmd.Wait()
		tellWatchdog("remove", p.PID())
		p.log.flush()
		close(p.done)
	}()
	return p, nil
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

// cleanEnv returns the environment without the variables that tell a service or a sidecar
// where to listen and whom to trust: they are set for each program.
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
func (p *Process) Log() string { return p.log.String() }

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

// A lineWriter keeps what is written to it and passes it on line by line.
type lineWriter struct {
	mu   sync.Mutex
	all  bytes.Buffer
	rest []byte // a line without its end
	name string
	each func(name, line string) // may be nil
}

// maxLog bounds what is kept of a program's output. What is older is forgotten.
const maxLog = 8 << 20

func (w *lineWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all.Len() > maxLog {
		w.all.Next(maxLog / 2)
	}
	w.all.Write(b)
	if w.each == nil {
		return len(b), nil
	}
	w.rest = append(w.rest, b...)
	for {
		line, rest, ok := bytes.Cut(w.rest, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		w.each(w.name, string(line))
		w.rest = rest
	}
}

// flush passes on a last line that has no end.
func (w *lineWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rest) > 0 {
		w.each(w.name, string(w.rest))
	}
}

func (w *lineWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all.String()
}

// tail returns the last 15 lines of a text.
func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}
