//go:build linux

package e2e_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/sys/unix"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/modtest"
)

// newVariety is a project that needs modules of all kinds. more are added to it.
func newVariety(t *testing.T, wrap func(http.Handler) http.Handler, more int) (src *source, dir string, env []string) {
	w := modtest.New(t)
	gomod := func(path, goVersion string, needs ...module.Version) string {
		text := fmt.Sprintf("module %s\n\ngo %s\n", path, goVersion)
		for _, m := range needs {
			text += fmt.Sprintf("\nrequire %s %s\n", m.Path, m.Version)
		}
		return text
	}
	add := func(path, vers, goVersion string, files modtest.Files, needs ...module.Version) module.Version {
		files["go.mod"] = gomod(path, goVersion, needs...)
		return w.Add(path, vers, files)
	}
	old := w.Add("example.com/old", "v2.1.0+incompatible", modtest.Files{"p.go": "package old\n"})
	lower := add("example.com/graph", "v1.0.0", "1.16", modtest.Files{"p.go": "package graph\n"})
	add("example.com/graph", "v1.1.0", "1.16", modtest.Files{"p.go": "package graph\n\nconst N = 1\n"})
	mods := []module.Version{
		old, {Path: lower.Path, Version: "v1.1.0"},
		add("example.com/Upper/CASE", "v1.0.0", "1.16", modtest.Files{"p.go": "package p\n", "a/b/c/deep.go": "package c\n", "a/Empty": ""}, lower),
		add("example.com/pseudo", "v0.0.0-20200102030405-abcdefabcdef", "1.21", modtest.Files{"p.go": "package pseudo\n",
			".info": `{"Version":"v0.0.0-20200102030405-abcdefabcdef","Time":"2020-01-02T03:04:05Z","Origin":{"VCS":"git","URL":"https://x.example/r","Hash":"abcdefabcdef","TagSum":"t1:x","Ref":"refs/heads/main"}}`}),
		add("example.com/rc", "v1.0.0-RC1", "1.21", modtest.Files{"p.go": "package rc\n"}, old),
		add("example.com/two/v2", "v2.0.0", "1.21", modtest.Files{"p.go": "package two\n"}),
		w.Big("example.com/large", "v1.0.0", 3<<20),
	}
	for i := range more {
		mods = append(mods, add(fmt.Sprintf("example.com/more/m%03d", i), "v1.0.0", "1.21", modtest.Files{"p.go": "package p\n", "sub/q.go": strings.Repeat("// text\n", i*i) + "package sub\n"}))
	}
	src = newSource(t, w, wrap)
	dir = t.TempDir()
	text, sum := gomod("app.example", "1.21", mods...), w.GoSum(lower)
	for _, m := range mods {
		sum += w.GoSum(m)
	}
	for name, text := range map[string]string{"go.mod": text, "go.sum": sum} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return src, dir, freshUser(t, src)
}

// freshUser is the environment of somebody who has no module yet, and go commands that
// leave read-only trees.
func freshUser(t *testing.T, src *source, extra ...string) []string {
	env := modtest.GoEnv(t, src.URL, src.DB.GOSUMDB(""), "GOFLAGS=")
	tmp := filepath.Join(modtest.EnvValue(env, "HOME"), "tmp")
	if err := os.Mkdir(tmp, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, kv := range src.env {
		if strings.HasPrefix(kv, "SLUICE_") {
			env = append(env, kv)
		}
	}
	env = append(append(env, "TMPDIR="+tmp), extra...)
	t.Cleanup(func() { clearCache(t, env) })
	return env
}

// clearCache is go clean -modcache.
func clearCache(t *testing.T, env []string) {
	t.Helper()
	dir := modtest.EnvValue(env, "GOMODCACHE")
	filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			os.Chmod(name, 0o777)
		}
		return nil
	})
	if err := os.RemoveAll(dir); err != nil {
		t.Error(err)
	}
}

