package upstream_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/upstream"
)

func newNet(t *testing.T, c upstream.NetConfig) *upstream.Net {
	n := upstream.NewNet(c)
	t.Cleanup(n.Close)
	return n
}

func parse(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// get reads the .mod of rsc.io/quote from the proxy at base.
func get(t *testing.T, c upstream.NetConfig, base string) (string, error) {
	t.Helper()
	a, err := upstream.NewHTTPSource(newNet(t, c), parse(t, base)).Get(t.Context(), quote)
	if err != nil {
		return "", err
	}
	defer a.Body.Close()
	data, err := io.ReadAll(a.Body)
	if err == nil && a.Size >= 0 && a.Size != int64(len(data)) {
		t.Errorf("the answer is said to have %d bytes and has %d", a.Size, len(data))
	}
	return string(data), err
}

// wantError checks the one error that a source may give.
func wantError(t *testing.T, err error, stage upstream.Stage, status int, words ...string) *upstream.Error {
	t.Helper()
	e, ok := errors.AsType[*upstream.Error](err)
	if !ok {
		t.Fatalf("the error is %T, not *Error: %v", err, err)
	}
	if e.Stage != stage || e.Status != status {
		t.Errorf("stage %q, status %d; want %q, %d: %v", e.Stage, e.Status, stage, status, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error %q does not say %q", err, w)
		}
	}
	return e
}

func serve(t *testing.T, f http.HandlerFunc) *modtest.Server { return modtest.Serve(t, f) }

func text(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, body) }
}

func TestAProxyIsAskedForTheProtocolsPaths(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.RequestURI)
	})
	n := newNet(t, upstream.NetConfig{})
	req := func(k goproxy.Kind, path, version string) goproxy.Request {
		return goproxy.Request{Kind: k, Module: module.Version{Path: path, Version: version}}
	}
	for _, tt := range []struct {
		base string
		req  goproxy.Request
		want string
	}{
		{"", req(goproxy.List, "rsc.io/quote", ""), "/rsc.io/quote/@v/list"},
		{"/", req(goproxy.Latest, "rsc.io/quote", ""), "/rsc.io/quote/@latest"},
		{"/a/goproxy/", req(goproxy.Zip, "rsc.io/quote/v3", "v3.1.0"), "/a/goproxy/rsc.io/quote/v3/@v/v3.1.0.zip"},
		{"/a%2Fb", req(goproxy.Mod, "rsc.io/quote", "v1.5.2"), "/a%2Fb/rsc.io/quote/@v/v1.5.2.mod"},
		{"/a b", req(goproxy.Mod, "rsc.io/quote", "v1.5.2"), "/a%20b/rsc.io/quote/@v/v1.5.2.mod"},
		{"", req(goproxy.Info, "github.com/Azure/azure-sdk", "v1.0.0-RC1"), "/github.com/%21azure/azure-sdk/@v/v1.0.0-%21r%21c1.info"},
		{"", req(goproxy.Mod, "rsc.io/quote", "v2.0.0+incompatible"), "/rsc.io/quote/@v/v2.0.0+incompatible.mod"},
		{"/p", req(goproxy.Info, "rsc.io/quote", "feature/New"), "/p/rsc.io/quote/@v/feature%2F%21new.info"},
		{"/p", req(goproxy.Info, "rsc.io/quote", "a%b#c"), "/p/rsc.io/quote/@v/a%25b%23c.info"},
		{"/p?token=secret#x", req(goproxy.List, "rsc.io/quote", ""), "/p/rsc.io/quote/@v/list?token=secret"},
	} {
		seen = nil
		s := upstream.NewHTTPSource(n, parse(t, srv.URL+tt.base))
		a, err := s.Get(t.Context(), tt.req)
		if err != nil {
			t.Errorf("%s below %q: %v", tt.req, tt.base, err)
			continue
		}
		a.Body.Close()
		if !slices.Equal(seen, []string{tt.want}) {
			t.Errorf("%s below %q asks for %v, want %s", tt.req, tt.base, seen, tt.want)
		}
		if strings.Contains(s.Name(), "secret") || strings.Contains(s.Name(), "#") {
			t.Errorf("the name %s shows too much", s.Name())
		}
	}
	for _, p := range []string{"/sumdb/sum.golang.org/lookup/github.com/!azure/x@v1.0.0+incompatible", "sumdb/sum.golang.org/tile/8/0/x001/234.p/5"} {
		seen = nil
		a, err := upstream.NewHTTPSource(n, parse(t, srv.URL+"/p/")).GetPath(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		a.Body.Close()
		if want := "/p/" + strings.TrimPrefix(p, "/"); !slices.Equal(seen, []string{want}) {
			t.Errorf("%s asks for %v, want %s", p, seen, want)
		}
	}
}

