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

// A console shows the output of several programs on one terminal, each line behind the
// program's name. Of a sidecar it shows only the errors, because a sidecar writes much. All
// that a sidecar writes goes to a file.
type console struct {
	mu   sync.Mutex
	w    io.Writer
	dir  string // of the log files
	logs map[string]io.Writer
}

// printf shows a line of the launcher's own.
func (c *console) printf(format string, args ...any) { fmt.Fprintf(c, format+"\n", args...) }

// Write shows text as it is.
func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.w.Write(b)
}

// process takes a line that a service or a sidecar has written.
func (c *console) process(name, line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if strings.HasSuffix(name, " sidecar") {
		fmt.Fprintln(c.log(name), line)
		if !strings.Contains(line, "level=error") && !strings.Contains(line, "level=fatal") {
			return
		}
	}
	fmt.Fprintf(c.w, "%s | %s\n", name, line)
}

// log returns the log file of a process. It empties the file of the previous run first.
func (c *console) log(name string) io.Writer {
	if c.logs[name] == nil {
		file, err := os.Create(filepath.Join(c.dir, strings.ReplaceAll(name, " ", "-")+".log"))
		c.logs[name] = file
		if err != nil {
			fmt.Fprintf(c.w, "no log of %s is kept: %v\n", name, err)
			c.logs[name] = io.Discard
		}
	}
	return c.logs[name]
}

// readLog reads a line of a service's log with LOG_FORMAT=json. It returns the same line as
// the service writes it for people. A line that is not JSON stays as it is.
func readLog(line string) (l logLine, text string) {
	if json.Unmarshal([]byte(line), &l) != nil {
		return logLine{}, line
	}
	record := slog.NewRecord(l.Time, slog.LevelInfo, l.Message, 0)
	fields := json.NewDecoder(strings.NewReader(line)) // to keep their order; the line is valid JSON
	fields.UseNumber()
	_, _ = fields.Token() // the beginning of the object
	for fields.More() {
		name, _ := fields.Token()
		var value any
		_ = fields.Decode(&value)
		if name != slog.TimeKey && name != slog.LevelKey && name != slog.MessageKey {
			record.AddAttrs(slog.Any(fmt.Sprint(name), value))
		}
	}
	var b strings.Builder
	_ = web.NewLogger(&b, "text").Handler().Handle(context.Background(), record) // a Builder takes everything
	return l, strings.TrimSuffix(b.String(), "\n")
}
