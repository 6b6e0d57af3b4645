package modcache

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/modtest"
)

// lay makes a cache by hand, as the go command would have it, of modules that a world
// has; go.sum knows none of them.
func lay(t *testing.T, w *modtest.World, mods ...module.Version) *scene {
	t.Helper()
	s := &scene{t: t, world: w, dir: t.TempDir(), mods: mods}
	for _, m := range mods {
		for suffix, data := range map[string][]byte{".info": w.Info(m), ".mod": w.Mod(m), ".zip": w.Zip(m), ".ziphash": []byte(w.H1Zip(m)), ".lock": nil} {
			write(t, s.at(m, suffix), string(data))
		}
		list, _ := listOf(filepath.Dir(s.at(m, "")))
		write(t, filepath.Join(filepath.Dir(s.at(m, "")), "list"), list)
		z, err := zip.OpenReader(s.at(m, ".zip"))
		if err != nil {
			t.Fatal(err)
		}
		for _, zf := range z.File {
			r, err := zf.Open()
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			write(t, s.tree(m, strings.TrimPrefix(zf.Name, m.String()+"/")), string(data))
		}
		z.Close()
	}
	return s
}

// one is a cache of one module.
func one(t *testing.T) (*scene, module.Version) {
	t.Helper()
	w := modtest.New(t)
	m := w.Add("one.test/m", "v1.0.0", modtest.Files{"go.mod": "module one.test/m\n", "m.go": "package m\n", "sub/s.go": "package sub\n"})
	return lay(t, w, m), m
}

func kinds(r Report) (list []string) {
	for _, d := range r.Damages {
		list = append(list, string(d.Kind)+" "+string(d.Done))
	}
	return list
}

func TestWhatTheGoCommandTakesForWholeIsNoDamage(t *testing.T) {
	for name, set := range map[string]func(s *scene, m module.Version){
		"as it came":                  func(*scene, module.Version) {},
		"no zip":                      func(s *scene, m module.Version) { remove(t, s.at(m, ".zip")) },
		"nothing but the record":      func(s *scene, m module.Version) { remove(t, s.at(m, ".zip")); remove(t, s.tree(m, "")) },
		"not extracted":               func(s *scene, m module.Version) { remove(t, s.tree(m, "")) },
		"no lock, no info":            func(s *scene, m module.Version) { remove(t, s.at(m, ".lock")); remove(t, s.at(m, ".info")) },
		"a line end after the record": func(s *scene, m module.Version) { write(t, s.at(m, ".ziphash"), s.world.H1Zip(m)+"\n") },
		"a go.mod that the first go commands made up": func(s *scene, m module.Version) {
			write(t, s.at(m, ".mod"), "//vgo 0.0.4\n\nmodule one.test/m\n")
		},
		"a version that just comes": func(s *scene, m module.Version) {
			write(t, filepath.Join(filepath.Dir(s.at(m, "")), "list"), "")
		},
		"a file that is just written": func(s *scene, m module.Version) { write(t, s.at(m, ".info77.tmp"), "{") },
		"a directory on another disk": func(s *scene, m module.Version) {
			out := filepath.Join(t.TempDir(), "one.test")
			if err := os.Rename(filepath.Join(s.dir, "cache", "download", "one.test"), out); err != nil {
				t.Fatal(err)
			}
			link(t, out, filepath.Join(s.dir, "cache", "download", "one.test"))
		},
		"names that mean nothing": func(s *scene, m module.Version) {
			for _, name := range []string{"go.mod", "README.md", "cache/download/.DS_Store", "cache/download/one.test/m/@v/v1.0.0.zip.bak", "cache/download/one.test/m/@v/master.info",
				"cache/vcs/abc/HEAD", "Mine/notes", "one.test/Mine/notes", "cache/download/Mine/notes", "one.test/notes.txt", "cache/download/sumdb/x/y"} {
				write(t, filepath.Join(s.dir, filepath.FromSlash(name)), "x")
			}
		},
		"an empty directory": func(s *scene, m module.Version) { os.Mkdir(s.tree(m, "empty"), 0o755) },
	} {
		t.Run(name, func(t *testing.T) {
			s, m := one(t)
			set(s, m)
			before := snapshot(t, s.dir)
			r := s.mend(s.config())
			if len(r.Damages) > 0 {
				t.Errorf("found:\n%s", describe(r.Damages))
			}
			if after := snapshot(t, s.dir); len(after) != len(before) {
				t.Errorf("%d files, and there were %d", len(after), len(before))
			}
		})
	}
}

