//go:build linux

package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modsluice/sluice/internal/modtest"
)

// aheadWorld has a graph of modules with and without pruned graphs, with versions
// that are not selected, and one module of which nothing is imported.
func aheadWorld(t *testing.T) *modtest.World {
	w := modtest.New(t)
	pkg := func(path, vers, goVersion string, requires ...string) {
		mod := "module " + path + "\n\ngo " + goVersion + "\n\nrequire (\n"
		src := "package m\n\nimport (\n"
		for _, r := range requires {
			p, _, _ := strings.Cut(r, " ")
			mod += "\t" + r + "\n"
			src += "\t_ \"" + p + "\"\n"
		}
		w.Add(path, vers, modtest.Files{"go.mod": mod + ")\n", "m.go": src + ")\n"})
	}
	for i := range 12 {
		for _, vers := range []string{"v1.0.0", "v1.1.0", "v1.2.0"} {
			pkg(fmt.Sprintf("old.test/leaf%02d", i), vers, "1.16")
		}
	}
	for i := range 8 {
		pkg(fmt.Sprintf("old.test/mid%02d", i), "v1.0.0", "1.16",
			fmt.Sprintf("old.test/leaf%02d v1.%d.0", i, i%3), fmt.Sprintf("old.test/leaf%02d v1.%d.0", i+4, (i+1)%3))
	}
	for i := range 16 {
		requires := []string{fmt.Sprintf("old.test/mid%02d v1.0.0", i%8)}
		if i > 0 {
			requires = append(requires, fmt.Sprintf("new.test/m%02d v1.0.0", i-1))
		}
		pkg(fmt.Sprintf("new.test/m%02d", i), "v1.0.0", "1.21", requires...)
	}
	pkg("new.test/m15", "v1.1.0", "1.21", "new.test/m14 v1.0.0")
	return w
}

// Whatever the go command does, look-ahead asks for no zip that the go command
// would not have asked for, and for nothing twice; and for a download of all it
// is ahead indeed.
func TestLookAheadAsksForNoZipTooMany(t *testing.T) {
	w := aheadWorld(t)
	src := newSource(t, w, nil)
	project := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(project, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module main.test/m\n\ngo 1.21\n\nrequire (\n\tnew.test/m15 v1.0.0\n\tnew.test/m07 v1.0.0\n)\n")
	write("main.go", "package main\n\nimport (\n\t_ \"new.test/m15\"\n\t_ \"new.test/m07\"\n)\n\nfunc main() {}\n")
	golang := func(url string, args ...string) {
		t.Helper()
		dir := t.TempDir()
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Env = append(modtest.GoEnv(t, url, src.DB.GOSUMDB(""), "GOMODCACHE="+filepath.Join(dir, "mod"), "GOFLAGS=-modcacherw"), "GONOSUMDB=*")
		cmd.Dir = project
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	golang(src.URL, "mod", "tidy")
	zips := func() (zips, twice []string) {
		seen := map[string]bool{}
		for _, line := range src.Log() {
			if seen[line] {
				twice = append(twice, line)
			}
			seen[line] = true
			if strings.HasSuffix(line, ".zip") {
				zips = append(zips, line)
			}
		}
		slices.Sort(zips)
		return slices.Compact(zips), twice
	}
	for _, args := range [][]string{
		{"list", "-m", "-json", "all"}, {"list", "-m", "-u", "all"}, {"list", "-m", "-versions", "new.test/m15"}, {"mod", "graph"},
		{"mod", "download"}, {"mod", "download", "new.test/m15@v1.1.0"}, {"build", "-o", os.DevNull, "."}, {"list", "-deps", "."}, {"vet", "."},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			src.Forget()
			golang(src.URL, args...)
			want, _ := zips()
			s := serve(t, src.env, filepath.Join(t.TempDir(), "store"))
			src.Forget()
			golang(s.URL, args...)
			s.stop(t)
			got, twice := zips()
			if !slices.Equal(got, want) {
				t.Errorf("zips asked of the source\n%q\nwant those that the go command needs\n%q", got, want)
			}
			if len(twice) > 0 {
				t.Errorf("asked twice: %q", twice)
			}
		})
	}
}

// A go command that has asked for three zips of all, in the order of go.mod, is
// given the others as fast as the source has them: they need not be asked for.
func TestADownloadOfAllIsFetchedAhead(t *testing.T) {
	w := aheadWorld(t)
	src := newSource(t, w, nil)
	s := serve(t, src.env, filepath.Join(t.TempDir(), "store"))
	c := client(t)
	ask := func(path string) {
		t.Helper()
		if status, _, _, err := fetch(context.Background(), c, s.URL+"/"+path); err != nil || status != 200 {
			t.Fatalf("%s: %d, %v", path, status, err)
		}
	}
	const last = 15
	for i := range last + 1 {
		ask(fmt.Sprintf("new.test/m%02d/@v/v1.0.0.mod", i))
	}
	for i := range last + 1 {
		ask(fmt.Sprintf("new.test/m%02d/@v/v1.0.0.info", i))
	}
	for i := range 3 {
		if n := src.Hits(fmt.Sprintf("new.test/m%02d/@v/v1.0.0.zip", last)); n > 0 {
			t.Errorf("the last zip was fetched after %d", i)
		}
		ask(fmt.Sprintf("new.test/m%02d/@v/v1.0.0.zip", i))
	}
	for i, end := 0, time.Now().Add(patience); i <= last; {
		path := fmt.Sprintf("new.test/m%02d/@v/v1.0.0.zip", i)
		if src.Hits(path) == 1 {
			i++
		} else if time.Now().After(end) {
			t.Fatalf("the source was never asked for %s", path)
		} else {
			time.Sleep(10 * time.Millisecond)
		}
	}
	s.stop(t)
}
