package explain

import (
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/modsluice/sluice/internal/finding"
)

// messages are the texts of testdata/messages.txtar, by the cause that they have.
func messages(t testing.TB) []record {
	a, err := txtar.ParseFile("testdata/messages.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var all []record
	for _, f := range a.Files {
		cause, _, _ := strings.Cut(f.Name, "/")
		all = append(all, record{ID: f.Name, Log: string(f.Data), Cause: cause, Family: finding.Cause(cause).Family()})
	}
	return all
}

func TestEveryMessageMeansWhatItsNameSays(t *testing.T) {
	seen := map[finding.Cause]bool{}
	for _, m := range messages(t) {
		if !finding.Cause(m.Cause).Valid() {
			t.Fatalf("%s: %q is no cause", m.ID, m.Cause)
		}
		seen[finding.Cause(m.Cause)] = true
		if got := Text(m.Log); string(got.Cause) != m.Cause {
			t.Errorf("%s: %q (%s) by line %d %q", m.ID, got.Cause, got.Code, got.Number, got.Line)
		}
	}
	for _, c := range finding.Causes() {
		if !seen[c] {
			t.Errorf("no message has the cause %s", c)
		}
	}
}
