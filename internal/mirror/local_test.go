package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/upstream"
)

// A localRig is a mirror over one source and a tree on this machine, both of which
// have the same modules.
type localRig struct {
	*rig
	world  *modtest.World
	db     *modtest.SumDB
	source *modtest.Server
	tree   string
	mod    module.Version // in the world, with a zip too large to be read at once
	kinds  []goproxy.Kind
}

func newLocalRig(t *testing.T, p parts) *localRig {
	t.Helper()
	w := modtest.New(t)
	r := &localRig{world: w, tree: t.TempDir(), mod: w.Big("example.com/Big", "v1.0.0", 2<<20), kinds: []goproxy.Kind{goproxy.Info, goproxy.Mod, goproxy.Zip}}
	w.WriteTree(r.tree)
	r.source = modtest.Serve(t, w.Handler())
	r.db = w.SumDB("sumdb.test")
	p.sums = sumsOf(t, r.db, nil)
	src := httpSource(t, r.source.URL, 0)
	chain := &upstream.Chain{Links: []upstream.Link{{Source: src, FallBack: true}}}
	tree := upstream.NewTreeSource(r.tree, "module cache", 0)
	p.settings.Route = func(path string) mirror.Route {
		route := mirror.Route{Chain: chain, Why: "a test", Sums: p.sums, Local: tree}
		if p.private != nil && p.private(path) {
			route.Sums, route.Private = nil, true
		}
		return route
	}
	r.rig = newRig(t, p)
	return r
}

func (r *localRig) req(k goproxy.Kind) goproxy.Request {
	return goproxy.Request{Kind: k, Module: r.mod}
}

func (r *localRig) file(k goproxy.Kind) string {
	return filepath.Join(r.tree, filepath.FromSlash(r.req(k).Path()))
}

func (r *localRig) content(k goproxy.Kind) []byte {
	switch k {
	case goproxy.Info:
		return r.world.Info(r.mod)
	case goproxy.Mod:
		return r.world.Mod(r.mod)
	}
	return r.world.Zip(r.mod)
}

// gets demands the true content.
func (r *localRig) gets(k goproxy.Kind) mirror.Result {
	r.t.Helper()
	return r.want(r.req(k), r.content(k)).res
}

func (r *localRig) asked(k goproxy.Kind, want int) {
	r.t.Helper()
	if got := r.world.Hits("/" + r.req(k).Path()); got != want {
		r.t.Errorf("the source was asked %d times for %v; want %d", got, r.req(k), want)
	}
}

func TestWhatIsOnThisMachineIsNotDownloaded(t *testing.T) {
	d := openDisk(t, t.TempDir())
	r := newLocalRig(t, parts{store: d})
	for _, k := range []goproxy.Kind{goproxy.Mod, goproxy.Zip} {
		if res := r.gets(k); !res.Local || res.Hit || res.Source != "module cache" {
			t.Errorf("%v: Local %v, Hit %v, Source %q", k, res.Local, res.Hit, res.Source)
		}
		r.asked(k, 0)
	}
	r.gets(goproxy.Info)
	r.Close()
	for _, k := range r.kinds {
		rec, err := d.Record(r.req(k))
		if err != nil || k != goproxy.Info && rec.Verified == "" {
			t.Errorf("Record of %v = %+v, %v; want it stored, and verified", k, rec, err)
		}
	}
	if n := r.count("sluice_modcache_files_total", "linked"); n != 1 {
		t.Errorf("%v files were linked; want the zip", n)
	}
	a, err := os.Stat(r.file(goproxy.Zip))
	b, err2 := os.Stat(filepath.Join(d.Dir(), filepath.FromSlash(r.req(goproxy.Zip).Path())))
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(a, b) {
		t.Log("the file system shares blocks between files")
	}
}

