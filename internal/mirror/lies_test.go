package mirror_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/upstream"
)

// A den is a world with an honest source, any number that lie, and a checksum
// database.
type den struct {
	t       testing.TB
	w       *modtest.World
	server  *modtest.Server
	liars   sync.Map // first element of a path → http.Handler
	number  atomic.Int64
	honest  upstream.Source
	sums    mirror.Sums
	modules []module.Version // small, large
	zips    map[module.Version][]byte
}

// liarBudget is how long a liar may make no progress that never would make any.
const liarBudget = 250 * time.Millisecond

func newDen(t testing.TB) *den {
	d := &den{t: t, w: modtest.New(t), zips: map[module.Version][]byte{}}
	for _, v := range []string{"v1.0.0", "v1.1.0"} {
		d.w.Add("lies.test/small", v, modtest.Files{
			"go.mod":     "module lies.test/small\n\ngo 1.20\n",
			"LICENSE":    "as you like it\n",
			"small.go":   "package small\n\nconst V = \"" + v + "\"\n",
			"data.txt":   strings.Repeat("0123456789abcde\n", 1<<10),
			"noise.txt":  noise(v, 42<<10),
			"sub/sub.go": "package sub\n",
		})
		d.w.Big("lies.test/large", v, 1280<<10)
	}
	d.modules = []module.Version{{Path: "lies.test/small", Version: "v1.1.0"}, {Path: "lies.test/large", Version: "v1.1.0"}}
	for _, m := range d.modules {
		d.zips[m] = d.w.Zip(m)
	}
	if n := len(d.zips[d.modules[0]]); n < 20<<10 || n > 50<<10 {
		t.Fatalf("the small zip has %d bytes", n)
	}
	if n := len(d.zips[d.modules[1]]); n <= mirror.SmallZip+mirror.HoldBack {
		t.Fatalf("the large zip has %d bytes", n)
	}
	d.honest = serve(t, d.w.Handler())
	d.server = modtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, _, _ := strings.Cut(r.URL.Path[1:], "/")
		h, _ := d.liars.Load(name)
		http.StripPrefix("/"+name, h.(http.Handler)).ServeHTTP(w, r)
	}))
	d.sums = sumsOf(t, d.w.SumDB("sumdb.test"), nil)
	return d
}

// noise is text that hardly compresses, the same for the same seed.
func noise(seed string, n int) string {
	data := make([]byte, n/2)
	rand.NewChaCha8(sha256.Sum256([]byte(seed))).Read(data)
	return hex.EncodeToString(data)
}

// liar makes a source of a handler.
func (d *den) liar(h http.Handler, budget time.Duration) upstream.Source {
	name := strconv.FormatInt(d.number.Add(1), 10)
	d.liars.Store(name, h)
	return httpSource(d.t, d.server.URL+"/"+name, budget)
}

// lie is a source that serves data as the zip of m, and everything else well.
func (d *den) lie(m module.Version, data []byte) upstream.Source {
	path := "/" + zipOf(m).Path()
	return d.liar(with(d.w.Handler(), func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != path {
			return false
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
		return true
	}), 0)
}

// each calls f for every item, several at a time: most of what it does is to wait.
func each[T any](list iter.Seq[T], f func(T)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	places := make(chan struct{}, 12)
	for item := range list {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			f(item)
		})
	}
}

// truth is what the request must be answered with.
func (d *den) truth(req goproxy.Request) []byte {
	switch req.Kind {
	case goproxy.Info:
		return d.w.Info(req.Module)
	case goproxy.Mod:
		return d.w.Mod(req.Module)
	}
	return d.zips[req.Module]
}

// alone lets two clients ask a mirror that has the liar only. Neither may end up
// with all of something that is not the truth, nor may the store. It reports
// whether they got the truth.
func (d *den) alone(name string, liar upstream.Source, req goproxy.Request) (right bool) {
	r := newRig(d.t, parts{sources: []upstream.Source{liar}, sums: d.sums})
	defer r.Close()
	truth := d.truth(req)
	for i := range 2 {
		g := r.get(req)
		if g.complete() && !bytes.Equal(g.data, truth) {
			d.t.Errorf("%s: client %d of %v got a complete lie: %v", name, i, req, g)
		}
		right = g.complete()
		r.Settle()
		if b, err := r.store.Open(req); err == nil {
			data, err := io.ReadAll(b.Content)
			b.Close()
			if err != nil || !bytes.Equal(data, truth) || !right {
				d.t.Errorf("%s: %v is visible in the store, right: %v; its client got %v", name, req, bytes.Equal(data, truth), g)
			}
		}
	}
	return right
}

