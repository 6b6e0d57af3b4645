// Package modtest is a small world for tests: module versions made up on the
// spot, a well-behaved GOPROXY and a signing checksum database over them,
// servers that stop and start, the real go command as their client, and the check of
// what we print against the schemas that we publish.
//
// It is imported by _test.go files and by tools only. It does not misbehave: for a source
// that does, put internal/faults before its handlers. Everything that it starts
// ends with the test that asked for it.
//
// The rules of the protocol come from https://go.dev/ref/mod#goproxy-protocol
// and #checksum-database, zips from golang.org/x/mod/zip.
package modtest

import (
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Need ends the test unless ok: it skips, or fails where SLUICE_STRICT=1 asks
// for a run in which nothing is left out. what names the missing thing, as in
// "git (no such command in PATH)". The line printed begins with "skipped: ".
func Need(t testing.TB, what string, ok bool) {
	t.Helper()
	switch {
	case ok:
	case os.Getenv("SLUICE_STRICT") == "1":
		t.Fatalf("skipped: %s is missing here, and SLUICE_STRICT=1 lets nothing be skipped", what)
	default:
		t.Skipf("skipped: %s is missing here", what)
	}
}

// Requests remembers what was asked for. The zero value is ready; it is safe
// for concurrent use. Paths are meant as they stand in the request, escaped for
// upper case, with or without the leading slash.
type Requests struct {
	mu   sync.Mutex     // guards the following
	hits map[string]int // path without leading slash → GETs
	log  []string
}

// Count is next, with every request remembered in q.
func (q *Requests) Count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q.note(r)
		next.ServeHTTP(w, r)
	})
}

func (q *Requests) note(r *http.Request) {
	line := r.Method + " " + r.URL.Path
	if rng := r.Header.Get("Range"); rng != "" {
		line += " " + rng
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if r.Method == http.MethodGet {
		if q.hits == nil {
			q.hits = make(map[string]int)
		}
		q.hits[strings.TrimPrefix(r.URL.Path, "/")]++
	}
	q.log = append(q.log, line)
}

// Hits is the number of GETs of path so far.
func (q *Requests) Hits(path string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.hits[strings.TrimPrefix(path, "/")]
}

// HitsPrefix is the number of GETs of all paths that begin with prefix.
func (q *Requests) HitsPrefix(prefix string) int {
	prefix = strings.TrimPrefix(prefix, "/")
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for p, k := range q.hits {
		if strings.HasPrefix(p, prefix) {
			n += k
		}
	}
	return n
}

// Log is every request so far, oldest first: "GET /rsc.io/quote/@v/list", with
// the Range header behind it if there was one ("… bytes=100-").
func (q *Requests) Log() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.log)
}

// Forget starts counting afresh.
func (q *Requests) Forget() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.hits, q.log = nil, nil
}
