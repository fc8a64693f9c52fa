package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"example.com/dapr-orders/daprhttp/web"
)

// A console shows one terminal what several programs write: the services' lines
// as they are, behind the service's name; of the sidecars' only errors, since
// they write much. All that a sidecar writes goes to a file.
type console struct {
	mu   sync.Mutex
	w    io.Writer
	dir  string // of the log files
	logs map[string]*os.File
}

// printf shows one line of the launcher's own.
func (c *console) printf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.w, format+"\n", args...)
}

// Write shows what others report of their progress.
func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.w.Write(b)
}

// readLog returns what a line of a service's log with LOG_FORMAT=json says, and the line
// that the service writes for people in its place. A line that is no JSON stays as it is.
func readLog(line string) (l logLine, text string) {
	if json.Unmarshal([]byte(line), &l) != nil {
		return logLine{}, line
	}
	var b strings.Builder
	log, err := web.NewLogger(&b, "text")
	if err != nil {
		return l, line
	}
	record := slog.NewRecord(l.Time, slog.LevelInfo, l.Message, 0)
	fields := json.NewDecoder(strings.NewReader(line))
	fields.UseNumber()
	for _, err := fields.Token(); err == nil && fields.More(); {
		var name json.Token
		var value any
		if name, err = fields.Token(); err != nil {
			break
		}
		if err = fields.Decode(&value); err != nil {
			break
		}
		switch name := fmt.Sprint(name); name {
		case slog.TimeKey, slog.LevelKey, slog.MessageKey:
		default:
			record.Add(name, value)
		}
	}
	if log.Handler().Handle(context.Background(), record) != nil {
		return l, line
	}
	return l, strings.TrimSuffix(b.String(), "\n")
}

// process takes a line that a service or a sidecar has written.
func (c *console) process(name, line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if strings.HasSuffix(name, " sidecar") {
		c.log(name, line)
		if !strings.Contains(line, "level=error") && !strings.Contains(line, "level=fatal") {
			return
		}
	}
	fmt.Fprintf(c.w, "%s | %s\n", name, line)
}

// log adds a line to the file of a process, which begins anew with the launcher.
func (c *console) log(name, line string) {
	if c.logs == nil {
		c.logs = make(map[string]*os.File)
	}
	file, opened := c.logs[name]
	if !opened {
		var err error
		file, err = os.Create(filepath.Join(c.dir, strings.ReplaceAll(name, " ", "-")+".log"))
		if err != nil {
			fmt.Fprintf(c.w, "no log of %s is kept: %v\n", name, err)
		}
		c.logs[name] = file
	}
	if file != nil {
		fmt.Fprintln(file, line)
	}
}
