package explain

import (
	"bufio"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// A record is a labelled output.
type record struct {
	ID, Log, Cause, Family string
	AlsoOK                 []string `json:"also_ok"`
}

func (r record) right(got Result) bool {
	return string(got.Cause) == r.Cause || slices.Contains(r.AlsoOK, string(got.Cause))
}

// ownCorpus are the few labelled outputs that are in every clone.
const ownCorpus = "testdata/labelled.jsonl"

// corpusFile is the labelled outputs of real failures, which lie beside this tree,
// or our own where they do not; SLUICE_FAILURES names others.
func corpusFile() string {
	if name := os.Getenv("SLUICE_FAILURES"); name != "" {
		return name
	}
	const beside = "../../../shared/failures-dev.jsonl"
	if _, err := os.Stat(beside); err != nil {
		return ownCorpus
	}
	return beside
}

func devRecords(t *testing.T) []record {
	all := records(t, corpusFile())
	if all == nil {
		t.Fatalf("%s cannot be read", corpusFile())
	}
	return all
}

// records are the labelled outputs of a file, nil if it cannot be opened.
func records(t *testing.T, name string) []record {
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	var all []record
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 16<<20)
	for sc.Scan() {
		var r record
		if err := json.Unmarshal(sc.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

func TestEveryLabelledOutputIsExplained(t *testing.T) {
	score(t, devRecords(t))
}

// These few are ours, and are in every clone.
func TestOurOwnLabelledOutputsAreExplained(t *testing.T) {
	all := records(t, ownCorpus)
	if len(all) < 8 {
		t.Fatalf("there are %d records", len(all))
	}
	score(t, all)
}

func score(t *testing.T, all []record) {
	right, strict := 0, 0
	for _, r := range all {
		got := Text(r.Log)
		if string(got.Cause) == r.Cause {
			strict++
		}
		if r.right(got) {
			right++
		} else {
			t.Errorf("%s: %q (%s), want %s; line %d %q", r.ID, got.Cause, got.Code, r.Cause, got.Number, got.Line)
		}
		if got.Cause == "not-a-module-problem" && (got.Mend != "" || len(got.Fix) > 0) {
			t.Errorf("%s: a fix is invented: %q %q", r.ID, got.Mend, got.Fix)
		}
	}
	t.Logf("%d of %d right, %d of them as labelled", right, len(all), strict)
}

// occurring are the indices of the rules whose phrase is in one of the texts.
func occurring(g *grammar, logs []string) map[int]bool {
	in := map[int]bool{}
	for _, log := range logs {
		for l := range strings.Lines(log) {
			low := lower(bare(clean([]byte(strings.TrimRight(l, "\r\n")))))
			for _, h := range g.triggers.in(low) {
				if g.rules[h].glob.end(low) >= 0 {
					in[h] = true
				}
			}
		}
	}
	return in
}

// What would be known of a family if none of its labelled outputs had been seen?
// Each phrase that occurs in them, but not in the messages that were made from the
// sources of the programs, is taken away; the rest must still explain nearly all.
// With -v this prints the figures.
func TestFamiliesAreExplainedWithoutTheirOwnOutputs(t *testing.T) {
	all := devRecords(t)
	g := whole()
	var ours []string
	for _, m := range messages(t) {
		ours = append(ours, m.Log)
	}
	known := occurring(g, ours)
	var names []string
	families := map[string][]record{}
	for _, r := range all {
		if families[r.Family] == nil {
			names = append(names, r.Family)
		}
		families[r.Family] = append(families[r.Family], r)
	}
	t.Logf("%-18s %8s %8s %8s %8s", "family", "outputs", "right", "without", "phrases")
	total, left := 0, 0
	for _, name := range names {
		var logs []string
		for _, r := range families[name] {
			logs = append(logs, r.Log)
		}
		theirs := occurring(g, logs)
		var rest []rule
		gone := 0
		for i, r := range g.rules {
			if theirs[i] && !known[i] {
				gone++
				continue
			}
			rest = append(rest, r)
		}
		without := newGrammar(rest)
		right, still := 0, 0
		for _, r := range families[name] {
			if r.right(Text(r.Log)) {
				right++
			}
			if got, err := without.read(strings.NewReader(r.Log)); err == nil && r.right(got) {
				still++
			}
		}
		total, left = total+len(logs), left+still
		t.Logf("%-18s %8d %8d %8d %8d", name, len(logs), right, still, gone)
	}
	t.Logf("%d of %d without what only they show", left, total)
	if left*10 < total*7 {
		t.Errorf("only %d of %d outputs are explained by phrases that other texts have too", left, total)
	}
}
