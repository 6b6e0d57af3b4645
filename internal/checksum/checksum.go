// Package checksum answers what the hashes of a module version are, on the
// authority of one checksum database: every answer is proven by the database's
// signed tree, which is kept and must be consistent with the one seen before.
// Records and tiles are cached, so that clients can verify through us when the
// database is out of reach.
//
// It decides nothing about modules that the database does not cover, and opens
// no connections itself: it asks Remotes.
//
// The protocol is https://go.dev/design/25530-sumdb; the proofs are
// golang.org/x/mod/sumdb's.
package checksum

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	tileHeight = 8 // of the protocol
	// maxAnswer bounds what a remote may answer: a full data tile is the largest
	// and far below.
	maxAnswer = 4 << 20
	// clientLookups is how many lookups one sumdb.Client serves before it is
	// replaced, since it remembers each of them for good.
	clientLookups = 2000
	// headFresh is how long a tree head is handed out without asking again.
	headFresh = time.Minute
	// downFresh is how long a database is held for unreachable, and an
	// unsupporting remote for unsupporting, without asking again.
	downFresh = 30 * time.Second
)

var (
	// ErrUnknown says that the database has no such module version. It does not
	// match fs.ErrNotExist: the module may well exist, unknown to the public.
	ErrUnknown = errors.New("the checksum database does not know this module version")
	// ErrUnreachable says that no remote could answer for the database.
	ErrUnreachable = errors.New("the checksum database cannot be reached")
	// ErrSecurity says that what a remote answered contradicts the database's
	// signature, or the tree seen before.
	ErrSecurity = errors.New("the checksum database's answer is forged or contradicts an earlier one")
)

// A Remote is a way to a database: the database itself, or a proxy that mirrors
// it. Get asks for a path of the database's own space, such as /lookup/M@V or
// /latest; its error matches fs.ErrNotExist if and only if the remote answered
// 404 or 410. Answers need not be trusted.
type Remote interface {
	Name() string
	Get(ctx context.Context, path string) ([]byte, error)
	// Mirror reports whether the remote is a proxy, which may or may not support
	// the database and says so at /supported.
	Mirror() bool
}

// A Cache keeps a database's files under names such as NAME/lookup/M@V. What it
// returns is as it was written; a damaged file reads as fs.ErrNotExist.
type Cache interface {
	ReadFile(name string) ([]byte, error)
	WriteFile(name string, data []byte) error
	// SwapFile replaces old with new, or fails with an error that matches the
	// Conflict of Config. An empty old means that there is no file.
	SwapFile(name string, old, new []byte) error
}

// Config is what a DB is made of.
type Config struct {
	Key      string // verifier key: NAME+HASH+KEY
	Dir      string // directory of the database's files in Cache; "" means NAME
	Remotes  []Remote
	Cache    Cache
	Conflict error         // what SwapFile fails with when old is not current
	Timeout  time.Duration // for one answer of one remote; 0 means 10s
	Log      func(msg string)
}

// A DB is a client of one checksum database. It is safe for concurrent use.
type DB struct {
	c        Config
	name     string
	verifier note.Verifier
	ways     []*way

	bg   sync.WaitGroup
	stop context.CancelFunc
	ctx  context.Context // ends with Close

	mu       sync.Mutex // guards the following; never held across I/O
	headAt   time.Time  // when the head was last read from a remote
	lastGood time.Time  // when a remote last answered anything
	lastBad  time.Time  // when all remotes last failed
	badErr   error
	flights  map[string]*flight
}

// A way is one remote with the sumdb.Client that trusts nothing of it.
type way struct {
	remote Remote

	mu          sync.Mutex
	client      *sumdb.Client
	ops         *ops
	used        int
	unsupported time.Time // until when a mirror is held for not supporting the database
	supported   bool
}

type flight struct {
	done chan struct{}
	data []byte
	err  error
}