func TestTheHeadersOfARequest(t *testing.T) {
	var got http.Header
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) { got = r.Header.Clone() })
	if _, err := get(t, upstream.NetConfig{UserAgent: "sluice/1", Via: "sluice-abc"}, srv.URL); err != nil {
		t.Fatal(err)
	}
	if got.Get("User-Agent") != "sluice/1" || got.Get("Via") != "1.1 sluice-abc" || got.Get("Authorization") != "" || got.Get("Accept-Encoding") != "" {
		t.Errorf("sent %v", got)
	}
}

func TestCredentialsStayWithTheOriginTheyWereGivenFor(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]string{}
	note := func(name string, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		user, pw, _ := r.BasicAuth()
		seen[name+r.URL.Path] = user + ":" + pw
	}
	var a, b *modtest.Server
	b = serve(t, func(w http.ResponseWriter, r *http.Request) {
		note("b", r)
		if r.URL.Path == "/back" {
			http.Redirect(w, r, a.URL+"/end", http.StatusFound)
			return
		}
		http.Redirect(w, r, strings.Replace(b.URL, "http://", "http://mallory:x@", 1)+"/back", http.StatusFound)
	})
	a = serve(t, func(w http.ResponseWriter, r *http.Request) {
		note("a", r)
		switch r.URL.Path {
		case "/end":
		case "/same":
			http.Redirect(w, r, b.URL+"/other", http.StatusFound)
		default:
			http.Redirect(w, r, "/same", http.StatusFound)
		}
	})
	base := strings.Replace(a.URL, "http://", "http://ann:pa%40ss@", 1)
	if _, err := get(t, upstream.NetConfig{Named: []string{b.Addr}}, base); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a/rsc.io/quote/@v/v1.5.2.mod": "ann:pa@ss", "a/same": "ann:pa@ss", "b/other": ":", "b/back": ":", "a/end": "ann:pa@ss"}
	for k, v := range want {
		if seen[k] != v {
			t.Errorf("%s was sent %q, want %q", k, seen[k], v)
		}
	}
	s := upstream.NewHTTPSource(newNet(t, upstream.NetConfig{}), parse(t, base))
	if s.Name() != a.URL {
		t.Errorf("the name is %s, want %s", s.Name(), a.URL)
	}
	a.Stop()
	if _, err := s.Get(t.Context(), quote); err == nil || strings.Contains(err.Error(), "ss@") || strings.Contains(err.Error(), "ann") {
		t.Errorf("the error shows credentials: %v", err)
	}
}

