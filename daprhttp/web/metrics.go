package web

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
)

// Metrics are the figures of a program. As an HTTP handler they answer in Prometheus's text
// format. The zero value has no figures. Add all figures before the first request. Add
// figures that differ only in their labels directly after each other.
//
// See https://prometheus.io/docs/instrumenting/exposition_formats/.
type Metrics struct{ figures []figure }

type figure struct {
	name, help, kind string // the name with its labels
	read             func() float64
}

// A Counter is a figure that only rises. The zero value is 0. Its methods may be called by
// many goroutines at once.
type Counter struct{ n atomic.Int64 }

// Add adds n, which must not be negative.
func (c *Counter) Add(n int) { c.n.Add(int64(n)) }

// Counter adds a counter and returns it. By Prometheus's rules, the name ends in "_total".
// Labels may follow it, as in `events_total{outcome="applied"}`. help is one line.
func (m *Metrics) Counter(name, help string) *Counter {
	c := new(Counter)
	m.CounterFunc(name, help, func() float64 { return float64(c.n.Load()) })
	return c
}

// CounterFunc adds a counter whose value read returns. Each GET /metrics calls read, from
// many goroutines at once.
func (m *Metrics) CounterFunc(name, help string, read func() float64) {
	m.figures = append(m.figures, figure{name, help, "counter", read})
}

// GaugeFunc adds a gauge, which rises and falls, and whose value read returns. Each
// GET /metrics calls read, from many goroutines at once.
func (m *Metrics) GaugeFunc(name, help string, read func() float64) {
	m.figures = append(m.figures, figure{name, help, "gauge", read})
}

// ServeHTTP answers GET /metrics with the value of every figure, in the order in which they
// were added.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	var b strings.Builder
	described := ""
	for _, f := range m.figures {
		if name, _, _ := strings.Cut(f.name, "{"); name != described {
			fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %[1]s %[3]s\n", name, f.help, f.kind)
			described = name
		}
		fmt.Fprintf(&b, "%s %s\n", f.name, strconv.FormatFloat(f.read(), 'g', -1, 64))
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = io.WriteString(w, b.String())
}
