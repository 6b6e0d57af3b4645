package upstream

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/modsluice/sluice/internal/goproxy"
)

// Budgets that nobody needs to configure.
const (
	maxRedirects = 10
	// errorBody is how much of an error's body is read for its text; the go
	// command shows less.
	errorBody = 4 << 10
	// errorBodyTime is how long that may take: the status is known already.
	errorBodyTime = 2 * time.Second
	// redirectBodyTime is how long the body of a redirect is read, which nobody
	// needs: it only makes the connection fit for use again.
	redirectBodyTime = 200 * time.Millisecond
	// minProgress is how many bytes of a body make progress in one time budget
	// of the source; a drip of a byte a second is none.
	minProgress = 16 << 10
)

// ErrStalled says that a source made no progress for its time budget. It matches
// DeadlineExceeded: net/http returns a context's cause, so a bare cause would
// hide the timeout from errors.Is.
var ErrStalled error = stalledError{}

type stalledError struct{}

func (stalledError) Error() string        { return "no progress within the time budget" }
func (stalledError) Is(target error) bool { return target == context.DeadlineExceeded }

// NetConfig is what all HTTP sources share.
type NetConfig struct {
	Connect time.Duration // the longest for connecting, and again for TLS; 0 means 10s
	Timeout time.Duration // the longest that one source may make no progress; 0 means 30s
	// Proxy chooses the forward proxy, as http.Transport's field. Nil means none.
	Proxy func(*http.Request) (*url.URL, error)
	// TLS is the base configuration; nil means the system's roots.
	TLS *tls.Config
	// Named lists the host:port pairs that the configuration names. Only these
	// may be at loopback, link-local and private addresses when a source
	// redirects to them.
	Named []string
	// UserAgent and Via are sent with each request; Via lets a server find out
	// that it is asking itself.
	UserAgent, Via string
	// Wrap gives what a request for the source of that name is made with, in place
	// of rt, which has the connections. Nil: rt itself.
	Wrap func(source string, rt http.RoundTripper) http.RoundTripper

	// What follows is of a Net for one source.

	// Authorization is sent to the source's own origin, and to no other. It goes
	// before credentials in the source's URL.
	Authorization string
	// Certificate is the client certificate for the source's own origin; nil
	// means none.
	Certificate *tls.Certificate
	// Resolver looks up whom we connect to; nil means the system's.
	Resolver Resolver
	Family   Family
	// Requests is how many may be under way at once, and Rate how many may be
	// made in a second; 0 is no limit. A request waits no longer than Timeout.
	Requests int
	Rate     float64
	// Pieces is over how many connections at most the zips of the source come while
	// a large one is asked for in pieces (see Answer.InPieces); less than 2: none is.
	Pieces int
}

// A Net opens HTTP connections for sources; its connections are pooled. It is
// safe for concurrent use.
type Net struct {
	c     NetConfig
	named map[string]bool
	lines
	apart lines // for pieces: a connection for each, where HTTP/2 would put all on one
	limit limit
}

// lines are the transports of a Net.
type lines struct {
	open    *http.Transport
	guarded *http.Transport // refuses to connect to addresses that are not public
	foreign *http.Transport // open, without the client certificate; nil if there is none
}

// NewNet makes a Net; Close it to drop its idle connections.
func NewNet(c NetConfig) *Net {
	if c.Connect == 0 {
		c.Connect = 10 * time.Second
	}
	if c.Timeout == 0 {
		c.Timeout = 30 * time.Second
	}
	n := &Net{c: c, named: map[string]bool{}}
	for _, h := range c.Named {
		n.named[strings.ToLower(h)] = true
	}
	n.limit = newLimit(c.Requests, c.Rate, c.Timeout)
	n.lines = n.newLines(func(*http.Transport) {})
	n.apart = n.newLines(func(t *http.Transport) {
		t.ForceAttemptHTTP2 = false
		t.Protocols = new(http.Protocols)
		t.Protocols.SetHTTP1(true)
	})
	return n
}

