package upstream

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
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
	// minProgress is how many bytes of a body make progress in one time budget
	// of the source; a drip of a byte a second is none.
	minProgress = 16 << 10
)

// ErrStalled says that a source made no progress for its time budget. It wraps
// DeadlineExceeded: net/http returns a context's cause, so a bare cause would
// hide the timeout from errors.Is.
var ErrStalled = fmt.Errorf("no progress within the time budget: %w", context.DeadlineExceeded)

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
}

// A Net opens HTTP connections for sources; its connections are pooled. It is
// safe for concurrent use.
type Net struct {
	c       NetConfig
	named   map[string]bool
	open    *http.Transport
	guarded *http.Transport // refuses to connect to addresses that are not public
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
	n.open = n.transport(nil)
	n.guarded = n.transport(func(network, address string, _ syscall.RawConn) error {
		return checkPublic(address)
	})
	return n
}

// Close drops idle connections.
func (n *Net) Close() {
	n.open.CloseIdleConnections()
	n.guarded.CloseIdleConnections()
}

func (n *Net) transport(control func(network, address string, c syscall.RawConn) error) *http.Transport {
	d := &net.Dialer{Timeout: n.c.Connect, KeepAlive: 30 * time.Second, Control: control}
	tc := n.c.TLS
	if tc != nil {
		tc = tc.Clone()
	}
	return &http.Transport{
		Proxy:                 n.c.Proxy,
		DialContext:           d.DialContext,
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

// checkPublic refuses addresses that lead into the machine or its network.
func checkPublic(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return nil // a name: checked when it is resolved and dialled
	}
	if !isPublic(ip) {
		return &guardError{ip}
	}
	return nil
}

type guardError struct{ ip netip.Addr }

func (e *guardError) Error() string {
	return fmt.Sprintf("redirected to %v, an address of this machine or network that the configuration does not name; if that is right, name its host and port in sources.redirects", e.ip)
}

var notPublic = func() []netip.Prefix {
	var l []netip.Prefix
	for _, s := range []string{"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "198.18.0.0/15", "240.0.0.0/4", "64:ff9b:1::/48", "fec0::/10"} {
		l = append(l, netip.MustParsePrefix(s))
	}
	return l
}()

func isPublic(ip netip.Addr) bool {
	ip = ip.Unmap()
	if b := ip.As16(); ip.Is6() && netip.MustParsePrefix("64:ff9b::/96").Contains(ip) { // NAT64 of an IPv4 address
		return isPublic(netip.AddrFrom4([4]byte(b[12:])))
	}
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return false
	}
	for _, p := range notPublic {
		if p.Contains(ip) {
			return false
		}
	}
	return true
}

// Get asks for an absolute URL, following redirects, for the source of that
// name. The answer has status 200 and identity encoding.
func (n *Net) Get(ctx context.Context, source string, u *url.URL) (*Answer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	idle := time.AfterFunc(n.c.Timeout, func() { cancel(ErrStalled) })
	resp, err := n.follow(ctx, source, u)
	if err != nil {
		idle.Stop()
		if errors.Is(context.Cause(ctx), ErrStalled) {
			if e, ok := errors.AsType[*Error](err); ok {
				e.Err = fmt.Errorf("no answer within %v: %w", n.c.Timeout, ErrStalled)
			}
		}
		cancel(nil)
		return nil, err
	}
	b := &body{rc: resp.Body, ctx: ctx, cancel: cancel, idle: idle, budget: n.c.Timeout, source: source, window: time.Now()}
	a := &Answer{Body: b, Size: resp.ContentLength}
	switch enc := strings.ToLower(resp.Header.Get("Content-Encoding")); enc {
	case "", "identity":
	case "gzip", "x-gzip", "deflate":
		a.Size = -1
		a.Body = &decoded{body: b, enc: enc, source: source}
	default:
		b.Close()
		return nil, &Error{Source: source, Stage: StageContent, Err: fmt.Errorf("the answer is encoded as %q, which nobody asked for", enc)}
	}
	return a, nil
}

