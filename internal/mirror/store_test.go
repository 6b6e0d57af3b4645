package mirror_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/store/storetest"
	"github.com/modsluice/sluice/internal/upstream"
)

// Each operation of the store fails once, in turn, while a module is fetched,
// served from the store, and served after it has been damaged. Clients get the
// right bytes, or an error that does not say that the module is not there.
func TestNoFailureOfTheStoreBecomesWrongBytesOrNotFound(t *testing.T) {
	w := modtest.New(t)
	small := w.Add("fail.test/small", "v1.0.0", modtest.Files{"go.mod": "module fail.test/small\n", "a.go": "package a\n"})
	large := w.Big("fail.test/large", "v1.0.0", mirror.SmallZip+100<<10)
	src := serve(t, w.Handler())
	sums := sumsOf(t, w.SumDB("sumdb.test"), nil)
	zips := map[module.Version][]byte{small: w.Zip(small), large: w.Zip(large)}
	truth := func(req goproxy.Request) []byte {
		switch req.Kind {
		case goproxy.Zip:
			return zips[req.Module]
		case goproxy.Mod:
			return w.Mod(req.Module)
		case goproxy.List:
			return []byte("v1.0.0\n")
		}
		return w.Info(module.Version{Path: req.Module.Path, Version: "v1.0.0"})
	}
	failed := map[string]int{}
	cases, refused := 0, 0
	for _, pinned := range []bool{false, true} {
		for _, m := range []module.Version{small, large} {
			for _, req := range []goproxy.Request{info(m), gomod(m), zipOf(m), list(m.Path), latest(m.Path)} {
				for _, state := range []string{"cold", "warm", "damaged", "pinned, and lost"} {
					if state == "damaged" && !req.Immutable() || state == "pinned, and lost" && !pinned {
						continue
					}
					for n := 0; ; n += step(n) { // later ones read the zip piece by piece, all alike
						st := store.NewMem()
						p := parts{sources: []upstream.Source{src}, store: st, sums: sums}
						if pinned {
							p.private = func(string) bool { return true }
						}
						if state != "cold" {
							r := newRig(t, p)
							for _, q := range []goproxy.Request{req, zipOf(m)} {
								r.want(q, truth(q))
							}
							r.Settle()
							r.Close()
						}
						switch state {
						case "damaged":
							p.store = &rotten{Store: st, req: req}
						case "pinned, and lost":
							if req.Immutable() {
								if err := st.Discard(req, store.Evidence{Reason: "lost"}, false); err != nil {
									t.Fatal(err)
								}
							}
						}
						faulty := storetest.FailNth(p.store, n)
						p.store = faulty
						r := newRig(t, p)
						name := fmt.Sprintf("%v, %s, pinned %v: operation %d fails", req, state, pinned, n)
						for i := range 3 {
							g := r.get(req)
							r.Settle()
							switch {
							case g.err == nil && !bytes.Equal(g.data, truth(req)):
								t.Errorf("%s (%s): wrong bytes for client %d: %v", name, faulty.Which(), i, g)
							case errors.Is(g.err, fs.ErrNotExist):
								t.Errorf("%s (%s): client %d is told that there is no such thing: %v", name, faulty.Which(), i, g.err)
							case g.err != nil && i > 0 && !g.stream:
								t.Errorf("%s (%s): client %d, though nothing fails any more: %v", name, faulty.Which(), i, g.err)
							case g.err != nil && !g.opened && !errors.Is(g.err, storetest.ErrInjected):
								t.Errorf("%s (%s): client %d: %v", name, faulty.Which(), i, g.err)
							}
							if g.err != nil {
								refused++
							}
						}
						cases++
						r.Close()
						if !faulty.Fired() {
							break // every operation has had its turn
						}
						failed[faulty.Which()]++
						if n > 1000 {
							t.Fatalf("%s: no end of operations", name)
						}
					}
				}
			}
		}
	}
	t.Logf("%d cases, of which %d gave an error; failed were %v", cases, refused, failed)
	for _, op := range []string{"Open", "Record", "Create", "Pending.Write", "Pending.ReadAt", "Pending.Commit", "Versions", "Answer", "SetAnswer", "Discard"} {
		if failed[op] == 0 {
			t.Errorf("%s never had to fail; only %v", op, slices.Sorted(maps.Keys(failed)))
		}
	}
}