func (n *Net) newLines(with func(*http.Transport)) lines {
	l := lines{open: n.transport(nil)}
	if n.c.Certificate != nil {
		l.foreign = n.transport(nil)
		with(l.foreign)
		tc := l.open.TLSClientConfig
		if tc == nil {
			tc = &tls.Config{}
		}
		tc.Certificates = []tls.Certificate{*n.c.Certificate}
		l.open.TLSClientConfig = tc
	}
	l.guarded = n.transport(func(network, address string, _ syscall.RawConn) error {
		return checkPublic(address)
	})
	with(l.open)
	with(l.guarded)
	return l
}

// Close drops idle connections.
func (n *Net) Close() {
	for _, l := range []lines{n.lines, n.apart} {
		l.open.CloseIdleConnections()
		l.guarded.CloseIdleConnections()
		if l.foreign != nil {
			l.foreign.CloseIdleConnections()
		}
	}
	if r, ok := n.c.Resolver.(interface{ CloseIdleConnections() }); ok {
		r.CloseIdleConnections()
	}
}

func (n *Net) transport(control func(network, address string, c syscall.RawConn) error) *http.Transport {
	d := &net.Dialer{Timeout: n.c.Connect, KeepAlive: 30 * time.Second, Control: control}
	dial := d.DialContext
	if n.c.Resolver != nil || n.c.Family != "" && n.c.Family != AutoFamily {
		resolver := n.c.Resolver
		if resolver == nil {
			resolver = net.DefaultResolver
		}
		dial = (&dialer{d, resolver, n.c.Family}).DialContext
	}
	tc := n.c.TLS
	if tc != nil {
		tc = tc.Clone()
	}
	return &http.Transport{
		Proxy: n.c.Proxy,
		OnProxyConnectResponse: func(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			return &tunnelError{proxy.Host, resp.StatusCode}
		},
		DialContext:           dialKnown(d, n.c.Family, dial),
		TLSClientConfig:       tc,
		TLSHandshakeTimeout:   n.c.Connect,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          256,
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       90 * time.Second,
		ResponseHeaderTimeout: 0, // the progress budget covers it, and knows its name
		DisableCompression:    true,
		// A pooled HTTP/2 connection whose other side is gone is noticed by pings.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
	}
}

// A tunnelError is a forward proxy's refusal to connect us.
type tunnelError struct {
	proxy  string
	status int
}

func (e *tunnelError) Error() string {
	return fmt.Sprintf("the forward proxy %s refused to connect: %s", e.proxy, statusText(e.status))
}

// checkPublic refuses an ip:port that leads into the machine or its network.
func checkPublic(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || !isPublic(ip) {
		return &guardError{host}
	}
	return nil
}

