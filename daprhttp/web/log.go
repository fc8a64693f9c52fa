package web

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// Names of attributes that the text format of [NewLogger] treats specially. It puts the
// event's ID first and the error last, and leaves out the trace's ID.
const (
	LogEventID = "eventId"
	LogTraceID = "traceId"
	LogError   = "error"
)

// NewLogger returns a logger that writes to w, one line at a time and from any goroutine.
// With the format "json" each line is an object, as [slog.JSONHandler] writes it. With any
// other format, the lines are for people:
//
//	2026/11/24 04:33:12 eventId="7f3a" Counted. orderId=order-1001, itemId=item1: out of stock
//
// The text format ignores levels, groups and the attributes of [slog.Logger.With].
//
// No value can pass for another part of a line. The text format quotes
// a value that has blanks, quotes, backslashes or invisible characters, as [strconv.Quote]
// does, and writes "name=" after a blank as "name\x3d", in errors too. Both formats escape
// invisible characters: see [Visible].
func NewLogger(w io.Writer, format string) *slog.Logger {
	if format == "json" {
		return slog.New(slog.NewJSONHandler(visibleWriter{w}, nil))
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
			line = fmt.Appendf(line, "%s=%s ", a.Key, quoted(a.Value.String()))
		}
		return a.Key != LogEventID
	})
	line = append(line, Visible(r.Message)...)
	separator := " "
	var problem slog.Value
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case LogEventID, LogTraceID:
		case LogError:
			problem = a.Value
		default:
			line = fmt.Appendf(line, "%s%s=%s", separator, a.Key, plainOrQuoted(a.Value.String()))
			separator = ", "
		}
		return true
	})
	if !problem.Equal(slog.Value{}) {
		line = fmt.Appendf(line, ": %s", withoutNames(Visible(problem.String())))
	}
	line = append(line, '\n')
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := h.w.Write(line)
	return err
}

// plainOrQuoted quotes a value unless its end in a line is clear.
func plainOrQuoted(value string) string {
	if strings.ContainsAny(value, ` "\`) || strings.ContainsFunc(value, isInvisible) {
		return quoted(value)
	}
	return value
}

func quoted(value string) string { return withoutNames(strconv.Quote(value)) }

// inText matches text that looks like the name of an attribute.
var inText = regexp.MustCompile(` (\w+)=`)

// withoutNames returns text in which a program finds no " name=".
func withoutNames(text string) string { return inText.ReplaceAllString(text, ` ${1}\x3d`) }
