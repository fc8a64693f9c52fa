package web

import (
	"context"
	"io"
	"log/slog"
	"strconv"
	"sync"
)

// Attributes that the text format knows by name. It puts the event's ID first and the
// error last, and leaves the trace's ID out.
const (
	LogEventID = "eventId"
	LogTraceID = "traceId"
	LogError   = "error"
)

// NewLogger returns a logger that writes to w. With the format "json" it writes an
// object for each line, as [slog.JSONHandler] does. With "text" it writes lines for
// people:
//
//	2026/11/24 04:33:12 eventId="7f3a" Counted. orderId=order-1001, itemId=item1: out of stock
func NewLogger(w io.Writer, format string) *slog.Logger {
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(&textHandler{w: w})
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
