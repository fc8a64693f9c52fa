package web

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
)

// Attributes that a [Logger] knows by name. In text, the event's ID stands first, an
// error last, and the trace's ID is left out.
const (
	LogEventID = "eventId"
	LogTraceID = "traceId"
	LogError   = "error"
)

// A Logger is a [slog.Logger] that can write many lines at once.
type Logger struct {
	*slog.Logger
	w       io.Writer
	handler func(io.Writer) slog.Handler
}

// NewLogger returns a Logger that writes to w: with the format "json", an object for
// each line, as [slog.JSONHandler] does; with "" or "text", lines for people:
//
//	2026/11/24 04:33:12 eventId="7f3a" Counted. orderId=order-1001, itemId=item1: out of stock
//
// The error says which formats there are.
func NewLogger(w io.Writer, format string) (*Logger, error) {
	l := &Logger{w: w}
	switch format {
	case "", "text":
		l.handler = func(w io.Writer) slog.Handler { return &textHandler{w: w} }
	case "json":
		l.handler = func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) }
	default:
		return nil, fmt.Errorf("LOG_FORMAT is %q: it must be text or json", format)
	}
	l.Logger = slog.New(l.handler(w))
	return l, nil
}

// Together writes all lines that write logs with one call of the writer, when it has
// returned.
func (l *Logger) Together(write func(*slog.Logger)) {
	var lines bytes.Buffer
	write(slog.New(l.handler(&lines)))
	if lines.Len() > 0 {
		_, _ = l.w.Write(lines.Bytes())
	}
}

// A textHandler writes lines for people. It has no levels and no groups.
type textHandler struct {
	mu sync.Mutex
	w  io.Writer
}

func (h *textHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h *textHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *textHandler) WithGroup(string) slog.Handler            { return h }

func (h *textHandler) Handle(_ context.Context, r slog.Record) error {
	line := make([]byte, 0, 256)
	line = r.Time.AppendFormat(line, "2006/01/02 15:04:05 ")
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == LogEventID {
			line = append(strconv.AppendQuote(append(line, LogEventID+"="...), a.Value.String()), ' ')
		}
		return a.Key != LogEventID
	})
	line = append(line, r.Message...)
	separator := " "
	var problem slog.Value
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case LogEventID, LogTraceID:
		case LogError:
			problem = a.Value
		default:
			line = append(append(append(append(line, separator...), a.Key...), '='), a.Value.String()...)
			separator = ", "
		}
		return true
	})
	if !problem.Equal(slog.Value{}) {
		line = append(append(line, ": "...), problem.String()...)
	}
	line = append(line, '\n')
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.w.Write(line)
	return err
}
