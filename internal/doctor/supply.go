package doctor

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"

	"github.com/modsluice/sluice/internal/checksum"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goenv"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/upstream"
)

// A Source is one entry of the chain of sources.
type Source struct {
	Entry goenv.Entry
	Net   *upstream.Net   // its connections; nil of what is no HTTP source
	URL   *url.URL        // nil of what is no HTTP source
	From  upstream.Source // nil of direct and off
	// Resolver is who looks its names up; "" is this machine's resolver.
	Resolver string
	Sums     checksum.Remote // the checksum database as the source mirrors it; nil where it is not asked for it
}

// A SumDB is the checksum database that the go command checks against.
type SumDB struct {
	Name, Key string
	Net       *upstream.Net // to the database itself
	URL       *url.URL
	Direct    checksum.Remote
	// Head reads the tree head that the go command saw last, or fails.
	Head func() ([]byte, error)
}

// Limits are the longest that each step may take.
type Limits struct {
	Lookup time.Duration // of a name
	// What a Source's Net has for connecting, and for no progress of an answer, holds
	// beside these.
	Answer time.Duration // of all of one answer
	Read   time.Duration // of what the module cache has; 0 is no limit
	Zip    int64         // of what is fetched of a zip, in bytes; 0 is maxZip
}

// maxZip is how much of a zip is fetched, in bytes, where nothing else is said: enough to
// see that it comes.
const maxZip = 64 << 10

// A Notebook takes down what the requests of the checks show beside their answers.
// It is safe for concurrent use.
type Notebook struct {
	mu   sync.Mutex // guards the following
	skew []time.Duration
}

type trailKey struct{}

// A trail is the hosts that one request led to.
type trail struct {
	mu      sync.Mutex // guards the following
	hosts   []string
	resumed bool // a request went on where the one before broke off
}

// broke reports whether the transfer was put together of several.
func (t *trail) broke() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.resumed
}

func (t *trail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.hosts) == 0 {
		return ""
	}
	return t.hosts[len(t.hosts)-1]
}

// Wrap is for upstream.NetConfig.Wrap.
func (n *Notebook) Wrap(_ string, rt http.RoundTripper) http.RoundTripper { return noting{n, rt} }

type noting struct {
	n  *Notebook
	rt http.RoundTripper
}

func (x noting) RoundTrip(r *http.Request) (*http.Response, error) {
	if t, ok := r.Context().Value(trailKey{}).(*trail); ok {
		t.mu.Lock()
		t.hosts = append(t.hosts, r.URL.Host)
		t.resumed = t.resumed || r.Header.Get("Range") != ""
		t.mu.Unlock()
	}
	begin := time.Now()
	resp, err := x.rt.RoundTrip(r)
	if note, ok := r.Context().Value(pageKey{}).(*pageNote); ok && err == nil {
		if note.status = resp.StatusCode; note.status >= 400 {
			resp.StatusCode = http.StatusOK // its body is wanted all the same
		}
	}
	// A cache hands out old dates; it adds an Age where it is honest.
	if err == nil && resp.Header.Get("Age") == "" {
		if date, perr := http.ParseTime(resp.Header.Get("Date")); perr == nil {
			x.n.mu.Lock()
			x.n.skew = append(x.n.skew, begin.Add(time.Since(begin)/2).Sub(date))
			x.n.mu.Unlock()
		}
	}
	return resp, err
}

// skews is how far the clock here is before those of the servers that answered.
func (n *Notebook) skews() []time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.skew)
}

// plainHost is what stands in a command to paste as it is: a URL allows $ and ( in a
// host.
var plainHost = regexp.MustCompile(`^[A-Za-z0-9_.:-]+$`)

// mean is the outcome of something that means code.
func (s *Subject) mean(state State, code finding.Code, about, text string) Outcome {
	f := finding.At(code, s.Place)
	if about != "" {
		if src := s.at(about); src != nil && plainHost.MatchString(about) { // which may be at another port, or without TLS
			f.Fix = slices.Clone(f.Fix)
			for i, cmd := range f.Fix {
				f.Fix[i] = strings.ReplaceAll(cmd, "https://HOST/", src.Scheme+"://"+src.Host+"/")
			}
		}
		host := about
		if h, _, err := net.SplitHostPort(about); err == nil {
			host = h
		}
		f = f.With(finding.StandInHost, host)
		if filepath.IsAbs(about) && code != finding.CacheDenied { // of which the fix names another one
			f = f.With(finding.StandInDir, about)
		}
	}
	if s.Module.Path != "" {
		f = f.With(finding.StandInModule, s.Module.Path).With(finding.StandInPattern, s.Module.Path)
		f = f.With(finding.StandInVersion, s.Module.Version)
	}
	f.Fix = s.here(f.Fix)
	if slices.Contains(f.Fix, bestInShell) || slices.Contains(f.Fix, bestInPowerShell) {
		// The shell goes on as if it had worked.
		f.Mend += "; if no mirror is good from here, that says why and GOPROXY stays as it is: then name a source that you know in the place of best"
	}
	return Outcome{State: state, Text: text, Subject: about, Finding: &f}
}

// at is the address of the source or database at a host, nil if there is none.
func (s *Subject) at(host string) *url.URL {
	for _, src := range s.Sources {
		if src.URL != nil && src.URL.Host == host {
			return src.URL
		}
	}
	if s.SumDB != nil && s.SumDB.URL != nil && s.SumDB.URL.Host == host {
		return s.SumDB.URL
	}
	return nil
}

// failed is the outcome of a failure on the way to a source. The host is that which
// it was about, which a redirect may have changed.
func (s *Subject) failed(err error, host string) Outcome {
	code := mirror.SourceCode(upstream.Attempt{Kind: upstream.Proxy, Err: err})
	text := reason(err)
	switch {
	case code == finding.ForwardProxyBroken && strings.Contains(text, "refused to connect: 403"):
		code = finding.ForwardProxyPolicy
	case code == finding.SourceTLSUnknownCA && noRoots(err):
		code = finding.NoCABundle
	}
	return s.mean(Fail, code, host, text)
}

