package server_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/checksum"
	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/server"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/upstream"
)

// A rig is a whole Sluice: a world with a checksum database, a source over it
// that can be spoiled, a mirror, and a server before it.
type rig struct {
	t      testing.TB
	w      *modtest.World
	db     *modtest.SumDB
	spoilt faults.Switch
	source upstream.Source
	store  store.Store
	mirror *mirror.Mirror
	server *server.Server
	config server.Config
	log    *journal
	client *http.Client
	base   string // URL of the server

	answered func() // called when the header of an answer has come; may be nil
}

// parts are what may be other than usual in a rig.
type parts struct {
	store    store.Store
	sources  []upstream.Source // in place of the usual one
	budget   time.Duration     // of the usual source
	settings func(*server.Settings)
	config   func(*server.Config)
	lookups  mirror.Sums // default: the world's checksum database
	inBubble bool        // nothing leaves the process
}

func newRig(t testing.TB, p parts) *rig {
	t.Helper()
	r := &rig{t: t, w: modtest.New(t), store: p.store, log: &journal{}}
	r.db = r.w.SumDB("sumdb.test/db")
	if r.store == nil {
		r.store = store.NewMem()
	}
	faulty := faults.Handler(r.w.Handler(), r.spoilt.Pick)
	if p.inBubble && p.budget > 0 {
		r.source = pipedSource(t, faulty, p.budget)
	} else if p.inBubble {
		r.source = pipeSource{&http.Client{Transport: modtest.Pipe(t, faulty)}}
	} else {
		r.source = httpSource(t, modtest.Serve(t, faulty).URL, p.budget)
	}
	if p.sources == nil {
		p.sources = []upstream.Source{r.source}
	}
	chain := &upstream.Chain{}
	for _, src := range p.sources {
		chain.Links = append(chain.Links, upstream.Link{Source: src, FallBack: true})
	}
	sums, err := checksum.New(checksum.Config{Key: r.db.VKey, Remotes: []checksum.Remote{sumsRemote{r.db}}, Cache: r.store, Conflict: store.ErrConflict})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sums.Close)
	if p.lookups == nil {
		p.lookups = sums
	}
	log := slog.New(slog.NewJSONHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	private := func(path string) bool { return strings.HasPrefix(path, "private.test/") }
	r.mirror = mirror.New(mirror.Config{Store: r.store, Scratch: t.TempDir(), Log: log}, mirror.Settings{
		Fresh: time.Minute, Stale: 2 * time.Second, NotFound: 5 * time.Second,
		Route: func(path string) mirror.Route {
			route := mirror.Route{Chain: chain, Sums: p.lookups, Why: "a test"}
			if private(path) {
				route.Sums, route.Private = nil, true
			}
			return route
		},
	})
	t.Cleanup(r.mirror.Close)
	set := server.Settings{SumDBs: []server.SumDB{sums}, Private: private, Sources: chain.Names(), Fresh: time.Minute}
	if p.settings != nil {
		p.settings(&set)
	}
	r.config = server.Config{Mirror: r.mirror, Log: log, ID: "sluice-0123456789ab", Version: "v0.0.0-test", Idle: time.Minute, Stall: time.Minute, Store: r.store.Probe}
	if p.config != nil {
		p.config(&r.config)
	}
	r.server = server.New(r.config, set)
	tr := &http.Transport{DisableCompression: true}
	if p.inBubble {
		tr = modtest.Pipe(t, r.server)
		r.base = "http://sluice.test"
	} else {
		r.base = modtest.Serve(t, r.server).URL
	}
	t.Cleanup(tr.CloseIdleConnections)
	r.client = &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return r
}

func httpSource(t testing.TB, base string, budget time.Duration) upstream.Source {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	n := upstream.NewNet(upstream.NetConfig{Timeout: budget, Named: []string{upstream.HostPort(u)}})
	t.Cleanup(n.Close)
	return upstream.NewHTTPSource(n, u)
}

// pipedSource is an HTTP source with a time budget, in process.
func pipedSource(t testing.TB, h http.Handler, budget time.Duration) upstream.Source {
	pipe := modtest.Pipe(t, h)
	n := upstream.NewNet(upstream.NetConfig{Timeout: budget, Wrap: func(string, http.RoundTripper) http.RoundTripper { return pipe }})
	t.Cleanup(n.Close)
	return upstream.NewHTTPSource(n, &url.URL{Scheme: "http", Host: "s.test"})
}

// A pipeSource is a GOPROXY over an in-process connection. It has no time budget.
type pipeSource struct{ client *http.Client }

func (pipeSource) Name() string        { return "s" }
func (pipeSource) Kind() upstream.Kind { return upstream.Proxy }

