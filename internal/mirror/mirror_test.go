package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/checksum"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/upstream"
)

// A rig is a mirror over a chain of sources.
type rig struct {
	*mirror.Mirror
	t     testing.TB
	store store.Store
	chain *upstream.Chain
	log   *journal
}

// parts are what a rig is made of. The zero value of each field is a good one.
type parts struct {
	sources  []upstream.Source // each with a | behind it, unless comma
	comma    bool
	sums     mirror.Sums
	store    store.Store       // default: in memory
	scratch  string            // default: a temporary directory
	private  func(string) bool // paths that no database vouches for
	settings mirror.Settings   // default: lists fresh for a minute, stale after 2 s, not found for 5 s
}

func newRig(t testing.TB, p parts) *rig {
	t.Helper()
	r := &rig{t: t, store: p.store, chain: &upstream.Chain{}, log: &journal{}}
	if r.store == nil {
		r.store = store.NewMem()
	}
	if p.scratch == "" {
		p.scratch = t.TempDir()
	}
	for _, src := range p.sources {
		r.chain.Links = append(r.chain.Links, upstream.Link{Source: src, FallBack: !p.comma})
	}
	s := p.settings
	if s.Fresh == 0 {
		s.Fresh = time.Minute
	}
	if s.Stale == 0 {
		s.Stale = 2 * time.Second
	}
	if s.NotFound == 0 {
		s.NotFound = 5 * time.Second
	}
	if s.Route == nil {
		s.Route = func(path string) mirror.Route {
			route := mirror.Route{Chain: r.chain, Why: "a test", Sums: p.sums}
			if p.private != nil && p.private(path) {
				route.Sums, route.Private = nil, true
			}
			return route
		}
	}
	r.Mirror = mirror.New(mirror.Config{Store: r.store, Scratch: p.scratch, Log: newLog(r.log)}, s)
	t.Cleanup(r.Close)
	return r
}

// A journal is a log that tests can read.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.String()
}

