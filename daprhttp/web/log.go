package web

import (
	"context"
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
	var event, attributes, problem string
	separator := " "
	r.Attrs(func(a slog.Attr) bool {
		switch value := a.Value.String(); a.Key {
		case LogEventID:
			event = LogEventID + "=" + quoted(value) + " "
		case LogTraceID:
		case LogError:
			problem = ":" + withoutNames(" "+Visible(value))
		default:
			attributes += separator + a.Key + "=" + plainOrQuoted(value)
			separator = ", "
		}
		return true
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := io.WriteString(h.w, r.Time.Format("2006/01/02 15:04:05 ")+event+Visible(r.Message)+attributes+problem+"\n")
	return err
}

// plainOrQuoted quotes a value unless its end in a line is clear.
func plainOrQuoted(value string) string {
	if strings.ContainsAny(value, ` "\`) || Visible(value) != value {
		return quoted(value)
	}
	return value
}

func quoted(value string) string { return withoutNames(strconv.Quote(value)) }

// attributeName matches text that looks like the name of an attribute.
var attributeName = regexp.MustCompile(` (\w+)=`)

// withoutNames returns text in which a program finds no " name=".
func withoutNames(text string) string { return attributeName.ReplaceAllString(text, ` ${1}\x3d`) }