// reason is an error without the name of its source, which stands beside it.
func reason(err error) string {
	text := err.Error()
	if e, ok := errors.AsType[*upstream.Error](err); ok {
		text = strings.TrimPrefix(text, e.Source+": ")
	}
	return finding.OneLine(text, 400)
}

// noRoots reports whether a certificate is not trusted because none is here.
func noRoots(err error) bool {
	if _, ok := errors.AsType[x509.SystemRootsError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok {
		return false
	}
	pool, perr := x509.SystemCertPool()
	return perr != nil || pool.Equal(x509.NewCertPool())
}

// astray makes the failure of a host of one's own network that goes through the
// forward proxy what it most likely is: NO_PROXY lacks it.
func (s *Subject) astray(out Outcome, src Source) Outcome {
	if out.State != Fail || src.Net == nil {
		return out
	}
	host := src.URL.Hostname()
	ip, err := netip.ParseAddr(host)
	entry, better := s.meantPast(src.URL)
	if own := err == nil && ip.IsPrivate() || err != nil && finding.OwnNetwork(host) || s.NoProxy.Match(host) || entry != ""; !own {
		return s.misread(out, src.URL)
	}
	proxy, err := src.Net.Forward(src.URL)
	if err != nil || proxy == nil || !slices.Contains([]finding.Code{finding.ForwardProxyBroken, finding.ForwardProxyPolicy, finding.SourceServerError, finding.SourceForbidden, finding.SourceHTML}, out.Finding.Code) {
		return out
	}
	text := fmt.Sprintf("%s; it goes through the forward proxy %s, since NO_PROXY does not name it", out.Text, proxy.Host)
	if strings.Contains(s.asGo().no, "/") && !ip.IsValid() {
		text += "; networks in it count for addresses in a URL, and not for what a name leads to"
	}
	out = s.mean(Fail, finding.ForwardProxyBroken, out.Subject, text)
	out.Finding.Confidence = finding.Medium
	out.Finding.Mend = "add the host to NO_PROXY"
	out.Finding.Fix = []string{`export NO_PROXY="$NO_PROXY,HOST"`}
	if s.Place == finding.PowerShell {
		out.Finding.Fix = []string{`$env:NO_PROXY = "$env:NO_PROXY,HOST"`}
	}
	f := out.Finding.With(finding.StandInHost, host)
	out.Finding = &f
	if entry != "" {
		out.Text = fmt.Sprintf("%s goes through the forward proxy %s, since NO_PROXY has %q, a form that the go command does not take", host, proxy.Host, finding.OneLine(entry, 80))
		out.Finding.Confidence, out.Finding.Mend = finding.High, "write the list as it was meant"
		s.export(&out, "NO_PROXY", better)
		out.Explains = append(out.Explains, "settings.noproxy")
	}
	return out
}

// isLie reports whether an address cannot be that of a public service.
func isLie(host string, ip netip.Addr) bool {
	if _, err := netip.ParseAddr(host); err == nil || finding.OwnNetwork(host) {
		return false
	}
	return ip.IsLoopback() || ip.IsUnspecified() || ip.IsMulticast()
}

// A way is the steps of the connections to one host.
type way struct {
	id, group string
	net       *upstream.Net
	url       *url.URL
	resolver  string // who looks names up for it; "" is this machine's
	needs     []string
	after     []string
	// gate says before each step why it is not needed; nil: it is.
	gate func(Seen) *Outcome
	// turn is what a failure means on this way, beside what it means by itself.
	turn func(Outcome, Seen) Outcome
}

// tls is the ID of the last step.
func (w *way) tls() string { return w.id + ".tls" }

// end are the steps that all answers need.
func (w *way) end() []string { return []string{w.id + ".forward", w.id + ".connect", w.tls()} }

// steps are the checks of the way: name, forward, connect, tls.
func (s *Subject) steps(w way) []Check {
	host, source, about := w.url.Hostname(), w.group, w.url.Host
	check := func(name, title, link string, needs []string, run func(ctx context.Context, seen Seen) Outcome) Check {
		return Check{ID: w.id + "." + name, Group: w.group, Title: title, Link: link, Needs: needs, After: w.after, Run: func(ctx context.Context, seen Seen) Outcome {
			if w.gate != nil {
				if o := w.gate(seen); o != nil {
					return *o
				}
			}
			out := run(ctx, seen)
			if out.State == Fail && w.turn != nil {
				out = w.turn(out, seen)
			}
			return out
		}}
	}
	proxy, perr := w.net.Forward(w.url)
	by := Outcome{State: NA}
	// What does not apply needs nothing either.
	needing := func(applies bool, steps ...string) []string {
		if !applies {
			return w.needs
		}
		return steps
	}
	direct := proxy == nil && perr == nil
	if proxy != nil {
		by.Text = "the forward proxy " + proxy.Host + " does it"
	}
	return []Check{
		check("forward", "forward proxy", "forward proxy", w.needs, func(ctx context.Context, _ Seen) Outcome {
			if perr != nil {
				return s.misread(s.mean(Fail, finding.ForwardProxyBroken, about, "the setting of the forward proxy cannot be used: "+finding.OneLine(perr.Error(), 200)), w.url)
			}
			if proxy == nil {
				return Outcome{State: NA, Text: "the way to it is direct"}
			}
			if proxy.Hostname() == "http" || proxy.Hostname() == "https" {
				return Outcome{State: Skip, Because: "settings.forward", Text: "a colon is missing in the URL of the forward proxy"}
			}
			port := cmp.Or(proxy.Port(), map[string]string{"http": "80", "https": "443"}[proxy.Scheme], "1080")
			d := net.Dialer{Timeout: s.Limits.Lookup}
			conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(proxy.Hostname(), port))
			if err != nil {
				out := s.misread(s.mean(Fail, finding.ForwardProxyBroken, proxy.Host, fmt.Sprintf("%s cannot be connected to: %v", proxy.Host, err)), w.url)
				addr, _ := netip.ParseAddr(proxy.Hostname())
				out.Fact = unreached{{addr, err}}
				return out
			}
			at, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
			conn.Close()
			return Outcome{State: OK, Text: "through " + proxy.Host, Fact: reached{at}}
		}),
		check("name", "name", "name", w.needs, func(ctx context.Context, _ Seen) Outcome {
			if !direct {
				return by
			}
			if ip, err := netip.ParseAddr(host); err == nil {
				return Outcome{State: NA, Text: "it is an address", Fact: []netip.Addr{ip}}
			}
			return s.unforwarded(s.lookup(ctx, w, source), w)
		}),
		check("connect", "connection", "connection", needing(direct, w.id+".name"), func(ctx context.Context, seen Seen) Outcome {
			if !direct {
				return by
			}
			addrs, _ := seen[w.id+".name"].Fact().([]netip.Addr)
			return s.unforwarded(s.connect(ctx, w, host, source, addrs), w)
		}),
		check("tls", "encryption", "encryption", needing(direct && w.url.Scheme == "https", w.id+".connect"), func(ctx context.Context, seen Seen) Outcome {
			switch {
			case !direct:
				return Outcome{State: NA, Text: "it goes through the forward proxy, and shows in the answer"}
			case w.url.Scheme != "https":
				return Outcome{State: NA, Text: "the source is asked over http"}
			}
			addrs, _ := seen[w.id+".connect"].Fact().(reached)
			return s.handshake(ctx, w, host, source, addrs)
		}),
	}
}