func newLog(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// openDisk opens a store on disk that lasts as long as the test.
func openDisk(t testing.TB, dir string) *store.Disk {
	t.Helper()
	d, err := store.OpenDisk(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// serve makes a source of a handler, over a real connection.
func serve(t testing.TB, h http.Handler) upstream.Source {
	t.Helper()
	return httpSource(t, modtest.Serve(t, h).URL, 0)
}

func httpSource(t testing.TB, base string, timeout time.Duration) upstream.Source {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	n := upstream.NewNet(upstream.NetConfig{Timeout: timeout, Named: []string{upstream.HostPort(u)}})
	t.Cleanup(n.Close)
	return upstream.NewHTTPSource(n, u)
}

// A pipeSource is a GOPROXY over an in-process connection, for synctest bubbles.
type pipeSource struct {
	name   string
	client *http.Client
}

func pipe(t testing.TB, name string, h http.Handler) *pipeSource {
	return &pipeSource{name, &http.Client{Transport: modtest.Pipe(t, h)}}
}

func (s *pipeSource) Name() string        { return s.name }
func (s *pipeSource) Kind() upstream.Kind { return upstream.Proxy }

func (s *pipeSource) Get(ctx context.Context, req goproxy.Request) (*upstream.Answer, error) {
	hr, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.name+"/"+req.Path(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.client.Do(hr)
	if err != nil {
		return nil, &upstream.Error{Source: s.name, Stage: upstream.StageConnect, Err: err}
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, &upstream.Error{Source: s.name, Stage: upstream.StageHTTP, Status: resp.StatusCode}
	}
	return &upstream.Answer{Body: resp.Body, Size: resp.ContentLength}, nil
}

// A sumsRemote leads to a checksum database without a network.
type sumsRemote struct{ db *modtest.SumDB }

func (r sumsRemote) Name() string { return r.db.Name }
func (r sumsRemote) Mirror() bool { return false }

func (r sumsRemote) Get(ctx context.Context, path string) ([]byte, error) {
	w := httptest.NewRecorder()
	r.db.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil).WithContext(ctx))
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case w.Code == http.StatusNotFound:
		return nil, &upstream.Error{Source: r.db.Name, Stage: upstream.StageHTTP, Status: w.Code}
	case w.Code != http.StatusOK:
		return nil, fmt.Errorf("%s: %d", r.db.Name, w.Code)
	}
	return w.Body.Bytes(), nil
}

// sumsOf is a client of a checksum database, with a cache of its own unless one
// is given.
func sumsOf(t testing.TB, db *modtest.SumDB, cache store.Store) *checksum.DB {
	t.Helper()
	if cache == nil {
		cache = store.NewMem()
	}
	d, err := checksum.New(checksum.Config{Key: db.VKey, Remotes: []checksum.Remote{sumsRemote{db}}, Cache: cache, Conflict: store.ErrConflict})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func info(m module.Version) goproxy.Request  { return goproxy.Request{Kind: goproxy.Info, Module: m} }
func gomod(m module.Version) goproxy.Request { return goproxy.Request{Kind: goproxy.Mod, Module: m} }
func zipOf(m module.Version) goproxy.Request { return goproxy.Request{Kind: goproxy.Zip, Module: m} }
func list(path string) goproxy.Request {
	return goproxy.Request{Kind: goproxy.List, Module: module.Version{Path: path}}
}
func latest(path string) goproxy.Request {
	return goproxy.Request{Kind: goproxy.Latest, Module: module.Version{Path: path}}
}
func query(path, rev string) goproxy.Request { return info(module.Version{Path: path, Version: rev}) }

// got is what a client got.
type got struct {
	data   []byte
	res    mirror.Result // without its readers
	stream bool
	err    error // of Get, or of reading
	opened bool  // Get gave a result
}

// complete reports whether the client has to believe that it has everything.
func (g got) complete() bool { return g.err == nil }

func (g got) String() string {
	if g.err != nil {
		return fmt.Sprintf("error after %d bytes: %v", len(g.data), g.err)
	}
	return fmt.Sprintf("%d bytes %.40q", len(g.data), g.data)
}

// get asks and reads all, as a client does.
func (r *rig) get(req goproxy.Request, o ...mirror.Options) got {
	return r.getCtx(r.t.Context(), req, o...)
}

func (r *rig) getCtx(ctx context.Context, req goproxy.Request, o ...mirror.Options) got {
	var opt mirror.Options
	if len(o) > 0 {
		opt = o[0]
	}
	res, err := r.Get(ctx, req, opt)
	if err != nil {
		return got{err: err}
	}
	defer res.Close()
	return drain(res)
}

func drain(res *mirror.Result) got {
	g := got{res: *res, opened: true, stream: res.Stream != nil}
	body := res.Stream
	if body == nil {
		body = res.Content
	}
	// In one piece of memory: the race detector has much to do for each that is new.
	buf := bytes.NewBuffer(make([]byte, 0, max(res.Size, 0)+bytes.MinRead))
	_, g.err = buf.ReadFrom(body)
	g.data = buf.Bytes()
	if g.err == nil && res.Size >= 0 && int64(len(g.data)) != res.Size {
		g.err = fmt.Errorf("the result has %d bytes, but its Size is %d", len(g.data), res.Size)
	}
	if g.err == nil && res.Bytes != nil && !bytes.Equal(res.Bytes, g.data) {
		g.err = errors.New("Bytes and Content differ")
	}
	return g
}

// want demands that req is answered with data.
func (r *rig) want(req goproxy.Request, data []byte, o ...mirror.Options) got {
	r.t.Helper()
	g := r.get(req, o...)
	if g.err != nil || !bytes.Equal(g.data, data) {
		r.t.Fatalf("%v: %v; want %d bytes %.40q\n%s", req, g, len(data), data, r.log)
	}
	return g
}

// wantErr demands that req fails with a finding of this code, and that nothing
// says that a thing does not exist which does.
func (r *rig) wantErr(req goproxy.Request, code string, o ...mirror.Options) error {
	r.t.Helper()
	g := r.get(req, o...)
	if g.err == nil {
		r.t.Fatalf("%v: %v; want an error", req, g)
	}
	if f, details := mirror.Explain(g.err); string(f.Code) != code {
		r.t.Fatalf("%v: %v\nfinding %v %q; want %s", req, g.err, f, details, code)
	}
	return g.err
}

// count is the sum of a counter of the mirror over all labels that hold the given
// values.
func (r *rig) count(name string, labels ...string) float64 {
	r.t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(r.Collectors()...)
	families, err := reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	metrics:
		for _, m := range f.GetMetric() {
			for _, want := range labels {
				found := false
				for _, l := range m.GetLabel() {
					found = found || l.GetValue() == want
				}
				if !found {
					continue metrics
				}
			}
			sum += m.GetCounter().GetValue()
		}
	}
	return sum
}

// quarantined lists what is in quarantine.
func (r *rig) quarantined() []store.Evidence {
	r.t.Helper()
	l, err := r.store.Quarantined()
	if err != nil {
		r.t.Fatal(err)
	}
	return l
}

// wantStored demands that a file is, or is not, visible in the store.
func (r *rig) wantStored(req goproxy.Request, want bool) {
	r.t.Helper()
	b, err := r.store.Open(req)
	if err == nil {
		b.Close()
	}
	if !want && !errors.Is(err, fs.ErrNotExist) || want && err != nil {
		r.t.Fatalf("store: %v: %v; want it there: %v", req, err, want)
	}
}

// isZip reports whether an HTTP request is for a zip.
func isZip(req *http.Request) bool { return strings.HasSuffix(req.URL.Path, ".zip") }

// hangsUnless is for with: all but some requests hang until they are let.
func hangsUnless(well func(*http.Request) bool, until <-chan struct{}) func(http.ResponseWriter, *http.Request) bool {
	return func(_ http.ResponseWriter, r *http.Request) bool {
		if !well(r) {
			select {
			case <-until:
			case <-r.Context().Done():
			}
		}
		return false
	}
}

// with puts f before next; what it serves, next does not.
func with(next http.Handler, f func(http.ResponseWriter, *http.Request) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !f(w, r) {
			next.ServeHTTP(w, r)
		}
	})
}

// contextCause is a context that ends with the test, or before, with a cause.
func contextCause(t testing.TB) (context.Context, context.CancelCauseFunc) {
	return context.WithCancelCause(t.Context())
}

// The members of a large zip are read by several goroutines at once; this is for
// the race detector, and for what a panic in one of them would end.
func TestTheMembersOfALargeZipAreReadAtOnce(t *testing.T) {
	w := modtest.New(t)
	files := modtest.Files{"go.mod": "module many.test/m\n"}
	noise := modtest.GitNoise(400 << 10)
	for i := range 12 {
		files[fmt.Sprintf("d/f%02d.txt", i)] = noise
	}
	m := w.Add("many.test/m", "v1.0.0", files)
	r := newRig(t, parts{sources: []upstream.Source{serve(t, w.Handler())}})
	r.want(zipOf(m), w.Zip(m))
	r.Settle()
	r.wantStored(zipOf(m), true)
}
