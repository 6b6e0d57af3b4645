package upstream

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/modtest"
)

// piped is a Net of which both transports lead to h, in process.
func piped(t *testing.T, c NetConfig, h http.HandlerFunc) *Net {
	n := NewNet(c)
	n.open = modtest.Pipe(t, h)
	n.guarded = n.open
	return n
}

func get(ctx context.Context, n *Net) (*Answer, error) {
	return n.Get(ctx, "A", &url.URL{Scheme: "http", Host: "a.test", Path: "/x"})
}

// wait blocks a handler until its client is gone.
func wait(r *http.Request) { <-r.Context().Done() }

func TestAHeaderThatDoesNotComeIsGivenUpWhenTheBudgetIsSpent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := piped(t, NetConfig{Timeout: 30 * time.Second}, func(w http.ResponseWriter, r *http.Request) { wait(r) })
		start := time.Now()
		_, err := get(t.Context(), n)
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("gave up after %v", took)
		}
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Stage != StageHTTP || !errors.Is(err, ErrStalled) || !errors.Is(err, context.DeadlineExceeded) || e.Answered() || !strings.Contains(err.Error(), "no answer within 30s") {
			t.Errorf("Get = %v", err)
		}
	})
}

func TestTheStageOfAStallIsWhereItStalled(t *testing.T) {
	for _, tt := range []struct {
		url   string
		proxy bool
		dial  func(ctx context.Context, network, addr string) (net.Conn, error)
		want  Stage
	}{
		{"https://a.test/x", false, func(ctx context.Context, _, _ string) (net.Conn, error) {
			here, there := net.Pipe()
			go func() { io.Copy(io.Discard, there); there.Close() }() // swallows the handshake
			return here, nil
		}, StageTLS},
		{"http://a.test/x", false, func(ctx context.Context, _, _ string) (net.Conn, error) {
			here, there := net.Pipe()
			go func() { io.Copy(io.Discard, there); there.Close() }()
			return here, nil
		}, StageHTTP},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := NewNet(NetConfig{Timeout: 10 * time.Second, Connect: time.Minute})
			n.open.DialContext = tt.dial
			u, _ := url.Parse(tt.url)
			_, err := n.Get(t.Context(), "A", u)
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Stage != tt.want || !errors.Is(err, ErrStalled) {
				t.Errorf("%s: %#v, want stage %s", tt.url, e, tt.want)
			}
			n.Close()
		})
	}
}

func TestAConnectionThatIsNotMadeInTimeIsToldAsThat(t *testing.T) {
	ctx, stage := watch(t.Context(), false)
	d := net.Dialer{}
	if c, err := d.DialContext(ctx, "tcp", "127.0.0.1:1"); err == nil {
		c.Close()
	}
	if got := stage(); got != StageConnect {
		t.Errorf("while connecting the stage is %s", got)
	}
	ctx, stage = watch(t.Context(), true)
	if c, err := d.DialContext(ctx, "tcp", "127.0.0.1:1"); err == nil {
		c.Close()
	}
	if got := stage(); got != StageProxy {
		t.Errorf("while connecting to a forward proxy the stage is %s", got)
	}
	if e := classify("A", ErrStalled, StageConnect); e.Stage != StageConnect {
		t.Errorf("a stall while connecting is told as %s", e.Stage)
	}
	if e := classify("A", &net.DNSError{Err: "i/o timeout", Name: "a.test", IsTimeout: true}, StageHTTP); e.Stage != StageDNS {
		t.Errorf("a name server that is silent is told as %s", e.Stage)
	}
}

func TestABodyThatStandsStillIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := piped(t, NetConfig{Timeout: 30 * time.Second}, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(29 * time.Second) // the header is late, but has come
			w.Write(make([]byte, 100<<10))
			w.(http.Flusher).Flush()
			wait(r)
		})
		a, err := get(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		start := time.Now()
		k, err := io.Copy(io.Discard, a.Body)
		if took := time.Since(start); took != 30*time.Second || k != 100<<10 {
			t.Errorf("gave up after %v and %d bytes", took, k)
		}
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Stage != StageBody || !errors.Is(err, ErrStalled) || !e.Answered() || !strings.Contains(err.Error(), "stood still for 30s") {
			t.Errorf("Read = %v", err)
		}
		if _, err := a.Body.Read(make([]byte, 1)); !errors.Is(err, ErrStalled) {
			t.Errorf("a second Read = %v", err)
		}
	})
}

func TestADripIsNoProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := piped(t, NetConfig{Timeout: 30 * time.Second}, func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write([]byte("x")); err != nil {
					return
				}
				w.(http.Flusher).Flush()
				time.Sleep(time.Second)
			}
		})
		a, err := get(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		start := time.Now()
		_, err = io.Copy(io.Discard, a.Body)
		if took := time.Since(start); took < 30*time.Second || took > 32*time.Second {
			t.Errorf("gave up after %v", took)
		}
		if e, ok := errors.AsType[*Error](err); !ok || e.Stage != StageBody || !errors.Is(err, ErrStalled) || !strings.Contains(err.Error(), "bytes of the answer came in") {
			t.Errorf("Read = %v", err)
		}
	})
}

func TestASlowButSteadyBodyMayTakeMuchLongerThanTheBudget(t *testing.T) {
	for _, enc := range []string{"", "gzip"} {
		synctest.Test(t, func(t *testing.T) {
			const chunks = 600 // of 1 KiB, one a second: ten minutes with a budget of 30 seconds
			n := piped(t, NetConfig{Timeout: 30 * time.Second}, func(w http.ResponseWriter, r *http.Request) {
				var all bytes.Buffer
				for i := range chunks {
					all.Write(bytes.Repeat([]byte{byte(i)}, 1<<10))
				}
				body := all.Bytes()
				if enc == "" {
					w.Header().Set("Content-Length", fmt.Sprint(len(body)))
				}
				for len(body) > 0 {
					k := min(len(body), 1<<10)
					w.Write(body[:k])
					w.(http.Flusher).Flush()
					body = body[k:]
					time.Sleep(time.Second)
				}
			})
			a, err := get(t.Context(), n)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Body.Close()
			start := time.Now()
			k, err := io.Copy(io.Discard, a.Body)
			if err != nil || k != chunks<<10 || time.Since(start) < 9*time.Minute {
				t.Errorf("%d bytes after %v: %v", k, time.Since(start), err)
			}
		})
	}
}

func TestASlowReaderIsNotTheSourcesFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := piped(t, NetConfig{Timeout: 30 * time.Second}, func(w http.ResponseWriter, r *http.Request) {
			w.Write(make([]byte, 8<<10))
		})
		a, err := get(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		total := 0
		for {
			time.Sleep(40 * time.Second) // the disk that it is written to is slow
			k, err := a.Body.Read(make([]byte, 1<<10))
			total += k
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("after %d bytes: %v", total, err)
			}
		}
		if total != 8<<10 {
			t.Errorf("read %d bytes", total)
		}
	})
}

func TestAnEncodedBodyFailsAsThePlainOneWould(t *testing.T) {
	var whole bytes.Buffer
	z := gzip.NewWriter(&whole)
	z.Write(make([]byte, 1<<20))
	z.Close()
	synctest.Test(t, func(t *testing.T) {
		n := piped(t, NetConfig{Timeout: 30 * time.Second}, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(whole.Bytes()[:whole.Len()/2])
			w.(http.Flusher).Flush()
			wait(r)
		})
		a, err := get(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		if _, err := io.Copy(io.Discard, a.Body); !errors.Is(err, ErrStalled) || strings.Contains(err.Error(), "damaged") {
			t.Errorf("a stall reads as %v", err)
		}
		gone := errors.New("the client has gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		if a, err = get(ctx, n); err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		time.AfterFunc(time.Second, func() { cancel(gone) })
		if _, err := io.Copy(io.Discard, a.Body); err != gone {
			t.Errorf("a cancellation reads as %v", err)
		}
	})
}

func TestTheTextOfAnErrorIsNotWaitedForLong(t *testing.T) {
	for _, code := range []int{404, 302} {
		synctest.Test(t, func(t *testing.T) {
			n := piped(t, NetConfig{Timeout: time.Second}, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/end" {
					return
				}
				w.Header().Set("Content-Type", "text/plain")
				w.Header().Set("Location", "/end")
				w.WriteHeader(code)
				io.WriteString(w, "not ")
				w.(http.Flusher).Flush()
				wait(r)
			})
			start := time.Now()
			_, err := get(t.Context(), n)
			if code == 302 {
				if took := time.Since(start); err != nil || took > redirectBodyTime {
					t.Errorf("the body of a redirect cost %v: %v", took, err)
				}
				return
			}
			if took := time.Since(start); took > errorBodyTime {
				t.Errorf("the body of an error cost %v", took)
			}
			if e, ok := errors.AsType[*Error](err); !ok || e.Status != 404 || errors.Is(err, ErrStalled) || !strings.HasPrefix(err.Error(), "A: 404 Not Found") {
				t.Errorf("Get = %v; the status was known", err)
			}
		})
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := piped(t, NetConfig{Timeout: 30 * time.Second}, func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/404":
				http.NotFound(w, r)
			case "/br":
				w.Header().Set("Content-Encoding", "br")
				w.Write(make([]byte, 100<<10))
			case "/loop":
				http.Redirect(w, r, "/loop", http.StatusFound)
			case "/hang":
				wait(r)
			default:
				w.Write(make([]byte, 100<<10))
			}
		})
		synctest.Wait()
		before := bubbled()
		for _, path := range []string{"/", "/404", "/br", "/loop", "/hang"} {
			for _, read := range []int64{0, 10, 1 << 20} {
				a, err := n.Get(t.Context(), "A", &url.URL{Scheme: "http", Host: "a.test", Path: path})
				if err == nil {
					io.CopyN(io.Discard, a.Body, read)
					a.Body.Close()
					a.Body.Close()
				}
			}
		}
		n.Close()
		synctest.Wait()
		if now := bubbled(); now != before {
			t.Errorf("%d goroutines before, %d after", before, now)
		}
	})
}

