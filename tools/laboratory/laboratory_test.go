//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/modsluice/sluice/internal/finding"
)

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
		if !shown[row] {
			t.Errorf("%s has no scenario", row)
		}
	}
}

// What is unusual and right must not alarm anybody.
func TestEachHealthyLookAlikeHasAScenario(t *testing.T) {
	for name, what := range map[string]string{
		"h-company-ca": "a company's authority done right", "h-split-dns": "split DNS that works", "h-fake-ip": "fake addresses that work", "h-mirror-without-database": "a private mirror without a checksum database",
		"h-proxy-only": "a network with a forward proxy alone", "h-ipv4-only": "IPv4 alone", "h-ipv6-only": "IPv6 alone, with a NAT64", "h-air-gap": "an air gap on purpose",
	} {
		if !slices.ContainsFunc(scenarios(), func(s scenario) bool { return s.name == name && s.kind() == "healthy" }) {
			t.Errorf("%s: no scenario %s shows it", what, name)
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

func TestEachCodeHasItsPageItsScenarioAndATestOfItsFix(t *testing.T) {
	mended := map[finding.Code]bool{}
	for _, s := range scenarios() {
		for _, code := range s.planted {
			mended[code] = true
		}
	}
	for _, e := range finding.Catalogue() {
		page, ok := finding.PageOf(e.Code)
		if !ok || page.Evidence == "" || page.Success == "" || e.Code != finding.NotModules && len(page.Fixes) == 0 {
			t.Errorf("%s has no whole page", e.Code)
		}
		who, others := byOthers[e.Code]
		switch {
		case mended[e.Code] && others:
			t.Errorf("%s has a scenario, in which its fix is tried: take it out of byOthers (%s)", e.Code, who)
		case others && who == "":
			t.Errorf("%s: who shows it?", e.Code)
		case !others && !mended[e.Code]:
			t.Errorf("%s: no scenario shows it and tries its fix", e.Code)
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
		{Name: "a", Kind: "single", Title: "one | two", Comes: true, Took: 5432, Rounds: []round{{By: "doctor", Code: "SL-NET-001", Pasted: []string{"export A='x|y'", "cp /tmp/lab/123/company.crt b"}, Filled: "FILE"}}},
		{Name: "b", Kind: "double", Title: "both", Rounds: []round{{By: "explain", Code: "SL-SSH-001", ByHand: "the key is loaded"}, {By: "doctor", Code: "SL-DNS-001"}}, Misses: []string{"after the fix, it fails"}},
		{Name: "c", Kind: "healthy", Title: "well", Took: 321, Well: 321},
		{Name: "d", Kind: "healthy", Title: "slow", Late: []string{"doctor took 1.6 s"}},
		{Name: "e", Kind: "single", Title: "image", Rounds: []round{{By: "doctor", Code: "SL-BLD-002", Pasted: []string{"RUN apk add git"}, Into: "Dockerfile"}}},
	}, 0)
	text := rep.markdown()
	for _, want := range []string{
		"5 scenarios: 2 with one fault, 1 with two, 2 in which nothing is wrong. 2 are not as they must be",
		"The slowest doctor took 5.4 s, and the slowest that had nothing to say 0.3 s",
		"| one \\| two; *modules come* |  | SL-NET-001 | pasted: `export A='x\\|y'` `cp …/company.crt b` (FILE filled in) | passes | 5.4 |",
		"| both |  | SL-SSH-001 (explain), then SL-DNS-001 | by hand: the key is loaded; then pasted:  | ✗ after the fix, it fails |",
		"| well |  | nothing to say | 0.3 |",
		"| slow |  | ✗ doctor took 1.6 s |",
		"| image |  | SL-BLD-002 | pasted into the Dockerfile: `RUN apk add git` | passes |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
}