// New makes a DB. Close it to wait for its background work.
func New(c Config) (*DB, error) {
	v, err := note.NewVerifier(c.Key)
	if err != nil {
		return nil, fmt.Errorf("checksum database key %q: %w; write NAME+HASH+KEY as the database publishes it", c.Key, err)
	}
	if u, err := url.Parse("https://" + v.Name()); err != nil || u.Host == "" || strings.HasSuffix(v.Name(), "/") {
		return nil, fmt.Errorf("checksum database name %q is not HOST or HOST/PATH", v.Name())
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Log == nil {
		c.Log = func(string) {}
	}
	if c.Dir == "" {
		c.Dir = v.Name()
	}
	d := &DB{c: c, name: v.Name(), verifier: v, flights: map[string]*flight{}}
	d.ctx, d.stop = context.WithCancel(context.Background())
	for _, r := range c.Remotes {
		d.ways = append(d.ways, &way{remote: r})
	}
	return d, nil
}

// Name is the database's name, such as sum.golang.org.
func (d *DB) Name() string { return d.name }

// Close ends background work and waits for it.
func (d *DB) Close() {
	d.stop()
	d.bg.Wait()
}

// Sums gives the h1 hashes of mod's zip and of its go.mod, proven. The error
// matches ErrUnknown, ErrUnreachable, ErrSecurity, or the context's cause.
func (d *DB) Sums(ctx context.Context, mod module.Version) (zip, gomod string, err error) {
	data, err := d.Lookup(ctx, mod)
	if err != nil {
		return "", "", err
	}
	_, text, _, err := tlog.ParseRecord(data)
	if err != nil {
		return "", "", fmt.Errorf("%w: %w", ErrSecurity, err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != mod.Path || !strings.HasPrefix(f[2], "h1:") {
			continue
		}
		switch f[1] {
		case mod.Version:
			zip = f[2]
		case mod.Version + "/go.mod":
			gomod = f[2]
		}
	}
	if zip == "" || gomod == "" {
		return "", "", fmt.Errorf("%w: its record of %s@%s lacks a hash", ErrUnknown, mod.Path, mod.Version)
	}
	return zip, gomod, nil
}

// Lookup is the database's record for mod, proven, as /lookup/ gives it: record
// number, go.sum lines, signed tree head. Errors are those of Sums.
func (d *DB) Lookup(ctx context.Context, mod module.Version) ([]byte, error) {
	esc, err := lookupPath(mod)
	if err != nil {
		return nil, err
	}
	return d.share(ctx, esc, func(ctx context.Context) ([]byte, error) { return d.lookup(ctx, mod, esc) })
}

func lookupPath(mod module.Version) (string, error) {
	p, err := module.EscapePath(mod.Path)
	if err != nil {
		return "", err
	}
	v, err := module.EscapeVersion(mod.Version)
	if err != nil {
		return "", err
	}
	return "/lookup/" + p + "@" + v, nil
}

// share makes concurrent calls for one key one call, which no caller's leaving
// can spoil.
func (d *DB) share(ctx context.Context, key string, f func(context.Context) ([]byte, error)) ([]byte, error) {
	d.mu.Lock()
	fl := d.flights[key]
	if fl == nil {
		fl = &flight{done: make(chan struct{})}
		d.flights[key] = fl
		d.bg.Go(func() {
			// The database's budget, not the first caller's, bounds the call.
			fl.data, fl.err = f(context.WithoutCancel(ctx))
			d.mu.Lock()
			delete(d.flights, key)
			d.mu.Unlock()
			close(fl.done)
		})
	}
	d.mu.Unlock()
	select {
	case <-fl.done:
		return fl.data, fl.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (d *DB) lookup(ctx context.Context, mod module.Version, path string) ([]byte, error) {
	if data, err := d.c.Cache.ReadFile(d.c.Dir + path); err == nil {
		if d.proveCached(mod, data) {
			return data, nil
		}
	}
	var unknown, trouble, unsupported []error
	for _, w := range d.ways {
		data, err := d.get(ctx, w, path)
		if err == nil {
			if err = d.prove(w, mod, path, data); err == nil {
				d.completeTiles(ctx, w, data)
				return data, nil
			}
		}
		switch {
		case errors.Is(err, errUnsupported):
			unsupported = append(unsupported, err) // says nothing about any module
		case errors.Is(err, fs.ErrNotExist):
			unknown = append(unknown, fmt.Errorf("%s: %w", w.remote.Name(), err))
		default:
			trouble = append(trouble, err)
		}
	}
	for _, err := range trouble {
		if errors.Is(err, ErrSecurity) {
			return nil, err
		}
	}
	if len(unknown) > 0 && len(trouble) == 0 {
		return nil, fmt.Errorf("%w: %s@%s", ErrUnknown, mod.Path, mod.Version)
	}
	return nil, d.unreachable(slices.Concat(trouble, unknown, unsupported))
}

func (d *DB) unreachable(errs []error) error {
	if len(errs) == 0 {
		return fmt.Errorf("%w: nothing is configured to ask for it", ErrUnreachable)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, errors.Join(errs...))
}

// proveCached checks a cached record's signature against the key; that it is in
// the tree was proven before it was cached.
func (d *DB) proveCached(mod module.Version, data []byte) bool {
	_, text, tree, err := tlog.ParseRecord(data)
	if err != nil || !bytes.Contains(text, []byte(mod.Path+" "+mod.Version+" ")) {
		return false
	}
	_, err = note.Open(tree, note.VerifierList(d.verifier))
	return err == nil
}

// get asks one remote, within its budget.
func (d *DB) get(ctx context.Context, w *way, path string) ([]byte, error) {
	if w.remote.Mirror() {
		if err := d.mirrors(ctx, w); err != nil {
			return nil, err
		}
	}
	return d.ask(ctx, w, path)
}

func (d *DB) ask(ctx context.Context, w *way, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d.c.Timeout, errTimeout)
	defer cancel()
	data, err := w.remote.Get(ctx, path)
	if err == nil && len(data) > maxAnswer {
		err = fmt.Errorf("%s: the answer is larger than %d bytes", w.remote.Name(), maxAnswer)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		d.lastGood, d.badErr = time.Now(), nil
	} else {
		d.lastBad, d.badErr = time.Now(), err
	}
	return data, err
}

var errTimeout = fmt.Errorf("the checksum database's time budget is spent: %w", context.DeadlineExceeded)

// errUnsupported marks a proxy that does not mirror the database. It is no
// answer about any module.
var errUnsupported = errors.New("does not mirror this checksum database")

// mirrors finds out once whether a proxy supports the database, as the go
// command does before it asks anything else.
func (d *DB) mirrors(ctx context.Context, w *way) error {
	w.mu.Lock()
	known, until := w.supported, w.unsupported
	w.mu.Unlock()
	if known {
		return nil
	}
	no := fmt.Errorf("%s: %w", w.remote.Name(), errUnsupported)
	if time.Now().Before(until) {
		return no
	}
	_, err := d.ask(ctx, w, "/supported")
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.supported = true
		return nil
	case errors.Is(err, fs.ErrNotExist):
		w.unsupported = time.Now().Add(10 * time.Minute)
		return no
	}
	return err
}

// prove checks a record that a remote gave, and caches it.
func (d *DB) prove(w *way, mod module.Version, path string, data []byte) error {
	w.mu.Lock()
	if w.client == nil || w.used >= clientLookups {
		w.ops = &ops{d: d, w: w, given: map[string][]byte{}}
		w.client, w.used = sumdb.NewClient(w.ops), 0
	}
	client, o := w.client, w.ops
	w.used++
	w.mu.Unlock()

	o.give(path, data)
	_, err := client.Lookup(mod.Path, mod.Version)
	if err == nil && !o.taken(path) {
		// The client answered from its memory (the cache cannot be written), so
		// these bytes are not what it proved. A new client proves them.
		w.mu.Lock()
		w.client = nil
		w.mu.Unlock()
		return d.prove(w, mod, path, data)
	}
	if err == nil {
		return nil
	}
	// A client remembers its failures for good.
	w.mu.Lock()
	if w.client == client {
		w.client = nil
	}
	w.mu.Unlock()
	if msg := o.security(); msg != "" {
		d.c.Log(msg)
		return fmt.Errorf("%s: %w", w.remote.Name(), ErrSecurity)
	}
	if rerr := o.remoteErr(); rerr != nil {
		return fmt.Errorf("%s: the proof cannot be read: %w", w.remote.Name(), hideNotExist{rerr})
	}
	return fmt.Errorf("%s: %w: %w", w.remote.Name(), ErrSecurity, err)
}

type hideNotExist struct{ err error }

func (h hideNotExist) Error() string { return h.err.Error() }

// completeTiles makes the tiles of a record's own tree head complete in the
// cache, so that a client that starts from this head can prove it with nothing
// but our cache. Failure costs only that.
func (d *DB) completeTiles(ctx context.Context, w *way, data []byte) {
	id, _, msg, err := tlog.ParseRecord(data)
	if err != nil {
		return
	}
	tree, err := d.openTree(msg)
	if err != nil {
		return
	}
	r := &tileReader{d: d, ctx: ctx, first: w}
	if _, err := tlog.TileHashReader(tree, r).ReadHashes([]int64{tlog.StoredHashIndex(0, id)}); err != nil {
		d.c.Log(fmt.Sprintf("checksum database %s: tiles for offline proofs are incomplete: %v", d.name, err))
	}
}

// completeEdge reads the tiles that were partial at the end of the old tree as
// they are in the new one. With them, whatever was provable in the old tree is
// provable in the new one from the cache alone: all other tiles on the way from
// a record to the root were full and stay as they are.
func (d *DB) completeEdge(w *way, oldN int64, tree tlog.Tree) {
	var want []int64
	for level := 0; ; level++ {
		n := oldN >> (tileHeight * level)
		if n == 0 {
			break
		}
		if n%(1<<tileHeight) != 0 {
			want = append(want, tlog.StoredHashIndex(tileHeight*level, n&^(1<<tileHeight-1)))
		}
	}
	if len(want) == 0 {
		return
	}
	r := &tileReader{d: d, ctx: d.ctx, first: w}
	if _, err := tlog.TileHashReader(tree, r).ReadHashes(want); err != nil && d.ctx.Err() == nil {
		d.c.Log(fmt.Sprintf("checksum database %s: tiles for offline proofs are incomplete: %v", d.name, err))
	}
}

// openTree verifies a signed tree head.
func (d *DB) openTree(msg []byte) (tlog.Tree, error) {
	n, err := note.Open(msg, note.VerifierList(d.verifier))
	if err != nil {
		return tlog.Tree{}, fmt.Errorf("%w: %w", ErrSecurity, err)
	}
	return tlog.ParseTree([]byte(n.Text))
}

// head is the latest tree head that we have proven, and its size; nil before
// the first.
func (d *DB) head() ([]byte, tlog.Tree) {
	msg, err := d.c.Cache.ReadFile(d.c.Dir + "/latest")
	if err != nil || len(msg) == 0 {
		return nil, tlog.Tree{}
	}
	tree, err := d.openTree(msg)
	if err != nil {
		return nil, tlog.Tree{}
	}
	return msg, tree
}

// Latest is a signed tree head of the database, as /latest gives it: the remote's
// where one answers, else the one seen last.
func (d *DB) Latest(ctx context.Context) ([]byte, error) {
	msg, _ := d.head()
	d.mu.Lock()
	fresh := time.Since(d.headAt) < headFresh
	d.mu.Unlock()
	if msg != nil && fresh {
		return msg, nil
	}
	got, err := d.share(ctx, "/latest", func(ctx context.Context) ([]byte, error) {
		var errs []error
		for _, w := range d.ways {
			data, err := d.get(ctx, w, "/latest")
			if err == nil {
				if _, err = d.openTree(data); err == nil {
					d.mu.Lock()
					d.headAt = time.Now()
					d.mu.Unlock()
					return data, nil
				}
			}
			errs = append(errs, err)
		}
		return nil, d.unreachable(errs)
	})
	if err != nil && msg != nil {
		return msg, nil
	}
	return got, err
}

// Tile is the content of a tile, as /tile/H/L/N[.p/W] gives it. Hash tiles that
// lie within the proven tree are proven before they are cached; others, and data
// tiles, are handed on as they come, for the client to prove. The error matches
// fs.ErrNotExist if the path is no tile or the database has none there.
func (d *DB) Tile(ctx context.Context, path string) ([]byte, error) {
	t, err := tlog.ParseTilePath(strings.TrimPrefix(path, "/"))
	if err != nil {
		return nil, &noTileError{path}
	}
	return d.share(ctx, path, func(ctx context.Context) ([]byte, error) {
		r := &tileReader{d: d, ctx: ctx}
		if t.L < 0 || t.H != tileHeight {
			return r.fetch(t)
		}
		if data, ok := r.cached(t); ok {
			return data, nil
		}
		// Within our head: prove it, which caches it as wide as the head has it.
		if _, tree := d.head(); tree.N>>(tileHeight*t.L) >= t.N<<tileHeight+int64(t.W) {
			index := tlog.StoredHashIndex(tileHeight*t.L, t.N<<tileHeight)
			if _, err := tlog.TileHashReader(tree, r).ReadHashes([]int64{index}); err != nil {
				return nil, err
			}
			if data, ok := r.cached(t); ok {
				return data, nil
			}
		}
		return r.fetch(t)
	})
}

type noTileError struct{ path string }

func (e *noTileError) Error() string        { return e.path + " is no tile" }
func (e *noTileError) Is(target error) bool { return target == fs.ErrNotExist }

// Reachable reports whether we can serve the database: because it answers, or
// because we have answers of it. It asks it if nothing is known.
func (d *DB) Reachable(ctx context.Context) error {
	if msg, _ := d.head(); msg != nil {
		return nil
	}
	d.mu.Lock()
	good, bad, err := d.lastGood, d.lastBad, d.badErr
	d.mu.Unlock()
	if good.After(bad) {
		return nil
	}
	if time.Since(bad) < downFresh && err != nil {
		return d.unreachable([]error{err})
	}
	_, err = d.Latest(ctx)
	return err
}

// ops is one sumdb.Client's access to the world.
type ops struct {
	d *DB
	w *way

	mu    sync.Mutex
	given map[string][]byte // answers already fetched, by path
	sec   string
	rerr  error
}

func (o *ops) give(path string, data []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.given[path] = data
}

// taken reports whether the answer given for path was used, and forgets it.
func (o *ops) taken(path string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, left := o.given[path]
	delete(o.given, path)
	return !left
}

func (o *ops) security() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sec
}

func (o *ops) remoteErr() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.rerr
}

