package main

import (
	"bytes"
	"fmt"
	"go/build"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/store"
)

// A needing is a project whose modules are in a world: some come by us, some are in the
// module cache.
type needing struct {
	*needs
	w *modtest.World
	p *checkout
}

// newNeeding has a module for each path. It has packages at its root, in sub and in far,
// which import what imports says for "path", "path/sub" and "path/far". Those of cached are
// in the module cache, or ought to be.
func newNeeding(t *testing.T, imports map[string]string, paths, cached []string) *needing {
	k := &needing{w: modtest.New(t), p: &checkout{cache: t.TempDir()}}
	for _, p := range slices.Concat(paths, cached) {
		files := modtest.Files{}
		for _, dir := range []string{"", "/sub", "/far"} {
			text := "package x\n"
			for _, pkg := range strings.Fields(imports[p+dir]) {
				text += "\nimport _ \"" + pkg + "\"\n"
			}
			files[strings.TrimPrefix(dir+"/x.go", "/")] = text
		}
		files["x_test.go"] = "package x\n\nimport _ \"test.test\"\n"
		files["testdata/x.go"] = "package x\n\nimport _ \"data.test\"\n"
		v := k.w.Add(p, "v1.0.0", files)
		k.p.zips = append(k.p.zips, v)
		if !slices.Contains(cached, p) {
			k.p.wanted = append(k.p.wanted, goproxy.Request{Kind: goproxy.Mod, Module: v}, goproxy.Request{Kind: goproxy.Zip, Module: v})
		}
	}
	k.needs = newNeeds(k.p, &build.Default, func(req goproxy.Request) (*store.Blob, error) {
		data := k.w.Zip(req.Module)
		return &store.Blob{Content: bytes.NewReader(data), Record: store.Record{Size: int64(len(data))}}, nil
	})
	return k
}

