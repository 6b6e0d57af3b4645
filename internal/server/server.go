// Package server is the HTTP face for go commands: routes, headers, statuses,
// the request log, health, and the life of the listener.
//
// It decides nothing about modules: it parses, calls mirror or a checksum
// database, and writes. One table turns errors into statuses, one function
// writes failures.
//
// The rules come from https://go.dev/ref/mod#goproxy-protocol, RFC 9110 and
// 9111, and from what cmd/go/internal/web does with an answer.
package server

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/checksum"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
)

// Limits of what a client may send. The go command's largest request is far
// below all of them.
const (
	maxHeader   = 64 << 10
	maxBody     = 64 << 10
	headerTime  = 15 * time.Second // for a whole request header
	maxAge      = "public, max-age=31536000, immutable"
	supportTime = 3 * time.Second  // for finding out whether a database can be served
	bodyTime    = 15 * time.Second // for a body that nobody asked for
	readyTime   = 5 * time.Second  // for finding out in what state the databases are
	// stopTime is how long requests under way may go on after a stop was asked for.
	stopTime = 30 * time.Second
)

// A SumDB is a checksum database as it is handed on to clients. Errors are those
// of checksum.DB.
type SumDB interface {
	Name() string
	Lookup(ctx context.Context, mod module.Version) ([]byte, error)
	Latest(ctx context.Context) ([]byte, error)
	Tile(ctx context.Context, path string) ([]byte, error)
	Reachable(ctx context.Context) error
}

// Settings are what a reload may change. They are immutable once given.
type Settings struct {
	SumDBs  []SumDB
	Private func(path string) bool // must not be asked of a public checksum database; nil: nothing is private
	Sources []string               // names, for /readyz
	Fresh   time.Duration          // how long clients may keep changing answers
	Token   Token                  // that the API under /-/ wants over TCP; zero: it is not there
}

// Config is what a Server is made of.
type Config struct {
	Mirror   *mirror.Mirror
	Log      *slog.Logger
	Requests func(slog.Level, Line) // takes the one line of each request; nil: Log does
	ID       string                 // of this process, in Via; a request that carries it has come in a circle
	Version  string                 // of Sluice
	Idle     time.Duration          // how long an idle client connection is kept
	Stall    time.Duration          // how long a client may take no byte of an answer
	Store    func() error           // writes, reads and removes a probe object; nil error if the store works
	Metrics  http.Handler           // at /metrics
	Admin    Admin                  // behind the API under /-/; nil: there is none
	Watch    Watcher                // of requests for module files; nil: nobody watches
}

// A Server serves go commands. It is safe for concurrent use.
type Server struct {
	c        Config
	settings atomic.Pointer[Settings]
	inFlight atomic.Int64
	stopping atomic.Bool    // Serve is to end
	wires    sync.Map       // of *wire, without values: the connections that are open
	open     sync.WaitGroup // counts them
}

// New makes a Server.
func New(c Config, s Settings) *Server {
	srv := &Server{c: c}
	srv.Reload(s)
	return srv
}

// Reload replaces the settings. Requests under way keep the ones they began with.
func (s *Server) Reload(set Settings) {
	set.SumDBs = slices.Clone(set.SumDBs)
	// The longest name first: one may be the beginning of another.
	slices.SortFunc(set.SumDBs, func(a, b SumDB) int { return len(b.Name()) - len(a.Name()) })
	s.settings.Store(&set)
}