// ReadRemote implements sumdb.ClientOps. Lookups were fetched before, with their
// errors told apart; so it is asked for tiles.
func (o *ops) ReadRemote(path string) ([]byte, error) {
	o.mu.Lock()
	data, ok := o.given[path]
	delete(o.given, path)
	o.mu.Unlock()
	if ok {
		return data, nil
	}
	data, err := o.d.get(o.d.ctx, o.w, path)
	if err != nil {
		o.mu.Lock()
		o.rerr = err
		o.mu.Unlock()
	}
	return data, err
}

// ReadConfig implements sumdb.ClientOps.
func (o *ops) ReadConfig(file string) ([]byte, error) {
	if file == "key" {
		return []byte(o.d.c.Key), nil
	}
	data, err := o.d.c.Cache.ReadFile(o.d.file(file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// WriteConfig implements sumdb.ClientOps: it moves the tree head forward.
func (o *ops) WriteConfig(file string, old, new []byte) error {
	err := o.d.c.Cache.SwapFile(o.d.file(file), old, new)
	if errors.Is(err, o.d.c.Conflict) {
		return sumdb.ErrWriteConflict
	}
	if err != nil {
		// A store that cannot be written costs the memory of the head across
		// restarts, not the build.
		o.d.c.Log(fmt.Sprintf("checksum database %s: the tree head is not kept: %v", o.d.name, err))
		return nil
	}
	before, berr := o.d.openTree(old)
	after, aerr := o.d.openTree(new)
	if berr == nil && aerr == nil && o.d.ctx.Err() == nil {
		o.d.bg.Go(func() { o.d.completeEdge(o.w, before.N, after) })
	}
	return nil
}

// ReadCache implements sumdb.ClientOps. Lookups never come from the cache here:
// they were given.
func (o *ops) ReadCache(file string) ([]byte, error) {
	if rest, ok := strings.CutPrefix(file, o.d.name+"/lookup/"); ok {
		o.mu.Lock()
		_, given := o.given["/lookup/"+rest]
		o.mu.Unlock()
		if given {
			return nil, fs.ErrNotExist
		}
	}
	if t, err := tlog.ParseTilePath(strings.TrimPrefix(file, o.d.name+"/")); err == nil {
		if data, ok := (&tileReader{d: o.d}).cached(t); ok {
			return data, nil
		}
		return nil, fs.ErrNotExist
	}
	return o.d.c.Cache.ReadFile(o.d.file(file))
}

// WriteCache implements sumdb.ClientOps.
func (o *ops) WriteCache(file string, data []byte) { o.d.cache(file, data) }

// file is where the cache has what sumdb.Client calls NAME/….
func (d *DB) file(name string) string { return d.c.Dir + strings.TrimPrefix(name, d.name) }

func (d *DB) cache(file string, data []byte) {
	if err := d.c.Cache.WriteFile(d.file(file), data); err != nil {
		d.c.Log(fmt.Sprintf("checksum database %s: not cached: %v", d.name, err))
	}
}

// Log implements sumdb.ClientOps.
func (o *ops) Log(msg string) { o.d.c.Log(msg) }

// SecurityError implements sumdb.ClientOps.
func (o *ops) SecurityError(msg string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sec = msg
}

// A tileReader reads tiles from the cache or the remotes, and caches what has
// been proven. It implements tlog.TileReader.
type tileReader struct {
	d     *DB
	ctx   context.Context
	first *way // asked first; may be nil
}

// Height implements tlog.TileReader.
func (r *tileReader) Height() int { return tileHeight }

// ReadTiles implements tlog.TileReader.
func (r *tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	errs := make([]error, len(tiles))
	var wg sync.WaitGroup
	for i, t := range tiles {
		wg.Go(func() {
			if cached, ok := r.cached(t); ok {
				data[i] = cached
				return
			}
			data[i], errs[i] = r.fetch(t)
		})
	}
	wg.Wait()
	return data, errors.Join(errs...)
}

// SaveTiles implements tlog.TileReader: the tiles have been proven.
func (r *tileReader) SaveTiles(tiles []tlog.Tile, data [][]byte) {
	for i, t := range tiles {
		if _, err := r.d.c.Cache.ReadFile(r.d.c.Dir + "/" + t.Path()); err != nil {
			r.d.cache(r.d.name+"/"+t.Path(), data[i]) // as sumdb.Client names it
		}
	}
}

// cached reads a tile from the cache; a partial tile also from the front of the
// full one.
func (r *tileReader) cached(t tlog.Tile) ([]byte, bool) {
	if data, err := r.d.c.Cache.ReadFile(r.d.c.Dir + "/" + t.Path()); err == nil {
		return data, true
	}
	size := t.W * tlog.HashSize
	full := t
	full.W = 1 << t.H
	if t.L >= 0 && full.W != t.W {
		if data, err := r.d.c.Cache.ReadFile(r.d.c.Dir + "/" + full.Path()); err == nil && len(data) >= size {
			return data[:size], true
		}
		// The width of our own head is the other one that we are likely to have.
		if _, tree := r.d.head(); tree.N > 0 {
			if w := tree.N>>(t.H*t.L) - t.N<<t.H; w > int64(t.W) && w < int64(full.W) {
				wide := t
				wide.W = int(w)
				if data, err := r.d.c.Cache.ReadFile(r.d.c.Dir + "/" + wide.Path()); err == nil && len(data) >= size {
					return data[:size], true
				}
			}
		}
	}
	return nil, false
}

// fetch reads a tile from the remotes, or a partial one from the full one that
// may have taken its place.
func (r *tileReader) fetch(t tlog.Tile) ([]byte, error) {
	ways := r.d.ways
	if r.first != nil {
		ways = append([]*way{r.first}, ways...)
	}
	var errs []error
	missing := len(ways) > 0
	for i, w := range ways {
		if i > 0 && w == r.first {
			continue
		}
		data, err := r.d.get(r.ctx, w, "/"+t.Path())
		if errors.Is(err, fs.ErrNotExist) && t.L >= 0 && t.W < 1<<t.H {
			full := t
			full.W = 1 << t.H
			if data, err = r.d.get(r.ctx, w, "/"+full.Path()); err == nil && len(data) >= t.W*tlog.HashSize {
				data = data[:t.W*tlog.HashSize]
			}
		}
		if err == nil && t.L >= 0 && len(data) != t.W*tlog.HashSize {
			err = fmt.Errorf("%s: %s has %d bytes, want %d", w.remote.Name(), t.Path(), len(data), t.W*tlog.HashSize)
		}
		if err == nil {
			return data, nil
		}
		missing = missing && errors.Is(err, fs.ErrNotExist)
		errs = append(errs, err)
	}
	if missing {
		return nil, &noTileError{t.Path()}
	}
	return nil, r.d.unreachable(errs)
}
