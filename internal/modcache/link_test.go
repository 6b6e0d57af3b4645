//go:build unix

package modcache

import (
	"os"
	"path/filepath"
	"testing"
)

// The go command takes such a link for a file that is not there, downloads it and puts it
// in the place of the link.
func TestALinkThatLeadsNowhereInThePlaceOfAFileIsNoDamage(t *testing.T) {
	for _, suffix := range []string{".zip", ".info", ".mod"} {
		s, m := one(t)
		name := s.at(m, suffix)
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(t.TempDir(), "gone"), name); err != nil {
			t.Fatal(err)
		}
		k, err := Open(Config{Dir: s.dir})
		if err != nil {
			t.Fatal(err)
		}
		r, err := k.Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range r.Damages {
			t.Errorf("%s: %s: %s: %s", suffix, d.Kind, d.File, d.Text)
		}
	}
}

// In the place of an extracted module it keeps the go command from making one.
func TestALinkThatLeadsNowhereInThePlaceOfADirectoryIsInTheWay(t *testing.T) {
	s, m := one(t)
	tree := s.tree(m, "")
	if err := os.RemoveAll(tree); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(t.TempDir(), "gone"), filepath.Clean(tree)); err != nil {
		t.Fatal(err)
	}
	k, err := Open(Config{Dir: s.dir})
	if err != nil {
		t.Fatal(err)
	}
	r, err := k.Check(t.Context())
	if err != nil || len(r.Damages) != 1 || r.Damages[0].Kind != NotADirectory {
		t.Errorf("%v, %v", r.Damages, err)
	}
}
