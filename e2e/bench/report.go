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
	fmt.Fprintf(&t, "Measured on %s: %s, %d processors, %s, Dapr %s, Redis with `appendfsync always`. Medians of %d rounds.\nThe interval in brackets has the true median with a confidence of 95 %%. A ratio is bold where the two intervals do not overlap.\n\n",
		time.Now().Format("2006-01-02"), processor(), runtime.NumCPU(), runtime.Version(), strings.TrimPrefix(filepath.Base(b.project.Daprd), "daprd-"), b.rounds)
	t.WriteString("| measurement | this project | compared with | ratio |\n| --- | --- | --- | --- |\n")
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
	t.WriteString("\n### Cost\n\n| measurement | cost |\n| --- | --- |\n")
	for _, f := range b.facts {
		fmt.Fprintf(&t, "| %s | %s |\n", f[0], f[1])
	}
	return t.String()
}

// figures returns the median of what one side reached, and the interval, if there
// were rounds enough for one.
func (c comparison) figures(values []float64) string {
	number := func(v float64) string {
		if c.figure.unit == "ms" {
			return fmt.Sprintf("%.1f", v)
		}
		return fmt.Sprintf("%.0f", v)
	}
	s := spread(values)
	figures := number(s.Center) + " " + c.figure.unit
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

// chart returns the ratios of the rates as bars, which begin where both are as fast. The
// axis is logarithmic: twice as fast is as far from there as half as fast.
func (b *bench) chart(c colors) string {
	const (
		width, row, top, size = 900, 30, 40, 13
		left, right           = 450, 840 // of the axis
	)
	var rows []comparison
	least, greatest := 0.25, 4.0 // of the axis
	for _, cmp := range b.comparisons {
		if cmp.figure.unit != "ms" {
			rows = append(rows, cmp)
			least, greatest = min(least, cmp.ratio()), max(greatest, cmp.ratio())
		}
	}
	x := func(ratio float64) float64 {
		return left + (right-left)*math.Log(ratio/least)/math.Log(greatest/least)
	}
	height := top + len(rows)*row + 10
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="%d">`+"\n", width, height, width, height, size)
	for exponent := math.Ceil(math.Log2(least)); exponent <= math.Log2(greatest); exponent++ {
		ratio, name, color, dashes := math.Exp2(exponent), fmt.Sprint(math.Exp2(exponent)), c.quiet, "1 3"
		if ratio == 1 {
			name, color, dashes = "as fast", c.line, "none"
		}
		fmt.Fprintf(&s, `<text x="%.0f" y="20" fill="%s" text-anchor="middle">%s</text>`+"\n", x(ratio), c.quiet, name)
		fmt.Fprintf(&s, `<line x1="%.0f" y1="%d" x2="%.0f" y2="%d" stroke="%s" stroke-dasharray="%s"/>`+"\n", x(ratio), top-10, x(ratio), height-5, color, dashes)
	}
	for i, cmp := range rows {
		y, ratio := top+i*row, cmp.ratio()
		from, to := x(min(ratio, 1)), x(max(ratio, 1))
		fmt.Fprintf(&s, `<text x="%d" y="%d" fill="%s" text-anchor="end">%s</text>`+"\n", left-15, y+17, c.text, html.EscapeString(cmp.name))
		fmt.Fprintf(&s, `<rect x="%.0f" y="%d" width="%.0f" height="%d" rx="3" fill="%s"/>`+"\n", from, y+3, to-from, row-10, c.bar)
		fmt.Fprintf(&s, `<text x="%.0f" y="%d" fill="%s">%.2f</text>`+"\n", to+8, y+17, c.text, ratio)
	}
	return s.String() + "</svg>\n"
}
