// Package checksum answers what the hashes of a module version are, on the
// authority of one checksum database: every answer is proven by the database's
// signed tree, which is kept and must be consistent with the one seen before.
// Records and tiles are cached, so that clients can verify through us, or from
// the cached files alone, when the database is out of reach.
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
	"maps"
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
	fullTile   = 1 << tileHeight
	// maxLevel and maxTile are beyond any tree: 2^62 records. Arithmetic on
	// what clients ask for stays in its bounds below them.
	maxLevel = 7
	maxTile  = 1 << 54
	// maxAnswer bounds what a remote may answer: a full data tile is the largest
	// and far below.
	maxAnswer = 4 << 20
	// keptTiles is how many tiles of one remote are remembered at least, proven or
	// not, so that concurrent proofs ask for each once: 8 KiB each, and twice as
	// many at most.
	keptTiles = 256
	// keptProven is how many tiles of the newest tree are remembered as proven, at
	// least, and twice as many at most.
	keptProven = 256
	// keptHeads is how many signed tree heads are remembered as verified. A
	// database gives a new one every few minutes at most.
	keptHeads = 16
	// headFresh is how long a tree head is handed out without asking again.
	headFresh = time.Minute
	// downFresh is how long a database is held for unreachable without asking
	// again, and a remote in trouble is asked after all others.
	downFresh = 30 * time.Second
	// lateAfter is how long a remote is waited for alone, at least and at most: some
	// round trips, or a few times what it usually takes.
	lateAfter  = 250 * time.Millisecond
	lateAtMost = 5 * time.Second
	// unsupportedFresh is how long a proxy is held for not mirroring the database.
	unsupportedFresh = 10 * time.Minute
)

var (
	// ErrUnknown says that the database has no such module version. It does not
	// match fs.ErrNotExist: the module may well exist, unknown to the public.
	ErrUnknown = errors.New("the checksum database does not know this module version")
	// ErrUnreachable says that no remote could answer for the database. It does
	// not match fs.ErrNotExist either.
	ErrUnreachable = errors.New("the checksum database cannot be reached")
	// ErrSecurity says that what a remote answered contradicts the database's
	// signature, or the tree seen before.
	ErrSecurity = errors.New("the checksum database's answer is forged or contradicts an earlier one")
)

// A Remote is a way to a database: the database itself, or a proxy that mirrors
// it. Get asks for a path of the database's own space, such as /lookup/M@V or
// /latest; its error names the remote, and matches fs.ErrNotExist if and only if
// the remote answered 404 or 410. Answers need not be trusted.
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
	// Avoid reports whether the remote of that name is known to be in trouble, by
	// other evidence than ours: it is asked last. Nil: none is.
	Avoid func(remote string) bool
}

// A DB is a client of one checksum database. It is safe for concurrent use.
type DB struct {
	c        Config
	name     string
	verifier note.Verifier
	ways     []*way // in the order of the configuration

	bg   sync.WaitGroup
	ctx  context.Context // ends with Close
	stop context.CancelFunc

	mu         sync.Mutex // guards the following; never held across I/O
	closed     bool
	flights    map[string]*flight
	seen       []byte    // the newest head that a remote gave at /latest, not proven to follow ours
	seenAt     time.Time // when a remote gave one
	good       bool      // the last answer of a remote was one
	bad        error     // else why not; nil before the first
	badAt      time.Time
	unwritable bool // the last write to the cache failed

	heads  map[string]tlog.Tree // by signed tree head: those whose signature is good
	grown  tlog.Tree            // the tree that proven is of
	proven recent[tlog.Tile, []byte]

	// Where the cache does not take the tree head, it is kept here, and base is
	// what the cache has in its place.
	kept, base []byte
}

// A way is one remote with what is known of it.
type way struct {
	remote Remote

	mu          sync.Mutex // guards the following; never held across I/O
	supported   bool       // a mirror has said that it supports the database
	unsupported time.Time  // until when a mirror is held for not supporting it
	down        time.Time  // until when it is asked after the others
	asked       recent[string, *flight]
	usual       time.Duration // that an answer takes, as a moving average; 0 before the first
}

// patience is how long the remote is waited for before the next is asked too.
func (w *way) patience() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return min(max(lateAfter, 4*w.usual), lateAtMost)
}

// A flight is one call that many wait for.
type flight struct {
	done chan struct{}
	data []byte
	err  error
}

// New makes a DB. Close it to end its work and wait for it.
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

