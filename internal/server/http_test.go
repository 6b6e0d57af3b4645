package server_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/server"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/upstream"
)

func TestFilesHaveTheSameHeadersColdAndWarm(t *testing.T) {
	r := newRig(t, parts{store: openDisk(t)})
	m := r.w.Add("headers.test/M", "v1.0.0", nil)
	large := r.w.Big("headers.test/large", "v1.0.0", 2<<20)
	truth := func(path string) []byte {
		switch path[len(path)-4:] {
		case "info":
			return r.w.Info(m)
		case ".mod":
			return r.w.Mod(m)
		}
		if strings.Contains(path, "large") {
			return r.w.Zip(large)
		}
		return r.w.Zip(m)
	}
	for _, tt := range []struct{ path, ctype string }{
		{at(m, ".info"), "application/json"},
		{at(m, ".mod"), "text/plain; charset=utf-8"},
		{at(m, ".zip"), "application/zip"},
		{at(large, ".zip"), "application/zip"},
	} {
		data := truth(tt.path)
		cold := r.want(200, data, tt.path)
		if strings.HasSuffix(tt.path, ".zip") {
			r.settle(map[bool]module.Version{true: large, false: m}[strings.Contains(tt.path, "large")])
		}
		warm := r.want(200, data, tt.path)
		etag := warm.header.Get("ETag")
		// A large zip goes out before it is known what all of it is.
		if got := cold.header.Get("ETag"); got != etag && !(got == "" && strings.Contains(tt.path, "large")) || len(etag) != 66 || etag[0] != '"' {
			t.Errorf("%s: ETag %q cold, %q warm", tt.path, got, etag)
		}
		for _, g := range []got{cold, warm} {
			if g.header.Get("Content-Type") != tt.ctype || g.header.Get("Cache-Control") != "public, max-age=31536000, immutable" ||
				g.header.Get("Accept-Ranges") != "bytes" || g.length != int64(len(data)) {
				t.Errorf("%s: %v, length %d", tt.path, g.header, g.length)
			}
		}
		if cold.header.Get("X-Request-Id") == warm.header.Get("X-Request-Id") {
			t.Errorf("%s: two requests, one id", tt.path)
		}
		if g := r.want(304, []byte{}, tt.path, "If-None-Match", etag); g.header.Get("ETag") != etag {
			t.Errorf("%s: 304 with %v", tt.path, g.header)
		}
		r.want(200, data, tt.path, "If-None-Match", `"other"`)
		n := len(data)
		if g := r.want(206, data[n/2:], tt.path, "Range", fmt.Sprintf("bytes=%d-", n/2)); g.header.Get("Content-Range") != fmt.Sprintf("bytes %d-%d/%d", n/2, n-1, n) {
			t.Errorf("%s: %v", tt.path, g.header)
		}
		r.want(206, data[:5], tt.path, "Range", "bytes=0-4", "If-Range", etag)
		r.want(200, data, tt.path, "Range", "bytes=0-4", "If-Range", `"other"`)
		r.want(416, nil, tt.path, "Range", fmt.Sprintf("bytes=%d-", n))
		if g := r.get(tt.path, "Range", "bytes=0-1,4-5"); g.status != 206 || !strings.HasPrefix(g.header.Get("Content-Type"), "multipart/byteranges") {
			t.Errorf("%s: two ranges: %v", tt.path, g)
		}
		if g := r.do(http.MethodHead, tt.path); g.status != 200 || g.length != int64(n) || len(g.body) != 0 || g.header.Get("ETag") != etag {
			t.Errorf("%s: HEAD: %v %v", tt.path, g, g.header)
		}
	}
}

func TestAHeadOrRangeOfSomethingColdStoresTheWhole(t *testing.T) {
	for _, size := range []int64{1000, 2 << 20} {
		for _, header := range [][]string{nil, {"Range", "bytes=10-19"}} {
			r := newRig(t, parts{})
			m := r.w.Big("cold.test/m", "v1.0.0", size)
			data := r.w.Zip(m)
			if header == nil {
				if g := r.do(http.MethodHead, at(m, ".zip")); g.status != 200 || g.length != int64(len(data)) || len(g.body) > 0 {
					t.Errorf("HEAD: %v, length %d", g, g.length)
				}
			} else {
				r.want(206, data[10:20], at(m, ".zip"), header...)
			}
			r.settle(m)
			r.want(200, data, at(m, ".zip"))
			if n := r.w.Hits(at(m, ".zip")); n != 1 {
				t.Errorf("asked %d times", n)
			}
		}
	}
}

