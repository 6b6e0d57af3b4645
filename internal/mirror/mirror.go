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
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/seen"
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

	// Local has files on this machine that may be taken before the chain is asked
	// for them, by the same judgement; nil: there is none. Anybody may have written
	// it, so nothing is ever pinned from it.
	Local upstream.Source
}

// Settings are what a reload may change. They are immutable once given.
type Settings struct {
	Route func(path string) Route

	Fresh    time.Duration // how long a list, @latest or query answer is used without asking again
	Stale    time.Duration // how long a client waits for a fresh answer while an older one is at hand
	NotFound time.Duration // how long "not found" is remembered, per exact question

	Union bool // lists are merged from all sources that stand in for one another

	LookAhead int // how many files are fetched ahead at once; 0 switches it off

	since time.Time // when they came into force by a Reload; zero for the first ones
}

// Config is what a Mirror is made of.
type Config struct {
	Store   store.Store
	Scratch string // directory for bytes that cannot be stored; "" means the system's for temporary files
	Log     *slog.Logger
}

// A Mirror serves module files. It is safe for concurrent use.
type Mirror struct {
	c        Config
	settings atomic.Pointer[Settings]
	metrics  *metrics
	degraded atomic.Pointer[Degraded]
	recent   recent

	ctx  context.Context // ends with Close
	stop context.CancelFunc

	answers  *otter.Cache[string, *answer] // by Request.Path
	missing  *otter.Cache[goproxy.Request, *absence]
	failed   *otter.Cache[goproxy.Request, time.Time] // changing answers that could not be had, and when
	spoiled  *seen.Set[goproxy.Request]               // of which a Route's Local has bytes that are wrong
	vouched  *seen.Set[vouchedFor]                    // pinned artifacts that a database vouched for since
	clients  *otter.Cache[string, *Client]            // by address
	expanded *seen.Set[module.Version]                // whose requirements were fetched ahead

	life   sync.Mutex // guards the following
	closed bool
	bg     sync.WaitGroup // every goroutine that outlives a request; begun by background alone

	mu        sync.Mutex // guards the following; never held across I/O
	flights   map[goproxy.Request]*flight
	sources   map[string]SourceState
	silent    map[string]time.Time // databases that could not vouch, and when
	ahead     aheadQueue
	localHung time.Time // when the file system of local files did not answer last
	trouble   error     // why the store could not be used last; nil if it could
	since     time.Time // of trouble
	told      time.Time // the since of the trouble that was logged last
}

const (
	// maxAhead bounds the look-ahead that Settings may ask for.
	maxAhead = 256
	// failedRecently is how long after a failed refresh a client with an older
	// answer waits no longer than failedPatience: enough for a source that is
	// well again, too little to be felt.
	failedRecently = 3 * time.Second
	failedPatience = 50 * time.Millisecond
	// tellPause is how long a store that fails again is not told about again.
	tellPause = time.Minute
)

// New makes a Mirror. Close it to end its background work.
func New(c Config, s Settings) *Mirror {
	if c.Scratch == "" {
		c.Scratch = os.TempDir()
	}
	m := &Mirror{c: c, metrics: newMetrics(), flights: map[goproxy.Request]*flight{}, sources: map[string]SourceState{}, silent: map[string]time.Time{}}
	m.ctx, m.stop = context.WithCancel(context.Background())
	m.answers = otter.Must(&otter.Options[string, *answer]{
		MaximumWeight: 64 << 20,
		Weigher:       func(path string, a *answer) uint32 { return uint32(2*len(path)+len(a.body)) + 1000 },
	})
	m.missing = otter.Must(&otter.Options[goproxy.Request, *absence]{MaximumSize: 20000})
	m.failed = otter.Must(&otter.Options[goproxy.Request, time.Time]{MaximumSize: 20000})
	m.spoiled = seen.New[goproxy.Request](10000, spoiledTime)
	m.vouched = seen.New[vouchedFor](100000, 0)
	m.clients = otter.Must(&otter.Options[string, *Client]{MaximumSize: maxClients, ExpiryCalculator: otter.ExpiryAccessing[string, *Client](aheadMemory)})
	m.expanded = seen.New[module.Version](50000, aheadMemory)
	m.apply(s)
	return m
}

// Reload replaces the settings. Requests under way keep the ones they began with.
func (m *Mirror) Reload(s Settings) {
	// What was answered under other settings is an old answer now, however young.
	s.since = time.Now()
	m.apply(s)
}

