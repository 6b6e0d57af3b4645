package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
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

func TestWithoutTheChecksumDatabaseColdModulesWaitAndCachedOnesAreServed(t *testing.T) {
	for _, down := range []string{"down", "hanging"} {
		synctest.Test(t, func(t *testing.T) {
			w := modtest.New(t)
			cached, cold := w.Add("cached.test/m", "v1.0.0", nil), w.Add("cold.test/m", "v1.0.0", nil)
			db := w.SumDB("sumdb.test")
			r := newRig(t, parts{sources: []upstream.Source{pipe(t, "s", w.Handler())}, sums: sumsOf(t, db, nil)})
			r.want(zipOf(cached), w.Zip(cached))
			r.want(gomod(cached), w.Mod(cached))
			r.Settle()
			db.Down(down == "down")
			db.Hang(down == "hanging")
			for _, req := range []goproxy.Request{gomod(cold), zipOf(cold)} {
				if err := r.wantErr(req, "SL-SUM-003"); !errors.Is(err, checksum.ErrUnreachable) {
					t.Error(err)
				}
				r.Settle()
				r.wantStored(req, false)
			}
			r.want(info(cold), w.Info(cold)) // nothing stands for an .info, so nothing has to
			start := time.Now()
			r.want(zipOf(cached), w.Zip(cached))
			r.want(gomod(cached), w.Mod(cached))
			if took := time.Since(start); took > 0 {
				t.Errorf("a cached module was delayed for %v", took)
			}
			db.Down(false)
			db.Hang(false)
			r.want(zipOf(cold), w.Zip(cold))
		})
	}
}

func TestAModuleThatTheDatabaseDoesNotKnowIsRefused(t *testing.T) {
	w := modtest.New(t)
	m := w.Add("unknown.test/m", "v1.0.0", nil)
	db := w.SumDB("sumdb.test")
	db.Unknown(m, true)
	r := newRig(t, parts{sources: []upstream.Source{serve(t, w.Handler())}, sums: sumsOf(t, db, nil)})
	for _, req := range []goproxy.Request{gomod(m), zipOf(m)} {
		err := r.wantErr(req, "SL-SUM-004")
		if re, ok := errors.AsType[*mirror.RefusedError](err); !ok || re.Request != req {
			t.Errorf("%v", err)
		}
		f, details := mirror.Explain(err)
		if text := strings.Join(append(f.Fix, details...), "\n"); !strings.Contains(text, "GOPRIVATE=unknown.test/m") {
			t.Errorf("%s", text)
		}
		r.Settle()
		r.wantStored(req, false)
	}
	if n := r.count("sluice_module_requests_total", "refused"); n != 2 {
		t.Errorf("counted %v", n)
	}
	db.Unknown(m, false)
	r.want(zipOf(m), w.Zip(m))
}

func TestADatabaseThatContradictsItselfIsNotBelieved(t *testing.T) {
	w := modtest.New(t)
	a, b := w.Add("fork.test/a", "v1.0.0", nil), w.Add("fork.test/b", "v1.0.0", nil)
	db := w.SumDB("sumdb.test")
	r := newRig(t, parts{sources: []upstream.Source{serve(t, w.Handler())}, sums: sumsOf(t, db, nil)})
	r.want(zipOf(a), w.Zip(a))
	r.Settle()
	db.Fork(true)
	if err := r.wantErr(zipOf(b), "SL-SUM-006"); !errors.Is(err, checksum.ErrSecurity) {
		t.Error(err)
	}
}

// noSums is a checksum database that has nothing to say, and says it without an
// error.
type noSums struct{}

func (noSums) Name() string { return "sumdb.test" }
func (noSums) Sums(context.Context, module.Version) (string, string, error) {
	return "", "", nil
}

func TestADatabaseWithoutAHashVouchesForNothing(t *testing.T) {
	w := modtest.New(t)
	m := w.Add("nohash.test/m", "v1.0.0", nil)
	r := newRig(t, parts{sources: []upstream.Source{serve(t, w.Handler())}, sums: noSums{}})
	r.wantErr(zipOf(m), "SL-SUM-004")
	r.wantErr(gomod(m), "SL-SUM-004")
}

// counting is a checksum database that counts what it is asked.
type counting struct {
	db *checksum.DB
	n  atomic.Int64
}

func (c *counting) Name() string { return c.db.Name() }
func (c *counting) Sums(ctx context.Context, mod module.Version) (string, string, error) {
	c.n.Add(1)
	return c.db.Sums(ctx, mod)
}

// pinnedStore is a store that was filled while no database was asked.
func pinnedStore(t testing.TB, w *modtest.World, mods ...module.Version) store.Store {
	r := newRig(t, parts{sources: []upstream.Source{pipe(t, "s", w.Handler())}})
	for _, m := range mods {
		r.want(zipOf(m), w.Zip(m))
	}
	r.Settle()
	r.Close()
	return r.store
}

func TestADatabaseThatIsSwitchedOnVouchesForWhatWasPinned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := modtest.New(t)
		m := w.Add("vouch.test/m", "v1.0.0", nil)
		st := pinnedStore(t, w, m)
		w.Forget()
		db := &counting{db: sumsOf(t, w.SumDB("sumdb.test"), nil)}
		r := newRig(t, parts{sources: []upstream.Source{pipe(t, "s", w.Handler())}, store: st, sums: db})
		for range 3 {
			for _, req := range []goproxy.Request{gomod(m), zipOf(m)} {
				if g := r.get(req); g.err != nil || !g.res.Hit {
					t.Errorf("%v: %v, %+v", req, g, g.res)
				}
			}
		}
		if n := db.n.Load(); n != 2 || len(w.Log()) > 0 {
			t.Errorf("the database was asked %d times, the source %q", n, w.Log())
		}
	})
}