func TestRedirectsAreFollowed(t *testing.T) {
	for _, code := range []int{301, 302, 303, 307, 308} {
		for _, where := range []string{"absolute", "/rooted?sig=a%2Fb", "relative"} {
			t.Run(fmt.Sprint(code, where), func(t *testing.T) {
				var end string
				var srv *modtest.Server
				srv = serve(t, func(w http.ResponseWriter, r *http.Request) {
					if !strings.HasSuffix(r.URL.Path, ".mod") {
						end = r.Method + " " + r.RequestURI
						io.WriteString(w, "module rsc.io/quote\n")
						return
					}
					loc := where
					if loc == "absolute" {
						loc = srv.URL + "/absolute"
					}
					w.Header().Set("Location", loc)
					w.WriteHeader(code)
				})
				data, err := get(t, upstream.NetConfig{}, srv.URL+"/p")
				if err != nil || data != "module rsc.io/quote\n" {
					t.Fatalf("got %q, %v", data, err)
				}
				want := map[string]string{"absolute": "GET /absolute", "relative": "GET /p/rsc.io/quote/@v/relative"}[where]
				if want == "" {
					want = "GET " + where
				}
				if end != want {
					t.Errorf("ended at %s, want %s", end, want)
				}
			})
		}
	}
}

func TestARedirectThatLeadsNowhereIsAnAnswerAndNoNotFound(t *testing.T) {
	dead := serve(t, nil)
	dead.Stop()
	for name, tt := range map[string]struct {
		loc   string
		stage upstream.Stage
		words []string
	}{
		"no Location":      {"", upstream.StageHTTP, []string{"301 Moved Permanently", "Location"}},
		"broken Location":  {"http://[::1", upstream.StageHTTP, []string{"Location"}},
		"no host":          {"https:///x", upstream.StageHTTP, []string{"Location"}},
		"another scheme":   {"ftp://a.test/x", upstream.StageHTTP, []string{"ftp", "neither https nor http"}},
		"file":             {"file:///etc/passwd", upstream.StageHTTP, []string{"file"}},
		"a loop":           {"/rsc.io/quote/@v/v1.5.2.mod", upstream.StageHTTP, []string{"redirected more than 10 times"}},
		"a dead host":      {dead.URL + "/x", upstream.StageConnect, []string{"connection refused"}},
		"a private host":   {"http://10.0.0.1/x", upstream.StageHTTP, []string{"10.0.0.1", "sources.redirects"}},
		"itself, elsewher": {"http://localhost:1/x", upstream.StageHTTP, []string{"sources.redirects"}},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
				asked++
				if tt.loc != "" {
					w.Header().Set("Location", tt.loc)
				}
				w.WriteHeader(http.StatusMovedPermanently)
			})
			_, err := get(t, upstream.NetConfig{Named: []string{dead.Addr}}, srv.URL)
			e := wantError(t, err, tt.stage, 0, tt.words...)
			if !e.Answered() {
				t.Error("a source that redirects has answered: it may have what was asked for")
			}
			if asked > 11 {
				t.Errorf("asked %d times", asked)
			}
		})
	}
}

func TestEncryptionIsNotGivenUpOnTheWay(t *testing.T) {
	plain := serve(t, text("module rsc.io/quote\n"))
	srv := modtest.ServeH2TLS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, plain.URL+"/x", http.StatusFound)
	}))
	_, err := get(t, upstream.NetConfig{TLS: &tls.Config{RootCAs: srv.CA}, Named: []string{plain.Addr}}, srv.URL)
	wantError(t, err, upstream.StageHTTP, 0, "redirected from https to http", plain.Addr)
}

func TestARedirectIntoOurOwnNetworkNeedsAName(t *testing.T) {
	inside := serve(t, text("module rsc.io/quote\n"))
	_, port, _ := net.SplitHostPort(inside.Addr)
	for name, host := range map[string]string{
		"address":       "127.0.0.1",
		"name":          "localhost",
		"mapped":        "[::ffff:127.0.0.1]",
		"unspecified":   "0.0.0.0",
		"loopback 6":    "[::1]",
		"nat64":         "[64:ff9b::7f00:1]",
		"link-local":    "169.254.169.254",
		"private":       "192.168.1.1",
		"carrier-grade": "100.64.0.1",
		"unique local":  "[fd00::1]",
		"other":         "127.8.8.8",
	} {
		t.Run(name, func(t *testing.T) {
			host := host + ":" + port
			srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://"+host+"/x", http.StatusFound)
			})
			_, err := get(t, upstream.NetConfig{}, srv.URL)
			wantError(t, err, upstream.StageHTTP, 0, "sources.redirects")
			if !upstream.IsGuard(err) {
				t.Errorf("IsGuard(%v) = false", err)
			}
			if name != "address" && name != "name" {
				return
			}
			data, err := get(t, upstream.NetConfig{Named: []string{strings.ToUpper(host)}}, srv.URL)
			if err != nil || data != "module rsc.io/quote\n" {
				t.Errorf("a host that is named is refused: %v", err)
			}
			if _, err := get(t, upstream.NetConfig{Named: []string{host + "0"}}, srv.URL); !upstream.IsGuard(err) {
				t.Errorf("another port was named, and yet: %v", err)
			}
		})
	}
	if upstream.IsGuard(errors.New("x")) {
		t.Error("IsGuard knows any error")
	}
}