// bubbled is the number of goroutines in this bubble, the only one.
func bubbled() int {
	buf := make([]byte, 1<<20)
	return bytes.Count(buf[:runtime.Stack(buf, true)], []byte("synctest bubble"))
}

func TestABodysTimerEndsWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := piped(t, NetConfig{Timeout: 30 * time.Second}, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "x") })
		a, err := get(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		b := a.Body.(*body)
		io.ReadAll(b)
		if b.idle.Stop() {
			t.Error("the timer runs although nobody reads")
		}
		b.Close()
		if b.idle.Stop() || b.ctx.Err() == nil {
			t.Error("the timer or the context outlives the body")
		}
	})
}

func TestAddressesOfOurOwnNetworkAreNotPublic(t *testing.T) {
	for _, s := range []string{
		"127.0.0.1", "127.255.0.1", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1", "169.254.169.254",
		"100.64.0.1", "100.127.255.255", "192.0.0.1", "198.18.0.1", "198.19.255.255", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::7f00:1", "::a00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:100.64.0.1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1",
		"64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:c0a8:1::1",
	} {
		for _, addr := range []string{net.JoinHostPort(s, "443"), s} {
			if err := checkPublic(addr); err == nil || !IsGuard(err) {
				t.Errorf("checkPublic(%s) = %v", addr, err)
			}
		}
		if checkPublicName(s) == nil {
			t.Errorf("checkPublicName(%s) = nil", s)
		}
	}
	for _, s := range []string{"1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "192.0.1.1", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::1", "::ffff:8.8.8.8"} {
		if err := checkPublic(net.JoinHostPort(s, "443")); err != nil {
			t.Errorf("checkPublic(%s) = %v", s, err)
		}
		if err := checkPublicName(s); err != nil {
			t.Errorf("checkPublicName(%s) = %v", s, err)
		}
	}
	for s, public := range map[string]bool{
		"storage.example.com": true, "localhost": false, "Localhost.": false, "x.localhost": false, "127.1": false, "0x7f.0.0.1": false,
		"2130706433": false, "017700000001": false, "1.2.3.4.": false, "example.0x7f": false, "0xexample.com": true, "4.example": true, "": false, ".": false,
	} {
		if err := checkPublicName(s); (err == nil) != public {
			t.Errorf("checkPublicName(%q) = %v", s, err)
		}
	}
	if checkPublic("storage.example.com:443") == nil {
		t.Error("a dialer's control function sees addresses; anything else is refused")
	}
}

// What a name leads to is known when it is dialled only.
func TestANameThatLeadsIntoOurOwnNetworkIsRefusedWhenItIsDialled(t *testing.T) {
	inside := modtest.Serve(t, http.NotFoundHandler())
	srv := modtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://storage.example.com/x", http.StatusFound)
	}))
	n := NewNet(NetConfig{})
	defer n.Close()
	dial := n.guarded.DialContext
	n.guarded.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr != "storage.example.com:80" {
			t.Errorf("dialled %s", addr)
		}
		return dial(ctx, network, inside.Addr) // so much for the name's address
	}
	u, _ := url.Parse(srv.URL)
	if _, err := n.Get(t.Context(), "A", u); !IsGuard(err) {
		t.Errorf("Get = %v", err)
	}
}

