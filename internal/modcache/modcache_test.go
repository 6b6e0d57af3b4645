package modcache

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/modtest"
)

// A scene is a module cache that a real go command has filled, and its project.
type scene struct {
	t     testing.TB
	world *modtest.World
	env   []string
	dir   string // GOMODCACHE
	app   string // the directory of the project
	mods  []module.Version
	sums  map[module.Version]string
	db    string // name of the checksum database
	from  string // what cache/download was when all was well, for Fetch; "" is the world

	program string // the sluice that looks and mends in place of this package; "" is none
	store   string // its store
}

// newScene fills a cache with n modules, of which the project imports all.
func newScene(t *testing.T, n int) *scene {
	t.Helper()
	s := &scene{t: t, world: modtest.New(t), app: t.TempDir(), sums: map[module.Version]string{}, db: "sumdb.test"}
	s.fill(n)
	db := s.world.SumDB("sumdb.test")
	s.world.Mount(db)
	srv := modtest.Serve(t, s.world.Handler())
	s.env = modtest.GoEnv(t, srv.URL, db.GOSUMDB(""), "GOFLAGS=-trimpath") // read-only trees, as most people have them
	s.dir = modtest.EnvValue(s.env, "GOMODCACHE")
	t.Cleanup(func() { removeAll(s.dir) })
	gosum := filepath.Join(s.app, "go.sum")
	text := read(t, gosum)
	remove(t, gosum) // so that the database is asked
	s.goRun("mod", "download")
	write(t, gosum, text)
	return s
}

func (s *scene) fill(n int) {
	var gomod, gosum, imports strings.Builder
	gomod.WriteString("module app.test/app\n\ngo 1.21\n\nrequire (\n")
	for i := range n {
		path := fmt.Sprintf("mods.test/m%03d", i)
		if i%50 == 7 {
			path = fmt.Sprintf("mods.test/Upper%03d/m", i)
		}
		m := s.world.Add(path, "v1.0.0", modtest.Files{
			"go.mod":         "module " + path + "\n",
			"m.go":           fmt.Sprintf("package m\n\nimport _ %q\n\nconst N = %d\n", path+"/sub/deep", i),
			"sub/deep/a.go":  "package deep\n",
			"sub/deep/b.txt": strings.Repeat("text\n", i),
			"LICENSE":        "do as you like\n",
		})
		s.mods = append(s.mods, m)
		fmt.Fprintf(&gomod, "\t%s %s\n", m.Path, m.Version)
		fmt.Fprintf(&imports, "import _ %q\n", m.Path)
		gosum.WriteString(s.world.GoSum(m))
		s.sums[m] = s.world.H1Zip(m)
		s.sums[module.Version{Path: m.Path, Version: m.Version + "/go.mod"}] = s.world.H1Mod(m)
	}
	gomod.WriteString(")\n")
	for name, text := range map[string]string{"go.mod": gomod.String(), "go.sum": gosum.String(), "main.go": "package main\n\n" + imports.String() + "\nfunc main() {}\n"} {
		write(s.t, filepath.Join(s.app, name), text)
	}
}

func (s *scene) goRun(args ...string) {
	s.t.Helper()
	if _, stderr, exit := modtest.Go(s.t, s.env, s.app, args...); exit != 0 {
		s.t.Fatalf("go %s: exit status %d\n%s", strings.Join(args, " "), exit, stderr)
	}
}

// Fetch implements Source.
func (s *scene) Fetch(_ context.Context, req goproxy.Request) (*File, error) {
	if s.from != "" {
		f, err := os.Open(filepath.Join(s.from, filepath.FromSlash(req.Path())))
		return &File{Body: f, Vouched: true}, err
	}
	data := map[goproxy.Kind]func(module.Version) []byte{goproxy.Info: s.world.Info, goproxy.Mod: s.world.Mod, goproxy.Zip: s.world.Zip}[req.Kind](req.Module)
	if req.Kind == goproxy.Info { // which no two proxies write alike
		var spaced bytes.Buffer
		if err := json.Indent(&spaced, data, "", "  "); err != nil {
			return nil, err
		}
		data = spaced.Bytes()
	}
	return &File{Body: io.NopCloser(bytes.NewReader(data)), Vouched: true}, nil
}

func (s *scene) config() Config { return Config{Dir: s.dir, Sums: s.sums, Source: s} }

