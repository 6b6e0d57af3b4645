package faults

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// handshakeTime is how long a client of Transport waits for a TLS handshake, if
// the RoundTripper behind it does not say.
const handshakeTime = 10 * time.Second

// Transport is next, except that a request for which pick returns a fault meets
// that fault, as it would at a source behind Handler or Front: the same answers,
// and errors of the same kinds with the same words. It is for a client that is
// to see one of its sources misbehave which in truth is well.
//
// Such a request goes through a server in memory, over HTTP/1.1 and a connection
// of its own; if next is an *http.Transport, with its TLS settings and time
// limits. An error of next stays as it is. Faults of TLS are to be had where the
// URL is https. The body of a response must be closed, as always.
func Transport(next http.RoundTripper, pick func(*http.Request) (Fault, bool)) http.RoundTripper {
	return &transport{next, pick}
}

type transport struct {
	next http.RoundTripper
	pick func(*http.Request) (Fault, bool)
}

// CloseIdleConnections is next's.
func (t *transport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	f, ok := t.pick(req)
	e, err := find(f.Name)
	if !ok || err == nil && f.Only != "" && f.Only != KindOf(req) {
		return t.next.RoundTrip(req)
	}
	b := &behind{next: t.next, req: req}
	var h http.Handler = Handler(b, Always(f))
	secure := req.URL.Scheme == "https"
	if err == nil && e.wire != nil {
		switch {
		case e.wire.tls && !secure && !e.wire.elsewhere: // Handler says why it cannot be had
		case e.wire.elsewhere:
			h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { page(http.StatusOK)(&exchange{w: w, r: r}) })
		default:
			h = b
		}
	} else {
		e = nil
	}
	x := &memory{site: newSite(h), behind: b, host: hostPort(net.JoinHostPort(req.URL.Hostname(), port(req.URL)))}
	x.ctx, x.end = context.WithCancel(context.WithoutCancel(req.Context()))
	tr := &http.Transport{DisableKeepAlives: true, DisableCompression: true, TLSHandshakeTimeout: handshakeTime}
	if n, ok := t.next.(*http.Transport); ok {
		n = n.Clone() // its first request changes its TLS settings, and Clone waits for that
		tr.TLSHandshakeTimeout, tr.ResponseHeaderTimeout = n.TLSHandshakeTimeout, n.ResponseHeaderTimeout
		if n.TLSClientConfig != nil {
			tr.TLSClientConfig = n.TLSClientConfig.Clone()
			tr.TLSClientConfig.NextProtos = nil
		}
	}
	tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		switch {
		case e == nil || e.wire.tls && !secure:
			return x.dial(false, func(c net.Conn) net.Conn { return c }), nil
		case e.wire.dial != nil:
			return nil, e.wire.dial(ctx, req.URL.Hostname(), port(req.URL))
		case e.name == "black-hole" && secure:
			if err := swallowHello(ctx, f, tr.TLSHandshakeTimeout); err != nil {
				return nil, err
			}
		}
		return x.dial(e.wire.tls, func(c net.Conn) net.Conn { return e.wire.enter(x.ctx, c, f, req.URL.Hostname()) }), nil
	}
	// Only the faults of TLS need any: all others come when it has succeeded, or
	// before it has begun.
	in := req.Clone(req.Context())
	if secure && (e == nil || !e.wire.tls) {
		in.URL.Scheme = "http"
	}
	resp, err := tr.RoundTrip(in)
	if err != nil {
		x.close()
		return nil, b.or(err)
	}
	resp.Request = req
	resp.Header.Del("Connection") // which is that of the memory
	resp.Close = false
	x.body = resp.Body
	resp.Body = x
	return resp, nil
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" || u.Scheme != "https" {
		return cmp.Or(p, "80")
	}
	return "443"
}

