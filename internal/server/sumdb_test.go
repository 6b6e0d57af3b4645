package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb"

	"github.com/modsluice/sluice/internal/checksum"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/server"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/upstream"
)

func TestTheChecksumDatabaseIsHandedOn(t *testing.T) {
	r := newRig(t, parts{})
	r.w.Add("sumdb.test/Module", "v1.0.0", nil)
	secret := r.w.Add("private.test/m", "v1.0.0", nil)
	for _, tt := range []struct {
		path   string
		status int
		cache  string
		text   string // in the body
	}{
		{"/sumdb/sumdb.test/db/supported", 200, "public, max-age=60", ""},
		{"/sumdb/sumdb.test/db/lookup/sumdb.test/!module@v1.0.0", 200, "public, max-age=31536000, immutable", "sumdb.test/Module v1.0.0 h1:"},
		{"/sumdb/sumdb.test/db/latest", 200, "public, max-age=60", "go.sum database tree"},
		{"/sumdb/sumdb.test/db/tile/8/0/000.p/1", 200, "public, max-age=31536000, immutable", ""},
		{"/sumdb/sumdb.test/db/lookup/sumdb.test/%21module@v1.0.0", 200, "", "h1:"},
		{"/sumdb/sumdb.test/db/lookup/sumdb.test/none@v1.0.0", 404, "", "SL-SUM-004"},
		{"/sumdb/sumdb.test/db/lookup/private.test/m@v1.0.0", 403, "", "GONOSUMDB=private.test/m"},
		{"/sumdb/sumdb.test/db/lookup/private.test/m@v9.0.0+incompatible", 403, "", "GONOSUMDB"},
		{"/sumdb/sumdb.test/db/lookup/sumdb.test/Module@v1.0.0", 400, "", ""},
		{"/sumdb/sumdb.test/db/lookup/sumdb.test/!module@main", 404, "", "canonical"},
		{"/sumdb/sumdb.test/db/lookup/sumdb.test/!module", 400, "", "MODULE@VERSION"},
		{"/sumdb/sumdb.test/db/lookup/", 400, "", ""},
		{"/sumdb/sumdb.test/db/lookup/@v1.0.0", 400, "", ""},
		{"/sumdb/sumdb.test/db/lookup/../../etc/passwd@v1.0.0", 400, "", ""},
		{"/sumdb/sumdb.test/db/lookup/a%00b@v1.0.0", 400, "", ""},
		{"/sumdb/sumdb.test/db/lookup/" + strings.Repeat("a", 5000) + ".test@v1.0.0", 400, "", ""},
		{"/sumdb/sumdb.test/db/tile/8/0/999", 404, "", "no such tile"},
		{"/sumdb/sumdb.test/db/tile/8/0/x", 404, "", "no such tile"},
		{"/sumdb/sumdb.test/db/tile/99/0/000", 404, "", "no such tile"},
		{"/sumdb/sumdb.test/db/tile/../../../etc/passwd", 404, "", ""},
		{"/sumdb/sumdb.test/db/", 404, "", ""},
		{"/sumdb/sumdb.test/db", 404, "", ""},
		{"/sumdb/sumdb.test/db/other", 404, "", ""},
		{"/sumdb/sumdb.test/supported", 404, "", "[[sumdb]]"},
		{"/sumdb/sum.golang.org/supported", 404, "", ""},
		{"/sumdb/169.254.169.254/latest", 404, "", ""},
		{"/sumdb/", 404, "", ""},
		{"/sumdb", 404, "", ""},
		{"/sumdbx.test/m/@v/list", 404, "", "SL-SRC-001"}, // a module, if an odd one
	} {
		g := r.get(tt.path)
		if g.err != nil || g.status != tt.status || !strings.Contains(string(g.body), tt.text) || tt.cache != "" && g.header.Get("Cache-Control") != tt.cache {
			t.Errorf("%.80s: %v %v; want %d %q", tt.path, g, g.header, tt.status, tt.text)
		}
		if strings.HasSuffix(tt.path, "/supported") && tt.status == 200 && len(g.body) != 0 {
			t.Errorf("%s: %q", tt.path, g.body)
		}
		if h := r.do(http.MethodHead, tt.path); h.status != tt.status || len(h.body) > 0 {
			t.Errorf("HEAD %.80s: %v", tt.path, h)
		}
	}
	if n := r.db.HitsPrefix("lookup/private.test"); n != 0 {
		t.Errorf("the name of %v was passed on", secret)
	}
}

