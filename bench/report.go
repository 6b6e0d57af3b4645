//go:build linux

package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A measure is one metric of one contender of a line.
type measure struct {
	Line      int     `json:"line"`
	Title     string  `json:"title"`
	Contender string  `json:"contender"`
	Metric    string  `json:"metric"`
	Median    float64 `json:"median"`
	Low       float64 `json:"low"`
	High      float64 `json:"high"`
	Rounds    series  `json:"rounds"` // in order of size
}

// A report is everything that a run has found.
type report struct {
	Date     string    `json:"date"`
	Command  string    `json:"command"`
	Machine  string    `json:"machine"`
	Sluice   string    `json:"sluice"` // what was measured
	Full     bool      `json:"full"`
	Took     float64   `json:"seconds"`
	Figures  []figure  `json:"figures"`
	Measures []measure `json:"measures"`
	Failures []string  `json:"failures,omitempty"` // what could not be measured, and why
}

func newReport(o options) *report {
	r := &report{Date: time.Now().UTC().Format(time.DateOnly), Command: o.line, Machine: machine(), Full: o.full}
	if out, err := exec.Command("git", "describe", "--always", "--dirty").Output(); err == nil && o.sluice == "" {
		r.Sluice = "commit " + strings.TrimSpace(string(out))
	}
	if len(o.args) > 0 {
		r.Sluice = strings.TrimPrefix(r.Sluice+", with "+strings.Join(o.args, " "), ", ")
	}
	return r
}

// machine says where it was measured, in words that name nobody.
func machine() string {
	parts := []string{fmt.Sprintf("%d processors", runtime.NumCPU())}
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for l := range strings.Lines(string(data)) {
			if k, v, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(k) == "model name" {
				parts[0] += " (" + strings.TrimSpace(v) + ")"
				break
			}
		}
	}
	var si syscall.Sysinfo_t
	if syscall.Sysinfo(&si) == nil {
		parts = append(parts, fmt.Sprintf("%.0f GB of memory", float64(si.Totalram)*float64(si.Unit)/1e9))
	}
	if data, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		parts = append(parts, "Linux "+strings.TrimSpace(string(data)))
	}
	parts = append(parts, strings.Replace(runtime.Version(), "go", "Go ", 1))
	if out, err := exec.Command("nginx", "-v").CombinedOutput(); err == nil {
		parts = append(parts, strings.TrimSpace(strings.Replace(strings.TrimPrefix(string(out), "nginx version: "), "/", " ", 1)))
	}
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		text, _, _ := strings.Cut(string(data), " ")
		if load, err := strconv.ParseFloat(text, 64); err == nil && load >= 0.5 {
			parts = append(parts, "busy with other work when it began (load "+text+")")
		}
	}
	var fs syscall.Statfs_t
	if syscall.Statfs(os.TempDir(), &fs) == nil {
		const tmpfs = 0x01021994
		where := "temporary files on a disk"
		if fs.Type == tmpfs {
			where = "temporary files in memory"
		}
		parts = append(parts, where)
	}
	return strings.Join(parts, ", ")
}

// failures counts what could not be measured.
func (r *report) failures() int {
	n := len(r.Failures)
	for _, f := range r.Figures {
		if f.Verdict == failed {
			n++
		}
	}
	return n
}

// ordered are the figures with ratios first, within that by line.
func (r *report) ordered() []figure {
	list := slices.Clone(r.Figures)
	rank := func(f figure) int {
		switch {
		case f.Verdict == skipped || f.Verdict == failed:
			return 2
		case f.Unit == "×":
			return 0
		}
		return 1
	}
	slices.SortStableFunc(list, func(a, b figure) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Line, b.Line))
	})
	return list
}

// count counts verdicts.
func (r *report) count(verdict string) (n int) {
	for _, f := range r.Figures {
		if f.Verdict == verdict {
			n++
		}
	}
	return n
}

func (r *report) verdicts() string {
	s := fmt.Sprintf("%d bars hold, %d are missed", r.count(passed), r.count(missed))
	if n := r.count(skipped); n > 0 {
		s += fmt.Sprintf(", %d figures skipped", n)
	}
	if n := r.failures(); n > 0 {
		s += fmt.Sprintf(", %d could not be had", n)
	}
	return s
}

// text is the report at a terminal.
func (r *report) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n%s\n\n", r.Command, r.Machine, cmp.Or(r.Sluice, "a sluice given with -sluice"))
	for _, f := range r.ordered() {
		if f.Verdict == skipped || f.Verdict == failed {
			fmt.Fprintf(&b, "%2d  %10s  %8s  %-7s  %s", f.Line, "–", "", f.Verdict, f.What)
		} else {
			fmt.Fprintf(&b, "%2d  %10s  %8s  %-7s  %s", f.Line, f.amount(), f.Bar, f.Verdict, f.What)
		}
		if f.Rounds > 1 {
			fmt.Fprintf(&b, " [%s to %s]", number(f.Low), number(f.High))
		}
		if f.Note != "" {
			fmt.Fprintf(&b, " (%s)", f.Note)
		}
		b.WriteByte('\n')
	}
	for _, f := range r.Failures {
		fmt.Fprintf(&b, "not measured: %s\n", f)
	}
	fmt.Fprintf(&b, "\n%s; it took %.0f s\n", r.verdicts(), r.Took)
	return b.String()
}