// A forward is a forward proxy for tests.
type forward struct {
	mu      sync.Mutex
	asked   []string
	connect int // status of CONNECT if not 200
}

func (f *forward) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked = append(f.asked, r.Method+" "+r.Host+" "+r.Header.Get("Proxy-Authorization"))
	f.mu.Unlock()
	switch {
	case f.connect != 0:
		w.Header().Set("Content-Type", "text/plain")
		http.Error(w, "log in first", f.connect)
	case r.Method == http.MethodConnect:
		there, err := net.Dial("tcp", r.Host)
		if err != nil {
			http.Error(w, "no", http.StatusBadGateway)
			return
		}
		defer there.Close()
		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer here.Close()
		io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
		go io.Copy(there, here) // ends when either is closed
		io.Copy(here, there)
	default:
		(&httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}}).ServeHTTP(w, r)
	}
}

func TestAForwardProxyIsUsedForBothSchemes(t *testing.T) {
	f := &forward{}
	fp := modtest.Serve(t, f)
	through := http.ProxyURL(parse(t, strings.Replace(fp.URL, "http://", "http://ann:pw@", 1)))
	plain := serve(t, text("plain"))
	secure := modtest.ServeH2TLS(t, text("secure"))
	c := upstream.NetConfig{Proxy: through, TLS: &tls.Config{RootCAs: secure.CA}}
	for base, want := range map[string]string{plain.URL: "plain", secure.URL: "secure"} {
		if data, err := get(t, c, base); err != nil || data != want {
			t.Errorf("through the forward proxy: %q, %v", data, err)
		}
	}
	if len(f.asked) != 2 || !strings.Contains(strings.Join(f.asked, " "), "CONNECT "+secure.Addr+" Basic ") {
		t.Errorf("the forward proxy was asked %v", f.asked)
	}
}

func TestAForwardProxysRefusalIsItsOwn(t *testing.T) {
	secure := modtest.ServeH2TLS(t, text("secure"))
	plain := serve(t, text("plain"))
	for _, code := range []int{407, 403, 502} {
		fp := modtest.Serve(t, &forward{connect: code})
		c := upstream.NetConfig{Proxy: http.ProxyURL(parse(t, strings.Replace(fp.URL, "http://", "http://ann:pw@", 1)))}
		_, err := get(t, c, secure.URL)
		e := wantError(t, err, upstream.StageProxy, 0, http.StatusText(code), fp.Addr)
		if strings.Contains(err.Error(), "ann") || e.Answered() {
			t.Errorf("%v; answered: %v", err, e.Answered())
		}
		_, err = get(t, c, plain.URL)
		if stage := map[bool]upstream.Stage{true: upstream.StageProxy, false: upstream.StageHTTP}[code == 407]; true {
			wantError(t, err, stage, code, http.StatusText(code), "log in first")
		}
	}
	dead := serve(t, nil)
	dead.Stop()
	for _, base := range []string{plain.URL, secure.URL} {
		_, err := get(t, upstream.NetConfig{Proxy: http.ProxyURL(parse(t, dead.URL))}, base)
		wantError(t, err, upstream.StageProxy, 0, "connection refused")
	}
}