// checkPublicName refuses a host that shows without being looked up that it leads
// into the machine or its network. Who looks it up may be somebody else, and may
// take "127.1" for an address.
func checkPublicName(host string) error {
	if ip, err := netip.ParseAddr(host); err == nil {
		if isPublic(ip) {
			return nil
		}
		return &guardError{host}
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	last := name[strings.LastIndexByte(name, '.')+1:]
	if last == "localhost" || strings.HasPrefix(last, "0x") || strings.Trim(last, "0123456789") == "" {
		return &guardError{host}
	}
	return nil
}

type guardError struct{ host string }

func (e *guardError) Error() string {
	return fmt.Sprintf("redirected to %s, an address of this machine or network that the configuration does not name; if that is right, name its host and port in sources.redirects", e.host)
}

func prefixes(list ...string) []netip.Prefix {
	var l []netip.Prefix
	for _, s := range list {
		l = append(l, netip.MustParsePrefix(s))
	}
	return l
}

var (
	// notPublic is what netip.Addr does not know as such.
	notPublic = prefixes("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "198.18.0.0/15", "240.0.0.0/4",
		"::/96", "64:ff9b:1::/48", "fec0::/10")
	nat64     = netip.MustParsePrefix("64:ff9b::/96") // an IPv4 address behind it
	sixToFour = netip.MustParsePrefix("2002::/16")    // an IPv4 address follows it
)

func isPublic(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	switch b := ip.As16(); {
	case nat64.Contains(ip):
		return isPublic(netip.AddrFrom4([4]byte(b[12:])))
	case sixToFour.Contains(ip):
		return isPublic(netip.AddrFrom4([4]byte(b[2:])))
	case !ip.IsGlobalUnicast() || ip.IsPrivate():
		return false
	}
	return !slices.ContainsFunc(notPublic, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// Get asks for an absolute URL, following redirects, for the source of that
// name. The answer has status 200 and identity encoding.
func (n *Net) Get(ctx context.Context, source string, u *url.URL) (*Answer, error) {
	a, err := n.get(ctx, source, u, false)
	if err != nil {
		return nil, err
	}
	return a, nil
}

// get is Get; the body of an answer that is resumed goes on by itself after a
// break, where the source can do that.
func (n *Net) get(ctx context.Context, source string, u *url.URL, resume bool) (*Answer, *Error) {
	resp, b, err := n.begin(ctx, source, u, nil)
	if err != nil {
		return nil, err
	}
	a := &Answer{Body: b, Size: resp.ContentLength}
	switch enc := strings.ToLower(strings.TrimSpace(strings.Join(resp.Header.Values("Content-Encoding"), ", "))); enc {
	case "", "identity":
		if resume {
			if r := newResuming(n, ctx, source, u, resp, b); r != nil {
				a.Body, a.resume = r, r
			}
		}
	case "gzip", "x-gzip", "deflate":
		a.Size = -1
		a.Body = &decoded{body: b, enc: enc}
	default:
		b.Close()
		return nil, &Error{Source: source, Stage: StageContent, Err: fmt.Errorf("the answer is encoded as %q, which nobody asked for", enc)}
	}
	return a, nil
}

// begin makes a request and returns the answer with its body, which has a progress
// budget. The status is 200, or 206 if the header asks for a range.
func (n *Net) begin(ctx context.Context, source string, u *url.URL, h http.Header) (*http.Response, *body, *Error) {
	prog, _ := ctx.Value(progressKey{}).(*progress)
	prog.note(StageLocal) // waiting for our own limits is no lateness of the source
	release, lerr := n.limit.acquire(ctx)
	if lerr != nil {
		return nil, nil, &Error{Source: source, Stage: StageLocal, Err: lerr}
	}
	return n.send(ctx, source, u, h, n.lines, release)
}

// send is begin over given transports, once its turn has come; it calls release.
func (n *Net) send(ctx context.Context, source string, u *url.URL, h http.Header, over lines, release func()) (*http.Response, *body, *Error) {
	ctx, end := context.WithCancelCause(ctx)
	cancel := func(cause error) { end(cause); release() }
	begin := time.Now()
	idle := time.AfterFunc(n.c.Timeout, func() { cancel(ErrStalled) })
	resp, err := n.follow(ctx, source, u, h, over)
	idle.Stop()
	if err != nil {
		if err.Status == 0 && errors.Is(context.Cause(ctx), ErrStalled) {
			err.Err = fmt.Errorf("no answer within %v: %w", waited(begin, n.c.Timeout), ErrStalled)
		}
		cancel(nil)
		return nil, nil, err
	}
	return resp, &body{rc: resp.Body, ctx: ctx, cancel: cancel, idle: idle, budget: n.c.Timeout, source: source, release: release}, nil
}

// follow makes the request and follows redirects itself, so that the guard sees
// each hop. Where a request that was redirected fails, the source has answered.
func (n *Net) follow(ctx context.Context, source string, u *url.URL, h http.Header, over lines) (*http.Response, *Error) {
	first := u
	for hop := 0; ; hop++ {
		resp, err := n.hop(ctx, source, first, u, hop > 0, h, over)
		if err != nil {
			err.answered = hop > 0
			return nil, err
		}
		switch resp.StatusCode {
		case http.StatusOK:
			return resp, nil
		case http.StatusPartialContent:
			if h.Get("Range") != "" {
				return resp, nil
			}
			err := statusError(source, resp)
			err.answered = true
			return nil, err
		case 301, 302, 303, 307, 308:
		default:
			err := statusError(source, resp)
			err.answered = true
			return nil, err
		}
		finish(resp.Body, redirectBodyTime)
		astray := func(format string, args ...any) (*http.Response, *Error) {
			return nil, &Error{Source: source, Stage: StageHTTP, Err: fmt.Errorf(format, args...), answered: true}
		}
		loc := resp.Header.Get("Location")
		next, perr := u.Parse(loc)
		switch {
		case loc == "" || perr != nil:
			return astray("redirected (%s) without a usable Location", statusText(resp.StatusCode))
		case next.Scheme != "https" && next.Scheme != "http":
			return astray("redirected to a %q address, which is neither https nor http", next.Scheme)
		case next.Hostname() == "":
			return astray("redirected (%s) without a usable Location", statusText(resp.StatusCode))
		case u.Scheme == "https" && next.Scheme == "http":
			return astray("redirected from https to http at %s, which gives up the encryption", next.Host)
		case hop >= maxRedirects:
			return astray("redirected more than %d times, at last to %s", maxRedirects, next.Host)
		}
		next.User = nil // a Location does not hand out credentials
		u = next
	}
}

// hop makes one request.
func (n *Net) hop(ctx context.Context, source string, first, u *url.URL, redirected bool, h http.Header, over lines) (*http.Response, *Error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, &Error{Source: source, Stage: StageHTTP, Err: redacted(err)}
	}
	maps.Copy(req.Header, h)
	if n.c.UserAgent != "" {
		req.Header.Set("User-Agent", n.c.UserAgent)
	}
	if n.c.Via != "" {
		req.Header.Set("Via", "1.1 "+n.c.Via)
	}
	// Credentials go to the host that the configuration gave them for, alone.
	if first.User != nil && sameOrigin(first, u) {
		pw, _ := first.User.Password()
		req.SetBasicAuth(first.User.Username(), pw)
	}
	if n.c.Authorization != "" && sameOrigin(first, u) {
		req.Header.Set("Authorization", n.c.Authorization)
	}
	proxied := false
	if n.c.Proxy != nil {
		p, err := n.c.Proxy(req)
		proxied = err == nil && p != nil
	}
	rt := over.open
	if over.foreign != nil && !sameOrigin(first, u) {
		rt = over.foreign
	}
	if redirected && !sameOrigin(first, u) && !n.named[hostPort(u)] {
		// Not a host that the configuration names. Where a forward proxy
		// resolves the name, only the name itself can be checked.
		if err := checkPublicName(u.Hostname()); err != nil {
			return nil, &Error{Source: source, Stage: StageHTTP, Err: err}
		}
		if !proxied {
			rt = over.guarded
		}
	}
	var way http.RoundTripper = rt
	if n.c.Wrap != nil {
		way = n.c.Wrap(source, rt)
	}
	wctx, stage := watch(ctx, proxied)
	resp, err := way.RoundTrip(req.WithContext(wctx))
	if err != nil {
		return nil, classify(source, err, stage())
	}
	return resp, nil
}

// watch notes how far a request comes, for those failures that do not say so
// themselves, such as the end of the time budget.
func watch(ctx context.Context, proxied bool) (context.Context, func() Stage) {
	var last atomic.Value
	prog, _ := ctx.Value(progressKey{}).(*progress)
	note := func(s Stage) {
		if proxied && (s == StageDNS || s == StageConnect) {
			s = StageProxy
		}
		last.Store(s)
		prog.note(s)
	}
	note(StageHTTP)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart:          func(httptrace.DNSStartInfo) { note(StageDNS) },
		ConnectStart:      func(string, string) { note(StageConnect) },
		TLSHandshakeStart: func() { note(StageTLS) },
		GotConn:           func(httptrace.GotConnInfo) { note(StageHTTP) },
	}), func() Stage { return last.Load().(Stage) }
}