// connect tries both address families side by side, as a race between them would
// hide that one of them is dead.
func (s *Subject) connect(ctx context.Context, w way, host, source string, addrs []netip.Addr) Outcome {
	_, port, err := net.SplitHostPort(upstream.HostPort(w.url))
	if err != nil {
		return Outcome{State: Unknown, Text: err.Error()}
	}
	type end struct {
		addr netip.AddrPort
		own  netip.Addr // ours, where it connected
		took time.Duration
		err  error
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	ends := map[bool][]end{} // by whether it is IPv4
	tried := map[bool]int{}
	for _, a := range addrs {
		if four := a.Unmap().Is4(); tried[four] < 2 {
			tried[four]++
			wg.Go(func() {
				begin := time.Now()
				p, err := netip.ParseAddrPort(net.JoinHostPort(a.String(), port))
				var conn net.Conn
				var own netip.Addr
				if err == nil {
					if conn, err = w.net.Connect(ctx, source, p); err == nil {
						if local, ok := conn.LocalAddr().(*net.TCPAddr); ok {
							own, _ = netip.AddrFromSlice(local.IP)
						}
						conn.Close()
					}
				}
				mu.Lock()
				defer mu.Unlock()
				ends[four] = append(ends[four], end{p, own, time.Since(begin), err})
			})
		}
	}
	wg.Wait()
	best := func(four bool) *end {
		var found *end
		for i, e := range ends[four] {
			if found == nil || found.err != nil && e.err == nil {
				found = &ends[four][i]
			}
		}
		return found
	}
	four, six := best(true), best(false)
	say := func(e *end) string {
		if e.err != nil {
			return reason(e.err)
		}
		return fmt.Sprintf("%s in %s", e.addr.Addr(), short(e.took))
	}
	works := func(e *end) bool { return e != nil && e.err == nil }
	absent := func(e *end) bool {
		return e != nil && (errors.Is(e.err, syscall.ENETUNREACH) || errors.Is(e.err, syscall.EADDRNOTAVAIL) || errors.Is(e.err, syscall.EHOSTUNREACH) || errors.Is(e.err, syscall.EAFNOSUPPORT))
	}
	switch {
	case works(four) && six != nil && !works(six) && !absent(six):
		out := s.mean(Warn, finding.IPv6Broken, w.url.Host, fmt.Sprintf("IPv4: %s; IPv6: %s", say(four), say(six)))
		out.Fact = reached{four.addr}
		return out
	case works(four) && six != nil && !works(six):
		return Outcome{State: OK, Text: say(four) + "; there is no IPv6 here", Fact: reached{four.addr}}
	case works(four) && works(six):
		both := reached{six.addr, four.addr}
		if six.own.IsPrivate() != six.addr.Addr().IsPrivate() { // RFC 6724: then IPv4 comes first
			both = reached{four.addr, six.addr}
		}
		return Outcome{State: OK, Text: say(four) + ", " + say(six), Fact: both}
	case works(four):
		return Outcome{State: OK, Text: say(four), Fact: reached{four.addr}}
	case works(six):
		return Outcome{State: OK, Text: say(six), Fact: reached{six.addr}}
	}
	e := cmp.Or(four, six)
	if absent(four) && six != nil && !absent(six) { // there is no IPv4 here
		e = six
	}
	if e == nil {
		return Outcome{State: Unknown, Text: "there is no address to connect to"}
	}
	var out Outcome
	switch {
	case isLie(host, e.addr.Addr()):
		out = s.mean(Fail, finding.DNSHijackOrPortal, w.url.Host, fmt.Sprintf("the name leads to %s, which cannot be its own: %s", e.addr.Addr(), say(e)))
	case four == nil && absent(six):
		out = s.mean(Fail, finding.IPv6Broken, w.url.Host, say(six))
	default:
		out = s.fakeIP(s.failed(e.err, w.url.Host), w.url, e.addr.Addr())
	}
	var all unreached
	for _, e := range slices.Concat(ends[true], ends[false]) {
		all = append(all, attempt{e.addr.Addr(), e.err})
	}
	out.Fact = all
	return out
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

func short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// lacks is the Fact of a source that answered that it has not got the module.
type lacks struct{}

// barren is the Fact of a source that answers 404 to all that it is asked.
type barren struct{}

// A pather is a source that can be asked for what is no file of a module.
type pather interface {
	GetPath(ctx context.Context, path string) (*upstream.Answer, error)
}

// read asks a source and reads at most limit bytes.
func (s *Subject) read(ctx context.Context, limit int64, ask func(context.Context) (*upstream.Answer, error)) ([]byte, *trail, error) {
	t := &trail{}
	ctx, cancel := context.WithTimeoutCause(context.WithValue(ctx, trailKey{}, t), s.Limits.Answer, upstream.ErrStalled)
	defer cancel()
	a, err := ask(ctx)
	if err != nil {
		return nil, t, err
	}
	defer a.Body.Close()
	data, err := io.ReadAll(io.LimitReader(a.Body, limit))
	return data, t, err
}

func looksLikePage(data []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(data), []byte("<")) }

// answers are the checks of what a source says.
func (s *Subject) answers(id, group string, src Source, needs []string) []Check {
	host := src.Entry.Name()
	if src.URL != nil {
		host = src.URL.Host
	}
	about := func(t *trail) string { return cmp.Or(t.last(), host) }
	asks := func(kind goproxy.Kind) goproxy.Request {
		req := goproxy.Request{Kind: kind, Module: s.Module}
		if kind == goproxy.List {
			req.Module.Version = ""
		}
		return req
	}
	get := func(kind goproxy.Kind) func(context.Context) (*upstream.Answer, error) {
		return func(ctx context.Context) (*upstream.Answer, error) { return src.From.Get(ctx, asks(kind)) }
	}
	// wrong is the outcome of an answer that is none.
	wrong := func(data []byte, t *trail, err error) Outcome {
		if looksLikePage(data) {
			return s.mean(Fail, finding.SourceHTML, about(t), "a page came in place of the answer")
		}
		if len(data) == 0 {
			return s.mean(Fail, finding.SourceEmpty, about(t), "the answer is 200 OK with nothing in it")
		}
		return s.mean(Fail, finding.SourceWrongAnswer, about(t), finding.OneLine(err.Error(), 200))
	}
	via := func(t *trail) string {
		if h := t.last(); h != "" && h != host {
			return ", from " + h
		}
		return ""
	}
	named := s.Module.Path + "@" + s.Module.Version
	var after []string
	look := func(ctx context.Context, _ Seen) context.Context { return ctx }
	if src.URL != nil {
		after = []string{id + ".name"}
		look = func(ctx context.Context, seen Seen) context.Context {
			return knowing(ctx, seen[id+".name"], src.URL.Hostname())
		}
	}
	first := Check{ID: id + ".answer", Group: group, Title: "answer", Link: "answer", Needs: needs, After: after}
	first.Run = func(ctx context.Context, seen Seen) Outcome {
		if out := s.noTree(ctx, src); out != nil {
			return *out
		}
		ctx = look(ctx, seen)
		begin := time.Now()
		if s.Module.Path == "" {
			p, ok := src.From.(pather)
			if !ok || src.URL == nil {
				return Outcome{State: NA, Text: "there is no module to ask it for"}
			}
			data, t, err := s.read(ctx, 4<<10, func(ctx context.Context) (*upstream.Answer, error) {
				return p.GetPath(ctx, "sumdb/"+s.askName()+"/supported")
			})
			switch e, ok := errors.AsType[*upstream.Error](err); {
			case err == nil && looksLikePage(data):
				return wrong(data, t, nil)
			case err == nil, ok && e.Stage == upstream.StageHTTP && slices.Contains([]int{400, 404, 405, 410}, e.Status):
				return Outcome{State: OK, Text: "it answers in " + short(time.Since(begin))}
			}
			return s.astray(s.refused(s.failed(err, about(t)), src, "sumdb/"+s.askName()+"/supported"), src)
		}
		data, t, err := s.read(ctx, 1<<20, get(goproxy.Info))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return Outcome{State: OK, Text: "it answers, and has not got " + named, Fact: lacks{}}
		case err != nil:
			return s.astray(s.refused(s.failed(err, about(t)), src, asks(goproxy.Info).Path()), src)
		}
		if _, err := goproxy.ParseInfo(data, s.Module); err != nil {
			return s.astray(wrong(data, t, err), src)
		}
		return Outcome{State: OK, Text: fmt.Sprintf("%s.info in %s", named, short(time.Since(begin)))}
	}
	checks := []Check{first}
	more := func(name, title string, kind goproxy.Kind, limit int64, judge func(data []byte) error) {
		checks = append(checks, Check{ID: id + "." + name, Group: group, Title: title, Link: "modules", Needs: []string{first.ID}, After: after, Run: func(ctx context.Context, seen Seen) Outcome {
			ctx = look(ctx, seen)
			if s.Module.Path == "" {
				return Outcome{State: NA, Text: "there is no module to ask it for"}
			}
			if _, no := seen[first.ID].Fact().(lacks); no {
				if kind == goproxy.List {
					return s.others(ctx, src)
				}
				return Outcome{State: NA, Text: "it has not got " + named}
			}
			begin := time.Now()
			data, t, err := s.read(ctx, limit, get(kind))
			// What is more than is needed to see that it comes may take longer than we have.
			part := err != nil && kind == goproxy.Zip && len(data) >= maxZip && time.Since(begin) >= s.Limits.Answer
			if err != nil && !part {
				return s.refused(s.failed(err, about(t)), src, asks(kind).Path())
			}
			if err := judge(data); err != nil {
				return wrong(data, t, err)
			}
			out := Outcome{State: OK, Text: fmt.Sprintf("%d bytes in %s%s", len(data), short(time.Since(begin)), via(t)), Subject: host}
			switch {
			case kind == goproxy.Mod:
				if path := modfile.ModulePath(data); path != "" && path != s.Module.Path {
					return s.renamed(about(t), path)
				}
				out.Fact = h1(data)
			case kind == goproxy.Zip && t.broke():
				return s.mean(Fail, finding.SourceTruncated, about(t), "the transfer broke off, and came to its end only because it was asked for the rest, which the go command does not do")
			case kind == goproxy.Zip && !part && int64(len(data)) < limit: // it is whole
				sum, err := h1Zip(data)
				if err != nil {
					return wrong(data, t, err)
				}
				out.Fact = sum
			}
			return out
		}})
	}
	more("list", "list", goproxy.List, 8<<20, func(data []byte) error {
		_, err := goproxy.ParseList(data, s.Module.Path)
		return err
	})
	more("mod", ".mod", goproxy.Mod, goproxy.MaxMod, goproxy.CheckMod)
	title, limit := ".zip, its beginning", cmp.Or(s.Limits.Zip, maxZip)
	if limit > maxZip {
		title = ".zip"
	}
	more("zip", title, goproxy.Zip, limit, func(data []byte) error {
		if !bytes.HasPrefix(data, []byte("PK")) {
			return errors.New("it is no zip file")
		}
		return nil
	})
	checks = append(checks, Check{ID: id + ".sumdb", Group: group, Title: "checksum database through it", Link: "checksums", Needs: []string{first.ID}, After: after, Run: func(ctx context.Context, seen Seen) Outcome {
		ctx = look(ctx, seen)
		if o := s.noSums(); o != nil {
			return *o
		}
		if _, no := seen[first.ID].Fact().(lacks); no {
			return Outcome{State: NA, Text: "it has not got " + named}
		}
		if src.Sums == nil {
			return Outcome{State: NA, Text: "GOSUMDB names an address of its own"}
		}
		return s.sums(ctx, src.Sums, host)
	}})
	return checks
}