// follow makes the request and follows redirects itself, so that the guard sees
// each hop.
func (n *Net) follow(ctx context.Context, source string, u *url.URL) (*http.Response, error) {
	first := u
	for hop := 0; ; hop++ {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return nil, &Error{Source: source, Stage: StageHTTP, Err: redacted(err)}
		}
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
		rt, err := n.roundTripper(req, hop > 0 && !sameOrigin(first, u))
		if err != nil {
			return nil, &Error{Source: source, Stage: StageHTTP, Err: err}
		}
		resp, err := rt.RoundTrip(req)
		if err != nil {
			return nil, classify(source, err)
		}
		switch resp.StatusCode {
		case http.StatusOK:
			return resp, nil
		case 301, 302, 303, 307, 308:
		default:
			return nil, statusError(source, resp)
		}
		loc := resp.Header.Get("Location")
		io.Copy(io.Discard, io.LimitReader(resp.Body, errorBody))
		resp.Body.Close()
		next, err := u.Parse(loc)
		switch {
		case loc == "" || err != nil:
			return nil, &Error{Source: source, Stage: StageHTTP, Status: 0, Err: fmt.Errorf("%s without a usable Location", statusText(resp.StatusCode))}
		case next.Scheme != "https" && next.Scheme != "http":
			return nil, &Error{Source: source, Stage: StageHTTP, Err: fmt.Errorf("redirected to a %q address, which is neither https nor http", next.Scheme)}
		case u.Scheme == "https" && next.Scheme == "http":
			return nil, &Error{Source: source, Stage: StageHTTP, Err: fmt.Errorf("redirected from https to http at %s, which gives up the encryption", next.Host)}
		case hop >= maxRedirects:
			return nil, &Error{Source: source, Stage: StageHTTP, Err: fmt.Errorf("more than %d redirects, the last to %s", maxRedirects, next.Host)}
		}
		if next.User != nil {
			next.User = nil // a Location does not hand out credentials
		}
		u = next
	}
}

// roundTripper chooses the transport for a request. A redirect to a host that
// the configuration does not name goes through the guarded one; where a forward
// proxy resolves the name, only a literal address can be checked.
func (n *Net) roundTripper(req *http.Request, redirected bool) (http.RoundTripper, error) {
	if !redirected || n.named[hostPort(req.URL)] {
		return n.open, nil
	}
	if n.c.Proxy != nil {
		if p, err := n.c.Proxy(req); err == nil && p != nil {
			return n.open, checkPublic(hostPort(req.URL))
		}
	}
	return n.guarded, nil
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

// A body is an answer's body with the progress budget.
type body struct {
	rc     io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	idle   *time.Timer
	budget time.Duration
	source string

	window time.Time // since when bytes are counted
	got    int64     // bytes since then
	once   sync.Once
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.rc.Read(p)
	if n > 0 {
		b.idle.Reset(b.budget)
		b.got += int64(n)
		if now := time.Now(); now.Sub(b.window) > b.budget {
			if b.got < minProgress && err == nil {
				b.cancel(ErrStalled)
				err = ErrStalled
			}
			b.window, b.got = now, 0
		}
	}
	if err == nil || err == io.EOF {
		return n, err
	}
	if errors.Is(context.Cause(b.ctx), ErrStalled) {
		return n, &Error{Source: b.source, Stage: StageBody, Err: fmt.Errorf("the answer stood still for %v: %w", b.budget, ErrStalled)}
	}
	if b.ctx.Err() != nil {
		return n, context.Cause(b.ctx)
	}
	return n, &Error{Source: b.source, Stage: StageBody, Err: fmt.Errorf("the answer broke off midway: %w", redacted(err))}
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
	body   io.ReadCloser
	enc    string
	source string
	r      io.Reader
	err    error
}

func (d *decoded) Read(p []byte) (int, error) {
	if d.r == nil && d.err == nil {
		if d.enc == "deflate" {
			// RFC 9110 means zlib; some servers send bare deflate.
			head := make([]byte, 2)
			n, err := io.ReadFull(d.body, head)
			whole := io.MultiReader(bytes.NewReader(head[:n]), d.body)
			if err == nil && head[0]&0x0f == 8 && (uint(head[0])<<8|uint(head[1]))%31 == 0 {
				d.r, d.err = zlib.NewReader(whole)
			} else {
				d.r = flate.NewReader(whole)
			}
		} else {
			d.r, d.err = gzip.NewReader(d.body)
		}
	}
	if d.err != nil {
		return 0, d.wrap(d.err)
	}
	n, err := d.r.Read(p)
	if err != nil && err != io.EOF {
		err = d.wrap(err)
	}
	return n, err
}

func (d *decoded) wrap(err error) error {
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	return &Error{Source: d.source, Stage: StageBody, Err: fmt.Errorf("the answer's %s encoding is damaged: %w", d.enc, err)}
}

func (d *decoded) Close() error { return d.body.Close() }

// statusError reads what the source says about its refusal.
func statusError(source string, resp *http.Response) error {
	e := &Error{Source: source, Stage: StageHTTP, Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header, time.Now())}
	if resp.StatusCode == http.StatusProxyAuthRequired {
		e.Stage = StageProxy
	}
	stop := time.AfterFunc(errorBodyTime, func() { resp.Body.Close() })
	data, _ := io.ReadAll(io.LimitReader(resp.Body, errorBody))
	stop.Stop()
	resp.Body.Close()
	if resp.StatusCode/100 == 2 {
		e.Stage, e.Err = StageContent, fmt.Errorf("%s in place of 200 OK", statusText(resp.StatusCode))
		return e
	}
	if mt, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err == nil && mt == "text/plain" {
		switch strings.ToLower(params["charset"]) {
		case "", "utf-8", "us-ascii":
			e.Text = printable(data)
		}
	}
	return e
}

