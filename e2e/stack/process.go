// Package stack puts services, their Dapr sidecars, and the servers behind them
// together into a running [System], all of them real processes on this machine, for
// the end-to-end tests, the benchmark and `make run` alike. What services and backends
// there are is in the tables [Services] and [Backends].
package stack

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"
)

// A Process is a program that runs beside this one. Its output goes to Log and,
// line by line, to whatever else the starter asked for.
type Process struct {
	Name string
	cmd  *exec.Cmd
	log  *lineWriter
	done chan struct{} // closed when the program has ended
	err  error         // how, once done is closed
}

// A Command says what to start.
type Command struct {
	Name string   // for people: "redis", "order-service sidecar"
	Path string   // the program
	Args []string // without the program
	Env  []string // beside this process's own, as "NAME=value"
	Dir  string

	prepare func(*exec.Cmd) // may change the command; may be nil

	// Output takes every line as it is written. It may be nil.
	Output func(line string)
}

// Start starts a program in a process group of its own, so that a Ctrl-C in
// the terminal reaches this process alone, which then stops its programs in
// order.
func Start(c Command) (*Process, error) {
	p := &Process{Name: c.Name, log: &lineWriter{each: c.Output}, done: make(chan struct{})}
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
	watchdog.add(p.PID())
	go func() {
		p.err = p.cmd.Wait()
		watchdog.remove(p.PID())
		p.log.flush()
		close(p.done)
	}()
	return p, nil
}

// cleanEnv returns the environment without the variables that tell a service or
// a sidecar where to listen and whom to trust: these are set for each program.
func cleanEnv() []string {
	ours := []string{"PORT", "APP_PORT", "APP_HOST", "DAPR_HTTP_PORT", "DAPR_HTTP_ENDPOINT", "DAPR_GRPC_PORT",
		"DAPR_API_TOKEN", "APP_API_TOKEN", "APP_ID", "MARKER_TTL", "STATE_CONSISTENCY", "PUBLISH_TWICE", "SUBSCRIPTION_METADATA", "LOG_FORMAT", "PUBSUB_NAME", "DEAD_LETTERS_DIR"}
	return slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := bytes.Cut([]byte(variable), []byte("="))
		return slices.Contains(ours, string(name))
	})
}

// PID returns the process ID.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Log returns what the program has written so far.
func (p *Process) Log() string { return p.log.String() }

// Done is closed when the program has ended, for whatever reason.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended returns an error that says how the program ended and what it wrote last,
// or nil while it runs.
func (p *Process) Ended() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s has ended (%v); it wrote last:\n%s", p.Name, p.cmd.ProcessState, tail(p.Log(), 15))
	default:
		return nil
	}
}

// Kill ends the program at once, as kill -9 does, and waits until it is gone.
func (p *Process) Kill() {
	_ = killGroup(p.cmd.Process) // fails only when it has ended
	<-p.done
}

// Stop asks the program to end, as kill does, and waits until it has. One that
// has not ended after the grace is killed, and an error says so.
func (p *Process) Stop(grace time.Duration) error {
	return p.end(terminationSignal, grace)
}

// end is Stop with a signal of choice.
func (p *Process) end(signal os.Signal, grace time.Duration) error {
	if p.Ended() != nil {
		return nil
	}
	if err := p.cmd.Process.Signal(signal); err != nil && p.Ended() == nil {
		p.Kill()
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(grace):
		p.Kill()
		return fmt.Errorf("%s had not ended %v after it was asked to", p.Name, grace)
	}
}

// WaitReady waits until ready returns nil. It fails when the program ends
// before, or when ctx does.
func (p *Process) WaitReady(ctx context.Context, ready func(context.Context) error) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		err := ready(attempt)
		cancel()
		if ended := p.Ended(); ended != nil {
			return ended // whatever is ready at its address is another program
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w; it wrote last:\n%s", p.Name, err, tail(p.Log(), 15))
		case <-p.done:
		case <-time.After(25 * time.Millisecond):
		}
	}
}

// httpReady returns a readiness check: GET url answers with a 2xx.
func httpReady(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode/100 != 2 {
			return fmt.Errorf("GET %s answered %s", url, resp.Status)
		}
		return nil
	}
}

// A lineWriter keeps what is written to it and passes it on line by line.
type lineWriter struct {
	mu   sync.Mutex
	all  bytes.Buffer
	rest []byte // a line without its end
	each func(line string)
}

var _ io.Writer = (*lineWriter)(nil)

// maxLog bounds what is kept of a program's output. What is older is forgotten.
const maxLog = 8 << 20

func (w *lineWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.all.Len() > maxLog {
		w.all.Next(maxLog / 2)
	}
	w.all.Write(b)
	if w.each != nil {
		w.rest = append(w.rest, b...)
		for {
			line, rest, ok := bytes.Cut(w.rest, []byte("\n"))
			if !ok {
				break
			}
			w.each(string(line))
			w.rest = rest
		}
	}
	return len(b), nil
}

func (w *lineWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rest) > 0 {
		w.each(string(w.rest))
		w.rest = nil
	}
}

func (w *lineWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all.String()
}

// tail returns the last lines of a text.
func tail(text string, lines int) string {
	all := bytes.Split(bytes.TrimSpace([]byte(text)), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}