// refused makes the outcome of a 403 say for which file it was, path as the protocol
// spells it: the others may well come, and who is to allow it has to know.
func (s *Subject) refused(out Outcome, src Source, path string) Outcome {
	if out.State != Fail || out.Finding.Code != finding.SourceForbidden || path == "" {
		return out
	}
	out.Text = path + ": " + out.Text
	at := below(src.URL, path)
	for i, cmd := range out.Finding.Fix {
		if curl, _, ok := strings.Cut(cmd, " -sIL "); ok && at != "" {
			out.Finding.Fix[i] = curl + " -sIL " + at
		}
	}
	return out
}

// below is the URL of a path below a source, without a login, as it stands in a command
// to paste: in quotes, since an upper-case letter of a module is written with a !. It is
// "" if it cannot stand there.
func below(base *url.URL, path string) string {
	if base == nil {
		return ""
	}
	u := base.Scheme + "://" + base.Host + strings.TrimRight(base.EscapedPath(), "/") + "/" + path
	if finding.Redact(u) != u || strings.Contains(u, "'") {
		return ""
	}
	return "'" + u + "'"
}

// others asks a source that has not got the version for the others of the module.
func (s *Subject) others(ctx context.Context, src Source) Outcome {
	data, _, err := s.read(ctx, 8<<20, func(ctx context.Context) (*upstream.Answer, error) {
		return src.From.Get(ctx, goproxy.Request{Kind: goproxy.List, Module: module.Version{Path: s.Module.Path}})
	})
	if err != nil {
		out := Outcome{State: NA, Text: "it has not got the module"}
		if p, ok := src.From.(pather); ok && errors.Is(err, fs.ErrNotExist) {
			_, _, err := s.read(ctx, 4<<10, func(ctx context.Context) (*upstream.Answer, error) {
				return p.GetPath(ctx, "sumdb/"+s.askName()+"/supported")
			})
			if errors.Is(err, fs.ErrNotExist) {
				out.Fact = barren{}
			}
		}
		return out
	}
	list, err := goproxy.ParseList(data, s.Module.Path)
	if err != nil || len(list) == 0 {
		return Outcome{State: NA, Text: "it has no version of the module"}
	}
	return Outcome{State: OK, Text: "it has " + plural(len(list), "other version", "other versions"), Fact: has{len(list)}}
}