// step is how far it is from the n'th operation to the next one that is tried.
func step(n int) int {
	if raced {
		return 1 + n/3
	}
	return 1 + n/15
}

// rotten is a store in which one artifact is damaged until it is discarded.
type rotten struct {
	store.Store
	req goproxy.Request

	mu     sync.Mutex
	mended bool
}

func (s *rotten) Open(req goproxy.Request) (*store.Blob, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if req == s.req && !s.mended {
		return nil, fmt.Errorf("rotten: %w", store.ErrDamaged)
	}
	return s.Store.Open(req)
}

func (s *rotten) Discard(req goproxy.Request, ev store.Evidence, forget bool) error {
	s.mu.Lock()
	s.mended = s.mended || req == s.req
	s.mu.Unlock()
	return s.Store.Discard(req, ev, forget)
}

// full is a store with room for so many bytes, and none for answers.
type full struct {
	store.Store
	mu   sync.Mutex
	room int
}

type fullPending struct {
	store.Pending
	s *full
}

func (s *full) Create(req goproxy.Request) (store.Pending, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.room <= 0 {
		return nil, fmt.Errorf("full: %w", store.ErrNoSpace)
	}
	p, err := s.Store.Create(req)
	return &fullPending{p, s}, err
}

func (p *fullPending) Write(b []byte) (int, error) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	n := min(len(b), max(p.s.room, 0)) // a part of it may fit
	p.s.room -= n
	k, err := p.Pending.Write(b[:n])
	if err == nil && k < len(b) {
		err = fmt.Errorf("full: %w", store.ErrNoSpace)
	}
	return k, err
}

func (s *full) SetAnswer(goproxy.Request, store.Answer) error {
	return fmt.Errorf("full: %w", store.ErrNoSpace)
}

func TestWhenTheDiskIsFullServingGoesOn(t *testing.T) {
	w := modtest.New(t)
	small := w.Add("full.test/small", "v1.0.0", nil)
	large := w.Big("full.test/large", "v1.0.0", 3<<20)
	src := serve(t, w.Handler())
	sums := sumsOf(t, w.SumDB("sumdb.test"), nil)
	for _, room := range []int{0, 1, 1000, 100<<10 + 1, 1<<20 + 77, 3 << 20} {
		for _, scratch := range []string{"", "no such directory"} {
			dir := t.TempDir()
			st := &full{Store: openDisk(t, dir), room: room}
			p := parts{sources: []upstream.Source{src}, store: st, sums: sums}
			if scratch != "" {
				p.scratch = filepath.Join(dir, scratch)
			}
			r := newRig(t, p)
			var wg sync.WaitGroup
			for _, req := range []goproxy.Request{zipOf(large), info(large), gomod(large), list(large.Path), latest(large.Path)} {
				wg.Go(func() {
					want := map[goproxy.Kind]func() []byte{
						goproxy.Zip: func() []byte { return w.Zip(large) }, goproxy.Mod: func() []byte { return w.Mod(large) },
						goproxy.Info: func() []byte { return w.Info(large) }, goproxy.Latest: func() []byte { return w.Info(large) },
						goproxy.List: func() []byte { return []byte("v1.0.0\n") },
					}[req.Kind]()
					for range 2 {
						if g := r.get(req); g.err != nil || !bytes.Equal(g.data, want) {
							t.Errorf("room for %d: %v: %v", room, req, g)
						}
					}
				})
			}
			wg.Wait()
			r.want(zipOf(small), w.Zip(small))
			r.Settle()
			r.wantStored(zipOf(large), false)
			// With a little room, the last file may have fitted.
			if since, err := r.StoreTrouble(); room == 0 && !errors.Is(err, store.ErrNoSpace) || err != nil && since.IsZero() {
				t.Errorf("room for %d: trouble %v since %v", room, err, since)
			}
			if n := strings.Count(r.log.String(), "the store fails"); n != 1 {
				t.Errorf("room for %d: told %d times:\n%s", room, n, r.log)
			}
			// There is room again.
			st.mu.Lock()
			st.room = 1 << 30
			st.mu.Unlock()
			r.want(zipOf(large), w.Zip(large))
			r.Settle()
			r.wantStored(zipOf(large), true)
			if _, err := r.StoreTrouble(); err != nil {
				t.Errorf("room for %d: still in trouble: %v", room, err)
			}
			r.Close()
			if left := files(t, filepath.Join(dir, ".sluice", "tmp"), "lock"); len(left) > 0 {
				t.Errorf("room for %d: left over: %q", room, left)
			}
		}
	}
}

