//go:build unix

package journal

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Whoever is killed while a file with further names is written leaves a part of either
// text in it.
func TestAFileWithFurtherNamesThatWasWrittenInPartIsSettled(t *testing.T) {
	const before, after, foreign = "A=1, and much more\n", "B=22\n", "somebody else's\n"
	for _, c := range []struct {
		state     State
		now, want string
	}{
		{Begun, before, before},
		{Begun, "B=1, and much more\n", before},
		{Begun, "B=22\nand much more\n", before},
		{Begun, after, after}, // all is there
		{Begun, foreign, foreign},
		{Undoing, after, before},
		{Undoing, "A=22\n", before},
		{Undoing, "A=1, and m", before},
		{Undoing, foreign, foreign},
	} {
		dir := t.TempDir()
		j := In(filepath.Join(dir, "journal"))
		name, other := filepath.Join(dir, "env"), filepath.Join(dir, "other")
		if err := os.WriteFile(name, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Link(name, other); err != nil {
			t.Fatal(err)
		}
		f, err := Plan(name, 0o600, func([]byte, bool) ([]byte, error) { return []byte(after), nil })
		if err != nil {
			t.Fatal(err)
		}
		s, err := j.Do(t.Context(), "use", "what", f)
		if err != nil {
			t.Fatal(err)
		}
		s.State = c.state
		if err := j.write(s); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(c.now), 0o600); err != nil { // where it is
			t.Fatal(err)
		}
		// What was begun is settled first, and then there is none of this command.
		if _, err := j.Undo(t.Context(), "another", false); !errors.Is(err, ErrNothing) {
			t.Errorf("%s, %q: %v", c.state, c.now, err)
		}
		for _, n := range []string{name, other} {
			if data, err := os.ReadFile(n); err != nil || string(data) != c.want {
				t.Errorf("%s, %q: %s has %q, %v; want %q", c.state, c.now, filepath.Base(n), data, err, c.want)
			}
		}
	}
}