// cacheOf lists all that is in a user's module cache, with modes and contents.
func cacheOf(t *testing.T, env []string) map[string]string {
	t.Helper()
	all := map[string]string{}
	root := modtest.EnvValue(env, "GOMODCACHE")
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		text := fi.Mode().String()
		if !d.IsDir() {
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			text += " " + string(data)
		}
		rel, _ := filepath.Rel(root, name)
		all[rel] = text
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
			t.Errorf("%s is\n%.200q, and the go command leaves\n%.200q", name, g, w)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is there, and the go command leaves nothing there", name)
		}
	}
}

// run is sluice run with a go command, which must succeed.
func run(t *testing.T, env []string, dir string, args ...string) (stderr string) {
	t.Helper()
	_, stderr, status := sluice(t, env, dir, append([]string{"run", "--", "go"}, args...)...)
	if status != 0 {
		t.Fatalf("sluice run -- go %s: status %d\n%s", strings.Join(args, " "), status, stderr)
	}
	return stderr
}

const laidWords = " laid into the module cache"

func TestRunLeavesTheModuleCacheAsTheGoCommandAloneDoes(t *testing.T) {
	src, dir, _ := newVariety(t, nil, 20)
	for _, flags := range []string{"GOFLAGS=", "GOFLAGS=-modcacherw"} {
		alone := freshUser(t, src, flags)
		mustGo(t, alone, dir, "mod", "download")
		want := cacheOf(t, alone)

		env := freshUser(t, src, flags)
		src.Forget()
		if said := run(t, env, dir, "mod", "download"); !strings.Contains(said, laidWords) {
			t.Errorf("it does not say that anything is laid:\n%s", said)
		}
		sameCaches(t, want, cacheOf(t, env))
		mustGo(t, append(env, "GOPROXY=off"), dir, "mod", "download")
		if out, _ := mustGo(t, env, dir, "mod", "verify"); out != "all modules verified\n" {
			t.Errorf("go mod verify says %s", out)
		}
		// What the cache has of the store's, it has not taken from it.
		mustGo(t, env, dir, "clean", "-modcache")
		if out, stderr, status := sluice(t, env, dir, "verify"); status != 0 {
			t.Errorf("after go clean -modcache: %s%s", out, stderr)
		}
		src.Forget()
		run(t, env, dir, "mod", "download")
		sameCaches(t, want, cacheOf(t, env))
		if n := src.HitsPrefix("example.com"); n != 0 {
			t.Errorf("with all of it in the store, the source was asked %d times", n)
		}
		checkNothingLeft(t, env)
	}
}

// liar serves other bytes in place of a module's zip.
type liar struct {
	next http.Handler
	path string
	zip  []byte
}

func (l *liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.TrimPrefix(r.URL.Path, "/") == l.path {
		w.Write(l.zip)
		return
	}
	l.next.ServeHTTP(w, r)
}

func TestALieIsNotLaidIntoTheModuleCache(t *testing.T) {
	const lie = "this is not what it was"
	m := module.Version{Path: "example.com/two/v2", Version: "v2.0.0"}
	other := modtest.New(t)
	other.Add(m.Path, m.Version, modtest.Files{"go.mod": "module example.com/two/v2\n\ngo 1.21\n", "p.go": "package two // " + lie + "\n"})
	src, dir, env := newVariety(t, func(h http.Handler) http.Handler {
		return &liar{h, pathOf(goproxy.Zip, m.Path, m.Version), other.Zip(m)}
	}, 0)
	for what, env := range map[string][]string{
		"the checksum database disagrees": env,
		"only go.sum disagrees":           freshUser(t, src, "GONOSUMDB=example.com"),
	} {
		_, stderr, status := sluice(t, env, dir, "run", "--", "go", "mod", "download")
		if status == 0 {
			t.Errorf("%s: it went well\n%s", what, stderr)
		}
		there := false
		for name, text := range cacheOf(t, env) {
			if strings.HasSuffix(name, ".tmp") {
				continue // of the go command, which looked for itself, and has not believed it
			}
			if strings.Contains(text, lie) || bytes.Contains([]byte(text), other.Zip(m)) || strings.HasPrefix(name, "example.com/two/v2@") || strings.Contains(name, "two/v2/@v/v2.0.0.zip") {
				t.Errorf("%s: %s is in the module cache", what, name)
			}
			there = there || name == "example.com/pseudo@v0.0.0-20200102030405-abcdefabcdef/p.go"
		}
		if !there {
			t.Errorf("%s: other modules are not in the module cache\n%s", what, stderr)
		}
	}
}