func (s *scene) check(c Config) Report {
	s.t.Helper()
	if s.program != "" {
		return s.byProgram("--dry-run")
	}
	k, err := Open(c)
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := k.Check(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *scene) mend(c Config) Report {
	s.t.Helper()
	if s.program != "" {
		return s.byProgram()
	}
	k, err := Open(c)
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := k.Mend(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// at is a file of a module in cache/download, and tree one that is extracted.
func (s *scene) at(m module.Version, suffix string) string {
	esc, _ := module.EscapePath(m.Path)
	return filepath.Join(s.dir, "cache", "download", filepath.FromSlash(esc), "@v", m.Version+suffix)
}

func (s *scene) tree(m module.Version, name string) string {
	esc, _ := module.EscapePath(m.Path)
	return filepath.Join(s.dir, filepath.FromSlash(esc)+"@"+m.Version, filepath.FromSlash(name))
}

// sumdb is a file that the go command keeps of the database.
func (s *scene) sumdb(name string) string {
	return filepath.Join(s.dir, "cache", "download", "sumdb", s.db, filepath.FromSlash(name))
}

// record is the file of a version's record.
func (s *scene) record(m module.Version) string {
	esc, _ := module.EscapePath(m.Path)
	return s.sumdb("lookup/" + esc + "@" + m.Version)
}

// tile is the n'th of the tiles at the lowest level: of the full ones, or of those that
// are not.
func (s *scene) tile(full bool, n int) string {
	s.t.Helper()
	var found string
	filepath.WalkDir(s.sumdb("tile/8/0"), func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.Contains(name, ".p"+string(filepath.Separator)) != full {
			if n--; n < 0 {
				found = name
				return fs.SkipAll
			}
		}
		return err
	})
	if found == "" {
		s.t.Fatal("the go command has kept no such tile")
	}
	return found
}

// file is a file of a tree, and subdir a directory in it: the last ones.
func (s *scene) file(m module.Version) string { s.t.Helper(); return s.last(m, false) }

func (s *scene) subdir(m module.Version) string { s.t.Helper(); return s.last(m, true) }

func (s *scene) last(m module.Version, dir bool) (last string) {
	s.t.Helper()
	root := s.tree(m, "")
	filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() == dir && name != root {
			if fi, err := d.Info(); err == nil && (dir || fi.Size() > 0) {
				last = name
			}
		}
		return err
	})
	if last == "" {
		s.t.Fatalf("%s has nothing of that kind", m)
	}
	return last
}

