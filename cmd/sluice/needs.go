package main

import (
	"archive/zip"
	"context"
	"go/build"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/store"
)

// needs finds out which of the modules that a project names a build needs that is not one
// of tests: those that may have the packages that the project's packages import, those
// with what these import, and so on, as each zip tells once it is there. Of what go.mod
// names that leaves out what only tests, tools, and other systems need. It is safe for
// concurrent use.
//
// It is a guess that costs nothing but time where it is wrong: the go command asks for what
// it needs itself.
type needs struct {
	build *build.Context
	open  func(goproxy.Request) (*store.Blob, error) // a zip that was fetched
	cache string                                     // GOMODCACHE

	mu       sync.Mutex // guards the following
	versions map[module.Version]*candidate
	provides map[string][]*candidate // by the path that go.mod has
	reached  map[string]bool         // packages and patterns
	dark     bool                    // what one of them imports cannot be known, so all are needed
}

// A candidate is a version that may be needed.
type candidate struct {
	version module.Version
	zip     *goproxy.Request // nil if that is at hand, or does not come by us
	needed  bool
	bare    bool     // go.sum has no checksum of its zip, so no package is known to be in it
	here    bool     // its zip can be read, or never can by us
	unread  []string // directories of packages that are needed, "" is that of the module; everything is all
}

// everything stands for all packages of a module.
const everything = "..."

// newNeeds begins with nothing that is needed. A zip that is wanted tells of its imports
// when it is fetched; others are read in the module cache.
func newNeeds(p *checkout, c *build.Context, open func(goproxy.Request) (*store.Blob, error)) *needs {
	n := &needs{build: c, open: open, cache: p.cache, versions: map[module.Version]*candidate{}, provides: map[string][]*candidate{}, reached: map[string]bool{}}
	names := map[module.Version][]string{}
	for old, by := range p.replaced {
		for _, v := range by {
			names[v] = append(names[v], old)
		}
	}
	for i, v := range slices.Concat(p.zips, p.named) {
		if n.versions[v] != nil {
			continue
		}
		c := &candidate{version: v, bare: i >= len(p.zips), here: true}
		n.versions[v] = c
		for _, name := range append(names[v], v.Path) {
			n.provides[name] = append(n.provides[name], c)
		}
	}
	for _, req := range p.wanted {
		if c := n.versions[req.Module]; c != nil && req.Kind == goproxy.Zip {
			c.zip, c.here = &req, false
		}
	}
	return n
}

// fetched takes note of a file that is there, and returns the zips that it shows to be
// needed.
func (n *needs) fetched(f mirror.Fetched) []goproxy.Request {
	if f.Request.Kind != goproxy.Zip || f.Err != nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.versions[f.Request.Module]
	if c == nil {
		return nil
	}
	c.here = true
	return n.follow(nil, []*candidate{c})
}

// imported takes note of an import of a package of the project, or of a pattern of packages
// on the command line, and returns the zips that it shows to be needed.
func (n *needs) imported(pkg string) []goproxy.Request {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.follow([]string{pkg}, nil)
}

// follow returns the zips of what is needed with packages, and with what is still unread of
// versions that are here. n.mu is held, but not while a zip is read.
func (n *needs) follow(pkgs []string, ready []*candidate) (zips []goproxy.Request) {
	need := func(c *candidate) {
		if !c.needed && c.zip != nil {
			zips = append(zips, *c.zip)
		}
		c.needed = true
	}
	for !n.dark && len(pkgs)+len(ready) > 0 {
		for _, pkg := range pkgs {
			if n.reached[pkg] {
				continue
			}
			n.reached[pkg] = true
			found := false
			for name, dir := range n.dirs(pkg) {
				for _, c := range n.provides[name] {
					if c.bare && found {
						continue
					}
					found = true
					need(c)
					c.unread = append(c.unread, dir)
					ready = append(ready, c)
				}
			}
		}
		pkgs = nil
		for _, c := range ready {
			if !c.here || len(c.unread) == 0 {
				continue
			}
			dirs := c.unread
			c.unread = nil
			n.mu.Unlock()
			found, err := n.read(c, dirs)
			n.mu.Lock()
			if err != nil {
				n.dark = true
				for _, c := range n.versions {
					need(c)
				}
				return zips
			}
			pkgs = append(pkgs, found...)
		}
		ready = nil
	}
	return zips
}

