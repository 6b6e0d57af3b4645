//go:build linux

package main

import (
	"fmt"
	"html"
	"math"
	"path/filepath"
	"strings"
)

// relative is how page names plot in a link; "" if there is no plot.
func relative(plot, page string) string {
	if plot == "" {
		return ""
	}
	rel, err := filepath.Rel(filepath.Dir(page), plot)
	if err != nil {
		return filepath.ToSlash(plot)
	}
	return filepath.ToSlash(rel)
}

// A plotted is one bar of the plot.
type plotted struct {
	label             string
	ours              bool
	median, low, high float64
}

// A panel is some bars with one scale.
type panel struct {
	title, unit, about string
	bars               []plotted
}

// panels are what the plot shows of what was measured.
func (r *report) panels() (list []panel) {
	add := func(title, unit, metric string, line int, match func(measure) (label string, ours, ok bool)) {
		p := panel{title: title, unit: unit}
		about := "" // of several graphs the first
		for _, m := range r.Measures {
			label, ours, ok := match(m)
			if !ok || m.Line != line || m.Metric != metric && !(metric == "s" && m.Metric == "warm s") || about != "" && m.Title != about {
				continue
			}
			about = m.Title
			p.bars = append(p.bars, plotted{label, ours, m.Median, m.Low, m.High})
		}
		if len(p.bars) > 0 {
			if _, graph, ok := strings.Cut(about, ", "); ok && line == 4 {
				p.about = "; " + graph
			}
			list = append(list, p)
		}
	}
	names := map[string]string{"direct": "go, direct", "file": "go, GOPROXY=file://", "sluice": "sluice serve", "run": "sluice run", "no logic": "net/http, no logic"}
	named := func(s string) (string, bool) {
		if n, ok := names[s]; ok {
			return n, s == "sluice" || s == "run"
		}
		return s, false
	}
	add("Cold go mod download, source 100 ms away", "s", "s", 4, func(m measure) (string, bool, bool) {
		name, ok := strings.CutSuffix(m.Contender, ", 100 ms")
		if m.Metric == "warm s" {
			return "sluice run, warm", true, ok
		}
		label, ours := named(name)
		return label, ours, ok
	})
	add("The same, source near", "s", "s", 4, func(m measure) (string, bool, bool) {
		label, ours := named(m.Contender)
		return label, ours, !strings.HasSuffix(m.Contender, ", 100 ms")
	})
	warm := func(title string) func(measure) (string, bool, bool) {
		return func(m measure) (string, bool, bool) {
			label, ours := named(m.Contender)
			return label, ours, m.Title == title
		}
	}
	add("Warm small files", "requests/s", "requests/s", 1, warm("line 1"))
	add("Warm zip of 200 MB", "MB/s", "MB/s", 2, warm("line 2, 200 MB"))
	return list
}

// The plot's measures, in its own units. It is drawn for the width of a phone and
// scales up from there.
const (
	plotWidth  = 400
	labelWidth = 140
	valueWidth = 62
	rowHeight  = 24
	barHeight  = 14
	headHeight = 40
)

// plot draws the panels as SVG. It has no background, and its colours follow the
// reader's choice of light or dark.
func (r *report) plot() string {
	panels := r.panels()
	height := 8
	for _, p := range panels {
		height += headHeight + rowHeight*len(p.bars)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="Speed of Sluice beside other ways" font-family="system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif">
<style>
text { font-size: 13px; fill: #1f2328; }
.title { font-weight: 600; }
.unit { fill: #59636e; font-size: 12px; }
.ours { fill: #0a7d5a; }
.other { fill: #8c959f; }
.spread { stroke: #1f2328; stroke-width: 1.2; fill: none; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; }
.unit { fill: #9198a1; }
.ours { fill: #3fb98a; }
.other { fill: #6e7681; }
.spread { stroke: #e6edf3; }
}
</style>
`, plotWidth, height)
	y := 0
	for _, p := range panels {
		unit, better := p.unit, "more is better"
		if unit == "s" {
			unit, better = "seconds", "less is better"
		}
		fmt.Fprintf(&b, "<text class=\"title\" x=\"4\" y=\"%d\">%s</text>\n<text class=\"unit\" x=\"4\" y=\"%d\">%s, %s</text>\n", y+16, html.EscapeString(p.title), y+31, html.EscapeString(unit), html.EscapeString(better+p.about))
		y += headHeight
		most := 0.0
		for _, bar := range p.bars {
			most = math.Max(most, bar.high)
		}
		scale := float64(plotWidth-labelWidth-valueWidth) / most
		for _, bar := range p.bars {
			class := "other"
			if bar.ours {
				class = "ours"
			}
			middle := float64(y) + rowHeight/2
			at := func(v float64) float64 { return labelWidth + v*scale }
			fmt.Fprintf(&b, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", labelWidth-6, middle+4.5, html.EscapeString(bar.label))
			fmt.Fprintf(&b, "<rect class=\"%s\" x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" rx=\"2\"/>\n", class, labelWidth, middle-barHeight/2, math.Max(1, bar.median*scale), barHeight)
			if bar.high > bar.low {
				fmt.Fprintf(&b, "<path class=\"spread\" d=\"M%.1f %.1fH%.1fM%.1f %.1fv8M%.1f %.1fv8\"/>\n", at(bar.low), middle, at(bar.high), at(bar.low), middle-4, at(bar.high), middle-4)
			}
			fmt.Fprintf(&b, "<text x=\"%.1f\" y=\"%.1f\">%s</text>\n", at(bar.high)+6, middle+4.5, thousands(bar.median))
			y += rowHeight
		}
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// thousands writes large numbers in groups of three digits.
func thousands(v float64) string {
	if v < 1000 {
		return number(v)
	}
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u2009" + s[i:]
	}
	return s
}