func TestAToolchainThatTheGoCommandHasMadeReadyIsNoDamage(t *testing.T) {
	w := modtest.New(t)
	m := w.Add("golang.org/toolchain", "v0.0.1-go1.30.0.linux-amd64", modtest.Files{"bin/go": "program", "src/_go.mod": "module std\n", ".mod": "module golang.org/toolchain\n"})
	s := lay(t, w, m)
	write(t, s.tree(m, "src/go.mod"), "module std\n")
	os.Chmod(s.tree(m, "bin/go"), 0o555)
	if r := s.check(s.config()); len(r.Damages) > 0 {
		t.Errorf("found:\n%s", describe(r.Damages))
	}
	write(t, s.tree(m, "bin/go"), "")
	s.mend(s.config())
	if fi, err := os.Stat(s.tree(m, "bin/go")); err != nil || fi.Mode()&0o111 == 0 {
		t.Errorf("the program is %v, %v after mending", fi.Mode(), err)
	}
	if _, err := os.Stat(s.tree(m, "src/go.mod")); err != nil {
		t.Error(err)
	}
}

func TestWithoutAZipATreeIsHeldAgainstTheRecord(t *testing.T) {
	s, m := one(t)
	remove(t, s.at(m, ".zip"))
	write(t, s.tree(m, "m.go"), "package m // mine\n")
	if got := kinds(s.mend(s.config())); !slices.Equal(got, []string{"tree-changed rewritten"}) {
		t.Errorf("done: %q", got)
	}
	if got := read(t, s.tree(m, "m.go")); got != "package m\n" {
		t.Errorf("the file is %q", got)
	}
}

func TestAListThatIsRightOnceSomethingElseIsRemovedIsNotWritten(t *testing.T) {
	s, m := one(t)
	stray := strings.TrimSuffix(s.at(m, ""), m.Version) + "v1.3.0-RC1.mod" // which the go command would list
	write(t, stray, "module one.test/m\n")
	old(t, stray)
	old(t, s.at(m, ".mod"))
	list := filepath.Join(filepath.Dir(stray), "list")
	before, err := os.Stat(list)
	if err != nil {
		t.Fatal(err)
	}
	if got := kinds(s.mend(s.config())); !slices.Equal(got, []string{"unreachable removed"}) {
		t.Errorf("done: %q", got)
	}
	if after, err := os.Stat(list); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the list was written (%v)", err)
	}
}

func TestWhereGoSumAloneSaysOtherwiseNothingIsChanged(t *testing.T) {
	s, m := one(t)
	c := s.config()
	c.Sums = map[module.Version]string{m: "h1:" + strings.Repeat("A", 43) + "="}
	before := snapshot(t, s.dir)
	r := s.mend(c)
	if got := kinds(r); !slices.Equal(got, []string{"zip-changed left"}) || !r.Damages[0].Contested {
		t.Errorf("done:\n%s", describe(r.Damages))
	}
	for name, e := range snapshot(t, s.dir) {
		if before[name] != e {
			t.Errorf("%s was touched", name)
		}
	}
}

// A lying source has other zips than it had.
type lying struct {
	*scene
	vouched bool
}

func (l lying) Fetch(_ context.Context, req goproxy.Request) (*File, error) {
	m := req.Module
	return &File{Body: io.NopCloser(strings.NewReader(zipOf(l.t, m.String()+"/other.go"))), Vouched: l.vouched}, nil
}

func TestOtherBytesThanBeforeAreTakenOnlyIfADatabaseVouchesForThem(t *testing.T) {
	for vouched, want := range map[bool]string{false: "zip-damaged failed", true: "zip-damaged fetched"} {
		s, m := one(t)
		write(t, s.at(m, ".zip"), "no zip")
		c := s.config()
		c.Source = lying{s, vouched}
		r := s.mend(c)
		if got := kinds(r); got[0] != want {
			t.Errorf("vouched %v: %s", vouched, describe(r.Damages))
		}
		if got := read(t, s.at(m, ".zip")); !vouched && got != "no zip" {
			t.Errorf("the zip became %d bytes", len(got))
		}
	}
}

// A failing source breaks off in the middle.
type failing struct {
	*scene
	cancel context.CancelFunc
}

func (f failing) Fetch(ctx context.Context, req goproxy.Request) (*File, error) {
	file, _ := f.scene.Fetch(ctx, req)
	return &File{Body: io.NopCloser(io.MultiReader(io.LimitReader(file.Body, 100), after{f.cancel}))}, nil
}