// wholeModules are those of the source's that lie in the cache at root and are not marked
// as being extracted.
func wholeModules(src *source, root string) (list []module.Version) {
	for _, m := range src.Modules() {
		escPath, _ := module.EscapePath(m.Path)
		escVers, _ := module.EscapeVersion(m.Version)
		_, err := os.Stat(filepath.Join(root, escPath+"@"+escVers))
		_, mark := os.Stat(filepath.Join(root, "cache", "download", escPath, "@v", escVers+".partial"))
		if err == nil && mark != nil {
			list = append(list, m)
		}
	}
	return list
}

func TestWhatAKilledRunLeavesTheGoCommandGoesOnFrom(t *testing.T) {
	rnd := chances(t)
	src, dir, _ := newVariety(t, nil, 80)
	alone := freshUser(t, src)
	mustGo(t, alone, dir, "mod", "download")
	want := cacheOf(t, alone)
	store := filepath.Join(t.TempDir(), "store")
	midway := 0
	for range killRounds(t, 5) {
		env := freshUser(t, src, "SLUICE_DATA="+store)
		root := modtest.EnvValue(env, "GOMODCACHE")
		// It cannot end by itself: somebody has locked one of the modules.
		unlock := lockModule(t, root, module.Version{Path: "example.com/more/m079", Version: "v1.0.0"})
		s := begin(t, env, dir, 0, "run", "--", "go", "mod", "download")
		// Soon after one is whole.
		for end := time.Now().Add(patience); len(wholeModules(src, root)) == 0 && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Duration(rnd.IntN(60)) * time.Millisecond)
		syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		<-s.end
		unlock()
		whole := wholeModules(src, root)
		for i := 0; i < len(whole); i += 40 { // it is whole, for a go command that can ask nobody
			mustGo(t, append(env, "GOPROXY=off", "GONOSUMDB=example.com"), t.TempDir(), "mod", "download", whole[i].String())
		}
		if len(whole) > 0 && len(whole) < len(src.Modules())-1 {
			midway++
		}
		mustGo(t, env, dir, "mod", "download")
		if out, _ := mustGo(t, env, dir, "mod", "verify"); out != "all modules verified\n" {
			t.Errorf("go mod verify says %s", out)
		}
		got := cacheOf(t, env)
		for name := range got {
			// Those of a zip, as all of ours are, it removes; others of its own it leaves.
			if strings.HasSuffix(name, ".tmp") && !strings.Contains(name, ".zip") {
				delete(got, name)
			}
		}
		// The go command makes a list after the .mod (cmd/go/internal/modfetch). Killed in
		// between it leaves none, or an empty one, until it comes by another version: of as
		// many modules as it asks for at a time.
		unlisted := 0
		for name, text := range want {
			if now := got[name]; strings.HasSuffix(name, "/@v/list") && now != text && (now == "" || now == strings.TrimSuffix(text, "v1.0.0\n")) {
				unlisted++
				got[name] = text
			}
		}
		if unlisted > runtime.GOMAXPROCS(0) {
			t.Errorf("%d modules have a .mod and no list", unlisted)
		}
		// Directories of what was whole, but for their permissions, stay writable.
		for name, text := range got {
			if strings.HasPrefix(text, "drwx") && strings.HasPrefix(want[name], "dr-x") {
				got[name] = want[name]
			}
		}
		sameCaches(t, want, got)
		if t.Failed() {
			t.FailNow()
		}
		clearCache(t, env)
		if midway%3 == 2 {
			os.RemoveAll(store) // from the sources again
		}
	}
	if midway == 0 {
		t.Error("no run was killed midway")
	}
}