// Close ends all calls that are under way, with ErrUnreachable, and waits for
// them. Later ones fail in the same way.
func (d *DB) Close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
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
	if zip, gomod = hashes(text, mod); zip == "" || gomod == "" {
		return "", "", fmt.Errorf("%w: its record of %s@%s lacks a hash", ErrUnknown, mod.Path, mod.Version)
	}
	return zip, gomod, nil
}

// hashes finds mod's lines in a record.
func hashes(text []byte, mod module.Version) (zip, gomod string) {
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
	return zip, gomod
}

// Lookup is the database's record for mod, proven, as /lookup/ gives it: record
// number, go.sum lines, signed tree head. The tree head may be a newer one than
// the remote sent. Errors are those of Sums.
func (d *DB) Lookup(ctx context.Context, mod module.Version) ([]byte, error) {
	path, err := lookupPath(mod)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknown, err) // what has no path has no record
	}
	return d.share(ctx, path, func(ctx context.Context) ([]byte, error) { return d.lookup(ctx, mod, path) })
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
// can spoil; Close ends it.
func (d *DB) share(ctx context.Context, key string, f func(context.Context) ([]byte, error)) ([]byte, error) {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil, errClosed
	}
	fl := d.flights[key]
	if fl == nil {
		fl = &flight{done: make(chan struct{})}
		d.flights[key] = fl
		d.bg.Go(func() {
			// The remotes' budgets, not the first caller's, bound the call.
			ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
			defer cancel(nil)
			defer context.AfterFunc(d.ctx, func() { cancel(errClosed) })()
			fl.data, fl.err = f(ctx)
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

var errClosed = fmt.Errorf("%w: its configuration was replaced, or the program ends", ErrUnreachable)

func (d *DB) lookup(ctx context.Context, mod module.Version, path string) ([]byte, error) {
	if data, err := d.c.Cache.ReadFile(d.c.Dir + path); err == nil && d.wasProven(mod, data) {
		return data, nil
	}
	var o outcome
	data, err := d.race(ctx, &o, func(ctx context.Context, w *way) ([]byte, error) {
		data, err := d.get(ctx, w, path)
		if err == nil {
			data, err = d.prove(ctx, w, mod, path, data)
		}
		return data, err
	})
	if err != nil {
		return nil, o.outcome(ctx, fmt.Errorf("%w: %s@%s", ErrUnknown, mod.Path, mod.Version))
	}
	return data, nil
}

// race asks the remotes in order until one has an answer; while one takes longer
// than it should, the next is asked too. One that is outdone so is asked after
// the others for a while.
func (d *DB) race(ctx context.Context, o *outcome, ask func(context.Context, *way) ([]byte, error)) ([]byte, error) {
	type end struct {
		w    *way
		data []byte
		err  error
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errOutdone)
	ways := d.order()
	ends := make(chan end, len(ways))
	var live []*way
	next := func() {
		w := ways[0]
		ways = ways[1:]
		live = append(live, w)
		d.bg.Go(func() {
			data, err := ask(ctx, w)
			ends <- end{w, data, err}
		})
	}
	t := time.NewTimer(time.Hour)
	defer t.Stop()
	for {
		if len(live) == 0 {
			if len(ways) == 0 {
				return nil, errNobody
			}
			next()
			t.Reset(live[0].patience())
		}
		select {
		case e := <-ends:
			if e.err == nil {
				for _, w := range live {
					if w == e.w {
						break
					}
					w.trouble(true)
				}
				return e.data, nil
			}
			o.add(e.w, e.err)
			live = slices.DeleteFunc(live, func(w *way) bool { return w == e.w })
		case <-t.C:
			if len(ways) > 0 {
				next()
				t.Reset(live[len(live)-1].patience())
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

var (
	errNobody  = errors.New("no remote has it")
	errOutdone = fmt.Errorf("another remote had it first: %w", context.Canceled)
)

// wasProven checks a cached record against the request and the key; that it is
// in the tree was proven before it was cached.
func (d *DB) wasProven(mod module.Version, data []byte) bool {
	id, text, msg, err := tlog.ParseRecord(data)
	if err != nil {
		return false
	}
	if zip, gomod := hashes(text, mod); zip == "" && gomod == "" {
		return false
	}
	tree, err := d.openTree(msg)
	return err == nil && id < tree.N
}

// An outcome is what the remotes said that had no answer.
type outcome struct {
	trouble     []error
	unsupported []error // of proxies that do not mirror the database
	missing     bool    // somebody said there is no such thing
	surely      bool    // the database itself did
}

func (o *outcome) add(w *way, err error) {
	switch {
	case errors.Is(err, ErrUnsupported):
		o.unsupported = append(o.unsupported, err)
	case errors.Is(err, fs.ErrNotExist):
		o.missing = true
		o.surely = o.surely || !w.remote.Mirror()
	default:
		o.trouble = append(o.trouble, err)
	}
}

// outcome is err, or why nobody waits for it any more.
func (o *outcome) outcome(ctx context.Context, missing error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return o.err(missing)
}

// err is missing if that is sure: because the database says so, or everybody
// who could be asked. A forgery comes first, since somebody has to look into it.
func (o *outcome) err(missing error) error {
	for _, err := range o.trouble {
		if errors.Is(err, ErrSecurity) {
			return err
		}
	}
	switch {
	case o.surely || o.missing && len(o.trouble) == 0:
		return missing
	case len(o.trouble) > 0:
		return fmt.Errorf("%w: %w", ErrUnreachable, errors.Join(o.trouble...))
	case len(o.unsupported) > 0:
		return fmt.Errorf("%w: %w", ErrUnreachable, errors.Join(o.unsupported...))
	}
	return fmt.Errorf("%w: nothing is configured to ask for it", ErrUnreachable)
}

// order is the remotes as they are asked: those that were in trouble last.
func (d *DB) order() []*way {
	now := time.Now()
	var up, down []*way
	for _, w := range d.ways {
		w.mu.Lock()
		late := now.Before(w.down)
		w.mu.Unlock()
		late = late || d.c.Avoid != nil && d.c.Avoid(w.remote.Name())
		if late {
			down = append(down, w)
		} else {
			up = append(up, w)
		}
	}
	return append(up, down...)
}

// get asks one remote, within its budget.
func (d *DB) get(ctx context.Context, w *way, path string) (data []byte, err error) {
	if w.remote.Mirror() {
		err = d.mirrors(ctx, w)
	}
	if err == nil {
		data, err = d.ask(ctx, w, path)
	}
	if errors.Is(context.Cause(ctx), errOutdone) {
		return data, err // it says nothing of the database
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case errors.Is(err, ErrUnsupported):
	case err == nil || errors.Is(err, fs.ErrNotExist):
		d.good, d.bad = true, nil
	default:
		d.good, d.bad, d.badAt = false, err, time.Now()
	}
	return data, err
}

func (d *DB) ask(ctx context.Context, w *way, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d.c.Timeout, errTimeout)
	defer cancel()
	start := time.Now()
	data, err := w.remote.Get(ctx, path)
	if err == nil {
		w.mu.Lock()
		took := time.Since(start)
		if w.usual == 0 {
			w.usual = took
		}
		w.usual += (took - w.usual) / 8
		w.mu.Unlock()
	}
	if err == nil && len(data) > maxAnswer {
		err = fmt.Errorf("%s: the answer is larger than %d bytes", w.remote.Name(), maxAnswer)
	}
	if !errors.Is(context.Cause(ctx), errOutdone) {
		w.trouble(err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrUnsupported))
	}
	return data, err
}

// trouble takes note of whether the remote is in trouble.
func (w *way) trouble(is bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down = (time.Time{}); is {
		w.down = time.Now().Add(downFresh)
	}
}

var errTimeout = fmt.Errorf("the checksum database's time budget is spent: %w", context.DeadlineExceeded)

// ErrUnsupported marks a remote that does not mirror the database, or as an error
// of its Get, not this file of it. It is no answer about any module.
var ErrUnsupported = errors.New("does not mirror this checksum database")

// mirrors finds out whether a proxy supports the database, as the go command
// does before it asks anything else.
func (d *DB) mirrors(ctx context.Context, w *way) error {
	w.mu.Lock()
	known, until := w.supported, w.unsupported
	w.mu.Unlock()
	if known {
		return nil
	}
	no := fmt.Errorf("%s: %w", w.remote.Name(), ErrUnsupported)
	if time.Now().Before(until) {
		return no
	}
	const path = "/supported"
	_, err := d.once(ctx, w, path, func(ctx context.Context) ([]byte, error) {
		data, err := d.ask(ctx, w, path)
		w.mu.Lock()
		defer w.mu.Unlock()
		switch {
		case err == nil:
			w.supported = true
		case errors.Is(err, fs.ErrNotExist):
			w.unsupported = time.Now().Add(unsupportedFresh)
		}
		return data, err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return no
	}
	return err
}

// once makes concurrent calls for one path one call, and remembers what it
// answered; failures are not remembered.
func (d *DB) once(ctx context.Context, w *way, path string, f func(context.Context) ([]byte, error)) ([]byte, error) {
	w.mu.Lock()
	fl := w.asked.get(path, keptTiles)
	if fl == nil {
		fl = &flight{done: make(chan struct{})}
		w.asked.put(path, fl, keptTiles)
		d.bg.Go(func() {
			// That its first caller leaves is nothing to the others.
			ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
			defer cancel(nil)
			defer context.AfterFunc(d.ctx, func() { cancel(errClosed) })()
			fl.data, fl.err = f(ctx)
			if fl.err != nil {
				w.mu.Lock()
				if w.asked.get(path, keptTiles) == fl {
					w.asked.remove(path)
				}
				w.mu.Unlock()
			}
			close(fl.done)
		})
	}
	w.mu.Unlock()
	select {
	case <-fl.done:
		return fl.data, fl.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// forget drops what the remote has answered: some of it is wrong.
func (w *way) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = recent[string, *flight]{}
}

// A recent remembers the n values at least that were put into it or got last, and
// twice as many at most. The zero value is empty.
type recent[K comparable, V any] struct{ young, old map[K]V }

// get is what was put for k; the zero V if that is not remembered.
func (r *recent[K, V]) get(k K, n int) V {
	v, ok := r.young[k]
	if ok {
		return v
	}
	if v, ok = r.old[k]; ok {
		r.put(k, v, n)
	}
	return v
}

func (r *recent[K, V]) put(k K, v V, n int) {
	if r.young == nil || len(r.young) >= n {
		r.young, r.old = map[K]V{}, r.young
	}
	delete(r.old, k)
	r.young[k] = v
}

func (r *recent[K, V]) remove(k K) {
	delete(r.young, k)
	delete(r.old, k)
}

// prove checks a record that a remote gave, and caches it. It returns the record
// with the newest tree head that it was proven in.
//
// That makes the cache complete: whatever was looked up can be proven from its
// files alone, by a client that looks things up in any order. Such a client
// meets only tree heads H of the chain that ours has gone, H1 < H2 < …, for
// which it reads the tiles of three kinds of hashes: those that make up H, those
// that make up an older head, and the records. All of them were read, and so
// cached, when H was ours; where ours went on to the next, the tiles that were
// partial at the edge of H were read again as they are there, because those are
// the ones that hold the hashes that make up H, which the consistency of the two
// heads is proven by. Full tiles stay as they are.
func (d *DB) prove(ctx context.Context, w *way, mod module.Version, path string, data []byte) ([]byte, error) {
	forged := func(err error) ([]byte, error) {
		w.trouble(true)
		return nil, fmt.Errorf("%s: %w: %w", w.remote.Name(), ErrSecurity, err)
	}
	id, text, msg, err := tlog.ParseRecord(data)
	if err != nil {
		w.trouble(true)
		return nil, fmt.Errorf("%s: the answer is no record of a checksum database", w.remote.Name())
	}
	if zip, gomod := hashes(text, mod); zip == "" && gomod == "" {
		return forged(errors.New("it is the record of another module version"))
	}
	tree, err := d.openTree(msg)
	if err != nil {
		return forged(err)
	}
	// A tile in the cache that is wrong would spoil every proof for good; so
	// where a proof fails that used one, it is tried once more without.
	for _, fresh := range []bool{false, true} {
		o := &ops{d: d, ctx: ctx, w: w, path: path, data: data, fresh: fresh}
		head, ours, herr := d.head()
		known := herr == nil && bytes.Equal(head, msg)
		if known {
			err = o.proveRecord(ours, id, text)
		} else {
			// A client of its own, because a client remembers its failures.
			_, err = sumdb.NewClient(o).Lookup(mod.Path, mod.Version)
		}
		switch {
		case err == nil:
			if o.flush() && known {
				d.provenNow(ours, o.tiles) // what is cached is complete at any time
			}
			if o.tree.N > tree.N {
				data = slices.Concat(data[:len(data)-len(msg)], o.head)
			}
			d.cache(d.c.Dir+path, data)
			return data, nil
		case o.local != nil:
			return nil, fmt.Errorf("the tree head seen last cannot be read: %w", hideNotExist{o.local})
		case o.security != "":
			d.c.Log(o.security)
			err = errors.New("it contradicts the tree seen before")
		case o.remote != nil:
			return nil, fmt.Errorf("the proof cannot be read: %w", hideNotExist{o.remote})
		}
		w.forget()
		if o.security != "" || len(o.stored) == 0 {
			break
		}
	}
	return forged(err)
}

// hideNotExist hides that err matches fs.ErrNotExist: what a proof lacks is not
// what was asked for.
type hideNotExist struct{ err error }

func (h hideNotExist) Error() string      { return h.err.Error() }
func (h hideNotExist) As(target any) bool { return errors.As(h.err, target) }
func (h hideNotExist) Is(target error) bool {
	return target != fs.ErrNotExist && errors.Is(h.err, target)
}

// openTree verifies a signed tree head. Most records come with one that others
// came with.
func (d *DB) openTree(msg []byte) (tlog.Tree, error) {
	d.mu.Lock()
	tree, ok := d.heads[string(msg)]
	d.mu.Unlock()
	if ok {
		return tree, nil
	}
	n, err := note.Open(msg, note.VerifierList(d.verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	if tree, err = tlog.ParseTree([]byte(n.Text)); err != nil {
		return tlog.Tree{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.heads == nil || len(d.heads) >= keptHeads {
		d.heads = map[string]tlog.Tree{}
	}
	d.heads[string(msg)] = tree
	return tree, nil
}

// head is the latest tree head that was proven, and its tree; nil before the
// first. A head that is not of our key belongs to another database, which had
// the same name before, and is none.
func (d *DB) head() ([]byte, tlog.Tree, error) {
	d.mu.Lock()
	msg := d.kept
	d.mu.Unlock()
	if msg == nil {
		var err error
		msg, err = d.c.Cache.ReadFile(d.c.Dir + "/latest")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, tlog.Tree{}, err
		}
	}
	tree, err := d.openTree(msg)
	if err != nil {
		return nil, tlog.Tree{}, nil
	}
	return msg, tree, nil
}

// swapHead replaces the head old by new, which was proven to follow it.
func (d *DB) swapHead(old, new []byte) error {
	d.mu.Lock()
	kept, base := d.kept, d.base
	d.mu.Unlock()
	switch {
	case kept != nil && !bytes.Equal(kept, old):
		return sumdb.ErrWriteConflict
	case kept == nil && len(old) > 0:
		base = old
	case kept == nil:
		base = nil
		if data, err := d.c.Cache.ReadFile(d.c.Dir + "/latest"); err == nil {
			if _, err := d.openTree(data); err != nil {
				base = data // what head takes for none
			}
		}
	}
	err := d.c.Cache.SwapFile(d.c.Dir+"/latest", base, new)
	if err != nil && kept == nil && errors.Is(err, d.c.Conflict) {
		return sumdb.ErrWriteConflict
	}
	d.wrote(err)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case !bytes.Equal(d.kept, kept):
		return sumdb.ErrWriteConflict
	case err == nil:
		d.kept, d.base = nil, nil
	default:
		// A store that cannot be written costs the memory of the head across
		// restarts, not the build.
		d.kept, d.base = new, base
	}
	return nil
}

// cache reports whether the file is in the cache now.
func (d *DB) cache(name string, data []byte) bool {
	err := d.c.Cache.WriteFile(name, data)
	d.wrote(err)
	return err == nil
}

// wrote logs the first failure of a row.
func (d *DB) wrote(err error) {
	d.mu.Lock()
	first := err != nil && !d.unwritable
	d.unwritable = err != nil
	d.mu.Unlock()
	if first {
		d.c.Log(fmt.Sprintf("checksum database %s: answers are not kept: %v", d.name, err))
	}
}

// Latest is a signed tree head of the database, as /latest gives it: the newest
// that we know of, asking for a newer one after a minute. One that is newer than
// the one lookups were proven by is for the client to prove.
func (d *DB) Latest(ctx context.Context) ([]byte, error) {
	newest := func() ([]byte, int64) {
		msg, tree, _ := d.head()
		d.mu.Lock()
		seen := d.seen
		d.mu.Unlock()
		if t, err := d.openTree(seen); err == nil && (msg == nil || t.N > tree.N) {
			return seen, t.N
		}
		return msg, tree.N
	}
	msg, _ := newest()
	d.mu.Lock()
	fresh := time.Since(d.seenAt) < headFresh || d.bad != nil && time.Since(d.badAt) < downFresh
	d.mu.Unlock()
	if msg != nil && fresh {
		return msg, nil
	}
	got, err := d.share(ctx, "/latest", func(ctx context.Context) ([]byte, error) {
		var o outcome
		data, err := d.race(ctx, &o, func(ctx context.Context, w *way) ([]byte, error) {
			data, err := d.get(ctx, w, "/latest")
			if err != nil {
				return nil, hideNotExist{err}
			}
			if _, err := d.openTree(data); err != nil {
				w.trouble(true)
				return nil, fmt.Errorf("%s: %w: %w", w.remote.Name(), ErrSecurity, err)
			}
			return data, nil
		})
		if err != nil {
			return nil, o.outcome(ctx, nil)
		}
		tree, err := d.openTree(data)
		if err != nil {
			return nil, err
		}
		msg, n := newest()
		d.mu.Lock()
		if d.seenAt = time.Now(); msg == nil || tree.N > n {
			d.seen, msg = data, data
		}
		d.mu.Unlock()
		return msg, nil
	})
	if err != nil && msg != nil && ctx.Err() == nil {
		return msg, nil
	}
	return got, err
}

// Tile is the content of a tile, as /tile/8/L/N[.p/W] gives it. Hash tiles that
// lie within the proven tree are proven, and then cached; others, and data
// tiles, are handed on as they come, for the client to prove. The error matches
// fs.ErrNotExist if the path is no tile or the database has none there; else
// ErrUnreachable, ErrSecurity or the context's cause.
func (d *DB) Tile(ctx context.Context, path string) ([]byte, error) {
	t, err := tlog.ParseTilePath(strings.TrimPrefix(path, "/"))
	if err != nil || t.H != tileHeight || t.L > maxLevel || t.N >= maxTile {
		return nil, &noTileError{path}
	}
	return d.share(ctx, "/"+t.Path(), func(ctx context.Context) ([]byte, error) {
		if t.L < 0 {
			return d.anyTile(ctx, t, d.tile)
		}
		if data, ok := d.cached(t); ok {
			return data, nil
		}
		_, tree, err := d.head()
		if err == nil && tree.N>>(tileHeight*t.L) >= t.N<<tileHeight+int64(t.W) {
			return d.anyTile(ctx, t, func(ctx context.Context, w *way, t tlog.Tile) ([]byte, error) { return d.provenTile(ctx, w, tree, t) })
		}
		return d.anyTile(ctx, t, d.tile)
	})
}

// anyTile asks the remotes in turn.
func (d *DB) anyTile(ctx context.Context, t tlog.Tile, read func(context.Context, *way, tlog.Tile) ([]byte, error)) ([]byte, error) {
	var o outcome
	data, err := d.race(ctx, &o, func(ctx context.Context, w *way) ([]byte, error) { return read(ctx, w, t) })
	if err != nil {
		return nil, o.outcome(ctx, &noTileError{"/" + t.Path()})
	}
	return data, nil
}

type noTileError struct{ path string }

func (e *noTileError) Error() string        { return e.path + " is no tile of the checksum database" }
func (e *noTileError) Is(target error) bool { return target == fs.ErrNotExist }

// Reachable reports whether we can serve the database: because it answers, or
// because we have answers of it. It asks it if nothing is known.
func (d *DB) Reachable(ctx context.Context) error {
	if msg, _, _ := d.head(); msg != nil {
		return nil
	}
	d.mu.Lock()
	good, bad, at := d.good, d.bad, d.badAt
	d.mu.Unlock()
	if good {
		return nil
	}
	if bad != nil && time.Since(at) < downFresh {
		return fmt.Errorf("%w: %w", ErrUnreachable, bad)
	}
	_, err := d.Latest(ctx)
	return err
}

// tile reads a tile from a remote, or a partial one from the full one that may
// have taken its place. Its size is right, and nothing else is known of it.
func (d *DB) tile(ctx context.Context, w *way, t tlog.Tile) ([]byte, error) {
	data, err := d.get(ctx, w, "/"+t.Path())
	if t.L < 0 {
		return data, err
	}
	size := t.W * tlog.HashSize
	if errors.Is(err, fs.ErrNotExist) && t.W < fullTile {
		full := t
		full.W = fullTile
		if data, err = d.get(ctx, w, "/"+full.Path()); err == nil && len(data) == fullTile*tlog.HashSize {
			data = data[:size]
		}
	}
	if err == nil && len(data) != size {
		w.trouble(true)
		err = fmt.Errorf("%s: %s has %d bytes, want %d", w.remote.Name(), t.Path(), len(data), size)
	}
	return data, err
}

// cached reads a hash tile from the cache, as wide as it is asked for.
func (d *DB) cached(t tlog.Tile) ([]byte, bool) {
	data, err := d.c.Cache.ReadFile(d.c.Dir + "/" + t.Path())
	return data, err == nil && len(data) == t.W*tlog.HashSize
}

// provenTile reads a tile that lies within tree, proves it and caches it as wide
// as the tree has it; so it needs no remote for a narrower one than the cache has.
func (d *DB) provenTile(ctx context.Context, w *way, tree tlog.Tree, t tlog.Tile) ([]byte, error) {
	index := tlog.StoredHashIndex(tileHeight*t.L, t.N<<tileHeight)
	wide := t
	wide.W = int(min(tree.N>>(tileHeight*t.L)-t.N<<tileHeight, fullTile))
	var err error
	for _, fresh := range []bool{false, true} { // as in prove
		o := &ops{d: d, ctx: ctx, w: w, fresh: fresh}
		_, err = tlog.TileHashReader(tree, o).ReadHashes([]int64{index})
		if err == nil {
			o.flush()
			return o.tiles[wide][:t.W*tlog.HashSize], nil
		}
		if o.remote != nil { // a 404 is trouble too: the tree has the tile
			return nil, fmt.Errorf("the tile and its proof cannot be read: %w", hideNotExist{o.remote})
		}
		w.forget()
		if len(o.stored) == 0 {
			break
		}
	}
	w.trouble(true)
	return nil, fmt.Errorf("%s: %w: %w", w.remote.Name(), ErrSecurity, err)
}

// An ops is what one proof knows of the world: the sumdb.ClientOps of a client
// that looks up one record, and the tlog.TileReader of the proof of one tile.
// What is proven is written to the cache by flush only, so that a proof that
// fails in the end leaves nothing behind: the tiles of a forked tree are proven,
// in the wrong tree.
type ops struct {
	d     *DB
	ctx   context.Context
	w     *way
	path  string // of the lookup
	data  []byte // what the remote answered to it
	fresh bool   // read no tiles from the cache

	// The following may be read without mu when the proof has ended.
	mu       sync.Mutex // guards the following
	tiles    map[tlog.Tile][]byte
	stored   map[tlog.Tile]bool // those that were read from the cache
	head     []byte
	tree     tlog.Tree // of head: the newest that the client has by us
	security string    // the evidence of a fork
	remote   error     // why a tile cannot be read
	local    error     // why the head cannot be read
}

func (o *ops) set(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
}

// proveRecord proves that the record numbered id has text in a tree that is known
// to be the database's. Tiles that were proven in it are not proven again, which
// leaves one tile to be hashed for a record that is far from all others.
func (o *ops) proveRecord(tree tlog.Tree, id int64, text []byte) error {
	if id >= tree.N {
		return fmt.Errorf("the record is numbered %d in a tree of %d", id, tree.N)
	}
	leaf := tlog.StoredHashIndex(0, id)
	t := tlog.TileForIndex(tileHeight, leaf)
	t.W = int(min(tree.N-t.N<<tileHeight, fullTile))
	data := o.d.provenTileOf(tree, t)
	if data == nil && t.W == fullTile {
		up := tlog.Tile{H: tileHeight, L: 1, N: t.N >> tileHeight}
		up.W = int(min(tree.N>>tileHeight-up.N<<tileHeight, fullTile))
		if over := o.d.provenTileOf(tree, up); over != nil {
			read, err := o.ReadTiles([]tlog.Tile{t})
			if err != nil {
				return err
			}
			var halves [2]tlog.Hash
			for i := range halves {
				if halves[i], err = tlog.HashFromTile(t, read[0], tlog.StoredHashIndex(tileHeight-1, 2*t.N+int64(i))); err != nil {
					return err
				}
			}
			should, err := tlog.HashFromTile(up, over, tlog.StoredHashIndex(tileHeight, t.N))
			if err != nil {
				return err
			}
			if tlog.NodeHash(halves[0], halves[1]) != should {
				return errors.New("a tile does not have the hash that its parent says")
			}
			data = read[0]
			o.SaveTiles([]tlog.Tile{t}, read)
		}
	}
	if data == nil {
		if _, err := tlog.TileHashReader(tree, o).ReadHashes([]int64{leaf}); err != nil {
			return err
		}
		data = o.tiles[t]
	}
	h, err := tlog.HashFromTile(t, data, leaf)
	if err != nil {
		return err
	}
	if h != tlog.RecordHash(text) {
		return errors.New("the record is not the one in the tree")
	}
	return nil
}

// provenTileOf is a tile that was proven in tree, nil if it was not or was forgotten.
func (d *DB) provenTileOf(tree tlog.Tree, t tlog.Tile) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.grown != tree {
		return nil
	}
	return d.proven.get(t, keptProven)
}

// provenNow remembers tiles that were proven in tree.
func (d *DB) provenNow(tree tlog.Tree, tiles map[tlog.Tile][]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.grown != tree {
		d.grown, d.proven = tree, recent[tlog.Tile, []byte]{}
	}
	for t, data := range tiles {
		d.proven.put(t, data, keptProven)
	}
}

// flush writes the tiles that were proven to the cache. It reports whether all of them
// are there now.
func (o *ops) flush() (kept bool) {
	var tiles map[tlog.Tile][]byte
	o.set(func() {
		tiles = maps.Clone(o.tiles)
		maps.DeleteFunc(tiles, func(t tlog.Tile, _ []byte) bool { return o.stored[t] })
	})
	kept = true
	for t, data := range tiles {
		name := o.d.c.Dir + "/" + t.Path()
		if old, err := o.d.c.Cache.ReadFile(name); err != nil || !bytes.Equal(old, data) {
			kept = o.d.cache(name, data) && kept
		}
	}
	return kept
}

// tile reads a tile from the remote.
func (o *ops) tile(t tlog.Tile) ([]byte, error) {
	data, err := o.d.once(o.ctx, o.w, "/"+t.Path(), func(ctx context.Context) ([]byte, error) { return o.d.tile(ctx, o.w, t) })
	if err != nil {
		o.set(func() { o.remote = err })
	}
	return data, err
}

// cached reads a tile from the cache.
func (o *ops) cached(t tlog.Tile) ([]byte, bool) {
	if o.fresh {
		return nil, false
	}
	data, ok := o.d.cached(t)
	if ok {
		o.set(func() {
			if o.stored == nil {
				o.stored = map[tlog.Tile]bool{}
			}
			o.stored[t] = true
		})
	}
	return data, ok
}

// ReadRemote implements sumdb.ClientOps. The record was fetched before, with its
// failures told apart; so it is asked for tiles.
func (o *ops) ReadRemote(path string) ([]byte, error) {
	if path == o.path {
		return o.data, nil
	}
	t, err := tlog.ParseTilePath(strings.TrimPrefix(path, "/"))
	if err != nil {
		return nil, err
	}
	return o.tile(t)
}

// ReadConfig implements sumdb.ClientOps.
func (o *ops) ReadConfig(file string) ([]byte, error) {
	if file == "key" {
		return []byte(o.d.c.Key), nil
	}
	msg, tree, err := o.d.head()
	o.set(func() {
		if o.local = err; err == nil && tree.N > o.tree.N {
			o.head, o.tree = msg, tree
		}
	})
	return msg, err
}

// WriteConfig implements sumdb.ClientOps: it moves the tree head forward. The
// tiles that it was proven by are there before it is, even after a crash.
func (o *ops) WriteConfig(_ string, old, new []byte) error {
	o.flush()
	return o.d.swapHead(old, new)
}

// ReadCache implements sumdb.ClientOps. Records never come from the cache here.
func (o *ops) ReadCache(file string) ([]byte, error) {
	if t, err := tlog.ParseTilePath(strings.TrimPrefix(file, o.d.name+"/")); err == nil {
		if data, ok := o.cached(t); ok {
			return data, nil
		}
	}
	return nil, fs.ErrNotExist
}

// WriteCache implements sumdb.ClientOps: the tile has been proven.
func (o *ops) WriteCache(file string, data []byte) {
	if t, err := tlog.ParseTilePath(strings.TrimPrefix(file, o.d.name+"/")); err == nil {
		o.SaveTiles([]tlog.Tile{t}, [][]byte{data})
	}
}

// Log implements sumdb.ClientOps.
func (o *ops) Log(msg string) { o.d.c.Log(msg) }

// SecurityError implements sumdb.ClientOps.
func (o *ops) SecurityError(msg string) { o.set(func() { o.security = msg }) }

// Height implements tlog.TileReader.
func (o *ops) Height() int { return tileHeight }

// ReadTiles implements tlog.TileReader.
func (o *ops) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	errs := make([]error, len(tiles))
	var wg sync.WaitGroup
	for i, t := range tiles {
		wg.Go(func() {
			ok := false
			if data[i], ok = o.cached(t); !ok {
				data[i], errs[i] = o.tile(t)
			}
		})
	}
	wg.Wait()
	return data, errors.Join(errs...)
}

// SaveTiles implements tlog.TileReader: the tiles have been proven.
func (o *ops) SaveTiles(tiles []tlog.Tile, data [][]byte) {
	o.set(func() {
		if o.tiles == nil {
			o.tiles = map[tlog.Tile][]byte{}
		}
		for i, t := range tiles {
			o.tiles[t] = data[i]
		}
	})
}
