package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/store/storetest"
	"github.com/modsluice/sluice/internal/upstream"
)

// writes are the operations of a store that change it.
var writes = []string{"Create", "Pending.Write", "Pending.Commit", "SetAnswer", "WriteFile", "SwapFile", "Quarantine", "Discard"}

func TestATraceStoresNothing(t *testing.T) {
	w := modtest.New(t)
	good, bad := w.Add("trace.test/good", "v1.0.0", nil), w.Big("trace.test/bad", "v1.0.0", 2<<20)
	w.SetQuery(good.Path, "main", "v1.0.0")
	lies := modtest.New(t)
	lies.Add(bad.Path, bad.Version, modtest.Files{"go.mod": "module trace.test/bad\n\ngo 1.2\n", "evil.go": "package evil\n"})
	sums := sumsOf(t, w.SumDB("sumdb.test"), nil)
	var reqs []goproxy.Request
	for _, m := range []module.Version{good, bad, {Path: "trace.test/none", Version: "v1.0.0"}} {
		reqs = append(reqs, info(m), gomod(m), zipOf(m), list(m.Path), latest(m.Path), query(m.Path, "main"))
	}
	warm := store.NewMem()
	r := newRig(t, parts{sources: []upstream.Source{serve(t, w.Handler())}, sums: sums, store: warm})
	for _, m := range []module.Version{good, bad} {
		r.want(zipOf(m), w.Zip(m))
	}
	r.Settle()
	r.Close()
	for name, base := range map[string]store.Store{"cold": store.NewMem(), "warm": warm, "damaged": &rotten{Store: warm, req: zipOf(good)}} {
		for _, cold := range []bool{false, true} {
			st := storetest.Count(base)
			r := newRig(t, parts{sources: []upstream.Source{serve(t, lies.Handler()), serve(t, w.Handler())}, store: st, sums: sums})
			steps, results := r.Trace(t.Context(), reqs, cold)
			for _, op := range writes {
				if n := st.Calls(op); n > 0 {
					t.Errorf("%s, cold %v: %s %d times", name, cold, op, n)
				}
			}
			if len(results) != len(reqs) || len(steps) < len(reqs) {
				t.Fatalf("%d results, %d steps", len(results), len(steps))
			}
			for i, res := range results {
				missing := reqs[i].Module.Path == "trace.test/none" || reqs[i].IsQuery() && reqs[i].Module.Path == bad.Path
				if res.Request != reqs[i].String() || res.OK == missing || missing != errors.Is(res.Err, fs.ErrNotExist) || res.OK && res.Size == 0 {
					t.Errorf("%s, cold %v: %+v", name, cold, res)
				}
				if hit := name != "cold" && !cold && res.OK && reqs[i].Immutable() && !(name == "damaged" && reqs[i] == zipOf(good)); res.Hit != hit {
					t.Errorf("%s, cold %v: %+v; want a hit: %v", name, cold, res, hit)
				}
			}
			for i, s := range steps {
				if s.By == "" || s.What == "" || i > 0 && s.At < steps[i-1].At {
					t.Errorf("%+v", s)
				}
			}
			if cold && !slices.ContainsFunc(steps, func(s mirror.Step) bool { return s.What == "hash differs" }) {
				t.Errorf("%s: the lie is not in the notebook: %+v", name, steps)
			}
			// What it remembered is nothing either.
			w.Add("trace.test/none", "v1.0.0", nil)
			if g := r.get(info(module.Version{Path: "trace.test/none", Version: "v1.0.0"})); g.err != nil {
				t.Errorf("%s: after the trace: %v", name, g)
			}
			w.Remove(module.Version{Path: "trace.test/none", Version: "v1.0.0"})
			r.Settle()
			r.Close()
			if b, ok := base.(*store.Mem); ok {
				b.Discard(info(module.Version{Path: "trace.test/none", Version: "v1.0.0"}), store.Evidence{}, true)
			} else {
				base.(*rotten).Store.Discard(info(module.Version{Path: "trace.test/none", Version: "v1.0.0"}), store.Evidence{}, true)
			}
		}
	}
}

