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
// format. The zero value has no figures. Add all figures before the first request, those of
// one name one after another.
//
// See https://prometheus.io/docs/instrumenting/exposition_formats/.
type Metrics struct {
	families []*family
}

// A family is the metrics of one name, which differ in their labels.
type family struct {
	name, help, kind string
	metrics          []metric
}

type metric struct {
	labels string
	read   func() float64
}

// A Counter is a figure that only rises. The zero value is 0. Its methods may be called by
// many goroutines at once.
type Counter struct{ n atomic.Int64 }

// Add adds n, which must not be negative.
func (c *Counter) Add(n int) { c.n.Add(int64(n)) }

// Counter adds a counter and returns it. By Prometheus's rules, the name ends in "_total".
// labels is empty or has the form `outcome="applied"`; help is one line.
func (m *Metrics) Counter(name, labels, help string) *Counter {
	c := new(Counter)
	m.add(name, labels, help, "counter", func() float64 { return float64(c.n.Load()) })
	return c
}

// CounterFunc adds a counter whose value read returns. Each GET /metrics calls read, from
// many goroutines at once.
func (m *Metrics) CounterFunc(name, help string, read func() float64) {
	m.add(name, "", help, "counter", read)
}

// GaugeFunc adds a gauge, which rises and falls, and whose value read returns. Each
// GET /metrics calls read, from many goroutines at once.
func (m *Metrics) GaugeFunc(name, help string, read func() float64) {
	m.add(name, "", help, "gauge", read)
}

func (m *Metrics) add(name, labels, help, kind string, read func() float64) {
	if labels != "" {
		labels = "{" + labels + "}"
	}
	if n := len(m.families); n == 0 || m.families[n-1].name != name {
		m.families = append(m.families, &family{name: name, help: help, kind: kind})
	}
	last := m.families[len(m.families)-1]
	last.metrics = append(last.metrics, metric{labels, read})
}

// ServeHTTP answers GET /metrics with the value of every figure, in the order in which they
// were added.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	var b strings.Builder
	for _, f := range m.families {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %[1]s %[3]s\n", f.name, f.help, f.kind)
		for _, one := range f.metrics {
			fmt.Fprintf(&b, "%s%s %s\n", f.name, one.labels, strconv.FormatFloat(one.read(), 'g', -1, 64))
		}
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = io.WriteString(w, b.String())
}
