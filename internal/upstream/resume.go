package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// fruitlessResumes is how often in a row going on may bring nothing new: what
	// helps then is another source, or another walk.
	fruitlessResumes = 1
	// resumeGain is how many bytes make a resume worth while; with less, a source
	// that hands out a byte a connection would never be given up.
	resumeGain = 64 << 10
)

// A resuming body goes on where it broke off, by a request for the rest of the
// same file (RFC 9110, section 14), so that no byte comes twice. Whether the
// whole is right is for the caller's hash to say.
type resuming struct {
	net    *Net
	ctx    context.Context // of the whole answer
	source string
	url    *url.URL // that was asked for first: where a redirect leads may have changed
	body   io.ReadCloser
	valid  string // for If-Range; "" if the source gave nothing strong
	size   int64  // of the whole, or -1

	off       int64 // bytes read
	begun     int64 // off, when the present body began
	fruitless int
	times     int // that it went on
	failed    error

	pieces *Pieces // reads it and more, if it is asked for in pieces; else nil
}

// validator is what If-Range may hold: a strong ETag, or a date of last change.
func validator(h http.Header) string {
	if t := h.Get("ETag"); strings.HasPrefix(t, `"`) {
		return t
	}
	if h.Get("ETag") == "" && h.Get("Date") != "" {
		// A date is strong if the file had not just changed (section 8.8.2.2).
		at, err1 := http.ParseTime(h.Get("Last-Modified"))
		now, err2 := http.ParseTime(h.Get("Date"))
		if err1 == nil && err2 == nil && now.Sub(at) >= time.Minute {
			return h.Get("Last-Modified")
		}
	}
	return ""
}

// newResuming is nil for an answer that cannot be gone on with.
func newResuming(n *Net, ctx context.Context, source string, u *url.URL, resp *http.Response, body io.ReadCloser) *resuming {
	if resp.Header.Get("Accept-Ranges") == "none" || resp.ContentLength < 0 && validator(resp.Header) == "" {
		return nil
	}
	return &resuming{net: n, ctx: ctx, source: source, url: u, body: body, valid: validator(resp.Header), size: resp.ContentLength}
}

func (r *resuming) Read(p []byte) (int, error) {
	if r.pieces != nil {
		return r.pieces.read(p)
	}
	return r.read(p)
}

// read is Read of the body that goes on by itself.
func (r *resuming) read(p []byte) (int, error) {
	for {
		if r.failed != nil {
			err := r.failed
			if !r.goOn() {
				return 0, err
			}
			r.failed = nil
		}
		n, err := r.body.Read(p)
		r.off += int64(n)
		switch {
		case err == nil:
			return n, nil
		case err == io.EOF && (r.size < 0 || r.off >= r.size):
			return n, io.EOF
		case err == io.EOF:
			err = &Error{Source: r.source, Stage: StageBody, Err: fmt.Errorf("the answer ended after %d of %d bytes: %w", r.off, r.size, io.ErrUnexpectedEOF)}
		}
		if _, ok := errors.AsType[*Error](err); !ok || r.ctx.Err() != nil {
			return n, err // our own, not the source's
		}
		if r.failed = err; n > 0 {
			return n, nil
		}
	}
}

// goOn asks for the rest. It reports whether there is one to be read.
func (r *resuming) goOn() bool {
	if r.off == 0 || r.size >= 0 && r.off >= r.size {
		return false
	}
	if r.off-r.begun >= resumeGain {
		r.fruitless = 0
	} else if r.fruitless++; r.fruitless > fruitlessResumes {
		return false
	}
	r.begun = r.off // what does not get through gains nothing either
	return r.ask()
}

// ask asks for all from off on. It reports whether that is worth a Read.
func (r *resuming) ask() bool {
	r.body.Close()
	resp, body, err := r.net.begin(r.ctx, r.source, r.url, r.headerAt(r.off, -1))
	if err != nil {
		r.body = failing{err}
		// What did not get through may get through the next time.
		return !err.Answered()
	}
	total, ok := fits(resp, r.off, r.size)
	if !ok {
		body.Close() // the whole again, or another file: that is for the walk to start anew
		r.body = failing{&Error{Source: r.source, Stage: StageBody, Err: errors.New("the source does not go on where it broke off")}}
		return false
	}
	r.body, r.begun, r.size = body, r.off, max(r.size, total)
	r.times++
	return true
}

// headerAt asks for the bytes from off to before to, or to the end if that is less
// than 0.
func (r *resuming) headerAt(off, to int64) http.Header {
	span := "bytes=" + strconv.FormatInt(off, 10) + "-"
	if to >= 0 {
		span += strconv.FormatInt(to-1, 10)
	}
	h := http.Header{"Range": {span}}
	if r.valid != "" {
		h.Set("If-Range", r.valid)
	}
	return h
}

// fits reports whether an answer has bytes from off on of a file of that size (-1:
// of any), and what it says the size is, or -1.
func fits(resp *http.Response, off, size int64) (total int64, ok bool) {
	first, total, ok := contentRange(resp.Header.Get("Content-Range"))
	return total, resp.StatusCode == http.StatusPartialContent && ok && first == off && (total < 0 || size < 0 || total == size) && resp.Header.Get("Content-Encoding") == ""
}

func (r *resuming) Close() error {
	r.pieces.Stop()
	return r.body.Close()
}

type failing struct{ err *Error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
func (f failing) Close() error             { return nil }

// contentRange reads "bytes FIRST-LAST/TOTAL"; total is -1 for "*".
func contentRange(s string) (first, total int64, ok bool) {
	rest, ok := strings.CutPrefix(s, "bytes ")
	span, size, ok2 := strings.Cut(rest, "/")
	from, to, ok3 := strings.Cut(span, "-")
	if !ok || !ok2 || !ok3 {
		return 0, 0, false
	}
	first, err1 := strconv.ParseInt(from, 10, 64)
	last, err2 := strconv.ParseInt(to, 10, 64)
	total = -1
	var err3 error
	if size != "*" {
		total, err3 = strconv.ParseInt(size, 10, 64)
	}
	return first, total, err1 == nil && err2 == nil && err3 == nil && first >= 0 && last >= first && (size == "*" || total > last)
}
