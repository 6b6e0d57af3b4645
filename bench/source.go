//go:build linux

package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// A source is the far end: a GOPROXY tree and its checksum database, which counts
// what it is asked for. It is safe for concurrent use.
type source struct {
	tree *os.Root
	db   http.Handler
	ln   net.Listener
	srv  *http.Server
	wg   sync.WaitGroup

	mu     sync.Mutex // guards the following
	asked  tally
	active int // requests being answered
}

// takeBudget is how long take waits for answers under way: a client has the last
// byte before the server has counted it.
const takeBudget = 5 * time.Second

// A tally is what a source was asked for.
type tally struct {
	hits    map[string]int   // path → requests
	bytes   map[string]int64 // path → bytes of bodies
	missing int              // requests for module files answered with 404
}

// newSource serves the tree in dir. The caller must close it.
func newSource(dir string, db http.Handler) (*source, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		root.Close()
		return nil, err
	}
	s := &source{tree: root, db: db, ln: ln}
	s.take()
	s.srv = &http.Server{Handler: s}
	s.wg.Go(func() { s.srv.Serve(ln) })
	return s, nil
}

func (s *source) addr() string { return s.ln.Addr().String() }

func (s *source) close() {
	s.srv.Close()
	s.wg.Wait()
	s.tree.Close()
}

// take gives what was asked for since the last call, with what is being answered
// unless that takes long.
func (s *source) take() tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	for end := time.Now().Add(takeBudget); s.active > 0 && time.Now().Before(end); {
		s.mu.Unlock()
		time.Sleep(time.Millisecond)
		s.mu.Lock()
	}
	t := s.asked
	s.asked = tally{hits: map[string]int{}, bytes: map[string]int64{}}
	return t
}

func (s *source) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.active++
	s.mu.Unlock()
	c := &counted{ResponseWriter: w, status: http.StatusOK}
	defer s.count(strings.TrimPrefix(r.URL.Path, "/"), c)
	if rest, ok := strings.CutPrefix(r.URL.Path, "/sumdb/"+dbName); ok {
		r2 := r.Clone(r.Context())
		r2.URL.Path, r2.URL.RawPath = rest, ""
		s.db.ServeHTTP(c, r2)
	} else {
		s.serveFile(c, r)
	}
}

// count notes a request that has been answered, or given up.
func (s *source) count(name string, c *counted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active--
	s.asked.hits[name]++
	s.asked.bytes[name] += c.n
	if c.status == http.StatusNotFound && !strings.HasPrefix(name, "sumdb/") {
		s.asked.missing++
	}
}

func (s *source) serveFile(w http.ResponseWriter, r *http.Request) {
	name := filepath.FromSlash(strings.TrimPrefix(r.URL.Path, "/"))
	f, err := s.tree.Open(name)
	if err != nil {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", fi.ModTime(), f)
}

// counted counts the bytes of a body, and leaves sendfile to whoever can do it.
type counted struct {
	http.ResponseWriter
	n      int64
	status int
}

func (c *counted) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n += int64(n)
	return n, err
}

func (c *counted) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(c.ResponseWriter, r)
	c.n += n
	return n, err
}

// repeated lists what was asked for more than once, but for the newest tree head
// and whether there is a database: these are questions whose answers change, and
// probes ask them.
func (t tally) repeated() (list []string) {
	for _, name := range sortedKeys(t.hits) {
		if t.hits[name] > 1 && !strings.HasSuffix(name, "/latest") && !strings.HasSuffix(name, "/supported") {
			list = append(list, name)
		}
	}
	return list
}

// beyond lists the zips that t has and other has not.
func (t tally) beyond(other tally) (zips []string) {
	for _, name := range sortedKeys(t.hits) {
		if strings.HasSuffix(name, ".zip") && other.hits[name] == 0 {
			zips = append(zips, name)
		}
	}
	return zips
}

// count and volume are those of module files, or of the checksum database.
func (t tally) count(sumdb bool) (n int) {
	for name, k := range t.hits {
		if strings.HasPrefix(name, "sumdb/") == sumdb {
			n += k
		}
	}
	return n
}

func (t tally) volume(sumdb bool) (n int64) {
	for name, k := range t.bytes {
		if strings.HasPrefix(name, "sumdb/") == sumdb {
			n += k
		}
	}
	return n
}
