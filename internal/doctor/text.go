package doctor

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/modsluice/sluice/internal/finding"
)

// TextOptions say how a report is written for the eye.
type TextOptions struct {
	All    bool // each row, and each finding; else what is not well, and one fix
	Brief  bool // the verdict and its fix alone
	Colour bool
}

// Text is the report for the eye: one sentence, one fix, the chain, the rows. It is
// printable ASCII but for what it quotes, and nothing in it depends on colour.
func (r *Report) Text(o TextOptions) string {
	var b strings.Builder
	paint := func(colour, s string) string {
		if !o.Colour {
			return s
		}
		return "\x1b[" + colour + "m" + s + "\x1b[0m"
	}
	colours := map[State]string{OK: "32", Warn: "33", Fail: "31", Incomplete: "35", Unknown: "35"}
	sentence := strings.ToUpper(r.Sentence[:1]) + r.Sentence[1:]
	if r.Verdict == Well || r.Verdict == Untold {
		sentence += ": " + r.Subject + fmt.Sprintf(", %d checks, %.1f s", len(r.Rows), r.Took/1000)
	}
	fmt.Fprintf(&b, "%s\n", paint(map[Verdict]string{Well: "32", Broken: "1;31", Impaired: "33", Untold: "35"}[r.Verdict], sentence))
	shown := r.Findings
	if !o.All {
		shown = shown[:min(1, len(shown))]
	}
	for i, f := range shown {
		if i > 0 {
			fmt.Fprintf(&b, "\n%s: %s", f.Severity, f.Title)
			if len(f.About) > 0 {
				fmt.Fprintf(&b, ": %s", strings.Join(f.About, ", "))
			}
			fmt.Fprintf(&b, " (%s)\n", f.Code)
		}
		for _, e := range f.Evidence {
			fmt.Fprintf(&b, "  %s\n", e)
		}
		if o.All {
			fmt.Fprintf(&b, "  %s\n", f.Why)
		}
		if f.Confidence != finding.High {
			fmt.Fprintf(&b, "  confidence: %s; another cause is possible\n", f.Confidence)
		}
		if f.Fix != "" {
			fmt.Fprintf(&b, "  fix: %s\n", f.Fix)
			for _, c := range f.Commands {
				fmt.Fprintf(&b, "    %s\n", strings.ReplaceAll(c, "\n", "\n    "))
			}
		}
		if n := len(f.Consequences); n > 0 {
			fmt.Fprintf(&b, "  %s because of it\n", plural(n, "further check fails or cannot be made", "further checks fail or cannot be made"))
		}
	}
	if o.Brief {
		return b.String()
	}
	if n := len(r.Findings) - len(shown); n > 0 {
		fmt.Fprintf(&b, "  %s; sluice doctor --all shows all\n", plural(n, "finding beside it", "findings beside it"))
	}
	if r.Verdict != Well || o.All {
		b.WriteString("\n  ")
		for i, l := range r.Chain {
			if i > 0 {
				b.WriteString(" -- ")
			}
			name := l.Name
			switch l.State {
			case Fail:
				name = "[X " + name + "]"
			case Warn:
				name = "[! " + name + "]"
			case Skip, Incomplete, Unknown:
				name = "(? " + name + ")"
			}
			b.WriteString(paint(colours[l.State], name))
		}
		b.WriteString("\n\n")
		r.rows(&b, o, paint, colours)
	}
	return b.String()
}

func (r *Report) rows(b *strings.Builder, o TextOptions, paint func(colour, s string) string, colours map[State]string) {
	var groups []string
	for _, row := range r.Rows {
		if !slices.Contains(groups, row.Group) {
			groups = append(groups, row.Group)
		}
	}
	for _, g := range groups {
		counts := map[State]int{}
		var rows []Row
		for _, row := range r.Rows {
			if row.Group == g {
				counts[row.State]++
				// What was not made because of something else goes without saying.
				if o.All || row.State != OK && row.State != NA && row.State != Skip {
					rows = append(rows, row)
				}
			}
		}
		var sums []string
		for _, s := range States() {
			if counts[s] > 0 {
				sums = append(sums, fmt.Sprintf("%d %s", counts[s], s))
			}
		}
		fmt.Fprintf(b, "%s: %s\n", g, strings.Join(sums, ", "))
		width := 0
		for _, row := range rows {
			width = max(width, utf8.RuneCountInString(row.Title))
		}
		for _, row := range rows {
			word := string(row.State)
			if row.State == Fail {
				word = "FAIL"
			}
			text := row.Text
			if row.Code != "" {
				text += " (" + string(row.Code) + ")"
			}
			fmt.Fprintf(b, "  %s  %s%s  %s\n", paint(colours[row.State], fmt.Sprintf("%-10s", word)), row.Title, strings.Repeat(" ", width-utf8.RuneCountInString(row.Title)), text)
		}
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