func write(t testing.TB, name, text string) {
	t.Helper()
	dir := filepath.Dir(name)
	if fi, err := os.Stat(dir); err == nil && fi.Mode()&0o200 == 0 {
		os.Chmod(dir, 0o755)
		defer os.Chmod(dir, fi.Mode())
	}
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.RemoveAll(name), os.WriteFile(name, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// remove removes what may lie in a read-only directory.
func remove(t testing.TB, name string) {
	t.Helper()
	dir := filepath.Dir(name)
	fi, err := os.Stat(dir)
	if err == nil {
		err = errors.Join(os.Chmod(dir, 0o755), removeAll(name), os.Chmod(dir, fi.Mode()))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func link(t testing.TB, to, name string) {
	t.Helper()
	remove(t, name)
	dir := filepath.Dir(name)
	fi, err := os.Stat(dir)
	if err == nil {
		err = errors.Join(os.Chmod(dir, 0o755), os.Symlink(to, name), os.Chmod(dir, fi.Mode()))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func old(t testing.TB, name string) {
	t.Helper()
	long := time.Now().Add(-24 * time.Hour)
	if err := os.Chtimes(name, long, long); err != nil {
		t.Fatal(err)
	}
}

// zipOf is a zip of files whose names are given in full.
func zipOf(t testing.TB, files ...string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range files {
		w, err := z.Create(name)
		if err == nil {
			_, err = io.WriteString(w, "package m\n")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A plant is a kind of damage, done to a module of its own.
type plant struct {
	name string
	want Kind
	do   func(s *scene, m module.Version) string // the file that is told
	gone bool                                    // what was lost comes again when the go command needs it
}

func plants() []plant {
	file := func(suffix, text string) func(*scene, module.Version) string {
		return func(s *scene, m module.Version) string {
			write(s.t, s.at(m, suffix), text)
			return s.at(m, suffix)
		}
	}
	dir := func(suffix string) func(*scene, module.Version) string {
		return func(s *scene, m module.Version) string {
			os.Remove(s.at(m, suffix))
			write(s.t, filepath.Join(s.at(m, suffix), "x"), "x")
			return s.at(m, suffix)
		}
	}
	lose := func(suffix string) func(*scene, module.Version) string {
		return func(s *scene, m module.Version) string { remove(s.t, s.at(m, suffix)); return s.at(m, suffix) }
	}
	inTree := func(do func(s *scene, m module.Version)) func(*scene, module.Version) string {
		return func(s *scene, m module.Version) string { do(s, m); return s.tree(m, "") }
	}
	list := func(text string) func(*scene, module.Version) string {
		return func(s *scene, m module.Version) string {
			name := filepath.Join(filepath.Dir(s.at(m, "")), "list")
			write(s.t, name, text)
			return name
		}
	}
	const page = "<!DOCTYPE html><title>Please log in</title>\n"
	return []plant{
		{"zip cut short", ZipDamaged, func(s *scene, m module.Version) string {
			write(s.t, s.at(m, ".zip"), read(s.t, s.at(m, ".zip"))[:300])
			return s.at(m, ".zip")
		}, false},
		{"zip empty", ZipDamaged, file(".zip", ""), false},
		{"zip a page", ZipDamaged, file(".zip", page), false},
		{"zip with a byte flipped", ZipDamaged, func(s *scene, m module.Version) string {
			z, err := zip.OpenReader(s.at(m, ".zip"))
			if err != nil {
				s.t.Fatal(err)
			}
			at, err := z.File[0].DataOffset()
			if err = errors.Join(err, z.Close()); err != nil {
				s.t.Fatal(err)
			}
			data := []byte(read(s.t, s.at(m, ".zip")))
			data[at+3] ^= 0x40
			write(s.t, s.at(m, ".zip"), string(data))
			return s.at(m, ".zip")
		}, false},
		{"zip of another module", ZipForeign, func(s *scene, m module.Version) string {
			write(s.t, s.at(m, ".zip"), read(s.t, s.at(s.mods[0], ".zip")))
			return s.at(m, ".zip")
		}, false},
		{"zip with names that collide", ZipForeign, func(s *scene, m module.Version) string {
			write(s.t, s.at(m, ".zip"), zipOf(s.t, m.String()+"/a.go", m.String()+"/A.go"))
			return s.at(m, ".zip")
		}, false},
		{"zip with a name that climbs out", ZipForeign, func(s *scene, m module.Version) string {
			write(s.t, s.at(m, ".zip"), zipOf(s.t, m.String()+"/../../a.go"))
			return s.at(m, ".zip")
		}, false},
		{"zip with other files", ZipChanged, func(s *scene, m module.Version) string {
			write(s.t, s.at(m, ".zip"), zipOf(s.t, m.String()+"/a.go"))
			return s.at(m, ".zip")
		}, false},
		{"zip a directory", NotAFile, dir(".zip"), false},
		{"zip a link out", NotAFile, func(s *scene, m module.Version) string {
			out := filepath.Join(s.t.TempDir(), "out.zip")
			write(s.t, out, read(s.t, s.at(m, ".zip")))
			link(s.t, out, s.at(m, ".zip"))
			return s.at(m, ".zip")
		}, false},
		{"ziphash missing", ZipHashMissing, lose(".ziphash"), false},
		{"ziphash empty", ZipHashDamaged, file(".ziphash", ""), false},
		{"ziphash zero bytes", ZipHashDamaged, file(".ziphash", strings.Repeat("\x00", 47)), false},
		{"ziphash cut short", ZipHashDamaged, file(".ziphash", "h1:AAAA"), false},
		{"ziphash another", ZipHashWrong, file(".ziphash", "h1:"+strings.Repeat("A", 43)+"="), false},
		{"ziphash a directory", NotAFile, dir(".ziphash"), false},
		{"zip and ziphash missing", ZipHashMissing, func(s *scene, m module.Version) string {
			remove(s.t, s.at(m, ".zip"))
			remove(s.t, s.at(m, ".ziphash"))
			return s.at(m, ".ziphash")
		}, false},
		{"info cut short", InfoDamaged, file(".info", `{"Version":"v1.0.`), false},
		{"info empty", InfoDamaged, file(".info", ""), false},
		{"info a page", InfoDamaged, file(".info", page), false},
		{"info zero bytes", InfoDamaged, file(".info", strings.Repeat("\x00", 40)), false},
		{"info of another version", InfoForeign, file(".info", `{"Version":"v0.0.0-20240301120000-0123456789ab","Time":"2024-03-01T12:00:00Z"}`), false},
		{"info with no time", InfoDamaged, file(".info", `{"Version":"v1.0.0","Time":"yesterday"}`), false},
		{"info a directory", NotAFile, dir(".info"), false},
		{"mod empty", ModDamaged, file(".mod", ""), false},
		{"mod a page", ModDamaged, file(".mod", page), false},
		{"mod zero bytes", ModDamaged, file(".mod", strings.Repeat("\x00", 30)), false},
		{"mod of another module", ModChanged, file(".mod", "module mods.test/other\n"), false},
		{"mod a directory", NotAFile, dir(".mod"), false},
		{"list with zero bytes", ListDamaged, list("v1.\x00\x00\x00\x00"), false},
		{"list a page", ListDamaged, list(page), false},
		{"list cut short", ListDamaged, list("v1.0"), false},
		{"list with a version that is not here", ListWrong, list("v1.0.0\nv1.2.0\n"), false},
		{"list without a version that is here", ListWrong, func(s *scene, m module.Version) string {
			old(s.t, s.at(m, ".mod"))
			return list("")(s, m)
		}, false},
		{"list a directory", NotAFile, func(s *scene, m module.Version) string {
			name := filepath.Join(filepath.Dir(s.at(m, "")), "list")
			remove(s.t, name)
			write(s.t, filepath.Join(name, "x"), "x")
			return name
		}, false},
		{"file of the tree missing", TreeMissing, inTree(func(s *scene, m module.Version) { remove(s.t, s.file(m)) }), false},
		{"directory of the tree missing", TreeMissing, inTree(func(s *scene, m module.Version) { remove(s.t, s.subdir(m)) }), false},
		{"file of the tree changed", TreeChanged, inTree(func(s *scene, m module.Version) { write(s.t, s.file(m), "package m // mine\n") }), false},
		{"file of the tree empty", TreeChanged, inTree(func(s *scene, m module.Version) { write(s.t, s.file(m), "") }), false},
		{"file too many in the tree", TreeExtra, inTree(func(s *scene, m module.Version) {
			write(s.t, filepath.Join(s.subdir(m), "extra_of_mine.go"), "package deep\n")
		}), false},
		{"directory too many in the tree", TreeExtra, inTree(func(s *scene, m module.Version) { write(s.t, s.tree(m, "built by me/out/prog"), "ELF") }), false},
		{"file of the tree a directory", TreeMissing, inTree(func(s *scene, m module.Version) {
			name := s.file(m)
			remove(s.t, name)
			write(s.t, filepath.Join(name, "m.go"), "package m\n")
		}), false},
		{"file of the tree a link", TreeChanged, inTree(func(s *scene, m module.Version) { link(s.t, "elsewhere", s.file(m)) }), false},
		{"directory of the tree a file", TreeMissing, inTree(func(s *scene, m module.Version) {
			name := s.subdir(m)
			remove(s.t, name)
			write(s.t, name, "")
		}), false},
		{"tree a file", NotADirectory, inTree(func(s *scene, m module.Version) {
			remove(s.t, s.tree(m, ""))
			write(s.t, s.tree(m, ""), "")
		}), false},
		{"tree a link out", NotADirectory, inTree(func(s *scene, m module.Version) {
			out := s.t.TempDir()
			write(s.t, filepath.Join(out, "m.go"), "package m\n")
			link(s.t, out, s.tree(m, ""))
		}), false},
		{"extracting broken off", TreePartial, inTree(func(s *scene, m module.Version) {
			remove(s.t, s.subdir(m))
			write(s.t, s.at(m, ".partial"), "")
		}), false},
		{"extracting broken off at once", Leftover, func(s *scene, m module.Version) string {
			remove(s.t, s.tree(m, ""))
			return file(".partial", "")(s, m)
		}, true},
		{"download broken off", Leftover, file(".zip123456.tmp", "PK"), false},
		{"info broken off", Leftover, func(s *scene, m module.Version) string {
			file(".info99.tmp", "{")(s, m)
			old(s.t, s.at(m, ".info99.tmp"))
			return s.at(m, ".info99.tmp")
		}, false},
		{"extracting of an old go command broken off", Leftover, func(s *scene, m module.Version) string {
			write(s.t, s.tree(m, "")+".tmp-123/m.go", "package m\n")
			return s.tree(m, "") + ".tmp-123"
		}, false},
		{"lock a directory", NotAFile, dir(".lock"), false},
		{"lock a link to nothing", NotAFile, func(s *scene, m module.Version) string {
			link(s.t, "/nowhere/at/all", s.at(m, ".lock"))
			return s.at(m, ".lock")
		}, false},
		{"path that is not escaped", Unreachable, func(s *scene, m module.Version) string {
			name := filepath.Join(s.at(m, ""), "..", "..", "..", "Upper")
			write(s.t, filepath.Join(name, "@v", "v1.0.0.mod"), "module mods.test/Upper\n")
			return name
		}, false},
		{"path that is escaped wrong", Unreachable, func(s *scene, m module.Version) string {
			name := filepath.Join(s.at(m, ""), "..", "..", "..", "!!upper")
			write(s.t, filepath.Join(name, "@v", "v1.0.0.mod"), "module mods.test/Upper\n")
			return name
		}, false},
		{"version that is not escaped", Unreachable, func(s *scene, m module.Version) string {
			return file("-RC1.mod", "module mods.test/x\n")(s, m)
		}, false},
		{"tree that is not escaped", Unreachable, func(s *scene, m module.Version) string {
			name := filepath.Join(filepath.Dir(s.tree(m, "")), "Upper@v1.0.0")
			write(s.t, filepath.Join(name, "m.go"), "package m\n")
			return name
		}, false},
		{"directory @v a file", NotADirectory, func(s *scene, m module.Version) string {
			name := filepath.Dir(s.at(m, ""))
			remove(s.t, name)
			write(s.t, name, "")
			return name
		}, true},
		{"directory of a module a file", NotADirectory, func(s *scene, m module.Version) string {
			name := filepath.Dir(filepath.Dir(s.at(m, "")))
			remove(s.t, name)
			write(s.t, name, "")
			return name
		}, true},
		{"directory of a module a link to nothing", NotADirectory, func(s *scene, m module.Version) string {
			name := filepath.Dir(filepath.Dir(s.at(m, "")))
			link(s.t, "/nowhere/at/all", name)
			return name
		}, true},
		{"tile cut short", SumDBDamaged, func(s *scene, m module.Version) string {
			name := s.tile(true, 0)
			write(s.t, name, read(s.t, name)[:100])
			return name
		}, true},
		{"tile changed", SumDBContradict, func(s *scene, m module.Version) string {
			real := 0
			if s.from != "" {
				real = 1 // the first one is cut short
			}
			name := s.tile(real > 0, real)
			data := []byte(read(s.t, name))
			data[7] ^= 1
			write(s.t, name, string(data))
			return name
		}, true},
		{"record empty", SumDBDamaged, func(s *scene, m module.Version) string {
			write(s.t, s.record(m), "")
			old(s.t, s.record(m))
			return s.record(m)
		}, true},
		{"record cut short", SumDBDamaged, func(s *scene, m module.Version) string {
			name := s.record(m)
			write(s.t, name, read(s.t, name)[:30])
			return name
		}, true},
		{"record of another version", SumDBDamaged, func(s *scene, m module.Version) string {
			name := s.record(m)
			write(s.t, name, read(s.t, s.record(s.mods[0])))
			return name
		}, true},
		{"record changed", SumDBContradict, func(s *scene, m module.Version) string {
			name := s.record(m)
			write(s.t, name, strings.Replace(read(s.t, name), "h1:", "h1:AAAA", 1)[:len(read(s.t, name))])
			return name
		}, true},
	}
}

// A snapshot is all that a directory holds, by name.
type entry struct {
	mode fs.FileMode
	data string // hash, or where a link leads
	time time.Time
}

func snapshot(t testing.TB, dir string) map[string]entry {
	t.Helper()
	all := map[string]entry{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		e := entry{mode: fi.Mode()}
		switch {
		case fi.Mode().IsRegular():
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			e.data, e.time = fmt.Sprintf("%x", sha256.Sum256(data)), fi.ModTime()
		case fi.Mode()&fs.ModeSymlink != 0:
			e.data, _ = os.Readlink(name)
		}
		rel, err := filepath.Rel(dir, name)
		all[filepath.ToSlash(rel)] = e
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func describe(ds []Damage) string {
	var b strings.Builder
	for _, d := range ds {
		fmt.Fprintf(&b, "%s %s: %s (%s %v)\n", d.Kind, d.File, d.Text, d.Done, d.Err)
	}
	return b.String()
}

func TestEveryKindOfDamageIsFoundAndMendedAndNothingElseTouched(t *testing.T) {
	s := newScene(t, 300)
	s.plantAndMend(plants())
	s.goRun("mod", "verify")
	s.goRun("build", "-o", os.DevNull, ".")
}

// plantAndMend does every kind of damage to a module of its own, and demands that each
// is found, mended, and nothing else changed.
func (s *scene) plantAndMend(all []plant) {
	t := s.t
	t.Helper()
	whole := snapshot(t, s.dir)
	start := time.Now()
	r := s.check(s.config())
	if len(r.Damages) > 0 || r.Versions < 300 {
		t.Fatalf("of a cache that the go command has just filled, %d versions were looked at and this found:\n%s", r.Versions, describe(r.Damages))
	}
	t.Logf("%d versions, %d bytes of zips and files, are read in %v", r.Versions, r.Bytes, time.Since(start).Round(time.Millisecond))

	want := map[string]Kind{}
	gone := map[string]bool{}
	for i, p := range all {
		m := s.mods[1+i]
		name := p.do(s, m)
		rel, err := filepath.Rel(s.dir, name)
		if err != nil {
			t.Fatal(err)
		}
		rel = filepath.ToSlash(rel)
		if want[rel] != "" {
			t.Fatalf("%s: two kinds of damage at %s", p.name, rel)
		}
		want[rel] = p.want
		if gone[rel] = p.gone; p.gone {
			esc, _ := module.EscapePath(m.Path)
			gone["tree of "+esc+"@"+m.Version] = true
		}
	}
	damaged := snapshot(t, s.dir)

	// Found, and nothing but looked at.
	r = s.check(s.config())
	got := map[string][]Kind{}
	for _, d := range r.Damages {
		got[d.File] = append(got[d.File], d.Kind)
	}
	for file, kind := range want {
		if !slices.Contains(got[file], kind) {
			t.Errorf("%s at %s was not found, but %v", kind, file, got[file])
		}
	}
	for file := range got {
		if _, ok := want[file]; !ok && got[file][0] != ZipHashMissing {
			t.Errorf("%v was found at %s, where nothing is damaged", got[file], file)
		}
	}
	if after := snapshot(t, s.dir); !maps.Equal(after, damaged) {
		t.Error("looking at a cache has changed it")
	}
	if t.Failed() {
		t.Fatalf("found:\n%s", describe(r.Damages))
	}

	// Mended.
	start = time.Now()
	r = s.mend(s.config())
	took := time.Since(start)
	for _, d := range r.Damages {
		if d.Done == Failed || d.Done == Left || d.Done == "" {
			t.Errorf("not mended: %s", describe([]Damage{d}))
		}
	}
	t.Logf("%d kinds of damage planted; %d files of %d bytes fetched again, in %v with reading all", len(all), r.Fetched, r.FetchedBytes, took.Round(time.Millisecond))
	after := snapshot(t, s.dir)
	for name, h := range whole {
		a, ok := after[name]
		switch d, was := damaged[name]; {
		case h == d && a != h:
			t.Errorf("%s was healthy, and is %v after %v", name, a, h)
		case h == d || !ok && lost(gone, name) || !ok && !was && lostWith(gone, name):
		case !ok:
			t.Errorf("%s is missing", name)
		case a.mode != h.mode || a.data != h.data:
			t.Errorf("%s is %v, and was %v", name, a, h)
		}
	}
	for name := range after {
		if _, ok := whole[name]; !ok {
			t.Errorf("%s is there, and was not when all was well", name)
		}
	}
	if r := s.check(s.config()); len(r.Damages) > 0 {
		t.Errorf("after mending, this is found:\n%s", describe(r.Damages))
	}
}

// lost reports whether a file comes again only when the go command needs it.
func lost(gone map[string]bool, name string) bool {
	for at, ok := range gone {
		if ok && (name == at || strings.HasPrefix(name, at+"/") || strings.Contains(at, "@v/") && strings.HasPrefix(name, strings.TrimPrefix(at, "cache/download/"))) {
			return true
		}
	}
	return false
}

// lostWith is lost for a tree whose marker of being extracted was left over.
func lostWith(gone map[string]bool, name string) bool {
	for at := range gone {
		if p, ok := strings.CutPrefix(at, "tree of "); ok && strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}
