// Package origin fetches modules from where their authors keep them, through
// the go command and the version control tools it calls, and runs the command
// that `sluice run` was given. It is the only package that starts processes.
//
// It is not a cache (what it keeps, it keeps for minutes, so that one download
// answers the three questions of one version), it verifies nothing against the
// checksum database, and it knows no policy but Go's own GOVCS and GOINSECURE.
//
// What a repository's tags, branches and directories mean is decided by the go
// command alone, as in `go help modules` and https://go.dev/ref/mod#vcs. The
// environment it runs in is described at Config.Environ and in environ.go.
package origin

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/modsluice/sluice/internal/goproxy"
	"golang.org/x/mod/module"
)

const (
	defaultTimeout = 10 * time.Minute // a first clone of a large repository over a slow line takes minutes
	defaultClones  = 4 << 30          // bytes

	// keepFor is how long the files of a version stay after their job: a go
	// command asks for .info, .mod and .zip within seconds, and a tag that was
	// seen this recently is not looked at again.
	keepFor   = 2 * time.Minute
	keepMost  = 64      // versions
	keepBytes = 2 << 30 // of all of them
)

// A Config says how an Origin works. The zero value of every field but Dir is usable.
type Config struct {
	Go  string // path of the go command; "" means the one on the PATH of Environ, looked for when it is needed
	Dir string // work directory, made if need be; all that is below it is the Origin's own

	// Environ is the process environment, "NAME=value". The commands see of it
	// only PATH, the proxy settings HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and
	// NO_PROXY (in both cases), SSL_CERT_FILE, SSL_CERT_DIR, GIT_SSL_CAINFO,
	// GIT_SSL_CAPATH, SSH_AUTH_SOCK, GODEBUG, and on Windows the variables
	// without which no program runs there (SystemRoot and its like). Git, which
	// does not know SSL_CERT_FILE, gets it as GIT_SSL_CAINFO where that is unset.
	// Everything else, HOME first, is replaced.
	Environ []string

	Netrc    string        // netrc file with the credentials for version control over https; "" means none
	VCS      string        // GOVCS; "" means the go command's default
	Private  string        // GOPRIVATE: what the words public and private mean in VCS
	Insecure string        // GOINSECURE: modules that may come over http:// and git://
	Timeout  time.Duration // for one whole job, without its wait for a turn; 0 means 10 minutes
	Parallel int           // jobs at a time; 0 means twice GOMAXPROCS, but at least 4

	// Clones bounds the disk space of the repositories kept between jobs, in
	// bytes; 0 means 4 GiB. All of them are thrown away together, and cloned
	// anew as they are asked for, once they are found to take more: they are
	// measured after a job, at most once a minute.
	Clones int64
}

// An Origin fetches modules from version control. Its methods may be called
// concurrently, and several Origins, in several processes, may share one Dir.
type Origin struct {
	cfg   Config
	slots chan struct{} // one element for each running job
	run   *lease        // this process's part of Dir
	repos *clones

	stop   context.CancelCauseFunc // ends all flights
	ctx    context.Context
	jobs   sync.WaitGroup
	timers sync.WaitGroup // one for a pending expire

	mu      sync.Mutex // guards the following; never held across I/O but opening and removing kept files
	closed  bool
	serial  int                          // names the next job's directory
	flights map[string]*flight           // by what is being fetched
	kept    map[module.Version]*holding  // by canonical version
	expiry  *time.Timer                  // runs expire; nil if nothing is kept
	goSeen  struct{ path, stamp string } // the go command found good last
}

// New makes an Origin, and cleans up what crashed processes left in Dir. It
// does not look for the go command: that it is missing is an error of Get.
func New(cfg Config) (*Origin, error) {
	if cfg.Dir == "" {
		return nil, errors.New("origin: no work directory is set")
	}
	cfg.Timeout = cmp.Or(cfg.Timeout, defaultTimeout)
	cfg.Clones = cmp.Or(cfg.Clones, int64(defaultClones))
	cfg.Parallel = cmp.Or(cfg.Parallel, max(4, 2*runtime.GOMAXPROCS(0)))
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("work directory for version control: %w", err)
	}
	cfg.Dir = dir
	for _, sub := range []string{"run", "clones"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("work directory for version control: %w", err)
		}
	}
	sweepRuns(filepath.Join(dir, "run"))
	run, err := newRun(filepath.Join(dir, "run"))
	if err != nil {
		return nil, fmt.Errorf("work directory for version control: %w", err)
	}
	o := &Origin{
		cfg:     cfg,
		slots:   make(chan struct{}, cfg.Parallel),
		run:     run,
		repos:   &clones{dir: filepath.Join(dir, "clones"), most: cfg.Clones},
		flights: make(map[string]*flight),
		kept:    make(map[module.Version]*holding),
	}
	if err := o.furnish(run.dir); err != nil {
		return nil, errors.Join(fmt.Errorf("work directory for version control: %w", err), run.remove())
	}
	o.repos.sweep()
	o.ctx, o.stop = context.WithCancelCause(context.Background())
	return o, nil
}

