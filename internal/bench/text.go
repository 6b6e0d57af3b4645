package bench

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/modsluice/sluice/internal/finding"
)

// Rows is the report as a table, the first row of which is the head.
func (r *Report) Rows() [][]string {
	rows := [][]string{{"", "mirror", "verdict", "small file", "MB/s", "answered", "newest", "bytes", "sumdb", "resumes"}}
	for _, m := range r.Mirrors {
		rows = append(rows, []string{strconv.Itoa(m.Rank), m.Name, string(m.Verdict), m.Latency.text("ms"), m.Throughput.text(""), m.answered(), m.newest(), m.checked(), m.SumDB, m.Range})
	}
	return rows
}

// text is a figure with its interval.
func (f Figure) text(unit string) string {
	switch {
	case f.N == 0:
		return "-"
	case f.N > 1:
		return strings.TrimSpace(fmt.Sprintf("%s %s", number(f.Median), unit)) + fmt.Sprintf(" (%s-%s)", number(f.Low), number(f.High))
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s", number(f.Median), unit))
}

// number writes a value with as many digits as it is worth.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func (m *Measured) answered() string {
	if m.Requests == 0 {
		return "-"
	}
	return fmt.Sprintf("%d of %d", m.Requests-m.Failed, m.Requests)
}

func (m *Measured) newest() string {
	switch {
	case m.Lists.Compared == 0 && len(m.Lists.Missing) == 0:
		return "-"
	case len(m.Lists.Missing) > 0:
		return fmt.Sprintf("lacks %d", len(m.Lists.Missing))
	}
	return "yes"
}

func (m *Measured) checked() string {
	switch {
	case m.Checked.Wrong > 0:
		return fmt.Sprintf("%d wrong", m.Checked.Wrong)
	case m.Checked.Right > 0:
		return "right"
	case m.Checked.Unchecked > 0:
		return "unchecked"
	}
	return "-"
}

// Notes are lines below the table: what each mirror that is not good is like, what was
// seen of it, and what failed, also of a good one.
func (r *Report) Notes() []string {
	var lines []string
	if r.offline() {
		return []string{"there is no network here that leads to any of them, or to a name server: network is unreachable (" + string(finding.SourceNoRoute) + "); sluice doctor says more"}
	}
	for _, m := range r.Mirrors {
		if m.Verdict == Good && len(m.Also) == 0 && m.Stopped == "" && m.Lost == 0 && len(m.Evidence) == 0 {
			continue
		}
		text := m.Name + ": " + m.Text
		if m.Lost > 0 && m.Verdict != Lossy && m.Verdict != Dead && len(m.losses) > 0 {
			f := m.losses[0]
			text += fmt.Sprintf("; %d of %d requests failed: %s (%s)", m.Lost, m.Requests, finding.Of(f.Code).Title, f.Text)
		}
		if m.Code != "" {
			text += " (" + string(m.Code) + ")"
		}
		lines = append(lines, text)
		for i, e := range m.Evidence {
			if i == 3 {
				lines = append(lines, fmt.Sprintf("  and %d more; --json has them", len(m.Evidence)-i))
				break
			}
			lines = append(lines, "  "+e)
		}
		if m.Stopped != "" {
			lines = append(lines, "  not asked to the end: "+m.Stopped)
		}
	}
	if r.Database.Direct == No {
		lines = append(lines, fmt.Sprintf("the checksum database %s cannot be reached from here except through a mirror: %s", r.Database.Name, r.Database.Text))
	}
	return lines
}

// About is what was asked for, in a line.
func (r *Report) About() string {
	var mods []string
	for _, m := range r.Modules {
		text := m.Module + "@" + m.Version
		switch {
		case m.Bytes > 0 && m.Zip == No:
			text += " (its zip of " + size(m.Bytes) + " was not fetched)"
		case m.Bytes > 0:
			text += " (" + size(m.Bytes) + ")"
		}
		mods = append(mods, text)
	}
	if len(mods) == 0 {
		return "no module was fetched"
	}
	made := count(r.Rounds, "round") + " after one to warm up"
	switch all := count(r.Budget.Rounds, "round"); {
	case r.Ended == Interrupted && r.Rounds == 0:
		made = "broken off before the first of " + all + " was over"
	case r.Ended == Interrupted:
		made = fmt.Sprintf("broken off after %d of %s", r.Rounds, all)
	}
	return made + ", of " + strings.Join(mods, ", ")
}

// size is a number of bytes as people say it.
func size(n int64) string {
	switch {
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%d kB", n/1000)
	}
	return fmt.Sprintf("%d bytes", n)
}
