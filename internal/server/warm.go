package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
)

// Header values that are the same for many answers. Nobody changes what is in a
// header's slice; Set and Add make others.
var (
	nosniff   = []string{"nosniff"}
	immutable = []string{maxAge}
)

// A face is what a client sees of an answer that is held in memory.
type face struct {
	ctype, etag, length []string
	kind                string
	head                []byte // status line and header, but for what differs each time
}

// warm answers a request from memory, if it is a plain one for something that is
// at hand: most of a build's requests are. It does what serve does, without what
// serve needs for all that can be otherwise.
func (s *Server) warm(w http.ResponseWriter, r *http.Request) bool {
	start := time.Now()
	if r.ProtoMajor != 1 || r.ProtoMinor != 1 || r.ContentLength != 0 || r.Method != http.MethodGet && r.Method != http.MethodHead || !plain(r) {
		return false
	}
	c, _ := r.Context().Value(connKey{}).(*conn)
	if c == nil {
		return false
	}
	a := s.c.Mirror.Warm(r.URL.Path[1:], start, c.clientOf(s))
	if a == nil {
		return false
	}
	f := faceOf(a)
	if s.c.Stall > 0 {
		c.roll(start, s.c.Stall)
	}
	id := newID()
	h := w.Header()
	h["X-Request-Id"] = []string{id}
	h["X-Content-Type-Options"] = nosniff
	h["Content-Type"] = f.ctype
	h["Etag"] = f.etag
	h["Accept-Ranges"] = acceptRanges
	h["Content-Length"] = f.length
	if a.Time.IsZero() {
		h["Cache-Control"] = immutable
	} else {
		h["Cache-Control"] = []string{s.youngFor(start.Sub(a.Time))}
	}
	w.WriteHeader(http.StatusOK)
	n := 0
	var err error
	if r.Method == http.MethodGet {
		n, err = w.Write(a.Bytes)
	}
	s.warmed(a, f, hit{id, r.RemoteAddr, r.Method == http.MethodGet, n, start, err})
	return true
}

// A hit is what became of an answer from memory.
type hit struct {
	id, client string
	get        bool // GET, else HEAD
	bytes      int  // of the body, that went out
	start      time.Time
	err        error // of the connection
}

// warmed tells of an answer from memory, and gives the time that it took.
func (s *Server) warmed(a *mirror.Warm, f *face, h hit) time.Duration {
	took := time.Since(h.start).Round(time.Microsecond)
	l := Line{
		ID: h.id, Client: h.client, Method: http.MethodGet, Status: http.StatusOK, Bytes: int64(h.bytes), Took: took, Kind: f.kind,
		Module: a.Request.Module.Path, Version: a.Request.Module.Version, Outcome: "hit", Source: a.Source,
	}
	if !h.get {
		l.Method = http.MethodHead
	}
	level := slog.LevelInfo
	switch {
	case errors.Is(h.err, os.ErrDeadlineExceeded):
		l.Err = fmt.Sprintf("the client took nothing for %v", s.c.Stall)
		level = slog.LevelWarn
	case h.err != nil:
		l.Err = "the client left"
	case s.c.Watch != nil:
		s.c.Watch.Hit(h.start, took)
	}
	s.logLine(level, l)
	return took
}

var acceptRanges = []string{"bytes"}

// plain reports whether a request has nothing that would change the answer, and
// no other spelling than the one.
func plain(r *http.Request) bool {
	if len(r.URL.Path) < 2 || strings.Contains(r.URL.RawPath, "%") {
		return false
	}
	h := r.Header
	for _, k := range [...]string{"Range", "If-None-Match", "If-Modified-Since", "Via", "If-Match", "If-Unmodified-Since", "Disable-Module-Fetch"} {
		if _, ok := h[k]; ok {
			return false
		}
	}
	return true
}

func faceOf(a *mirror.Warm) *face {
	if p := a.Face.Load(); p != nil {
		if f, ok := (*p).(*face); ok {
			return f
		}
	}
	kind := a.Request.Kind
	f := &face{ctype: contentTypes[kind], etag: []string{a.ETag}, length: []string{strconv.Itoa(len(a.Bytes))}, kind: kind.String()}
	f.head = fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nContent-Length: %d\r\nContent-Type: %s\r\nEtag: %s\r\nX-Content-Type-Options: nosniff\r\n", len(a.Bytes), f.ctype[0], a.ETag)
	if a.Time.IsZero() {
		f.head = append(f.head, "Cache-Control: "+maxAge+"\r\n"...)
	}
	var p any = f
	a.Face.Store(&p)
	return f
}

