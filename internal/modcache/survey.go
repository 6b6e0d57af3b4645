package modcache

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modsluice/sluice/internal/goproxy"
)

// maxDepth is how deep directories are followed: a module path is no longer, and a
// link may lead back up.
const maxDepth = 100

// A survey is what there is in a cache, and what is damaged of what is no version.
type survey struct {
	k        *Cache
	ctx      context.Context
	versions []module.Version
	lists    []string // the directories @v
	damages  []Damage
	seen     map[module.Version]bool
	lying    map[string]string // what is no directory where one may belong → the module path that it would be part of
}

// survey walks through the directories of a cache. Files are not read.
func (k *Cache) survey(ctx context.Context) *survey {
	s := &survey{k: k, ctx: ctx, seen: map[module.Version]bool{}, lying: map[string]string{}}
	cache := filepath.Join(k.root, "cache")
	if s.directory(cache) {
		lock := &state{k: k}
		lock.regular(filepath.Join(cache, "lock"), 6)
		s.damages = append(s.damages, lock.damages...)
		if s.directory(k.down) {
			s.down(k.down, "", 0)
		}
	}
	s.trees(k.root, "", 0)
	s.inTheWay()
	module.Sort(s.versions)
	return s
}

// above looks at what lies above some versions: the directories and the lock that all
// share.
func (k *Cache) above(ctx context.Context, versions []module.Version) []Damage {
	s := &survey{k: k, ctx: ctx}
	lock := &state{k: k}
	lock.regular(filepath.Join(k.root, "cache", "lock"), 6)
	seen := map[string]bool{k.root: true}
	var look func(dir string) bool
	look = func(dir string) bool { // false if what is below cannot be there
		if seen[dir] {
			return true
		}
		if !look(filepath.Dir(dir)) {
			return false
		}
		seen[dir] = true
		return s.directory(dir)
	}
	for _, m := range versions {
		if st := k.place(m); st != nil && ctx.Err() == nil {
			look(filepath.Dir(st.at))
			look(filepath.Dir(st.tree))
		}
	}
	return append(s.damages, lock.damages...)
}

func (s *survey) add(m module.Version) {
	if !s.seen[m] {
		s.seen[m] = true
		s.versions = append(s.versions, m)
	}
}

func (s *survey) damaged(kind Kind, name, text string) {
	s.damages = append(s.damages, Damage{Kind: kind, File: s.k.rel(name), Text: text})
}

// directory reports whether name is a directory that can be looked into, and tells
// what is the matter with it if it should be one.
func (s *survey) directory(name string) bool {
	fi, err := os.Stat(name)
	if err != nil {
		if l, lerr := os.Lstat(name); lerr == nil && l.Mode()&fs.ModeSymlink != 0 && errors.Is(err, fs.ErrNotExist) {
			s.damaged(NotADirectory, name, "it is a symbolic link that leads nowhere")
		}
		return false
	}
	if !fi.IsDir() {
		s.damaged(NotADirectory, name, "it is "+what(fi)+" where a directory belongs")
		return false
	}
	if !s.k.user.may(fi, 7) {
		s.damaged(Denied, name, s.k.denial(fi, 7))
	}
	return true
}

// foreign reports whether a name cannot be an element of an escaped path: upper case
// is written as ! and the small letter.
func foreign(name string) bool {
	bang := false
	for _, r := range name {
		if r >= 'A' && r <= 'Z' || bang && (r < 'a' || r > 'z') {
			return true
		}
		bang = r == '!'
	}
	return bang
}

// misnamed reports whether an escaped path can be that of a module, but for upper case
// that is not escaped: a module path begins with a domain, in small letters.
func misnamed(esc string) bool {
	domain, _, _ := strings.Cut(esc, "/")
	return strings.Contains(domain, ".") && !foreign(domain)
}

