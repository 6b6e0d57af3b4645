//go:build unix

package main

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"time"
)

// The bars, as told at the beginning of main.go.
const (
	contactBar = 1.0  // seconds more than the healthy run, for each source that is bad, at first contact
	knownBar   = 0.05 // share of the healthy run, plus noise, once known
)

// A report is what is told of a run.
type report struct {
	Machine string             `json:"machine"`
	Command string             `json:"command"`
	When    string             `json:"when"`
	Took    float64            `json:"took"` // seconds
	Missed  int                `json:"missed"`
	Skipped int                `json:"skipped"`
	Cells   []*cell            `json:"cells"`
	Well    map[string]healthy `json:"healthy"` // seconds, by spelling of the chain
	Beside  []*bystander       `json:"beside,omitempty"`

	limit time.Duration
	timed bool
	well  map[baseline]*healthy
}

func newReport(o options, list []*cell) *report {
	command := "go run ./tools/faultmatrix"
	if s := o.run.String(); s != "" {
		command += " -run '" + s + "'"
	}
	rep := &report{
		Machine: fmt.Sprintf("%d cores, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version()),
		Command: command, When: time.Now().UTC().Format(time.DateOnly),
		Cells: list, limit: o.limit, timed: o.times, well: map[baseline]*healthy{}, Well: map[string]healthy{},
	}
	for _, b := range rep.kinds() {
		rep.well[b] = new(healthy)
	}
	return rep
}

// kinds are the baselines that the cells need, in order.
func (rep *report) kinds() (list []baseline) {
	for _, c := range rep.Cells {
		if b := c.baseline(); c.Pass && !slices.Contains(list, b) {
			list = append(list, b)
		}
	}
	return list
}

func median(xs []float64) float64 {
	s := slices.Sorted(slices.Values(xs))
	if len(s) == 0 {
		return math.NaN()
	}
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// noise is the farthest that one of xs is from their median.
func noise(xs []float64) (n float64) {
	for _, x := range xs {
		n = max(n, math.Abs(x-median(xs)))
	}
	return n
}

// measure is what the cells of a baseline are judged by. Well sources are alike
// to every spelling of a chain, so all of them say what builds differ by although
// nothing is wrong.
func (rep *report) measure(b baseline) measure {
	h := rep.well[b]
	if h == nil || len(h.First) == 0 { // no cell of it may pass, or times are of no interest
		return measure{}
	}
	ms := measure{first: median(h.First), known: median(h.Known)}
	for other, h := range rep.well {
		if other.warm == b.warm && other.update == b.update {
			ms.firstNoise, ms.knownNoise = max(ms.firstNoise, noise(h.First)), max(ms.knownNoise, noise(h.Known))
		}
	}
	return ms
}

func times(runs []run) (xs []float64) {
	for _, r := range runs {
		xs = append(xs, r.Seconds)
	}
	return xs
}

// extra is what runs took longer than healthy ones: than those right before each
// of them but the first, if there are any.
func extra(runs, beside []float64, well float64) float64 {
	if len(beside) == 0 {
		return median(runs) - well
	}
	var more []float64
	for i, w := range beside[:min(len(beside), len(runs)-1)] {
		more = append(more, runs[i+1]-w)
	}
	return median(more)
}

// judge says where a cell misses a bar. Times are told, and judged if timed.
func judge(c *cell, well measure, timed bool) {
	c.Misses, c.FirstExtra, c.KnownExtra, c.compared = nil, 0, 0, false
	if c.Skipped != "" {
		return
	}
	miss := func(format string, a ...any) { c.Misses = append(c.Misses, fmt.Sprintf(format, a...)) }
	ru := rules()[c.f.kind]
	passed := true
	for _, part := range []struct {
		when string
		runs []run
	}{{"first contact", c.First}, {"once known", c.Known}} {
		for _, r := range part.runs {
			passed = passed && r.Passed
			switch {
			case r.Hung:
				miss("%s: the build hangs", part.when)
			case c.Pass && !r.Passed:
				miss("%s: the build fails", part.when)
			case !c.Pass && r.Passed:
				miss("%s: the build passes, round a source that the chain does not let it go past", part.when)
			case !c.Pass && !ru.says[c.ch].MatchString(r.Said):
				miss("%s: it fails as it must, but does not say why (%v)", part.when, ru.says[c.ch])
			}
			for i, w := range r.Wrong {
				if i == 3 {
					miss("and %d more wrong answers", len(r.Wrong)-i)
					break
				}
				miss("%s: %s", part.when, w)
			}
		}
	}
	if !c.Pass || !passed {
		return
	}
	if c.compared = well.first > 0; !c.compared {
		return
	}
	c.FirstExtra = extra(times(c.First), c.Well.First, well.first)
	c.KnownExtra = extra(times(c.Known), c.Well.Known, well.known)
	if !timed || ru.untimed[c.ch] && !c.p.warm {
		return
	}
	bad := 1 // of sources that a build without the store has to get past
	if !c.p.warm {
		bad = c.p.bad
	}
	word := ru.word
	if c.ch == comma {
		word *= sourceCount
	}
	if bar := contactBar*float64(bad) + word; c.FirstExtra >= bar {
		miss("first contact costs %s, the bar is %s", seconds(c.FirstExtra), seconds(bar))
	}
	bar := contactBar * float64(bad)
	if ru.spares || c.p.warm {
		bar = knownBar*well.known + well.knownNoise
	}
	if !c.p.warm { // where it is, the answers are in the store by then
		bar += word
	}
	if c.KnownExtra >= bar {
		miss("once known it still costs %s, the bar is %s", seconds(c.KnownExtra), seconds(bar))
	}
}

// judge judges all cells by all healthy runs.
func (rep *report) judge() {
	for b, h := range rep.well {
		rep.Well[b.String()] = *h
	}
	for _, c := range rep.Cells {
		judge(c, rep.measure(c.baseline()), rep.timed)
		if len(c.Misses) > 0 {
			rep.Missed++
		}
		if c.Skipped != "" {
			rep.Skipped++
		}
	}
}

// text is what became of a bystander's run, in a few words.
func (r run) text(limit time.Duration) string {
	var s string
	switch {
	case r.Hung:
		s = fmt.Sprintf(">%v (hangs)", limit)
	case r.Passed:
		s = seconds(r.Seconds)
	default:
		s = "fails (" + seconds(r.Seconds) + ")"
	}
	if len(r.Wrong) > 0 {
		s += fmt.Sprintf(", %d wrong", len(r.Wrong))
	}
	return s
}

// outcome is what became of a cell's clients: seconds more than healthy, or how
// they failed.
func (c *cell) outcome(runs []run, extra float64) string {
	var s string
	switch r := runs[len(runs)-1]; {
	case r.Hung:
		s = "hangs"
	case !r.Passed:
		s = "fails, " + seconds(median(times(runs)))
	case !c.Pass || !c.compared:
		s = "passes"
	default:
		s = fmt.Sprintf("%+.2f s", extra)
	}
	if len(runs) > 1 {
		s += "*"
	}
	return s
}

func (c *cell) String() string {
	switch {
	case c.Skipped != "":
		return fmt.Sprintf("%-32s %s", c.name(), c.Skipped)
	case len(c.Misses) > 0:
		return fmt.Sprintf("%-32s %-14s %-14s MISS %s", c.name(), c.outcome(c.First, c.FirstExtra), c.outcome(c.Known, c.KnownExtra), strings.Join(c.Misses, "; "))
	}
	return fmt.Sprintf("%-32s %-14s %-14s ok", c.name(), c.outcome(c.First, c.FirstExtra), c.outcome(c.Known, c.KnownExtra))
}

func (rep *report) summary() string {
	return fmt.Sprintf("%d cells, %d miss a bar, %d skipped; it took %v\n", len(rep.Cells), rep.Missed, rep.Skipped, time.Duration(rep.Took*float64(time.Second)).Round(time.Second))
}

// cellText is a cell's field in the table.
func cellText(c *cell) string {
	switch {
	case c == nil:
		return " | "
	case c.Skipped != "":
		return "skipped | skipped"
	}
	first, known := c.outcome(c.First, c.FirstExtra), c.outcome(c.Known, c.KnownExtra)
	if len(c.Misses) > 0 {
		return "**" + first + "** ✗ | **" + known + "** ✗"
	}
	return first + " | " + known
}

// escaped is for a field of a Markdown table.
func escaped(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// code is s as code in a Markdown table.
func code(s string) string { return "`" + escaped(s) + "`" }

func (rep *report) markdown() string {
	var b strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&b, format, a...) }
	p("# Sources that fail\n\n")
	p("What becomes of a build when a source fails, in every way that is known: made by `%s -o docs/faults.md` on %s (%s), in %v.\n",
		rep.Command, rep.When, rep.Machine, time.Duration(rep.Took*float64(time.Second)).Round(time.Second))
	p(`
Three sources hold the same modules, %v away. A real go command downloads %d of them (three are zips of %d KiB), with an
empty module cache and without a go.sum, verified by the checksum database, through a Sluice just started: *first*. Then
another one, with an empty module cache of its own and other modules (the same ones where the store is warm), through the
same Sluice: *known*. Every file in its module cache, and every whole answer that Sluice gave, is compared with the truth.

`, latency, setSize, bigBytes>>10)
	p("**%d of %d cells miss a bar, %d are skipped.** The bars:\n\n", rep.Missed, len(rep.Cells), rep.Skipped)
	p("- No failed build where a source that the chain allows, or the store, could serve. Where the chain allows none, it fails and says why.\n")
	p("- First contact with a source of no use costs less than %s in all, for each such source; once known, less than %d %% of the healthy run plus noise.\n", seconds(contactBar), int(knownBar*100))
	p("- No trouble becomes a 404 or 410 for a module that exists, and nothing wrong is served.\n\n")
	p("## With Sluice\n\nSeconds are those beyond the healthy run with the same chain in the same run. *fails* is as it must be, and says why, unless marked ✗, a missed\nbar. *: the median of three more, each against a healthy run right before it, since the first was late.\n\n")
	p("| Fault | Bad |")
	for _, ch := range chains() {
		p(" %s first | known |", code(ch.String()))
	}
	p("\n|---|---|%s\n", strings.Repeat("---|", 2*len(chains())))
	for _, f := range table() {
		for _, pos := range positions() {
			row := make([]*cell, len(chains()))
			for _, c := range rep.Cells {
				if c.Fault == f.name && c.Position == pos.name {
					row[c.ch] = c
				}
			}
			if !slices.ContainsFunc(row, func(c *cell) bool { return c != nil }) {
				continue
			}
			p("| %s | %s |", f.doc, pos.doc)
			for _, c := range row {
				p(" %s |", cellText(c))
			}
			p("\n")
		}
	}
	rep.markdownBeside(p)
	rep.markdownHow(p)
	return b.String()
}

func (rep *report) markdownBeside(p func(string, ...any)) {
	if len(rep.Beside) == 0 {
		return
	}
	p("\n## Without Sluice\n\nThe same download with the first of three sources bad: seconds in all. A build that did not end within %v was stopped, and\ncalled hanging.\n\n| Fault |", rep.limit)
	for _, b := range rep.Beside {
		p(" %s, %s |", b.Name, code(b.Client))
	}
	p("\n|---|%s\n| none |", strings.Repeat("---|", len(rep.Beside)))
	for _, b := range rep.Beside {
		p(" %s |", b.Runs[""].text(rep.limit))
	}
	p("\n")
	for _, f := range table() {
		if _, ok := rep.Beside[0].Runs[f.name]; !ok && rep.Beside[0].Skips[f.name] == "" {
			continue
		}
		p("| %s |", f.doc)
		for _, b := range rep.Beside {
			if r, ok := b.Runs[f.name]; ok {
				p(" %s |", r.text(rep.limit))
			} else {
				p(" skipped |")
			}
		}
		p("\n")
	}
}

func (rep *report) markdownHow(p func(string, ...any)) {
	p("\n## What must come of it\n\nWith the store warm every build passes. Else:\n\n| The source | Faults |")
	for _, ch := range chains() {
		p(" %s |", code(ch.String()))
	}
	p(" Why |\n|---|---|%s---|\n", strings.Repeat("---|", len(chains())))
	for k := trouble; k <= lostSums; k++ {
		ru := rules()[k]
		var names []string
		for _, f := range table() {
			if f.kind == k {
				names = append(names, f.name)
			}
		}
		p("| %s | %s |", ru.title, strings.Join(names, ", "))
		for i := range chains() {
			switch {
			case ru.pass[i] && ru.untimed[i]:
				p(" passes, in the source's time |")
			case ru.pass[i]:
				p(" passes |")
			default:
				p(" fails, and says why |")
			}
		}
		p(" %s |\n", escaped(ru.why))
	}
	p("\n## Healthy runs\n\nMeasured before the first cell of a kind and again after every %d. Noise is the farthest that one of\nthem is from the median of its kind; the largest over the spellings counts, since to well sources they are alike. Where a build must\nfail, `sources.timeout` and `sources.connect` are %s.\n\n| Chain | Runs | First | Noise | Known | Noise |\n|---|---|---|---|---|---|\n", again, failTimeout)
	for _, b := range rep.kinds() {
		h := rep.well[b]
		p("| %s | %d | %s | %s | %s | %s |\n", escaped(b.String()), len(h.First), seconds(median(h.First)), seconds(noise(h.First)), seconds(median(h.Known)), seconds(noise(h.Known)))
	}
	var misses, skips []string
	for _, c := range rep.Cells {
		if len(c.Misses) > 0 {
			misses = append(misses, "- "+code(c.name())+": "+strings.Join(c.Misses, "; "))
		}
		if c.Skipped != "" {
			skips = append(skips, "- "+code(c.name())+": "+c.Skipped)
		}
	}
	for _, l := range []struct {
		title string
		lines []string
	}{{"Missed", misses}, {"Skipped", skips}} {
		if len(l.lines) > 0 {
			p("\n## %s\n\n%s\n", l.title, strings.Join(l.lines, "\n"))
		}
	}
}
