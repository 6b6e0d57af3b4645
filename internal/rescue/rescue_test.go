package rescue

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func archives(t testing.TB, files map[string]string) map[string][]byte {
	var z, tb, g bytes.Buffer
	zw, tw := zip.NewWriter(&z), tar.NewWriter(&tb)
	for name, text := range files {
		w, err := zw.Create(name)
		if err == nil {
			_, err = io.WriteString(w, text)
		}
		if err == nil {
			err = tw.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(len(text)), Mode: 0o644})
		}
		if err == nil {
			_, err = io.WriteString(tw, text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	gw := gzip.NewWriter(&g)
	if err := errors.Join(zw.Close(), tw.Close()); err != nil {
		t.Fatal(err)
	}
	gw.Write(tb.Bytes())
	gw.Close()
	return map[string][]byte{"zip": z.Bytes(), "tar": tb.Bytes(), "tar.gz": g.Bytes()}
}

func TestATreeIsFoundInEveryArchiveAndBelowWhateverStandsAroundIt(t *testing.T) {
	for _, prefix := range []string{"", "bundle/", "team/bundle/", "pkg/mod/cache/download/", "x/cache/download/"} {
		for kind, data := range archives(t, map[string]string{prefix + "example.com/m/@v/v1.0.0.mod": "module example.com/m\n"}) {
			dir := t.TempDir()
			file := filepath.Join(t.TempDir(), "bundle")
			os.WriteFile(file, data, 0o666)
			if err := Unpack(t.Context(), file, dir); err != nil {
				t.Errorf("%s with %q: %v", kind, prefix, err)
				continue
			}
			tree, err := TreeIn(dir)
			if want := filepath.Join(dir, filepath.FromSlash(prefix)); err != nil || tree != want {
				t.Errorf("%s with %q: TreeIn = %s, %v; want %s", kind, prefix, tree, err, want)
			}
		}
	}
	if _, err := TreeIn(t.TempDir()); !errors.Is(err, ErrNoModules) {
		t.Errorf("an empty directory: %v", err)
	}
}

func TestNoArchiveLeadsOutOfItsDirectory(t *testing.T) {
	for _, name := range []string{"../x", "a/../../x", "/etc/x"} {
		for kind, data := range archives(t, map[string]string{name: "x"}) {
			dir := filepath.Join(t.TempDir(), "in")
			os.Mkdir(dir, 0o777)
			file := filepath.Join(t.TempDir(), "bundle")
			os.WriteFile(file, data, 0o666)
			if err := Unpack(t.Context(), file, dir); err == nil {
				t.Errorf("%s with %q was unpacked", kind, name)
			}
			if entries, _ := os.ReadDir(filepath.Dir(dir)); len(entries) != 1 {
				t.Errorf("%s with %q left something outside", kind, name)
			}
		}
	}
}

func FuzzUnpack(f *testing.F) {
	for _, data := range archives(f, map[string]string{"a.example/@v/list": "v1.0.0\n", "b": ""}) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		above := t.TempDir()
		dir := filepath.Join(above, "in")
		os.Mkdir(dir, 0o777)
		file := filepath.Join(t.TempDir(), "bundle")
		os.WriteFile(file, data, 0o666)
		Unpack(t.Context(), file, dir)
		if entries, _ := os.ReadDir(above); len(entries) != 1 {
			t.Errorf("something is outside")
		}
	})
}

func TestAPageShowsWhatServersSayAsText(t *testing.T) {
	i := New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), "/home/dev/`app`|x", []string{"go", "build"})
	i.Broken = []Broken{{Code: "SL-SRC-005", Title: "a source fails", About: []string{"a`b"}, Evidence: []string{"<script>alert(1)</script> [x](http://bad) | *y*"}}}
	i.Left = Advise(i.Left, "", "wait", "go mod download")
	i.End(Rescued, "it works", time.Second)
	var b strings.Builder
	if err := i.WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"<script", "[x](", " | *y*"} {
		if strings.Contains(b.String(), bad) {
			t.Errorf("the page has %q:\n%s", bad, b.String())
		}
	}
	for _, want := range []string{"# Modules could not be had: 2026-01-02 03:04 UTC", "| Outcome | rescued |", "since when is not known", "      go mod download\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the page lacks %q:\n%s", want, b.String())
		}
	}
}

func TestAPageSaysThatModulesCouldNotBeHadOnlyWhereThatWasSo(t *testing.T) {
	for _, x := range []struct {
		outcome Outcome
		broken  bool
		begins  string
	}{
		{Rescued, true, PageBegins}, {Failed, true, PageBegins}, {Failed, false, PageBegins}, {Interrupted, true, PageBegins}, {DryRun, true, PageBegins},
		{Well, false, WellPageBegins}, {Well, true, WellPageBegins}, {DryRun, false, WellPageBegins},
	} {
		i := New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), "/home/dev/app", []string{"go", "build"})
		if x.broken {
			i.Broken = []Broken{{Code: "SL-SRC-005", Title: "a source fails"}}
		}
		i.End(x.outcome, "that is how it ended", time.Second)
		var b strings.Builder
		if err := i.WriteMarkdown(&b); err != nil || !strings.HasPrefix(b.String(), x.begins+"2026-01-02 03:04 UTC\n") {
			t.Errorf("%s, broken %v: the page begins as\n%.80s", x.outcome, x.broken, b.String())
		}
	}
}