// holdsModules reports whether a directory holds modules and nothing else, so that it is
// no matter of somebody else's: what is removed with it cannot be had again.
func holdsModules(dir string) (ok bool) {
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			ok = false
			return fs.SkipAll
		}
		_, vers, at := strings.Cut(d.Name(), "@")
		if at && (vers == "v" || semver.IsValid(strings.ToLower(vers))) {
			ok = true
			return fs.SkipDir
		}
		return nil
	})
	return ok
}

// entries are those of a directory that can be read.
func (s *survey) entries(dir string, depth int) []fs.DirEntry {
	if s.ctx.Err() != nil || depth > maxDepth {
		return nil
	}
	entries, _ := os.ReadDir(dir) // that it cannot be read was told by directory
	return entries
}

// child looks at what lies in a directory of module paths, and reports whether it is
// a directory to go into. A link to one is followed: somebody has put it on another
// disk. What else lies there is nobody's matter (a README, a go.mod that keeps
// ./... out), unless modules belong below it.
func (s *survey) child(dir, esc string, e fs.DirEntry) bool {
	name := filepath.Join(dir, e.Name())
	if fi, err := os.Stat(name); e.IsDir() || err == nil && fi.IsDir() {
		return s.directory(name)
	}
	if modPath, err := module.UnescapePath(path.Join(esc, e.Name())); err == nil {
		s.lying[name] = modPath
	}
	return false
}

// inTheWay tells of what lies where the directories of modules belong that are
// known: there is something of them, or go.sum has them.
func (s *survey) inTheWay() {
	for name, at := range s.lying {
		below := func(m module.Version) bool { return m.Path == at || strings.HasPrefix(m.Path, at+"/") }
		known := slices.ContainsFunc(s.versions, below)
		for m := range s.k.c.Sums {
			known = known || below(m)
		}
		if known {
			s.directory(name)
		}
	}
}

// down walks through cache/download.
func (s *survey) down(dir, esc string, depth int) {
	for _, e := range s.entries(dir, depth) {
		name := filepath.Join(dir, e.Name())
		switch {
		case esc == "" && e.Name() == "sumdb":
		case e.Name() == "@v":
			if s.directory(name) {
				s.module(name, esc)
			}
		case foreign(e.Name()):
			if misnamed(path.Join(esc, e.Name())) && holdsModules(name) {
				s.damaged(Unreachable, name, "no module path is escaped to this name, so the go command never looks here")
			}
		case s.child(dir, esc, e):
			s.down(name, path.Join(esc, e.Name()), depth+1)
		}
	}
}

// suffixes are those of the files of a version.
var suffixes = []string{".info", ".mod", ".zip", ".ziphash", ".lock", ".partial"}

// module looks at the names in a directory @v.
func (s *survey) module(dir, esc string) {
	modPath, err := module.UnescapePath(esc)
	if err != nil {
		return // nothing of the go command's
	}
	s.lists = append(s.lists, dir)
	for _, e := range s.entries(dir, 0) {
		v := e.Name()
		ext := path.Ext(v)
		if ext == ".tmp" {
			v = strings.TrimRight(strings.TrimSuffix(v, ext), "0123456789")
			ext = path.Ext(v)
		}
		if !slices.Contains(suffixes, ext) {
			continue
		}
		v = strings.TrimSuffix(v, ext)
		if s.version(modPath, v) || !foreign(v) || !semver.IsValid(strings.ToLower(v)) {
			continue
		}
		s.damaged(Unreachable, filepath.Join(dir, e.Name()), "no version is escaped to this name, so the go command never looks at it")
	}
}

// version takes note of an escaped version, if it is one.
func (s *survey) version(modPath, esc string) bool {
	vers, err := module.UnescapeVersion(esc)
	m := module.Version{Path: modPath, Version: vers}
	if err != nil || !goproxy.IsCanonical(m) {
		return false
	}
	s.add(m)
	return true
}