var contentTypes = func() map[goproxy.Kind][]string {
	m := map[goproxy.Kind][]string{}
	for _, k := range []goproxy.Kind{goproxy.List, goproxy.Latest, goproxy.Info, goproxy.Mod} {
		m[k] = []string{k.ContentType()}
	}
	return m
}()

// youngFor is the Cache-Control of a changing answer that old.
func (s *Server) youngFor(age time.Duration) string {
	left := s.settings.Load().Fresh - age
	return "public, max-age=" + strconv.Itoa(max(0, int(left.Seconds())))
}

// A conn is what is known of a client's connection.
type conn struct {
	c      net.Conn
	remote string // address and port
	client string // address
	who    atomic.Pointer[mirror.Client]
	told   bool         // until is set when anybody sets a write deadline
	until  atomic.Int64 // the write deadline in force, in Unix nanoseconds; 0 if there is none
}

type connKey struct{}

func newConn(c net.Conn) *conn {
	k := new(conn)
	k.init(c)
	return k
}

func (c *conn) init(of net.Conn) {
	c.c, c.remote = of, of.RemoteAddr().String()
	c.client = c.remote
	if host, _, err := net.SplitHostPort(c.remote); err == nil {
		c.client = host
	}
}

// clientOf is the client whose connection it is, for look-ahead.
func (c *conn) clientOf(s *Server) *mirror.Client {
	who := c.who.Load()
	if who == nil {
		who = s.c.Mirror.Client(c.client)
		c.who.Store(who)
	}
	return who
}

// roll gives the client another stall time, or up to a quarter more: it costs a
// timer, so it is done when the last one has come near.
func (c *conn) roll(now time.Time, stall time.Duration) {
	if !c.told || c.until.Load()-now.UnixNano() < int64(stall) {
		c.c.SetWriteDeadline(now.Add(stall + stall/4))
	}
}

// clientOf is who asks, for look-ahead.
func clientOf(r *http.Request) string {
	if c, _ := r.Context().Value(connKey{}).(*conn); c != nil {
		return c.client
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		return host
	}
	return r.RemoteAddr
}

// ids makes the names of requests: twelve letters and digits that no other request
// of this process has, and hardly one of another.
var ids = struct {
	mu     sync.Mutex
	prefix string
	n      uint32
}{prefix: rand.Text()[:6]}

func newID() string {
	ids.mu.Lock()
	if ids.n++; ids.n == 1<<30 { // as many as six digits tell apart
		ids.prefix, ids.n = rand.Text()[:6], 0
	}
	p, n := ids.prefix, ids.n
	ids.mu.Unlock()
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	var b [12]byte
	copy(b[:], p)
	for i := len(b) - 1; i >= len(p); i-- {
		b[i] = digits[n%32]
		n /= 32
	}
	return string(b[:])
}

// A Line is what the log says of one request. Empty fields are left out.
type Line struct {
	ID      string
	Client  string
	Method  string
	Status  int
	Bytes   int64
	Took    time.Duration
	Kind    string
	Path    string // of a request for no module
	Module  string
	Version string
	Outcome string
	Source  string
	Code    string
	Err     string
}

func (s *Server) logLine(level slog.Level, l Line) {
	if s.c.Requests != nil {
		s.c.Requests(level, l)
		return
	}
	if s.c.Log.Enabled(context.Background(), level) {
		s.c.Log.LogAttrs(context.Background(), level, "request", l.attrs()...)
	}
}

func (l *Line) attrs() []slog.Attr {
	attrs := []slog.Attr{
		slog.String("id", l.ID), slog.String("client", l.Client), slog.String("method", l.Method),
		slog.Int("status", l.Status), slog.Int64("bytes", l.Bytes), slog.Duration("took", l.Took),
	}
	for _, f := range l.Texts() {
		if f[1] != "" {
			attrs = append(attrs, slog.String(f[0], f[1]))
		}
	}
	return attrs
}

// Texts are the fields after Took, in order, with their names.
func (l *Line) Texts() [8][2]string {
	return [...][2]string{{"kind", l.Kind}, {"path", l.Path}, {"module", l.Module}, {"version", l.Version},
		{"outcome", l.Outcome}, {"source", l.Source}, {"code", l.Code}, {"err", l.Err}}
}