// A client verifies a module through us alone, as the go command does.
func TestAClientVerifiesThroughUs(t *testing.T) {
	r := newRig(t, parts{})
	var mods []module.Version
	for i := range 5 {
		mods = append(mods, r.w.Add(fmt.Sprintf("verify.test/m%d", i), "v1.0.0", nil))
	}
	ops := &clientOps{r: r, key: r.db.VKey, config: map[string][]byte{}}
	client := sumdb.NewClient(ops)
	check := func() {
		t.Helper()
		for _, m := range mods {
			lines, err := client.Lookup(m.Path, m.Version)
			if err != nil || len(lines) != 1 || !strings.HasSuffix(lines[0], r.w.H1Zip(m)) {
				t.Errorf("%v: %q, %v", m, lines, err)
			}
		}
	}
	check()
	r.db.Down(true)
	ops = &clientOps{r: r, key: r.db.VKey, config: map[string][]byte{}}
	client = sumdb.NewClient(ops)
	check() // with nothing but what we have
}

type clientOps struct {
	r      *rig
	key    string
	config map[string][]byte
}

func (o *clientOps) ReadRemote(path string) ([]byte, error) {
	g := o.r.get("/sumdb/sumdb.test/db" + path)
	if g.err == nil && g.status != 200 {
		g.err = fmt.Errorf("%s: %d %s", path, g.status, g.body)
	}
	return g.body, g.err
}

func (o *clientOps) ReadConfig(file string) ([]byte, error) {
	if file == "key" {
		return []byte(o.key), nil
	}
	return o.config[file], nil
}
func (o *clientOps) WriteConfig(file string, _, new []byte) error { o.config[file] = new; return nil }
func (o *clientOps) ReadCache(string) ([]byte, error)             { return nil, fs.ErrNotExist }
func (o *clientOps) WriteCache(string, []byte)                    {}
func (o *clientOps) Log(string)                                   {}
func (o *clientOps) SecurityError(msg string)                     { o.r.t.Error(msg) }

func TestSupportedFollowsWhatCanBeServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, parts{inBubble: true})
		m := r.w.Add("reach.test/m", "v1.0.0", nil)
		lookup := "/sumdb/sumdb.test/db/lookup/reach.test/m@v1.0.0"
		const supported = "/sumdb/sumdb.test/db/supported"
		r.db.Hang(true)
		start := time.Now()
		if g := r.want(404, nil, supported); g.header.Get("X-Sluice-Code") != "SL-SUM-003" {
			t.Errorf("%v", g)
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("took %v", took)
		}
		r.db.Hang(false)
		r.db.Down(true)
		time.Sleep(time.Minute)
		r.want(404, nil, supported)
		r.want(503, nil, lookup)
		r.want(503, nil, "/sumdb/sumdb.test/db/latest")
		r.want(503, nil, at(m, ".mod"))
		r.db.Down(false)
		time.Sleep(time.Minute)
		r.want(200, nil, supported)
		r.want(200, nil, lookup)
		// With something in the cache, it is served, whatever becomes of the database.
		r.db.Down(true)
		time.Sleep(time.Hour)
		r.want(200, nil, supported)
		r.want(200, nil, lookup)
		r.want(200, nil, "/sumdb/sumdb.test/db/latest")
		r.db.Down(false)
		r.db.Fork(true)
		r.w.Add("reach.test/n", "v1.0.0", nil)
		if g := r.want(502, nil, "/sumdb/sumdb.test/db/lookup/reach.test/n@v1.0.0"); g.header.Get("X-Sluice-Code") != "SL-SUM-006" {
			t.Errorf("%v", g)
		}
	})
}

