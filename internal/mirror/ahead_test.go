package mirror_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/checksum"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/upstream"
)

// asked lists what the source was asked for, in sorted order, and forgets it.
func asked(w *modtest.World) []string {
	var l []string
	for _, line := range w.Log() {
		l = append(l, strings.TrimPrefix(line, "GET /"))
	}
	w.Forget()
	slices.Sort(l)
	return l
}

func wantAsked(t testing.TB, w *modtest.World, what string, want ...goproxy.Request) {
	t.Helper()
	var paths []string
	for _, r := range want {
		paths = append(paths, r.Path())
	}
	slices.Sort(paths)
	if got := asked(w); !slices.Equal(got, paths) {
		t.Errorf("%s: asked for %q; want %q", what, got, paths)
	}
}

func TestLookAheadFetchesWhatTheGoCommandAsksForNext(t *testing.T) {
	w := modtest.New(t)
	w.AddTxtar(`
-- ahead.test/old@v1.0.0/go.mod --
module ahead.test/old

go 1.16

require (
	ahead.test/a v1.0.0
	ahead.test/b v1.0.0 // indirect
	ahead.test/missing v1.0.0
)
-- ahead.test/pruned@v1.0.0/go.mod --
module ahead.test/pruned

go 1.17

require ahead.test/a v1.1.0
-- ahead.test/bare@v1.0.0/go.mod --
module ahead.test/bare

require ahead.test/a v1.2.0
-- ahead.test/a@v1.0.0/go.mod --
module ahead.test/a

require ahead.test/b v1.1.0
-- ahead.test/a@v1.1.0/go.mod --
module ahead.test/a
-- ahead.test/a@v1.2.0/go.mod --
module ahead.test/a
-- ahead.test/b@v1.0.0/go.mod --
module ahead.test/b
-- ahead.test/b@v1.1.0/go.mod --
module ahead.test/b
`)
	at := func(path, v string) module.Version { return module.Version{Path: "ahead.test/" + path, Version: v} }
	client := mirror.Options{Client: "one"}
	fresh := func() *rig {
		r := newRig(t, parts{sources: []upstream.Source{serve(t, w.Handler())}, settings: mirror.Settings{LookAhead: 8}})
		w.Forget()
		return r
	}
	ask := func(r *rig, req goproxy.Request, o mirror.Options) {
		t.Helper()
		if g := r.get(req, o); g.err != nil {
			t.Fatalf("%v: %v", req, g)
		}
		r.Settle()
	}
	old := at("old", "v1.0.0")

	r := fresh()
	ask(r, info(old), client)
	wantAsked(t, w, ".info", info(old), gomod(old))
	ask(r, gomod(old), client) // from the store by now
	wantAsked(t, w, "then .mod of a module without a pruned graph", gomod(at("a", "v1.0.0")), gomod(at("b", "v1.0.0")), gomod(at("b", "v1.1.0")), gomod(at("missing", "v1.0.0")))
	ask(r, gomod(old), client)
	wantAsked(t, w, ".mod again")
	ask(r, gomod(at("a", "v1.0.0")), client) // which was fetched ahead
	wantAsked(t, w, "then .mod of a requirement")
	ask(r, info(old), client)
	wantAsked(t, w, ".info after .mod, as for a list", info(at("a", "v1.0.0")))
	ask(r, info(at("a", "v1.0.0")), client)
	wantAsked(t, w, "the next .info")
	ask(r, zipOf(old), client)
	wantAsked(t, w, "a .zip, which an import may have wanted", zipOf(old))
	if f, m := r.count("sluice_lookahead_total", "fetched"), r.count("sluice_lookahead_total", "missing"); f != 5 || m != 1 {
		t.Errorf("fetched %v, missing %v", f, m)
	}

	r = fresh()
	ask(r, gomod(old), client)
	asked(w)
	ask(r, info(old), mirror.Options{Client: "two"})
	wantAsked(t, w, ".info, after another client's .mod", info(old))

	r = fresh() // go.mod may name what a module with a pruned graph requires, and is asked of
	ask(r, gomod(at("pruned", "v1.0.0")), client)
	wantAsked(t, w, ".mod of a pruned module, with what comes before it in the order", gomod(at("pruned", "v1.0.0")), gomod(at("a", "v1.1.0")))
	ask(r, gomod(at("bare", "v1.0.0")), client)
	wantAsked(t, w, ".mod without a go line", gomod(at("bare", "v1.0.0")), gomod(at("a", "v1.2.0")))

	r = fresh()
	ask(r, list("ahead.test/a"), client)
	wantAsked(t, w, "a list", list("ahead.test/a"))
	ask(r, latest("ahead.test/a"), client)
	wantAsked(t, w, "@latest", latest("ahead.test/a"))
	ask(r, info(old), mirror.Options{})
	wantAsked(t, w, "for nobody", info(old))
	ask(r, info(old), mirror.Options{Client: "one", NoFetch: true})
	wantAsked(t, w, "without fetching")

	r = newRig(t, parts{sources: []upstream.Source{serve(t, w.Handler())}})
	ask(r, info(old), client)
	wantAsked(t, w, "switched off", info(old))
	r.Reload(mirror.Settings{LookAhead: 1, Route: func(string) mirror.Route { return mirror.Route{Chain: r.chain} }})
	ask(r, info(old), client)
	wantAsked(t, w, "switched on, for what is at hand")
	ask(r, info(at("pruned", "v1.0.0")), client)
	wantAsked(t, w, "switched on", info(at("pruned", "v1.0.0")), gomod(at("pruned", "v1.0.0")))
}

