//go:build linux

package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/modsluice/sluice/internal/finding"
)

func TestEmergenciesAreWholeAndOnThePage(t *testing.T) {
	page, err := os.ReadFile("../../docs/rescue-drill.md")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, x := range emergencies() {
		if names[x.name] || x.title == "" || x.set == nil {
			t.Errorf("%q is there twice, or has no title, or does nothing", x.name)
		}
		names[x.name] = true
		if _, ok := finding.Lookup(x.code); !ok {
			t.Errorf("%s: there is no code %s", x.name, x.code)
		}
		if !strings.Contains(string(page), "| "+cell(x.title)+" | "+string(x.code)+" |") {
			t.Errorf("docs/rescue-drill.md has no row for %s: make it anew with go run ./tools/laboratory -rescue -o docs/rescue-drill.md -record docs/incident", x.name)
		}
	}
	if len(names) < 12 || !names[onRecord] {
		t.Errorf("there are %d emergencies, and that whose record is shown is one: %v", len(names), names[onRecord])
	}
}

func TestThePageOfEmergenciesTellsTheMedianAndWhatWasMissed(t *testing.T) {
	rep := &rehearsals{Rounds: 3, Results: []*rehearsed{
		{rehearsal: rehearsal{Name: "a"}}, {rehearsal: rehearsal{Name: "b"}}, {rehearsal: rehearsal{Name: "c"}},
	}}
	for i, own := range []float64{900, 100, 300} {
		rep.Results[0].add(&rehearsal{Title: "one | two", Code: "SL-NET-001", Own: own, Command: 1000, Kept: true, Commands: []string{"sluice rescue --keep --bundle /home/dev/x"}})
		r := &rehearsal{Title: "late", Code: "SL-NET-002", Own: own * 20}
		if i == 1 {
			r.miss("it failed once")
		}
		rep.Results[1].add(r)
		rep.Results[2].add(&rehearsal{Title: "clock", Code: "SL-CLK-001", Helpless: true, Sentence: "nothing here can help: the clock"})
	}
	rep.Results[1].Late = true
	if rep.missed() != 1 {
		t.Errorf("%d are missed, want 1", rep.missed())
	}
	text := rep.markdown()
	for _, want := range []string{
		"**3 emergencies, 1 of them not as they must be.**",
		"| one \\| two | SL-NET-001 | `sluice rescue --keep --bundle ~/x` | 0.30 s, 0.10 to 0.90 | 1.30 s | written | works |",
		"| late | SL-NET-002 |  | 6.00 s, 2.00 to 18.00 | 6.00 s | none | ✗ it failed once |",
		"| none | *no help*: nothing here can help: the clock |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	rep.Results[1].Misses = nil
	if text := rep.markdown(); !strings.Contains(text, "| ✗ late |") || rep.missed() != 1 {
		t.Errorf("one that is late is not told:\n%s", text)
	}
}

func TestTheMedianIsThatInTheMiddle(t *testing.T) {
	for _, x := range []struct {
		of   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{1, 3}, 2}, {[]float64{1, 2, 9}, 2}} {
		if got := median(slices.Clone(x.of)); got != x.want {
			t.Errorf("median(%v) = %v, want %v", x.of, got, x.want)
		}
	}
}