func TestADatabaseThatIsSwitchedOnWithdrawsWhatItDisagreesWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := modtest.New(t)
		m := w.Add("withdraw.test/m", "v1.0.0", modtest.Files{"go.mod": "module withdraw.test/m\n", "a.go": "package evil\n"})
		st := pinnedStore(t, w, m)
		w.Replace(m.Path, m.Version, modtest.Files{"go.mod": "module withdraw.test/m\n\ngo 1.20\n", "a.go": "package good\n"})
		r := newRig(t, parts{sources: []upstream.Source{pipe(t, "s", w.Handler())}, store: st, sums: sumsOf(t, w.SumDB("sumdb.test"), nil)})
		r.want(gomod(m), w.Mod(m))
		r.want(zipOf(m), w.Zip(m))
		r.Settle()
		r.wantStored(gomod(m), true)
		r.wantStored(zipOf(m), true)
		q := r.quarantined()
		if len(q) != 2 || !strings.Contains(q[0].Reason, "disagrees") || q[0].Got == "" || q[0].Want == "" {
			t.Errorf("evidence: %+v", q)
		}
		if n := r.count("sluice_verification_failures_total"); n != 2 {
			t.Errorf("counted %v", n)
		}
	})
}

// That it does not know a version proves nothing about the bytes: they are not
// served as public ones, and stay for those who say that they are private.
func TestADatabaseThatIsSwitchedOnTakesNoPinAwayThatItDoesNotKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := modtest.New(t)
		m := w.Add("unknown.test/m", "v1.0.0", nil)
		st := pinnedStore(t, w, m)
		db := w.SumDB("sumdb.test")
		db.Unknown(m, true)
		p := parts{sources: []upstream.Source{pipe(t, "s", w.Handler())}, store: st, sums: sumsOf(t, db, nil)}
		r := newRig(t, p)
		for range 2 {
			r.wantErr(gomod(m), "SL-SUM-004")
			r.wantErr(zipOf(m), "SL-SUM-004")
		}
		r.Settle()
		if q := r.quarantined(); len(q) > 0 {
			t.Errorf("evidence: %+v", q)
		}
		p.private = func(string) bool { return true }
		r = newRig(t, p)
		if g := r.want(zipOf(m), w.Zip(m)); !g.res.Hit {
			t.Errorf("%+v", g.res)
		}
	})
}

func TestADatabaseThatCannotVouchDelaysABuildOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := modtest.New(t)
		var mods []module.Version
		for _, p := range []string{"a", "b", "c", "d"} {
			mods = append(mods, w.Add("delay.test/"+p, "v1.0.0", nil))
		}
		st := pinnedStore(t, w, mods...)
		db := w.SumDB("sumdb.test")
		db.Hang(true)
		counted := &counting{db: sumsOf(t, db, nil)}
		r := newRig(t, parts{sources: []upstream.Source{pipe(t, "s", w.Handler())}, store: st, sums: counted})
		start := time.Now()
		for _, m := range mods {
			r.want(zipOf(m), w.Zip(m))
			r.want(gomod(m), w.Mod(m))
		}
		if took := time.Since(start); took != 2*time.Second || counted.n.Load() != 1 {
			t.Errorf("took %v, asked %d times", took, counted.n.Load())
		}
		db.Hang(false)
		time.Sleep(mirror.Unvouched)
		r.want(zipOf(mods[0]), w.Zip(mods[0]))
		if counted.n.Load() != 2 {
			t.Errorf("asked %d times", counted.n.Load())
		}
	})
}

// What a private module is must not be asked of a database, not even later.
func TestAPrivateModuleIsNeverAskedOfTheDatabase(t *testing.T) {
	w := modtest.New(t)
	m := w.Add("secret.test/m", "v1.0.0", nil)
	db := w.SumDB("sumdb.test")
	r := newRig(t, parts{sources: []upstream.Source{serve(t, w.Handler())}, sums: sumsOf(t, db, nil),
		private: func(path string) bool { return strings.HasPrefix(path, "secret.test/") }})
	for range 2 {
		r.want(zipOf(m), w.Zip(m))
		r.want(gomod(m), w.Mod(m))
		r.Settle()
	}
	if log := db.Log(); len(log) > 0 {
		t.Errorf("asked %q", log)
	}
}

func TestALieOfTheSourceIsNoFaultOfTheModule(t *testing.T) {
	w := modtest.New(t)
	m := w.Add("lie.test/m", "v1.0.0", nil)
	liar := modtest.New(t)
	liar.Add(m.Path, m.Version, modtest.Files{"go.mod": "module lie.test/m\n", "evil.go": "package evil\n"})
	r := newRig(t, parts{sources: []upstream.Source{serve(t, liar.Handler()), serve(t, w.Handler())}, sums: sumsOf(t, w.SumDB("sumdb.test"), nil)})
	r.want(zipOf(m), w.Zip(m))
	r.Settle()
	for _, s := range r.Sources(r.chain.Names()) {
		if s.State != "ok" && s.State != "unknown" {
			t.Errorf("%+v", s) // a wrong answer to one question
		}
	}
	if b, err := r.store.Open(zipOf(m)); err != nil || b.Record.Verified != "sumdb.test" || b.Record.H1 != w.H1Zip(m) || b.Record.Source != r.chain.Names()[1] {
		t.Errorf("%+v, %v", b, err)
	} else if b.Close(); !bytes.Contains([]byte(r.log.String()), []byte("source failed over")) {
		t.Errorf("not told:\n%s", r.log)
	}
}