// A vcs is a source of another kind.
type vcs struct {
	upstream.Source
	kind upstream.Kind
}

func (v vcs) Kind() upstream.Kind { return v.kind }

func TestLookAheadNeverAsksVersionControlFirst(t *testing.T) {
	w := modtest.New(t)
	m := w.Add("vcs.test/m", "v1.0.0", nil)
	empty := modtest.New(t)
	client := mirror.Options{Client: "one"}
	for _, sources := range [][]upstream.Source{
		{vcs{serve(t, w.Handler()), upstream.Direct}},
		{serve(t, empty.Handler()), vcs{serve(t, w.Handler()), upstream.Direct}},
	} {
		r := newRig(t, parts{sources: sources, settings: mirror.Settings{LookAhead: 8}})
		w.Forget()
		r.want(info(m), w.Info(m), client)
		r.Settle()
		wantAsked(t, w, fmt.Sprint(r.chain.Names()), info(m))
	}
	off := newRig(t, parts{sources: []upstream.Source{upstream.OffSource{}}, settings: mirror.Settings{LookAhead: 8}, store: pinnedStore(t, w, m)})
	off.want(gomod(m), w.Mod(m), client)
	off.Settle()
	if n := off.count("sluice_lookahead_total"); n != 0 {
		t.Errorf("%v files were tried where nobody may be asked", n)
	}
}

// A guess is wrong now and then, and where the answer is a moment away it saves
// nothing when it is right.
func TestOfASourceThatIsNearNothingIsGuessed(t *testing.T) {
	for away, guessed := range map[time.Duration]bool{time.Millisecond: false, 20 * time.Millisecond: true} {
		synctest.Test(t, func(t *testing.T) {
			w := modtest.New(t)
			w.AddTxtar("-- near.test/pruned@v1.0.0/go.mod --\nmodule near.test/pruned\n\ngo 1.17\n\nrequire near.test/a v1.1.0\n-- near.test/a@v1.1.0/go.mod --\nmodule near.test/a\n")
			var known []goproxy.Request
			for i := range 20 {
				known = append(known, gomod(w.Add("known.test/m"+strconv.Itoa(i), "v1.0.0", nil)))
			}
			h := w.Handler()
			r := newRig(t, parts{
				sources: []upstream.Source{pipe(t, "s", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					time.Sleep(away)
					h.ServeHTTP(rw, r)
				}))},
				settings: mirror.Settings{LookAhead: 8},
			})
			r.chain.Health = upstream.NewHealth(upstream.HealthConfig{Heartbeat: -1})
			for _, req := range known {
				if g := r.get(req); g.err != nil {
					t.Fatal(g.err)
				}
			}
			w.Forget()
			pruned := gomod(module.Version{Path: "near.test/pruned", Version: "v1.0.0"})
			if g := r.get(pruned, mirror.Options{Client: "one"}); g.err != nil {
				t.Fatal(g.err)
			}
			r.Settle()
			want := []goproxy.Request{pruned}
			if guessed {
				want = append(want, gomod(module.Version{Path: "near.test/a", Version: "v1.1.0"}))
			}
			wantAsked(t, w, away.String()+" away", want...)
		})
	}
}