func TestBehindAForwardProxyTheNameOfARedirectIsChecked(t *testing.T) {
	f := &forward{}
	fp := modtest.Serve(t, f)
	inside := serve(t, text("inside"))
	_, port, _ := net.SplitHostPort(inside.Addr)
	for _, host := range []string{"127.0.0.1", "[::1]", "[::ffff:10.0.0.1]", "localhost", "LOCALHOST.", "a.localhost", "127.1", "2130706433", "0x7f.1", "0x7f000001"} {
		srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+host+":"+port+"/x", http.StatusFound)
		})
		f.asked = nil
		_, err := get(t, upstream.NetConfig{Proxy: http.ProxyURL(parse(t, fp.URL))}, srv.URL)
		if !upstream.IsGuard(err) || len(f.asked) != 1 {
			t.Errorf("redirected to %s: %v; the forward proxy was asked %v", host, err, f.asked)
		}
	}
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, inside.URL+"/x", http.StatusFound) })
	data, err := get(t, upstream.NetConfig{Proxy: http.ProxyURL(parse(t, fp.URL)), Named: []string{inside.Addr}}, srv.URL)
	if err != nil || data != "inside" {
		t.Errorf("a named host behind a forward proxy: %q, %v", data, err)
	}
}

func encoded(t *testing.T, enc, data string) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch enc {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "zlib":
		w = zlib.NewWriter(&b)
	case "flate":
		w, _ = flate.NewWriter(&b, 6)
	default:
		return []byte(data)
	}
	io.WriteString(w, data)
	w.Close()
	return b.Bytes()
}

func TestAnEncodedAnswerIsDecoded(t *testing.T) {
	mod := "module rsc.io/quote\n" + strings.Repeat("// long\n", 10000)
	for _, tt := range []struct {
		header []string
		how    string
		want   string
	}{
		{[]string{"gzip"}, "gzip", mod},
		{[]string{"X-GZip"}, "gzip", mod},
		{[]string{"deflate"}, "zlib", mod},
		{[]string{"deflate"}, "flate", mod},
		{[]string{" identity "}, "", mod},
		{[]string{""}, "", mod},
		{[]string{"gzip"}, "gzip", ""},
		{[]string{"gzip"}, "", ""},
		{[]string{"deflate"}, "zlib", ""},
		{[]string{"deflate"}, "flate", ""},
		{[]string{"deflate"}, "", ""},
	} {
		srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Content-Encoding"] = tt.header
			w.Write(encoded(t, tt.how, tt.want))
		})
		data, err := get(t, upstream.NetConfig{}, srv.URL)
		if err != nil || data != tt.want {
			t.Errorf("%v as %s: %d bytes, %v; want %d", tt.header, tt.how, len(data), err, len(tt.want))
		}
	}
	for _, header := range [][]string{{"br"}, {"gzip, gzip"}, {"identity", "zstd"}} {
		srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Content-Encoding"] = header
			io.WriteString(w, mod)
		})
		_, err := get(t, upstream.NetConfig{}, srv.URL)
		wantError(t, err, upstream.StageContent, 0, header[len(header)-1], "nobody asked for")
	}
}

func TestADamagedEncodingIsAFailureAndNoShortAnswer(t *testing.T) {
	mod := strings.Repeat("// long, and not too regular\n", 100)
	for _, how := range []string{"gzip", "zlib", "flate"} {
		whole := encoded(t, how, mod)
		for _, n := range []int{1, 2, 9, len(whole) / 2, len(whole) - 1} {
			srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Encoding", strings.NewReplacer("zlib", "deflate", "flate", "deflate").Replace(how))
				w.Write(whole[:n])
			})
			data, err := get(t, upstream.NetConfig{}, srv.URL)
			if err == nil {
				t.Errorf("%s cut at %d of %d reads as %d bytes without an error", how, n, len(whole), len(data))
				continue
			}
			wantError(t, err, upstream.StageBody, 0, "encoding is damaged")
		}
	}
	// A cut line below the encoding is told as that.
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		whole := encoded(t, "gzip", mod)
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Length", fmt.Sprint(len(whole)))
		w.Write(whole[:len(whole)/2])
	})
	_, err := get(t, upstream.NetConfig{}, srv.URL)
	wantError(t, err, upstream.StageBody, 0, "broke off midway")
}