// The longest name counts where one database's is the beginning of another's.
func TestDatabasesMayShareTheBeginningOfTheirNames(t *testing.T) {
	a, b := &fakeDB{name: "sums.test"}, &fakeDB{name: "sums.test/lookup"}
	r := newRig(t, parts{settings: func(s *server.Settings) { s.SumDBs = []server.SumDB{a, b} }})
	for path, want := range map[string]string{
		"/sumdb/sums.test/latest":                        "latest of sums.test",
		"/sumdb/sums.test/lookup/latest":                 "latest of sums.test/lookup",
		"/sumdb/sums.test/lookup/x.test/m@v1.0.0":        "",
		"/sumdb/sums.test/lookup/lookup/x.test/m@v1.0.0": "x.test/m@v1.0.0 of sums.test/lookup",
		"/sumdb/sums.test/tile/8/0/000":                  "/tile/8/0/000 of sums.test",
	} {
		if g := r.get(path); string(g.body) != want && want != "" || want == "" && g.status != 404 {
			t.Errorf("%s: %v; want %q", path, g, want)
		}
	}
	r.server.Reload(server.Settings{})
	r.want(404, nil, "/sumdb/sums.test/latest")
	r.server.Reload(server.Settings{SumDBs: []server.SumDB{a}})
	r.want(200, []byte("private.test/m@v1.0.0 of sums.test"), "/sumdb/sums.test/lookup/private.test/m@v1.0.0") // nothing is private any more
}

// A fakeDB is a checksum database that says what it was asked for.
type fakeDB struct {
	name   string
	err    error
	latest func() ([]byte, error)
}

func (d *fakeDB) Name() string { return d.name }
func (d *fakeDB) Lookup(_ context.Context, mod module.Version) ([]byte, error) {
	return []byte(mod.String() + " of " + d.name), d.err
}
func (d *fakeDB) Latest(context.Context) ([]byte, error) {
	if d.latest != nil {
		return d.latest()
	}
	return []byte("latest of " + d.name), d.err
}
func (d *fakeDB) Tile(_ context.Context, path string) ([]byte, error) {
	return []byte(path + " of " + d.name), d.err
}
func (d *fakeDB) Reachable(context.Context) error { return d.err }

// readiness is what /readyz says.
type readiness struct {
	Status  string
	Store   struct{ State, Error string }
	SumDBs  []struct{ Name, State, Error string }
	Sources []mirror.SourceState
}

func (r *rig) ready(status int) (rd readiness) {
	r.t.Helper()
	g := r.get("/readyz")
	if g.status != status || g.status == 200 && g.header.Get("Content-Type") != "application/json" || g.header.Get("Cache-Control") != "no-store" {
		r.t.Errorf("/readyz: %v; want %d", g, status)
	}
	if err := json.Unmarshal(g.body, &rd); err != nil {
		r.t.Errorf("/readyz: %v in %s", err, g.body)
	}
	return rd
}

func TestReadyTellsTheStateOfEachPart(t *testing.T) {
	var probe error
	failing := &failingStore{Store: store.NewMem()}
	r := newRig(t, parts{store: failing, config: func(c *server.Config) { c.Store = func() error { return probe } }})
	m := r.w.Add("ready.test/m", "v1.0.0", nil)
	r.want(200, []byte("ok\n"), "/healthz")
	rd := r.ready(200)
	if rd.Status != "ok" || rd.Store.State != "ok" || len(rd.SumDBs) != 1 || rd.SumDBs[0].State != "ok" || len(rd.Sources) != 1 || rd.Sources[0].State != "unknown" {
		t.Errorf("at first: %+v", rd)
	}
	r.want(200, nil, at(m, ".info"))
	if rd = r.ready(200); rd.Sources[0].State != "ok" || rd.Sources[0].Since.IsZero() {
		t.Errorf("%+v", rd)
	}
	r.want(404, nil, "/ready.test/none/@v/list")
	if rd = r.ready(200); rd.Status != "ok" {
		t.Errorf("after a 404: %+v", rd)
	}

	r.spoil("503")
	r.want(503, nil, "/ready.test/other/@v/list")
	if rd = r.ready(200); rd.Status != "degraded" || rd.Sources[0].State != "failing" || rd.Sources[0].Code != "SL-SRC-005" || rd.Sources[0].Error == "" {
		t.Errorf("source down: %+v", rd)
	}
	probe = errors.New("the disk is gone")
	if rd = r.ready(503); rd.Status != "failing" || rd.Store.Error != "the disk is gone" {
		t.Errorf("source down, store gone: %+v", rd)
	}
	r.spoil("")
	r.want(200, nil, "/ready.test/m/@v/list")
	if rd = r.ready(200); rd.Status != "degraded" || rd.Store.State != "failing" || rd.Sources[0].State != "ok" {
		t.Errorf("store gone: %+v", rd)
	}
	probe = nil
	// The store takes a probe, but has not taken the last file.
	failing.fails.Store(true)
	r.want(200, r.w.Mod(m), at(m, ".mod"))
	waitFor(t, func() bool { _, err := r.mirror.StoreTrouble(); return err != nil })
	if rd = r.ready(200); rd.Status != "degraded" || rd.Store.State != "failing" || !strings.Contains(rd.Store.Error, "full") {
		t.Errorf("store full: %+v", rd)
	}
	r.db.Down(true)
	fresh := newRig(t, parts{})
	fresh.db.Down(true)
	if rd = fresh.ready(200); rd.Status != "degraded" || rd.SumDBs[0].State != "failing" {
		t.Errorf("database down: %+v", rd)
	}
	if g := r.do(http.MethodHead, "/readyz"); g.status != 200 || len(g.body) > 0 {
		t.Errorf("HEAD: %v", g)
	}
}