// swallowHello is what a client of TLS sees of a black hole: nothing, until the
// fault is over, or its time for a handshake.
func swallowHello(ctx context.Context, f Fault, patience time.Duration) error {
	if t := httptrace.ContextClientTrace(ctx); t != nil && t.TLSHandshakeStart != nil {
		t.TLSHandshakeStart()
	}
	var after <-chan time.Time
	if patience > 0 {
		t := time.NewTimer(patience)
		defer t.Stop()
		after = t.C
	}
	select {
	case <-f.until:
		return nil
	case <-after:
		return handshakeError{}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// A handshakeError is that of net/http, which it does not export.
type handshakeError struct{}

func (handshakeError) Error() string   { return "net/http: TLS handshake timeout" }
func (handshakeError) Timeout() bool   { return true }
func (handshakeError) Temporary() bool { return true }

// behind is the true answer to one request, as a handler.
type behind struct {
	next http.RoundTripper
	req  *http.Request

	mu  sync.Mutex // guards err
	err error      // next's first
}

// or is next's own error, if it had one, or else err.
func (b *behind) or(err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return b.err
	}
	return err
}

func (b *behind) fail(err error) {
	b.mu.Lock()
	if b.err == nil {
		b.err = err
	}
	b.mu.Unlock()
	panic(http.ErrAbortHandler)
}

func (b *behind) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The values are the client's, and so is the end; it may also come with the
	// connection.
	ctx, cancel := context.WithCancel(b.req.Context())
	defer cancel()
	defer context.AfterFunc(r.Context(), cancel)()
	out := b.req.Clone(ctx)
	out.Method, out.Header = r.Method, r.Header.Clone()
	out.Header.Del("Connection")
	if ua, ok := b.req.Header["User-Agent"]; ok {
		out.Header["User-Agent"] = ua
	} else {
		out.Header.Del("User-Agent")
	}
	out.URL.Path, out.URL.RawPath, out.URL.RawQuery = r.URL.Path, r.URL.RawPath, r.URL.RawQuery
	out.Body, out.GetBody, out.ContentLength = nil, nil, r.ContentLength
	if r.ContentLength != 0 {
		out.Body = r.Body
	}
	resp, err := b.next.RoundTrip(out)
	if err != nil {
		b.fail(err)
	}
	defer resp.Body.Close()
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	if resp.ContentLength < 0 {
		http.NewResponseController(w).Flush() // or a short body would be given a length
	}
	if _, err := io.Copy(w, read{resp.Body, b}); err != nil {
		panic(http.ErrAbortHandler) // the client is gone
	}
}

// A read body of next's tells its errors from those of writing.
type read struct {
	io.Reader
	b *behind
}

func (r read) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && err != io.EOF {
		r.b.fail(err)
	}
	return n, err
}

// A memory is one request's server, and the body of its answer.
type memory struct {
	site   *site
	behind *behind
	host   net.Addr // whose part it plays
	body   io.ReadCloser

	ctx context.Context // ends with the request
	end func()
	wg  sync.WaitGroup
}

// dial makes a connection, of which the server's end is what enter makes of it.
// If roomy, either end may write what the other does not read at once, as TLS
// does when it is broken off.
func (x *memory) dial(roomy bool, enter func(net.Conn) net.Conn) net.Conn {
	here, there := net.Pipe()
	reset := new(atomic.Bool)
	if roomy {
		mid, far := net.Pipe()
		near := there
		there = far
		x.wg.Go(func() {
			defer near.Close()
			defer mid.Close()
			defer context.AfterFunc(x.ctx, func() { near.Close(); mid.Close() })()
			var wg sync.WaitGroup
			defer wg.Wait()
			wg.Go(func() { carry(x.ctx, mid, near, 0, time.Time{}) })
			wg.Go(func() { carry(x.ctx, near, mid, 0, time.Time{}) })
		})
	}
	x.wg.Go(func() {
		t := track(&serverEnd{there, reset})
		defer t.Close()
		if c := enter(t); c != nil {
			x.site.serve(x.ctx, c, t)
		}
	})
	return &clientEnd{here, reset, x.host}
}

func (x *memory) Read(p []byte) (int, error) {
	n, err := x.body.Read(p)
	if err != nil && err != io.EOF {
		err = x.behind.or(err)
	}
	return n, err
}

// Close ends the request and waits for what it started.
func (x *memory) Close() error {
	err := x.body.Close()
	x.close()
	return err
}

func (x *memory) close() {
	x.end()
	x.wg.Wait()
	x.site.close()
}

// A serverEnd of a pipe can be reset.
type serverEnd struct {
	net.Conn
	reset *atomic.Bool
}

func (c *serverEnd) SetLinger(int) error {
	c.reset.Store(true)
	return nil
}

// A clientEnd of a pipe has the errors of a TCP connection.
type clientEnd struct {
	net.Conn
	reset *atomic.Bool
	host  net.Addr
}

func (c *clientEnd) RemoteAddr() net.Addr { return c.host }

func (c *clientEnd) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return n, c.tcp("read", err)
}

func (c *clientEnd) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	return n, c.tcp("write", err)
}

func (c *clientEnd) tcp(op string, err error) error {
	if (errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe)) && c.reset.Load() {
		return &net.OpError{Op: op, Net: "tcp", Addr: c.host, Err: os.NewSyscallError(op, syscall.ECONNRESET)}
	}
	return err
}