func TestATraceEndsWithItsContext(t *testing.T) {
	ctx, cancel := contextCause(t)
	src := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cancel(errLeft)
		<-r.Context().Done()
	}))
	r := newRig(t, parts{sources: []upstream.Source{src}})
	m := module.Version{Path: "trace.test/m", Version: "v1.0.0"}
	_, results := r.Trace(ctx, []goproxy.Request{zipOf(m), list(m.Path)}, false)
	for _, res := range results {
		if res.OK || !errors.Is(res.Err, errLeft) {
			t.Errorf("%+v", res)
		}
	}
}

func TestVerifyFindsEveryKindOfDamage(t *testing.T) {
	w := modtest.New(t)
	type victim struct {
		m       module.Version
		kind    goproxy.Kind
		problem string // in what Verify says
		damage  func(t testing.TB, name string)
		done    bool // moved to quarantine
	}
	var victims []victim
	for name, damage := range damages {
		for _, k := range []goproxy.Kind{goproxy.Info, goproxy.Mod, goproxy.Zip} {
			victims = append(victims, victim{w.Add(fmt.Sprintf("verify.test/%s-%v", name, k), "v1.0.0", nil), k, "damaged", damage, true})
		}
	}
	record := func(t testing.TB, name string) {
		root, rest, _ := strings.Cut(name, "/verify.test/")
		must(t, os.WriteFile(root+"/.sluice/sums/verify.test/"+rest+".json", []byte("{}"), 0o666))
	}
	victims = append(victims, victim{w.Add("verify.test/record", "v1.0.0", nil), goproxy.Zip, "damaged", record, true})
	gone := func(t testing.TB, name string) { must(t, os.Remove(name)) }
	lost := w.Add("verify.test/gone", "v1.0.0", nil) // a pin is no problem
	fine, private, pinned, unknown, wrong := w.Add("verify.test/fine", "v1.0.0", nil), w.Add("verify.test/private", "v1.0.0", nil),
		w.Add("verify.test/pinned", "v1.0.0", nil), w.Add("verify.test/unknown", "v1.0.0", nil), w.Add("verify.test/wrong", "v1.0.0", nil)

	dir := t.TempDir()
	fill := func(sums mirror.Sums, mods ...module.Version) {
		t.Helper()
		disk := noHot(t, dir)
		r := newRig(t, parts{sources: []upstream.Source{serve(t, w.Handler())}, store: disk, sums: sums})
		for _, m := range mods {
			r.want(zipOf(m), w.Zip(m))
		}
		r.Settle()
		r.Close()
		must(t, disk.Close())
	}
	db := w.SumDB("sumdb.test")
	sums := sumsOf(t, db, nil)
	fill(sums, fine, lost)
	for _, v := range victims {
		fill(sums, v.m)
	}
	fill(nil, private, pinned, unknown, wrong)
	db.Unknown(unknown, true)
	w.Replace(wrong.Path, wrong.Version, modtest.Files{"go.mod": "module verify.test/wrong\n\ngo 1.3\n", "other.go": "package other\n"})
	for _, v := range victims {
		v.damage(t, filepath.Join(dir, filepath.FromSlash(goproxy.Request{Kind: v.kind, Module: v.m}.Path())))
	}
	gone(t, filepath.Join(dir, filepath.FromSlash(zipOf(lost).Path())))

	r := newRig(t, parts{store: noHot(t, dir), sums: sums, private: func(p string) bool { return p == private.Path }})
	const whole = 5 // fine, private, pinned, unknown, wrong
	total := 3*(len(victims)+whole) + 2
	check := func(rep mirror.VerifyReport, err error, offline bool, done string) {
		t.Helper()
		must(t, err)
		want := map[string]string{}
		for _, v := range victims {
			want[goproxy.Request{Kind: v.kind, Module: v.m}.String()] = v.problem
		}
		if !offline {
			for _, k := range []goproxy.Kind{goproxy.Mod, goproxy.Zip} {
				want[goproxy.Request{Kind: k, Module: unknown}.String()] = "does not know"
				want[goproxy.Request{Kind: k, Module: wrong}.String()] = "sumdb.test says"
			}
		}
		for _, p := range rep.Problems {
			then := done
			if strings.Contains(p.Problem, "does not know") {
				then = "left as it is" // an absence proves nothing
			}
			if text, ok := want[p.Request]; !ok || !strings.Contains(p.Problem, text) || p.Done != then {
				t.Errorf("%+v; want %q", p, text)
			}
			delete(want, p.Request)
		}
		if len(want) > 0 {
			t.Errorf("not found: %q", want)
		}
		if rep.Files != total || rep.Vouched+rep.Pinned+rep.Unasked+len(rep.Problems) != total || (rep.Unasked > 0) != offline || rep.Bytes == 0 {
			t.Errorf("%+v", rep)
		}
	}
	n := 0
	rep, err := r.Verify(t.Context(), mirror.VerifyOptions{DryRun: true, Progress: func(int) { n++ }})
	check(rep, err, false, "left as it is")
	if n != total || len(r.quarantined()) > 0 {
		t.Errorf("%d told, %d in quarantine", n, len(r.quarantined()))
	}
	rep, err = r.Verify(t.Context(), mirror.VerifyOptions{DryRun: true, Offline: true})
	check(rep, err, true, "left as it is")
	db.Down(true)
	rep, err = r.Verify(t.Context(), mirror.VerifyOptions{DryRun: true})
	if err != nil || len(rep.Problems) < len(victims) {
		t.Errorf("%v, %+v", err, rep)
	}
	db.Down(false)
	rep, err = r.Verify(t.Context(), mirror.VerifyOptions{})
	check(rep, err, false, "moved to quarantine")
	if q := r.quarantined(); len(q) != len(rep.Problems)-2 { // without the unknown .mod and .zip
		t.Errorf("%d in quarantine, %d problems", len(q), len(rep.Problems))
	}
	rep, err = r.Verify(t.Context(), mirror.VerifyOptions{})
	if err != nil || len(rep.Problems) != 2 || rep.Files == 0 {
		t.Errorf("afterwards: %+v, %v", rep, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errLeft)
	if _, err := r.Verify(ctx, mirror.VerifyOptions{}); !errors.Is(err, errLeft) {
		t.Errorf("interrupted: %v", err)
	}
}

// What cannot be read may be fine, and is left.
func TestVerifyLeavesWhatItCannotTell(t *testing.T) {
	w := modtest.New(t)
	m := w.Add("verify.test/m", "v1.0.0", nil)
	st := pinnedStore(t, w, m)
	r := newRig(t, parts{store: failsCheck{st}})
	rep, err := r.Verify(t.Context(), mirror.VerifyOptions{})
	if err != nil || len(rep.Problems) != 3 || rep.Problems[0].Done != "left as it is" || len(r.quarantined()) > 0 {
		t.Errorf("%+v, %v", rep, err)
	}
	r = newRig(t, parts{store: vanishing{st}})
	if rep, err = r.Verify(t.Context(), mirror.VerifyOptions{}); err != nil || len(rep.Problems) > 0 || rep.Files > 0 {
		t.Errorf("%+v, %v", rep, err)
	}
}

type failsCheck struct{ store.Store }

func (failsCheck) Check(goproxy.Request) error {
	return &fs.PathError{Op: "read", Err: fs.ErrPermission}
}

// vanishing is a store out of which another process takes everything just now.
type vanishing struct{ store.Store }

func (vanishing) Check(req goproxy.Request) error { return fmt.Errorf("%v: %w", req, fs.ErrNotExist) }

func TestReadResultKeepsToItsLimit(t *testing.T) {
	w := modtest.New(t)
	m := w.Big("limit.test/m", "v1.0.0", 2<<20)
	r := newRig(t, parts{sources: []upstream.Source{serve(t, w.Handler())}})
	for range 2 { // streamed, then from the store
		for limit, ok := range map[int64]bool{100: false, int64(len(w.Zip(m))): true} {
			res, err := r.Get(t.Context(), zipOf(m), mirror.Options{})
			must(t, err)
			if data, err := mirror.ReadResult(res, limit); (err == nil) != ok || ok && !bytes.Equal(data, w.Zip(m)) {
				t.Errorf("limit %d: %d bytes, %v", limit, len(data), err)
			}
		}
		r.Settle()
	}
}