// noSums says why no checksums are asked for; nil: they are.
func (s *Subject) noSums() *Outcome {
	switch {
	case s.SumDB == nil:
		return &Outcome{State: NA, Text: "GOSUMDB is off"}
	case s.Module.Path != "" && s.NoSumDB.Match(s.Module.Path):
		return &Outcome{State: NA, Text: "GONOSUMDB matches " + s.Module.Path}
	}
	return nil
}

// askName is the checksum database that a source is asked for.
func (s *Subject) askName() string {
	if s.SumDB != nil {
		return s.SumDB.Name
	}
	return goenv.DefaultSumDB
}

// hashes are what the checksum database says of a module version.
type hashes struct{ zip, mod string }

// sums asks for checksums over one remote, and proves them.
func (s *Subject) sums(ctx context.Context, r checksum.Remote, host string) Outcome {
	begin := time.Now()
	db, err := checksum.New(checksum.Config{
		Key: s.SumDB.Key, Remotes: []checksum.Remote{r}, Cache: onlyHead{s.SumDB.Head}, Conflict: errConflict, Timeout: s.Limits.Answer, Log: func(string) {},
	})
	if err != nil {
		return s.mean(Fail, finding.GoEnvMalformed, "GOSUMDB", finding.OneLine(err.Error(), 200))
	}
	defer db.Close()
	t := &trail{}
	ctx = context.WithValue(ctx, trailKey{}, t)
	what, proven := "the tree head is signed", hashes{}
	if s.Module.Path == "" {
		_, err = db.Latest(ctx)
	} else {
		proven.zip, proven.mod, err = db.Sums(ctx, s.Module)
		what = "the checksum of " + s.Module.Path + "@" + s.Module.Version + " is proven"
	}
	if err == nil {
		return Outcome{State: OK, Text: fmt.Sprintf("%s in %s", what, short(time.Since(begin))), Fact: proven}
	}
	text := finding.OneLine(err.Error(), 300)
	switch {
	case errors.Is(err, checksum.ErrSecurity):
		return s.mean(Fail, finding.SumDBInconsistent, host, text)
	case errors.Is(err, checksum.ErrUnsupported):
		return Outcome{State: NA, Text: "it does not mirror " + s.SumDB.Name}
	case errors.Is(err, checksum.ErrUnknown):
		if _, err := db.Latest(ctx); err != nil { // whatever is there knows nothing at all
			return s.mean(Fail, finding.SumDBUnreachable, host, "what answers there is no checksum database: "+finding.OneLine(err.Error(), 200))
		}
		return s.unlooked(s.mean(Fail, finding.SumDBUnknown, s.Module.Path, text))
	}
	return s.mean(Fail, finding.SumDBUnreachable, host, text)
}

// sumAbout is where the database itself is asked.
func (s *Subject) sumAbout() string {
	if s.SumDB.URL != nil {
		return s.SumDB.URL.Host
	}
	return s.SumDB.Name
}

// h1 is the checksum of a go.mod file.
func h1(data []byte) string {
	sum, _ := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
	return sum
}

// onlyHead is a cache that has nothing but the last tree head seen, and keeps
// nothing: the database has to be consistent with what was seen before.
type onlyHead struct{ head func() ([]byte, error) }

var errConflict = errors.New("it was changed meanwhile")