type after struct{ f context.CancelFunc }

func (a after) Read([]byte) (int, error) {
	a.f()
	return 0, errors.New("the source broke off")
}

func TestWhatCannotBeFetchedOrIsBrokenOffIsLeftAsItWas(t *testing.T) {
	for name, cancel := range map[string]bool{"it broke off": false, "interrupted": true} {
		s, m := one(t)
		write(t, s.at(m, ".zip"), "no zip")
		write(t, s.at(m, ".info"), "")
		write(t, s.tree(m, "m.go"), "")
		before := snapshot(t, s.dir)
		ctx, stop := context.WithCancel(t.Context())
		c := s.config()
		c.Source = failing{s, func() {}}
		if cancel {
			c.Source = failing{s, stop}
		}
		k, err := Open(c)
		if err != nil {
			t.Fatal(err)
		}
		r, err := k.Mend(ctx)
		if cancel != (err != nil) || len(r.Damages) == 0 {
			t.Errorf("%s: %v\n%s", name, err, describe(r.Damages))
		}
		for _, d := range r.Damages {
			if d.Done != Failed || d.Err == nil {
				t.Errorf("%s: %s", name, describe([]Damage{d}))
			}
		}
		after := snapshot(t, s.dir)
		for name, e := range after {
			if before[name] != e {
				t.Errorf("%s was touched", name)
			}
		}
		if len(after) != len(before) {
			t.Errorf("%d files, and there were %d", len(after), len(before))
		}
		stop()
		if r := s.mend(s.config()); slices.ContainsFunc(r.Damages, func(d Damage) bool { return d.Done == Failed }) {
			t.Errorf("the next time: %s", describe(r.Damages))
		}
	}
}