// lockModule locks a module in the cache at root, as a go command does that fetches it.
// Its path and version have no upper case. unlock may be called again.
func lockModule(t *testing.T, root string, m module.Version) (unlock func()) {
	t.Helper()
	at := filepath.Join(root, "cache", "download", filepath.FromSlash(m.Path), "@v")
	if err := os.MkdirAll(at, 0o777); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(at, m.Version+".lock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	return func() { f.Close() }
}

func TestWhatAnotherGoCommandHasLockedIsLeftToIt(t *testing.T) {
	src, dir, env := newVariety(t, nil, 10)
	locked := module.Version{Path: "example.com/pseudo", Version: "v0.0.0-20200102030405-abcdefabcdef"}
	root := modtest.EnvValue(env, "GOMODCACHE")
	at := filepath.Join(root, "cache", "download", "example.com", "pseudo", "@v")
	unlock := lockModule(t, root, locked)
	s := begin(t, env, dir, 0, "run", "--", "go", "mod", "download")
	s.await(strconv.Itoa(len(src.Modules())-2) + " modules" + laidWords) // but one, and one is not selected
	for _, name := range []string{"zip", "ziphash", "partial"} {
		if _, err := os.Stat(filepath.Join(at, locked.Version+"."+name)); err == nil {
			t.Errorf("there is a .%s of what somebody else has locked", name)
		}
	}
	unlock()
	if status := s.wait(); status != 0 {
		t.Errorf("status %d\n%s", status, s.said)
	}
	alone := freshUser(t, src)
	mustGo(t, alone, dir, "mod", "download")
	sameCaches(t, cacheOf(t, alone), cacheOf(t, env))
}

func TestTwoRunsAtOnceLayEachModuleOnce(t *testing.T) {
	src, dir, env := newVariety(t, nil, 40)
	a := begin(t, env, dir, 0, "run", "--", "go", "mod", "download")
	b := begin(t, env, dir, 0, "run", "--", "go", "mod", "download")
	for _, s := range []*session{a, b} {
		if status := s.wait(); status != 0 {
			t.Errorf("status %d\n%s", status, s.said)
		}
	}
	alone := freshUser(t, src)
	mustGo(t, alone, dir, "mod", "download")
	sameCaches(t, cacheOf(t, alone), cacheOf(t, env))
}

func TestAnInterruptedRunLeavesNothingHalfLaid(t *testing.T) {
	src, dir, _ := newVariety(t, nil, 80)
	store := filepath.Join(t.TempDir(), "store")
	rnd := chances(t)
	for range 2 {
		env := freshUser(t, src, "SLUICE_DATA="+store)
		root := modtest.EnvValue(env, "GOMODCACHE")
		s := begin(t, env, dir, 0, "run", "--", "go", "mod", "download")
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if found, _ := filepath.Glob(filepath.Join(root, "example.com", "*")); len(found) > 0 {
				break
			}
		}
		time.Sleep(time.Duration(rnd.IntN(30)) * time.Millisecond)
		// Only to Sluice: what a go command leaves that is interrupted is its own affair.
		s.cmd.Process.Signal(os.Interrupt)
		s.wait()
		for name := range cacheOf(t, env) {
			if strings.HasSuffix(name, ".tmp") && strings.Contains(name, ".zip") {
				t.Errorf("%s is left", name)
			}
		}
		mustGo(t, env, dir, "mod", "download")
		mustGo(t, env, dir, "mod", "verify")
	}
}
