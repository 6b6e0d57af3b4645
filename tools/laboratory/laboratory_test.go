//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/modsluice/sluice/internal/explain"
	"github.com/modsluice/sluice/internal/finding"
)

// notShown are the rows of the table of situations that no scenario is about yet. A row
// that one is about has no place here.
var notShown = map[string]string{
	"B8": "git's settings for one host are looked at by doctor's own tests alone yet",
}

func TestEachSituationHasAScenario(t *testing.T) {
	shown := map[string]bool{}
	for _, s := range scenarios() {
		for _, row := range strings.Fields(s.rows) {
			shown[row] = true
		}
	}
	var want []string
	for i := 1; i <= 22; i++ {
		want = append(want, fmt.Sprintf("A%d", i))
	}
	for i := 1; i <= 9; i++ {
		want = append(want, fmt.Sprintf("B%d", i))
	}
	for _, row := range append(want, "F6") {
		why, listed := notShown[row]
		switch {
		case shown[row] && listed:
			t.Errorf("%s has a scenario: take it out of notShown (%s)", row, why)
		case !shown[row] && !listed:
			t.Errorf("%s has no scenario", row)
		}
	}
}

func TestScenariosAreWhole(t *testing.T) {
	count, names := map[string]int{}, map[string]bool{}
	for _, s := range scenarios() {
		count[s.kind()]++
		if names[s.name] || s.title == "" || s.set == nil {
			t.Errorf("%q is there twice, or has no title, or does nothing", s.name)
		}
		names[s.name] = true
		if strings.HasPrefix(s.name, "h-") != (s.kind() == "healthy") || strings.HasPrefix(s.name, "d-") && s.kind() == "single" && len(s.beside) == 0 {
			t.Errorf("%s is %s", s.name, s.kind())
		}
		for _, code := range s.planted {
			if _, ok := finding.Lookup(code); !ok {
				t.Errorf("%s: there is no code %s", s.name, code)
			}
		}
		for code := range s.fixes {
			if !slices.Contains(s.planted, code) {
				t.Errorf("%s: %s has a fix and is not planted", s.name, code)
			}
		}
	}
	if total := count["single"] + count["double"] + count["healthy"]; total < 60 || count["double"] < 5 || count["healthy"] < 15 {
		t.Errorf("%d scenarios: %v", total, count)
	}
}

// byOthers are the codes that the laboratory cannot show, since no go command and no
// check of doctor meets them, and what shows them and their fix instead.
var byOthers = map[finding.Code]string{
	finding.SourceForbiddenAddress: "sluice serve alone refuses redirects into its own network: internal/upstream",
	finding.SumMismatch:            "sluice serve's own check of a source: e2e/sources_test.go, tools/faultmatrix",
	finding.PinMismatch:            "sluice serve's own memory of a private module: internal/mirror",
	finding.SumDBPrivate:           "sluice serve alone refuses the question: internal/server",
	finding.ZipDamaged:             "sluice serve's own check of a zip: tools/faultmatrix",
	finding.SourceTooLarge:         "sluice serve's own bound of an answer: internal/mirror",
	finding.DirectNotAllowed:       "an answer of sluice serve: internal/mirror",
	finding.FetchDisabled:          "an answer of sluice serve: internal/server",
	finding.SwitchedOffline:        "an answer of sluice serve: e2e, admin switches",
	finding.SourceSwitchedOff:      "an answer of sluice serve: e2e, admin switches",
	finding.VCSFailed:              "what sluice serve says when the go command in it fails: internal/origin",
	finding.StoreNotWritable:       "a condition of sluice serve: cmd/sluice",
	finding.StoreFull:              "a condition of sluice serve: cmd/sluice",
	finding.StoreDamaged:           "a condition of sluice serve: internal/store",
	finding.Loop:                   "an answer of sluice serve: cmd/sluice",
	finding.BadRequest:             "an answer of sluice serve: internal/server",
	finding.Internal:               "an answer of sluice serve to what nothing else names: internal/server",
}

// notMended are the codes whose fix no scenario tries yet; a log shows them. What a
// scenario tries has no place here.
var notMended = map[finding.Code]string{
	finding.ZipRules:    "no source of the laboratory can publish such a zip with a record in the database; the fix names other versions, of which a person chooses",
	finding.ZipTooLarge: "a zip of 500 MiB takes too long for what it would show; the fix names other versions, of which a person chooses",
}