func TestAnAnswerThatIsCutIsAFailure(t *testing.T) {
	w := modtest.New(t)
	mod := w.Add("rsc.io/quote", "v1.5.2", nil)
	for _, f := range []string{"cut=0.5", "cut-chunked=0.5", "reset=0.5"} {
		fault, err := faults.Parse(f)
		if err != nil {
			t.Fatal(err)
		}
		for name, srv := range map[string]*modtest.Server{
			"1.1": modtest.Serve(t, faults.Handler(w.Handler(), faults.Always(fault))),
			"2":   modtest.ServeH2TLS(t, faults.Handler(w.Handler(), faults.Always(fault))),
		} {
			t.Run(f+"/"+name, func(t *testing.T) {
				_, err := get(t, upstream.NetConfig{TLS: &tls.Config{RootCAs: srv.CA}}, srv.URL)
				if e := wantError(t, err, upstream.StageBody, 0, "broke off midway"); errors.Is(e, fs.ErrNotExist) {
					t.Error("it matches fs.ErrNotExist")
				}
			})
		}
	}
	srv := modtest.Serve(t, w.Handler())
	if data, err := get(t, upstream.NetConfig{}, srv.URL); err != nil || data != string(w.Mod(mod)) {
		t.Errorf("unspoiled: %q, %v", data, err)
	}
}

func TestEveryStatusButOKIsAnError(t *testing.T) {
	for _, code := range []int{201, 202, 203, 204, 206, 300, 304, 305, 400, 401, 403, 404, 410, 418, 429, 451, 500, 502, 503, 504, 599} {
		srv := serve(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(code) })
		_, err := get(t, upstream.NetConfig{}, srv.URL)
		stage := upstream.StageHTTP
		if code < 300 {
			stage = upstream.StageContent
		}
		e := wantError(t, err, stage, code, fmt.Sprint(code))
		if !e.Answered() || errors.Is(err, fs.ErrNotExist) != (code == 404 || code == 410) {
			t.Errorf("%d: answered %v, missing %v", code, e.Answered(), errors.Is(err, fs.ErrNotExist))
		}
	}
}

func TestOnlyPlainTextIsQuoted(t *testing.T) {
	for _, tt := range []struct{ ctype, body, want string }{
		{"text/plain", "not found: no such module\n", "not found: no such module"},
		{"text/plain; charset=UTF-8", "nicht gefunden: Müll\n\nzweite Zeile\n", "nicht gefunden: Müll\nzweite Zeile"},
		{"text/plain; charset=us-ascii", "a\tb\r\n", "a b"},
		{"text/plain; charset=iso-8859-1", "a", ""},
		{"text/plain", "a\x1b[31mred", ""},
		{"text/plain", "a\u202eb", ""},
		{"text/plain", "\xff\xfe", ""},
		{"text/html", "<html>login</html>", ""},
		{"application/json", `{"error":1}`, ""},
		{"", "looks like text", ""},
		{"text/plain", strings.Repeat("line\n", 20), strings.TrimSuffix(strings.Repeat("line\n", 8), "\n")},
		{"text/plain", strings.Repeat("ä", 4000), strings.Repeat("ä", 2048)},
		{"text/plain", "x" + strings.Repeat("ä", 4000), "x" + strings.Repeat("ä", 2047)},
	} {
		srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Content-Type"] = []string{tt.ctype}
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, tt.body)
		})
		_, err := get(t, upstream.NetConfig{}, srv.URL)
		if e := wantError(t, err, upstream.StageHTTP, 403); e.Text != tt.want {
			t.Errorf("%s %.20q is quoted as %.30q, want %.30q", tt.ctype, tt.body, e.Text, tt.want)
		}
	}
}