func TestChangingAnswersSayHowLongTheyMayBeKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, parts{inBubble: true})
		r.w.Add("changing.test/m", "v1.0.0", nil)
		r.w.SetQuery("changing.test/m", "main", "v1.0.0")
		for _, path := range []string{"/changing.test/m/@v/list", "/changing.test/m/@latest", "/changing.test/m/@v/main.info"} {
			r.spoil("")
			fresh := r.want(200, nil, path)
			if fresh.header.Get("Cache-Control") != "public, max-age=60" || fresh.header.Get("Warning") != "" || fresh.header.Get("ETag") == "" {
				t.Errorf("%s: %v", path, fresh.header)
			}
			time.Sleep(20 * time.Second)
			if g := r.want(200, fresh.body, path); g.header.Get("Cache-Control") != "public, max-age=40" {
				t.Errorf("%s, 20 s old: %v", path, g.header)
			}
			time.Sleep(70 * time.Second)
			r.spoil("503")
			g := r.want(200, fresh.body, path)
			if g.header.Get("Age") != "90" || !strings.HasPrefix(g.header.Get("Warning"), "110 ") || g.header.Get("Cache-Control") != "no-cache" || g.header.Get("ETag") != fresh.header.Get("ETag") {
				t.Errorf("%s, stale: %v", path, g.header)
			}
			r.want(304, []byte{}, path, "If-None-Match", fresh.header.Get("ETag"))
		}
	})
}