func (m *Mirror) apply(s Settings) {
	s.LookAhead = min(s.LookAhead, maxAhead)
	m.settings.Store(&s)
	m.missing.InvalidateAll()
	m.vouched.Clear() // another database's word is not this one's
	m.mu.Lock()
	clear(m.silent)
	m.mu.Unlock()
}

// Close ends background work and waits for it. What is asked for afterwards and
// is not at hand fails with ErrClosing.
func (m *Mirror) Close() {
	m.life.Lock()
	m.closed = true
	m.life.Unlock()
	m.stop()
	m.bg.Wait()
	m.clients.StopAllGoroutines()
}

// background runs f in a goroutine that Close waits for. It reports false, and
// runs nothing, if there was a Close. A panic of f is a bug that must not take
// other requests with it; it is logged.
func (m *Mirror) background(what string, f func()) bool {
	m.life.Lock()
	defer m.life.Unlock()
	if m.closed {
		return false
	}
	m.bg.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				m.c.Log.Error("internal error", slog.Any("panic", p), slog.String("in", what), slog.String("stack", string(debug.Stack())))
			}
		}()
		f()
	})
	return true
}

// Route is the route of a module path under the settings in force.
func (m *Mirror) Route(path string) Route { return m.settings.Load().Route(path) }

// StoreTrouble says since when and why artifacts are not stored at present; err
// is nil if they are.
func (m *Mirror) StoreTrouble() (since time.Time, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.since, m.trouble
}

