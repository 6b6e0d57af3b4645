// Package mirror is the heart: it carries one request from its route to
// verified, committed, recorded bytes. It owns the order of the steps, what
// concurrent requests share, how long changing answers are believed, what is
// fetched ahead, and how much of a file a client may have before the file is
// known to be right.
//
// What a source answers is upstream's business, whether hashes are true is
// checksum's, when bytes become visible is store's, and what a client is told
// is server's.
package mirror

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/upstream"
)

// Sums is a checksum database: it proves the hashes of module versions. Errors
// are those of checksum.DB.
type Sums interface {
	Name() string
	Sums(ctx context.Context, mod module.Version) (zip, gomod string, err error)
}

// A Route is how the modules of one path are obtained and verified.
type Route struct {
	Chain   *upstream.Chain
	Sums    Sums   // vouches for the bytes; nil: they are pinned at first sight
	Why     string // the setting that decided, for people: "GONOPROXY matches"
	Private bool   // the path matches the patterns of private modules
}

// Settings are what a reload may change. They are immutable once given.
type Settings struct {
	Route func(path string) Route

	Fresh    time.Duration // how long a list, @latest or query answer is used without asking again
	Stale    time.Duration // how long a client waits for a fresh answer while an older one is at hand
	NotFound time.Duration // how long "not found" is remembered, per exact question

	LookAhead int // how many files are fetched ahead at once; 0 switches it off
}

// Config is what a Mirror is made of.
type Config struct {
	Store   store.Store
	Scratch string // directory for bytes that cannot be stored; "" means the system's
	Log     *slog.Logger
}

// A Mirror serves module files. It is safe for concurrent use.
type Mirror struct {
	c        Config
	settings atomic.Pointer[Settings]
	metrics  *metrics

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	bg   sync.WaitGroup // every goroutine that outlives a request

	answers  *otter.Cache[goproxy.Request, *answer]
	missing  *otter.Cache[goproxy.Request, *absence]
	vouched  *otter.Cache[goproxy.Request, string] // pinned artifacts that a database vouched for since, by SHA-256
	asked    *otter.Cache[clientModule, time.Time] // .mod requests, for look-ahead
	ahead    chan struct{}                         // a token for each file in the look-ahead queue
	aheadRun gate                                  // those that are being fetched

	mu      sync.Mutex // guards the following; never held across I/O
	flights map[goproxy.Request]*flight
	sources map[string]SourceState
	trouble error     // why the store could not be used last; nil if it could
	since   time.Time // of trouble
}

const (
	// maxAhead bounds the look-ahead that Settings may ask for, and maxQueued the
	// files that wait for it: a queue longer than that is no longer ahead.
	maxAhead  = 64
	maxQueued = 1024
	// failedRecently is how long after a failed refresh a client with an older
	// answer is not made to wait again.
	failedRecently = 3 * time.Second
)

// New makes a Mirror. Close it to end its background work.
func New(c Config, s Settings) *Mirror {
	m := &Mirror{c: c, metrics: newMetrics(), flights: map[goproxy.Request]*flight{}, sources: map[string]SourceState{}, ahead: make(chan struct{}, maxQueued)}
	m.ctx, m.stop = context.WithCancel(context.Background())
	m.answers = otter.Must(&otter.Options[goproxy.Request, *answer]{
		MaximumWeight: 64 << 20,
		Weigher:       func(_ goproxy.Request, a *answer) uint32 { return uint32(len(a.body)) + 256 },
	})
	m.missing = otter.Must(&otter.Options[goproxy.Request, *absence]{MaximumSize: 20000})
	m.vouched = otter.Must(&otter.Options[goproxy.Request, string]{MaximumSize: 100000})
	m.asked = otter.Must(&otter.Options[clientModule, time.Time]{
		MaximumSize:      50000,
		ExpiryCalculator: otter.ExpiryWriting[clientModule, time.Time](10 * time.Minute),
	})
	m.Reload(s)
	return m
}

