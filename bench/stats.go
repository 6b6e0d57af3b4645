//go:build linux

package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// A series is one figure of one contender, a value for each round. NaN stands for
// a round in which it could not be measured.
type series []float64

// known are the values that there are, in order of size.
func (s series) known() series {
	var v series
	for _, x := range s {
		if !math.IsNaN(x) {
			v = append(v, x)
		}
	}
	slices.Sort(v)
	return v
}

// median of an even number of values is the mean of the two in the middle; of
// none it is NaN.
func (s series) median() float64 {
	v := s.known()
	n := len(v)
	switch {
	case n == 0:
		return math.NaN()
	case n%2 == 1:
		return v[n/2]
	}
	return (v[n/2-1] + v[n/2]) / 2
}

// spread is the least and the greatest value.
func (s series) spread() (low, high float64) {
	v := s.known()
	if len(v) == 0 {
		return math.NaN(), math.NaN()
	}
	return v[0], v[len(v)-1]
}

// over is s by t, round for round: both were measured next to each other, so what
// the machine did to the one it did to the other.
func (s series) over(t series) series {
	r := make(series, min(len(s), len(t)))
	for i := range r {
		r[i] = math.NaN()
		if t[i] != 0 {
			r[i] = s[i] / t[i]
		}
	}
	return r
}

// minus is s less t, round for round.
func (s series) minus(t series) series {
	r := make(series, min(len(s), len(t)))
	for i := range r {
		r[i] = s[i] - t[i]
	}
	return r
}

// A table is what was measured side by side: contender → metric → rounds.
type table map[string]map[string]series

func (t table) of(contender, metric string) series { return t[contender][metric] }

// put notes what a contender showed in a round; of rounds before in which it
// showed nothing there is no value.
func (t table) put(contender string, round int, s sample) {
	if t[contender] == nil {
		t[contender] = map[string]series{}
	}
	for metric, v := range s {
		line := t[contender][metric]
		for len(line) < round {
			line = append(line, math.NaN())
		}
		t[contender][metric] = append(line, v)
	}
}

func (t table) ratio(metric, contender, against string) series {
	return t.of(contender, metric).over(t.of(against, metric))
}

// A bar is what a figure must reach. The zero bar is none.
type bar struct {
	Kind  string  `json:"kind,omitempty"` // "at least" or "at most"
	Value float64 `json:"value"`
}

func atLeast(v float64) bar { return bar{"at least", v} }
func atMost(v float64) bar  { return bar{"at most", v} }

// A figure is one result that is judged.
type figure struct {
	Line    int     `json:"line"`
	Graph   string  `json:"graph,omitempty"` // of the cold lines
	What    string  `json:"what"`
	Unit    string  `json:"unit"` // "×" is a ratio
	Value   float64 `json:"value"`
	Low     float64 `json:"low"`
	High    float64 `json:"high"`
	Rounds  int     `json:"rounds"`
	Bar     bar     `json:"bar"`
	Verdict string  `json:"verdict"`        // pass, MISS, skipped, or failed
	Note    string  `json:"note,omitempty"` // what else is to be known, or why there is no figure
}

const (
	passed  = "pass"
	missed  = "MISS"
	skipped = "skipped"
	failed  = "failed"
)

// judge makes a figure of a series: its median is judged.
func judge(line int, what, unit string, s series, b bar, note string) figure {
	f := figure{Line: line, What: what, Unit: unit, Value: s.median(), Rounds: len(s.known()), Bar: b, Note: note}
	f.Low, f.High = s.spread()
	switch {
	case f.Rounds == 0:
		f.Value, f.Low, f.High, f.Verdict = 0, 0, 0, failed // JSON has no NaN
	case b.Kind == "at least" && f.Value < b.Value, b.Kind == "at most" && f.Value > b.Value:
		f.Verdict = missed
	case b.Kind != "":
		f.Verdict = passed
	}
	return f
}

// without is a figure that there is none of.
func without(line int, what, verdict, why string) figure {
	return figure{Line: line, What: what, Verdict: verdict, Note: why}
}

// String is the figure as a line of text.
func (f figure) String() string {
	if f.Verdict == skipped || f.Verdict == failed {
		return strings.TrimSpace(fmt.Sprintf("line %d: %s: %s %s", f.Line, f.What, f.Verdict, f.Note))
	}
	s := fmt.Sprintf("line %d: %s: %s", f.Line, f.What, f.amount())
	if f.Rounds > 1 {
		s += fmt.Sprintf(" (%s to %s in %d rounds)", number(f.Low), number(f.High), f.Rounds)
	}
	if f.Bar.Kind != "" {
		s += fmt.Sprintf(", bar %s: %s", f.Bar, f.Verdict)
	}
	return s
}

// amount is the value with its unit.
func (f figure) amount() string { return strings.TrimSpace(number(f.Value) + " " + f.Unit) }

func (b bar) String() string {
	switch b.Kind {
	case "at least":
		return "≥ " + number(b.Value)
	case "at most":
		return "≤ " + number(b.Value)
	}
	return "–"
}

// number writes a value with as many digits as it is worth.
func number(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "–"
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a == math.Trunc(a):
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
