package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/checksum"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/upstream"
)

// An exchange is one request with its answer. As an http.ResponseWriter it
// counts, and rolls the write deadline along with what the client takes.
type exchange struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	r     *http.Request
	s     *Server
	start time.Time
	id    string
	local bool  // it came over the local socket
	conn  *conn // nil where net/http does not tell

	kind, module, version, source, outcome string
	code, note                             string
	err                                    error // the mirror's

	status  int
	written int64
	stalled bool // the client took nothing for the stall time
	left    bool // the client did; nothing is wrong
	torn    bool // the answer was broken off, and not by the client
}

// A Watcher is told of each request for a module file.
type Watcher interface {
	// Began is called when it is known what is asked for; start tells requests
	// apart as well as it can.
	Began(start time.Time)
	// Ended is called once for each Began.
	Ended(Seen)
	// Hit is called instead of both for a request that was answered from memory.
	Hit(start time.Time, took time.Duration)
}

// A Seen is what a client saw of a request for a module file.
type Seen struct {
	Outcome string // as mirror.Outcome; "failed" also if the answer was broken off
	Source  string // whose answer it is; "" if it is nobody's
	Err     error  // as mirror.Get's; nil also for an answer that was broken off
	Start   time.Time
	Took    time.Duration
}

// names takes note of the module that a request is about.
func (x *exchange) names(m module.Version) {
	x.module, x.version = m.Path, m.Version
	if x.s.c.Watch != nil {
		x.s.c.Watch.Began(x.start)
	}
}

// seen tells of a request that is over.
func (x *exchange) seen() {
	if x.s.c.Watch == nil || x.module == "" {
		return
	}
	v := Seen{x.outcome, x.source, x.err, x.start, time.Since(x.start)}
	switch {
	case x.left:
		v.Outcome = "left"
	case x.torn, x.outcome == "":
		v.Outcome = "failed"
	}
	x.s.c.Watch.Ended(v)
}

// chunk is how many bytes one write deadline covers: few enough that a client
// which takes any at all takes them in a stall time. To one that took the last of
// them in no time, a file goes out in larger pieces, up to maxChunk: it costs both
// sides less.
const (
	chunk    = 64 << 10
	maxChunk = 4 << 20
	// swift is the part of a stall time in which a piece must have gone out for the
	// next to be twice as large.
	swift = 32
)

// Header implements http.ResponseWriter.
func (x *exchange) Header() http.Header { return x.w.Header() }

// WriteHeader implements http.ResponseWriter.
func (x *exchange) WriteHeader(status int) {
	if x.status == 0 {
		x.status = status
	}
	// The deadline of the connection's last answer may be over, and this answer
	// may have no body whose writing would set another.
	x.roll()
	x.w.WriteHeader(status)
	x.rest()
}

// Write implements http.ResponseWriter.
func (x *exchange) Write(p []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	x.roll()
	n, err := x.w.Write(p)
	x.rest()
	x.wrote(int64(n), err)
	return n, err
}

// wrote takes note of how a write ended.
func (x *exchange) wrote(n int64, err error) {
	x.written += n
	x.stalled = x.stalled || errors.Is(err, os.ErrDeadlineExceeded)
}

// roll gives the client another stall time for what comes next. A deadline that
// cannot be set (a test's recorder) leaves the others in force.
func (x *exchange) roll() {
	switch stall := x.s.c.Stall; {
	case stall <= 0:
	case x.conn != nil && x.r.ProtoMajor == 1:
		x.conn.roll(time.Now(), stall)
	default:
		x.rc.SetWriteDeadline(time.Now().Add(stall))
	}
}

// rest takes the deadline away while nothing is being written: in HTTP/2 it ends
// the stream also while the client waits for us, and not we for it.
func (x *exchange) rest() {
	if x.s.c.Stall > 0 && x.r.ProtoMajor >= 2 {
		x.rc.SetWriteDeadline(time.Time{})
	}
}