func TestAPathHasOneSpelling(t *testing.T) {
	r := newRig(t, parts{})
	r.w.Add("spelling.test/Big/M", "v1.0.0", nil)
	plus := r.w.Add("spelling.test/plus", "v2.0.0+incompatible", nil)
	r.w.SetQuery("spelling.test/plus", "feature/x", plus.Version)
	cases := map[string]int{
		// what a go command sends
		"/spelling.test/!big/!m/@v/v1.0.0.info":            200,
		"/spelling.test/%21big/%21m/@v/v1.0.0.mod":         200,
		"/spelling.test/plus/@v/v2.0.0+incompatible.zip":   200,
		"/spelling.test/plus/@v/v2.0.0%2Bincompatible.zip": 200,
		"/spelling.test/plus/@v/feature%2Fx.info":          200,
		"/spelling.test/plus/@v/list?go-get=1":             200,
		"/spelling.test/!big/!m/@v/v1.0.0.info?x=%2F":      200,
		"/spelling.test/plus/@v/feature%2fx.info":          200,
		"/spelling.test/%70lus/@v/list":                    200, // RFC 3986: the same URL
		// every other spelling
		"/spelling.test/Big/M/@v/v1.0.0.info":                           400,
		"/spelling.test/!Big/!M/@v/v1.0.0.info":                         400,
		"/spelling.test/!!big/!m/@v/v1.0.0.info":                        400,
		"/spelling.test/big!/@v/list":                                   400,
		"/spelling.test%2F!big%2F!m/@v/v1.0.0.info":                     400,
		"/spelling.test/!big/!m%2F@v/v1.0.0.info":                       400,
		"/spelling.test/!big/!m/%40v/v1.0.0.info":                       400,
		"/spelling.test/!big/!m/%40latest":                              400,
		"/spelling.test/!big/!m/@v%2Fv1.0.0.info":                       400,
		"/spelling.test/plus/@v/v2.0.0+incompatible%2F.zip":             400,
		"/spelling.test/plus/@v/feature/x.info":                         400,
		"//spelling.test/!big/!m/@v/v1.0.0.info":                        400,
		"/spelling.test//!big/!m/@v/v1.0.0.info":                        400,
		"/spelling.test/!big/!m//@v/v1.0.0.info":                        400,
		"/spelling.test/!big/!m/@v//v1.0.0.info":                        400,
		"/spelling.test/./!big/!m/@v/v1.0.0.info":                       400,
		"/spelling.test/x/../!big/!m/@v/v1.0.0.info":                    400,
		"/../spelling.test/!big/!m/@v/v1.0.0.info":                      400,
		"/%2e%2e/spelling.test/!big/!m/@v/v1.0.0.info":                  400,
		"/..%2f..%2fetc/passwd":                                         404,
		"/spelling.test/!big/!m/@v/..%2f..%2fv1.0.0.info":               400,
		"/spelling.test/!big/!m/@v/../list":                             404,
		`/spelling.test\!big/@v/list`:                                   400,
		"/spelling.test/%5C!big/@v/list":                                400,
		"/spelling.test/!big/!m/@v/%5C.info":                            400,
		"/spelling.test/!big%00/!m/@v/list":                             400,
		"/spelling.test/!big/!m/@v/v1.0.0%00.info":                      400,
		"/spelling.test/!big%0A/!m/@v/list":                             400,
		"/spelling.test/%ff/@v/list":                                    400,
		"/spelling.test/" + strings.Repeat("a", 300) + "/@v/list":       400,
		"/" + strings.Repeat("a.test/", 400) + "@v/list":                400,
		"/spelling.test/m/@v/" + strings.Repeat("1", 300) + ".info":     400,
		"/nodot/m/@v/list":                                              400,
		"/spelling.test /@v/list":                                       400,
		"/spelling.test/con/@v/list":                                    400,
		"/spelling.test/m./@v/list":                                     400,
		"/-/x":                                                          404,
		"/favicon.ico":                                                  404,
		"/spelling.test/m":                                              404,
		"/spelling.test/m/@v/":                                          404,
		"/spelling.test/m/@v/list.txt":                                  404,
		"/spelling.test/m/@x":                                           404,
		"/spelling.test/m/@v/v1.zip":                                    404,
		"/spelling.test/m/@v/main.mod":                                  404,
		"/spelling.test/m/@v/v1.0.0.ziphash":                            404,
		"/cached-only/x":                                                404,
		"/cached-only/cached-only/spelling.test/!big/!m/@v/v1.0.0.info": 400,
	}
	// Those that are refused first: what is served makes the mirror ask for more.
	order := slices.SortedFunc(maps.Keys(cases), func(a, b string) int { return cmp.Compare(b2i(cases[a] == 200), b2i(cases[b] == 200)) })
	for _, path := range order {
		status := cases[path]
		r.w.Forget()
		g := r.get(strings.ReplaceAll(path, " ", "%20"))
		if strings.Contains(path, `\`) {
			status2, _ := raw(t, strings.TrimPrefix(r.base, "http://"), "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			g = got{status: status2}
		}
		if g.err != nil || g.status != status {
			t.Errorf("%.80q: %v; want %d", path, g, status)
		}
		if status != 200 && len(r.w.Log()) > 0 {
			t.Errorf("%.80q: the source was asked: %q", path, r.w.Log())
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestOnlyGetAndHeadAreAnswered(t *testing.T) {
	r := newRig(t, parts{})
	m := r.w.Add("methods.test/m", "v1.0.0", nil)
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"} {
		for _, path := range []string{at(m, ".info"), "/", "/healthz", "/sumdb/x", "/none"} {
			if g := r.do(method, path); g.status != 405 || g.header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %v", method, path, g)
			}
		}
	}
	if log := r.w.Log(); len(log) > 0 {
		t.Errorf("the source was asked: %q", log)
	}
}

func TestABodyIsReadPastAndALargeOneRefused(t *testing.T) {
	r := newRig(t, parts{})
	m := r.w.Add("body.test/m", "v1.0.0", nil)
	body := func(n int, chunked bool) io.Reader {
		if chunked {
			return struct{ io.Reader }{strings.NewReader(strings.Repeat("x", n))}
		}
		return strings.NewReader(strings.Repeat("x", n))
	}
	for n, status := range map[int]int{1: 200, 64 << 10: 200, 64<<10 + 1: 413, 10 << 20: 413} {
		for _, chunked := range []bool{false, true} {
			if g := r.doCtx(t.Context(), http.MethodGet, at(m, ".info"), body(n, chunked)); g.status != status && !(status == 413 && g.err != nil) {
				t.Errorf("%d bytes, chunked %v: %v", n, chunked, g)
			}
		}
	}
	r.want(200, r.w.Info(m), at(m, ".info"))
}

func TestABodyThatNeverComesHoldsNothingUp(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		for _, body := range []string{"Content-Length: 10\r\n\r\n123", "Transfer-Encoding: chunked\r\n\r\n5\r\n123"} {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, parts{inBubble: true})
				r.w.Add("body.test/m", "v1.0.0", nil)
				c, err := r.client.Transport.(*http.Transport).DialContext(t.Context(), "tcp", "x")
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				start := time.Now()
				io.WriteString(c, method+" /body.test/m/@v/list HTTP/1.1\r\nHost: x\r\n"+body)
				answer, err := io.ReadAll(c) // to the end of the connection
				if took := time.Since(start); took > 20*time.Second || err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 40") {
					t.Errorf("%s: %q, %v after %v", method, answer, err, took)
				}
			})
		}
	}
}

// serveOn lets the rig's server listen, as the program does. stop asks it to stop.
func (r *rig) serveOn() (addr string, stop func(), done <-chan error) {
	r.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	return r.serveAt(ln)
}

func (r *rig) serveAt(ln net.Listener) (addr string, stop func(), done <-chan error) {
	ctx, cancel := context.WithCancel(r.t.Context())
	ch := make(chan error, 1)
	go func() { ch <- r.server.Serve(ctx, ln); close(ch) }()
	r.t.Cleanup(func() { cancel(); <-ch })
	return ln.Addr().String(), cancel, ch
}

func TestALargeHeaderIsRefused(t *testing.T) {
	r := newRig(t, parts{})
	addr, _, _ := r.serveOn()
	get := func(n int) int {
		status, _ := raw(t, addr, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Large: "+strings.Repeat("x", n)+"\r\n\r\n")
		return status
	}
	if s := get(32 << 10); s != 200 {
		t.Errorf("32 KiB: %d", s)
	}
	if s := get(100 << 10); s != 431 {
		t.Errorf("100 KiB: %d", s)
	}
}

func TestHTTP2AndHTTP10AreSpoken(t *testing.T) {
	r := newRig(t, parts{})
	m := r.w.Big("protocols.test/m", "v1.0.0", 2<<20)
	data := r.w.Zip(m)
	addr, _, _ := r.serveOn()
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	defer h2.CloseIdleConnections()
	for range 2 {
		resp, err := (&http.Client{Transport: h2}).Get("http://" + addr + at(m, ".zip"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.ProtoMajor != 2 || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v", resp.Proto, len(got), err)
		}
	}
	if status, body := raw(t, addr, "GET "+at(m, ".info")+" HTTP/1.0\r\n\r\n"); status != 200 || body != string(r.w.Info(m)) {
		t.Errorf("HTTP/1.0: %d %q", status, body)
	}
}

// To a client of HTTP/1.0 the end of the connection is the end of the file, so it
// gets nothing of a zip whose length is not known and that is not verified.
func TestAnHTTP10ClientGetsNothingOfAZipThatEndsBadly(t *testing.T) {
	r := newRig(t, parts{})
	m := r.w.Big("old.test/m", "v1.0.0", 3<<20)
	r.spoil("zip:cut-chunked=90%")
	addr, _, _ := r.serveOn()
	if status, body := raw(t, addr, "GET "+at(m, ".zip")+" HTTP/1.0\r\n\r\n"); status != 502 {
		t.Errorf("%d, %d bytes", status, len(body))
	}
	r.spoil("zip:drop-length")
	if status, body := raw(t, addr, "GET "+at(m, ".zip")+" HTTP/1.0\r\n\r\n"); status != 200 || body != string(r.w.Zip(m)) {
		t.Errorf("%d, %d bytes", status, len(body))
	}
}

func TestARequestThatForbidsFetchingGetsWhatIsHere(t *testing.T) {
	r := newRig(t, parts{})
	m := r.w.Add("nofetch.test/m", "v1.0.0", nil)
	paths := []string{at(m, ".info"), at(m, ".mod"), at(m, ".zip"), "/nofetch.test/m/@v/list", "/nofetch.test/m/@latest"}
	both := func(check func(prefix string, header ...string)) {
		check("/cached-only")
		check("", "Disable-Module-Fetch", "true")
	}
	both(func(prefix string, header ...string) {
		for _, path := range paths {
			if g := r.want(404, nil, prefix+path, header...); g.header.Get("X-Sluice-Code") != "SL-OFF-003" {
				t.Errorf("%s: %v", path, g)
			}
		}
	})
	if log := r.w.Log(); len(log) > 0 {
		t.Errorf("the source was asked: %q", log)
	}
	r.want(200, nil, at(m, ".zip"))
	r.settle(m)
	r.w.Forget()
	both(func(prefix string, header ...string) {
		for _, path := range paths {
			r.want(200, nil, prefix+path, header...)
		}
	})
	if log := r.w.Log(); len(log) > 0 {
		t.Errorf("the source was asked: %q", log)
	}
}

func TestARequestThatComesBackIsALoop(t *testing.T) {
	r := newRig(t, parts{})
	m := r.w.Add("loop.test/m", "v1.0.0", nil)
	for _, via := range [][]string{{"Via", "1.1 sluice-0123456789ab"}, {"Via", "1.1 x", "Via", "2 y, 1.1 sluice-0123456789ab (x)"}} {
		if g := r.want(508, nil, at(m, ".info"), via...); g.header.Get("X-Sluice-Code") != "SL-ENV-001" {
			t.Errorf("%v", g)
		}
	}
	r.want(200, nil, at(m, ".info"), "Via", "1.1 sluice-other")
	if n := len(r.w.Log()); n != 1 {
		t.Errorf("the source was asked %d times", n)
	}
	// In earnest: Sluice is its own source.
	var base atomic.Pointer[string]
	self := &lateSource{base: &base}
	ring := newRig(t, parts{sources: []upstream.Source{self}})
	base.Store(&ring.base)
	self.via = "sluice-0123456789ab"
	if g := ring.get(at(m, ".info")); g.status != 502 || !strings.Contains(string(g.body), "508") {
		t.Errorf("%v", g)
	}
}

// A lateSource is a proxy whose address is known only after Sluice has started.
type lateSource struct {
	base *atomic.Pointer[string]
	via  string
}

func (s *lateSource) Name() string        { return "late" }
func (s *lateSource) Kind() upstream.Kind { return upstream.Proxy }
func (s *lateSource) Get(ctx context.Context, req goproxy.Request) (*upstream.Answer, error) {
	hr, err := http.NewRequestWithContext(ctx, http.MethodGet, *s.base.Load()+"/"+req.Path(), nil)
	if err != nil {
		return nil, err
	}
	hr.Header.Set("Via", "1.1 "+s.via)
	resp, err := http.DefaultTransport.RoundTrip(hr)
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	return nil, &upstream.Error{Source: "late", Stage: upstream.StageHTTP, Status: resp.StatusCode}
}

func TestAClientThatTakesNothingIsCutAndASlowOneIsNot(t *testing.T) {
	for _, state := range []string{"cold", "warm"} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, parts{inBubble: true})
			m := r.w.Big("slow.test/m", "v1.0.0", 3<<20)
			data := r.w.Zip(m)
			if state == "warm" {
				r.want(200, data, at(m, ".zip"))
			}
			open := func() *http.Response {
				resp, err := r.client.Get(r.base + at(m, ".zip"))
				if err != nil {
					t.Fatal(err)
				}
				return resp
			}
			// Slow: 64 KiB each 50 seconds, three quarters of an hour in all.
			slow := open()
			var all []byte
			buf := make([]byte, 64<<10)
			for {
				time.Sleep(50 * time.Second)
				n, err := io.ReadFull(slow.Body, buf)
				all = append(all, buf[:n]...)
				if err == io.EOF || err == io.ErrUnexpectedEOF && len(all) == len(data) {
					break
				}
				if err != nil {
					t.Fatalf("%s: a slow client was cut after %d bytes: %v", state, len(all), err)
				}
			}
			slow.Body.Close()
			if !bytes.Equal(all, data) {
				t.Errorf("%s: a slow client got %d bytes of %d", state, len(all), len(data))
			}
			// Dead: takes no byte.
			synctest.Wait() // the line about the slow one is written after its answer
			r.log.requests(t)
			start := time.Now()
			dead := open()
			defer dead.Body.Close()
			for len(r.log.String()) == 0 {
				time.Sleep(time.Second)
				synctest.Wait()
			}
			if took := time.Since(start); took > 62*time.Second || took < 59*time.Second {
				t.Errorf("%s: a dead client was cut after %v", state, took)
			}
			if _, err := io.ReadAll(dead.Body); err == nil {
				t.Errorf("%s: a dead client got everything", state)
			}
			if l := r.log.requests(t); len(l) != 1 || l[0].Err != "the client took nothing for 1m0s" || l[0].Level != "WARN" {
				t.Errorf("%s: %+v", state, l)
			}
		})
	}
}

// A source that stands still midway costs the source's time, not the client's.
func TestASlowSourceDoesNotCutItsClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := modtest.New(t)
		m := w.Big("source.test/m", "v1.0.0", 3<<20)
		data := w.Zip(m)
		src := pipeSource{&http.Client{Transport: modtest.Pipe(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.URL.Path, ".zip") {
				w.Handler().ServeHTTP(rw, r)
				return
			}
			rw.Header().Set("Content-Length", strconv.Itoa(len(data)))
			for i := 0; i < len(data); i += 1 << 20 {
				rw.Write(data[i:min(i+1<<20, len(data))])
				http.NewResponseController(rw).Flush()
				if i+1<<20 < len(data) {
					time.Sleep(90 * time.Second) // more than a client may take
				}
			}
		}))}}
		r := newRig(t, parts{inBubble: true, sources: []upstream.Source{src}})
		r.w.Big("source.test/m", "v1.0.0", 3<<20) // for the checksum database
		r.want(200, data, at(m, ".zip"))
	})
}

// The deadline of an answer must not reach the next one on the same connection,
// which may have no body to roll it along with.
func TestAnIdleConnectionIsGoodForAnAnswerWithoutABody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, parts{inBubble: true, config: func(c *server.Config) { c.Idle = time.Hour }})
		m := r.w.Add("idle.test/m", "v1.0.0", nil)
		etag := r.want(200, r.w.Mod(m), at(m, ".mod")).header.Get("ETag")
		for _, path := range []string{at(m, ".mod"), "/healthz"} {
			time.Sleep(10 * time.Minute)
			if g := r.do(http.MethodHead, path); g.err != nil || g.status != 200 {
				t.Errorf("HEAD %s: %v", path, g)
			}
		}
		time.Sleep(10 * time.Minute)
		r.want(304, []byte{}, at(m, ".mod"), "If-None-Match", etag)
	})
}

func TestCachedFilesAreServedWhileRequestsHang(t *testing.T) {
	r := newRig(t, parts{})
	m := r.w.Add("cached.test/m", "v1.0.0", nil)
	r.want(200, r.w.Zip(m), at(m, ".zip"))
	r.want(200, nil, "/cached.test/m/@v/list")
	r.settle(m)
	r.spoil("hang")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	const hanging = 200
	for i := range hanging {
		wg.Go(func() {
			paths := []string{"/@v/list", "/@latest", "/@v/v1.0.0.info", "/@v/v1.0.0.mod", "/@v/v1.0.0.zip", "/@v/main.info"}
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/hang%d.test/m%s", r.base, i, paths[i%len(paths)]), nil)
			if resp, err := r.client.Do(req); err == nil {
				resp.Body.Close()
				t.Errorf("answered: %s", resp.Status)
			}
		})
	}
	for server.InFlight(r.server) < hanging {
		runtime.Gosched()
	}
	for range 10 {
		r.want(200, r.w.Info(m), at(m, ".info"))
		r.want(200, r.w.Mod(m), at(m, ".mod"))
		r.want(200, r.w.Zip(m), at(m, ".zip"))
		r.want(200, nil, "/cached.test/m/@v/list")
		r.want(200, nil, "/healthz")
	}
	cancel()
	wg.Wait()
}

func TestAStopLetsTransfersFinish(t *testing.T) {
	w := modtest.New(t)
	m := w.Big("stop.test/m", "v1.0.0", 3<<20)
	data := w.Zip(m)
	half, rest := make(chan struct{}), make(chan struct{})
	src := httpSource(t, modtest.Serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, ".zip") {
			w.Handler().ServeHTTP(rw, r)
			return
		}
		rw.Header().Set("Content-Length", strconv.Itoa(len(data)))
		rw.Write(data[:len(data)/2])
		http.NewResponseController(rw).Flush()
		close(half)
		<-rest
		rw.Write(data[len(data)/2:])
	})).URL, 0)
	r := newRig(t, parts{sources: []upstream.Source{src}})
	r.w.Big("stop.test/m", "v1.0.0", 3<<20)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := &closing{Listener: tcp, closed: make(chan struct{})}
	addr, stop, done := r.serveAt(ln)
	resp, err := http.Get("http://" + addr + at(m, ".zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	<-half
	stop()
	<-ln.closed
	select {
	case err := <-done:
		t.Fatalf("stopped in the middle of a transfer: %v", err)
	default:
	}
	close(rest)
	got, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// closing is a listener that tells when it is closed. No dial could: somebody else may
// have the port then.
type closing struct {
	net.Listener
	once   sync.Once
	closed chan struct{}
}

func (l *closing) Close() error {
	err := l.Listener.Close()
	l.once.Do(func() { close(l.closed) })
	return err
}

func TestServeSaysWhyItEnds(t *testing.T) {
	r := newRig(t, parts{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if err := r.server.Serve(t.Context(), ln); err == nil || errors.Is(err, http.ErrServerClosed) {
		t.Errorf("%v", err)
	}
}

// openDisk opens a store on disk that lasts as long as the test.
func openDisk(t testing.TB) *store.Disk {
	t.Helper()
	d, err := store.OpenDisk(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}
