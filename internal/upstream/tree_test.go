package upstream_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/upstream"
)

func tree(t *testing.T) (*upstream.TreeSource, *modtest.World, string) {
	w := modtest.New(t)
	w.Add("rsc.io/quote", "v1.5.2", nil)
	w.Add("github.com/Azure/x", "v1.0.0", nil)
	dir := filepath.Join(t.TempDir(), "tree")
	w.WriteTree(dir)
	return upstream.NewTreeSource(dir, "file://tree", 0), w, dir
}

func readTree(t *testing.T, s *upstream.TreeSource, req goproxy.Request) (string, error) {
	t.Helper()
	a, err := s.Get(t.Context(), req)
	if err != nil {
		e, ok := errors.AsType[*upstream.Error](err)
		if !ok || e.Stage != upstream.StageLocal || e.Source != "file://tree" || !e.Answered() {
			t.Errorf("%s fails with %#v", req, err)
		}
		return "", err
	}
	defer a.Body.Close()
	data, err := io.ReadAll(a.Body)
	if err != nil || a.Size != int64(len(data)) {
		t.Errorf("%s: %d of %d bytes, %v", req, len(data), a.Size, err)
	}
	return string(data), nil
}

func TestATreeHasWhatItsFilesHave(t *testing.T) {
	s, w, dir := tree(t)
	for _, m := range w.Modules() {
		for kind, want := range map[goproxy.Kind]string{goproxy.Info: string(w.Info(m)), goproxy.Mod: string(w.Mod(m)), goproxy.Zip: string(w.Zip(m))} {
			if got, err := readTree(t, s, goproxy.Request{Kind: kind, Module: m}); err != nil || got != want {
				t.Errorf("%s: %.20q, %v", m, got, err)
			}
		}
	}
	// A large one comes in pieces.
	large := module.Version{Path: "large.test/m", Version: "v1.0.0"}
	w.Big(large.Path, large.Version, 1<<20)
	w.WriteTree(dir)
	if got, err := readTree(t, s, goproxy.Request{Kind: goproxy.Zip, Module: large}); err != nil || got != string(w.Zip(large)) {
		t.Errorf("of a large file %d bytes came, %v", len(got), err)
	}
	if s.Kind() != upstream.Tree || s.Name() != "file://tree" {
		t.Errorf("it calls itself %v %s", s.Kind(), s.Name())
	}
	if err := os.MkdirAll(filepath.Join(dir, "sumdb", "sum.test"), 0o777); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(dir, "sumdb", "sum.test", "latest"), []byte("head"), 0o666)
	for _, p := range []string{"sumdb/sum.test/latest", "/sumdb/sum.test/latest"} {
		a, err := s.GetPath(t.Context(), p)
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		a.Body.Close()
	}
}

func TestAFileThatIsNotInTheTreeDoesNotExist(t *testing.T) {
	s, _, dir := tree(t)
	os.WriteFile(filepath.Join(dir, "afile.test"), []byte("x"), 0o666)
	for _, m := range []module.Version{{Path: "rsc.io/quote", Version: "v1.5.3"}, {Path: "rsc.io/other", Version: "v1.0.0"}, {Path: "afile.test/x", Version: "v1.0.0"}} {
		if _, err := readTree(t, s, goproxy.Request{Kind: goproxy.Mod, Module: m}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", m, err)
		}
	}
}

func TestATreeThatIsNotThereIsTrouble(t *testing.T) {
	s, _, dir := tree(t)
	hidden := dir + ".away"
	if err := os.Rename(dir, hidden); err != nil {
		t.Fatal(err)
	}
	if _, err := readTree(t, s, quote); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Get = %v, which must not be a 404", err)
	}
	os.Rename(hidden, dir)
	if _, err := readTree(t, s, quote); err != nil {
		t.Errorf("the tree has come back, and yet: %v", err)
	}
}

func TestATreeIsNotLeftThroughALink(t *testing.T) {
	s, _, dir := tree(t)
	file := filepath.Join(dir, "rsc.io/quote/@v/v1.5.2.mod")
	outside := filepath.Join(filepath.Dir(dir), "secret.mod")
	os.WriteFile(outside, []byte("module secret"), 0o666)
	for _, target := range []string{outside, "../../../../secret.mod", "/etc/passwd"} {
		os.Remove(file)
		if err := os.Symlink(target, file); err != nil {
			t.Skipf("skipped: links are missing here: %v", err)
		}
		if data, err := readTree(t, s, quote); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a link to %s gives %q, %v", target, data, err)
		}
	}
	os.Remove(file)
	os.Symlink("v1.5.2.info", file)
	if _, err := readTree(t, s, quote); err != nil {
		t.Errorf("a link that stays in the tree is refused: %v", err)
	}
	os.Remove(file)
	os.Symlink("v1.5.2.nothing", file)
	if _, err := readTree(t, s, quote); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a link to nothing: %v", err)
	}
}

func TestWhatIsNoRegularFileIsTrouble(t *testing.T) {
	s, _, dir := tree(t)
	file := filepath.Join(dir, "rsc.io/quote/@v/v1.5.2.mod")
	os.Remove(file)
	if err := os.Mkdir(file, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := readTree(t, s, quote); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory: %v", err)
	}
	os.Remove(file)
	if !mkfifo(file) {
		t.Skipf("skipped: named pipes are missing on %s", runtime.GOOS)
	}
	if _, err := readTree(t, s, quote); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a named pipe: %v", err)
	}
}

func TestATreeIsNotReadForACallerWhoHasGone(t *testing.T) {
	s, _, _ := tree(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Get(ctx, quote); !errors.Is(err, context.Canceled) {
		t.Errorf("Get = %v", err)
	}
}