// inCache puts a zip into the module cache.
func (k *needing) inCache(t *testing.T, path string, data []byte) {
	req := goproxy.Request{Kind: goproxy.Zip, Module: module.Version{Path: path, Version: "v1.0.0"}}
	file := filepath.Join(k.p.cache, "cache", "download", filepath.FromSlash(req.Path()))
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

// known are the paths that are needed since the project imports a package.
func (k *needing) known(pkg string) string { return zips(k.imported([]string{pkg})) }

// come are the paths that are needed since the zip of one is there.
func (k *needing) come(path string) string {
	return zips(k.fetched(mirror.Fetched{Request: goproxy.Request{Kind: goproxy.Zip, Module: module.Version{Path: path, Version: "v1.0.0"}}}))
}

func zips(reqs []goproxy.Request) string {
	var l []string
	for _, r := range reqs {
		if r.Kind != goproxy.Zip {
			return "not a zip: " + r.Path()
		}
		l = append(l, r.Module.Path)
	}
	slices.Sort(l)
	return strings.Join(l, " ")
}

func TestWhatIsNeededShowsZipByZip(t *testing.T) {
	k := newNeeding(t, map[string]string{
		"a.test":        "b.test/sub fmt",
		"a.test/far":    "f.test",
		"b.test":        "x.test",
		"b.test/sub":    "c.test/m/sub",
		"b.test/far":    "d.test", // nobody imports it
		"c.test/m/sub":  "a.test/far b.test ... b.test/... ../x",
		"k.test/cached": "d.test",
	}, []string{"a.test", "b.test", "c.test", "c.test/m", "d.test", "f.test", "x.test", "test.test", "data.test"}, []string{"k.test/cached"})
	k.inCache(t, "k.test/cached", k.w.Zip(module.Version{Path: "k.test/cached", Version: "v1.0.0"}))
	for _, step := range []struct{ what, got, want string }{
		{"fmt", k.known("fmt"), ""},
		{"a.test", k.known("a.test"), "a.test"},
		{"a.test again", k.known("a.test"), ""},
		{"the zip of a.test", k.come("a.test"), "b.test"},
		{"the zip of b.test", k.come("b.test"), "c.test c.test/m"}, // the go command looks into both
		{"the zip of c.test", k.come("c.test"), ""},
		{"the zip of c.test/m, which wants more of two that are there", k.come("c.test/m"), "f.test x.test"},
		{"a zip of nobody's", k.come("stranger.test"), ""},
		{"what is in the module cache", k.known("k.test/cached"), "d.test"},
	} {
		if step.got != step.want {
			t.Errorf("%s: needed is %q, want %q", step.what, step.got, step.want)
		}
	}
	if !k.lacks() {
		t.Error("nothing may be needed any more")
	}
}

func TestAPatternNeedsAllThatItMayName(t *testing.T) {
	imports := map[string]string{"a.test/m": "b.test", "a.test/m/far": "c.test", "a.test/m/nested": "d.test"}
	paths := []string{"a.test/m", "a.test/m/nested", "a.test/mm", "b.test", "c.test", "d.test", "data.test", "test.test"}
	k := newNeeding(t, imports, paths, nil)
	if got := zips(k.asked("a.test/m/...")); got != "a.test/m a.test/m/nested" {
		t.Errorf("a pattern needs %q", got)
	}
	if got := k.come("a.test/m"); got != "b.test c.test" {
		t.Errorf("what it names in a module needs %q", got)
	}
	if got := k.come("a.test/m/nested"); got != "d.test" {
		t.Errorf("what it names in another needs %q", got)
	}
	for pattern, want := range map[string]string{
		"a.test/m/far/...": "a.test/m then c.test",
		"a.test/.../far":   "a.test/m a.test/m/nested a.test/mm then c.test",
		"a.test/m...":      "a.test/m a.test/m/nested a.test/mm then b.test c.test",
		"b...":             "b.test then ",
		"a.test/m/x/...":   "a.test/m then ",
		"z.test/...":       " then ",
		"a.test/m/far":     "a.test/m then c.test",
	} {
		k := newNeeding(t, imports, paths, nil)
		k.p.named = []module.Version{{Path: "a.test/bare", Version: "v1.0.0"}} // the go command does not take it
		k.needs = newNeeds(k.p, k.build, k.open)
		if got := zips(k.asked(pattern)) + " then " + k.come("a.test/m"); got != want {
			t.Errorf("%s needs %q, want %q", pattern, got, want)
		}
	}
}

// What a module imports that comes past us, or is damaged, is unknown: it may be anything.
func TestWhatCannotBeReadMayNeedAnything(t *testing.T) {
	for what, data := range map[string]string{"is not there": "", "is damaged": "not a zip"} {
		k := newNeeding(t, map[string]string{"a.test": "b.test"}, []string{"a.test", "b.test", "c.test"}, []string{"corp.test/lib"})
		if data != "" {
			k.inCache(t, "corp.test/lib", []byte(data))
		}
		if got := k.known("a.test"); got != "a.test" {
			t.Errorf("a.test needs %q", got)
		}
		if got := k.known("corp.test/lib/pkg"); got != "b.test c.test" {
			t.Errorf("a module whose zip %s needs %q of what is left", what, got)
		}
		if got := k.come("a.test") + k.known("b.test"); got != "" {
			t.Errorf("%q is needed twice", got)
		}
	}
}

// A module without a checksum in go.sum is taken only where the go command may add that, and
// then what it imports is unknown. One below whose path another has the package is none.
func TestAModuleWithoutChecksumIsAskedLast(t *testing.T) {
	k := newNeeding(t, map[string]string{"a.test/m": "b.test", "b.test": "c.test"}, []string{"a.test/m", "b.test", "c.test", "d.test"}, nil)
	k.p.named = []module.Version{{Path: "a.test", Version: "v1.0.0"}, {Path: "bare.test", Version: "v1.0.0"}}
	k.needs = newNeeds(k.p, k.build, k.open)
	if got := k.known("a.test/m"); got != "a.test/m" {
		t.Errorf("a package of a module below one without checksum needs %q", got)
	}
	if got := k.come("a.test/m"); got != "b.test" {
		t.Errorf("a.test/m needs %q", got)
	}
	if got := k.known("bare.test/pkg"); got != "c.test d.test" {
		t.Errorf("a package of a module without checksum needs %q of what is left", got)
	}
}

// What a store did not keep, perhaps for want of room, tells nothing.
func TestWhatIsNotKeptLeadsToNothing(t *testing.T) {
	k := newNeeding(t, map[string]string{"a.test": "b.test"}, []string{"a.test", "b.test", "c.test"}, nil)
	k.open = func(goproxy.Request) (*store.Blob, error) { return nil, fs.ErrNotExist }
	if got := k.known("a.test") + k.come("a.test"); got != "a.test" {
		t.Errorf("needed is %q", got)
	}
}

// What the module cache has unpacked can be read there.
func TestWhatIsUnpackedIsReadThere(t *testing.T) {
	k := newNeeding(t, nil, []string{"b.test", "c.test", "d.test"}, []string{"corp.test/Lib"})
	k.inCache(t, "corp.test/Lib", []byte("not a zip"))
	for dir, pkg := range map[string]string{"": "b.test", "sub": "c.test", "testdata": "d.test"} {
		dir = filepath.Join(k.p.cache, "corp.test", "!lib@v1.0.0", dir)
		if err := os.MkdirAll(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "x.go"), []byte("package x\n\nimport _ \""+pkg+"\"\n"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if got := k.known("corp.test/Lib/sub"); got != "c.test" {
		t.Errorf("a package needs %q", got)
	}
	if got := zips(k.asked("corp.test/Lib/...")); got != "b.test" {
		t.Errorf("all of them need %q more", got)
	}
}

// Of a path that go.mod names no lower version can be selected, whatever go.sum has.
func TestALowerVersionThanGoModNamesIsNotNeeded(t *testing.T) {
	k := newNeeding(t, nil, []string{"a.test"}, nil)
	low := k.w.Add("a.test", "v0.9.0", nil)
	k.p.zips = append(k.p.zips, low)
	k.p.wanted = append(k.p.wanted, goproxy.Request{Kind: goproxy.Zip, Module: low})
	k.p.named = []module.Version{{Path: "a.test", Version: "v1.0.0"}}
	k.needs = newNeeds(k.p, k.build, k.open)
	if got := k.known("a.test"); got != "a.test" {
		t.Errorf("needed is %q", got)
	}
	k.p.replaced = map[string][]module.Version{"old.test": {low}}
	k.needs = newNeeds(k.p, k.build, k.open)
	if got := k.known("old.test"); got != "a.test" {
		t.Errorf("for what it replaces, needed is %q", got)
	}
}

// Zips come while the project is still being read.
func TestWhatIsNeededIsToldOnceWhoeverAsks(t *testing.T) {
	imports := map[string]string{}
	var paths []string
	for i := range 30 {
		paths = append(paths, fmt.Sprintf("m%d.test", i))
		imports[paths[i]] = fmt.Sprintf("m%d.test/sub", (i+1)%30)
		imports[paths[i]+"/sub"] = fmt.Sprintf("m%d.test/sub m%d.test", (i+1)%30, (i+11)%30)
	}
	k := newNeeding(t, imports, paths, nil)
	var mu sync.Mutex
	told := map[string]int{}
	var all sync.WaitGroup
	var tell func(reqs []goproxy.Request)
	tell = func(reqs []goproxy.Request) {
		for _, req := range reqs {
			mu.Lock()
			told[req.Module.Path]++
			mu.Unlock()
			all.Go(func() { tell(k.fetched(mirror.Fetched{Request: req})) })
		}
	}
	for i := range 5 {
		all.Go(func() { tell(k.imported([]string{paths[6*i]})) })
	}
	all.Wait()
	for _, p := range paths {
		if told[p] != 1 {
			t.Errorf("%s was told %d times", p, told[p])
		}
	}
}