// failingStore is a store that takes no new artifact while it fails.
type failingStore struct {
	store.Store
	fails atomic.Bool
}

func (s *failingStore) Create(req goproxy.Request) (store.Pending, error) {
	if s.fails.Load() {
		return nil, fmt.Errorf("full: %w", store.ErrNoSpace)
	}
	return s.Store.Create(req)
}

func TestAPanicIsOneRequestsFailureAndALogLine(t *testing.T) {
	db := &fakeDB{name: "panic.test", latest: func() ([]byte, error) { panic("a bug") }}
	r := newRig(t, parts{
		settings: func(s *server.Settings) { s.SumDBs = []server.SumDB{db} },
		config: func(c *server.Config) {
			c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				io.WriteString(w, strings.Repeat("half of it\n", 10000))
				panic("another bug")
			})
		},
	})
	if g := r.want(500, nil, "/sumdb/panic.test/latest"); g.header.Get("X-Sluice-Code") != "SL-SELF-001" {
		t.Errorf("%v", g)
	}
	if log := r.log.String(); !strings.Contains(log, "a bug") || !strings.Contains(log, "sumdb_test.go") {
		t.Errorf("the log does not say where:\n%s", log)
	}
	if l := r.logged(); len(l) != 1 || l[0].Status != 500 || l[0].Level != "WARN" || l[0].Err != "internal error" {
		t.Errorf("%+v", l)
	}
	if g := r.get("/metrics"); g.err == nil {
		t.Errorf("after a panic midway: %v", g)
	}
	if l := r.logged(); len(l) != 1 || l[0].Status != 200 || l[0].Err != "internal error" {
		t.Errorf("%+v", l)
	}
	r.want(200, nil, "/healthz")
}

func TestErrorsOfADatabaseHaveTheirStatus(t *testing.T) {
	db := &fakeDB{name: "err.test"}
	r := newRig(t, parts{settings: func(s *server.Settings) { s.SumDBs = []server.SumDB{db} }})
	for _, tt := range []struct {
		err    error
		status int
		code   string
	}{
		{fmt.Errorf("x: %w", checksum.ErrUnknown), 404, "SL-SUM-004"},
		{fmt.Errorf("x: %w", checksum.ErrUnreachable), 503, "SL-SUM-003"},
		{fmt.Errorf("x: %w", checksum.ErrSecurity), 502, "SL-SUM-006"},
		{context.DeadlineExceeded, 504, ""},
		{context.Canceled, 500, "SL-SELF-001"}, // not the client's
		{fs.ErrNotExist, 500, "SL-SELF-001"},   // of some file, and no answer about a module
		{mirror.ErrClosing, 503, ""},
	} {
		db.err = tt.err
		for _, path := range []string{"/sumdb/err.test/latest", "/sumdb/err.test/lookup/x.test/m@v1.0.0"} {
			if g := r.want(tt.status, nil, path); tt.code != "" && g.header.Get("X-Sluice-Code") != tt.code {
				t.Errorf("%v: %v", tt.err, g)
			}
		}
	}
}