// trees walks through what is extracted.
func (s *survey) trees(dir, esc string, depth int) {
	for _, e := range s.entries(dir, depth) {
		name := filepath.Join(dir, e.Name())
		elem, vers, isTree := strings.Cut(e.Name(), "@")
		switch {
		case esc == "" && e.Name() == "cache":
		case isTree:
			vers, _, _ = strings.Cut(vers, ".tmp-")
			modPath, err := module.UnescapePath(path.Join(esc, elem))
			if err == nil && s.version(modPath, vers) {
				continue
			}
			if e.IsDir() && misnamed(path.Join(esc, elem)) && (foreign(elem) || foreign(vers)) && semver.IsValid(strings.ToLower(vers)) {
				s.damaged(Unreachable, name, "no module version is escaped to this name, so the go command never looks here")
			}
		case foreign(e.Name()):
			if misnamed(path.Join(esc, e.Name())) && holdsModules(name) {
				s.damaged(Unreachable, name, "no module path is escaped to this name, so the go command never looks here")
			}
		case s.child(dir, esc, e):
			s.trees(name, path.Join(esc, e.Name()), depth+1)
		}
	}
}

// listAge is for how long a list may lack a version that has come: the go command
// writes the one after the other.
const listAge = time.Minute

// checkList compares the list of a directory @v with what is there. The go command
// does not read it; who serves the directory as a GOPROXY does.
func (k *Cache) checkList(dir string) []Damage {
	if len(k.readList(dir)) == 0 {
		return nil
	}
	// The go command writes it in place, under a lock.
	release, busy := k.peek(filepath.Join(dir, "list"))
	if busy {
		return nil
	}
	defer release()
	return k.readList(dir)
}

func (k *Cache) readList(dir string) []Damage {
	name := filepath.Join(dir, "list")
	st := &state{k: k}
	fi, ok := st.regular(name, 6)
	if fi != nil && !ok || len(st.damages) > 0 {
		return st.damages
	}
	want, newest := listOf(dir)
	var data []byte
	if fi != nil {
		var err error
		if data, err = readSmall(name, goproxy.MaxList); err != nil {
			st.damaged(ListDamaged, name, "%v", err)
			return st.damages
		}
	}
	if string(data) == want {
		return nil
	}
	here := map[string]bool{}
	for line := range strings.Lines(want) {
		here[strings.TrimSuffix(line, "\n")] = true
	}
	var gone []string
	for line := range strings.Lines(string(data)) {
		v := strings.TrimSuffix(line, "\n")
		if v == line || module.CanonicalVersion(v) != v || v == "" {
			st.damaged(ListDamaged, name, "%s", contentText([]byte(v), nil, "it has a line that is no version"))
			return st.damages
		}
		if !here[v] {
			gone = append(gone, v)
		}
	}
	switch {
	case len(gone) > 0:
		st.damaged(ListWrong, name, "%s", told(gone, "version in it is not here", "versions in it are not here"))
	case time.Since(newest) > listAge:
		st.damaged(ListWrong, name, "it does not have the versions that are here, or has them in another order")
	}
	return st.damages
}

// listOf is the list of a directory @v as the go command writes it, with versions that are
// about to come, and when the newest of its versions came.
func listOf(dir string, coming ...string) (list string, newest time.Time) {
	entries, _ := os.ReadDir(dir)
	vs := slices.DeleteFunc(coming, func(v string) bool { return module.CanonicalVersion(v) != v })
	for _, e := range entries {
		v, ok := strings.CutSuffix(e.Name(), ".mod")
		if !ok || v == "" || module.CanonicalVersion(v) != v || slices.Contains(coming, v) {
			continue
		}
		vs = append(vs, v)
		if fi, err := e.Info(); err == nil && fi.ModTime().After(newest) {
			newest = fi.ModTime()
		}
	}
	semver.Sort(vs)
	var b strings.Builder
	for _, v := range vs {
		b.WriteString(v + "\n")
	}
	return b.String(), newest
}