// notYet are the codes that doctor's own tests show, and of which no scenario is built
// yet. What has one has no place here.
var notYet = []finding.Code{
	finding.SearchDomain, finding.ResolversDiffer, finding.NameDenied, finding.CAStoreStale, finding.MissingIntermediate,
	finding.ForwardVariables, finding.ReplaceIgnored, finding.RecipeNoGit, finding.RecipeNotPrivate,
}

// logged are the codes that sluice explain gives for the outputs in its own corpus.
func logged(t *testing.T) map[finding.Code]bool {
	t.Helper()
	codes := map[finding.Code]bool{}
	dir := filepath.Join("..", "..", "internal", "explain", "testdata")
	a, err := txtar.ParseFile(filepath.Join(dir, "messages.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range a.Files {
		codes[explain.Text(string(f.Data)).Code] = true
	}
	f, err := os.Open(filepath.Join(dir, "labelled.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var r struct{ Log string }
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		codes[explain.Text(r.Log).Code] = true
	}
	return codes
}

func TestEachCodeHasItsPageItsScenarioOrLogAndATestOfItsFix(t *testing.T) {
	mended := map[finding.Code]bool{}
	for _, s := range scenarios() {
		for _, code := range s.planted {
			mended[code] = true
		}
	}
	logs := logged(t)
	for _, e := range finding.Catalogue() {
		page, ok := finding.PageOf(e.Code)
		if !ok || page.Evidence == "" || page.Success == "" || e.Code != finding.NotModules && len(page.Fixes) == 0 {
			t.Errorf("%s has no whole page", e.Code)
		}
		who, others := byOthers[e.Code]
		why, waits := notMended[e.Code]
		switch {
		case mended[e.Code] && (others || waits):
			t.Errorf("%s has a scenario, in which its fix is tried: take it out of the list (%s%s)", e.Code, who, why)
		case mended[e.Code] && slices.Contains(notYet, e.Code):
			t.Errorf("%s has a scenario: take it out of notYet", e.Code)
		case slices.Contains(notYet, e.Code):
		case others && waits:
			t.Errorf("%s is in both lists", e.Code)
		case others:
			if who == "" {
				t.Errorf("%s: who shows it?", e.Code)
			}
		case waits && !logs[e.Code]:
			t.Errorf("%s has neither a scenario nor an output in the corpus of explain", e.Code)
		case waits && why == "":
			t.Errorf("%s: why is its fix not tried?", e.Code)
		case !mended[e.Code] && !waits:
			t.Errorf("%s: no scenario tries its fix: plant it, or say in notMended why not", e.Code)
		}
	}
	for code := range byOthers {
		if _, ok := finding.Lookup(code); !ok {
			t.Errorf("%s is no code", code)
		}
	}
}

func TestTheTableTellsWhatWasPastedAndWhatWasMissed(t *testing.T) {
	rep := newReport([]*result{
		{Name: "a", Kind: "single", Title: "one | two", Comes: true, Rounds: []round{{By: "doctor", Code: "SL-NET-001", Pasted: []string{"export A='x|y'", "cp /tmp/lab/123/company.crt b"}, Filled: "FILE"}}},
		{Name: "b", Kind: "double", Title: "both", Rounds: []round{{By: "explain", Code: "SL-SSH-001", ByHand: "the key is loaded"}, {By: "doctor", Code: "SL-DNS-001"}}, Misses: []string{"after the fix, it fails"}},
		{Name: "c", Kind: "healthy", Title: "well"},
	}, 0)
	text := rep.markdown()
	for _, want := range []string{
		"3 scenarios: 1 with one fault, 1 with two, 1 in which nothing is wrong. 1 are not as they must be",
		"| one \\| two; *modules come* |  | SL-NET-001 | pasted: `export A='x\\|y'` `cp …/company.crt b` (FILE filled in) | passes |",
		"| both |  | SL-SSH-001 (explain), then SL-DNS-001 | by hand: the key is loaded; then pasted:  | ✗ after the fix, it fails |",
		"| well |  | nothing to say |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}