// second lets two clients ask a mirror that has an honest source behind the liar.
// They get the truth; a client of a large zip that has had diverging bytes
// already may be broken off, but then the next one is served from the store. If
// judged, there were bytes to judge, so that evidence must be there.
func (d *den) second(name string, liar upstream.Source, req goproxy.Request, st store.Store, judged bool) {
	r := newRig(d.t, parts{sources: []upstream.Source{liar, d.honest}, sums: d.sums, store: st})
	defer r.Close()
	truth := d.truth(req)
	g := r.get(req)
	switch {
	case g.complete() && !bytes.Equal(g.data, truth):
		d.t.Errorf("%s: the client of %v got a complete lie: %v", name, req, g)
	case !g.complete() && !g.stream:
		d.t.Errorf("%s: the client of %v got %v, though the second source is honest", name, req, g)
	}
	r.Settle()
	if g = r.get(req); g.err != nil || !bytes.Equal(g.data, truth) || !g.res.Hit {
		d.t.Errorf("%s: the next client of %v got %v (from the store: %v)", name, req, g, g.res.Hit)
	}
	if !judged {
		return
	}
	q, err := r.store.Quarantined()
	wrong := r.count("sluice_verification_failures_total") + r.count("sluice_bad_zips_total")
	if err != nil || len(q) != 1 || q[0].Source != liar.Name() || q[0].Size == 0 || q[0].Module != req.Module.Path || wrong != 1 || r.count("sluice_quarantined_total") != 1 {
		d.t.Errorf("%s: %v: evidence %+v (%v), counted %v", name, req, q, err, wrong)
	}
}

func TestNoClientGetsACompleteLieAboutAZip(t *testing.T) {
	d := newDen(t)
	type lie struct {
		m    module.Version
		name string
		data []byte
	}
	count := map[module.Version]int{}
	each(func(yield func(lie) bool) {
		for _, m := range d.modules {
			for name, data := range faults.Mutations(d.w.Zip(m), m) {
				if count[m]++; raced && count[m]%8 != 0 {
					continue
				}
				if !yield(lie{m, m.Path + ": " + name, data}) {
					return
				}
			}
		}
	}, func(l lie) {
		src := d.lie(l.m, l.data)
		if d.alone(l.name, src, zipOf(l.m)) {
			t.Errorf("%s: a lie became the truth", l.name)
		}
		d.second(l.name, src, zipOf(l.m), nil, len(l.data) > 0)
	})
	for _, m := range d.modules {
		t.Logf("%s: %d lies, each told alone and with an honest source behind it", m.Path, count[m])
		if count[m] < 100 {
			t.Errorf("%s: only %d mutations", m.Path, count[m])
		}
	}
}

// told are the faults of the catalogue that no honest mishap explains, which
// therefore leave evidence, and the file that they spoil.
var told = map[string]goproxy.Kind{
	"flip": goproxy.Zip, "bad-crc": goproxy.Zip, "other-version": goproxy.Zip, "other-module": goproxy.Zip, "old-zip": goproxy.Zip,
	"prefix": goproxy.Zip, "zipslip": goproxy.Zip, "case-clash": goproxy.Zip, "bomb": goproxy.Zip, "wrong-mod": goproxy.Mod,
}

// harmless are those that hand on the right bytes of every file, however oddly.
var harmless = map[string]bool{"none": true, "slow-list": true, "gzip": true, "deflate": true, "drop-length": true}

func TestNoFaultOfTheCatalogueMakesAClientBelieveALie(t *testing.T) {
	d := newDen(t)
	places := func(name string, step int) (l []string) {
		for p := 0; p <= 100; p += step {
			l = append(l, fmt.Sprintf("%s=%d%%", name, p))
		}
		return l
	}
	type test struct {
		fault  faults.Fault
		budget time.Duration
		req    goproxy.Request
	}
	n := 0
	each(func(yield func(test) bool) {
		for _, f := range faults.All() {
			names := []string{f.Name}
			switch f.Name {
			case "redirect":
				continue // leads to whatever its URL leads to
			case "flip":
				names = []string{"flip=local", "flip=name", "flip=data", "flip=data-middle", "flip=data-last", "flip=directory", "flip=end", "flip@10%", "flip@50%", "flip@90%"}
			case "cut", "cut-chunked", "close", "short":
				names = places(f.Name, 10)
			case "cut-first", "cut-norange", "cut-range-lie", "hang-body", "reset":
				names = places(f.Name, 50)
			case "bomb":
				names = []string{"bomb=declared", "bomb=hidden"}
			}
			var budget time.Duration
			if f.Waits && f.Name != "slow-list" {
				budget = liarBudget
			}
			for _, name := range names {
				f, err := faults.Parse(name)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				for _, m := range d.modules {
					for _, req := range []goproxy.Request{info(m), gomod(m), zipOf(m)} {
						if f.Name == "endless" && req.Kind == goproxy.Zip {
							continue // see below
						}
						if n++; raced && n%6 != 0 {
							continue
						}
						if !yield(test{f, budget, req}) {
							return
						}
					}
				}
			}
		}
	}, func(c test) {
		src := d.liar(faults.Handler(d.w.Handler(), faults.Always(c.fault)), c.budget)
		name := c.fault.String()
		if right := d.alone(name, src, c.req); !right && harmless[c.fault.Name] {
			t.Errorf("%s: %v: the right bytes did not arrive", name, c.req)
		}
		d.second(name, src, c.req, nil, told[c.fault.Name] == c.req.Kind)
	})
	t.Logf("%d cases, each alone and with an honest source behind it", n)
}

func TestAZipWithoutAnEndIsGivenUp(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: half a gigabyte is much")
	}
	d := newDen(t)
	disk := openDisk(t, t.TempDir())
	f, _ := faults.Parse("zip:endless")
	d.second("endless", d.liar(faults.Handler(d.w.Handler(), faults.Always(f)), 0), zipOf(d.modules[1]), disk, false)
}
