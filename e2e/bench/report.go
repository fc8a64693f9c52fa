package main

import (
	"cmp"
	"fmt"
	"html"
	"log"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// e2e/README.md has the report between these lines.
const (
	begin = "<!-- written by make bench -->\n"
	end   = "<!-- end of what make bench writes -->\n"
)

// write writes the charts, the table into the README of the end-to-end tests, and the
// figures of the project's README.
func (b *bench) write() {
	for name, colors := range map[string]colors{
		"chart-light.svg": {text: "#1f2328", quiet: "#656d76", bar: "#0969da", line: "#d1242f"},
		"chart-dark.svg":  {text: "#e6edf3", quiet: "#8d96a0", bar: "#4493f8", line: "#f85149"},
	} {
		check(os.WriteFile(filepath.Join(b.project.Root, "e2e", "bench", name), []byte(b.chart(colors)), 0o644))
	}
	file := filepath.Join(b.project.Root, "e2e", "README.md")
	before, rest, found := strings.Cut(string(must(os.ReadFile(file))), begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		log.Fatalf("bench: %s does not have the lines %q and %q", file, begin, end)
	}
	check(os.WriteFile(file, []byte(before+begin+b.table()+end+after), 0o644))

	file = filepath.Join(b.project.Root, "README.md")
	text := string(must(os.ReadFile(file)))
	for _, c := range b.comparisons {
		label, _, _ := strings.Cut(c.name, ", against ")
		row := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(label) + ` \| .* \|$`)
		text = row.ReplaceAllString(text, "| "+label+" | "+c.side(c.ours)+" |")
	}
	check(os.WriteFile(file, []byte(text), 0o644))
}

// table returns the report as Markdown.
func (b *bench) table() string {
	var t strings.Builder
	fmt.Fprintf(&t, "Measured on %s: %s, %d processors, %s, Dapr %s, Redis with `appendfsync always`. Medians of %d rounds. The %d items in turn have one run in 60 parts, so each tenth is the median of 6 parts.\n",
		time.Now().Format("2006-01-02"), processor(), runtime.NumCPU(), runtime.Version(), strings.TrimPrefix(filepath.Base(b.project.Daprd), "daprd-"), b.rounds, growthItems)
	t.WriteString("The interval in brackets has the true median with a confidence of 95 %. A ratio is bold where the two intervals do not overlap.\n\n")
	t.WriteString("| measurement | this project | compared with | ratio |\n| --- | --- | --- | --- |\n")
	for _, c := range b.comparisons {
		ratio := fmt.Sprintf("%.2f", c.ratio())
		if c.sure() {
			ratio = "**" + ratio + "**"
		}
		fmt.Fprintf(&t, "| %s%s | %s | %s | %s |\n", c.name, c.note, c.side(c.ours), c.side(c.theirs), ratio)
	}
	t.WriteString("\n### Cost\n\n| measurement | cost |\n| --- | --- |\n")
	for _, f := range b.facts {
		fmt.Fprintf(&t, "| %s | %s |\n", f[0], f[1])
	}
	return t.String()
}

// side returns the median of one side, and the interval, if the rounds are enough for one.
func (c comparison) side(values []float64) string {
	s, digits := spread(values), c.figure.digits
	text := fmt.Sprintf("%.*f %s", digits, s.Center, c.figure.unit)
	if !math.IsInf(s.Lo, 0) {
		text += fmt.Sprintf(" (%.*f–%.*f)", digits, s.Lo, digits, s.Hi)
	}
	return text
}

// processor returns the name of the machine's processor.
func processor() string {
	_, rest, _ := strings.Cut(string(must(os.ReadFile("/proc/cpuinfo"))), "model name\t: ")
	name, _, _ := strings.Cut(rest, "\n")
	return cmp.Or(name, runtime.GOARCH)
}

type colors struct{ text, quiet, bar, line string }

// chart returns the ratios of the rates as bars in SVG. A bar begins at the ratio 1. The
// axis is logarithmic: 2 is as far from 1 as 0.5.
func (b *bench) chart(c colors) string {
	const (
		width, row, top, size = 900, 30, 40, 13
		left, right           = 450, 840 // of the axis
	)
	var bars []comparison
	least, greatest := 0.25, 4.0 // of the axis
	for _, c := range b.comparisons {
		if c.figure.unit != "ms" {
			bars = append(bars, c)
			least, greatest = min(least, c.ratio()), max(greatest, c.ratio())
		}
	}
	x := func(ratio float64) float64 {
		return left + (right-left)*math.Log(ratio/least)/math.Log(greatest/least)
	}
	height := top + len(bars)*row + 10
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="%d">`+"\n",
		width, height, width, height, size)
	for exponent := math.Ceil(math.Log2(least)); exponent <= math.Log2(greatest); exponent++ {
		ratio, name, color, dashes := math.Exp2(exponent), fmt.Sprint(math.Exp2(exponent)), c.quiet, "1 3"
		if ratio == 1 {
			name, color, dashes = "as fast", c.line, "none"
		}
		fmt.Fprintf(&s, `<text x="%.0f" y="20" fill="%s" text-anchor="middle">%s</text>`+"\n", x(ratio), c.quiet, name)
		fmt.Fprintf(&s, `<line x1="%.0f" y1="%d" x2="%.0f" y2="%d" stroke="%s" stroke-dasharray="%s"/>`+"\n",
			x(ratio), top-10, x(ratio), height-5, color, dashes)
	}
	for i, bar := range bars {
		y, from, to := top+i*row, x(min(bar.ratio(), 1)), x(max(bar.ratio(), 1))
		fmt.Fprintf(&s, `<text x="%d" y="%d" fill="%s" text-anchor="end">%s</text>`+"\n", left-15, y+17, c.text, html.EscapeString(bar.name))
		fmt.Fprintf(&s, `<rect x="%.0f" y="%d" width="%.0f" height="%d" rx="3" fill="%s"/>`+"\n", from, y+3, to-from, row-10, c.bar)
		fmt.Fprintf(&s, `<text x="%.0f" y="%d" fill="%s">%.2f</text>`+"\n", to+8, y+17, c.text, bar.ratio())
	}
	return s.String() + "</svg>\n"
}