// Reload replaces the settings. Requests under way keep the ones they began with.
func (m *Mirror) Reload(s Settings) {
	s.LookAhead = min(s.LookAhead, maxAhead)
	m.settings.Store(&s)
	m.missing.InvalidateAll()
}

// Close ends background work and waits for it.
func (m *Mirror) Close() {
	m.stop()
	m.bg.Wait()
}

// Route is the route of a module path under the settings in force.
func (m *Mirror) Route(path string) Route { return m.settings.Load().Route(path) }

// StoreTrouble says why artifacts are not stored at present and since when; nil
// if they are.
func (m *Mirror) StoreTrouble() (error, time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.trouble, m.since
}

func (m *Mirror) storeWorks(err error) {
	m.mu.Lock()
	was := m.trouble
	if err == nil {
		m.trouble = nil
	} else {
		if m.trouble == nil {
			m.since = time.Now()
		}
		m.trouble = err
	}
	m.mu.Unlock()
	switch {
	case err != nil && (was == nil || was.Error() != err.Error()):
		m.c.Log.Error("the store cannot be written; serving goes on without storing", slog.Any("err", err))
	case err == nil && was != nil:
		m.c.Log.Info("the store can be written again")
	}
}

// Options say how one request is to be served.
type Options struct {
	NoFetch bool   // only what is at hand (Disable-Module-Fetch, /cached-only)
	Whole   bool   // wait for the whole, verified content (a Range request), never a Stream
	Client  string // who asks, for look-ahead; "" causes none
}

// ErrNotCached says that something is not at hand and may not be fetched. It
// matches fs.ErrNotExist.
var ErrNotCached error = notCachedError{}

type notCachedError struct{}

func (notCachedError) Error() string {
	return "the store does not have it, and the request forbids fetching it"
}
func (notCachedError) Is(target error) bool { return target == fs.ErrNotExist }

// A Result is the answer to a request. Exactly one of Content and Stream is set.
type Result struct {
	Content io.ReadSeeker // the whole, verified
	Bytes   []byte        // the same where it is held in memory; never to be changed
	Stream  io.Reader     // arrives while it is read, verified before its end: a Read error means that the rest must not be made up

	Size   int64  // bytes, or -1 if a Stream's end is not known
	ETag   string // strong validator, quoted; "" if not yet known
	Source string // which source it came from; "" if unknown
	Hit    bool   // nothing had to be asked for it
	Time   time.Time
	Stale  string // why an older answer is given; "" if it is fresh or immutable

	close func()
}

// Close releases the result. It must be called once reading is over.
func (r *Result) Close() {
	if r.close != nil {
		r.close()
		r.close = nil
	}
}

// Get answers a request. The error is a *goproxy.PathError, an
// *upstream.WalkError, a *RefusedError, ErrNotCached, or says that something of
// ours failed; Explain words each.
func (m *Mirror) Get(ctx context.Context, req goproxy.Request, o Options) (*Result, error) {
	if req.Path() == "" {
		return nil, &goproxy.PathError{Path: req.String(), Reason: "no such module path or version can exist", Missing: true}
	}
	var res *Result
	var err error
	if req.Immutable() {
		res, err = m.artifact(ctx, req, o)
	} else {
		res, err = m.mutable(ctx, req, o)
	}
	m.metrics.request(req, res, err)
	if err == nil && o.Client != "" && !o.NoFetch {
		m.lookAhead(req, res, o.Client)
	}
	return res, err
}

// etag is the strong validator of bytes with this SHA-256.
func etag(sha string) string {
	if sha == "" {
		return ""
	}
	return `"` + sha + `"`
}

func sumOf(data []byte) string {
	h := sha256.Sum256(data)
	return hex.EncodeToString(h[:])
}

// An absence is a remembered "not found".
type absence struct {
	err   error
	until time.Time
}

