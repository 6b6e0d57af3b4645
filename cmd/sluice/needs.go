package main

import (
	"context"
	"go/build"
	"io/fs"
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
)

// needs finds out which of the modules that a project names a build needs that is not one
// of tests: those that hold what the project's packages import, and those that these
// require, since what they import is in those. Of what go.mod names that leaves out what
// only tests, tools, and other systems need. It is safe for concurrent use.
//
// It is a guess that costs nothing but time where it is wrong: a module that has no go.mod
// says nothing of what it requires, and then the go command asks for that itself.
type needs struct {
	first []goproxy.Request // what is fetched whatever is needed

	mu       sync.Mutex // guards the following
	versions map[module.Version]*candidate
	provides map[string][]*candidate // by the path that go.mod has
	needed   map[string]bool         // such paths
}

// A candidate is a version that may be needed.
type candidate struct {
	zip      *goproxy.Request // nil if that is at hand, or has no checksum in go.sum
	needed   bool
	unknown  bool     // its .mod does not come: it may require anything
	requires []string // the paths that its .mod names, as far as that is known
}

// newNeeds begins with what is wanted but for the zips: the .mod of what may be needed
// first, since they tell what is.
func newNeeds(p *checkout) *needs {
	n := &needs{versions: map[module.Version]*candidate{}, provides: map[string][]*candidate{}, needed: map[string]bool{}}
	names := map[module.Version][]string{}
	for old, by := range p.replaced {
		for _, v := range by {
			names[v] = append(names[v], old)
		}
	}
	for _, v := range slices.Concat(p.zips, p.named) {
		if n.versions[v] != nil {
			continue
		}
		c := &candidate{}
		n.versions[v] = c
		for _, name := range append(names[v], v.Path) {
			n.provides[name] = append(n.provides[name], c)
		}
	}
	var later []goproxy.Request
	comes := map[module.Version]bool{} // its .mod is wanted
	for _, req := range p.wanted {
		switch c := n.versions[req.Module]; {
		case req.Kind == goproxy.Zip:
			c.zip = &req
		case c != nil:
			n.first = append(n.first, req)
			comes[req.Module] = true
		default:
			later = append(later, req)
		}
	}
	n.first = append(n.first, later...)
	for v, c := range n.versions {
		if comes[v] {
			continue
		}
		name := goproxy.Request{Kind: goproxy.Mod, Module: v}.Path()
		if data, err := os.ReadFile(filepath.Join(p.cache, "cache", "download", filepath.FromSlash(name))); err == nil {
			c.read(data)
		} else {
			c.unknown = true // it goes past the proxies
		}
	}
	return n
}

// read takes note of what a .mod requires.
func (c *candidate) read(data []byte) {
	reqs, _ := goproxy.Requirements(data)
	c.requires = make([]string, len(reqs))
	for i, r := range reqs {
		c.requires[i] = r.Path
	}
}

// fetched takes note of a file that is there, and returns the zips that it shows to be
// needed.
func (n *needs) fetched(f mirror.Fetched) []goproxy.Request {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.versions[f.Request.Module]
	if c == nil || f.Request.Kind != goproxy.Mod || f.Err != nil {
		return nil
	}
	c.read(f.Bytes)
	if !c.needed {
		return nil
	}
	return n.need(c.requires)
}

// imported takes note of an import of a package of the project, and returns the zips that
// it shows to be needed.
func (n *needs) imported(pkg string) []goproxy.Request {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.need([]string{pkg})
}

// need returns the zips of what is needed with packages or modules of the paths. What is
// imported is in the module with the longest path that begins its own, but the go command
// looks into the others that do, too. n.mu is held.
func (n *needs) need(names []string) (zips []goproxy.Request) {
	for len(names) > 0 {
		name := names[0]
		names = names[1:]
		if n.needed[name] {
			continue
		}
		n.needed[name] = true
		if up := path.Dir(name); up != name && up != "." {
			names = append(names, up)
		}
		for _, c := range n.provides[name] {
			if c.needed {
				continue
			}
			c.needed = true
			if c.zip != nil {
				zips = append(zips, *c.zip)
			}
			names = append(names, c.requires...)
			if c.unknown {
				names = slices.AppendSeq(names, maps.Keys(n.provides))
			}
		}
	}
	return zips
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