func TestEachRequestIsOneLogLine(t *testing.T) {
	r := newRig(t, parts{})
	m := r.w.Add("log.test/m", "v1.0.0", nil)
	source := r.source.Name()
	for _, tt := range []struct {
		method, path string
		header       []string
		want         entry
	}{
		{"GET", at(m, ".mod"), nil, entry{Level: "INFO", Status: 200, Kind: "mod", Module: m.Path, Version: "v1.0.0", Outcome: "fetched", Source: source, Bytes: int64(len(r.w.Mod(m)))}},
		{"HEAD", at(m, ".info"), nil, entry{Level: "INFO", Status: 200, Kind: "info", Module: m.Path, Version: "v1.0.0", Outcome: "fetched", Source: source}},
		{"GET", "/log.test/m/@v/list", nil, entry{Level: "INFO", Status: 200, Kind: "list", Module: m.Path, Outcome: "fetched", Source: source, Bytes: 7}},
		{"GET", "/log.test/m/@v/list", nil, entry{Level: "INFO", Status: 200, Kind: "list", Module: m.Path, Outcome: "hit", Source: source, Bytes: 7}},
		{"GET", "/cached-only/log.test/none/@v/list", nil, entry{Level: "INFO", Status: 404, Kind: "list", Module: "log.test/none", Outcome: "missing", Code: "SL-OFF-003", Bytes: -1}},
		{"GET", at(m, ".zip"), []string{"Disable-Module-Fetch", "true"}, entry{Level: "INFO", Status: 404, Kind: "zip", Module: m.Path, Version: "v1.0.0", Outcome: "missing", Code: "SL-OFF-003", Bytes: -1}},
		{"GET", "/log.test/M/@v/list", nil, entry{Level: "INFO", Status: 400, Path: "/log.test/M/@v/list", Code: "SL-REQ-001", Bytes: -1}},
		{"POST", "/x", nil, entry{Level: "INFO", Status: 405, Path: "/x", Bytes: -1}},
		{"GET", "/healthz", nil, entry{Level: "INFO", Status: 200, Path: "/healthz", Bytes: 3}},
		{"GET", "/" + strings.Repeat("%01", 500), nil, entry{Level: "INFO", Status: 400, Path: "/" + strings.Repeat("%01", 85), Code: "SL-REQ-001", Bytes: -1}},
		{"GET", "/sumdb/sumdb.test/db/lookup/private.test/m@v1.0.0", nil, entry{Level: "INFO", Status: 403, Kind: "sumdb", Module: "private.test/m", Version: "v1.0.0", Outcome: "refused", Code: "SL-SUM-005", Bytes: -1}},
	} {
		r.logged()
		g := r.do(tt.method, tt.path, tt.header...)
		l := r.logged()
		if len(l) != 1 {
			t.Errorf("%s %s: %d lines", tt.method, tt.path, len(l))
			continue
		}
		want := tt.want
		want.Msg, want.Method, want.ID = "request", tt.method, g.header.Get("X-Request-Id")
		if want.Bytes < 0 {
			want.Bytes = int64(len(g.body))
		}
		if got := l[0]; got != want && !(len(tt.path) > 256 && got.Path[:250] == want.Path[:250]) {
			t.Errorf("%s %s:\n%+v; want\n%+v", tt.method, tt.path, got, want)
		}
	}
}

