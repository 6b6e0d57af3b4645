package upstream

import (
	"os"
	"path/filepath"
	"testing"
)

func TestATreeThatIsNotThereIsMissingUntilItComes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tree")
	s := NewTreeSource(dir, "file://"+filepath.ToSlash(dir), 0)
	if err := s.Missing(t.Context()); err == nil || err.Error() != "the directory "+dir+" is not there" {
		t.Errorf("without a directory: %v", err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Missing(t.Context()); err == nil || err.Error() != dir+" is a file, and no directory" {
		t.Errorf("with a file in its place: %v", err)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Missing(t.Context()); err != nil {
		t.Errorf("with the directory: %v", err)
	}
}