// finish reads the rest of a body that is not the answer, as far as it is short
// and comes soon, and closes it.
func finish(body io.ReadCloser, within time.Duration) []byte {
	stop := time.AfterFunc(within, func() { body.Close() })
	data, _ := io.ReadAll(io.LimitReader(body, errorBody))
	stop.Stop()
	body.Close()
	return data
}

func sameOrigin(a, b *url.URL) bool { return a.Scheme == b.Scheme && hostPort(a) == hostPort(b) }

// hostPort is the URL's host in lower case, with its port.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "443"
		if u.Scheme == "http" {
			port = "80"
		}
	}
	return strings.ToLower(net.JoinHostPort(u.Hostname(), port))
}

// HostPort is how NetConfig.Named spells the host of a URL.
func HostPort(u *url.URL) string { return hostPort(u) }

// A body is an answer's body with the progress budget. Only the time that a Read
// waits is the source's; what the reader does in between costs it nothing.
type body struct {
	rc     io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	idle   *time.Timer // ends ctx; runs during a Read
	budget time.Duration
	source string

	release func() // gives room to the next request, more than once if need be

	spent time.Duration // in Read, since bytes are counted
	got   int64         // bytes since then
	once  sync.Once

	failed error // what the last Read failed with
}

func (b *body) Read(p []byte) (n int, err error) {
	n, err = b.read(p)
	if err != nil {
		b.release()
		if err != io.EOF {
			b.failed = err
		}
	}
	return n, err
}