var errClosed = errors.New("version control is closed down: sluice is stopping")

// Close ends all jobs, waits for their processes, and removes what is this
// process's own in Dir. The clones stay for the next process. A second Close
// does nothing.
func (o *Origin) Close() error {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return nil
	}
	o.closed = true
	if o.expiry != nil && o.expiry.Stop() {
		o.timers.Done()
	}
	o.mu.Unlock()
	o.stop(errClosed)
	o.jobs.Wait()
	o.timers.Wait()
	o.mu.Lock()
	for m, h := range o.kept {
		delete(o.kept, m)
		h.release()
	}
	o.mu.Unlock()
	return o.run.remove()
}

// An Answer is a file of the protocol. Whoever got it closes Body.
type Answer struct {
	Body io.ReadCloser
	Size int64 // bytes of Body
}

// Get fetches what req asks for from version control. Callers that ask for the
// same at the same time share one job, which ends when the last of them has gone.
//
// List is empty for a module without tags. Latest and Info answer with the
// bytes that the go command writes into its module cache, Origin included.
// An error is an *Error, unless ctx ended or the Origin is closed.
func (o *Origin) Get(ctx context.Context, req goproxy.Request) (*Answer, error) {
	if err := check(req); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return nil, errClosed
	}
	if a := o.fromKept(req); a != nil {
		o.mu.Unlock()
		return a, nil
	}
	f := o.join(ctx, req)
	o.mu.Unlock()
	defer o.leave(f)
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for version control, %s: %w", req, context.Cause(ctx))
	}
	if f.err != nil {
		return nil, f.err
	}
	if f.data != nil {
		return &Answer{Body: io.NopCloser(bytes.NewReader(f.data)), Size: int64(len(f.data))}, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return f.files.open(req.Kind)
}

// check refuses what must not reach a command line. Module paths and versions
// come from the network, and the go command, Git and Mercurial have been tricked
// into taking such for options before (CVE-2025-68119).
func check(req goproxy.Request) error {
	m := req.Module
	bad := func(format string, args ...any) error {
		return &Error{Request: req, Cause: Missing, Text: fmt.Sprintf(format, args...)}
	}
	if err := module.CheckPath(m.Path); err != nil {
		return bad("%v", err)
	}
	if strings.HasPrefix(m.Path, "-") || strings.Contains(m.Path, "...") {
		return bad("%s cannot be the path of a module in version control", m.Path)
	}
	switch req.Kind {
	case goproxy.List, goproxy.Latest:
		if m.Version != "" {
			return bad("a %s of one version was asked for", req.Kind)
		}
		return nil
	case goproxy.Mod, goproxy.Zip:
		if !goproxy.IsCanonical(m) {
			return bad("%s@%s is not a canonical version", m.Path, m.Version)
		}
		return nil
	case goproxy.Info:
		if goproxy.IsCanonical(m) {
			return nil
		}
		// A revision: what goproxy can spell, less what looks like an option or
		// like the go command's own comparisons.
		if req.Path() == "" || strings.ContainsAny(m.Version[:1], "-<>") || strings.Contains(m.Version, "/-") {
			return bad("%s: %q cannot be the name of a revision", m.Path, m.Version)
		}
		return nil
	}
	return bad("%s is nothing that version control could answer", req.Kind)
}

// A flight is one fetch and those who wait for it.
type flight struct {
	done   chan struct{} // closed when the following three are set
	data   []byte        // a list, or the .info of a query
	files  *holding      // anything else; the flight holds it
	err    error
	cancel context.CancelFunc

	waiters int // guarded by Origin.mu
}

// key is the same for requests that one job answers.
func key(req goproxy.Request) string {
	k := req.Kind
	if k == goproxy.Mod {
		k = goproxy.Info // `go list -m` brings both
	}
	return fmt.Sprintf("%s %s@%s", k, req.Module.Path, req.Module.Version)
}

