package faults

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/modsluice/sluice/internal/goproxy"
)

const (
	// maxAnswer is the largest answer that is taken from the next handler: the
	// largest of the protocol, and room for wrapping.
	maxAnswer = goproxy.MaxZip + 1<<20
	// inMemory is how much of an answer is held in memory, the rest in a file.
	inMemory = 4 << 20
)

// Handler is next, except that a request for which pick returns a fault meets
// that fault. Faults of the body take the whole answer from next before they
// hand on any of it (above 4 MiB in a temporary file; those that rewrite a zip
// in memory), leave answers other than 2xx alone, and HEAD too.
//
// Where a fault cannot be had, such as another version of a module that has only
// one, the answer is a 501 that says so: a fault asked for is never left out in
// silence. On HTTP/2 a stream is reset where a connection would be.
func Handler(next http.Handler, pick func(*http.Request) (Fault, bool)) http.Handler {
	return handler(next, pick, func() {})
}

// handler is Handler, and calls astray where a fault cannot be had.
func handler(next http.Handler, pick func(*http.Request) (Fault, bool), astray func()) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, ok := pick(r)
		if !ok {
			next.ServeHTTP(w, r)
			return
		}
		x := &exchange{w: w, r: r, next: next, until: f.until, astray: astray}
		var rest string
		x.before, rest = locate(r.URL.Path)
		x.req, _ = goproxy.ParsePath(rest)
		e, err := find(f.Name)
		if err == nil {
			x.arg, err = e.arg(f.Arg)
		}
		if err == nil && f.Only != "" && !slices.Contains(kinds, f.Only) {
			err = fmt.Errorf("there is no kind of request %q; there are %s", f.Only, strings.Join(kinds, ", "))
		}
		switch {
		case err != nil: // not made by Parse
			http.Error(w, "faults: "+err.Error(), http.StatusInternalServerError)
		case f.Only != "" && f.Only != KindOf(r):
			x.pass()
		case e.wire != nil:
			x.fail(impossible("%s is a fault of the network before a source, which a handler cannot have", f.Name))
		default:
			e.serve(x)
		}
	})
}

// ByPath is Handler with the fault in the URL: /FAULT/rest is /rest of next, met
// with that fault, as in GOPROXY=http://127.0.0.1:1234/zip:cut=0.5. Faults may
// be chained: /hang=1s/404/rest. The bare root lists all faults; an unknown one
// is a 400.
func ByPath(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			index(w)
			return
		}
		f, rest, err := cutElem(r.URL)
		if err != nil {
			http.Error(w, "faults: "+err.Error()+"\nThe list of all faults is at /", http.StatusBadRequest)
			return
		}
		chain := []Fault{f}
		for {
			// What begins a module path has a dot, and is no fault.
			f, after, err := cutElem(rest)
			if err != nil {
				break
			}
			chain, rest = append(chain, f), after
		}
		h := next
		for i := len(chain) - 1; i >= 0; i-- {
			h = Handler(h, Always(chain[i]))
		}
		r2 := *r
		r2.URL = rest
		h.ServeHTTP(w, &r2)
	})
}

// cutElem takes the first element off a URL's path.
func cutElem(u *url.URL) (Fault, *url.URL, error) {
	elem, after, _ := strings.Cut(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	elem, err := url.PathUnescape(elem)
	if err != nil {
		return Fault{}, nil, err
	}
	f, err := Parse(elem)
	if err != nil {
		return Fault{}, nil, err
	}
	path, err := url.PathUnescape(after)
	if err != nil {
		return Fault{}, nil, err
	}
	rest := *u
	rest.Path, rest.RawPath = "/"+path, "/"+after
	return f, &rest, nil
}

func index(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprint(w, "/FAULT/path is /path, with that fault. KIND:FAULT spoils one kind of request: list, latest, info, mod, zip, sumdb.\n\n")
	for _, i := range All() {
		if i.Wire {
			continue
		}
		name := i.Name
		if i.Param != "" {
			name += " " + i.Param
		}
		fmt.Fprintf(w, "%-34s %s", name, i.Doc)
		if i.Default != "" {
			fmt.Fprintf(w, " (%s)", i.Default)
		}
		fmt.Fprintln(w)
	}
}

// KindOf is the word for what r asks of a source: list, latest, info, mod, zip,
// sumdb, or empty if that is none of the protocol's. The source's own URL may
// have a path.
func KindOf(r *http.Request) string {
	_, p := locate(r.URL.Path)
	if strings.HasPrefix(p, "sumdb/") {
		return "sumdb"
	}
	if req, err := goproxy.ParsePath(p); err == nil {
		return req.Kind.String()
	}
	return ""
}

// locate finds where the protocol's path begins in that of a URL: what stands
// before it, with a slash at its end, and the rest. Where it is in doubt, as for
// a source whose path looks like the beginning of a module's, it takes more.
func locate(path string) (before, rest string) {
	path = strings.TrimPrefix(path, "/")
	for at := 0; ; {
		p := path[at:]
		if _, err := goproxy.ParsePath(p); err == nil || strings.HasPrefix(p, "sumdb/") {
			return "/" + path[:at], p
		}
		next := strings.IndexByte(p, '/')
		if next < 0 {
			return "/", path
		}
		at += next + 1
	}
}

// An exchange is one request on its way through one fault.
type exchange struct {
	w    http.ResponseWriter
	r    *http.Request
	next http.Handler

	before string          // what stands before the protocol's path, with its slashes
	req    goproxy.Request // zero if the path is none of the protocol's
	arg    string          // canonical
	until  <-chan struct{} // closed when the fault is over; may be nil
	astray func()          // called when the fault cannot be had
}

// pass serves the request well.
func (x *exchange) pass() { x.next.ServeHTTP(x.w, x.r) }

// wait waits for d, or for ever if d is 0, but no longer than the fault lasts,
// and reports whether the client is still there.
func (x *exchange) wait(d time.Duration) bool {
	var after <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		after = t.C
	}
	select {
	case <-after:
		return true
	case <-x.until:
		return true
	case <-x.r.Context().Done():
		return false
	}
}

