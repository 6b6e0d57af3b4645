package main

import (
	"archive/zip"
	"context"
	"go/build"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

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
	all      []*candidate
	versions map[module.Version]*candidate
	provides map[string][]*candidate // by the path that go.mod has
	reached  map[string]bool         // packages
	dark     bool                    // what a module past us imports cannot be known, so all are needed
}

// A candidate is a version that may be needed.
type candidate struct {
	version module.Version
	zip     *goproxy.Request // nil if that is in the module cache, or does not come by us
	needed  bool
	bare    bool    // go.sum has no checksum of its zip, so the go command does not take it
	coming  bool    // its zip is not fetched yet
	unread  []place // what is needed of it and not read yet
}

// A place is where to look for a package, or for those of a pattern: in the module that go.mod
// calls name.
type place struct{ name, pkg string }

// newNeeds begins with nothing that is needed. A zip that is wanted tells of its imports
// when it is fetched; of others, their zip in the module cache or what is unpacked there.
func newNeeds(p *checkout, c *build.Context, open func(goproxy.Request) (*store.Blob, error)) *needs {
	n := &needs{build: c, open: open, cache: p.cache, versions: map[module.Version]*candidate{}, provides: map[string][]*candidate{}, reached: map[string]bool{}}
	names := map[module.Version][]string{}
	for old, by := range p.replaced {
		for _, v := range by {
			names[v] = append(names[v], old)
		}
	}
	least := map[string]string{} // of what go.mod names
	for _, v := range p.named {
		if names[v] == nil && (least[v.Path] == "" || semver.Compare(least[v.Path], v.Version) < 0) {
			least[v.Path] = v.Version
		}
	}
	for i, v := range slices.Concat(p.zips, p.named) {
		if n.versions[v] != nil || names[v] == nil && least[v.Path] != "" && semver.Compare(v.Version, least[v.Path]) < 0 {
			continue
		}
		c := &candidate{version: v, bare: i >= len(p.zips)}
		n.all = append(n.all, c)
		n.versions[v] = c
		for _, name := range append(names[v], v.Path) {
			n.provides[name] = append(n.provides[name], c)
		}
	}
	for _, req := range p.wanted {
		if c := n.versions[req.Module]; c != nil && req.Kind == goproxy.Zip {
			c.zip, c.coming = &req, true
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
	if c.coming = false; !c.needed {
		return nil
	}
	return n.follow(nil, []*candidate{c})
}

// imported takes note of what a package of the project imports, and returns the zips that it
// shows to be needed.
func (n *needs) imported(pkgs []string) []goproxy.Request {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.follow(pkgs, nil)
}

// asked takes note of a package on the command line, or of a pattern of packages, and returns
// the zips that it shows to be needed.
func (n *needs) asked(arg string) []goproxy.Request {
	if !strings.Contains(arg, "...") {
		return n.imported([]string{arg})
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	base, _, _ := strings.Cut(arg, "...")
	var ready []*candidate
	for name, by := range n.provides {
		if !strings.HasPrefix(name, base) && !strings.HasPrefix(base, name+"/") && name+"/" != base {
			continue
		}
		for _, c := range by {
			if !c.bare {
				c.unread = append(c.unread, place{name, arg})
				ready = append(ready, c)
			}
		}
	}
	return n.follow(nil, ready)
}

// follow returns the zips of what is needed with packages, and with what is still unread of
// versions. n.mu is held, but not while a zip is read.
func (n *needs) follow(pkgs []string, ready []*candidate) (zips []goproxy.Request) {
	need := func(c *candidate) {
		if !c.needed && c.zip != nil {
			zips = append(zips, *c.zip)
		}
		c.needed = true
	}
	for !n.dark && len(pkgs)+len(ready) > 0 {
		for _, pkg := range pkgs {
			if n.reached[pkg] || module.CheckImportPath(pkg) != nil {
				continue
			}
			n.reached[pkg] = true
			// The go command looks into every module whose path begins that of the package.
			found := false
			for name := pkg; name != "."; name = path.Dir(name) {
				for _, c := range n.provides[name] {
					if c.bare && found {
						continue
					}
					found = true
					c.unread = append(c.unread, place{name, pkg})
					ready = append(ready, c)
				}
			}
		}
		pkgs = nil
		for _, c := range ready {
			need(c)
			if c.coming || len(c.unread) == 0 {
				continue
			}
			places := c.unread
			c.unread = nil
			found, err := func() ([]string, error) {
				n.mu.Unlock()
				defer n.mu.Lock()
				return n.read(c, places)
			}()
			if err != nil {
				n.dark = true
				for _, c := range n.all {
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

// read finds out what packages of a version import.
func (n *needs) read(c *candidate, places []place) ([]string, error) {
	req := goproxy.Request{Kind: goproxy.Zip, Module: c.version}
	if c.zip != nil {
		b, err := n.open(req)
		if err != nil {
			return nil, nil // the store could not keep it: what follows is left to the go command
		}
		defer b.Close()
		return zipImports(b, b.Record.Size, c.version, n.build, places)
	}
	f, err := os.Open(filepath.Join(n.cache, "cache", "download", filepath.FromSlash(req.Path())))
	if err != nil {
		return n.unpacked(c, places)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	found, err := zipImports(f, fi.Size(), c.version, n.build, places)
	if err != nil {
		return n.unpacked(c, places) // the go command needs no more than that
	}
	return found, nil
}

// unpacked reads where the go command unpacks a version.
func (n *needs) unpacked(c *candidate, places []place) (found []string, err error) {
	name, err := module.EscapePath(c.version.Path)
	if err != nil {
		return nil, err
	}
	version, err := module.EscapeVersion(c.version.Version)
	if err != nil {
		return nil, err
	}
	top := filepath.Join(n.cache, filepath.FromSlash(name)+"@"+version)
	wanted := among(places)
	err = filepath.WalkDir(top, func(dir string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(top, dir)
		if rel == "." {
			rel = ""
		}
		if err == nil && wanted(filepath.ToSlash(rel)) {
			pkg, _ := n.build.ImportDir(dir, 0) // beside an error is what could be read
			found = append(found, pkg.Imports...)
		}
		return err
	})
	return found, err
}

// among returns what tells whether the package in a directory of a module is one that is looked
// for. As the go command has it, patterns leave out testdata and the like.
func among(places []place) func(dir string) bool {
	dirs := map[string]bool{}
	type pattern struct {
		name string
		re   *regexp.Regexp
	}
	var patterns []pattern
	for _, p := range places {
		if strings.Contains(p.pkg, "...") {
			re := strings.ReplaceAll(regexp.QuoteMeta(p.pkg), `\.\.\.`, `.*`)
			if short, ok := strings.CutSuffix(re, "/.*"); ok {
				re = short + "(/.*)?"
			}
			patterns = append(patterns, pattern{p.name, regexp.MustCompile(`^` + re + `$`)})
		} else {
			dirs[strings.TrimPrefix(p.pkg[len(p.name):], "/")] = true
		}
	}
	return func(dir string) bool {
		if dirs[dir] {
			return true
		}
		return !slices.ContainsFunc(strings.Split(dir, "/"), skipped) &&
			slices.ContainsFunc(patterns, func(p pattern) bool { return p.re.MatchString(path.Join(p.name, dir)) })
	}
}

// zipImports are what packages in a module's zip import, without their tests.
func zipImports(r io.ReaderAt, size int64, m module.Version, c *build.Context, places []place) ([]string, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, err
	}
	wanted := among(places)
	files := map[string]map[string]*zip.File{} // by directory and name; nil if not wanted
	for _, f := range z.File {
		name, ok := strings.CutPrefix(f.Name, m.Path+"@"+m.Version+"/")
		if !ok || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		dir, base := path.Split(name)
		dir = strings.TrimSuffix(dir, "/")
		in, ok := files[dir]
		if !ok {
			if wanted(dir) {
				in = map[string]*zip.File{}
			}
			files[dir] = in
		}
		if in != nil {
			in[base] = f
		}
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
	for dir, of := range files {
		if of == nil {
			continue
		}
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
// tests, as c says: of each what no other before imports. What cannot be read is left out: the
// go command will complain of it.
func imports(ctx context.Context, dirs []string, c *build.Context, tell func(pkgs []string)) {
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
			names := slices.DeleteFunc(pkg.Imports, func(name string) bool { return seen[name] })
			for _, name := range names {
				seen[name] = true
			}
			tell(names)
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