func (m *Mirror) absent(req goproxy.Request) error {
	a, ok := m.missing.GetIfPresent(req)
	if !ok {
		return nil
	}
	if time.Now().After(a.until) {
		m.missing.Invalidate(req)
		return nil
	}
	return a.err
}

func (m *Mirror) remember(req goproxy.Request, err error) {
	if we, ok := errors.AsType[*upstream.WalkError](err); ok && we.NotExist() {
		if keep := m.settings.Load().NotFound; keep > 0 {
			m.missing.Set(req, &absence{err: err, until: time.Now().Add(keep)})
		}
	}
}

// A flight is one fetch that all who want it share. It keeps the values of the
// first one's context but not its cancellation: its bounds are the progress
// budgets of the sources.
type flight struct {
	done chan struct{} // closed when res and err are final

	small *Result // of Info and Mod and mutable answers: its Bytes are shared
	err   error

	start time.Time

	mu      sync.Mutex
	spool   *spool        // of Zip: the current attempt; nil before the first
	changed chan struct{} // closed and replaced whenever spool or its state changes
}

// join returns the flight for req, starting it with run if there is none. run
// must set small or spool, or err; the flight is over when it returns.
func (m *Mirror) join(ctx context.Context, req goproxy.Request, run func(context.Context, *flight)) (f *flight, joined bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.flights[req]; f != nil {
		return f, true
	}
	f = &flight{done: make(chan struct{}), changed: make(chan struct{}), start: time.Now()}
	m.flights[req] = f
	fctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(m.ctx, func() { cancel(errClosing) })
	m.bg.Go(func() {
		defer cancel(nil)
		defer unhook()
		defer func() {
			if p := recover(); p != nil { // a bug must not take other requests with it, nor leave them waiting
				m.c.Log.Error("internal error", slog.Any("panic", p), slog.String("request", req.String()), slog.String("stack", stack()))
				select {
				case <-f.done: // the answer was out already
				default:
					f.err = errInternal
				}
			}
			m.mu.Lock()
			delete(m.flights, req)
			m.mu.Unlock()
			f.finish()
		}()
		run(fctx, f)
	})
	return f, false
}

var (
	errClosing  = errors.New("Sluice is stopping")
	errInternal = errors.New("an internal error; the log has the details")
)

// finish announces the end of the flight to those who wait for it.
func (f *flight) finish() {
	select {
	case <-f.done:
	default:
		close(f.done)
	}
	f.mu.Lock()
	sp := f.spool
	if f.err != nil && sp != nil && sp.err == nil && !sp.verified {
		sp.err = f.err
	}
	f.wake()
	f.mu.Unlock()
	if sp != nil {
		sp.release(f) // the flight's own hold
	}
}

// wake tells everyone who waits for a change of state. f.mu is held.
func (f *flight) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// A RefusedError says that something exists but must not be served.
type RefusedError struct {
	Request goproxy.Request
	Err     error
}

func (e *RefusedError) Error() string { return fmt.Sprintf("%v is refused: %v", e.Request, e.Err) }
func (e *RefusedError) Unwrap() error { return e.Err }

// A MismatchError says that a source's bytes are not those that the checksum
// database, or the pin of a private module, stands for.
type MismatchError struct {
	Request   goproxy.Request
	Source    string
	By        string // the database's name, or "" for the pin
	Want, Got string // h1
}

func (e *MismatchError) Error() string {
	if e.By == "" {
		return fmt.Sprintf("the %s of %s@%s has the hash %s, but it was %s when first seen", e.Request.Kind, e.Request.Module.Path, e.Request.Module.Version, e.Got, e.Want)
	}
	return fmt.Sprintf("the %s of %s@%s has the hash %s, but the checksum database %s says %s", e.Request.Kind, e.Request.Module.Path, e.Request.Module.Version, e.Got, e.By, e.Want)
}
