package modcache

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/modtest"
)

// A heap is a GOPROXY tree of module versions of all kinds, and a project that needs
// them all.
type heap struct {
	t    testing.TB
	tree string
	app  string
	mods []module.Version
}

// withDirs has directories in its zip. They count for its hash, and are not unpacked, so
// that go mod verify takes what the go command unpacks for modified.
const withDirs = "heap.test/dirs"

func newHeap(t testing.TB) *heap {
	t.Helper()
	w := modtest.New(t)
	h := &heap{t: t, tree: t.TempDir(), app: t.TempDir()}
	gomod := func(path string) string { return "module " + path + "\n\ngo 1.16\n" }
	h.mods = []module.Version{
		w.Add("heap.test/Upper/CASE", "v1.0.0", modtest.Files{"go.mod": gomod("heap.test/Upper/CASE"), "p.go": "package p\n", "a/b/c/d/deep.go": "package d\n", "a/Z.txt": ""}),
		w.Add("heap.test/old", "v2.1.0+incompatible", modtest.Files{"p.go": "package old\n"}),
		w.Add("heap.test/pseudo", "v0.0.0-20200102030405-abcdefabcdef", modtest.Files{"go.mod": gomod("heap.test/pseudo"), "p.go": "package p\n",
			".info": `{"Version":"v0.0.0-20200102030405-abcdefabcdef","Time":"2020-01-02T03:04:05Z","Origin":{"VCS":"git","URL":"https://x.example/r","Hash":"abcdefabcdef","TagSum":"t1:x","Ref":"refs/heads/main"}}`}),
		w.Add("heap.test/rc", "v1.0.0-RC1", modtest.Files{"go.mod": gomod("heap.test/rc"), "p.go": "package p\n"}),
		w.Add("heap.test/two/v2", "v2.0.0", modtest.Files{"go.mod": gomod("heap.test/two/v2"), "p.go": "package p\n", "big.txt": strings.Repeat("0123456789abcdef\n", 100000),
			".info": "{ \"Time\": \"2021-01-02T03:04:05.678+02:00\", \"Version\": \"v2.0.0\", \"Name\": \"n\", \"More\": 1,\n \"Origin\": {\"VCS\": \"git\", \"URL\": \"https://x.example/<r>\", \"Ref\": \"refs/tags/v2.0.0\", \"TagPrefix\": \"p\", \"RepoSum\": \"r\", \"New\": \"x\"}}\n"}),
		w.Add("heap.test/vendored", "v1.0.0", modtest.Files{"go.mod": gomod("heap.test/vendored"), "p.go": "package p\n", "vendor/modules.txt": "# none\n"}),
		w.Add("heap.test/members", "v1.0.0", modtest.Files{"go.mod": gomod("heap.test/members"), "p.go": "package p\n"}),
		w.Add(withDirs, "v1.0.0", modtest.Files{"go.mod": gomod(withDirs), "p.go": "package p\n"}),
	}
	w.WriteTree(h.tree)
	// Not all zips are made by the go command.
	type member struct {
		name   string
		method uint16
		text   string
	}
	for m, members := range map[module.Version][]member{
		h.mods[6]: {{"go.mod", zip.Store, gomod("heap.test/members")}, {"p.go", zip.Deflate, "package p\n"}, {"sub/nothing", zip.Deflate, ""}, {"sub/stored.txt", zip.Store, strings.Repeat("as it is ", 20000)}},
		h.mods[7]: {{"empty/dir/", zip.Store, ""}, {"go.mod", zip.Deflate, gomod(withDirs)}, {"p/", zip.Store, ""}, {"p/p.go", zip.Deflate, "package p\n"}},
	} {
		h.zip(m, func(z *zip.Writer, prefix string) {
			for _, m := range members {
				f, err := z.CreateHeader(&zip.FileHeader{Name: prefix + m.name, Method: m.method})
				if err == nil {
					_, err = io.WriteString(f, m.text)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	var gomodText, gosum strings.Builder
	gomodText.WriteString("module app.test/app\n\ngo 1.21\n\nrequire (\n")
	for _, m := range h.mods {
		fmt.Fprintf(&gomodText, "\t%s %s\n", m.Path, m.Version)
		fmt.Fprintf(&gosum, "%s %s %s\n%[1]s %[2]s/go.mod %[4]s\n", m.Path, m.Version, h.h1(m), modHash(h.file(goproxy.Mod, m)))
	}
	gomodText.WriteString(")\n")
	write(t, filepath.Join(h.app, "go.mod"), gomodText.String())
	write(t, filepath.Join(h.app, "go.sum"), gosum.String())
	return h
}

func (h *heap) name(k goproxy.Kind, m module.Version) string {
	return filepath.Join(h.tree, filepath.FromSlash(goproxy.Request{Kind: k, Module: m}.Path()))
}

func (h *heap) file(k goproxy.Kind, m module.Version) []byte {
	h.t.Helper()
	data, err := os.ReadFile(h.name(k, m))
	if err != nil {
		h.t.Fatal(err)
	}
	return data
}

// zip replaces the zip of a version.
func (h *heap) zip(m module.Version, fill func(z *zip.Writer, prefix string)) {
	h.t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	fill(z, m.Path+"@"+m.Version+"/")
	if err := z.Close(); err != nil {
		h.t.Fatal(err)
	}
	write(h.t, h.name(goproxy.Zip, m), b.String())
}

func (h *heap) h1(m module.Version) string {
	h.t.Helper()
	h1, err := dirhash.HashZip(h.name(goproxy.Zip, m), dirhash.Hash1)
	if err != nil {
		h.t.Fatal(err)
	}
	return h1
}

// env is that of a new go command, with a module cache of its own.
func (h *heap) env(goproxy, flags string) (env []string, cache string) {
	h.t.Helper()
	env = modtest.GoEnv(h.t, goproxy, "off", "GOFLAGS="+flags)
	cache = modtest.EnvValue(env, "GOMODCACHE")
	h.t.Cleanup(func() { removeAll(cache) })
	return env, cache
}

func (h *heap) source() string { return "file://" + filepath.ToSlash(h.tree) }

// laid is what Lay is given of a version.
func (h *heap) laid(m module.Version) Laid {
	h.t.Helper()
	data := h.file(goproxy.Zip, m)
	return Laid{Info: h.file(goproxy.Info, m), Mod: h.file(goproxy.Mod, m), Zip: bytes.NewReader(data), Size: int64(len(data)), H1: h.h1(m)}
}

func (h *heap) newLayer(cache string, writable bool) *Layer {
	h.t.Helper()
	l, err := NewLayer(cache, writable)
	if err != nil {
		h.t.Fatal(err)
	}
	return l
}

func (h *heap) lay(l *Layer, m module.Version, v Laid) error {
	h.t.Helper()
	c, err := l.Claim(m)
	if err != nil {
		return err
	}
	defer c.Release()
	return c.Lay(h.t.Context(), v)
}

// look lists all that is in a directory with modes and contents.
func look(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, name)
		text := fi.Mode().String()
		if !d.IsDir() {
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			text += " " + string(data)
		}
		all[filepath.ToSlash(rel)] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func sameCaches(t *testing.T, want, got map[string]string) {
	t.Helper()
	for name, w := range want {
		if g, ok := got[name]; !ok {
			t.Errorf("%s is missing", name)
		} else if g != w {
			t.Errorf("%s is\n%.300q, and the go command has\n%.300q", name, g, w)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is there, and the go command does not have it", name)
		}
	}
}

func (h *heap) goRun(env []string, args ...string) string {
	h.t.Helper()
	out, stderr, exit := modtest.Go(h.t, env, h.app, args...)
	if exit != 0 {
		h.t.Fatalf("go %s: exit status %d\n%s", strings.Join(args, " "), exit, stderr)
	}
	return out
}

// verify has the go command hash all that is in its cache.
func (h *heap) verify(env []string) {
	h.t.Helper()
	out, stderr, _ := modtest.Go(h.t, env, h.app, "mod", "verify")
	for line := range strings.Lines(out + stderr) {
		if !strings.HasPrefix(line, withDirs+" v1.0.0: dir has been modified") && line != "all modules verified\n" {
			h.t.Errorf("go mod verify says %s", line)
		}
	}
}

func TestWhatIsLaidIsWhatTheGoCommandLeaves(t *testing.T) {
	h := newHeap(t)
	for _, flags := range []string{"-trimpath", "-modcacherw"} {
		env, cache := h.env(h.source(), flags)
		h.goRun(env, "mod", "download")
		want := look(t, cache)

		env, cache = h.env("off", flags)
		l := h.newLayer(cache, flags == "-modcacherw")
		for _, m := range h.mods {
			if err := h.lay(l, m, h.laid(m)); err != nil {
				t.Errorf("%v: %v", m, err)
			}
		}
		sameCaches(t, want, look(t, cache))
		// It is all that a go command needs, and what go.sum says.
		h.goRun(env, "mod", "download")
		h.verify(env)
		sameCaches(t, want, look(t, cache))
	}
}

// clones reports whether the file system shares the blocks of files.
func clones(t *testing.T, dir string) bool {
	t.Helper()
	var f [2]*os.File
	for i := range f {
		var err error
		if f[i], err = os.CreateTemp(dir, "clone"); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(f[i].Name())
		defer f[i].Close()
	}
	return reflink(f[0], f[1]) == nil
}

func TestAFileIsSharedAndOutlivesTheCache(t *testing.T) {
	h := newHeap(t)
	env, cache := h.env("off", "")
	l := h.newLayer(cache, false)
	for i, m := range h.mods {
		f, err := os.Open(h.name(goproxy.Zip, m))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if i == 1 { // one that is not as the go command makes them
			if err := os.Chmod(f.Name(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		v := h.laid(m)
		v.Zip = f
		if err := h.lay(l, m, v); err != nil {
			t.Fatal(err)
		}
	}
	before := look(t, h.tree)
	down := filepath.Join(cache, "cache", "download")
	for i, m := range h.mods {
		a, err1 := os.Stat(h.name(goproxy.Zip, m))
		b, err2 := os.Stat(filepath.Join(down, filepath.FromSlash(goproxy.Request{Kind: goproxy.Zip, Module: m}.Path())))
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		switch shared := os.SameFile(a, b); {
		case shared && i == 1:
			t.Errorf("%v: a file with mode %v is shared, which changes who may do what", m, a.Mode())
		case !shared && i != 1 && runtime.GOOS == "linux" && !clones(t, cache):
			t.Errorf("%v: it is copied", m)
		}
		if b.Mode().Perm()&0o200 == 0 {
			t.Errorf("%v: the zip has mode %v", m, b.Mode())
		}
	}
	h.verify(env)
	h.goRun(env, "clean", "-modcache")
	sameCaches(t, before, look(t, h.tree))
}

func TestWhatSomebodyIsAtOrHasBegunIsLeftAlone(t *testing.T) {
	h := newHeap(t)
	_, cache := h.env("off", "")
	l := h.newLayer(cache, false)
	m := h.mods[0]
	c, err := l.Claim(m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.newLayer(cache, false).Claim(m); !errors.Is(err, ErrTaken) {
		t.Errorf("a version that is claimed: %v", err)
	}
	c.Release()
	at := filepath.Join(cache, "cache", "download", "heap.test", "!upper", "!c!a!s!e", "@v", "v1.0.0.")
	for _, name := range []string{at + "zip", at + "ziphash", at + "partial", filepath.Join(cache, "heap.test", "!upper", "!c!a!s!e@v1.0.0", "f")} {
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		}
		write(t, name, "somebody's")
		before := look(t, cache)
		if err := h.lay(l, m, h.laid(m)); !errors.Is(err, ErrTaken) {
			t.Errorf("with %s there: %v", filepath.Base(name), err)
		}
		sameCaches(t, before, look(t, cache))
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		os.Remove(filepath.Join(cache, "heap.test", "!upper", "!c!a!s!e@v1.0.0"))
	}
	for _, m := range []module.Version{{Path: toolchain, Version: "v0.0.1-go1.26.0.linux-amd64"}, {Path: fips140, Version: "v1.0.0"}, {Path: "heap.test/x", Version: "main"}, {Path: "heap.test/..", Version: "v1.0.0"}} {
		if _, err := l.Claim(m); !errors.Is(err, ErrTaken) {
			t.Errorf("%v: %v", m, err)
		}
	}
	if err := h.lay(l, m, h.laid(m)); err != nil {
		t.Error(err)
	}
	// The list is somebody's: there is no .mod that it lacks.
	m = h.mods[1]
	c, err = l.Claim(m)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Release()
	list, err := os.OpenFile(filepath.Join(filepath.Dir(c.at), "list"), os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	if ok, err := lockFile(list, true); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := c.Lay(t.Context(), h.laid(m)); err != nil {
		t.Error(err)
	}
	if there(c.path("mod")) || !there(c.path("zip")) || !there(c.tree) {
		t.Error("with the list locked, not all is there but the .mod")
	}
}

// A failingReader fails after some reads, or has a context end.
type failingReader struct {
	io.ReaderAt
	left int
	then func() error
}

func (r *failingReader) ReadAt(p []byte, off int64) (int, error) {
	if r.left--; r.left < 0 {
		if err := r.then(); err != nil {
			return 0, err
		}
	}
	return r.ReaderAt.ReadAt(p, off)
}

func TestWhateverBreaksItOffTheGoCommandGoesOnFrom(t *testing.T) {
	h := newHeap(t)
	errRead := errors.New("the disk is sick")
	for _, m := range []module.Version{h.mods[0], h.mods[4], h.mods[6]} {
		broken := 0
		for n := 0; ; n++ {
			env, cache := h.env(h.source(), "")
			l := h.newLayer(cache, false)
			c, err := l.Claim(m)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			v := h.laid(m)
			r := &failingReader{v.Zip, n, func() error { return errRead }}
			if n%2 == 1 {
				r.then = func() error { cancel(errRead); return nil }
			}
			v.Zip = r
			err = c.Lay(ctx, v)
			done := r.left >= 0
			cancel(nil)
			if done {
				if err != nil || n < 3 || broken == 0 {
					t.Errorf("%v: %v after %d reads, of which %d were broken off", m, err, n, broken)
				}
				c.Release()
				break
			}
			if err == nil && n%2 == 0 {
				t.Errorf("%v: read %d failed, and nobody noticed", m, n)
			}
			if err != nil {
				broken++
				if !errors.Is(err, errRead) && n%2 == 1 {
					t.Errorf("%v: ended at read %d: %v", m, n, err)
				}
				if there(c.path("partial")) || there(c.tree) || there(c.path("zip")) && !there(c.path("ziphash")) {
					t.Errorf("%v: broken off at read %d, it left half a thing", m, n)
				}
			}
			entries, _ := os.ReadDir(filepath.Dir(c.at))
			for _, e := range entries {
				if strings.HasSuffix(e.Name(), ".tmp") {
					t.Errorf("%v: broken off at read %d, it left %s", m, n, e.Name())
				}
			}
			c.Release()
			if n%12 == 6 {
				h.goRun(env, "mod", "download")
				h.verify(env)
			}
		}
	}
}

func TestWhatIsNotTheZipItIsGivenForIsNotLaid(t *testing.T) {
	h := newHeap(t)
	m := h.mods[6]
	good := h.laid(m)
	for what, fill := range map[string]func(z *zip.Writer, prefix string){
		"another version":  func(z *zip.Writer, prefix string) { z.Create("heap.test/members@v1.0.1/p.go") },
		"a way out":        func(z *zip.Writer, prefix string) { z.Create(prefix + "../../out.go") },
		"a rooted name":    func(z *zip.Writer, prefix string) { z.Create(prefix + "/etc/x") },
		"a doubled name":   func(z *zip.Writer, prefix string) { z.Create(prefix + "p.go"); z.Create(prefix + "p.go") },
		"a file above one": func(z *zip.Writer, prefix string) { z.Create(prefix + "p"); z.Create(prefix + "p/q.go") },
		"another size": func(z *zip.Writer, prefix string) {
			f, _ := z.CreateRaw(&zip.FileHeader{Name: prefix + "p.go", Method: zip.Store, UncompressedSize64: 9, CompressedSize64: 4})
			io.WriteString(f, "abcd")
		},
		"another checksum": func(z *zip.Writer, prefix string) {
			f, _ := z.CreateRaw(&zip.FileHeader{Name: prefix + "p.go", Method: zip.Store, UncompressedSize64: 4, CompressedSize64: 4, CRC32: 1})
			io.WriteString(f, "abcd")
		},
		"another method": func(z *zip.Writer, prefix string) {
			f, _ := z.CreateRaw(&zip.FileHeader{Name: prefix + "p.go", Method: 99, UncompressedSize64: 4, CompressedSize64: 4})
			io.WriteString(f, "abcd")
		},
	} {
		_, cache := h.env("off", "")
		l := h.newLayer(cache, false)
		h.zip(m, fill)
		data := h.file(goproxy.Zip, m)
		if err := h.lay(l, m, Laid{Info: good.Info, Mod: good.Mod, Zip: bytes.NewReader(data), Size: int64(len(data)), H1: good.H1}); err == nil {
			t.Errorf("%s: it is laid", what)
		}
		if there(filepath.Join(cache, "heap.test", "members@v1.0.0")) || there(filepath.Join(cache, "out.go")) || there(filepath.Join(cache, "heap.test", "out.go")) {
			t.Errorf("%s: something of it is there", what)
		}
	}
	_, cache := h.env("off", "")
	l := h.newLayer(cache, false)
	for what, v := range map[string]Laid{
		"no zip":            {Zip: strings.NewReader("no zip"), Size: 6, H1: good.H1},
		"no hash":           {Zip: good.Zip, Size: good.Size, H1: "h1:x"},
		"another's .info":   {Info: []byte(`{"Version":"v1.0.1"}`), Zip: good.Zip, Size: good.Size, H1: good.H1},
		"a size beyond all": {Zip: good.Zip, Size: 1 << 40, H1: good.H1},
	} {
		if err := h.lay(l, m, v); err == nil || there(filepath.Join(cache, "heap.test")) {
			t.Errorf("%s: %v, or something is there", what, err)
		}
	}
}

func TestADiskIsNotFilled(t *testing.T) {
	dir := t.TempDir()
	free, total, err := space(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := enough(dir, free); !errors.Is(err, ErrFull) {
		t.Errorf("all that is free: %v", err)
	}
	if err := enough(dir, 0); err != nil && free > total/20 {
		t.Errorf("nothing: %v, with %d bytes free", err, free)
	}
}

func TestACacheThatCannotBeWrittenIsNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	for _, dir := range []string{"", "relative", filepath.Join(file, "mod")} {
		if _, err := NewLayer(dir, false); err == nil {
			t.Errorf("%q is taken", dir)
		}
	}
}

func FuzzKeptInfo(f *testing.F) {
	m := module.Version{Path: "heap.test/x", Version: "v1.0.0"}
	f.Add([]byte(`{"Version":"v1.0.0","Time":"2020-01-02T03:04:05Z"}`))
	f.Add([]byte(`{"version":"v1.0.0","Origin":{"VCS":"git","Ref":"refs/tags/v1.0.0","TagSum":"t1:"}}`))
	f.Add([]byte(`{"Version":"v1.0.0","Origin":null,"Time":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		kept, err := keptInfo(data, m)
		if err != nil {
			return
		}
		// It says the same as what it was made of, and is kept as it is.
		was, err1 := goproxy.ParseInfo(data, m)
		is, err2 := goproxy.ParseInfo(kept, m)
		if err := errors.Join(err1, err2); err != nil || was.Version != is.Version || !was.Time.Equal(is.Time) {
			t.Errorf("%q is kept as %q: %v", data, kept, err)
		}
		if again, err := keptInfo(kept, m); err != nil || !bytes.Equal(again, kept) {
			t.Errorf("%q is kept as %q, and that as %q: %v", data, kept, again, err)
		}
	})
}

func FuzzALaidZipStaysInItsTree(f *testing.F) {
	const prefix = "heap.test/x@v1.0.0/"
	for _, names := range [][]string{{"go.mod", "a/b.go"}, {"../out.go"}, {"a", "a/b"}, {"/etc/x"}, {"a//b", "./c", "a\\..\\b"}, {"COM1", "x/", "x/y"}} {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for _, name := range names {
			w, err := z.Create(prefix + name)
			if err == nil && !strings.HasSuffix(name, "/") {
				_, err = io.WriteString(w, "package x\n")
			}
			if err != nil {
				f.Fatal(err)
			}
		}
		if err := z.Close(); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	m := module.Version{Path: "heap.test/x", Version: "v1.0.0"}
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		l, err := NewLayer(filepath.Join(dir, "mod"), true)
		if err != nil {
			t.Fatal(err)
		}
		c, err := l.Claim(m)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Release()
		err = c.Lay(t.Context(), Laid{Zip: bytes.NewReader(data), Size: int64(len(data)), H1: "h1:" + strings.Repeat("A", 43) + "="})
		filepath.WalkDir(dir, func(name string, d fs.DirEntry, werr error) error {
			if werr != nil {
				t.Error(werr)
				return nil
			}
			inTree := strings.HasPrefix(name, c.tree+string(filepath.Separator))
			if d.IsDir() || strings.HasPrefix(name, c.at+".") || inTree && err == nil {
				return nil
			}
			t.Errorf("%s is written: %v", name, err)
			return nil
		})
		if there(c.path("partial")) || err != nil && there(c.tree) {
			t.Errorf("half a tree is left after %v", err)
		}
	})
}
