package server_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/server"
	"github.com/modsluice/sluice/internal/store"
)

// hits counts the requests that were answered from memory.
type hits struct {
	mu sync.Mutex
	n  int
}

func (h *hits) Began(time.Time)   {}
func (h *hits) Ended(server.Seen) {}
func (h *hits) Hit(time.Time, time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n++
}

// take is how many there were since it was called last.
func (h *hits) take(r *rig) int {
	waitFor(r.t, func() bool { return server.InFlight(r.server) == 0 })
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.n
	h.n = 0
	return n
}

// put stores the .info and the .mod of a version as if they had been fetched.
func (r *rig) put(m module.Version) {
	r.t.Helper()
	for kind, data := range map[goproxy.Kind][]byte{goproxy.Info: r.w.Info(m), goproxy.Mod: r.w.Mod(m)} {
		p, err := r.store.Create(goproxy.Request{Kind: kind, Module: m})
		if err != nil {
			r.t.Fatal(err)
		}
		p.Write(data)
		rec := store.Record{H1: r.w.H1Mod(m), Verified: r.db.Name, Source: "s"}
		if _, err := p.Commit(rec); err != nil {
			r.t.Fatal(err)
		}
		p.Abort()
	}
}

func TestAnAnswerFromMemoryIsTheSameAsAnother(t *testing.T) {
	var h hits
	r := newRig(t, parts{store: openDisk(t), config: func(c *server.Config) { c.Watch = &h }})
	addr, _, _ := r.serveOn()
	r.base = "http://" + addr
	defer r.client.CloseIdleConnections()
	m := r.w.Add("warm.test/Mod", "v1.0.0", nil)
	r.put(m)
	requests := []goproxy.Request{
		{Kind: goproxy.Info, Module: m}, {Kind: goproxy.Mod, Module: m},
		{Kind: goproxy.List, Module: module.Version{Path: m.Path}}, {Kind: goproxy.Latest, Module: module.Version{Path: m.Path}},
	}
	do := func(method, path string, header ...string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequest(method, r.base+"/"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(body)
	}
	for _, req := range requests {
		do("GET", req.Path()) // it is read into memory
		h.take(r)
		for _, method := range []string{"GET", "HEAD"} {
			warm, body := do(method, req.Path())
			if h.take(r) != 1 {
				t.Errorf("%s %v is not answered from memory", method, req)
			}
			other, otherBody := do(method, req.Path(), "If-None-Match", `"another"`)
			if h.take(r) != 0 {
				t.Errorf("%s %v with a condition is answered from memory", method, req)
			}
			if body != otherBody || warm.StatusCode != other.StatusCode || warm.ContentLength != other.ContentLength {
				t.Errorf("%s %v: %d %q from memory, %d %q else", method, req, warm.StatusCode, body, other.StatusCode, otherBody)
			}
			for k := range other.Header {
				if got, want := warm.Header.Get(k), other.Header.Get(k); got != want && k != "Date" && k != "X-Request-Id" {
					t.Errorf("%s %v: %s is %q from memory and %q else", method, req, k, got, want)
				}
			}
			if len(warm.Header) != len(other.Header) || warm.Header.Get("X-Request-Id") == other.Header.Get("X-Request-Id") {
				t.Errorf("%s %v: headers %v from memory, %v else", method, req, warm.Header, other.Header)
			}
		}
		warm, _ := do("GET", req.Path())
		if resp, _ := do("GET", req.Path(), "If-None-Match", warm.Header.Get("ETag")); resp.StatusCode != http.StatusNotModified {
			t.Errorf("%v: %d with the ETag that it has", req, resp.StatusCode)
		}
		h.take(r)
		for _, other := range []struct{ method, path, header string }{
			{"POST", req.Path(), ""}, {"GET", strings.Replace(req.Path(), "/@", "%2F@", 1), ""}, {"GET", "cached-only/" + req.Path(), ""}, {"GET", req.Path(), "Via"}, {"GET", req.Path(), "Disable-Module-Fetch"},
		} {
			if other.header != "" {
				do(other.method, other.path, other.header, "1.1 "+r.config.ID)
			} else {
				do(other.method, other.path)
			}
			if h.take(r) != 0 {
				t.Errorf("%s %s with %q is answered from memory", other.method, other.path, other.header)
			}
		}
	}
	r.log.requests(t)
	do("GET", requests[1].Path())
	if l := r.log.requests(t); len(l) != 1 || l[0].ID == "" || l[0].Status != 200 || l[0].Bytes == 0 || l[0].Kind != "mod" || l[0].Module != m.Path || l[0].Version != m.Version || l[0].Outcome != "hit" || l[0].Source == "" {
		t.Errorf("the log says %+v of an answer from memory", l)
	}
	// What is taken out of the store is gone from memory, too.
	if err := r.store.Discard(requests[1], store.Evidence{Reason: "a test"}, true); err != nil {
		t.Fatal(err)
	}
	h.take(r)
	resp, _ := do("GET", requests[1].Path())
	if n := h.take(r); resp.StatusCode != 200 || n != 0 {
		t.Errorf("%d for what was discarded, %d times from memory", resp.StatusCode, n)
	}
}

// A null is a ResponseWriter that costs nothing.
type null struct{ h http.Header }

func (n *null) Header() http.Header         { return n.h }
func (n *null) Write(p []byte) (int, error) { return len(p), nil }
func (n *null) WriteHeader(int)             {}

// warmRequest is a request for something in the memory of r, as net/http hands it on.
func warmRequest(t testing.TB, r *rig, h *hits) (http.ResponseWriter, *http.Request) {
	m := r.w.Add("warm.test/m", "v1.0.0", nil)
	r.put(m)
	return warm(t, r, h, goproxy.Request{Kind: goproxy.Mod, Module: m})
}

// warm asks for what is stored until it is answered from memory.
func warm(t testing.TB, r *rig, h *hits, req goproxy.Request) (http.ResponseWriter, *http.Request) {
	here, there := net.Pipe()
	t.Cleanup(func() { here.Close(); there.Close() })
	hr := httptest.NewRequest("GET", "/"+req.Path(), nil)
	hr.Header.Set("User-Agent", "Go-http-client/1.1")
	hr.Header.Set("Accept-Encoding", "gzip")
	hr = hr.WithContext(server.WithConn(context.Background(), here))
	w := &null{h: http.Header{}}
	r.server.ServeHTTP(w, hr) // it is read into memory
	if r.server.ServeHTTP(w, hr); h.take(r) != 1 {
		t.Fatal("it is not answered from memory")
	}
	return w, hr
}

// These figures are exact, so that they can be a guard where times cannot.
func TestAnAnswerFromMemoryAllocatesNextToNothing(t *testing.T) {
	var h hits
	r := newRig(t, parts{store: openDisk(t), config: func(c *server.Config) {
		c.Watch = &h
		c.Stall = 0 // a deadline of the pipe is no answer's
		c.Requests = func(_ slog.Level, _ server.Line) {}
	}})
	w, req := warmRequest(t, r, &h)
	n := testing.AllocsPerRun(1000, func() { r.server.ServeHTTP(w, req) })
	if h.take(r) < 1000 {
		t.Fatal("it is not answered from memory")
	}
	// The name of the request, and the slice that it stands in.
	if n > 2 {
		t.Errorf("%v allocations for an answer from memory", n)
	}
}

// A mirror, or many go commands behind one address, ask for files in any order: what
// look-ahead makes of that is no garbage either, which many connections at rest would
// make dear.
func TestAnswersInAnyOrderAllocateNextToNothing(t *testing.T) {
	var h hits
	r := newRig(t, parts{store: openDisk(t), config: func(c *server.Config) {
		c.Watch = &h
		c.Stall = 0
		c.Requests = func(_ slog.Level, _ server.Line) {}
	}})
	w := &null{h: http.Header{}}
	var reqs []*http.Request
	for _, path := range []string{"warm.test/a", "warm.test/b"} {
		m := r.w.Add(path, "v1.0.0", nil)
		r.put(m)
		for _, kind := range []goproxy.Kind{goproxy.Mod, goproxy.Info} {
			_, req := warm(t, r, &h, goproxy.Request{Kind: kind, Module: m})
			reqs = append(reqs, req)
		}
	}
	n := testing.AllocsPerRun(1000, func() {
		for _, req := range reqs {
			r.server.ServeHTTP(w, req)
		}
	})
	if h.take(r) < 1000*len(reqs) {
		t.Fatal("they are not answered from memory")
	}
	if n > 2*float64(len(reqs)) {
		t.Errorf("%v allocations for %d answers from memory", n, len(reqs))
	}
}

func BenchmarkAnAnswerFromMemory(b *testing.B) {
	var h hits
	r := newRig(b, parts{store: openDisk(b), config: func(c *server.Config) {
		c.Watch = &h
		c.Requests = func(_ slog.Level, _ server.Line) {}
	}})
	w, req := warmRequest(b, r, &h)
	b.ReportAllocs()
	for b.Loop() {
		r.server.ServeHTTP(w, req)
	}
}

// What an answer from memory costs over one that takes no thought at all, with
// net/http and a connection around both: compare the two.
func BenchmarkOverAConnection(b *testing.B) {
	var h hits
	r := newRig(b, parts{store: openDisk(b), config: func(c *server.Config) {
		c.Watch = &h
		c.Requests = func(_ slog.Level, _ server.Line) {}
	}})
	_, req := warmRequest(b, r, &h)
	body := r.w.Mod(module.Version{Path: "warm.test/m", Version: "v1.0.0"})
	ours, _, _ := r.serveOn()
	none := modtest.Serve(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body)
	}))
	for _, s := range []struct{ name, addr string }{{"Sluice", ours}, {"none", strings.TrimPrefix(none.URL, "http://")}} {
		b.Run(s.name, func(b *testing.B) {
			c, err := net.Dial("tcp", s.addr)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			ask := []byte("GET " + req.URL.Path + " HTTP/1.1\r\nHost: x\r\nUser-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n\r\n")
			buf := make([]byte, 4096)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Write(ask); err != nil {
					b.Fatal(err)
				}
				if _, err := c.Read(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