func TestAVersionThatAGoCommandIsAtWorkOnIsLeftToIt(t *testing.T) {
	s, m := one(t)
	write(t, s.at(m, ".partial"), "")
	write(t, s.at(m, ".zip123.tmp"), "PK")
	remove(t, s.tree(m, "sub"))
	f, err := os.OpenFile(s.at(m, ".lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if ok, err := lockFile(f, true); !ok || err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, s.dir)
	if r := s.check(s.config()); len(r.Damages) > 0 || !slices.Equal(r.Busy, []module.Version{m}) {
		t.Errorf("looked at: busy %v, and found:\n%s", r.Busy, describe(r.Damages))
	}
	r := s.mend(s.config())
	if len(r.Damages) > 0 || !slices.Equal(r.Busy, []module.Version{m}) {
		t.Errorf("busy %v, and found:\n%s", r.Busy, describe(r.Damages))
	}
	if after := snapshot(t, s.dir); len(after) != len(before) {
		t.Error("something was changed")
	}
	f.Close()
	if got := kinds(s.mend(s.config())); !slices.Equal(got, []string{"leftover removed", "tree-partial rewritten"}) {
		t.Errorf("once it is gone: %q", got)
	}
}

func TestOnlySomeVersionsAndSoManyBytesAreReadIfThatIsAsked(t *testing.T) {
	w := modtest.New(t)
	a := w.Add("one.test/a", "v1.0.0", nil)
	b := w.Big("one.test/b", "v1.0.0", 1<<20)
	z := w.Add("one.test/z", "v1.0.0", nil)
	s := lay(t, w, a, b, z)
	write(t, s.at(z, ".zip"), "no zip")
	write(t, filepath.Join(s.dir, "cache", "lock", "x"), "x")
	c := s.config()
	c.Only, c.MaxBytes, c.Parallel = []module.Version{a, b, {Path: "one.test/nowhere", Version: "v1.0.0"}}, 100<<10, 1
	r := s.check(c)
	if !slices.Equal(kinds(r), []string{"not-a-file "}) || r.Damages[0].File != "cache/lock" || r.Versions != 2 || r.Skipped != 1 || r.Bytes >= 1<<20 {
		t.Errorf("%d versions, %d of them skipped, %d bytes\n%s", r.Versions, r.Skipped, r.Bytes, describe(r.Damages))
	}
}

func TestWhatIsNotReadInTimeIsSkippedAndAllElseIsLookedAt(t *testing.T) {
	w := modtest.New(t)
	a := w.Add("one.test/a", "v1.0.0", nil)
	b := w.Add("one.test/b", "v1.0.0", nil)
	s := lay(t, w, a, b)
	write(t, s.at(a, ".zip"), "no zip")
	write(t, s.at(b, ".info"), "no info")
	c := s.config()
	c.Only, c.MaxTime = []module.Version{a, b}, time.Nanosecond
	r := s.check(c)
	if !slices.Equal(kinds(r), []string{"info-damaged "}) || r.Versions != 2 || r.Skipped != 2 || r.Bytes != 0 {
		t.Errorf("%d versions, %d of them skipped, %d bytes\n%s", r.Versions, r.Skipped, r.Bytes, describe(r.Damages))
	}
	c.MaxTime = time.Hour
	if r := s.check(c); r.Skipped != 0 || !slices.Contains(kinds(r), "zip-damaged ") {
		t.Errorf("in an hour %d are skipped\n%s", r.Skipped, describe(r.Damages))
	}
}

func TestWhatIsTooMuchToReadIsNotReadForAnotherDamage(t *testing.T) {
	w := modtest.New(t)
	b := w.Big("one.test/b", "v1.0.0", 1<<20)
	s := lay(t, w, b)
	write(t, s.at(b, ".zip"), "PK, and then something else for longer than may be read")
	write(t, s.at(b, ".info"), "no info")
	c := s.config()
	c.Only, c.MaxBytes = []module.Version{b}, 10
	if r := s.check(c); !slices.Equal(kinds(r), []string{"info-damaged "}) || r.Skipped != 1 {
		t.Errorf("%d skipped\n%s", r.Skipped, describe(r.Damages))
	}
}

func TestTheChecksumDatabaseIsAskedWhereThatIsWanted(t *testing.T) {
	s, m := one(t)
	c := s.config()
	c.Database = func(context.Context, module.Version) (string, string, bool, error) {
		return s.world.H1Zip(m), "h1:" + strings.Repeat("A", 43) + "=", true, nil
	}
	if got := kinds(s.check(c)); !slices.Equal(got, []string{"mod-changed "}) {
		t.Errorf("found %q", got)
	}
	c.Database = func(context.Context, module.Version) (string, string, bool, error) {
		return "", "", false, errors.New("it cannot be reached")
	}
	if r := s.check(c); len(r.Damages) > 0 || r.Unasked != 1 || r.Unread == nil {
		t.Errorf("%d were not asked about (%v)\n%s", r.Unasked, r.Unread, describe(r.Damages))
	}
}

func TestAGoCommandMayRunWhileItIsMended(t *testing.T) {
	s := newScene(t, 12)
	for _, m := range s.mods {
		write(t, s.at(m, ".partial"), "")
		remove(t, s.tree(m, "sub"))
	}
	bin, err := exec.LookPath("go")
	modtest.Need(t, "the go command", err == nil)
	cmd := exec.Command(bin, "mod", "download")
	cmd.Dir, cmd.Env = s.app, s.env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := s.mend(s.config())
	if err := cmd.Wait(); err != nil {
		t.Errorf("go mod download: %v\n%s", err, &out)
	}
	for _, d := range r.Damages {
		if d.Done == Failed {
			t.Errorf("not mended: %s", describe([]Damage{d}))
		}
	}
	s.goRun("mod", "verify")
	if r := s.check(s.config()); len(r.Damages) > 0 {
		t.Errorf("found:\n%s", describe(r.Damages))
	}
}

// Somebody has put a copy of the cache aside in it, or GOMODCACHE is a directory that
// holds more than modules: nothing of that is in the way of the go command.
func TestWhatSomebodyKeepsBesideTheModulesIsNotRemoved(t *testing.T) {
	s, m := one(t)
	host := filepath.Dir(s.tree(m, ""))
	kept := []string{
		filepath.Join(s.dir, "Backup", "one.test", "m@v1.0.0", "m.go"),
		filepath.Join(s.dir, "Backup@v1.0.0", "m.go"),
		filepath.Join(s.dir, "Old.Disk", "one.test", "m@v1.0.0", "m.go"),
		filepath.Join(s.dir, "documents", "Work", "m@v1.0.0", "thesis.txt"),
		filepath.Join(s.dir, "cache", "download", "Backup", "one.test", "m", "@v", "v1.0.0.zip"),
		filepath.Join(host, "Work", "m@v1.0.0", "m.go"),
		filepath.Join(host, "Work", "thesis.txt"),
	}
	for _, name := range kept {
		write(t, name, "mine")
	}
	if got := kinds(s.mend(s.config())); len(got) > 0 {
		t.Errorf("done: %q", got)
	}
	for _, name := range kept {
		if data, err := os.ReadFile(name); err != nil || string(data) != "mine" {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
}