// ReadFrom implements io.ReaderFrom, in pieces, so that a file goes out by
// sendfile and a slow client of a large one keeps its deadline rolling.
func (x *exchange) ReadFrom(src io.Reader) (int64, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	// net recognizes a file behind one LimitedReader, not behind two.
	whole, left := src, int64(-1)
	lr, limited := src.(*io.LimitedReader)
	if limited {
		src, left = lr.R, lr.N
	}
	rf, ok := x.w.(io.ReaderFrom)
	if _, file := src.(*os.File); !ok || !file {
		// Of anything but a file, net would copy each piece through a new buffer.
		size := int64(chunk)
		if limited {
			size = max(1, min(left, chunk))
		}
		return io.CopyBuffer(struct{ io.Writer }{x}, struct{ io.Reader }{whole}, make([]byte, size))
	}
	if limited {
		defer func() { lr.N = left }()
	}
	var total int64
	piece := int64(chunk)
	for start := time.Now(); left != 0; {
		n := piece
		if left > 0 {
			n = min(n, left)
		}
		x.roll()
		k, err := rf.ReadFrom(&io.LimitedReader{R: src, N: n})
		total += k
		if left > 0 {
			left -= k
		}
		if k > 0 && piece > chunk && errors.Is(err, os.ErrDeadlineExceeded) {
			// It takes something, though not so much as it took before.
			x.written += k
			piece, start = chunk, time.Now()
			continue
		}
		now := time.Now()
		if x.s.c.Stall <= 0 || now.Sub(start) <= x.s.c.Stall/swift {
			piece = min(2*piece, maxChunk)
		} else {
			piece = chunk
		}
		start = now
		x.wrote(k, err)
		if err != nil || k < n {
			return total, err
		}
	}
	return total, nil
}

// emptied takes the body of a request, which none of ours has a use for, out of
// the way. Its read deadline is set, so that a client that sends it drop by drop
// holds nothing up. It is false if the request was answered instead.
func (x *exchange) emptied() bool {
	r := x.r
	if r.ContentLength == 0 {
		return true
	}
	const text = "requests of the module proxy protocol have no body"
	n := r.ContentLength
	if n <= maxBody {
		var err error
		if n, err = io.Copy(io.Discard, io.LimitReader(r.Body, maxBody+1)); err != nil {
			x.Header().Set("Connection", "close")
			x.plain(http.StatusBadRequest, text+", and this one broke off")
			return false
		}
		x.rc.SetReadDeadline(time.Time{})
	}
	if n > maxBody {
		x.Header().Set("Connection", "close") // the rest is not read
		x.plain(http.StatusRequestEntityTooLarge, text)
		return false
	}
	return true
}

// content answers with something whole: ranges, conditions and HEAD included.
func (x *exchange) content(c io.ReadSeeker) {
	http.ServeContent(x, x.r, "", time.Time{}, c)
	// ServeContent keeps a failure to itself, and it would not be told.
	length := x.Header().Get("Content-Length")
	if x.r.Method == http.MethodHead || length == "" || length == strconv.FormatInt(x.written, 10) {
		return
	}
	x.broken(fmt.Sprintf("after %d of %s bytes", x.written, length))
}

// stream answers with something that is still arriving.
func (x *exchange) stream(res *mirror.Result) {
	h := x.Header()
	if res.Size >= 0 {
		h.Set("Content-Length", strconv.FormatInt(res.Size, 10))
	}
	h.Set("Accept-Ranges", "bytes")
	x.WriteHeader(http.StatusOK)
	if x.r.Method == http.MethodHead {
		return
	}
	// Not by ReadFrom: the client's deadline must not run while the source is slow.
	_, err := io.CopyBuffer(struct{ io.Writer }{x}, struct{ io.Reader }{res.Stream}, make([]byte, chunk))
	if err != nil {
		x.broken(finding.Redact(err.Error()))
	}
}

