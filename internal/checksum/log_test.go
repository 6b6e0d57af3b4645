package checksum_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/modsluice/sluice/internal/checksum"
	"github.com/modsluice/sluice/internal/store"
)

const dbName = "sum.test"

// A log is a checksum database in memory. It is honest; a second log with the
// same key makes a fork, or a database that was set back.
type log struct {
	skey, vkey string
	seed       string // of its hashes: two logs of one seed have the same records
	srv        *sumdb.TestServer
}

func newLog(t testing.TB) *log {
	t.Helper()
	skey, vkey, err := note.GenerateKey(nil, dbName)
	if err != nil {
		t.Fatal(err)
	}
	return (&log{skey: skey, vkey: vkey}).again("")
}

// knownLog has the same key in every process, as inputs of a fuzz target need it.
func knownLog(t testing.TB) *log {
	t.Helper()
	seed := bytes.Repeat([]byte{7}, ed25519.SeedSize)
	vkey, err := note.NewEd25519VerifierKey(dbName, ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	hash := strings.Split(vkey, "+")[1]
	skey := "PRIVATE+KEY+" + dbName + "+" + hash + "+" + base64.StdEncoding.EncodeToString(append([]byte{1}, seed...))
	return (&log{skey: skey, vkey: vkey}).again("")
}

// again is another log with the same key, empty, with hashes of its own.
func (l *log) again(seed string) *log {
	n := &log{skey: l.skey, vkey: l.vkey, seed: seed}
	n.srv = newServer(n, func(path, vers string) string { return n.lines(module.Version{Path: path, Version: vers}) })
	return n
}

// newServer serves l's key, and knows everything but unknown.test.
func newServer(l *log, lines func(path, vers string) string) *sumdb.TestServer {
	return sumdb.NewTestServer(l.skey, func(path, vers string) ([]byte, error) {
		if strings.HasPrefix(path, "unknown.test") {
			return nil, fs.ErrNotExist
		}
		return []byte(lines(path, vers)), nil
	})
}

func (l *log) lines(m module.Version) string {
	return fmt.Sprintf("%s %s %s\n%[1]s %[2]s/go.mod %[4]s\n", m.Path, m.Version, l.hash(m, "zip"), l.hash(m, "mod"))
}

func (l *log) hash(m module.Version, what string) string {
	sum := sha256.Sum256([]byte(l.seed + m.String() + what))
	return "h1:" + base64.StdEncoding.EncodeToString(sum[:])
}

// add records modules.
func (l *log) add(mods ...module.Version) {
	for _, m := range mods {
		l.srv.Lookup(context.Background(), m)
	}
}

func mod(i int) module.Version {
	return module.Version{Path: fmt.Sprintf("example.com/Mod%d", i), Version: "v1.0.0"}
}

func mods(lo, hi int) (list []module.Version) {
	for i := lo; i < hi; i++ {
		list = append(list, mod(i))
	}
	return list
}

func missing(path string) error { return fmt.Errorf("%s: 404 Not Found: %w", path, fs.ErrNotExist) }

func (l *log) get(_ context.Context, path string) (data []byte, err error) {
	defer func() {
		if recover() != nil { // x/mod's test server: a tile beyond the tree
			data, err = nil, missing(path)
		}
	}()
	ctx := context.Background()
	switch {
	case path == "/supported":
		return nil, nil
	case path == "/latest":
		return l.srv.Signed(ctx)
	case strings.HasPrefix(path, "/lookup/"):
		p, v, _ := strings.Cut(strings.TrimPrefix(path, "/lookup/"), "@")
		p, err1 := module.UnescapePath(p)
		v, err2 := module.UnescapeVersion(v)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		id, err := l.srv.Lookup(ctx, module.Version{Path: p, Version: v})
		if err != nil {
			return nil, missing(path)
		}
		records, err := l.srv.ReadRecords(ctx, id, 1)
		if err != nil {
			return nil, err
		}
		msg, err := tlog.FormatRecord(id, records[0])
		if err != nil {
			return nil, err
		}
		head, err := l.srv.Signed(ctx)
		return slices.Concat(msg, head), err
	case strings.HasPrefix(path, "/tile/8/data/"):
		t, err := tlog.ParseTilePath(path[1:])
		if err != nil {
			return nil, missing(path)
		}
		records, err := l.srv.ReadRecords(ctx, t.N<<8, int64(t.W))
		if err != nil {
			return nil, missing(path)
		}
		return bytes.Join(records, []byte("\n")), nil
	default:
		t, err := tlog.ParseTilePath(path[1:])
		if err != nil {
			return nil, missing(path)
		}
		return l.srv.ReadTileData(ctx, t)
	}
}

// size is the number of records.
func (l *log) size(t testing.TB) int64 {
	msg, err := l.srv.Signed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return treeOf(t, l, msg).N
}

func treeOf(t testing.TB, l *log, msg []byte) tlog.Tree {
	t.Helper()
	v, err := note.NewVerifier(l.vkey)
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(msg, note.VerifierList(v))
	if err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	tree, err := tlog.ParseTree([]byte(n.Text))
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// A remote is a way to a log that may be spoiled.
type remote struct {
	name   string
	mirror bool

	mu    sync.Mutex
	calls []string
	h     func(ctx context.Context, path string) ([]byte, error)
}

func (r *remote) Name() string { return r.name }
func (r *remote) Mirror() bool { return r.mirror }

func (r *remote) Get(ctx context.Context, path string) ([]byte, error) {
	r.mu.Lock()
	r.calls = append(r.calls, path)
	h := r.h
	r.mu.Unlock()
	data, err := h(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.name, err)
	}
	return bytes.Clone(data), nil
}

// serve makes the remote answer with h from now on.
func (r *remote) serve(h func(ctx context.Context, path string) ([]byte, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.h = h
}

// asked is how often a path with that prefix was asked for since the last call.
func (r *remote) asked(prefix string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.calls {
		if strings.HasPrefix(c, prefix) {
			n++
		}
	}
	r.calls = nil
	return n
}

var errDown = errors.New("503 Service Unavailable")

func down(context.Context, string) ([]byte, error) { return nil, errDown }

func direct(l *log) *remote { return &remote{name: "database", h: l.get} }
func mirror(l *log) *remote { return &remote{name: "mirror", mirror: true, h: l.get} }

// spoilt is l with the answers to paths of a prefix changed.
func spoilt(l *log, prefix string, change func([]byte) []byte) func(context.Context, string) ([]byte, error) {
	return func(ctx context.Context, path string) ([]byte, error) {
		data, err := l.get(ctx, path)
		if err == nil && strings.HasPrefix(path, prefix) {
			data = change(bytes.Clone(data))
		}
		return data, err
	}
}

// A shelf is a cache that can fail.
type shelf struct {
	checksum.Cache
	mu          sync.Mutex
	read, write error
	crashing    bool   // no write behind the next move of the head reaches the disk
	onSwap      func() // before a move of the head; set before use
}

func (s *shelf) crash(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.crashing = on; !on {
		s.write = nil
	}
}

func newShelf() *shelf { return &shelf{Cache: store.NewMem()} }

func (s *shelf) fail(read, write error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read, s.write = read, write
}

func (s *shelf) errs() (read, write error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read, s.write
}

func (s *shelf) ReadFile(name string) ([]byte, error) {
	if err, _ := s.errs(); err != nil {
		return nil, err
	}
	return s.Cache.ReadFile(name)
}

func (s *shelf) WriteFile(name string, data []byte) error {
	if _, err := s.errs(); err != nil {
		return err
	}
	return s.Cache.WriteFile(name, data)
}

func (s *shelf) SwapFile(name string, old, new []byte) error {
	if s.onSwap != nil {
		s.onSwap()
	}
	if _, err := s.errs(); err != nil {
		return err
	}
	err := s.Cache.SwapFile(name, old, new)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.crashing {
		s.write = errors.New("crashed")
	}
	return err
}

// file reads a file of the cache as a static web server would.
func (s *shelf) file(path string) ([]byte, error) { return s.Cache.ReadFile(dbName + path) }

// open makes a DB that ends with the test.
func open(t testing.TB, l *log, cache checksum.Cache, remotes ...*remote) *checksum.DB {
	t.Helper()
	c := checksum.Config{Key: l.vkey, Cache: cache, Conflict: store.ErrConflict, Log: func(msg string) { t.Log(msg) }}
	for _, r := range remotes {
		c.Remotes = append(c.Remotes, r)
	}
	d, err := checksum.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// hasSums demands that d knows the hashes that l has for the modules.
func hasSums(t testing.TB, d *checksum.DB, l *log, list ...module.Version) {
	t.Helper()
	for _, m := range list {
		zip, gomod, err := d.Sums(t.Context(), m)
		if err != nil || zip != l.hash(m, "zip") || gomod != l.hash(m, "mod") {
			t.Fatalf("Sums(%s) = %s, %s, %v; want %s, %s", m, zip, gomod, err, l.hash(m, "zip"), l.hash(m, "mod"))
		}
	}
}

// wantErr demands that Sums fails with one of the package's errors only.
func wantErr(t testing.TB, d *checksum.DB, m module.Version, want error) error {
	t.Helper()
	zip, gomod, err := d.Sums(t.Context(), m)
	for _, e := range []error{checksum.ErrUnknown, checksum.ErrUnreachable, checksum.ErrSecurity} {
		if errors.Is(err, e) != (e == want) {
			t.Fatalf("Sums(%s) = %q, %q, %v; want %v", m, zip, gomod, err, want)
		}
	}
	if errors.Is(err, fs.ErrNotExist) || zip != "" || gomod != "" {
		t.Fatalf("Sums(%s) = %q, %q, %v; that must not look like a module that is missing", m, zip, gomod, err)
	}
	return err
}

// A client is a go command that starts afresh and reads through read.
type client struct {
	vkey string
	read func(path string) ([]byte, error)

	mu    sync.Mutex
	head  []byte
	files map[string][]byte
	fork  string
}

func (c *client) ReadRemote(path string) ([]byte, error) { return c.read(path) }

func (c *client) ReadConfig(file string) ([]byte, error) {
	if file == "key" {
		return []byte(c.vkey), nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.head, nil
}

func (c *client) WriteConfig(_ string, _, new []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.head = new
	return nil
}

func (c *client) ReadCache(file string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if data, ok := c.files[file]; ok {
		return data, nil
	}
	return nil, fs.ErrNotExist
}

func (c *client) WriteCache(file string, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.files == nil {
		c.files = map[string][]byte{}
	}
	c.files[file] = data
}

func (c *client) Log(string)               {}
func (c *client) SecurityError(msg string) { c.fork = msg }

// verifies demands that a fresh client can prove every module of list, in that
// order, by what read gives it.
func verifies(t testing.TB, l *log, what string, read func(path string) ([]byte, error), list []module.Version) {
	t.Helper()
	var asked []string
	var mu sync.Mutex
	c := &client{vkey: l.vkey, read: func(path string) ([]byte, error) {
		data, err := read(path)
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, fmt.Sprint(path, " ", err == nil))
		return data, err
	}}
	sc := sumdb.NewClient(c)
	for i, m := range list {
		got, err := sc.Lookup(m.Path, m.Version)
		want, _, _ := strings.Cut(l.lines(m), "\n")
		if err != nil || len(got) != 1 || got[0] != want {
			t.Fatalf("%s: a fresh client cannot prove %s, the %d. of %d: %q, %v %s\nit asked for %s", what, m, i+1, len(list), got, err, c.fork, strings.Join(asked[max(0, len(asked)-12):], "\n\t"))
		}
	}
}

// offline reads through d as the go command does through our server.
func offline(t testing.TB, d *checksum.DB) func(path string) ([]byte, error) {
	return func(path string) ([]byte, error) {
		if esc, ok := strings.CutPrefix(path, "/lookup/"); ok {
			p, v, _ := strings.Cut(esc, "@")
			p, err := module.UnescapePath(p)
			if err != nil {
				return nil, err
			}
			return d.Lookup(t.Context(), module.Version{Path: p, Version: v})
		}
		return d.Tile(t.Context(), path)
	}
}

func shuffled(r *rand.Rand, list []module.Version) []module.Version {
	list = slices.Clone(list)
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}