func (s pipeSource) Get(ctx context.Context, req goproxy.Request) (*upstream.Answer, error) {
	hr, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://s/"+req.Path(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.client.Do(hr)
	if err != nil {
		return nil, &upstream.Error{Source: "s", Stage: upstream.StageConnect, Err: err}
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, &upstream.Error{Source: "s", Stage: upstream.StageHTTP, Status: resp.StatusCode}
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

// spoil makes the source misbehave; "" ends that.
func (r *rig) spoil(name string) {
	r.t.Helper()
	if name == "" {
		r.spoilt.Clear()
		return
	}
	f, err := faults.Parse(name)
	if err != nil {
		r.t.Fatal(err)
	}
	r.spoilt.Set(f)
}

// A journal is a log of JSON lines that tests can read.
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

// entry is what a test looks at of a log line.
type entry struct {
	Level, Msg, ID, Method, Path, Kind, Module, Version, Outcome, Source, Code, Err, Request string
	Status                                                                                   int
	Bytes                                                                                    int64
}

// requests are the lines about requests so far, and forgets them.
func (j *journal) requests(t testing.TB) (list []entry) {
	t.Helper()
	j.mu.Lock()
	text := j.buf.String()
	j.buf.Reset()
	j.mu.Unlock()
	for line := range strings.Lines(text) {
		var e entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Errorf("log line %q: %v", line, err)
		}
		if e.Msg == "request" {
			list = append(list, e)
		}
	}
	return list
}

// logged are the lines about requests so far, whose last one is written after the
// answer; it forgets them.
func (r *rig) logged() []entry {
	r.t.Helper()
	waitFor(r.t, func() bool { return server.InFlight(r.server) == 0 })
	return r.log.requests(r.t)
}

// waitFor waits for something that follows without fail.
func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for range 20000 {
		if ok() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("it does not come")
}

// got is an answer of the server.
type got struct {
	status int
	header http.Header
	body   []byte
	length int64
	err    error // in reading the body
}

func (g got) String() string {
	return fmt.Sprintf("%d, %d bytes %.300q, error %v", g.status, len(g.body), g.body, g.err)
}

// do asks for a path as it is spelled, and looks at what holds for every answer.
func (r *rig) do(method, path string, header ...string) got {
	r.t.Helper()
	return r.doCtx(r.t.Context(), method, path, nil, header...)
}

func (r *rig) doCtx(ctx context.Context, method, path string, body io.Reader, header ...string) got {
	r.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, r.base+"/", body)
	if err != nil {
		r.t.Fatal(err)
	}
	req.URL.Opaque = "//" + req.URL.Host + "/" + strings.TrimPrefix(path, "/") // as it is
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return got{err: err}
	}
	defer resp.Body.Close()
	if r.answered != nil {
		r.answered()
	}
	g := got{status: resp.StatusCode, header: resp.Header, length: resp.ContentLength}
	g.body, g.err = io.ReadAll(resp.Body)
	if path != "/metrics" && path != "/readyz" {
		checkAnswer(r.t, method+" "+path, g)
	}
	return g
}

func (r *rig) get(path string, header ...string) got {
	r.t.Helper()
	return r.do(http.MethodGet, path, header...)
}

// checkAnswer demands what holds for every answer: among other things, that the go
// command shows all of an error's text.
func checkAnswer(t testing.TB, what string, g got) {
	t.Helper()
	if len(g.header.Get("X-Request-Id")) != 12 || g.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%s: headers %v", what, g.header)
	}
	if g.status < 400 || g.status == http.StatusRequestedRangeNotSatisfiable {
		return
	}
	if ct := g.header.Get("Content-Type"); ct != "text/plain; charset=utf-8" {
		t.Errorf("%s: %d as %q", what, g.status, ct)
	}
	if cc := g.header.Get("Cache-Control"); cc == "" || strings.Contains(cc, "immutable") {
		t.Errorf("%s: %d with Cache-Control %q", what, g.status, cc)
	}
	if g.header.Get("ETag") != "" {
		t.Errorf("%s: %d with an ETag", what, g.status)
	}
	if strings.HasPrefix(what, http.MethodHead) {
		return
	}
	text := strings.TrimSuffix(string(g.body), "\n")
	lines := strings.Split(text, "\n")
	if text == "" || len(lines) > 8 || len(text)+len(lines)-1 > 648 || !utf8.ValidString(text) {
		t.Errorf("%s: %d: %d lines, %d bytes:\n%s", what, g.status, len(lines), len(text), text)
	}
	for _, l := range lines {
		if strings.TrimSpace(l) == "" || strings.ContainsFunc(l, func(r rune) bool { return !unicode.IsGraphic(r) }) {
			t.Errorf("%s: %d: the go command does not show %q", what, g.status, l)
		}
	}
}

// want demands a status and, unless it is nil, a body.
func (r *rig) want(status int, body []byte, path string, header ...string) got {
	r.t.Helper()
	g := r.get(path, header...)
	if g.err != nil || g.status != status || body != nil && !bytes.Equal(g.body, body) {
		r.t.Fatalf("GET %s: %v; want %d, %d bytes %.60q\n%s", path, g, status, len(body), body, r.log)
	}
	return g
}

// settle waits until nothing of a module version is under way, and its zip stored.
func (r *rig) settle(m module.Version) {
	r.t.Helper()
	waitFor(r.t, func() bool {
		b, err := r.store.Open(goproxy.Request{Kind: goproxy.Zip, Module: m})
		if err == nil {
			b.Close()
		}
		return err == nil
	})
}

func at(m module.Version, suffix string) string {
	esc, err := module.EscapePath(m.Path)
	if err != nil {
		panic(err)
	}
	return "/" + esc + "/@v/" + m.Version + suffix
}

// raw sends bytes to the server and reads the answer.
func raw(t testing.TB, addr, request string) (int, string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		return 0, err.Error()
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}