// Serve answers on ln until ctx ends, then lets requests under way finish.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	hs := &http.Server{
		Handler:           s,
		Protocols:         &protocols,
		MaxHeaderBytes:    maxHeader,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       s.c.Idle,
		ErrorLog:          slog.NewLogLogger(s.c.Log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, connOf(c))
		},
		ConnState: connState,
	}
	done := make(chan error, 1)
	go func() { done <- hs.Serve(s.wired(ln)) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	s.c.Log.Info("stopping; requests under way may finish", slog.Int64("requests", s.inFlight.Load()))
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	s.retire()
	err := hs.Shutdown(stop)
	<-done
	if err == nil {
		err = s.gone(stop)
	}
	if err != nil {
		s.c.Log.Warn("requests cut off", slog.Int64("requests", s.inFlight.Load()))
		hs.Close()
		s.cut()
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.warm(w, r) {
		s.serve(w, r, false)
	}
}

// serve answers a request, which is local if it came over the local socket.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, local bool) {
	s.inFlight.Add(1)
	defer s.inFlight.Add(-1)
	x := &exchange{w: w, rc: http.NewResponseController(w), r: r, s: s, start: time.Now(), id: newID(), local: local}
	if !local {
		x.conn, _ = r.Context().Value(connKey{}).(*conn)
	}
	h := w.Header()
	h["X-Request-Id"] = []string{x.id}
	h["X-Content-Type-Options"] = nosniff
	defer func() {
		p := recover()
		if p != nil && p != http.ErrAbortHandler { // a bug of ours
			s.c.Log.Error("internal error", slog.String("request", x.id), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			x.note = "internal error"
			if x.status == 0 {
				x.write(http.StatusInternalServerError, finding.Of(finding.Internal), nil)
				p = nil
			} else {
				p = http.ErrAbortHandler
			}
		}
		x.log()
		x.seen()
		if p != nil {
			panic(p) // the client must see a broken transfer
		}
	}()
	s.route(x)
}

// route finds what a request is for. Paths of ours can never be module paths:
// the first element of those has a dot.
func (s *Server) route(x *exchange) {
	r := x.r
	if r.ContentLength != 0 {
		x.rc.SetReadDeadline(time.Now().Add(bodyTime)) // net/http reads what we do not
	}
	if s.admin(x) {
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		x.w.Header().Set("Allow", "GET, HEAD")
		x.plain(http.StatusMethodNotAllowed, "the module proxy protocol has only GET and HEAD")
		return
	}
	if !x.emptied() {
		return
	}
	for _, via := range r.Header.Values("Via") {
		if s.c.ID != "" && strings.Contains(via, s.c.ID) {
			x.write(http.StatusLoopDetected, finding.Of(finding.Loop), nil)
			return
		}
	}
	switch p := r.URL.Path; {
	case p == "/healthz":
		x.plain(http.StatusOK, "ok")
	case p == "/readyz":
		s.ready(x)
	case p == "/metrics" && s.c.Metrics != nil:
		x.kind = "metrics"
		s.c.Metrics.ServeHTTP(x, r)
	case p == "/" || p == "":
		x.plain(http.StatusOK, "Sluice "+s.c.Version+", a Go module proxy. Use it with\n  GOPROXY=http://"+printHost(r.Host)+"\nHealth: /healthz, /readyz, /metrics")
	case p == "/sumdb" || strings.HasPrefix(p, "/sumdb/"):
		s.sumdb(x, strings.TrimPrefix(strings.TrimPrefix(p, "/sumdb"), "/"))
	default:
		s.module(x, strings.TrimPrefix(p, "/"))
	}
}

// printHost keeps a Host header, or the want of one, from breaking the text it is
// printed in.
func printHost(h string) string {
	if h == "" || strings.ContainsFunc(h, func(r rune) bool { return r <= ' ' || r > '~' }) || len(h) > 255 {
		return "HOST"
	}
	return h
}

// module answers a request for a module file.
func (s *Server) module(x *exchange, p string) {
	r := x.r
	var o mirror.Options
	if rest, ok := strings.CutPrefix(p, "cached-only/"); ok {
		p, o.NoFetch = rest, true
	}
	if strings.EqualFold(r.Header.Get("Disable-Module-Fetch"), "true") {
		o.NoFetch = true
	}
	req, err := goproxy.ParsePath(p)
	if err == nil {
		err = oneSpelling(r.URL.EscapedPath(), req)
	}
	if err != nil {
		x.fail(err)
		return
	}
	x.kind = req.Kind.String()
	x.names(req.Module)
	// A client of HTTP/1.0 could not tell a broken transfer of unknown length
	// from a whole one, and a HEAD has no body to break off.
	o.Whole = r.Header.Get("Range") != "" || !r.ProtoAtLeast(1, 1) || r.Method == http.MethodHead
	o.Client = clientOf(r)
	res, err := s.c.Mirror.Get(r.Context(), req, o)
	x.outcome = mirror.Outcome(res, err)
	x.err = err
	if err != nil {
		x.fail(err)
		return
	}
	defer res.Close()
	x.source = res.Source
	h := x.Header()
	h.Set("Content-Type", req.Kind.ContentType())
	if req.Immutable() {
		h.Set("Cache-Control", maxAge)
	} else {
		s.setMutable(h, res)
	}
	if res.ETag != "" {
		h.Set("ETag", res.ETag)
	}
	if res.Content != nil {
		x.content(res.Content)
	} else {
		x.stream(res)
	}
}

// setMutable sets the headers of an answer that may change: how long it may be
// kept, and how old it is if it is not fresh.
func (s *Server) setMutable(h http.Header, res *mirror.Result) {
	age := time.Since(res.Time)
	if res.Stale != "" {
		h.Set("Cache-Control", "no-cache")
		h.Set("Age", strconv.Itoa(max(0, int(age.Seconds()))))
		h.Set("Warning", `110 sluice "Response is Stale"`)
		return
	}
	left := s.settings.Load().Fresh - age
	h.Set("Cache-Control", "public, max-age="+strconv.Itoa(max(0, int(left.Seconds()))))
}

// oneSpelling refuses percent-encoded slashes and the like: one artifact, one
// spelling. The go command itself writes ! as %21, and a + may come as %2B. Only
// a branch name's slashes must be encoded, since they would end the @v element.
func oneSpelling(raw string, req goproxy.Request) error {
	lower := strings.ToLower(raw)
	_, rev, _ := strings.Cut(lower, "/@v/")
	head := lower[:len(lower)-len(rev)]
	query := req.IsQuery()
	if strings.Contains(head, "%2f") || strings.Contains(head, "%40") || !query && strings.Contains(rev, "%2f") || query && strings.Contains(rev, "/") {
		return &goproxy.PathError{Path: raw, Reason: "slashes are written / in module paths and %2F in branch names"}
	}
	return nil
}

// sumdb hands on a checksum database.
func (s *Server) sumdb(x *exchange, rest string) {
	x.kind = "sumdb"
	set := s.settings.Load()
	var db SumDB
	var p string
	for _, d := range set.SumDBs {
		if after, ok := strings.CutPrefix(rest, d.Name()+"/"); ok {
			db, p = d, after
			break
		}
	}
	ctx := x.r.Context()
	var data []byte
	var err error
	ctype, cache := "text/plain; charset=utf-8", maxAge
	switch {
	case db == nil:
		// 404 sends the go command to the database itself.
		x.plain(http.StatusNotFound, "not found: no checksum database of that name is served here; the [[sumdb]] tables of the configuration name those that are")
		return
	case p == "supported":
		ctx, cancel := context.WithTimeout(ctx, supportTime)
		defer cancel()
		if err := db.Reachable(ctx); err != nil {
			x.outcome = "failed"
			x.writeDetails(http.StatusNotFound, finding.Of(finding.SumDBUnreachable), err)
			return
		}
		cache = "public, max-age=60"
	case p == "latest":
		data, err = db.Latest(ctx)
		cache = "public, max-age=60"
	case strings.HasPrefix(p, "lookup/"):
		var mod module.Version
		if mod, err = parseLookup(p); err != nil {
			x.fail(err)
			return
		}
		x.names(mod)
		if set.Private != nil && set.Private(mod.Path) {
			x.outcome = "refused"
			f := finding.Of(finding.SumDBPrivate).With(finding.StandInPattern, mod.Path).With(finding.StandInModule, mod.Path)
			x.write(http.StatusForbidden, f, []string{mod.Path + " is private; set GONOSUMDB (or GOPRIVATE) to a pattern that matches it, and the go command will not ask the checksum database"})
			return
		}
		data, err = db.Lookup(ctx, mod)
	case strings.HasPrefix(p, "tile/"):
		ctype = "application/octet-stream"
		if data, err = db.Tile(ctx, "/"+p); errors.Is(err, fs.ErrNotExist) {
			x.outcome = "missing"
			x.plain(http.StatusNotFound, "not found: the checksum database has no such tile")
			return
		}
	default:
		x.plain(http.StatusNotFound, "not found: a checksum database has supported, latest, lookup/ and tile/")
		return
	}
	if err != nil {
		x.outcome = "failed"
		if errors.Is(err, checksum.ErrUnknown) {
			x.outcome = "missing"
		}
		x.fail(err)
		return
	}
	x.outcome = "served"
	h := x.Header()
	h.Set("Content-Type", ctype)
	h.Set("Cache-Control", cache)
	x.content(bytes.NewReader(data))
}

// parseLookup reads lookup/M@V, by the same rules as a module's own path. The
// error is a *goproxy.PathError.
func parseLookup(p string) (module.Version, error) {
	esc, rev, ok := strings.Cut(strings.TrimPrefix(p, "lookup/"), "@")
	if !ok {
		return module.Version{}, &goproxy.PathError{Path: p, Reason: "a lookup is MODULE@VERSION"}
	}
	req, err := goproxy.ParsePath(esc + "/@v/" + rev + ".info")
	if err == nil && req.IsQuery() {
		err = &goproxy.PathError{Path: p, Reason: req.Module.String() + " is not a canonical version, which alone have checksums", Missing: true}
	}
	return req.Module, err
}
