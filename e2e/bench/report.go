package main

import (
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// The README of the end-to-end tests has the report between these lines.
const (
	begin = "<!-- written by make bench -->\n"
	end   = "<!-- end of what make bench writes -->\n"
)

// report writes the table and the chart into the project.
func (b *bench) report(write bool) error {
	table := b.table()
	fmt.Print("\n", table)
	if !write {
		return nil
	}
	for name, colors := range map[string]colors{
		"chart-light.svg": {text: "#1f2328", quiet: "#656d76", bar: "#0969da", line: "#d1242f"},
		"chart-dark.svg":  {text: "#e6edf3", quiet: "#8d96a0", bar: "#4493f8", line: "#f85149"},
	} {
		if err := os.WriteFile(filepath.Join(b.project.Root, "e2e", "bench", name), []byte(b.chart(colors)), 0o644); err != nil {
			return err
		}
	}
	file := filepath.Join(b.project.Root, "e2e", "README.md")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s does not have the lines %q and %q", file, begin, end)
	}
	return os.WriteFile(file, []byte(before+begin+table+end+after), 0o644)
}

// table returns the report as Markdown.
func (b *bench) table() string {
	var t strings.Builder
	fmt.Fprintf(&t, "Measured on %s: %s, %d processors, %s, Dapr %s, Redis with `appendfsync always`. Medians of %d rounds;\nin brackets the interval in which the true median is with a confidence of 95 %%. A ratio is bold where the two intervals do not overlap.\n\n",
		time.Now().Format("2006-01-02"), processor(), runtime.NumCPU(), runtime.Version(), strings.TrimPrefix(filepath.Base(b.project.Daprd), "daprd-"), b.rounds)
	t.WriteString("| | this project | compared with | ratio |\n| --- | --- | --- | --- |\n")
	for _, c := range b.comparisons {
		name := c.name
		if c.note != "" {
			name += " (" + c.note + ")"
		}
		ratio := fmt.Sprintf("%.2f", c.ratio())
		if c.sure() {
			ratio = "**" + ratio + "**"
		}
		fmt.Fprintf(&t, "| %s | %s | %s | %s |\n", name, c.figures(c.ours), c.figures(c.theirs), ratio)
	}
	t.WriteString("\n| | |\n| --- | --- |\n")
	for _, f := range b.facts {
		fmt.Fprintf(&t, "| %s | %s |\n", f.name, f.value)
	}
	return t.String()
}

// figures returns the median of what one side reached, and the interval, if there
// were rounds enough for one.
func (c comparison) figures(values []float64) string {
	number := func(v float64) string {
		if c.unit == "ms" {
			return fmt.Sprintf("%.1f", v)
		}
		return fmt.Sprintf("%.0f", v)
	}
	s := spread(values)
	figures := number(s.Center) + " " + c.unit
	if !math.IsInf(s.Lo, 0) {
		figures += " (" + number(s.Lo) + "–" + number(s.Hi) + ")"
	}
	return figures
}

// processor returns the name of the machine's processor.
func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	_, rest, _ := strings.Cut(string(text), "model name")
	_, name, _ := strings.Cut(rest, ": ")
	name, _, _ = strings.Cut(name, "\n")
	if name == "" {
		return runtime.GOARCH
	}
	return name
}

type colors struct{ text, quiet, bar, line string }

// chart returns the rates as bars: how many times what it is compared with.
func (b *bench) chart(c colors) string {
	const (
		width, row      = 840, 30
		left, right     = 420, 780 // of the bars
		top, most, size = 40, 5, 13
	)
	var rows []comparison
	for _, cmp := range b.comparisons {
		if !cmp.less {
			rows = append(rows, cmp)
		}
	}
	height := top + len(rows)*row + 10
	x := func(ratio float64) float64 { return left + (right-left)*min(ratio, most)/most }
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="%d">`+"\n", width, height, width, height, size)
	fmt.Fprintf(&s, `<text x="%.0f" y="20" fill="%s" text-anchor="middle">as fast</text>`+"\n", x(1), c.quiet)
	for i, cmp := range rows {
		y := top + i*row
		fmt.Fprintf(&s, `<text x="%d" y="%d" fill="%s" text-anchor="end">%s</text>`+"\n", left-10, y+17, c.text, html.EscapeString(cmp.name))
		fmt.Fprintf(&s, `<rect x="%d" y="%d" width="%.0f" height="%d" rx="3" fill="%s"/>`+"\n", left, y+3, x(cmp.ratio())-left, row-10, c.bar)
		fmt.Fprintf(&s, `<text x="%.0f" y="%d" fill="%s">%.2f</text>`+"\n", x(cmp.ratio())+8, y+17, c.text, cmp.ratio())
	}
	fmt.Fprintf(&s, `<line x1="%.0f" y1="%d" x2="%.0f" y2="%d" stroke="%s" stroke-dasharray="4 3"/>`+"\n</svg>\n", x(1), top-10, x(1), height-5, c.line)
	return s.String()
}