// dirs are the paths of modules where the go command looks for a package, the longest first,
// each with the directory where the package is if it is there; and the modules with packages
// of a pattern. n.mu is held.
func (n *needs) dirs(pkg string) iter.Seq2[string, string] {
	return func(yield func(name, dir string) bool) {
		base, _, pattern := strings.Cut(pkg, "...")
		if !pattern {
			for name := pkg; name != "." && name != "/"; name = path.Dir(name) {
				if !yield(name, strings.TrimPrefix(pkg[len(name):], "/")) {
					return
				}
			}
			return
		}
		base = strings.TrimSuffix(base, "/")
		for name := range n.provides {
			if base == "" || name == base || strings.HasPrefix(name, base+"/") || strings.HasPrefix(base, name+"/") {
				if !yield(name, everything) {
					return
				}
			}
		}
	}
}

// read finds out what the packages in directories of a version import.
func (n *needs) read(c *candidate, dirs []string) ([]string, error) {
	req := goproxy.Request{Kind: goproxy.Zip, Module: c.version}
	if c.zip != nil {
		b, err := n.open(req)
		if err != nil {
			return nil, nil // it was not kept, nor would others be
		}
		defer b.Close()
		return zipImports(b, b.Record.Size, c.version, n.build, dirs)
	}
	f, err := os.Open(filepath.Join(n.cache, "cache", "download", filepath.FromSlash(req.Path())))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return zipImports(f, fi.Size(), c.version, n.build, dirs)
}

// zipImports are what packages in a module's zip import, without their tests.
func zipImports(r io.ReaderAt, size int64, m module.Version, c *build.Context, dirs []string) ([]string, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, err
	}
	want := map[string]bool{}
	for _, dir := range dirs {
		want[dir] = true
	}
	files := map[string]map[string]*zip.File{} // by directory and name
	for _, f := range z.File {
		name, ok := strings.CutPrefix(f.Name, m.Path+"@"+m.Version+"/")
		if !ok || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		dir, base := path.Split(name)
		dir = strings.TrimSuffix(dir, "/")
		if !want[dir] && (!want[everything] || slices.ContainsFunc(strings.Split(dir, "/"), skipped)) {
			continue
		}
		if files[dir] == nil {
			files[dir] = map[string]*zip.File{}
		}
		files[dir][base] = f
	}
	in := *c
	in.GOROOT, in.GOPATH = "", ""
	in.JoinPath, in.IsAbsPath = path.Join, path.IsAbs
	in.HasSubdir = func(_, _ string) (string, bool) { return "", false }
	in.IsDir = func(name string) bool { return files[strings.TrimPrefix(name, "/")] != nil }
	in.ReadDir = func(name string) (list []fs.FileInfo, err error) {
		for _, f := range files[strings.TrimPrefix(name, "/")] {
			list = append(list, f.FileInfo())
		}
		return list, nil
	}
	in.OpenFile = func(name string) (io.ReadCloser, error) {
		dir, base := path.Split(name)
		if f := files[strings.Trim(dir, "/")][base]; f != nil {
			return f.Open()
		}
		return nil, fs.ErrNotExist
	}
	found := map[string]bool{}
	for dir := range files {
		pkg, _ := in.ImportDir("/"+dir, 0) // beside an error is what could be read
		for _, name := range pkg.Imports {
			found[name] = true
		}
	}
	return slices.Collect(maps.Keys(found)), nil
}

// lacks reports whether there is a zip that may be needed and is not at hand.
func (n *needs) lacks() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.versions {
		if c.zip != nil {
			return true
		}
	}
	return false
}

// imports tells what the packages in the directories and below import, without their
// tests, as c says. What cannot be read is left out: the go command will complain of it.
func imports(ctx context.Context, dirs []string, c *build.Context, tell func(pkg string)) {
	seen := map[string]bool{}
	for _, top := range dirs {
		// With a separator at its end the directory itself may be a symbolic link.
		filepath.WalkDir(filepath.Clean(top)+string(filepath.Separator), func(dir string, d fs.DirEntry, err error) error {
			switch {
			case ctx.Err() != nil:
				return fs.SkipAll
			case err != nil || !d.IsDir():
				return nil
			case filepath.Clean(dir) != filepath.Clean(top) && leftOut(dir, d.Name()):
				return fs.SkipDir
			}
			pkg, _ := c.ImportDir(dir, 0) // beside an error is what could be read
			for _, name := range pkg.Imports {
				if !seen[name] {
					seen[name] = true
					tell(name)
				}
			}
			return nil
		})
	}
}

// leftOut reports whether ./... leaves a directory out.
func leftOut(dir, name string) bool {
	if skipped(name) {
		return true
	}
	_, err := os.Stat(filepath.Join(dir, "go.mod")) // another module
	return err == nil
}

// skipped reports whether ./... leaves out directories of a name.
func skipped(name string) bool {
	return name == "testdata" || name == "vendor" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")
}
