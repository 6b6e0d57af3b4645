package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/modsluice/sluice/internal/checksum"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/server"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/upstream"
)

// A house is a server with everything below it, over one source.
type house struct {
	*server.Server
	t      testing.TB
	mirror *mirror.Mirror
	store  *store.Mem
	log    *lines
	probe  error // what a probe of the store gives
}

// plan is what a house is made of. The zero value of each field is a good one.
type plan struct {
	source  string        // URL of the GOPROXY
	timeout time.Duration // of the source; default 5 s
	connect time.Duration
	sums    *checksum.DB
	sumdbs  []server.SumDB
	private func(string) bool
	fresh   time.Duration // default a minute
	stall   time.Duration
}

const selfID = "sluice-self-id"

func build(t testing.TB, p plan) *house {
	t.Helper()
	u, err := url.Parse(p.source)
	if err != nil {
		t.Fatal(err)
	}
	if p.timeout == 0 {
		p.timeout = 5 * time.Second
	}
	if p.fresh == 0 {
		p.fresh = time.Minute
	}
	if p.private == nil {
		p.private = func(string) bool { return false }
	}
	h := &house{t: t, store: store.NewMem(), log: &lines{}}
	log := slog.New(slog.NewTextHandler(h.log, nil))
	net := upstream.NewNet(upstream.NetConfig{Timeout: p.timeout, Connect: p.connect, Named: []string{upstream.HostPort(u)}})
	src := upstream.NewHTTPSource(net, u)
	chain := &upstream.Chain{Links: []upstream.Link{{Source: src}}}
	var sums mirror.Sums
	if p.sums != nil {
		sums = p.sums
	}
	h.mirror = mirror.New(mirror.Config{Store: h.store, Scratch: t.TempDir(), Log: log}, mirror.Settings{
		Fresh: p.fresh, Stale: 200 * time.Millisecond, NotFound: time.Second,
		Route: func(path string) mirror.Route {
			if p.private(path) {
				return mirror.Route{Chain: chain, Private: true}
			}
			return mirror.Route{Chain: chain, Sums: sums}
		},
	})
	h.Server = server.New(server.Config{
		Mirror: h.mirror, Log: log, ID: selfID, Version: "v1.2.3", Idle: time.Minute, Stall: p.stall,
		Store: func() error { return h.probe },
	}, server.Settings{SumDBs: p.sumdbs, Private: p.private, Sources: chain.Names(), Fresh: p.fresh})
	t.Cleanup(func() {
		h.mirror.Close()
		net.Close()
	})
	return h
}

// get asks the handler itself. What a broken transfer does to a client is in
// broken: the handler aborted it.
func (h *house) get(method, target string, header ...string) (w *httptest.ResponseRecorder, broken bool) {
	h.t.Helper()
	req := httptest.NewRequest(method, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	w = httptest.NewRecorder()
	defer func() {
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler {
				panic(p)
			}
			broken = true
		}
		checkBody(h.t, method+" "+target, w)
	}()
	h.ServeHTTP(w, req)
	return w, false
}

// GET is a get that must not break off.
func (h *house) GET(target string, header ...string) *httptest.ResponseRecorder {
	h.t.Helper()
	w, broken := h.get("GET", target, header...)
	if broken {
		h.t.Errorf("GET %s broke off", target)
	}
	return w
}

// checkBody holds every failure to what the go command shows of it: text/plain,
// at most 8 lines and 648 bytes, no blank line, all of it printable
// (cmd/go/internal/web).
func checkBody(t testing.TB, what string, w *httptest.ResponseRecorder) {
	t.Helper()
	if w.Code < 400 {
		return
	}
	if ct := w.Header().Get("Content-Type"); ct != "text/plain; charset=utf-8" && ct != "application/json" {
		t.Errorf("%s: %d with Content-Type %q", what, w.Code, ct)
	}
	if w.Header().Get("Content-Type") == "application/json" {
		return
	}
	body := strings.TrimSuffix(w.Body.String(), "\n")
	if body == "" {
		return // HEAD
	}
	rows := strings.Split(body, "\n")
	shown := 0
	for _, l := range rows {
		shown += len(l) + 2
		if strings.TrimSpace(l) == "" {
			t.Errorf("%s: a blank line in %q", what, body)
		}
	}
	if len(rows) > 8 || shown > 648 {
		t.Errorf("%s: %d lines and %d bytes are more than the go command shows: %q", what, len(rows), shown, body)
	}
	if !utf8.ValidString(body) || strings.ContainsFunc(body, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
		t.Errorf("%s: not printable: %q", what, body)
	}
}

// lines is a log that can be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// openDB is a checksum.DB over a signing database of the test world.
func openDB(t testing.TB, sdb *modtest.SumDB, cache checksum.Cache) *checksum.DB {
	t.Helper()
	db, err := checksum.New(checksum.Config{
		Key: sdb.VKey, Cache: cache, Conflict: store.ErrConflict, Timeout: 2 * time.Second,
		Remotes: []checksum.Remote{handlerRemote{sdb}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

type handlerRemote struct{ h http.Handler }

func (handlerRemote) Name() string { return "the database" }
func (handlerRemote) Mirror() bool { return false }
func (r handlerRemote) Get(ctx context.Context, path string) ([]byte, error) {
	w := httptest.NewRecorder()
	r.h.ServeHTTP(w, httptest.NewRequest("GET", path, nil).WithContext(ctx))
	switch {
	case w.Code == 404 || w.Code == 410:
		return nil, &upstream.Error{Source: "the database", Stage: upstream.StageHTTP, Status: w.Code}
	case w.Code != 200:
		return nil, errors.New("the database: " + w.Result().Status)
	}
	return io.ReadAll(w.Body)
}
