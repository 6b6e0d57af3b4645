package modtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A SumDB is a checksum database that signs with a key of its own. It records a
// module version of its world when it is first asked for it, and then stays with
// what it recorded. As an http.Handler it serves /lookup/, /latest, /tile/ and
// /supported. It misbehaves only where a switch says so; switches may be thrown
// while it serves.
type SumDB struct {
	Requests // what it was asked for, paths beginning with lookup/, latest, tile/

	Name string
	VKey string // its public key, "NAME+HASH+KEY"

	w      *World
	honest *sumdb.TestServer
	forked *sumdb.TestServer // the same key over another history

	mu       sync.Mutex // guards the following
	recorded map[module.Version]bool
	lies     map[module.Version]bool
	unknown  map[module.Version]bool // a version, or with no Version all of the path
	down     bool
	hang     bool
	fork     bool
}

// SumDB makes a checksum database over this world. The name must be one that
// the go command takes, such as "sumdb.test".
func (w *World) SumDB(name string) *SumDB {
	w.t.Helper()
	skey, vkey, err := note.GenerateKey(nil, name)
	if err != nil {
		w.t.Fatalf("modtest: key for checksum database %q: %v", name, err)
	}
	db := &SumDB{
		Name:     name,
		VKey:     vkey,
		w:        w,
		recorded: make(map[module.Version]bool),
		lies:     make(map[module.Version]bool),
		unknown:  make(map[module.Version]bool),
	}
	db.honest = sumdb.NewTestServer(skey, db.record)
	db.forked = sumdb.NewTestServer(skey, func(path, vers string) ([]byte, error) {
		if path == forkModule.Path {
			return goSumLines(forkModule, fakeHash("fork"), fakeHash("fork")), nil
		}
		return db.record(path, vers)
	})
	// One record that the honest tree never has, before all others, makes every
	// tree head of the fork disagree with every honest one.
	if _, err := db.forked.Lookup(context.Background(), forkModule); err != nil {
		w.t.Fatalf("modtest: checksum database %q: %v", name, err)
	}
	return db
}

var forkModule = module.Version{Path: "fork.test/only", Version: "v1.0.0"}

// GOSUMDB is the setting by which the go command uses the database at url, or
// through its GOPROXY if url is empty.
func (db *SumDB) GOSUMDB(url string) string {
	return strings.TrimSpace(db.VKey + " " + url)
}

// Down makes every answer a 503, or ends that.
func (db *SumDB) Down(on bool) { db.set(func() { db.down = on }) }

// Hang makes every request wait until its client gives up, or ends that.
func (db *SumDB) Hang(on bool) { db.set(func() { db.hang = on }) }

// Fork makes the database sign, with its right key, a tree that is larger than
// the one before and inconsistent with it; or goes back to that one.
func (db *SumDB) Fork(on bool) {
	db.w.t.Helper()
	db.mu.Lock()
	mods := slices.Collect(maps.Keys(db.recorded))
	db.mu.Unlock()
	module.Sort(mods)
	for _, m := range mods {
		if _, err := db.forked.Lookup(context.Background(), m); err != nil && on {
			db.w.t.Fatalf("modtest: fork of checksum database %s: %v", db.Name, err)
		}
	}
	db.set(func() { db.fork = on })
}

// Lie makes the database record made-up hashes for m. A record never changes, so
// it must be called before anybody asks for m.
func (db *SumDB) Lie(m module.Version) {
	db.w.t.Helper()
	db.set(func() {
		if db.recorded[m] {
			db.w.t.Fatalf("modtest: the checksum database has recorded %s already; lie about it before it is asked for", m)
		}
		db.lies[m] = true
	})
}

// Unknown makes lookups of m a 404, of every version if m has none; on = false
// ends that.
func (db *SumDB) Unknown(m module.Version, on bool) { db.set(func() { db.unknown[m] = on }) }

func (db *SumDB) set(f func()) {
	db.mu.Lock()
	defer db.mu.Unlock()
	f()
}

// record makes the go.sum lines of a module version.
func (db *SumDB) record(path, vers string) ([]byte, error) {
	m := module.Version{Path: path, Version: vers}
	v, ok := db.w.lookup(m)
	if !ok {
		// x/mod's server asks os.IsNotExist, which sees through no other wrapping.
		return nil, &fs.PathError{Op: "lookup", Path: m.String(), Err: fs.ErrNotExist}
	}
	db.mu.Lock()
	lie := db.lies[m]
	db.recorded[m] = true
	db.mu.Unlock()
	if lie {
		return goSumLines(m, fakeHash(m.String()), fakeHash(m.String()+"/go.mod")), nil
	}
	h, err := v.h1()
	if err != nil {
		return nil, err
	}
	return goSumLines(m, h, h1Mod(v.mod)), nil
}

func goSumLines(m module.Version, zip, mod string) []byte {
	return fmt.Appendf(nil, "%s %s %s\n%[1]s %[2]s/go.mod %[4]s\n", m.Path, m.Version, zip, mod)
}

func fakeHash(s string) string {
	sum := sha256.Sum256([]byte("made up: " + s))
	return "h1:" + base64.StdEncoding.EncodeToString(sum[:])
}

// ServeHTTP serves the database with its paths at the root.
func (db *SumDB) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	db.note(r)
	db.mu.Lock()
	down, hang, ops := db.down, db.hang, db.honest
	if db.fork {
		ops = db.forked
	}
	db.mu.Unlock()
	switch {
	case hang:
		<-r.Context().Done()
		return
	case down:
		http.Error(w, "the checksum database is down", http.StatusServiceUnavailable)
		return
	case r.URL.Path == "/supported":
		return
	}
	// What x/mod's server answers with 500, or dies of, the real one answers
	// with 400 and 404.
	if esc, ok := strings.CutPrefix(r.URL.Path, "/lookup/"); ok {
		p, v, _ := strings.Cut(esc, "@")
		path, err1 := module.UnescapePath(p)
		vers, err2 := module.UnescapeVersion(v)
		if err1 != nil || err2 != nil {
			http.Error(w, "bad request: malformed module@version", http.StatusBadRequest)
			return
		}
		db.mu.Lock()
		unknown := db.unknown[module.Version{Path: path, Version: vers}] || db.unknown[module.Version{Path: path}]
		db.mu.Unlock()
		if unknown {
			http.Error(w, "not found: "+path+"@"+vers, http.StatusNotFound)
			return
		}
	}
	if strings.HasPrefix(r.URL.Path, "/tile/") && !hasTile(r.Context(), ops, r.URL.Path[1:]) {
		http.Error(w, "not found: the tree has no such tile", http.StatusNotFound)
		return
	}
	sumdb.NewServer(ops).ServeHTTP(w, r)
}

// hasTile reports whether the tree is large enough for the tile. What is no
// tile at all is left to the server to refuse.
func hasTile(ctx context.Context, ops *sumdb.TestServer, path string) bool {
	t, err := tlog.ParseTilePath(path)
	if err != nil {
		return true
	}
	signed, err := ops.Signed(ctx)
	if err != nil {
		return false
	}
	text, _, _ := bytes.Cut(signed, []byte("\n\n"))
	tree, err := tlog.ParseTree(append(text, '\n'))
	if err != nil {
		return false
	}
	level := max(t.L, 0) * t.H
	if level > 62 || t.N > tree.N {
		return false
	}
	return t.N<<t.H+int64(t.W) <= tree.N>>level
}
