package server_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/server"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/upstream"
)

// Whatever a client sends for a path, the answer is a plain one or its own fault,
// and what gets as far as the store is a path in its one spelling.
func FuzzPath(f *testing.F) {
	for _, p := range []string{
		"/", "/healthz", "/readyz", "/metrics", "//healthz", "/rsc.io/quote/@v/list", "/github.com/!burnt!sushi/toml/@v/v1.0.0.info",
		"/rsc.io/quote/@v/v1.0.0+incompatible.zip", "/rsc.io/quote/@v/feature%2Fx.info", "/rsc.io%2Fquote/@latest", "/cached-only/rsc.io/quote/@latest",
		"/a.b/../c/@v/list", "/a.b/%2e%2e/@v/list", "/a.b/%00/@v/list", "/a.b/%5C/@v/list", "/sumdb/fuzz.test/supported", "/sumdb/fuzz.test/latest",
		"/sumdb/fuzz.test/lookup/rsc.io/quote@v1.0.0", "/sumdb/fuzz.test/lookup/private.test/x@v1.0.0", "/sumdb/fuzz.test/tile/8/0/000", "/sumdb/x",
		"/rsc.io/quote/@v/main.mod", "/rsc.io/quote/%40v/list", "/golang.org/toolchain/@v/v0.0.1-go1.22.0.linux-amd64.zip?x=y#z", "/*", "*",
	} {
		f.Add(p, true)
		f.Add(p, false)
	}
	asked := &askedStore{Store: store.NewMem()}
	r := newRig(f, parts{store: asked, sources: []upstream.Source{upstream.OffSource{}},
		settings: func(s *server.Settings) { s.SumDBs = []server.SumDB{&fakeDB{name: "fuzz.test"}} }})
	f.Fuzz(func(t *testing.T, target string, get bool) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		method := http.MethodHead
		if get {
			method = http.MethodGet
		}
		req := httptest.NewRequest(method, "/", nil)
		req.URL, req.RequestURI = u, target
		w := httptest.NewRecorder()
		r.server.ServeHTTP(w, req)
		g := got{status: w.Code, header: w.Header(), body: w.Body.Bytes()}
		if w.Code != 200 && (w.Code < 400 || w.Code >= 500) {
			t.Errorf("%q: %v", target, g)
		}
		if w.Header().Get("Content-Type") != "application/json" {
			checkAnswer(t, method+" "+target, g)
		}
		if method == http.MethodHead && w.Body.Len() > 0 {
			t.Errorf("HEAD %q: %v", target, g)
		}
		for _, p := range asked.take() {
			back, err := goproxy.ParsePath(p)
			if err != nil || back.Path() != p || strings.Contains(p, "/../") || strings.ContainsAny(p, "\\\x00") {
				t.Errorf("%q: the store was asked for %q", target, p)
			}
		}
		r.log.requests(t)
	})
}

// askedStore notes what is looked for in it.
type askedStore struct {
	store.Store
	mu    sync.Mutex
	paths []string
}

func (s *askedStore) note(req goproxy.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paths = append(s.paths, req.Path())
}

func (s *askedStore) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	paths := s.paths
	s.paths = nil
	return paths
}

func (s *askedStore) Open(req goproxy.Request) (*store.Blob, error) {
	s.note(req)
	return s.Store.Open(req)
}

func (s *askedStore) Answer(req goproxy.Request) (store.Answer, error) {
	s.note(req)
	return s.Store.Answer(req)
}
