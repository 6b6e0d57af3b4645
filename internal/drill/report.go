package drill

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// A Report is what came of a drill.
type Report struct {
	Fault    string   `json:"fault"`    // as faults.Fault.String
	Does     string   `json:"does"`     // what it does, in one line
	Source   string   `json:"source"`   // the name of the source that it stood before
	Position int      `json:"position"` // of that source in the chain, from 1
	Sources  int      `json:"sources"`  // of the chain
	Chain    string   `json:"goproxy"`  // the chain, without credentials
	For      float64  `json:"for_seconds,omitempty"`
	Lasting  bool     `json:"lasting,omitempty"` // it lasted as long as the command
	Command  []string `json:"command"`
	Warm     bool     `json:"warm_cache,omitempty"` // the module cache was the user's
	Stocked  bool     `json:"warm_store,omitempty"` // Sluice's store had been filled before
	Runs     []Run    `json:"runs"`
	Worked   bool     `json:"worked"`
	Verdict  string   `json:"verdict"`
}

// Add adds a run, and what it lost against the healthy one.
func (r *Report) Add(run Run) {
	if h, ok := r.run(Healthy); ok {
		run.Lost = run.Seconds - h.Seconds
	}
	r.Runs = append(r.Runs, run)
	r.Worked, r.Verdict = r.judge()
}

func (r *Report) run(name string) (Run, bool) {
	for _, run := range r.Runs {
		if run.Name == name {
			return run, true
		}
	}
	return Run{}, false
}

// judge says whether the command works under the fault, the last run counting,
// and in a sentence how that is.
func (r *Report) judge() (bool, string) {
	healthy, _ := r.run(Healthy)
	bare, tried := r.run(Bare)
	through, between := r.run(Through)
	if !healthy.Worked {
		return false, "the command fails without the fault too: this says nothing about the fault"
	}
	if !tried {
		return false, "the command works without the fault"
	}
	how := func(run Run) string {
		switch {
		case !run.Worked:
			return fmt.Sprintf("fails, after %.2f s", run.Seconds)
		case run.Ended:
			return fmt.Sprintf("works once the fault has ended, %s", lost(run))
		}
		return fmt.Sprintf("works, %s", lost(run))
	}
	last := bare
	text := "the command " + how(bare)
	if between {
		last = through
		text = "alone, " + text + "; through Sluice it " + how(through)
	}
	if last.Worked && len(bare.Met)+len(through.Met) == 0 && !r.unseen() {
		text += ". Nothing met the fault: the source was not asked"
	}
	if n := bare.Met["impossible"] + through.Met["impossible"]; n > 0 {
		text += fmt.Sprintf(". Of what met the fault, %d could not be spoiled that way, and got a 501 that says why", n)
	}
	return last.Worked, text
}

// unseen reports whether the fault is one that nobody sees met: nobody is there.
func (r *Report) unseen() bool { return r.Fault == "refused" || r.Fault == "dns" }

func lost(run Run) string {
	if run.Lost < 0 {
		return fmt.Sprintf("%.2f s sooner than without the fault", -run.Lost)
	}
	return fmt.Sprintf("%.2f s later than without the fault", run.Lost)
}

// title is what was done, in one line.
func (r *Report) title() string {
	time := fmt.Sprintf(" for %g s", r.For)
	if r.Lasting || r.For == 0 {
		time = " as long as the command runs"
	}
	return fmt.Sprintf("%s before source %d of %d (%s)%s", r.Fault, r.Position, r.Sources, r.Source, time)
}

func (r *Report) label(run Run) string {
	switch run.Name {
	case Healthy:
		return "without the fault"
	case Through:
		if r.Stocked {
			return "through Sluice, which had all before"
		}
		return "through Sluice"
	}
	return "the command alone"
}

func outcome(run Run) string {
	if run.Worked {
		return "worked"
	}
	return fmt.Sprintf("failed (%d)", run.Exit)
}

// met says how often a run met the fault, by kind.
func (r *Report) met(run Run) string {
	if run.Name == Healthy {
		return ""
	}
	var parts []string
	for _, kind := range []string{"connection", "list", "latest", "info", "mod", "zip", "sumdb", "other"} {
		if n := run.Met[kind]; n > 0 {
			if kind == "connection" && n > 1 {
				kind = "connections"
			}
			parts = append(parts, fmt.Sprintf("%d %s", n, kind))
		}
	}
	switch {
	case len(parts) == 0 && r.unseen():
		return "cannot be counted"
	case len(parts) == 0:
		return "not met"
	}
	return strings.Join(parts, ", ")
}

func (r *Report) row(run Run) []string {
	diff := ""
	if run.Name != Healthy && run.Worked { // nothing is won by failing soon
		diff = fmt.Sprintf("%+.2f", run.Lost)
	}
	return []string{r.label(run), outcome(run), fmt.Sprintf("%.2f", run.Seconds), diff, r.met(run)}
}

// heads are the columns of row.
func heads() []string { return []string{"", "outcome", "seconds", "lost", "met the fault"} }

// Text writes the report for a terminal.
func (r *Report) Text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n  %s\n  GOPROXY %s\n  $ %s\n\n", r.title(), r.Does, r.Chain, strings.Join(r.Command, " "))
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, strings.Join(heads(), "\t"))
	for _, run := range r.Runs {
		fmt.Fprintln(tw, strings.Join(r.row(run), "\t"))
	}
	tw.Flush()
	for _, run := range r.Runs {
		for _, part := range []struct {
			title string
			lines []string
		}{{"said", run.Said}, {"Sluice logged", run.Logged}} {
			if len(part.lines) > 0 {
				fmt.Fprintf(&b, "\n%s, %s:\n", r.label(run), part.title)
				for _, l := range part.lines {
					fmt.Fprintf(&b, "  %s\n", l)
				}
			}
		}
	}
	fmt.Fprintf(&b, "\n%s\n", upper(r.Verdict))
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	_, err := io.WriteString(w, strings.Join(lines, "\n"))
	return err
}

// Markdown writes the report for a page.
func (r *Report) Markdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "### `%s`: %s\n\n", r.Fault, r.Does)
	fmt.Fprintf(&b, "%s; `GOPROXY=%s`, `%s`\n\n", upper(r.title()), r.Chain, strings.Join(r.Command, " "))
	cells := func(row []string) {
		for i := range row {
			row[i] = strings.ReplaceAll(row[i], "|", `\|`)
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
	}
	cells(heads())
	fmt.Fprintf(&b, "|%s\n", strings.Repeat("---|", len(heads())))
	for _, run := range r.Runs {
		cells(r.row(run))
	}
	fmt.Fprintf(&b, "\n%s.\n", upper(r.Verdict))
	for _, run := range r.Runs {
		if lines := append(append([]string(nil), run.Said...), run.Logged...); len(lines) > 0 {
			fmt.Fprintf(&b, "\n%s:\n\n    %s\n", upper(r.label(run)), strings.Join(lines, "\n    "))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// upper is s with a capital, but for what is the name of a fault.
func upper(s string) string {
	if strings.HasPrefix(s, "the ") || strings.HasPrefix(s, "alone") || strings.HasPrefix(s, "through ") || strings.HasPrefix(s, "without ") {
		return strings.ToUpper(s[:1]) + s[1:]
	}
	return s
}