func TestNoCredentialsInLogsAndAnswers(t *testing.T) {
	const secret = "hunter2"
	w := modtest.New(t)
	srv := modtest.Serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, pw, _ := r.BasicAuth()
		switch {
		case pw != secret:
			t.Errorf("the source was sent the password %q", pw)
		case strings.Contains(r.URL.Path, "/echo/"):
			http.Error(rw, "no access for https://user:"+pw+"@host/ with Authorization: Basic dXNlcjpodW50ZXIy", http.StatusForbidden)
		case strings.Contains(r.URL.Path, "/loop/"):
			http.Redirect(rw, r, "http://user:"+pw+"@127.0.0.1:1/", http.StatusFound)
		default:
			panic(http.ErrAbortHandler)
		}
	}))
	base := strings.Replace(srv.URL, "http://", "http://user:"+secret+"@", 1)
	r := newRig(t, parts{sources: []upstream.Source{httpSource(t, base, 0)}})
	r.w = w
	var bodies strings.Builder
	for _, path := range []string{"/a.test/echo/@v/list", "/a.test/loop/@v/list", "/a.test/x/@v/v1.0.0.zip", "/a.test/x/@latest", "/readyz", "/"} {
		bodies.Write(r.get(path).body)
	}
	srv.Stop()
	bodies.Write(r.get("/a.test/y/@v/list").body)
	bodies.Write(r.get("/readyz").body)
	for where, text := range map[string]string{"answers": bodies.String(), "log": r.log.String()} {
		if strings.Contains(text, secret) || strings.Contains(text, "dXNlcjpodW50ZXIy") {
			t.Errorf("the password is in the %s:\n%s", where, text)
		}
	}
}

func TestAClientThatLeavesIsNoFailure(t *testing.T) {
	r := newRig(t, parts{})
	r.spoil("hang")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan got)
	go func() { done <- r.doCtx(ctx, http.MethodGet, "/left.test/m/@v/list", nil) }()
	waitFor(t, func() bool { return server.InFlight(r.server) == 1 })
	cancel()
	if g := <-done; g.err == nil {
		t.Errorf("%v", g)
	}
	if l := r.logged(); len(l) != 1 || l[0].Status != 499 || l[0].Level != "INFO" || l[0].Outcome != "left" || l[0].Err != "the client left" {
		t.Errorf("%+v", l)
	}
}

// A stored file that cannot be read to its end is a broken transfer, and told.
func TestAnAnswerThatCannotBeReadToItsEndIsBroken(t *testing.T) {
	st := &halfStore{Store: store.NewMem()}
	r := newRig(t, parts{store: st})
	m := r.w.Big("half.test/m", "v1.0.0", 300<<10)
	r.want(200, r.w.Zip(m), at(m, ".zip"))
	r.settle(m)
	st.broken.Store(true)
	r.logged()
	if g := r.get(at(m, ".zip")); g.err == nil {
		t.Errorf("%v", g)
	}
	if l := r.logged(); len(l) != 1 || !strings.Contains(l[0].Err, "broken off: after") || l[0].Level != "WARN" {
		t.Errorf("%+v", l)
	}
}

// halfStore is a store whose disk fails in the middle of a file.
type halfStore struct {
	store.Store
	broken atomic.Bool
}

func (s *halfStore) Open(req goproxy.Request) (*store.Blob, error) {
	b, err := s.Store.Open(req)
	if err == nil && s.broken.Load() {
		b.Content, b.Bytes = &halfContent{b.Content, b.Record.Size / 2}, nil
	}
	return b, err
}

type halfContent struct {
	io.ReadSeeker
	left int64
}

func (c *halfContent) Read(p []byte) (int, error) {
	if c.left <= 0 {
		return 0, errors.New("input/output error")
	}
	n, err := c.ReadSeeker.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	return n, err
}

func TestThePagesOfOurOwn(t *testing.T) {
	r := newRig(t, parts{config: func(c *server.Config) {
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "sluice_x 1\n") })
	}})
	if g := r.want(200, nil, "/"); !strings.Contains(string(g.body), "GOPROXY="+r.base) || g.header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("%v", g)
	}
	r.want(200, []byte("sluice_x 1\n"), "/metrics")
	r.want(200, []byte("ok\n"), "/healthz")
	r.want(404, nil, "/healthz/")
	bare := newRig(t, parts{})
	bare.want(404, nil, "/metrics")
	for host, shown := range map[string]string{"": "HOST", "Host: sluice.test:80\r\n": "sluice.test:80", "Host: " + strings.Repeat("x", 300) + "\r\n": "HOST"} {
		if status, body := raw(t, strings.TrimPrefix(r.base, "http://"), "GET / HTTP/1.0\r\n"+host+"\r\n"); status != 200 || !strings.Contains(body, "GOPROXY=http://"+shown+"\n") {
			t.Errorf("%q: %d %q", host, status, body)
		}
	}
}
