package switches_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/modsluice/sluice/internal/switches"
)

// Whatever lies in the file, what comes into force of it is a switch that could
// have been set, and it is the same after another start.
func FuzzOpen(f *testing.F) {
	for _, s := range []string{
		"", "{}", "null", `{"switches":[]}`, `{"switches":[{"switch":"offline","who":"ann","since":"2026-01-01T00:00:00Z"}]}`,
		`{"switches":[{"switch":"source","source":"https://a.example","until":"9999-01-01T00:00:00Z","reason":"moved"}]}`,
		`{"switches":[{"switch":"offline","source":"x"}]}`, `{"switches":[{"switch":"origin"},{"switch":"origin","reason":"twice"}]}`,
		`{"switches":[{"switch":"prefer","source":"a` + "\\u0000" + `"}]}`, `{"switches":[{"switch":"look-ahead","until":"0001-01-01T00:00:01Z"}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "switches.json"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		r := open(t, dir)
		list := r.set.InForce()
		for _, w := range list {
			needs := w.Name == switches.Source || w.Name == switches.Prefer
			text := w.String() + w.By()
			if !slices.Contains(switches.Names(), w.Name) || needs != (w.Subject != "") || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q brought %+v into force", data, w)
			}
		}
		if len(list) > 0 && list[0].Name != switches.LookAhead {
			// One more, which writes the file anew with those of before.
			r.put(switches.Switch{Name: switches.LookAhead, Who: "ann"})
			if again := open(t, dir).set.InForce(); len(again) < len(list) {
				t.Errorf("of %v, %v was left after another start", list, again)
			}
		}
	})
}