func TestWrongBytesOnThisMachineAreNeverServedAndLeftAsTheyAre(t *testing.T) {
	for name, spoil := range map[string]func(r *localRig, k goproxy.Kind) []byte{
		"cut short":     func(r *localRig, k goproxy.Kind) []byte { c := r.content(k); return c[:len(c)/2] },
		"one byte off":  func(r *localRig, k goproxy.Kind) []byte { c := r.content(k); c[len(c)/2] ^= 1; return c },
		"something":     func(*localRig, goproxy.Kind) []byte { return []byte("<html>please log in</html>") },
		"nothing":       func(*localRig, goproxy.Kind) []byte { return nil },
		"one too large": func(r *localRig, k goproxy.Kind) []byte { return append(r.content(k), make([]byte, 300<<10)...) },
	} {
		for i, k := range []goproxy.Kind{goproxy.Mod, goproxy.Zip, goproxy.Zip} {
			t.Run(strings.ReplaceAll(name, " ", "_")+"/"+k.String(), func(t *testing.T) {
				var p parts
				if i < 2 { // else one that copies
					p.store = openDisk(t, t.TempDir())
				}
				r := newLocalRig(t, p)
				bad := spoil(r, k)
				if err := os.WriteFile(r.file(k), bad, 0o666); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					r.gets(k)
				}
				r.asked(k, 1)
				if got, err := os.ReadFile(r.file(k)); err != nil || !bytes.Equal(got, bad) {
					t.Errorf("the local file has %d bytes now, %v", len(got), err)
				}
				r.Close()
				if got := strings.Count(r.log.String(), `msg="local file is wrong`); got != 1 {
					t.Errorf("told %d times:\n%s", got, r.log)
				}
				if err := r.store.Check(r.req(k)); err != nil {
					t.Error(err)
				}
				// It is still there for who wants to look; a copy of what anybody may
				// have put there is not ours to keep.
				if list := r.quarantined(); len(list) != 0 {
					t.Errorf("in quarantine: %v", list)
				}
			})
		}
	}
}

func TestAWrongFileOnThisMachineIsToldOnceHoweverOftenItIsInTheWay(t *testing.T) {
	r := newLocalRig(t, parts{})
	if err := os.WriteFile(r.file(goproxy.Zip), []byte("no zip"), 0o666); err != nil {
		t.Fatal(err)
	}
	r.source.Stop()
	for range 3 {
		if g := r.get(r.req(goproxy.Zip)); g.err == nil || len(g.data) > 0 {
			t.Fatalf("a zip came from nowhere: %v", g)
		}
	}
	r.source.Start()
	r.gets(goproxy.Zip)
	if got := strings.Count(r.log.String(), `msg="local file is wrong`); got != 1 {
		t.Errorf("told %d times:\n%s", got, r.log)
	}
}

func TestNothingIsPinnedFromThisMachine(t *testing.T) {
	r := newLocalRig(t, parts{private: func(string) bool { return true }})
	for _, k := range r.kinds {
		r.gets(k)
		r.asked(k, 1)
	}
	if n := r.count("sluice_modcache_files_total"); n != 0 {
		t.Errorf("%v files were taken", n)
	}
}

// Nothing vouches for an .info, so the sources' word is better; where they have
// none, the version at least is one that the database knows.
func TestAnInfoIsTakenFromThisMachineOnlyWhereNoSourceGivesIt(t *testing.T) {
	r := newLocalRig(t, parts{})
	r.gets(goproxy.Info)
	r.asked(goproxy.Info, 1)

	r = newLocalRig(t, parts{})
	r.source.Stop()
	if res := r.gets(goproxy.Info); !res.Local {
		t.Error("it came from elsewhere")
	}
	unknown := module.Version{Path: r.mod.Path, Version: "v1.0.1"}
	info := goproxy.Request{Kind: goproxy.Info, Module: unknown}
	if err := os.WriteFile(filepath.Join(r.tree, filepath.FromSlash(info.Path())), []byte(`{"Version":"v1.0.1"}`), 0o666); err != nil {
		t.Fatal(err)
	}
	if g := r.get(info); g.err == nil || errors.Is(g.err, fs.ErrNotExist) {
		t.Errorf("an .info that no database stands for: %v", g)
	}
}