func (b *body) read(p []byte) (int, error) {
	start := time.Now()
	b.idle.Reset(b.budget)
	n, err := b.rc.Read(p)
	b.idle.Stop()
	b.got += int64(n)
	if b.spent += time.Since(start); b.spent > b.budget {
		if b.got < minProgress && err == nil {
			b.cancel(ErrStalled)
			return n, b.fail("only %d bytes of the answer came in %v: %w", b.got, twoDigits(b.spent), ErrStalled)
		}
		b.spent, b.got = 0, 0
	}
	switch {
	case err == nil || err == io.EOF:
		return n, err
	case errors.Is(context.Cause(b.ctx), ErrStalled):
		return n, b.fail("the answer stood still for %v: %w", waited(start, b.budget), ErrStalled)
	case b.ctx.Err() != nil:
		return n, context.Cause(b.ctx)
	}
	return n, b.fail("the answer broke off midway: %w", redacted(err))
}

// waited is how long was waited since begin, for people: whoever asks may have had less
// time than budget.
func waited(begin time.Time, budget time.Duration) time.Duration {
	if d := time.Since(begin); d < budget {
		return twoDigits(d)
	}
	return budget
}

// twoDigits is d in as many digits as people care for: a second less a little is a second.
func twoDigits(d time.Duration) time.Duration {
	switch {
	case d < 100*time.Millisecond:
		return d.Round(time.Millisecond)
	case d < time.Second:
		return d.Round(10 * time.Millisecond)
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}

func (b *body) fail(format string, args ...any) error {
	return &Error{Source: b.source, Stage: StageBody, Err: fmt.Errorf(format, args...)}
}

func (b *body) Close() error {
	b.once.Do(func() {
		b.idle.Stop()
		b.cancel(nil)
	})
	return b.rc.Close()
}

// decoded undoes a Content-Encoding that a source applied unasked. The reader is
// made at the first Read, since making it reads.
type decoded struct {
	body *body
	enc  string
	r    io.Reader
	err  error // for good
}

func (d *decoded) Read(p []byte) (n int, err error) {
	if d.r == nil && d.err == nil {
		d.r, d.err = d.open()
	}
	if d.err == nil {
		n, d.err = d.r.Read(p)
	}
	switch {
	case d.err == nil || d.err == io.EOF: // also for nothing at all, encoded as nothing at all
		return n, d.err
	case d.body.failed != nil:
		return n, d.body.failed
	}
	return n, d.body.fail("the answer's %s encoding is damaged: %w", d.enc, d.err)
}

func (d *decoded) open() (io.Reader, error) {
	if d.enc != "deflate" {
		return gzip.NewReader(d.body)
	}
	// RFC 9110 means zlib; some servers send bare deflate.
	head := make([]byte, 2)
	n, err := io.ReadFull(d.body, head)
	whole := io.MultiReader(bytes.NewReader(head[:n]), d.body)
	switch {
	case err != nil && err != io.ErrUnexpectedEOF:
		return nil, err
	case n == 2 && head[0]&0x0f == 8 && (uint(head[0])<<8|uint(head[1]))%31 == 0:
		return zlib.NewReader(whole)
	}
	return flate.NewReader(whole), nil
}

func (d *decoded) Close() error { return d.body.Close() }

// statusError reads what the source says about its refusal.
func statusError(source string, resp *http.Response) *Error {
	e := &Error{Source: source, Stage: StageHTTP, Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header, time.Now())}
	if resp.StatusCode == http.StatusProxyAuthRequired {
		e.Stage = StageProxy
	}
	data := finish(resp.Body, errorBodyTime)
	if resp.StatusCode/100 == 2 {
		e.Stage, e.Err = StageContent, fmt.Errorf("%s in place of 200 OK", statusText(resp.StatusCode))
		return e
	}
	mt, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	e.page = mt == "text/html"
	if err == nil && mt == "text/plain" {
		switch strings.ToLower(params["charset"]) {
		case "", "utf-8", "us-ascii":
			e.Text = printable(data)
		}
	}
	return e
}