func TestRetryAfterIsReadInBothForms(t *testing.T) {
	for v, want := range map[string][2]time.Duration{
		"7": {7 * time.Second, 7 * time.Second},
		time.Now().Add(time.Hour).UTC().Format(http.TimeFormat): {50 * time.Minute, time.Hour},
		"":                              {},
		"soon":                          {},
		"-1":                            {},
		"99999999999999999999999":       {24 * time.Hour, 24 * time.Hour},
		"Fri, 31 Dec 1999 23:59:59 GMT": {},
		"Fri, 31 Dec 2199 23:59:59 GMT": {24 * time.Hour, 24 * time.Hour},
	} {
		srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", v)
			w.WriteHeader(http.StatusServiceUnavailable)
		})
		_, err := get(t, upstream.NetConfig{}, srv.URL)
		if e := wantError(t, err, upstream.StageHTTP, 503); e.RetryAfter < want[0] || e.RetryAfter > want[1] {
			t.Errorf("Retry-After %q is read as %v", v, e.RetryAfter)
		}
	}
}

// certificate makes a server certificate and the pool that trusts it.
func certificate(t *testing.T, host string, until time.Time) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, DNSNames: []string{host}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: until.Add(-48 * time.Hour), NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// listen accepts connections until the test ends.
func listen(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); f(c) })
		}
	})
	return ln.Addr().String()
}

func TestAFailureToConnectIsToldByItsStage(t *testing.T) {
	t.Run("no such name", func(t *testing.T) {
		// A label that is too long is refused by the resolver itself.
		_, err := get(t, upstream.NetConfig{}, "http://"+strings.Repeat("a", 64)+".test")
		e := wantError(t, err, upstream.StageDNS, 0, "no such host")
		if e.Answered() {
			t.Error("nobody answered")
		}
	})
	t.Run("refused", func(t *testing.T) {
		dead := serve(t, nil)
		dead.Stop()
		_, err := get(t, upstream.NetConfig{}, dead.URL)
		if e := wantError(t, err, upstream.StageConnect, 0, "connection refused"); !errors.Is(e, syscall.ECONNREFUSED) || e.Answered() {
			t.Errorf("%v", err)
		}
	})
	secure := modtest.ServeH2TLS(t, text("x"))
	t.Run("unknown authority", func(t *testing.T) {
		_, err := get(t, upstream.NetConfig{}, secure.URL)
		wantError(t, err, upstream.StageTLS, 0, "unknown authority")
		if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok {
			t.Errorf("%v is no UnknownAuthorityError", err)
		}
	})
	handshake := func(cert tls.Certificate) string {
		return listen(t, func(c net.Conn) { tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}}).Handshake() })
	}
	t.Run("expired", func(t *testing.T) {
		cert, pool := certificate(t, "localhost", time.Now().Add(-time.Hour))
		_, port, _ := net.SplitHostPort(handshake(cert))
		_, err := get(t, upstream.NetConfig{TLS: &tls.Config{RootCAs: pool}}, "https://localhost:"+port)
		wantError(t, err, upstream.StageTLS, 0, "expired")
		if e, ok := errors.AsType[x509.CertificateInvalidError](err); !ok || e.Reason != x509.Expired {
			t.Errorf("%v is no expiry", err)
		}
	})
	t.Run("another host's certificate", func(t *testing.T) {
		cert, pool := certificate(t, "other.test", time.Now().Add(time.Hour))
		_, port, _ := net.SplitHostPort(handshake(cert))
		_, err := get(t, upstream.NetConfig{TLS: &tls.Config{RootCAs: pool}}, "https://localhost:"+port)
		wantError(t, err, upstream.StageTLS, 0, "other.test")
		if _, ok := errors.AsType[x509.HostnameError](err); !ok {
			t.Errorf("%v is no HostnameError", err)
		}
	})
	for name, f := range map[string]func(net.Conn){
		"garbage": func(c net.Conn) { io.WriteString(c, "220 mail.test ESMTP\r\n"); c.Read(make([]byte, 1)) },
		"closed":  func(c net.Conn) { c.Read(make([]byte, 4096)) },
		"reset":   func(c net.Conn) { c.Read(make([]byte, 1)); c.(*net.TCPConn).SetLinger(0) },
		"refused with alert": func(c net.Conn) {
			tls.Server(c, &tls.Config{MinVersion: tls.VersionTLS13, CipherSuites: nil}).Handshake()
		},
	} {
		t.Run("handshake "+name, func(t *testing.T) {
			_, err := get(t, upstream.NetConfig{}, "https://"+listen(t, f))
			if e := wantError(t, err, upstream.StageTLS, 0); e.Answered() {
				t.Error("nobody answered")
			}
		})
	}
	t.Run("no HTTP", func(t *testing.T) {
		_, err := get(t, upstream.NetConfig{}, "http://"+listen(t, func(c net.Conn) { io.WriteString(c, "220 mail.test ESMTP\r\n"); c.Read(make([]byte, 1)) }))
		wantError(t, err, upstream.StageHTTP, 0)
	})
	t.Run("closed", func(t *testing.T) {
		_, err := get(t, upstream.NetConfig{}, "http://"+listen(t, func(c net.Conn) { c.Read(make([]byte, 4096)) }))
		wantError(t, err, upstream.StageHTTP, 0, "EOF")
	})
}