func (c onlyHead) ReadFile(name string) ([]byte, error) {
	if strings.HasSuffix(name, "/latest") && c.head != nil {
		if data, err := c.head(); err == nil {
			return data, nil
		}
	}
	return nil, fs.ErrNotExist
}
func (onlyHead) WriteFile(string, []byte) error        { return nil }
func (onlyHead) SwapFile(string, []byte, []byte) error { return nil }

// supply are the checks of the sources and the checksum database.
func (s *Subject) supply() []Check {
	var checks []Check
	var all, tls, sums, answers []string // IDs
	var hosts []way
	needs := []string{"settings.goproxy", "settings.config"}
	for i, src := range s.Sources {
		if src.From == nil {
			continue
		}
		id := fmt.Sprintf("source.%d", i+1)
		group := src.Entry.Name()
		end := needs
		if src.URL != nil {
			w := way{id: id, group: group, net: src.Net, url: src.URL, resolver: src.Resolver, needs: needs}
			hosts = append(hosts, w)
			checks = append(checks, s.steps(w)...)
			end = w.end()
			tls = append(tls, w.tls())
			all = append(all, id+".name", id+".connect", id+".tls")
		}
		a := s.answers(id, group, src, end)
		checks = append(checks, a...)
		for _, c := range a {
			if strings.HasSuffix(c.ID, ".sumdb") {
				sums = append(sums, c.ID)
			} else {
				answers = append(answers, c.ID)
			}
			all = append(all, c.ID)
		}
	}
	// The steps to a source say why it gives no answer.
	after := slices.DeleteFunc(slices.Clone(all), func(id string) bool { return strings.HasSuffix(id, ".sumdb") })
	checks = append(checks, Check{ID: "supply.modules", Group: "Supply line", Title: "modules can be had", Link: "modules", Needs: needs, After: after, Run: func(_ context.Context, seen Seen) Outcome { return s.walk(seen) }})

	ways := slices.Clone(sums)
	if s.SumDB != nil && s.SumDB.Direct != nil {
		gate := func(seen Seen) *Outcome {
			if o := s.noSums(); o != nil {
				return o
			}
			if len(s.Sources) > 0 && s.Sources[0].Entry.Kind == goenv.Off {
				return &Outcome{State: NA, Text: "nothing may be downloaded"}
			}
			lacking := 0
			for _, id := range answers {
				if _, no := seen[id].Fact().(lacks); no {
					lacking++
				}
			}
			if lacking > 0 && lacking == len(sums) {
				return &Outcome{State: NA, Text: "the module is at none of the sources"}
			}
			for _, id := range sums {
				if seen[id].State == OK {
					return &Outcome{State: NA, Text: "the go command takes it from " + seen[id].Group}
				}
			}
			return nil
		}
		turn := func(out Outcome, seen Seen) Outcome {
			// It is asked because a source that may mirror it cannot be; and what keeps
			// that one from being reached may be the same.
			for _, id := range sums {
				if out.Because == "" && seen[id].State == Skip {
					out.Because = id
				}
			}
			for _, id := range all {
				if r := seen[id]; r.State == Fail && r.Code == out.Finding.Code {
					out.Because = r.ID
				}
			}
			switch out.Finding.Code {
			case finding.SourceDNS, finding.SourceConnectTimeout, finding.SourceRefused, finding.SourceNoRoute, finding.SourceTLSHandshake, finding.SourceReset:
				because := out.Because
				out = s.mean(Fail, finding.SumDBUnreachable, out.Subject, out.Text)
				out.Because = because
			}
			return out
		}
		w := way{id: "sumdb.direct", group: "Checksum database " + s.SumDB.Name, net: s.SumDB.Net, url: s.SumDB.URL, needs: needs[1:], after: slices.Concat(all, sums), gate: gate, turn: turn}
		if s.SumDB.Net != nil {
			checks = append(checks, s.steps(w)...)
			tls = append(tls, w.tls())
			hosts = append(hosts, w)
		}
		end := w.end()
		if s.SumDB.Net == nil {
			end = needs[1:]
		}
		name := w.id + ".name"
		if s.SumDB.Net == nil {
			name = needs[1]
		}
		answer := Check{ID: w.id + ".answer", Group: w.group, Title: "answer", Link: "checksums", Needs: end, After: slices.Concat(all, sums, []string{name})}
		answer.Run = func(ctx context.Context, seen Seen) Outcome {
			if o := gate(seen); o != nil {
				return *o
			}
			if s.SumDB.URL != nil {
				ctx = knowing(ctx, seen[name], s.SumDB.URL.Hostname())
			}
			out := s.sums(ctx, s.SumDB.Direct, s.sumAbout())
			if out.State == Fail {
				out = s.addressed(turn(out, seen))
			}
			return out
		}
		checks = append(checks, answer)
		ways = append(ways, answer.ID)
	}
	checks = append(checks, Check{ID: "supply.checksums", Group: "Supply line", Title: "modules can be verified", Link: "checksums", Needs: needs[1:], After: slices.Concat(ways, answers, []string{"machine.cached"}), Run: func(_ context.Context, seen Seen) Outcome {
		return s.verified(seen, sums, ways)
	}})
	var before []string
	for _, c := range checks {
		before = append(before, c.ID)
	}
	checks = append(checks, s.names(hosts, before)...)
	checks = append(checks, s.loopback(slices.Clone(before)))
	checks = append(checks, Check{ID: "machine.interception", Group: "Machine", Title: "one authority for all", Link: "encryption", After: tls, Run: func(_ context.Context, seen Seen) Outcome { return s.intercepted(seen) }})
	checks = append(checks, Check{ID: "machine.clock", Group: "Machine", Title: "clock", Link: "machine", After: slices.Concat(tls, answers, ways), Run: func(_ context.Context, seen Seen) Outcome { return s.clock(seen) }})
	return checks
}