// printable keeps what the go command would show of an error's text: up to eight
// lines, blank ones left out, and nothing at all if there is anything in it that
// could play tricks with a terminal.
func printable(data []byte) string {
	if len(data) >= errorBody { // the cut may go through a character
		for i := 1; i < utf8.UTFMax && i <= len(data); i++ {
			if tail := data[len(data)-i:]; utf8.RuneStart(tail[0]) {
				if !utf8.FullRune(tail) {
					data = data[:len(data)-i]
				}
				break
			}
		}
	}
	if !utf8.Valid(data) {
		return ""
	}
	text := string(data)
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsGraphic(r) && !unicode.IsSpace(r) }) {
		return ""
	}
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.Join(strings.FieldsFunc(line, unicode.IsSpace), " "); line != "" {
			lines = append(lines, line)
		}
		if len(lines) == 8 {
			break
		}
	}
	return strings.Join(lines, "\n")
}

// retryAfter reads Retry-After in both its forms; 0 if there is none. It is a day
// at most.
func retryAfter(h http.Header, now time.Time) time.Duration {
	const longest = 24 * time.Hour
	v := h.Get("Retry-After")
	if s, err := strconv.ParseUint(v, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(s, uint64(longest/time.Second))) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil && t.After(now) {
		return min(t.Sub(now), longest)
	}
	return 0
}

func statusText(code int) string {
	if t := http.StatusText(code); t != "" {
		return strconv.Itoa(code) + " " + t
	}
	return strconv.Itoa(code)
}