// over reports whether the fault has been taken out since the request came.
func (x *exchange) over() bool {
	select {
	case <-x.until:
		return true
	default:
		return false
	}
}

func (x *exchange) flush() { http.NewResponseController(x.w).Flush() }

// abort breaks the connection, or the stream, without a proper end. What was
// flushed before arrives; a client with a length to go by notices.
func (x *exchange) abort() { panic(http.ErrAbortHandler) }

// begin writes a's status and header, with length as its Content-Length; none
// if it is negative.
func (x *exchange) begin(a *answer, length int64) {
	h := x.w.Header()
	maps.Copy(h, a.sent)
	h.Del("Content-Length")
	if length >= 0 && a.status != http.StatusNoContent && a.status != http.StatusNotModified {
		h.Set("Content-Length", fmt.Sprint(length))
	}
	x.w.WriteHeader(a.status)
	if length < 0 {
		x.flush() // or net/http would count a short body and tell its length
	}
}

// relay hands a on as it is.
func (x *exchange) relay(a *answer) {
	x.begin(a, a.size)
	if x.r.Method != http.MethodHead {
		io.Copy(x.w, a.body())
	}
}

// ask takes next's whole answer to the same request for path, spelled as in the
// protocol; empty means this request's own. Unless conditional, headers that
// could make it less than whole are left out, and it is a GET.
// The caller closes the answer.
func (x *exchange) ask(path string, conditional bool) (*answer, error) {
	r := x.r.Clone(x.r.Context())
	if !conditional {
		r.Method = http.MethodGet
		for _, k := range []string{"Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"} {
			r.Header.Del(k)
		}
	}
	if path != "" {
		r.URL.Path, r.URL.RawPath = x.before+path, ""
	}
	a := &answer{header: make(http.Header)}
	whole := false
	defer func() {
		if !whole { // next panicked, as handlers may
			a.Close()
		}
	}()
	x.next.ServeHTTP(a, r)
	if a.err != nil {
		return nil, a.err
	}
	a.WriteHeader(http.StatusOK) // if nothing else was written
	whole = true
	return a, nil
}

// An answer is what the next handler said, whole. It is the ResponseWriter that
// the next handler sees.
type answer struct {
	header http.Header // as the handler goes on changing it
	sent   http.Header // as it was when the status was written
	status int
	size   int64
	mem    bytes.Buffer
	file   *os.File // holds all of it once it outgrows mem
	err    error
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(code int) {
	if a.status == 0 && code >= 200 {
		a.status, a.sent = code, a.header.Clone()
	}
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	if a.err == nil && a.size+int64(len(p)) > maxAnswer {
		a.err = fmt.Errorf("the answer is larger than %d bytes", maxAnswer)
	}
	if a.err == nil && a.file == nil && a.size+int64(len(p)) > inMemory {
		if a.file, a.err = os.CreateTemp("", "sluice-fault-*"); a.err == nil {
			_, a.err = a.file.Write(a.mem.Bytes())
			a.mem = bytes.Buffer{}
		}
	}
	if a.err != nil {
		return 0, a.err
	}
	var n int
	if a.file != nil {
		n, a.err = a.file.Write(p)
	} else {
		n, a.err = a.mem.Write(p)
	}
	a.size += int64(n)
	return n, a.err
}

// body reads the whole body from its start.
func (a *answer) body() io.ReadSeeker {
	var r io.ReaderAt = bytes.NewReader(a.mem.Bytes())
	if a.file != nil {
		r = a.file
	}
	return io.NewSectionReader(r, 0, a.size)
}

func (a *answer) bytes() ([]byte, error) {
	data := make([]byte, a.size)
	_, err := io.ReadFull(a.body(), data)
	return data, err
}

func (a *answer) ok() bool { return a.status >= 200 && a.status < 300 }

// Close drops the temporary file, if there is one.
func (a *answer) Close() error {
	if a.file == nil {
		return nil
	}
	return cmp.Or(a.file.Close(), os.Remove(a.file.Name()))
}

// fail answers 501 where the fault is not to be had, and 502 where next's answer
// could not be taken.
func (x *exchange) fail(err error) {
	if _, ok := errors.AsType[*impossibleError](err); ok {
		x.astray()
		http.Error(x.w, "faults: cannot misbehave as asked: "+err.Error(), http.StatusNotImplemented)
		return
	}
	http.Error(x.w, "faults: "+err.Error(), http.StatusBadGateway)
}

// An impossibleError says why a fault is not to be had of an answer.
type impossibleError struct{ reason string }

func (e *impossibleError) Error() string { return e.reason }

func impossible(format string, args ...any) error {
	return &impossibleError{fmt.Sprintf(format, args...)}
}