// join finds or starts the flight for req. o.mu is held.
func (o *Origin) join(ctx context.Context, req goproxy.Request) *flight {
	k := key(req)
	if f := o.flights[k]; f != nil {
		f.waiters++
		return f
	}
	// The values are the first one's, the end is that of the last to leave.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stopped := context.AfterFunc(o.ctx, cancel)
	f := &flight{done: make(chan struct{}), cancel: cancel, waiters: 1}
	o.flights[k] = f
	o.jobs.Go(func() {
		defer stopped()
		res, err := o.fetch(ctx, req)
		if err != nil && o.ctx.Err() != nil {
			err = errClosed
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.flights[k] == f {
			delete(o.flights, k)
		}
		if err == nil && res.files != nil {
			o.keep(res.files)
			if res.data == nil {
				f.files = res.files.hold()
			}
			res.files.release()
		}
		f.data, f.err = res.data, err
		if f.waiters == 0 && f.files != nil {
			f.files.release()
		}
		close(f.done)
	})
	return f
}

// leave is called once by each who joined.
func (o *Origin) leave(f *flight) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f.waiters--
	if f.waiters > 0 {
		return
	}
	f.cancel()
	maps.DeleteFunc(o.flights, func(_ string, g *flight) bool { return g == f }) // who comes now must not join a cancelled one
	select {
	case <-f.done:
		if f.files != nil {
			f.files.release()
		}
	default: // its goroutine will find nobody waiting
	}
}

// A holding is a directory with the files of one version. Its fields but refs
// do not change; refs is guarded by Origin.mu.
type holding struct {
	dir   string
	mod   module.Version
	files map[goproxy.Kind]string
	size  int64 // bytes
	until time.Time
	o     *Origin
	refs  int
}

func (h *holding) hold() *holding {
	h.refs++
	return h
}

// release gives one hold back; with the last one the directory goes.
func (h *holding) release() {
	h.refs--
	if h.refs == 0 {
		os.RemoveAll(h.dir)
	}
}

// open answers with a file of h, which stays until the answer is closed.
func (h *holding) open(k goproxy.Kind) (*Answer, error) {
	f, err := os.Open(h.files[k])
	if err != nil {
		return nil, fmt.Errorf("opening what version control brought: %w", err)
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("opening what version control brought: %w", err)
	}
	return &Answer{Body: &body{File: f, h: h.hold()}, Size: fi.Size()}, nil
}

type body struct {
	*os.File
	h    *holding
	once sync.Once
}

func (b *body) Close() error {
	err := b.File.Close()
	b.once.Do(func() {
		b.h.o.mu.Lock()
		defer b.h.o.mu.Unlock()
		b.h.release()
	})
	return err
}

// fromKept answers from what an earlier job left, or is nil. o.mu is held.
func (o *Origin) fromKept(req goproxy.Request) *Answer {
	h := o.kept[req.Module]
	if h == nil || req.Kind < goproxy.Info || h.files[req.Kind] == "" || time.Now().After(h.until) {
		return nil
	}
	a, err := h.open(req.Kind)
	if err != nil {
		return nil // somebody emptied the directory; fetch again
	}
	return a
}

// keep holds h for a while, in place of a poorer one. o.mu is held.
func (o *Origin) keep(h *holding) {
	if o.closed {
		return
	}
	if old := o.kept[h.mod]; old != nil {
		if old.files[goproxy.Zip] != "" && h.files[goproxy.Zip] == "" {
			return
		}
		old.release()
		delete(o.kept, h.mod)
	}
	for len(o.kept) > 0 {
		var oldest *holding
		sum := h.size
		for _, k := range o.kept {
			sum += k.size
			if oldest == nil || k.until.Before(oldest.until) {
				oldest = k
			}
		}
		if len(o.kept) < keepMost && sum <= keepBytes {
			break
		}
		delete(o.kept, oldest.mod)
		oldest.release()
	}
	h.until = time.Now().Add(keepFor)
	o.kept[h.mod] = h.hold()
	if o.expiry == nil {
		o.timers.Add(1)
		o.expiry = time.AfterFunc(keepFor, o.expire)
	}
}

// expire drops what has been kept long enough, and comes again for the rest.
func (o *Origin) expire() {
	defer o.timers.Done()
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	var next time.Time
	for m, h := range o.kept {
		if !now.Before(h.until) {
			delete(o.kept, m)
			h.release()
		} else if next.IsZero() || h.until.Before(next) {
			next = h.until
		}
	}
	o.expiry = nil
	if !next.IsZero() && !o.closed {
		o.timers.Add(1)
		o.expiry = time.AfterFunc(next.Sub(now), o.expire)
	}
}
