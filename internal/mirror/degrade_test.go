package mirror_test

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/upstream"
)

const degradeWorld = `
-- switch.test/a@v1.0.0/go.mod --
module switch.test/a
-- switch.test/b@v1.0.0/go.mod --
module switch.test/b
-- switch.test/b@v1.0.0/b.go --
package b
`

var (
	switchA = module.Version{Path: "switch.test/a", Version: "v1.0.0"}
	switchB = module.Version{Path: "switch.test/b", Version: "v1.0.0"}
)

func TestOfflineServesWhatIsThereAndSaysWhoSwitched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := modtest.New(t)
		w.AddTxtar(degradeWorld)
		r := newRig(t, parts{sources: []upstream.Source{pipe(t, "s", w.Handler())}, settings: mirror.Settings{LookAhead: 4}})
		for _, req := range []goproxy.Request{zipOf(switchA), list(switchA.Path)} {
			if g := r.get(req); !g.complete() {
				t.Fatal(g)
			}
		}
		synctest.Wait()
		w.Forget()
		r.Degrade(mirror.Degraded{Offline: "by ann, until noon: the line is down"})
		time.Sleep(time.Hour) // the list is old by now
		for _, req := range []goproxy.Request{info(switchA), gomod(switchA), zipOf(switchA), list(switchA.Path), latest(switchA.Path)} {
			if g := r.get(req, mirror.Options{Client: "c"}); !g.complete() {
				t.Errorf("%v, which is there: %v", req, g)
			}
		}
		for _, req := range []goproxy.Request{info(switchB), gomod(switchB), zipOf(switchB), list(switchB.Path), latest(switchB.Path), query(switchA.Path, "main")} {
			err := r.wantErr(req, "SL-OFF-004")
			if oe, ok := errors.AsType[*mirror.OfflineError](err); !ok || errors.Is(err, fs.ErrNotExist) || !strings.Contains(oe.Error(), "by ann, until noon: the line is down") {
				t.Errorf("%v: %v", req, err)
			}
		}
		// Who forbids fetching by himself is told that.
		if g := r.get(zipOf(switchB), mirror.Options{NoFetch: true}); !errors.Is(g.err, mirror.ErrNotCached) {
			t.Errorf("without fetching: %v", g)
		}
		wantAsked(t, w, "offline")
		r.Degrade(mirror.Degraded{})
		if g := r.get(zipOf(switchB)); !g.complete() {
			t.Errorf("online again: %v", g)
		}
		r.Close()
	})
}

func TestWithoutLookAheadNothingIsFetchedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := modtest.New(t)
		w.AddTxtar(degradeWorld)
		r := newRig(t, parts{sources: []upstream.Source{pipe(t, "s", w.Handler())}, settings: mirror.Settings{LookAhead: 4}})
		r.Degrade(mirror.Degraded{NoLookAhead: true})
		r.get(info(switchA), mirror.Options{Client: "c"})
		synctest.Wait()
		wantAsked(t, w, "switched off", info(switchA))
		r.Degrade(mirror.Degraded{})
		r.get(info(switchB), mirror.Options{Client: "c"})
		synctest.Wait()
		wantAsked(t, w, "switched on", info(switchB), gomod(switchB))
		r.Close()
	})
}

func TestASourceIsTriedWithWhatWasUsedLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := modtest.New(t)
		w.AddTxtar(degradeWorld)
		good := pipe(t, "good", w.Handler())
		r := newRig(t, parts{sources: []upstream.Source{good}})
		all := func(string) bool { return true }
		if reqs := r.Samples(t.Context(), 3, all); len(reqs) != 0 {
			t.Errorf("an empty store gives %v", reqs)
		}
		r.get(zipOf(switchA))
		r.get(zipOf(switchB))
		reqs := r.Samples(t.Context(), 3, all)
		if want := []goproxy.Request{info(switchB), gomod(switchB), info(switchA), gomod(switchA), zipOf(switchA)}; !slices.Equal(reqs, want) {
			t.Errorf("the samples are %v, want %v", reqs, want)
		}
		if reqs := r.Samples(t.Context(), 1, func(path string) bool { return path == switchA.Path }); !slices.Equal(reqs, []goproxy.Request{info(switchA), gomod(switchA), zipOf(switchA)}) {
			t.Errorf("the samples of one module are %v", reqs)
		}
		// A process that has served nothing yet looks into the store.
		again := newRig(t, parts{sources: []upstream.Source{good}, store: r.store})
		if reqs := again.Samples(t.Context(), 3, all); len(reqs) != 5 {
			t.Errorf("the store's samples are %v", reqs)
		}
		w.Forget()
		other := modtest.New(t)
		other.AddTxtar(strings.ReplaceAll(degradeWorld, "package b", "package b // other"))
		link := upstream.Link{Source: pipe(t, "other", other.Handler())}
		for _, req := range []goproxy.Request{info(switchB), gomod(switchB)} {
			if tr := r.TryAt(t.Context(), link, nil, req); tr.Err != nil || tr.Source != link.Source.Name() {
				t.Errorf("%v at another source: %+v", req, tr)
			}
		}
		if tr := r.TryAt(t.Context(), link, nil, zipOf(switchB)); tr.Err == nil {
			t.Error("another zip than the pinned one was taken")
		}
		wantAsked(t, w, "the usual source meanwhile")
		if len(r.quarantined()) != 0 {
			t.Error("a try left something in quarantine")
		}
	})
}