// files lists the files below a directory, other than those of a name.
func files(t testing.TB, dir, but string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != but {
			list = append(list, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return list
}

func TestWithoutAScratchDirectoryTheSystemsIsUsed(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	w := modtest.New(t)
	m := w.Big("scratch.test/m", "v1.0.0", 80<<20) // more than is held in memory
	r := &rig{t: t, store: &full{Store: store.NewMem()}, chain: &upstream.Chain{Links: []upstream.Link{{Source: serve(t, w.Handler())}}}, log: &journal{}}
	r.Mirror = mirror.New(mirror.Config{Store: r.store, Log: newLog(r.log)}, mirror.Settings{
		Route: func(string) mirror.Route { return mirror.Route{Chain: r.chain} },
	})
	t.Cleanup(r.Close)
	res, err := r.Get(t.Context(), zipOf(m), mirror.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Close()
	truth, size := w.ZipReader(m)
	defer truth.Close()
	if n, err := io.Copy(io.Discard, body(res)); err != nil || n != size {
		t.Errorf("%d bytes of %d, %v", n, size, err)
	}
}

// damages are what may happen to a stored file.
var damages = map[string]func(t testing.TB, name string){
	"empty": func(t testing.TB, name string) { must(t, os.Truncate(name, 0)) },
	"cut": func(t testing.TB, name string) {
		st, err := os.Stat(name)
		must(t, err)
		must(t, os.Truncate(name, st.Size()-1))
	},
	"flipped": func(t testing.TB, name string) {
		data, err := os.ReadFile(name)
		must(t, err)
		data[len(data)/2] ^= 1
		must(t, os.WriteFile(name, data, 0o666))
	},
	"other": func(t testing.TB, name string) { must(t, os.WriteFile(name, []byte("something else"), 0o666)) },
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// noHot is a store on disk that holds nothing in memory.
func noHot(t testing.TB, dir string) *store.Disk {
	t.Helper()
	d, err := store.OpenDisk(dir, store.Options{HotBytes: -1})
	must(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

func TestADamagedFileIsFetchedAnewAndKeptAsEvidence(t *testing.T) {
	w := modtest.New(t)
	m := w.Add("rot.test/m", "v1.0.0", nil)
	source := modtest.Serve(t, w.Handler())
	sums := sumsOf(t, w.SumDB("sumdb.test"), nil)
	truth := map[goproxy.Kind][]byte{goproxy.Info: w.Info(m), goproxy.Mod: w.Mod(m), goproxy.Zip: w.Zip(m)}
	for damage, do := range damages {
		for _, private := range []bool{false, true} {
			for _, req := range []goproxy.Request{info(m), gomod(m), zipOf(m)} {
				dir := t.TempDir()
				p := parts{sources: []upstream.Source{httpSource(t, source.URL, 0)}, store: noHot(t, dir), sums: sums, private: func(string) bool { return private }}
				r := newRig(t, p)
				r.want(zipOf(m), truth[goproxy.Zip])
				r.Settle()
				do(t, filepath.Join(dir, filepath.FromSlash(req.Path())))

				// With no source there is an error, and never the damaged file.
				source.Stop()
				if g := r.get(req); g.err == nil {
					t.Errorf("%s %v, no source: %v", damage, req, g)
				}
				source.Start()

				var wg sync.WaitGroup
				for range 8 {
					wg.Go(func() {
						if g := r.get(req); g.err != nil || !bytes.Equal(g.data, truth[req.Kind]) {
							t.Errorf("%s %v: %v", damage, req, g)
						}
					})
				}
				wg.Wait()
				r.Settle()
				if g := r.want(req, truth[req.Kind]); !g.res.Hit {
					t.Errorf("%s %v: not stored again", damage, req)
				}
				if q := r.quarantined(); len(q) != 1 || q[0].Source != "store" || q[0].Kind != req.Kind.String() {
					t.Errorf("%s %v: evidence %+v", damage, req, q)
				}
				if n := r.count("sluice_store_damaged_total"); n != 1 {
					t.Errorf("%s %v: counted %v", damage, req, n)
				}
				r.Close()
			}
		}
	}
}

func TestAPrivateModuleStaysWhatItWasTheFirstTime(t *testing.T) {
	w := modtest.New(t)
	path, v := "private.test/m", "v1.0.0"
	m := w.Add(path, v, modtest.Files{"go.mod": "module private.test/m\n", "a.go": "package a\n"})
	truth := map[goproxy.Kind][]byte{goproxy.Mod: w.Mod(m), goproxy.Zip: w.Zip(m)}
	dir := t.TempDir()
	r := newRig(t, parts{sources: []upstream.Source{serve(t, w.Handler())}, store: noHot(t, dir)})
	r.want(zipOf(m), truth[goproxy.Zip])
	r.Settle()
	if rec, err := r.store.Record(zipOf(m)); err != nil || rec.Verified != "" || rec.H1 != w.H1Zip(m) {
		t.Fatalf("%+v, %v", rec, err)
	}

	w.Replace(path, v, modtest.Files{"go.mod": "module private.test/m\n\ngo 1.21\n", "a.go": "package a // otherwise\n"})
	for _, req := range []goproxy.Request{gomod(m), zipOf(m)} {
		r.want(req, truth[req.Kind]) // the first one
		must(t, os.Remove(filepath.Join(dir, filepath.FromSlash(req.Path()))))
		for range 2 {
			r.wantErr(req, "SL-SUM-002")
		}
		r.Settle()
		r.wantStored(req, false)
	}
	q := r.quarantined()
	kinds := map[string]int{}
	for _, ev := range q {
		if kinds[ev.Kind]++; ev.Want == "" || ev.Got == "" || ev.NoBody != "" {
			t.Errorf("evidence: %+v", ev)
		}
	}
	// The .mod was asked for twice by itself, and as the companion of two zips; the
	// second zip may find the first one's companion still under way.
	if kinds["mod"] < 3 || kinds["mod"] > 4 || kinds["zip"] != 2 || r.count("sluice_verification_failures_total") != float64(len(q)) {
		t.Errorf("evidence of %v", kinds)
	}
	// The old tag again: all is well.
	w.Replace(path, v, modtest.Files{"go.mod": "module private.test/m\n", "a.go": "package a\n"})
	for _, req := range []goproxy.Request{gomod(m), zipOf(m)} {
		r.want(req, truth[req.Kind])
	}
}

// A pin that cannot be read is not one that is not there.
func TestAPrivateModuleIsRefusedWhileItsPinCannotBeRead(t *testing.T) {
	w := modtest.New(t)
	m := w.Add("private.test/m", "v1.0.0", nil)
	st := &unreadable{Store: store.NewMem()}
	r := newRig(t, parts{sources: []upstream.Source{serve(t, w.Handler())}, store: st})
	for _, req := range []goproxy.Request{gomod(m), zipOf(m)} {
		err := r.wantErr(req, "SL-STO-003")
		if se, ok := errors.AsType[*mirror.StoreError](err); !ok || se.Request.Kind != req.Kind {
			t.Errorf("%v", err)
		}
	}
	r.want(info(m), w.Info(m))
}

type unreadable struct{ store.Store }

func (unreadable) Record(goproxy.Request) (store.Record, error) {
	return store.Record{}, &fs.PathError{Op: "open", Path: "record", Err: fs.ErrPermission}
}

func TestAZipThatContradictsItsModIsRefusedUnlessADatabaseStandsForBoth(t *testing.T) {
	w := modtest.New(t)
	files := modtest.Files{"go.mod": "module contra.test/m\n", "a.go": "package a\n", ".mod": "module contra.test/m\n\ngo 1.21\n"}
	m := w.Add("contra.test/m", "v1.0.0", files)
	src := serve(t, w.Handler())
	r := newRig(t, parts{sources: []upstream.Source{src}})
	r.wantErr(zipOf(m), "SL-SRC-008")
	r.Settle()
	r.wantStored(zipOf(m), false)
	if q := r.quarantined(); len(q) != 1 || !strings.Contains(q[0].Reason, "differs from the .mod") {
		t.Errorf("evidence: %+v", q)
	}
	r = newRig(t, parts{sources: []upstream.Source{src}, sums: sumsOf(t, w.SumDB("sumdb.test"), nil)})
	r.want(zipOf(m), w.Zip(m))
	r.want(gomod(m), w.Mod(m))
	r.Settle()
	r.wantStored(zipOf(m), true)
	if !strings.Contains(r.log.String(), "differs from the .mod") {
		t.Errorf("not told:\n%s", r.log)
	}
}

func TestAStoredZipHasItsCompanions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := modtest.New(t)
		m := w.Add("whole.test/m", "v1.0.0", nil)
		st := &ordered{Store: store.NewMem()}
		r := newRig(t, parts{sources: []upstream.Source{pipe(t, "s", w.Handler())}, store: st, sums: sumsOf(t, w.SumDB("sumdb.test"), nil)})
		r.want(zipOf(m), w.Zip(m))
		r.Settle()
		if len(st.order) != 3 || st.order[2] != goproxy.Zip {
			t.Errorf("stored in the order %v", st.order)
		}
		if v, err := r.store.Versions(m.Path); err != nil || !slices.Equal(v, []string{"v1.0.0"}) {
			t.Errorf("versions %q, %v", v, err)
		}
	})
}

// ordered notes what is committed. In a bubble an .info takes until all else has come to
// rest, so that a zip which does not wait for it is there first.
type ordered struct {
	store.Store
	mu    sync.Mutex
	order []goproxy.Kind
}

type orderedPending struct {
	store.Pending
	s   *ordered
	req goproxy.Request
}

func (s *ordered) Create(req goproxy.Request) (store.Pending, error) {
	p, err := s.Store.Create(req)
	return &orderedPending{p, s, req}, err
}

func (p *orderedPending) Commit(rec store.Record) (store.Record, error) {
	if p.req.Kind == goproxy.Info {
		time.Sleep(time.Second)
	}
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	p.s.order = append(p.s.order, p.req.Kind)
	return p.Pending.Commit(rec)
}

// A source that has a zip, and hangs at its .mod and .info, delays nobody who
// wants the zip.
func TestAVerifiedZipDoesNotWaitForItsCompanions(t *testing.T) {
	w := modtest.New(t)
	m := w.Big("alone.test/m", "v1.0.0", 2<<20)
	hang := make(chan struct{})
	src := serve(t, with(w.Handler(), hangsUnless(isZip, hang)))
	r := newRig(t, parts{sources: []upstream.Source{src}, sums: sumsOf(t, w.SumDB("sumdb.test"), nil)})
	r.want(zipOf(m), w.Zip(m))
	r.want(zipOf(m), w.Zip(m))
	r.wantStored(zipOf(m), false)
	close(hang)
	r.Settle()
	r.wantStored(zipOf(m), true)
	r.wantStored(gomod(m), true)
	if n := w.Hits(zipOf(m).Path()); n != 1 {
		t.Errorf("asked for the zip %d times", n)
	}
}

// Nor does the answer that there is none.
func TestAMissingZipDoesNotWaitForItsCompanions(t *testing.T) {
	w := modtest.New(t)
	hang := make(chan struct{})
	src := serve(t, with(w.Handler(), hangsUnless(isZip, hang)))
	r := newRig(t, parts{sources: []upstream.Source{src}})
	r.wantErr(zipOf(module.Version{Path: "none.test/m", Version: "v1.0.0"}), "SL-SRC-001")
	close(hang)
	r.Settle()
}

func TestAnImpossibleRequestAsksNobody(t *testing.T) {
	r := newRig(t, parts{})
	for _, req := range []goproxy.Request{{}, {Kind: goproxy.Zip, Module: module.Version{Path: "nodot", Version: "v1.0.0"}}, {Kind: goproxy.Info, Module: module.Version{Path: "a.test/b"}}} {
		if g := r.get(req); !errors.Is(g.err, fs.ErrNotExist) {
			t.Errorf("%v: %v", req, g)
		}
	}
	if g := r.get(list("a.test/b")); g.err == nil || errors.Is(g.err, fs.ErrNotExist) {
		t.Errorf("an empty chain: %v", g)
	}
}