func TestADirectoryThatIsNotThereIsNoTrouble(t *testing.T) {
	r := newLocalRig(t, parts{})
	if err := os.RemoveAll(r.tree); err != nil {
		t.Fatal(err)
	}
	for _, k := range r.kinds {
		r.gets(k)
	}
	if strings.Contains(r.log.String(), "level=WARN") {
		t.Errorf("it is told:\n%s", r.log)
	}
}

// A file that cannot be judged now says nothing about itself.
func TestAFileOnThisMachineIsNotHeldWrongBecauseTheDatabaseIsSilent(t *testing.T) {
	r := newLocalRig(t, parts{})
	r.db.Down(true)
	if g := r.get(r.req(goproxy.Mod)); g.err == nil {
		t.Fatal("it was served unverified")
	}
	r.db.Down(false)
	if res := r.gets(goproxy.Mod); !res.Local {
		t.Error("it came from elsewhere")
	}
}

func TestAColdTraceAndAFullOneTellWhereTheFileWouldComeFrom(t *testing.T) {
	r := newLocalRig(t, parts{})
	req := []goproxy.Request{r.req(goproxy.Zip)}
	if steps, res := r.Trace(t.Context(), req, false); len(res) != 1 || res[0].Source != "module cache" || !tells(steps, "found in the module cache") {
		t.Errorf("Trace = %+v, %+v", steps, res)
	}
	if _, res := r.Trace(t.Context(), req, true); len(res) != 1 || res[0].Err != nil || res[0].Source == "module cache" {
		t.Errorf("a cold Trace = %+v", res)
	}
}

func tells(steps []mirror.Step, what string) bool {
	for _, s := range steps {
		if s.What == what {
			return true
		}
	}
	return false
}

// A stalledSource is a tree on a file system that does not answer.
type stalledSource struct{ asked atomic.Int32 }

func (*stalledSource) Name() string        { return "module cache" }
func (*stalledSource) Kind() upstream.Kind { return upstream.Tree }
func (s *stalledSource) Get(context.Context, goproxy.Request) (*upstream.Answer, error) {
	s.asked.Add(1)
	time.Sleep(3 * time.Second)
	return nil, &upstream.Error{Source: "module cache", Stage: upstream.StageLocal, Err: upstream.ErrStalled}
}

func TestAFileSystemThatHangsIsWaitedForOnceAMinute(t *testing.T) {
	w := modtest.New(t)
	var mods []module.Version
	for _, v := range []string{"v1.0.0", "v1.0.1", "v1.0.2"} {
		mods = append(mods, w.Add("example.com/m", v, modtest.Files{"go.mod": "module example.com/m\n"}))
	}
	synctest.Test(t, func(t *testing.T) {
		stalled := &stalledSource{}
		chain := &upstream.Chain{Links: []upstream.Link{{Source: pipe(t, "s", w.Handler())}}}
		sums := sumsOf(t, w.SumDB("sumdb.test"), nil)
		r := newRig(t, parts{settings: mirror.Settings{Route: func(string) mirror.Route {
			return mirror.Route{Chain: chain, Why: "a test", Sums: sums, Local: stalled}
		}}})
		for i, want := range []struct {
			took  time.Duration
			asked int32
		}{{3 * time.Second, 1}, {0, 1}, {3 * time.Second, 2}} {
			start := time.Now()
			req := goproxy.Request{Kind: goproxy.Mod, Module: mods[i]}
			r.want(req, w.Mod(mods[i]))
			if took := time.Since(start); took != want.took || stalled.asked.Load() != want.asked {
				t.Errorf("%v took %v, with the file system asked %d times; want %+v", req, took, stalled.asked.Load(), want)
			}
			if i == 1 {
				time.Sleep(time.Minute)
			}
		}
	})
}
