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
	"time"

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
	fields := json.NewDecoder(strings.NewReader(line))
	fields.UseNumber()
	if begin, err := fields.Token(); err != nil || begin != json.Delim('{') {
		return logLine{}, line
	}
	record := slog.NewRecord(time.Time{}, slog.LevelInfo, "", 0)
	for fields.More() {
		name, err := fields.Token()
		if err != nil {
			return logLine{}, line
		}
		value, err := fields.Token() // a service logs texts and numbers
		if err != nil {
			return logLine{}, line
		}
		word, _ := value.(string)
		number, _ := value.(json.Number)
		count, _ := number.Int64()
		switch name {
		case slog.LevelKey:
			continue
		case slog.TimeKey:
			if l.Time, err = time.Parse(time.RFC3339Nano, word); err != nil {
				return logLine{}, line
			}
			record.Time = l.Time
			continue
		case slog.MessageKey:
			l.Message, record.Message = word, word
			continue
		case web.LogEventID:
			l.EventID = word
		case web.LogTraceID:
			l.TraceID = word
		case web.LogError:
			l.Error = word
		case "orderId":
			l.OrderID = word
		case "itemId":
			l.ItemID = word
		case "quantity":
			l.Quantity = count
		case "ordered":
			l.Ordered = count
		case "remaining":
			l.Remaining = count
		}
		record.AddAttrs(slog.Any(fmt.Sprint(name), value))
	}
	var b strings.Builder
	if web.NewLogger(&b, "text").Handler().Handle(context.Background(), record) != nil {
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
