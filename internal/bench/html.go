package bench

import (
	"fmt"
	"html"
	"html/template"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// PageBegins is how each page begins, by which one is known.
const PageBegins = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>Mirrors of Go modules from here</title>`

// WriteHTML writes the report as a page that needs nothing else: no script, no picture,
// no network. program is the caller's own name and version.
func (r *Report) WriteHTML(w io.Writer, program string) error {
	return page.Execute(w, struct {
		*Report
		Program string
		When    string
		Took    time.Duration
		Plots   []plot
	}{r, program, r.Began.Format("2006-01-02 15:04 UTC"), time.Duration(r.TookMS) * time.Millisecond, r.plots()})
}

// A plot is one drawing with what it shows in words.
type plot struct {
	Title, About string
	SVG          template.HTML
}

// plots are the drawings for which there are values.
func (r *Report) plots() (list []plot) {
	add := func(title, about string, svg string) {
		if svg != "" {
			list = append(list, plot{title, about, template.HTML(svg)})
		}
	}
	strips := func(title, label, about string, of func(*Measured) ([]float64, Figure)) {
		svg, log := r.strips(label, of)
		if log {
			about += " Each step of the scale is ten times the one before."
		}
		add(title, about, svg)
	}
	strips("A small file", "Time of a small file in milliseconds", "Each dot is one .info or .mod over a connection that was there, in milliseconds. The line is the median, the bar what holds it with a confidence of 95 %. Less is better.",
		func(m *Measured) ([]float64, Figure) { return m.Series.Latency, m.Latency })
	strips("A large file", "Rate of a large file in megabytes per second", "Each dot is one download of the largest zip of the sample, in megabytes per second. More is better.",
		func(m *Measured) ([]float64, Figure) { return m.Series.Throughput, m.Throughput })
	add("Requests", "How many of the requests were answered. What was not is red.", r.shares())
	add("A new connection", "What it takes until the first answer over a new connection, in milliseconds: the name, the connection, the encryption, and the answer itself.", r.stages())
	return list
}

// The measures of a drawing, in its own units. It is drawn for the width of a phone.
const (
	plotWidth = 340
	plotRight = plotWidth - 12
	plotLeft  = 12
	rowHigh   = 40 // a name, and what belongs to it below
	axisHigh  = 26
	// logFrom is how many times the least value the greatest is where a linear scale
	// would show nothing of the small ones.
	logFrom = 30
)

// svg is the frame of a drawing.
func svg(label string, high int, body string) string {
	return fmt.Sprintf(`<svg viewBox="0 0 %d %d" role="img" aria-label="%s">%s</svg>`, plotWidth, high, html.EscapeString(label), body)
}

// head is the name of a row, and what is to be read at its end.
func head(b *strings.Builder, row int, m *Measured, value string) {
	y := row*rowHigh + 14
	name := m.Name
	if r := []rune(name); len(r) > 28 {
		name = string(r[:27]) + "…"
	}
	fmt.Fprintf(b, `<text x="%d" y="%d">%s</text><text x="%d" y="%d" text-anchor="end" class="unit">%s</text>`, plotLeft, y, html.EscapeString(name), plotRight, y, html.EscapeString(value))
}

// strips draws the values of each mirror as dots on one scale, which is logarithmic
// where they differ much.
func (r *Report) strips(label string, of func(*Measured) ([]float64, Figure)) (drawn string, log bool) {
	var rows []*Measured
	low, high := math.Inf(1), 0.0
	for i := range r.Mirrors {
		values, _ := of(&r.Mirrors[i])
		if len(values) == 0 {
			continue
		}
		rows = append(rows, &r.Mirrors[i])
		low, high = min(low, slices.Min(values)), max(high, slices.Max(values))
	}
	if len(rows) == 0 || high <= 0 {
		return "", false
	}
	low = max(low, high/1e6)
	log = high/low > logFrom
	at := func(v float64) float64 { return plotLeft + (plotRight-plotLeft)*v/high }
	ticks := linearTicks(high)
	if log {
		from, to := math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
		if to == from {
			to++
		}
		at = func(v float64) float64 {
			return plotLeft + (plotRight-plotLeft)*(math.Log10(max(v, math.Pow(10, from)))-from)/(to-from)
		}
		ticks = nil
		for e := from; e <= to; e++ {
			ticks = append(ticks, math.Pow(10, e))
		}
	}
	var b strings.Builder
	bottom := len(rows) * rowHigh
	for _, t := range ticks {
		anchor := "middle"
		if x := at(t); x > plotRight-10 {
			anchor = "end"
		} else if x < plotLeft+10 {
			anchor = "start"
		}
		fmt.Fprintf(&b, `<line class="grid" x1="%.1f" x2="%.1f" y1="18" y2="%d"/><text class="unit" x="%.1f" y="%d" text-anchor="%s">%s</text>`, at(t), at(t), bottom+4, at(t), bottom+18, anchor, tickText(t))
	}
	for i, m := range rows {
		values, f := of(m)
		y := i*rowHigh + 28
		head(&b, i, m, f.text(""))
		fmt.Fprintf(&b, `<g class="%s">`, class3(m.Verdict))
		for _, v := range values {
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%d" r="3"/>`, at(v), y)
		}
		fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="4" class="bar"/><line x1="%.1f" x2="%.1f" y1="%d" y2="%d" class="median"/></g>`, at(f.Low), y-2, max(1, at(f.High)-at(f.Low)), at(f.Median), at(f.Median), y-8, y+8)
	}
	return svg(label, bottom+axisHigh, b.String()), log
}

// linearTicks are a few round numbers from 0 to high.
func linearTicks(high float64) (ticks []float64) {
	step := math.Pow(10, math.Floor(math.Log10(high)))
	for _, part := range []float64{0.2, 0.5, 1, 2} {
		if high/(step*part) <= 5 {
			step *= part
			break
		}
	}
	for t := 0.0; t <= high*1.0001; t += step {
		ticks = append(ticks, t)
	}
	return ticks
}

func tickText(v float64) string { return strconv.FormatFloat(math.Round(v*1e6)/1e6, 'f', -1, 64) }

// shares draws how many of the requests were answered.
func (r *Report) shares() string {
	var b strings.Builder
	row := 0
	for i := range r.Mirrors {
		m := &r.Mirrors[i]
		n, bad := m.Requests, m.Failed
		text := m.answered()
		if n == 0 && m.Verdict == Dead {
			n, bad, text = 1, 1, "none"
		}
		if n == 0 {
			continue
		}
		head(&b, row, m, text)
		wide := float64(plotRight - plotLeft)
		good := wide * float64(n-bad) / float64(n)
		fmt.Fprintf(&b, `<rect class="good" x="%d" y="%d" width="%.1f" height="12"/><rect class="bad" x="%.1f" y="%d" width="%.1f" height="12"/>`, plotLeft, row*rowHigh+20, good, plotLeft+good, row*rowHigh+20, wide-good)
		row++
	}
	if row == 0 {
		return ""
	}
	return svg("Share of requests that were answered", row*rowHigh, b.String())
}

// stages draws the steps of a new connection, one behind the other.
func (r *Report) stages() string {
	var rows []*Measured
	high := 0.0
	total := func(m *Measured) float64 {
		return m.Stages.Name.Median + m.Stages.Connect.Median + m.Stages.TLS.Median + m.Stages.Answer.Median
	}
	for i := range r.Mirrors {
		if m := &r.Mirrors[i]; total(m) > 0 {
			rows = append(rows, m)
			high = max(high, total(m))
		}
	}
	if len(rows) == 0 {
		return ""
	}
	var b strings.Builder
	for i, m := range rows {
		head(&b, i, m, number(total(m))+" ms")
		x := float64(plotLeft)
		for k, f := range []Figure{m.Stages.Name, m.Stages.Connect, m.Stages.TLS, m.Stages.Answer} {
			wide := float64(plotRight-plotLeft) * f.Median / high
			fmt.Fprintf(&b, `<rect class="stage%d" x="%.1f" y="%d" width="%.1f" height="12"/>`, k, x, i*rowHigh+20, wide)
			x += wide
		}
	}
	x := plotLeft
	for k, name := range []string{"name", "connection", "encryption", "answer"} {
		y := len(rows)*rowHigh + 16
		fmt.Fprintf(&b, `<rect class="stage%d" x="%d" y="%d" width="10" height="10"/><text class="unit" x="%d" y="%d">%s</text>`, k, x, y-9, x+14, y, name)
		x += 26 + 7*len(name)
	}
	return svg("Steps of a new connection in milliseconds", len(rows)*rowHigh+axisHigh, b.String())
}

// class3 is the colour of a verdict.
func class3(v Verdict) string {
	switch v {
	case Good, NoRange, Bare:
		return "good"
	case Dead, Lying:
		return "bad"
	}
	return "mid"
}

var page = template.Must(template.New("bench").Funcs(template.FuncMap{
	"colour": class3,
	"also": func(list []Verdict) string {
		if len(list) == 0 {
			return ""
		}
		return also(list)
	},
	"latency":  func(m Measured) string { return m.Latency.text("ms") },
	"rate":     func(m Measured) string { return m.Throughput.text("") },
	"cost":     func(m Measured) string { return m.Cost.text("s") },
	"answered": func(m Measured) string { return m.answered() },
	"newest":   func(m Measured) string { return m.newest() },
	"checked":  func(m Measured) string { return m.checked() },
	"size":     size,
	"capital":  func(s string) string { return strings.ToUpper(s[:min(1, len(s))]) + s[min(1, len(s)):] },
	"number":   number,
	"count":    count,
}).Parse(PageBegins + `
<style>
:root { color-scheme: light dark; --ink: #1f2328; --dim: #59636e; --line: #d1d9e0; --soft: #f6f8fa; --good: #0a7d5a; --mid: #9a6700; --bad: #c1221c; --s0: #7a5af5; --s1: #2f81f7; --s2: #0a9396; --s3: #8c959f }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --dim: #9198a1; --line: #3d444d; --soft: #151b23; --good: #3fb98a; --mid: #d29922; --bad: #ff7b72; --s0: #a48cff; --s1: #58a6ff; --s2: #39c5bb; --s3: #6e7681 } }
body { font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; margin: 0 auto; max-width: 75rem; padding: 1rem; color: var(--ink); background: Canvas }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0 } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem } h3 { font-size: 1rem; margin: 0 }
p { margin: .4rem 0 } .dim, .unit { color: var(--dim) } code, pre { font-family: ui-monospace, 'DejaVu Sans Mono', monospace; font-size: .9em }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 6px; padding: .7rem; overflow-x: auto }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .35rem .7rem .35rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; vertical-align: top }
th { font-weight: 600; color: var(--dim); white-space: normal } td.name { white-space: normal; overflow-wrap: anywhere; min-width: 7rem }
b.good { color: var(--good) } b.mid { color: var(--mid) } b.bad { color: var(--bad) }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1rem 3rem }
figure { margin: 0; max-width: 29rem } figcaption p { font-size: .85rem; color: var(--dim) } svg { width: 100%; height: auto; display: block }
svg text { font: 12px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: var(--ink) } svg text.unit { fill: var(--dim); font-size: 11px }
.grid { stroke: var(--line) } svg .good { fill: var(--good); stroke: var(--good) } svg .mid { fill: var(--mid); stroke: var(--mid) } svg .bad { fill: var(--bad); stroke: var(--bad) }
circle { fill-opacity: .3; stroke-opacity: .5 } .bar { stroke: none } rect.good, rect.bad { stroke: none } .median { stroke-width: 2.5; stroke: var(--ink) }
.stage0 { fill: var(--s0) } .stage1 { fill: var(--s1) } .stage2 { fill: var(--s2) } .stage3 { fill: var(--s3) }
details { border-bottom: 1px solid var(--line); padding: .4rem 0 } summary { cursor: pointer } details ul { margin: .3rem 0; padding-left: 1.2rem } li, summary { overflow-wrap: anywhere }
</style></head><body>
<h1>{{capital .Sentence}}</h1>
<p class="dim">Measured with {{.Program}} at {{.When}} in {{.Took}}{{if eq .Ended "interrupted"}}, and broken off before the end{{end}}. {{capital .About}}.</p>
{{with .Recommended.Command}}<pre>{{.}}</pre>{{end}}
<h2>Mirrors</h2>
<div class="wide" tabindex="0" role="region" aria-label="Mirrors"><table><tr><th></th><th>Mirror</th><th>Verdict</th><th>Small file</th><th>MB/s</th><th>Small download</th><th>Answered</th><th>Newest versions</th><th>Bytes</th><th>Checksum database</th><th>Resumes</th></tr>
{{range .Mirrors}}<tr><td>{{.Rank}}</td><td class="name">{{.Name}}</td><td><b class="{{colour .Verdict}}">{{.Verdict}}</b></td><td>{{latency .}}</td><td>{{rate .}}</td><td>{{cost .}}</td><td>{{answered .}}</td><td>{{newest .}}</td><td>{{checked .}}</td><td>{{.SumDB}}</td><td>{{.Range}}</td></tr>
{{end}}</table></div>
<div class="plots">{{range .Plots}}
<figure><figcaption><h2>{{.Title}}</h2><p>{{.About}}</p></figcaption>{{.SVG}}</figure>{{end}}
</div>
<h2>Each of them</h2>
{{range .Mirrors}}<details{{if ne .Verdict "good"}} open{{end}}><summary><b class="{{colour .Verdict}}">{{.Verdict}}</b> {{.Name}}: {{.Text}}{{with .Code}} (<code>{{.}}</code>){{end}}</summary>
<ul><li><code>{{.URL}}</code>{{with .Note}}; {{.}}{{end}}</li>{{with also .Also}}<li>also: {{.}}</li>{{end}}{{range .Evidence}}<li>{{.}}</li>{{end}}
{{range .Failures}}<li>{{.Count}} × {{.Text}} (<code>{{.Code}}</code>)</li>{{end}}{{with .Stopped}}<li>not asked to the end: {{.}}</li>{{end}}
<li>{{size .Bytes}} came in {{number .Seconds}} s of waiting; hashes: {{.Checked.Right}} right, {{.Checked.Wrong}} wrong, {{.Checked.Unchecked}} that nobody knows</li></ul></details>
{{end}}
{{with .Project.Lines}}<h2>The build here</h2>
{{range $i, $line := .}}{{if eq $i 0}}<p>{{$line}}</p>
<ul>{{else}}<li>{{$line}}</li>
{{end}}{{end}}</ul>
{{end}}<h2>How it was measured</h2>
<p>{{count .Rounds "round"}} in which each mirror had its turn, in an order that chance made, after one that warmed up and does not count; of each mirror at most {{number .Budget.Seconds}} s and {{size .Budget.Bytes}}, one request at a time. A round is a list over a new connection, the .info and .mod of each module, and its zip. What it would take to get 20 small files one after the other and 10 MB is the small download, by which mirrors with the same verdict are ranked. The intervals are those of order statistics for the median, at 95 %; of fewer than six values the least and the greatest.</p>
<div class="wide" tabindex="0" role="region" aria-label="Modules"><table><tr><th>Module</th><th>Version</th><th>Zip</th><th>Who says what is right</th><th>Newest that any lists</th></tr>
{{range .Modules}}<tr><td class="name">{{.Module}}</td><td>{{.Version}}</td><td>{{size .Bytes}}{{if eq .Zip "no"}}, not fetched{{end}}</td><td>{{.Truth}}</td><td>{{.Newest}}</td></tr>
{{end}}</table></div>
<p>{{if .Database.Name}}Checksum database: {{.Database.Name}}{{if eq .Database.Direct "yes"}}, reachable from here{{else if eq .Database.Direct "no"}}, which cannot be reached from here except through a mirror: {{.Database.Text}}{{end}}.{{else}}There is no checksum database by the settings here.{{end}}</p>
</body></html>
`))