func TestLookAheadKeepsToItsBudgetAndEndsWithClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := modtest.New(t)
		var mod strings.Builder
		mod.WriteString("module many.test/m\n\nrequire (\n")
		const requirements = mirror.MaxQueued + 100
		for i := range requirements {
			fmt.Fprintf(&mod, "\tmany.test/r%d v1.0.0\n", i)
		}
		mod.WriteString(")\n")
		m := w.Add("many.test/m", "v1.0.0", modtest.Files{"go.mod": mod.String(), "a.go": "package a\n"})
		var now, most, all atomic.Int64
		src := pipe(t, "s", with(w.Handler(), func(rw http.ResponseWriter, r *http.Request) bool {
			if !strings.HasPrefix(r.URL.Path, "/many.test/r") {
				return false
			}
			all.Add(1)
			for n := now.Add(1); n > most.Load(); {
				most.Store(n) // one at a time would be enough to see that it is too many
			}
			defer now.Add(-1)
			select {
			case <-r.Context().Done():
			case <-time.After(time.Second):
				http.NotFound(rw, r)
			}
			return true
		}))
		const budget = 5
		r := newRig(t, parts{sources: []upstream.Source{src}, settings: mirror.Settings{LookAhead: budget}})
		r.want(gomod(m), w.Mod(m), mirror.Options{Client: "one"})
		synctest.Wait()
		if n := now.Load(); n != budget {
			t.Errorf("%d at once", n)
		}
		// Up to so many as are fetched at once had left the queue before it was full.
		if n := r.count("sluice_lookahead_total", "dropped"); n < requirements-mirror.MaxQueued-budget || n > requirements-mirror.MaxQueued {
			t.Errorf("dropped %v", n)
		}
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		// More at once from now on, and then none.
		route := func(string) mirror.Route { return mirror.Route{Chain: r.chain} }
		r.Reload(mirror.Settings{LookAhead: 1, Route: route})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := now.Load(); n != 1 {
			t.Errorf("%d at once with a budget of 1", n)
		}
		if most.Load() > budget {
			t.Errorf("up to %d at once", most.Load())
		}
		r.Close()
		if n := now.Load(); n > 1 || all.Load() > 80 {
			t.Errorf("%d still asked after Close, %d in all", n, all.Load())
		}
	})
}

// A zip that is fetched ahead counts until it is there: otherwise any number of
// large ones would be on their way at once.
func TestLookAheadCountsAZipUntilItIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := modtest.New(t)
		var mods []module.Version
		for i := range 8 {
			mods = append(mods, w.Big(fmt.Sprintf("zips.test/m%d", i), "v1.0.0", 2<<20))
		}
		var now atomic.Int64
		src := pipe(t, "s", with(w.Handler(), func(rw http.ResponseWriter, r *http.Request) bool {
			if !isZip(r) {
				return false
			}
			now.Add(1)
			defer now.Add(-1)
			req, _ := goproxy.ParsePath(r.URL.Path[1:])
			data := w.Zip(req.Module)
			rw.Write(data[:len(data)/2]) // enough for a client to begin
			http.NewResponseController(rw).Flush()
			time.Sleep(time.Second)
			io.Copy(rw, bytes.NewReader(data[len(data)/2:]))
			return true
		}))
		r := newRig(t, parts{sources: []upstream.Source{src}, settings: mirror.Settings{LookAhead: 2}})
		one := mirror.Options{Client: "one"}
		for _, m := range mods {
			r.want(gomod(m), w.Mod(m), one)
		}
		for _, m := range mods {
			r.want(info(m), w.Info(m), one)
		}
		for _, m := range mods[:3] { // as a download of all of them does
			r.want(zipOf(m), w.Zip(m), one)
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if n := now.Load(); n != 2 {
			t.Errorf("%d zips on their way with a budget of 2", n)
		}
		r.Settle()
		for _, m := range mods {
			r.wantStored(zipOf(m), true)
		}
	})
}

// prefetch fetches files ahead and waits for them.
func prefetch(r *rig, ctx context.Context, reqs []goproxy.Request, parallel int, lay mirror.Layer, done func(mirror.Fetched)) {
	p := r.Prefetch(ctx, parallel, lay, done)
	p.Add(reqs...)
	p.Wait()
}