func TestHTTP2IsSpokenOverTLS(t *testing.T) {
	for name, c := range map[string]upstream.NetConfig{"plain": {}, "with a budget": {Timeout: time.Minute, Connect: time.Minute}} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			conns := map[string]bool{}
			srv := modtest.ServeH2TLS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				conns[r.RemoteAddr] = true
				io.WriteString(w, r.Proto)
			}))
			c.TLS = &tls.Config{RootCAs: srv.CA}
			s := upstream.NewHTTPSource(newNet(t, c), parse(t, srv.URL))
			for range 3 {
				a, err := s.Get(t.Context(), quote)
				if err != nil {
					t.Fatal(err)
				}
				data, err := io.ReadAll(a.Body)
				a.Body.Close()
				if err != nil || string(data) != "HTTP/2.0" {
					t.Errorf("spoke %q, %v", data, err)
				}
			}
			if len(conns) != 1 {
				t.Errorf("%d connections for three requests", len(conns))
			}
		})
	}
}

func TestACallersCancellationIsItsOwn(t *testing.T) {
	srv := serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "module")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	gone := errors.New("the client has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	a, err := upstream.NewHTTPSource(newNet(t, upstream.NetConfig{}), parse(t, srv.URL)).Get(ctx, quote)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	if _, err := io.ReadFull(a.Body, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	cancel(gone)
	if _, err := a.Body.Read(make([]byte, 1)); err != gone {
		t.Errorf("Read = %v, want the cause", err)
	}
	if _, err := upstream.NewHTTPSource(newNet(t, upstream.NetConfig{}), parse(t, srv.URL)).Get(ctx, quote); !errors.Is(err, gone) {
		t.Errorf("Get = %v, want the cause", err)
	}
}

func TestHostPortIsOneSpelling(t *testing.T) {
	for in, want := range map[string]string{
		"https://Proxy.Example.com/x": "proxy.example.com:443",
		"http://proxy.example.com":    "proxy.example.com:80",
		"http://[::1]:8080":           "[::1]:8080",
		"https://u:p@a.test:1":        "a.test:1",
	} {
		if got := upstream.HostPort(parse(t, in)); got != want {
			t.Errorf("HostPort(%s) = %s, want %s", in, got, want)
		}
	}
}