// walk goes from source to source as the go command does.
func (s *Subject) walk(seen Seen) Outcome {
	if len(s.Sources) == 0 {
		return Outcome{State: NA, Text: "there are no sources"}
	}
	named := cmp.Or(s.Module.Path+"@"+s.Module.Version, "@")
	var failed []string // rows of sources that were gone past
	lacking := 0
	for i, src := range s.Sources {
		id := fmt.Sprintf("source.%d", i+1)
		switch src.Entry.Kind {
		case goenv.Direct:
			if lacking > 0 && len(failed) == 0 {
				return s.misled(s.mean(Warn, finding.NotFound, s.Module.Path, named+" is at none of the proxies, so the go command goes on to version control"), seen)
			}
			return Outcome{State: Unknown, Text: "the go command would go on to version control, which is not tried here"}
		case goenv.Off:
			if i == 0 && s.allCached() {
				return Outcome{State: OK, Text: "nothing may be downloaded, and the module cache has all that go.mod requires"}
			}
			if i == 0 {
				return s.mean(Fail, finding.ProxyOff, "GOPROXY=off", "nothing may be downloaded")
			}
			if len(failed) > 0 {
				return Outcome{State: Skip, Because: failed[0], Text: "the sources before off are in trouble"}
			}
			return s.behind(s.mean(Fail, finding.NotFound, s.Module.Path, named+" is at none of the sources, and the list ends in off"), seen)
		}
		answer := seen[id+".answer"]
		bad := ""
		for _, r := range []string{".answer", ".mod", ".zip"} {
			if row := seen[id+r]; row.ID != "" && !row.State.well() && bad == "" {
				bad = row.ID
			}
		}
		_, no := answer.Fact().(lacks)
		switch {
		case bad != "" && no: // a directory that is not there
			failed = append(failed, bad)
		case bad != "":
			failed = append(failed, bad)
			if !src.Entry.FallBackOnError {
				if seen[bad].State == Incomplete || seen[bad].State == Unknown {
					return Outcome{State: Unknown, Text: "it could not be told whether " + src.Entry.Name() + " serves modules"}
				}
				return Outcome{State: Skip, Because: bad, Text: "the go command stops at " + src.Entry.Name(), Finding: s.goneRound(seen, i)}
			}
		case no:
			lacking++
		default:
			if s.Module.Path == "" {
				return Outcome{State: NA, Text: src.Entry.Name() + " answers, and there is no module to ask for", Excuses: s.rowsOfOthers(i)}
			}
			return Outcome{State: OK, Text: named + " from " + src.Entry.Name(), Excuses: s.rowsOfOthers(i)}
		}
	}
	switch {
	case len(failed) > 0:
		return Outcome{State: Skip, Because: failed[0], Text: "no source that was reached has it"}
	case s.Module.Path == "":
		return Outcome{State: NA, Text: "there is no module to ask for"}
	}
	return s.behind(s.mean(Fail, finding.NotFound, s.Module.Path, named+" is at none of the sources"), seen)
}

// goneRound is the fix for a source that fails and stops the go command, where one
// behind it serves: bars in place of the commas between the two; but what does not answer
// at all is left out, since the go command would wait for it at each file. It is nil if
// there is none, or the list is not that of GOPROXY.
func (s *Subject) goneRound(seen Seen, stop int) *finding.Finding {
	v := s.Settings.Get("GOPROXY")
	list, err := goenv.ParseProxyList(v.Value)
	if err != nil || len(list) != len(s.Sources) || strings.Contains(v.Value, "'") {
		return nil
	}
	for i := range list {
		if list[i] != s.Sources[i].Entry {
			return nil
		}
	}
	for i := stop; i < len(list); i++ {
		id := fmt.Sprintf("source.%d", i+1)
		_, no := seen[id+".answer"].Fact().(lacks)
		if i > stop && !no && seen[id+".answer"].State == OK && seen[id+".mod"].State == OK && seen[id+".zip"].State == OK {
			f := &finding.Finding{Entry: finding.Entry{Mend: "let the go command go on to " + s.Sources[i].Entry.Name() + ", which serves modules: a bar goes on at any error, and a comma at 404 and 410 alone"}}
			var silent []string
			kept := slices.Clone(list[:stop])
			for k, entry := range list[stop:i] {
				if seen.silent(fmt.Sprintf("source.%d", stop+k+1)) {
					silent = append(silent, entry.Name())
					continue
				}
				entry.FallBackOnError = true
				kept = append(kept, entry)
			}
			if len(silent) > 0 {
				f.Mend = "leave out " + strings.Join(silent, " and ") + ", for which the go command would wait at each file: " + s.Sources[i].Entry.Name() + " serves modules"
			}
			if v.Redacted() != v.Value {
				if len(silent) > 0 {
					return nil
				}
				s.barUnseen(f, v, list, stop, i)
				return f
			}
			value := append(kept, list[i:]...).String()
			switch v.Layer {
			case goenv.Environ:
				f.Fix = []string{finding.Setting(s.Place, "GOPROXY", value)}
			default:
				f.Fix = []string{"go env -w GOPROXY='" + value + "'"}
				f.Changes = []finding.Change{{Kind: finding.SetGoEnv, Name: "GOPROXY", Value: value}}
			}
			return f
		}
	}
	return nil
}

// silent reports whether what is the matter with a source is that no answer comes: it
// takes a go command half a minute or more to find out.
func (s Seen) silent(source string) bool {
	for _, part := range []string{".answer", ".mod", ".zip"} {
		row := s[source+part]
		for range s { // no chain of consequences is longer
			switch row.Code {
			case finding.SourceConnectTimeout, finding.SourceStalled, finding.SourceSilent:
				return true
			}
			because, ok := s[row.Because]
			if !ok {
				break
			}
			row = because
		}
	}
	return false
}

// barUnseen is the fix of goneRound for a list with a password, which is not to stand in a
// report: the shell puts bars in place of the commas from the source at stop to that at to.
func (s *Subject) barUnseen(f *finding.Finding, v goenv.Value, list goenv.List, stop, to int) {
	f.Mend += "; it has a password, so it is put right without being shown"
	if s.Place != finding.Terminal || list.String() != v.Value { // else commas cannot be counted
		f.Mend += fmt.Sprintf(": write a bar for each comma between source %d and source %d", stop+1, to+1)
		return
	}
	before := 0 // commas that stay
	var bars []string
	for k, entry := range list[:to] {
		switch {
		case entry.FallBackOnError: // a bar
		case k < stop:
			before++
		default: // of those that are left, it is the same one each time
			bars = append(bars, "s/,/|/")
		}
	}
	if before > 0 {
		for k := range bars {
			bars[k] += fmt.Sprint(before + 1)
		}
	}
	set := "go env -w GOPROXY="
	if v.Layer == goenv.Environ {
		set = "export GOPROXY="
	}
	f.Fix = []string{set + `"$(go env GOPROXY | sed '` + strings.Join(bars, ";") + `')"`}
}