// broken ends an answer that has begun so that the client sees it is not whole.
func (x *exchange) broken(why string) {
	switch x.note = "broken off: " + why; {
	case x.stalled:
		x.note = fmt.Sprintf("the client took nothing for %v", x.s.c.Stall)
	case x.r.Context().Err() != nil:
		x.note, x.left = "the client left", true
	default:
		x.torn = true
	}
	panic(http.ErrAbortHandler)
}

// Unwrap serves http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.w }

// log writes the one line of a request.
func (x *exchange) log() {
	l := Line{
		ID: x.id, Client: x.r.RemoteAddr, Method: x.r.Method, Status: x.status, Bytes: x.written,
		Took: time.Since(x.start).Round(time.Microsecond), Kind: x.kind, Module: x.module, Version: x.version,
		Outcome: x.outcome, Source: x.source, Code: x.code, Err: x.note,
	}
	if x.module == "" {
		p := x.r.URL.EscapedPath()
		l.Path = p[:min(len(p), 256)]
	}
	level := slog.LevelInfo
	if (x.status >= 500 || x.note != "") && !x.left {
		level = slog.LevelWarn
	}
	x.s.logLine(level, l)
}

// plain answers with a short text that is no finding.
func (x *exchange) plain(status int, text string) {
	h := x.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	text += "\n"
	h.Set("Content-Length", strconv.Itoa(len(text)))
	x.WriteHeader(status)
	if x.r.Method != http.MethodHead {
		io.WriteString(x, text)
	}
}

// statusOf is the one table from errors to statuses. 404 is for what truly does
// not exist, since a go command goes past a comma at it; a source's trouble is
// 502, 503 or 504; a refusal is 403, whose text the go command always shows.
func statusOf(err error) int {
	if we, ok := errors.AsType[*upstream.WalkError](err); ok {
		return statusOfWalk(we)
	}
	if pe, ok := errors.AsType[*goproxy.PathError](err); ok {
		if pe.Missing {
			return http.StatusNotFound
		}
		return http.StatusBadRequest
	}
	if _, ok := errors.AsType[*mirror.RefusedError](err); ok {
		return http.StatusForbidden
	}
	if _, ok := errors.AsType[*mirror.OfflineError](err); ok {
		return http.StatusServiceUnavailable
	}
	switch {
	case errors.Is(err, mirror.ErrNotCached), errors.Is(err, checksum.ErrUnknown):
		return http.StatusNotFound
	case errors.Is(err, checksum.ErrSecurity):
		return http.StatusBadGateway
	case errors.Is(err, checksum.ErrUnreachable):
		return http.StatusServiceUnavailable
	case errors.Is(err, mirror.ErrClosing):
		return http.StatusServiceUnavailable
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout
	}
	if _, ok := errors.AsType[*mirror.StoreError](err); ok {
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// statusClientGone is for the log alone: nobody is there to read an answer.
const statusClientGone = 499

func statusOfWalk(we *upstream.WalkError) int {
	if we.NotExist() {
		return http.StatusNotFound
	}
	worst, ok := we.Worst()
	if !ok || errors.Is(worst.Err, upstream.ErrOff) {
		return http.StatusNotFound // GOPROXY=off: the store is all there is
	}
	e, ok := errors.AsType[*upstream.Error](worst.Err)
	if !ok {
		return http.StatusBadGateway
	}
	switch e.Status {
	case http.StatusForbidden:
		return http.StatusForbidden
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return http.StatusServiceUnavailable
	case http.StatusGatewayTimeout:
		return http.StatusGatewayTimeout
	case 0:
		var ne net.Error
		if errors.Is(e, context.DeadlineExceeded) || errors.As(e.Err, &ne) && ne.Timeout() {
			return http.StatusGatewayTimeout
		}
	}
	return http.StatusBadGateway
}

// fail answers with an error.
func (x *exchange) fail(err error) {
	if x.r.Context().Err() != nil {
		x.status, x.note, x.left = statusClientGone, "the client left", true
		panic(http.ErrAbortHandler)
	}
	status := statusOf(err)
	f, details := mirror.Explain(err)
	x.note = finding.Redact(err.Error())
	if status == http.StatusNotFound || status == http.StatusBadRequest {
		x.note = "" // an everyday answer; its code says enough
	}
	if after := retryAfter(err); after > 0 && status >= 500 {
		x.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(after.Seconds()))))
	}
	x.write(status, f, details)
}

