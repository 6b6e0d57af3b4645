package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/upstream"
)

// A diary is a Layer that writes down what happens, in order.
type diary struct {
	not  module.Version // of which it wants nothing
	fail module.Version // which it cannot lay

	mu    sync.Mutex // guards the following
	lines []string
	kept  map[module.Version]string // .info, .mod and zip
}

func (d *diary) note(what, path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, what+" "+path)
}

// of is what happened to a module.
func (d *diary) of(path string) (what []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, line := range d.lines {
		if w, p, _ := strings.Cut(line, " "); p == path {
			what = append(what, w)
		}
	}
	return what
}

func (d *diary) Claim(m module.Version) mirror.Claim {
	d.note("claimed", m.Path)
	if m == d.not {
		return nil
	}
	return &diaryClaim{d, m}
}

type diaryClaim struct {
	d *diary
	m module.Version
}

func (c *diaryClaim) Lay(ctx context.Context, k mirror.Kept) (bool, error) {
	c.d.note("laid", c.m.Path)
	if c.m == c.d.fail {
		return false, errors.New("it does not fit")
	}
	mod, err := io.ReadAll(k.Mod.Content)
	if err != nil {
		return false, err
	}
	zip, err := io.ReadAll(io.NewSectionReader(k.Zip, 0, k.Zip.Record.Size))
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	c.d.kept[k.Module] = string(k.Info) + string(mod) + string(zip)
	return err == nil, err
}

func (c *diaryClaim) Release() { c.d.note("released", c.m.Path) }

func TestALayerHasAVersionFromBeforeItsZipIsFetchedUntilAllOfItIsLaid(t *testing.T) {
	w := modtest.New(t)
	good, not, fail := w.Add("lay.test/good", "v1.0.0", nil), w.Add("lay.test/not", "v1.0.0", nil), w.Add("lay.test/fail", "v1.0.0", nil)
	none := module.Version{Path: "lay.test/none", Version: "v1.0.0"}
	d := &diary{not: not, fail: fail, kept: map[module.Version]string{}}
	h := w.Handler()
	r := newRig(t, parts{sources: []upstream.Source{serve(t, http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if isZip(req) {
			path, _, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/@v/")
			d.note("fetched", path)
		}
		h.ServeHTTP(rw, req)
	}))}, sums: sumsOf(t, w.SumDB("sumdb.test"), nil)})
	reqs := []goproxy.Request{gomod(good), zipOf(good), zipOf(not), zipOf(fail), zipOf(none)}
	told := map[goproxy.Request]mirror.Fetched{}
	prefetch(r, t.Context(), reqs, 4, d, func(f mirror.Fetched) { told[f.Request] = f })
	for path, want := range map[string]string{
		good.Path: "claimed fetched laid released",
		not.Path:  "claimed fetched",
		fail.Path: "claimed fetched laid released",
		none.Path: "claimed fetched released",
	} {
		if got := strings.Join(d.of(path), " "); got != want {
			t.Errorf("%s: %s; want %s", path, got, want)
		}
	}
	if want := string(slices.Concat(w.Info(good), w.Mod(good), w.Zip(good))); d.kept[good] != want || len(d.kept) != 1 {
		t.Errorf("what is laid of %v is not what is stored", good)
	}
	for req, f := range told {
		if laid := req == zipOf(good); f.Laid != laid || (f.Err != nil) != (req.Module == none) {
			t.Errorf("%v: laid %v, error %v", req, f.Laid, f.Err)
		}
	}
	r.Settle()
	r.wantStored(zipOf(fail), true)

	// What the store has is laid without asking anybody.
	clear(told)
	d.lines = nil
	prefetch(r, t.Context(), []goproxy.Request{zipOf(good)}, 4, d, func(f mirror.Fetched) { told[f.Request] = f })
	if got := strings.Join(d.of(good.Path), " "); got != "claimed laid released" || !told[zipOf(good)].Laid || !told[zipOf(good)].Hit {
		t.Errorf("from the store: %s, %v", got, told)
	}
}

func TestWrongBytesAreOfferedToNoLayer(t *testing.T) {
	w := modtest.New(t)
	m := w.Add("lay.test/m", "v1.0.0", nil)
	other := modtest.New(t)
	other.Add(m.Path, m.Version, modtest.Files{"p.go": "package other\n"})
	d := &diary{kept: map[module.Version]string{}}
	h := w.Handler()
	r := newRig(t, parts{sources: []upstream.Source{serve(t, http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if isZip(req) {
			io.Copy(rw, bytes.NewReader(other.Zip(m)))
			return
		}
		h.ServeHTTP(rw, req)
	}))}, sums: sumsOf(t, w.SumDB("sumdb.test"), nil)})
	prefetch(r, t.Context(), []goproxy.Request{zipOf(m)}, 1, d, func(f mirror.Fetched) {
		if f.Err == nil || f.Laid {
			t.Errorf("%v", f)
		}
	})
	if got := strings.Join(d.of(m.Path), " "); got != "claimed released" {
		t.Errorf("%s", got)
	}
}
