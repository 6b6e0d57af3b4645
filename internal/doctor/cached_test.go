package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goenv"
)

func TestWhatThereWasNoTimeToReadOfTheModuleCacheIsSaidAndIsNotCalledWellReadOrUnknown(t *testing.T) {
	dir := t.TempDir()
	m := module.Version{Path: "one.test/a", Version: "v1.0.0"}
	at := filepath.Join(dir, "cache", "download", "one.test", "a", "@v")
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"v1.0.0.zip", "v1.0.0.ziphash"} {
		if err := os.WriteFile(filepath.Join(at, name), []byte("h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := &Subject{Settings: goenv.Load([]string{"GOMODCACHE=" + dir}, nil, "", ""), Selected: []module.Version{m}, Getenv: func(string) string { return "" }}
	if out := s.cached(t.Context()); out.State != Fail {
		t.Errorf("with all the time it is %s: %s", out.State, out.Text)
	}
	s.Limits.Read = time.Nanosecond
	if out := s.cached(t.Context()); out.State != OK || !strings.HasPrefix(out.Text, "0 versions are as they came; 1 other was not read to the end") {
		t.Errorf("without time it is %s: %s", out.State, out.Text)
	}
}