// printable keeps the text that the go command would show: lines of printable
// characters, at most eight, without blank ones.
func printable(data []byte) string {
	if !utf8.Valid(data) {
		return ""
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(strings.Map(func(r rune) rune {
			if r == '\t' {
				return ' '
			}
			if !unicode.IsPrint(r) {
				return -1
			}
			return r
		}, line))
		if line != "" {
			lines = append(lines, line)
		}
		if len(lines) == 8 {
			break
		}
	}
	return strings.Join(lines, "\n")
}

// retryAfter reads Retry-After in both its forms; 0 if there is none.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if s, err := strconv.Atoi(v); err == nil && s > 0 {
		return time.Duration(min(s, 86400)) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil && t.After(now) {
		return min(t.Sub(now), 24*time.Hour)
	}
	return 0
}

func statusText(code int) string {
	if t := http.StatusText(code); t != "" {
		return strconv.Itoa(code) + " " + t
	}
	return strconv.Itoa(code)
}

// classify says at which stage a request without an answer failed.
func classify(source string, err error) error {
	e := &Error{Source: source, Stage: StageHTTP}
	var (
		dns  *net.DNSError
		op   *net.OpError
		cert *tls.CertificateVerificationError
		unk  x509.UnknownAuthorityError
		host x509.HostnameError
		inv  x509.CertificateInvalidError
		rec  tls.RecordHeaderError
		al   tls.AlertError
		ge   *guardError
	)
	text := err.Error()
	switch {
	case errors.As(err, &ge):
		e.Err = ge
		return e
	case strings.Contains(text, "proxyconnect") || strings.Contains(text, "Proxy Authentication Required") || errors.As(err, &op) && op.Op == "socks connect":
		e.Stage = StageProxy
	case errors.As(err, &dns):
		e.Stage = StageDNS
	case errors.As(err, &cert), errors.As(err, &unk), errors.As(err, &host), errors.As(err, &inv), errors.As(err, &rec), errors.As(err, &al),
		strings.Contains(text, "TLS handshake"), strings.Contains(text, "tls: "), strings.Contains(text, "x509: "):
		e.Stage = StageTLS
	case errors.As(err, &op) && op.Op == "dial":
		e.Stage = StageConnect
	}
	e.Err = redacted(err)
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
// may have a path and credentials.
func NewHTTPSource(n *Net, base *url.URL) *HTTPSource {
	b := *base
	b.Path = strings.TrimRight(b.Path, "/")
	b.RawPath = strings.TrimRight(b.RawPath, "/")
	b.RawQuery, b.Fragment = "", ""
	shown := b
	shown.User = nil
	return &HTTPSource{net: n, base: &b, name: shown.String()}
}

// Name is the URL without credentials.
func (s *HTTPSource) Name() string { return s.name }

// Kind is Proxy.
func (s *HTTPSource) Kind() Kind { return Proxy }

// Get asks the proxy for req.
func (s *HTTPSource) Get(ctx context.Context, req goproxy.Request) (*Answer, error) {
	return s.net.Get(ctx, s.name, s.url(req.Path(), req.IsQuery()))
}

// GetPath asks for a path below the proxy's URL that is no module file, such as
// sumdb/NAME/supported. It is sent as the go command would send it.
func (s *HTTPSource) GetPath(ctx context.Context, path string) (*Answer, error) {
	return s.net.Get(ctx, s.name, s.url(strings.TrimPrefix(path, "/"), false))
}

// url appends a protocol path to the base. The slashes of a branch name are
// percent-encoded, since a bare slash would end the @v element.
func (s *HTTPSource) url(p string, query bool) *url.URL {
	u := *s.base
	raw := escapePath(p)
	if query {
		if esc, rev, ok := strings.Cut(p, "/@v/"); ok {
			raw = escapePath(esc) + "/@v/" + url.PathEscape(rev)
		}
	}
	u.RawPath = s.base.EscapedPath() + "/" + raw
	u.Path = s.base.Path + "/" + p
	return &u
}

func escapePath(p string) string { return strings.ReplaceAll(url.PathEscape(p), "%2F", "/") }

// IsGuard reports whether err is the guard's refusal of a redirect into this
// machine or its network.
func IsGuard(err error) bool {
	_, ok := errors.AsType[*guardError](err)
	return ok
}