// figures is the table of what is judged.
func (r *report) figures() string {
	var b strings.Builder
	b.WriteString("| Line | What | Median | Spread | Bar | |\n|---|---|---|---|---|---|\n")
	for _, f := range r.ordered() {
		what := f.What
		if f.Note != "" {
			what += " (" + f.Note + ")"
		}
		if f.Verdict == skipped || f.Verdict == failed {
			fmt.Fprintf(&b, "| %d | %s | – | – | – | %s |\n", f.Line, cell(what), f.Verdict)
			continue
		}
		spread := "–"
		if f.Rounds > 1 {
			spread = number(f.Low) + " – " + number(f.High)
		}
		verdict := f.Verdict
		if verdict == missed {
			verdict = "**missed**"
		}
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %s | %s |\n", f.Line, cell(what), f.amount(), spread, f.Bar, verdict)
	}
	return b.String()
}

// cell is text that stays in its cell of a Markdown table.
func cell(s string) string { return strings.NewReplacer("|", `\|`, "\n", " ").Replace(s) }

// markdown is the report as a page; plot is the file of the plot beside it, if any.
func (r *report) markdown(plot string) string {
	var b strings.Builder
	b.WriteString("# Speed\n\nThis page is written by a program, which measures all of it anew:\n\n    " + r.Command + "\n\n")
	mode := "quick: few rounds"
	if r.Full {
		mode = "full"
	}
	fmt.Fprintf(&b, "Measured on %s (%s), in %v, on %s.\n", r.Date, mode, time.Duration(r.Took*float64(time.Second)).Round(time.Second), r.Machine)
	if r.Sluice != "" {
		fmt.Fprintf(&b, "Sluice is %s, with its settings as they are; its log of requests goes to a file, nginx keeps none.\n", r.Sluice)
	}
	b.WriteString("\n" + wrap(`All contenders of a line take turns in each round, and a ratio is the median of the rounds' ratios, with the
least and the greatest beside it. Client, server and source share the machine. nginx serves the very same directory. The source that is
100 ms away is a relay on loopback that delays each direction by 50 ms without limiting the bandwidth; the checksum database,
signed with a key of the run, lies behind it too, and only Sluice asks it: the go command alone verifies by go.sum. The graphs are
those of public programs. The reverse proxies of line 4 are the standard library's: the one keeps nothing and verifies nothing, the
other keeps each zip in a file until it has taken its hash, with Sluice's decompressor, before the last block goes out. Neither asks the database: both
show what any proxy costs that shares the processors with the go command. The programs' module caches and Sluice's store are empty unless it says warm. "go build" is told to do
all but compile.`) + "\n\n")
	if plot != "" {
		fmt.Fprintf(&b, "![Times of go mod download, and throughput of a warm server, beside other ways](%s)\n\n", plot)
	}
	fmt.Fprintf(&b, "## Against the bars\n\n%s; ratios come first.\n\n%s\n", r.verdicts(), r.figures())
	for _, f := range r.Failures {
		fmt.Fprintf(&b, "Not measured: %s\n\n", cell(f))
	}
	b.WriteString("## Everything that was measured\n\n| | Contender | Metric | Median | Least | Greatest | Rounds |\n|---|---|---|---|---|---|---|\n")
	for _, m := range r.Measures {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %d |\n", cell(m.Title), cell(m.Contender), cell(m.Metric), number(m.Median), number(m.Low), number(m.High), len(m.Rounds))
	}
	return b.String()
}

// wrap joins lines and breaks them anew.
func wrap(s string) string {
	const width = 118
	var b strings.Builder
	n := 0
	for _, w := range strings.Fields(s) {
		if n > 0 && n+1+len(w) > width {
			b.WriteByte('\n')
			n = 0
		} else if n > 0 {
			b.WriteByte(' ')
			n++
		}
		b.WriteString(w)
		n += len(w)
	}
	return b.String()
}

// The marks in a README between which the table is written.
const (
	beginMark = "<!-- speed:begin -->\n"
	endMark   = "<!-- speed:end -->\n"
)

// between puts the table between the marks of a page.
func (r *report) between(page []byte) ([]byte, error) {
	head, rest, ok := bytes.Cut(page, []byte(beginMark))
	_, foot, ok2 := bytes.Cut(rest, []byte(endMark))
	if !ok || !ok2 {
		return nil, fmt.Errorf("it has no lines %q and %q, between which the table goes", strings.TrimSpace(beginMark), strings.TrimSpace(endMark))
	}
	return slices.Concat(head, []byte(beginMark), []byte(r.figures()), []byte(endMark), foot), nil
}

// write writes the files that were asked for.
func (r *report) write(o options) error {
	var errs []error
	put := func(file string, data []byte) {
		errs = append(errs, os.WriteFile(file, data, 0o644))
	}
	if o.svg != "" {
		put(o.svg, []byte(r.plot()))
	}
	if o.markdown != "" {
		put(o.markdown, []byte(r.markdown(relative(o.svg, o.markdown))))
	}
	if o.readme != "" {
		page, err := os.ReadFile(o.readme)
		if err == nil {
			page, err = r.between(page)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("writing the table into %s: %w", o.readme, err))
		} else {
			put(o.readme, page)
		}
	}
	switch o.json {
	case "":
	case "-":
		errs = append(errs, r.encode(os.Stdout))
	default:
		var b bytes.Buffer
		errs = append(errs, r.encode(&b))
		put(o.json, b.Bytes())
	}
	return errors.Join(errs...)
}