// retryAfter is when the first of the sources that asked for time may be asked
// again; 0 if none did.
func retryAfter(err error) time.Duration {
	we, ok := errors.AsType[*upstream.WalkError](err)
	if !ok {
		return 0
	}
	var least time.Duration
	for _, a := range we.Attempts {
		if e, ok := errors.AsType[*upstream.Error](a.Err); ok && e.RetryAfter > 0 && (least == 0 || e.RetryAfter < least) {
			least = e.RetryAfter
		}
	}
	return least
}

func (x *exchange) writeDetails(status int, f finding.Finding, err error) {
	x.note = finding.Redact(err.Error())
	x.write(status, f, []string{err.Error()})
}

// write is the one function that writes failures: a text/plain body made for the
// lines that a go command shows.
func (x *exchange) write(status int, f finding.Finding, details []string) {
	x.code = string(f.Code)
	body := finding.Body(f.About(x.module, x.version), details...) + "\n"
	h := x.Header()
	h.Del("ETag")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Sluice-Code", x.code)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if status == http.StatusNotFound {
		h.Set("Cache-Control", "public, max-age=5")
	} else {
		h.Set("Cache-Control", "no-store")
	}
	x.WriteHeader(status)
	if x.r.Method != http.MethodHead {
		io.WriteString(x, body)
	}
}

// readiness is the body of /readyz.
type readiness struct {
	Status  string               `json:"status"` // ok; degraded: serving, but not as it should; failing: nothing can be served
	Store   part                 `json:"store"`
	Sources []mirror.SourceState `json:"sources"`
	SumDBs  []part               `json:"sumdbs"`
}

type part struct {
	Name  string    `json:"name,omitempty"`
	State string    `json:"state"`
	Since time.Time `json:"since,omitzero"`
	Error string    `json:"error,omitempty"`
}

// ready says whether go commands can be served: it writes, reads and removes an
// object in the store, and tells what is known of the sources. A store that
// cannot be written is told but is no reason to send clients away, since Sluice
// serves through.
func (s *Server) ready(x *exchange) {
	x.kind = "readyz"
	set := s.settings.Load()
	ctx, cancel := context.WithTimeout(x.r.Context(), readyTime)
	defer cancel()
	rd := readiness{Status: "ok", Store: part{State: "ok"}, Sources: s.c.Mirror.Sources(set.Sources), SumDBs: []part{}}
	if err := s.c.Store(); err != nil {
		rd.Store.State, rd.Store.Error = "failing", finding.Redact(err.Error())
		rd.Status = "degraded"
	} else if since, err := s.c.Mirror.StoreTrouble(); err != nil {
		rd.Store.State, rd.Store.Error, rd.Store.Since = "failing", finding.Redact(err.Error()), since
		rd.Status = "degraded"
	}
	failing := 0
	for _, src := range rd.Sources {
		if src.State == "failing" {
			failing++
			rd.Status = "degraded"
		}
	}
	for _, db := range set.SumDBs {
		p := part{Name: db.Name(), State: "ok"}
		if err := db.Reachable(ctx); err != nil {
			p.State, p.Error = "failing", finding.Redact(err.Error())
			rd.Status = "degraded"
		}
		rd.SumDBs = append(rd.SumDBs, p)
	}
	status := http.StatusOK
	if failing > 0 && failing == len(rd.Sources) && rd.Store.State != "ok" {
		rd.Status, status = "failing", http.StatusServiceUnavailable
	}
	body, err := json.MarshalIndent(rd, "", "  ")
	if err != nil {
		x.fail(err)
		return
	}
	h := x.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	x.WriteHeader(status)
	if x.r.Method != http.MethodHead {
		x.Write(append(body, '\n'))
	}
}