// rowsOfOthers are the rows of all sources but the one that serves: whatever is the
// matter with them, modules come.
func (s *Subject) rowsOfOthers(served int) (ids []string) {
	for i := range s.Sources {
		if i == served {
			ids = append(ids, fmt.Sprintf("source.%d.list", i+1)) // asked only for what go.mod does not name
			continue
		}
		for _, step := range []string{"forward", "name", "connect", "tls", "answer", "list", "mod", "zip"} {
			ids = append(ids, fmt.Sprintf("source.%d.%s", i+1, step))
		}
	}
	return ids
}

// verified says whether the checksums of modules can be had over any of the ways.
func (s *Subject) verified(seen Seen, mirrors, ways []string) Outcome {
	if o := s.noSums(); o != nil {
		return *cmp.Or(s.againstGoSum(seen), o)
	}
	if len(s.Sources) > 0 && s.Sources[0].Entry.Kind == goenv.Off {
		return Outcome{State: NA, Text: "nothing may be downloaded"}
	}
	var excuses []string
	by, because, proven := "", "", hashes{}
	for _, id := range ways {
		switch r := seen[id]; {
		case r.State == OK && by == "":
			by = r.Group
			proven, _ = r.Fact().(hashes)
		case r.State == Fail && r.Code == finding.SumDBUnreachable && slices.Contains(mirrors, id):
			excuses = append(excuses, id)
		}
		if r := seen[id]; because == "" && (r.State == Fail || r.State == Skip) {
			because = id
		}
	}
	for i := range s.Sources {
		for _, x := range []struct{ what, want string }{{"mod", proven.mod}, {"zip", proven.zip}} {
			r := seen[fmt.Sprintf("source.%d.%s", i+1, x.what)]
			if sum, _ := r.Fact().(string); x.want != "" && r.State == OK && sum != "" && sum != x.want {
				return s.mean(Fail, finding.GoSumDBMismatch, r.outcome.Subject, fmt.Sprintf("the .%s of %s@%s is %s, and the checksum database says %s", x.what, s.Module.Path, s.Module.Version, sum, x.want))
			}
		}
	}
	if out := cmp.Or(s.againstDatabase(proven, seen), s.againstGoSum(seen)); out != nil {
		return *out
	}
	switch {
	case by != "":
		return Outcome{State: OK, Text: "by " + by, Excuses: excuses}
	case because != "":
		return Outcome{State: Skip, Because: because, Text: "no way to the checksum database is well"}
	}
	return Outcome{State: NA, Text: "there is nothing to verify"}
}

// intercepted sees that one authority, which is not trusted, signed the certificates
// of hosts that have nothing to do with each other, or that these have one key.
func (s *Subject) intercepted(seen Seen) Outcome {
	type sign struct{ what, text string }
	hosts, rows := map[sign][]string{}, map[sign][]string{}
	for id, r := range seen {
		f, ok := r.Fact().(signed)
		if !ok || f.issuer == "" {
			continue
		}
		by := sign{f.issuer, fmt.Sprintf("%q, which is not trusted here, signed the certificates of", f.issuer)}
		key := sign{string(f.key[:]), "one key is in the certificates, not trusted here, of"}
		for _, x := range []sign{by, key} {
			if !slices.Contains(hosts[x], f.host) {
				hosts[x] = append(hosts[x], f.host)
				rows[x] = append(rows[x], id)
			}
		}
	}
	found := slices.SortedFunc(maps.Keys(hosts), func(a, b sign) int { return cmp.Or(len(hosts[b])-len(hosts[a]), cmp.Compare(a.text, b.text)) })
	if len(found) == 0 || len(hosts[found[0]]) < 2 {
		return Outcome{State: NA, Text: "nothing points to replaced certificates"}
	}
	names, text := hosts[found[0]], found[0].text
	slices.Sort(names)
	out := s.mean(Fail, finding.SourceTLSUnknownCA, names[0], fmt.Sprintf("%s %s: something on the way replaces them%s", text, strings.Join(names, " and "), inspector(found[0].what)))
	out.Subject, out.Explains = strings.Join(names, ", "), rows[found[0]]
	s.install(&out, s.Getenv("SSL_CERT_FILE"))
	return out
}

// maxSkew is how wrong a clock may be before it is called so.
const maxSkew = 5 * time.Minute

func (s *Subject) clock(seen Seen) Outcome {
	var expired []string
	for id, r := range seen {
		if r.Code == finding.SourceTLSExpired {
			expired = append(expired, id)
		}
	}
	slices.Sort(expired)
	wrong := func(text string) Outcome {
		out := s.mean(Fail, finding.ClockWrong, "", text)
		out.Explains = expired
		if len(expired) == 0 { // it costs nobody anything yet
			out.State = Warn
		}
		return out
	}
	if !s.Built.IsZero() && time.Now().Before(s.Built.Add(-24*time.Hour)) {
		return wrong(fmt.Sprintf("it says %s, which is before this program was built", stamp(time.Now())))
	}
	skews := s.Notes.skews()
	if len(skews) == 0 {
		if len(expired) > 0 {
			return Outcome{State: Unknown, Text: "no server that answered told the time"}
		}
		return Outcome{State: NA, Text: "no server that answered told the time"}
	}
	// Whoever is nearest is believed: a server's clock may be wrong too.
	near := slices.MinFunc(skews, func(a, b time.Duration) int { return cmp.Compare(a.Abs(), b.Abs()) })
	if near.Abs() <= maxSkew {
		return Outcome{State: OK, Text: "it agrees with that of the servers"}
	}
	than := "ahead of"
	if near < 0 {
		than = "behind"
	}
	return wrong(fmt.Sprintf("it is %v %s that of the servers", near.Abs().Round(time.Minute), than))
}