// storeWorked takes note of how an operation of the store ended. A disk that has
// room for one file and not for the next is told about now and then.
func (m *Mirror) storeWorked(err error) {
	m.mu.Lock()
	was := m.trouble
	if m.trouble = err; err != nil && was == nil {
		m.since = time.Now()
	}
	fails := err != nil && was == nil && time.Since(m.told) >= tellPause
	again := err == nil && was != nil && m.since.Equal(m.told)
	if fails {
		m.told = m.since
	}
	m.mu.Unlock()
	switch {
	case fails:
		m.c.Log.Error("the store fails; serving goes on without it", slog.Any("err", err))
	case again:
		m.c.Log.Info("the store works again")
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
	Local  bool   // it was taken from the Route's Local just now

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
// *upstream.WalkError, a *RefusedError, ErrNotCached, an *OfflineError, ErrClosing, one of a
// checksum.DB, a *StoreError, the cause of ctx, or says that something else of
// ours failed; Explain words each. The caller must Close the result.
func (m *Mirror) Get(ctx context.Context, req goproxy.Request, o Options) (*Result, error) {
	if req.Path() == "" {
		return nil, &goproxy.PathError{Path: req.String(), Reason: "no such module path or version can exist", Missing: true}
	}
	var c *Client
	if !o.NoFetch && req.Immutable() {
		c = m.Client(o.Client)
	}
	early := c != nil && c.foresaw(time.Now(), req)
	var res *Result
	var err error
	if req.Immutable() {
		res, err = m.artifact(ctx, req, o)
	} else {
		res, err = m.mutable(ctx, req, o)
	}
	m.metrics.request(req, res, err)
	if err == nil && req.Kind == goproxy.Zip {
		m.recent.used(req.Module)
	}
	if err == nil && c != nil && !early {
		c.saw(time.Now(), req, res.Source, res.Bytes, !res.Hit)
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
	if keep := m.settings.Load().NotFound; keep > 0 && established(err) {
		m.missing.Set(req, &absence{err: err, until: time.Now().Add(keep)})
	}
}

// established reports whether a walk has established that a thing does not exist,
// which it has not where nobody may be asked.
func established(err error) bool {
	we, ok := errors.AsType[*upstream.WalkError](err)
	return ok && we.NotExist() && !errors.Is(err, upstream.ErrOff)
}

// A flight is one fetch that all who want it share. It keeps the values of the
// first one's context but not its cancellation: its bounds are the progress
// budgets of the sources.
type flight struct {
	done  chan struct{} // closed when small and err are final
	over  chan struct{} // closed when what can be stored is stored, and nothing goes on
	start time.Time

	unkept error // why what was fetched is not in the store; of who runs the flight, as it ends

	small *Result // of Info and Mod and changing answers: its Bytes are shared
	err   error

	mu      sync.Mutex
	users   int           // the fetch itself, and everyone who joined and has not left: they keep the spool
	spool   *spool        // of Zip: the current attempt; nil before the first
	changed chan struct{} // closed and replaced whenever spool or its state changes
}

func newFlight() *flight {
	return &flight{done: make(chan struct{}), over: make(chan struct{}), changed: make(chan struct{}), start: time.Now(), users: 1}
}

// join returns the flight for req, starting it with run if there is none. run
// must set small or a verified spool, or err; the flight is over when it
// returns. Whoever joins must leave.
func (m *Mirror) join(ctx context.Context, req goproxy.Request, run func(context.Context, *flight)) (f *flight, joined bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.underWay(req); f != nil {
		return f, true
	}
	f = newFlight()
	f.users++
	fctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(m.ctx, func() { cancel(ErrClosing) })
	started := m.background(req.String(), func() {
		defer cancel(nil)
		defer unhook()
		defer func() {
			p := recover()
			if p != nil {
				f.fault(errInternal) // nobody is left waiting
			}
			m.mu.Lock()
			if m.flights[req] == f { // a failed one may have been followed by another
				delete(m.flights, req)
			}
			m.mu.Unlock()
			f.finish()
			if p != nil {
				panic(p) // background tells it
			}
		}()
		run(fctx, f)
	})
	if !started {
		unhook()
		cancel(nil)
		f.fault(ErrClosing)
		f.finish()
		return f, false
	}
	m.flights[req] = f
	return f, false
}

// underWay is the flight for req, joined; nil if there is none. m.mu is held, so
// that the flight cannot be over before it is joined. One that has failed and only
// tidies up is none: its failure is of the past.
func (m *Mirror) underWay(req goproxy.Request) *flight {
	f := m.flights[req]
	if f == nil || f.failed() {
		return nil
	}
	f.mu.Lock()
	f.users++
	f.mu.Unlock()
	return f
}

// failed reports whether the flight has landed without an answer.
func (f *flight) failed() bool {
	select {
	case <-f.done:
		return f.err != nil
	default:
		return false
	}
}

// ErrClosing says that the Mirror has been closed.
var ErrClosing = errors.New("the server is stopping; run the command again")

var errInternal = errors.New("an internal error; the log has the details")

// land announces the answer before the flight is over.
func (f *flight) land() { close(f.done) }

// fault makes err the answer, unless there is one.
func (f *flight) fault(err error) {
	select {
	case <-f.done:
	default:
		f.err = err
	}
}

// finish announces the end of the flight to those who wait for it, and leaves it.
func (f *flight) finish() {
	select {
	case <-f.done:
	default:
		close(f.done)
	}
	close(f.over)
	f.mu.Lock()
	if sp := f.spool; f.err != nil && sp != nil && sp.err == nil && !sp.verified {
		sp.err = f.err
	}
	f.wake()
	f.mu.Unlock()
	f.leave()
}

// leave ends one's part in the flight. The last one frees what was not stored.
func (f *flight) leave() {
	f.mu.Lock()
	f.users--
	var sp *spool
	if f.users == 0 {
		sp = f.spool
	}
	f.mu.Unlock()
	if sp != nil {
		sp.p.Abort()
	}
}

// settled waits until nothing is being stored for req any more, or ctx is done: an
// answer is given before the disk has it.
func (m *Mirror) settled(ctx context.Context, req goproxy.Request) {
	m.mu.Lock()
	f := m.flights[req]
	m.mu.Unlock()
	if f == nil {
		return
	}
	select {
	case <-f.over:
	case <-ctx.Done():
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

// Lie reports whether the source is to be fenced off for the module: the database
// says so. What differs from a pin may be a rewritten tag.
func (e *MismatchError) Lie() bool { return e.By != "" }

// A StoreError says that the store failed in a way that serving through cannot
// make up for.
type StoreError struct {
	Request goproxy.Request
	What    string // what could not be done
	Err     error
}

func (e *StoreError) Error() string { return fmt.Sprintf("%v: %s: %v", e.Request, e.What, e.Err) }

// Unwrap gives the store's error, but not where it would say that something does
// not exist: that is never what a StoreError means.
func (e *StoreError) Unwrap() error {
	if errors.Is(e.Err, fs.ErrNotExist) {
		return nil
	}
	return e.Err
}