// classify says at which stage a request without an answer failed: where the
// error shows it, by the error, else by how far the request had come.
func classify(source string, err error, last Stage) *Error {
	e := &Error{Source: source, Stage: last, Err: redacted(err)}
	var (
		dns    *net.DNSError
		op     *net.OpError
		cert   *tls.CertificateVerificationError
		rec    tls.RecordHeaderError
		alert  tls.AlertError
		guard  *guardError
		tunnel *tunnelError
	)
	text := err.Error()
	switch {
	case errors.As(err, &guard):
		e.Stage, e.Err = StageHTTP, guard
	case errors.As(err, &tunnel), errors.As(err, &op) && (op.Op == "proxyconnect" || op.Op == "socks connect"):
		e.Stage = StageProxy
	case errors.As(err, &dns):
		e.Stage = StageDNS
	case errors.As(err, &cert), errors.As(err, &rec), errors.As(err, &alert),
		strings.Contains(text, "TLS handshake"), strings.Contains(text, "tls: "), strings.Contains(text, "x509: "):
		e.Stage = StageTLS
	case op != nil && op.Op == "dial":
		e.Stage = StageConnect
	}
	return e
}

// redacted is err without the URL that net/http may put in front of it, which
// may hold credentials.
func redacted(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		return ue.Err
	}
	return err
}

// An HTTPSource is a remote GOPROXY.
type HTTPSource struct {
	net  *Net
	base *url.URL
	name string
}

// NewHTTPSource makes a source of the GOPROXY at base, an http or https URL that
// may have a path, credentials, and a query, which is sent with every path, as
// the go command does it.
func NewHTTPSource(n *Net, base *url.URL) *HTTPSource {
	b := *base
	b.Path = strings.TrimRight(b.Path, "/")
	b.RawPath = strings.TrimRight(b.RawPath, "/")
	b.Fragment, b.RawFragment = "", ""
	shown := b
	shown.User, shown.RawQuery, shown.ForceQuery = nil, "", false
	return &HTTPSource{net: n, base: &b, name: shown.String()}
}

// Name is the URL without credentials and query.
func (s *HTTPSource) Name() string { return s.name }

// Kind is Proxy.
func (s *HTTPSource) Kind() Kind { return Proxy }

// Get asks the proxy for req.
func (s *HTTPSource) Get(ctx context.Context, req goproxy.Request) (*Answer, error) {
	a, err := s.net.get(ctx, s.name, s.url(req), req.Kind == goproxy.Zip)
	if err != nil {
		return nil, err
	}
	return a, nil
}

// Beat asks for what a go command asks every proxy first, whether it mirrors the
// public checksum database: yes and no are equally good answers.
func (s *HTTPSource) Beat(ctx context.Context) error {
	a, err := s.GetPath(ctx, "sumdb/sum.golang.org/supported")
	if err == nil {
		a.Body.Close()
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok && e.Status/100 == 4 && e.Status != 407 && e.Status != 429 {
		return nil
	}
	return err
}

// GetPath asks for a path below the proxy's URL that is no module file, such as
// sumdb/NAME/supported. It is sent as the go command would send it.
func (s *HTTPSource) GetPath(ctx context.Context, path string) (*Answer, error) {
	path = strings.TrimPrefix(path, "/")
	return s.net.Get(ctx, s.name, s.at(path, path))
}

// url is where the proxy has req. The slashes of a branch name are
// percent-encoded, since a bare slash would end the @v element.
func (s *HTTPSource) url(req goproxy.Request) *url.URL {
	p := req.Path()
	if esc, rev, ok := strings.Cut(p, "/@v/"); ok && req.IsQuery() {
		return s.at(p, escapePath(esc)+"/@v/"+url.PathEscape(rev))
	}
	return s.at(p, escapePath(p))
}

// at is the URL of a path below the base, in the given encoding as far as that is
// one of this path.
func (s *HTTPSource) at(p, encoded string) *url.URL {
	u := *s.base
	u.Path = s.base.Path + "/" + p
	u.RawPath = s.base.EscapedPath() + "/" + encoded
	return &u
}

func escapePath(p string) string { return strings.ReplaceAll(url.PathEscape(p), "%2F", "/") }

// IsGuard reports whether err is the guard's refusal of a redirect into this
// machine or its network.
func IsGuard(err error) bool {
	_, ok := errors.AsType[*guardError](err)
	return ok
}