func TestPrefetchTellsEachFile(t *testing.T) {
	w := modtest.New(t)
	small, large := w.Add("pre.test/small", "v1.0.0", nil), w.Big("pre.test/large", "v1.0.0", 2<<20)
	alone := w.Add("pre.test/alone", "v1.0.0", nil) // whose .mod comes with no zip
	r := newRig(t, parts{sources: []upstream.Source{serve(t, w.Handler())}})
	reqs := []goproxy.Request{gomod(alone), zipOf(small), zipOf(large), zipOf(module.Version{Path: "pre.test/none", Version: "v1.0.0"})}
	for _, parallel := range []int{0, 1, 9} {
		told := map[goproxy.Request]mirror.Fetched{}
		prefetch(r, t.Context(), reqs, parallel, nil, func(f mirror.Fetched) { told[f.Request] = f })
		if len(told) != len(reqs) || told[reqs[3]].Err == nil || told[zipOf(large)].Size != int64(len(w.Zip(large))) || told[gomod(alone)].Hit != (parallel > 0) {
			t.Errorf("%d: %v", parallel, told)
		}
		r.Settle()
	}

	// One file may lead to another.
	cold := newRig(t, parts{sources: []upstream.Source{serve(t, w.Handler())}, store: noHot(t, t.TempDir())})
	first, next := w.Add("lead.test/first", "v1.0.0", nil), w.Add("lead.test/next", "v1.0.0", nil)
	var order []string
	var p *mirror.Prefetch
	tell := func(f mirror.Fetched) {
		order = append(order, f.Request.Path())
		if f.Request == gomod(first) {
			p.Add(gomod(next), zipOf(next))
		}
	}
	for range 2 { // then from the store
		order = nil
		p = cold.Prefetch(t.Context(), 1, nil, tell)
		p.Add(gomod(first))
		p.Wait()
		slices.Sort(order)
		if want := []string{gomod(first).Path(), gomod(next).Path(), zipOf(next).Path()}; !slices.Equal(order, want) {
			t.Errorf("%q were fetched, want %q", order, want)
		}
		cold.Settle()
	}

	ctx, cancel := contextCause(t)
	cancel(errLeft)
	prefetch(r, ctx, reqs, 1, nil, func(mirror.Fetched) {})
	for _, req := range reqs[:3] {
		r.wantStored(req, true)
	}
}

// Who is told of a zip may open it, also where storing it takes its time.
func TestPrefetchTellsOfAZipWhenItIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := modtest.New(t)
		m := w.Add("pre.test/m", "v1.0.0", nil)
		st := &ordered{Store: store.NewMem()}
		r := newRig(t, parts{sources: []upstream.Source{pipe(t, "s", w.Handler())}, store: st, sums: sumsOf(t, w.SumDB("sumdb.test"), nil)})
		told := false
		prefetch(r, t.Context(), []goproxy.Request{zipOf(m)}, 1, nil, func(f mirror.Fetched) {
			told = true
			b, err := st.Open(f.Request)
			if f.Err != nil || err != nil {
				t.Errorf("told (%v), and the store says: %v", f.Err, err)
				return
			}
			b.Close()
		})
		if !told {
			t.Error("nothing was told")
		}
	})
}

// aFarDatabase takes its time for each module once.
type aFarDatabase struct {
	db    mirror.Sums
	err   error
	mu    sync.Mutex
	asked map[module.Version]chan struct{}
}

func (d *aFarDatabase) Name() string { return "sumdb.test" }

func (d *aFarDatabase) Sums(ctx context.Context, mod module.Version) (string, string, error) {
	d.mu.Lock()
	known := d.asked[mod]
	if known == nil {
		known = make(chan struct{})
		d.asked[mod] = known
		time.AfterFunc(200*time.Millisecond, func() { close(known) })
	}
	d.mu.Unlock()
	<-known
	if d.err != nil {
		return "", "", d.err
	}
	return d.db.Sums(ctx, mod)
}

func TestNoFileWaitsForItsTurnAtTheDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := modtest.New(t)
		var reqs []goproxy.Request
		for i := range 40 {
			reqs = append(reqs, gomod(w.Add("far.test/m"+strconv.Itoa(i), "v1.0.0", nil)))
		}
		h := w.Handler()
		source := pipe(t, "s", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(100 * time.Millisecond)
			h.ServeHTTP(rw, r)
		}))
		db := &aFarDatabase{db: sumsOf(t, w.SumDB("sumdb.test"), nil), asked: map[module.Version]chan struct{}{}}
		start := time.Now()
		prefetch(newRig(t, parts{sources: []upstream.Source{source}, sums: db}), t.Context(), reqs, 4, nil, func(f mirror.Fetched) {
			if f.Err != nil {
				t.Errorf("%v: %v", f.Request, f.Err)
			}
		})
		// Each file takes 200 ms where it asks for itself alone: 2 s, four at a time.
		if took := time.Since(start); took > 1300*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		dead := &aFarDatabase{err: checksum.ErrUnreachable, asked: map[module.Version]chan struct{}{}}
		start = time.Now()
		failed := 0
		prefetch(newRig(t, parts{sources: []upstream.Source{source}, sums: dead}), t.Context(), reqs[:1], 4, nil, func(f mirror.Fetched) { failed++ })
		if took := time.Since(start); failed != 1 || took > time.Second {
			t.Errorf("without the database: %d told, in %v", failed, took)
		}
	})
}