func FuzzPrintable(f *testing.F) {
	for _, s := range []string{"not found\n", "a\n\nb\r\n\tc", "\xff", "ä\x00", strings.Repeat("ä\n", 30), "\u202e", strings.Repeat("€", errorBody)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		data = data[:min(len(data), errorBody)]
		text := printable(data)
		if text == "" {
			return
		}
		lines := strings.Split(text, "\n")
		if len(lines) > 8 || len(text) > errorBody {
			t.Fatalf("%d lines, %d bytes", len(lines), len(text))
		}
		for _, l := range lines {
			if l == "" || l != strings.TrimSpace(l) || strings.ContainsFunc(l, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\u202e' }) {
				t.Fatalf("%q has the line %q", text, l)
			}
		}
		if printable([]byte(text)) != text && len(text) < errorBody-4 {
			t.Fatalf("printable is not idempotent: %q, %q", text, printable([]byte(text)))
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, s := range []string{"", "1", "-1", "0", "1e9", "999999999999999999999", "Fri, 02 Jan 2026 03:05:05 GMT", "Friday, 02-Jan-26 03:05:05 GMT", "Fri Jan  2 03:05:05 2026"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, v string) {
		if d := retryAfter(http.Header{"Retry-After": {v}}, now); d < 0 || d > 24*time.Hour {
			t.Fatalf("retryAfter(%q) = %v", v, d)
		}
	})
}

// Whatever is asked for, the server decodes the path that was meant.
func FuzzURL(f *testing.F) {
	for _, s := range [][2]string{
		{"", "rsc.io/quote/@v/v1.5.2.mod"}, {"/p/", "github.com/!azure/x/@v/list"}, {"/a%2Fb", "x.test/@latest"}, {"/a b//", "x.test/@v/feature/x.info"},
		{"/%", "x.test/@v/a%2fb.info"}, {"/;", "x.test/@v/a b#c.info"}, {"//x", "x.test/@v/v1.0.0+incompatible.zip"},
	} {
		f.Add(s[0], s[1])
	}
	var base *url.URL
	f.Fuzz(func(t *testing.T, prefix, p string) {
		var err error
		if base, err = url.Parse("http://proxy.example.com" + prefix); err != nil || base.Host != "proxy.example.com" {
			return
		}
		s := NewHTTPSource(NewNet(NetConfig{}), base)
		want := strings.TrimRight(base.Path, "/") + "/" + p
		check := func(u *url.URL) {
			t.Helper()
			req, err := http.NewRequest(http.MethodGet, u.String(), nil)
			if err != nil {
				t.Fatalf("%q: %v", u, err)
			}
			var b bytes.Buffer
			if err := req.Write(&b); err != nil {
				t.Fatalf("%q: %v", u, err)
			}
			line, _, _ := strings.Cut(b.String(), "\r\n")
			uri := strings.TrimSuffix(strings.TrimPrefix(line, "GET "), " HTTP/1.1")
			seen, err := url.ParseRequestURI(uri)
			if err != nil {
				t.Fatalf("%q is sent as %q: %v", u, uri, err)
			}
			if seen.Path != want {
				t.Fatalf("the server sees %q, want %q (sent as %q)", seen.Path, want, uri)
			}
		}
		if req, err := goproxy.ParsePath(p); err == nil {
			u := s.url(req)
			check(u)
			if esc, rev, ok := strings.Cut(p, "/@v/"); ok && req.IsQuery() && strings.Contains(rev, "/") {
				if sent := u.EscapedPath(); !strings.HasSuffix(sent, "/@v/"+url.PathEscape(rev)) {
					t.Fatalf("the revision %q of %q is sent as %q, with bare slashes", rev, esc, sent)
				}
			}
		}
		if !strings.HasPrefix(p, "/") {
			check(s.at(p, p))
		}
		if n := s.Name(); strings.ContainsAny(n, "?#@") && !strings.ContainsAny(base.EscapedPath(), "@") {
			t.Fatalf("the name %q holds more than scheme, host and path", n)
		}
	})
}

func TestARequestOfNoModuleAsksForNothingOfOneElse(t *testing.T) {
	s := NewHTTPSource(NewNet(NetConfig{}), &url.URL{Scheme: "https", Host: "a.test"})
	req := goproxy.Request{Kind: goproxy.Info, Module: module.Version{Path: "x.test", Version: "a/../../b"}}
	if req.Path() != "" || s.url(req).Path != "/" {
		t.Errorf("%v is asked for at %s", req, s.url(req))
	}
}

func TestAPieceHasAConnectionOfItsOwnWhereOthersShareOne(t *testing.T) {
	s := modtest.ServeH2TLS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }))
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	n := NewNet(NetConfig{TLS: &tls.Config{RootCAs: s.CA}})
	t.Cleanup(n.Close)
	for want, over := range map[string]lines{"HTTP/2.0": n.lines, "HTTP/1.1": n.apart} {
		_, b, serr := n.send(t.Context(), "A", u, nil, over, func() {})
		if serr != nil {
			t.Fatal(serr)
		}
		if said, err := io.ReadAll(b); err != nil || string(said) != want {
			t.Errorf("%q, %v; want %s", said, err, want)
		}
		b.Close()
	}
}
