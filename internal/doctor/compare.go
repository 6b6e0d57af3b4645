package doctor

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/modsluice/sluice/internal/finding"
)

// Read reads a report as JSON. What it may hold is not trusted: no text in it is longer
// than a line, or has anything that a terminal obeys.
func Read(data []byte) (*Report, error) {
	var r Report
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, fmt.Errorf("it is no report of sluice doctor --json: %w", err)
	}
	if r.Schema != Schema {
		return nil, fmt.Errorf("it is no report of this version of sluice doctor: its schema is %q, want %q", finding.OneLine(r.Schema, 40), Schema)
	}
	r.Sentence = finding.OneLine(r.Sentence, 1000)
	for i := range r.Rows {
		row := &r.Rows[i]
		row.ID, row.Title, row.Group, row.Text = finding.OneLine(row.ID, 100), finding.OneLine(row.Title, 200), finding.OneLine(row.Group, 500), finding.OneLine(row.Text, 500)
		if !slices.Contains(States(), row.State) {
			return nil, fmt.Errorf("the row %s has the state %q, which there is none", row.ID, finding.OneLine(string(row.State), 40))
		}
	}
	return &r, nil
}

// A Change is a check that two reports differ in.
type Change struct {
	ID    string `json:"id"`
	Title string `json:"title"`
	Good  Seeing `json:"good"`
	Bad   Seeing `json:"bad"`
}

// A Seeing is one of the two sides. The zero value: that report has no such check.
type Seeing struct {
	State State  `json:"state"`
	Text  string `json:"text"`
}

// Compare lists the checks that ended in another state, and those of the settings and
// programs that saw something else, in the order of the checks. What only took
// another time, or found another address, is no change.
func Compare(good, bad *Report) []Change {
	changes := []Change{}
	was := map[string]Row{}
	for _, r := range good.Rows {
		was[r.ID] = r
	}
	seen := map[string]bool{}
	for _, r := range bad.Rows {
		seen[r.ID] = true
		g, ok := was[r.ID]
		if ok && g.State == r.State && (g.Text == r.Text || !says(r.ID)) && g.Group == r.Group {
			continue
		}
		if ok && g.State == r.State && g.Group != r.Group && !strings.HasSuffix(r.ID, ".answer") {
			continue // that it is another source is said once
		}
		c := Change{ID: r.ID, Title: r.Title, Bad: seeing(r)}
		if ok {
			c.Good = seeing(g)
		}
		changes = append(changes, c)
	}
	for _, g := range good.Rows {
		if !seen[g.ID] {
			changes = append(changes, Change{ID: g.ID, Title: g.Title, Good: seeing(g)})
		}
	}
	return changes
}

// says reports whether what a check saw, and not only how it ended, is a fact of the
// machine that does not change from moment to moment.
func says(id string) bool {
	return strings.HasPrefix(id, "settings.") || id == "machine.go" || id == "machine.home"
}

func seeing(r Row) Seeing {
	if strings.HasPrefix(r.ID, "source.") {
		return Seeing{r.State, r.Group + ": " + r.Text}
	}
	return Seeing{r.State, r.Text}
}

// ChangesText is what changed, for the eye: first what failed, and of what was not made on
// one side only how much there is of it, since that follows from something else.
func ChangesText(changes []Change) string {
	if len(changes) == 0 {
		return "The two reports differ in no check.\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "The two reports differ in %s:\n", plural(len(changes), "check", "checks"))
	side := func(name string, s Seeing) {
		text := "no such check"
		if s != (Seeing{}) {
			text = fmt.Sprintf("%s: %s", s.State, s.Text)
		}
		fmt.Fprintf(&b, "  %s  %s\n", name, text)
	}
	told := slices.DeleteFunc(slices.Clone(changes), func(c Change) bool { return c.Good.State == Skip || c.Bad.State == Skip })
	if len(told) == 0 {
		told = slices.Clone(changes)
	}
	failed := func(c Change) int {
		if c.Good.State == Fail || c.Bad.State == Fail {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(told, func(a, b Change) int { return failed(a) - failed(b) })
	for _, c := range told {
		fmt.Fprintf(&b, "\n%s (%s)\n", c.Title, c.ID)
		side("good", c.Good)
		side("bad ", c.Bad)
	}
	if n := len(changes) - len(told); n > 0 {
		fmt.Fprintf(&b, "\n%s made on one side alone, because of others; --json has them\n", plural(n, "check was", "checks were"))
	}
	return b.String()
}
