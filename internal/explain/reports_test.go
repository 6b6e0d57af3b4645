package explain

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/modsluice/sluice/internal/finding"
)

// reportFiles are outputs as people paste them. The first were written to find out
// what the rules lack, the second when the rules had been mended.
var reportFiles = []string{"testdata/reports.txtar", "testdata/later.txtar"}

// reports are the texts of a file of outputs, named CAUSE/what, or CAUSE+ALSO/what
// where another cause is right as well.
func reports(t testing.TB, file string) []record {
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []record
	seen := map[string]bool{}
	for _, f := range a.Files {
		causes, _, _ := strings.Cut(f.Name, "/")
		each := strings.Split(causes, "+")
		for _, c := range each {
			if !finding.Cause(c).Valid() {
				t.Fatalf("%s: %q is no cause", f.Name, c)
			}
		}
		if seen[f.Name] {
			t.Fatalf("%s: there are two of them", f.Name)
		}
		seen[f.Name] = true
		all = append(all, record{ID: f.Name, Log: string(f.Data), Cause: each[0], AlsoOK: each[1:], Family: finding.Cause(each[0]).Family()})
	}
	return all
}

func TestOutputsAsPeoplePasteThemAreExplained(t *testing.T) {
	for _, file := range reportFiles {
		all := reports(t, file)
		seen := map[string]int{}
		for _, r := range all {
			seen[r.Cause]++
		}
		for _, c := range finding.Causes() {
			if seen[string(c)] < 3 {
				t.Errorf("%s has %d outputs with the cause %s", file, seen[string(c)], c)
			}
		}
		score(t, all)
	}
}

// There are too many for each to be put into each: one in three is.
func TestPastedOutputsKeepTheirCauseInCI(t *testing.T) {
	for n, name := range slices.Sorted(maps.Keys(wrappers)) {
		if strings.HasSuffix(name, "columns") {
			continue // many of them are broken already
		}
		for _, file := range append([]string{"testdata/public.txtar", "testdata/go-scripts.txtar"}, reportFiles...) {
			for i, r := range reports(t, file) {
				if (i+n)%3 != 0 {
					continue
				}
				if got := Text(wrappers[name](r.Log)); !r.right(got) {
					t.Errorf("%s in %s: %q by line %d %q", r.ID, name, got.Cause, got.Number, got.Line)
				}
			}
		}
	}
}

func TestGitIsUnderstoodInItsOtherLanguages(t *testing.T) {
	score(t, reports(t, "testdata/git-words.txtar"))
}
