package store

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	"golang.org/x/sync/singleflight"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/seen"
)

// Where things lie below the directory. A module path never begins with
// ".sluice" or "sumdb": its first element has a dot, though not in front.
const (
	sumdbDir      = "sumdb"
	ourDir        = ".sluice"
	tmpDir        = ourDir + "/tmp"        // one directory for each process
	sumsDir       = ourDir + "/sums"       // same path.json: Records, and sums of the files below sumdb
	answersDir    = ourDir + "/answers"    // by the hash of their request's path
	quarantineDir = ourDir + "/quarantine" // one directory for each case
	lockDir       = ourDir + "/lock"
)

// Options of OpenDisk. The zero value is a good choice.
type Options struct {
	// HotBytes bounds the small artifacts that are kept in memory and served
	// from there; 0 is 64 MiB, negative is none.
	HotBytes int64

	// Reserve is how many bytes of the file system are left alone: below that,
	// Create gives ErrNoSpace, and what is being written already may use half of
	// it. 0 is 256 MiB, but no more than 5 % of the file system; negative is none.
	Reserve int64

	// Quarantine bounds the bodies kept in quarantine; 0 is 1 GiB, negative is
	// none. Past it only the evidence is kept, and says so.
	Quarantine int64

	// Quota bounds what all artifacts take of the disk, in bytes; 0 or less is
	// none. To make room, the versions that nobody has used for the longest time
	// are evicted, but for pinned ones (those with a Record whose H1 nobody
	// vouches for) and those that Keep names. Where that is not enough, Create
	// and Commit give ErrNoSpace.
	Quota int64

	// Keep reports whether the versions of a module are never evicted; nil keeps
	// none. SetKeep replaces it.
	Keep func(modPath string) bool

	// Log is told what was evicted and counted; nil tells nobody.
	Log *slog.Logger
}

const (
	defaultHot        = 64 << 20
	defaultReserve    = 256 << 20
	defaultQuarantine = 1 << 30

	maxHot = 256 << 10 // the largest artifact that is kept in memory

	// lockBudget is how long to wait for another process. Under a lock nothing
	// slower is done than to sync a few files and to hash one zip.
	lockBudget = 30 * time.Second

	// setupPause is how soon a store that could not be written is tried again.
	setupPause = 5 * time.Second

	// racy is the coarsest clock of a local file system that keeps ctime. What
	// was changed less than that before we looked may be changed again without
	// a trace.
	racy = 20 * time.Millisecond

	lockShards = 64
)

// Disk is a Store in a directory.
//
//	DIR/<escaped path>/@v/<escaped version>.{info,mod,zip}
//	DIR/<escaped path>/@v/list
//	DIR/sumdb/NAME/{supported,latest,lookup/…,tile/…}
//	DIR/.sluice/…                                      everything else of ours
//
// An artifact is its file and its Record; one without the other is not there.
// Both change only under the module's lock, which all processes share, and only
// by a rename of something complete. Who reads takes no lock, and one to look
// again where file and Record disagree: a commit may have been half-way.
//
// All access goes through an os.Root: no symbolic link leads out of DIR.
type Disk struct {
	dir  string // absolute
	root *rootDir
	opts Options

	hot   hotLayer
	known *seen.Set[seenKey] // files that were found to agree with their Record
	check singleflight.Group // of the same, while it is found out
	dirs  *seen.Set[string]  // directories of which we know that they survive a crash

	seq   atomic.Uint64           // for names of temporary files
	proc  atomic.Pointer[procDir] // nil: cannot be written, or not yet
	locks [lockCount]sync.Mutex   // each taken before the lock file of the same number
	quota quota
	uses  *uses // nil without a quota

	setup sync.Mutex // guards the following; held while a store is set up, which is rare
	tried time.Time
	why   error // of the last try; nil before the first and after Close
}

var _ Store = (*Disk)(nil)

// Lock numbers past the shards. Quarantine's is taken after a shard's, never
// before; a sweep's is taken first of all, or, where a store is set up anew under
// a shard's, with no other after it. That of eviction is taken before a shard's,
// and that of the log of uses after all others.
const (
	lockSweep = lockShards + iota
	lockQuarantine
	lockEvict
	lockUses
	lockCount
)

// A procDir is where this process keeps what is not finished. While it lives,
// it holds the lock in it; a directory whose lock is free belongs to the dead.
type procDir struct {
	name string
	lock *os.File
}

// OpenDisk opens the store in dir, makes it if it is not there, and removes what
// dead processes left half done. If dir can be read but not written, it succeeds
// all the same, and Writable says why: every method that writes then gives an
// error that matches ErrReadOnly (or ErrNoSpace), and tries anew now and then.
func OpenDisk(dir string, o Options) (*Disk, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("store: %s is no directory name: %w", dir, err)
	}
	if err := os.MkdirAll(abs, 0o777); err != nil {
		return nil, fmt.Errorf("store: the directory %s cannot be made, choose another or make it for this user: %w", abs, err)
	}
	var root *rootDir
	top, err := os.OpenRoot(abs)
	if err == nil {
		root = newRootDir(top)
		_, err = readDir(root, ".")
	}
	if err != nil {
		if root != nil {
			root.Close()
		}
		return nil, fmt.Errorf("store: the directory %s cannot be read, choose another or let this user read it: %w", abs, err)
	}
	o.HotBytes = orDefault(o.HotBytes, defaultHot)
	o.Quarantine = orDefault(o.Quarantine, defaultQuarantine)
	o.Quota = max(o.Quota, 0)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d := &Disk{dir: abs, root: root, opts: o, known: seen.New[seenKey](1<<16, 0), dirs: seen.New[string](1<<16, 0)}
	if o.Quota > 0 {
		d.uses = newUses()
	}
	d.SetKeep(o.Keep)
	d.hot, err = newHotLayer(o.HotBytes)
	if err != nil {
		root.Close()
		return nil, fmt.Errorf("store: %w", err)
	}
	if p, err := d.ready(); err == nil {
		d.sweep(p)
		d.settleLeft()
	}
	return d, nil
}

// orDefault is v, or def for zero; a negative v means none, which is zero.
func orDefault(v, def int64) int64 { return max(cmp.Or(v, def), 0) }

// Dir is the store's directory, absolute.
func (d *Disk) Dir() string { return d.dir }

// Close releases the directory. What is pending is lost. Run has to have ended.
func (d *Disk) Close() error {
	if d.proc.Load() != nil {
		d.flushUses()
	}
	d.setup.Lock()
	defer d.setup.Unlock()
	if p := d.proc.Load(); p != nil {
		d.relistLeft(p.name) // what could not be listed, for want of space; Versions has the last word
		d.proc.Store(nil)
		// In this order, for Windows. A free lock invites others to sweep, which does no harm.
		p.lock.Close()
		d.root.RemoveAll(p.name)
	}
	d.hot.close()
	return d.root.Close()
}

// Writable reports why the store cannot be written: nil if it can, as far as
// is known without trying; Probe tries.
func (d *Disk) Writable() error {
	_, err := d.ready()
	return err
}

// Space is what the file system below the store has left for us, and in all.
func (d *Disk) Space() (free, total int64, err error) { return space(d.dir) }

// SpaceOf is how many bytes of the disk with dir a plain user may still take, and how
// large it is.
func SpaceOf(dir string) (free, total int64, err error) { return space(dir) }

// ready sets the store up for writing, unless it is.
func (d *Disk) ready() (*procDir, error) {
	if p := d.proc.Load(); p != nil {
		return p, nil
	}
	d.setup.Lock()
	defer d.setup.Unlock()
	if p := d.proc.Load(); p != nil {
		return p, nil
	}
	if d.why != nil && time.Since(d.tried) < setupPause {
		return nil, d.why
	}
	d.tried = time.Now()
	err := d.setUp()
	d.why = nil
	if err != nil {
		kind := ErrReadOnly
		if noSpace(err) {
			kind = ErrNoSpace
		}
		d.why = fmt.Errorf("store: nothing new can be kept in %s, though what is there is served; make it writable for this user or choose another directory: %w (%v)", d.dir, kind, err)
	}
	return d.proc.Load(), d.why
}

func (d *Disk) setUp() error {
	for _, dir := range []string{tmpDir, sumsDir, answersDir, quarantineDir, lockDir} {
		if err := d.root.MkdirAll(dir, 0o777); err != nil {
			return err
		}
	}
	unlock, err := d.lockNumber(lockSweep) // without it, a sweeper could see a directory before its lock is taken
	if err != nil {
		return err
	}
	defer unlock()
	p := &procDir{name: fmt.Sprintf("%s/%d-%s", tmpDir, os.Getpid(), rand.Text()[:10])}
	if err := d.root.Mkdir(p.name, 0o777); err != nil {
		return err
	}
	p.lock, err = d.root.OpenFile(p.name+"/lock", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	if ok, err := tryLock(p.lock); err != nil || !ok {
		p.lock.Close()
		return fmt.Errorf("file locks do not work here: %w", cmp.Or(err, errors.ErrUnsupported))
	}
	d.proc.Store(p)
	fresh := true
	names, err := readNames(d.root, sumsDir, 2)
	for _, name := range names {
		fresh = fresh && name == sumdbDir
	}
	if err == nil && (fresh || d.opts.Quota > 0) {
		d.startUsage(fresh) // where it cannot, no account is kept
	}
	return nil
}

// sweep removes what dead processes left, after having brought those lists up to
// date that they could not. What cannot be removed now, the next start will try.
// It takes the locks of modules, so no lock may be held.
func (d *Disk) sweep(own *procDir) {
	unlock, err := d.lockNumber(lockSweep)
	if err != nil {
		return
	}
	defer unlock()
	entries, err := readDir(d.root, tmpDir)
	if err != nil {
		return
	}
	for _, e := range entries {
		name := tmpDir + "/" + e.Name()
		if name == own.name {
			continue
		}
		if f, err := d.root.OpenFile(name+"/lock", os.O_RDWR, 0); err == nil {
			free, err := tryLock(f)
			f.Close()
			if err != nil || !free {
				continue
			}
		} else if !errors.Is(err, fs.ErrNotExist) && e.IsDir() {
			continue
		}
		if d.relistLeft(name) == nil {
			d.root.RemoveAll(name)
		}
	}
}

// relistLeft mends the lists that a process was about to change when it died.
func (d *Disk) relistLeft(dir string) error {
	entries, _ := readDir(d.root, dir)
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), intentSuffix) {
			continue
		}
		path, err := d.root.ReadFile(dir + "/" + e.Name())
		if err != nil {
			return err
		}
		if _, err := listName(string(path)); err != nil {
			continue // cut short, so nothing had happened yet
		}
		unlock, err := d.lock(string(path))
		if err != nil {
			return err
		}
		err = d.relist(string(path))
		unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// lock takes the lock that guards everything about a module, or a file of a
// checksum database, against all processes. It is the one lock that is held
// across I/O: that is what it is for.
func (d *Disk) lock(key string) (unlock func(), err error) { return d.lockNumber(shardOf(key)) }

func shardOf(key string) int {
	h := fnv.New32a()
	io.WriteString(h, key)
	return int(h.Sum32() % lockShards)
}

func (d *Disk) lockNumber(n int) (unlock func(), err error) {
	name := fmt.Sprintf("%s/%02d", lockDir, n)
	d.locks[n].Lock()
	f, err := d.root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666)
	if errors.Is(err, fs.ErrNotExist) { // somebody tidied up behind our back
		if err = d.root.MkdirAll(lockDir, 0o777); err == nil {
			f, err = d.root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666)
		}
	}
	if err != nil {
		d.locks[n].Unlock()
		return nil, err
	}
	unlock = func() {
		f.Close() // which unlocks
		d.locks[n].Unlock()
	}
	pause := time.Millisecond / 4
	for end := time.Now().Add(lockBudget); ; {
		ok, err := tryLock(f)
		if ok {
			return unlock, nil
		}
		if err == nil && time.Now().After(end) {
			err = fmt.Errorf("another process has held the lock %s for %v", filepath.Join(d.dir, filepath.FromSlash(name)), lockBudget)
		}
		if err != nil {
			unlock()
			return nil, err
		}
		// Whoever holds it may have been stopped, and to wait in the kernel
		// could not be given up.
		time.Sleep(pause)
		pause = min(2*pause, 10*time.Millisecond)
	}
}

// fail is the error of an operation that writes: what could not be done, and
// which of our kinds it is. It never matches fs.ErrNotExist: that a directory
// of ours is gone says nothing about any module.
func (d *Disk) fail(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNoSpace), errors.Is(err, ErrReadOnly), errors.Is(err, ErrConflict), errors.Is(err, fs.ErrInvalid):
		return err // says all of that
	case noSpace(err):
		return fmt.Errorf("store: cannot %s in %s: %w (%v)", what, d.dir, ErrNoSpace, err)
	case readOnly(err):
		return fmt.Errorf("store: cannot %s in %s: %w (%v)", what, d.dir, ErrReadOnly, err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("store: cannot %s in %s: %v", what, d.dir, err)
	}
	return fmt.Errorf("store: cannot %s in %s: %w", what, d.dir, err)
}

// cannotTell is the error of an operation that reads.
func (d *Disk) cannotTell(what any, err error) error {
	return fmt.Errorf("store: cannot read %v in %s: %w", what, d.dir, err)
}

func recordName(name string) string { return sumsDir + "/" + name + ".json" }

// readRecord gives the Record of what lies at name; errors as Store.Record.
func (d *Disk) readRecord(req goproxy.Request, name string) (Record, error) {
	data, err := readSmall(d.root, recordName(name), maxRecord)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Record{}, notStored(req)
	case err != nil:
		return Record{}, d.cannotTell(req, err)
	}
	rec, err := parseRecord(data)
	if err != nil {
		return Record{}, damaged(req, "%v", err)
	}
	return rec, nil
}

func (d *Disk) Record(req goproxy.Request) (Record, error) {
	name, err := artifactName(req)
	if err != nil {
		return Record{}, err
	}
	if w := d.hot.get(name); w != nil {
		return w.Record, nil
	}
	return d.readRecord(req, name)
}

// Warm gives the artifact at a path of the tree if it is held in memory, else nil.
func (d *Disk) Warm(path string) *Warm { return d.hot.get(path) }

func (d *Disk) Open(req goproxy.Request) (*Blob, error) {
	d.uses.used(req.Module)
	name, err := artifactName(req)
	if err != nil {
		return nil, err
	}
	if w := d.hot.get(name); w != nil {
		return memBlob(w.Bytes, w.Record), nil
	}
	gen := d.hot.generation()
	b, err := d.settled(req, func() (*Blob, error) { return d.open(req, name, false) })
	if err == nil && b.Bytes != nil {
		d.hot.add(name, &Warm{Request: req, Bytes: b.Bytes, Record: b.Record}, gen)
	}
	return b, err
}

func (d *Disk) Check(req goproxy.Request) error {
	name, err := artifactName(req)
	if err != nil {
		return err
	}
	b, err := d.settled(req, func() (*Blob, error) { return d.open(req, name, true) })
	if err != nil {
		d.hot.drop(name)
		return err
	}
	return b.Close()
}

// settled has open look once more where it finds damage, while nobody else may
// change anything.
func (d *Disk) settled(req goproxy.Request, open func() (*Blob, error)) (*Blob, error) {
	b, err := open()
	if !errors.Is(err, ErrDamaged) {
		return b, err
	}
	if unlock, err := d.lock(req.Module.Path); err == nil {
		defer unlock()
	} // A store that we cannot lock, we cannot write either; others may.
	return open()
}

// open opens what lies at name, if it agrees with its Record; afresh reads it
// whatever is known of it.
func (d *Disk) open(req goproxy.Request, name string, afresh bool) (_ *Blob, err error) {
	rec, err := d.readRecord(req, name)
	if err != nil {
		return nil, err
	}
	f, err := d.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, notStored(req)
	}
	if err != nil {
		if fi, lerr := d.root.Lstat(name); lerr == nil && !fi.Mode().IsRegular() {
			return nil, damaged(req, "%s is no regular file", name)
		}
		return nil, d.cannotTell(req, err)
	}
	keep := false
	defer func() {
		if !keep {
			f.Close()
		}
	}()
	fi, err := f.Stat()
	switch {
	case err != nil:
		return nil, d.cannotTell(req, err)
	case !fi.Mode().IsRegular():
		return nil, damaged(req, "%s is no regular file", name)
	case fi.Size() != rec.Size:
		return nil, damaged(req, "it has %d bytes of %d", fi.Size(), rec.Size)
	}
	if req.Kind != goproxy.Zip && rec.Size <= maxHot {
		data := make([]byte, rec.Size)
		if _, err := f.ReadAt(data, 0); err == io.EOF {
			return nil, damaged(req, "it has less than %d bytes", rec.Size)
		} else if err != nil {
			return nil, d.cannotTell(req, err)
		}
		if got := sha256Hex(data); got != rec.SHA256 {
			return nil, damaged(req, "its sha256 is %s instead of %s", got, rec.SHA256)
		}
		return memBlob(data, rec), nil
	}
	key := seenKey{name, identify(fi), rec.SHA256}
	if !d.known.Has(key) || afresh {
		if err := d.hashOnce(req, key, f, afresh); err != nil {
			return nil, err
		}
	}
	keep = true
	return &Blob{Content: f, Record: rec}, nil
}

// A seenKey stands for one file at one time: any change to it makes another.
type seenKey struct {
	name   string
	id     fileID
	sha256 string
}

// hashOnce compares what f holds with key.sha256, for everyone who asks at the
// same time, and remembers that it agrees.
func (d *Disk) hashOnce(req goproxy.Request, key seenKey, f *os.File, afresh bool) error {
	_, err, _ := d.check.Do(fmt.Sprint(key), func() (any, error) {
		if d.known.Has(key) && !afresh {
			return nil, nil
		}
		start := time.Now()
		h := sha256.New()
		n, err := io.Copy(h, io.NewSectionReader(f, 0, key.id.size))
		if err != nil {
			return nil, d.cannotTell(req, err)
		}
		if got := hex.EncodeToString(h.Sum(nil)); n != key.id.size || got != key.sha256 {
			d.known.Remove(key)
			return nil, damaged(req, "its sha256 is %s instead of %s", got, key.sha256)
		}
		if start.Sub(time.Unix(0, key.id.changed())) >= racy {
			d.known.Add(key)
		}
		return nil, nil
	})
	return err
}

type diskPending struct {
	d      *Disk
	req    goproxy.Request
	name   string   // where it goes
	tmp    string   // where it is; empty once it is there, or gone
	file   *os.File // readable until Abort
	sum    hash.Hash
	linked bool // file has another name, which is not ours
	size   atomic.Int64
	early  atomic.Int64 // bytes that were given to WriteAt
	room   int64        // the size at which to look again whether there is space
	done   bool         // committed or aborted
}

func (d *Disk) Create(req goproxy.Request) (Pending, error) {
	name, err := artifactName(req)
	if err != nil {
		return nil, err
	}
	if _, err := d.ready(); err != nil {
		return nil, err
	}
	if err := d.spare(1); err != nil {
		return nil, err
	}
	if err := d.quota.fullNow(); err != nil {
		return nil, err
	}
	f, tmp, err := d.temp("")
	if err != nil {
		return nil, d.fail("store "+req.String(), err)
	}
	p := &diskPending{d: d, req: req, name: name, tmp: tmp, file: f, sum: sha256.New(), room: roomStep}
	if d.opts.Quota > 0 && req.Kind == goproxy.Zip {
		// It relies on what lies there already, which so has the longest to live.
		d.uses.renew(req.Module)
	}
	return p, nil
}

// roomStep is how many bytes are written between two looks at the space left.
const roomStep = 8 << 20

// spare reports ErrNoSpace when less than a part of the reserve is left.
func (d *Disk) spare(part int64) error {
	if d.opts.Reserve < 0 {
		return nil
	}
	free, total, err := space(d.dir)
	if err != nil {
		return nil // a file system that does not say; it will say when it is full
	}
	reserve := d.opts.Reserve
	if reserve == 0 {
		reserve = min(defaultReserve, total/20)
	}
	if free < reserve/part {
		return fmt.Errorf("store: the file system of %s has %d MiB left and we leave %d MiB alone, so nothing new is kept; make room there: %w", d.dir, free>>20, reserve>>20, ErrNoSpace)
	}
	return nil
}

func (p *diskPending) Write(b []byte) (int, error) {
	switch {
	case p.done:
		return 0, errEnded
	case p.linked:
		return 0, errAdopted
	}
	size := p.size.Load()
	if size >= p.room {
		if err := p.d.spare(2); err != nil {
			return 0, err
		}
		p.room = size + roomStep
	}
	n, err := p.file.WriteAt(b, size)
	p.sum.Write(b[:n])
	p.size.Add(int64(n))
	return n, p.d.fail("store "+p.req.String(), err)
}

// WriteAt keeps bytes in the file where they will belong; Write puts the same there
// again, out of the same page of memory as a rule.
func (p *diskPending) WriteAt(b []byte, off int64) (int, error) {
	if n := p.early.Add(int64(len(b))); n/roomStep != (n-int64(len(b)))/roomStep {
		if err := p.d.spare(2); err != nil {
			return 0, err
		}
	}
	n, err := p.file.WriteAt(b, off)
	return n, p.d.fail("store "+p.req.String(), err)
}

func (p *diskPending) ReadAt(b []byte, off int64) (int, error) { return p.file.ReadAt(b, off) }

func (p *diskPending) Size() int64 { return p.size.Load() }

func (p *diskPending) Reset() error {
	if p.done {
		return errEnded
	}
	p.size.Store(0)
	p.sum.Reset()
	p.room = roomStep
	if p.linked { // what is not ours is let go, not emptied
		f, tmp, err := p.d.temp("")
		if err != nil {
			return p.d.fail("store "+p.req.String(), err)
		}
		p.drop()
		p.file.Close()
		p.file, p.tmp, p.linked = f, tmp, false
		return nil
	}
	return p.d.fail("store "+p.req.String(), p.file.Truncate(0))
}

func (p *diskPending) Abort() {
	p.done = true
	p.drop()
	p.file.Close()
}

// drop removes the temporary file. Where that fails, the next start will do it.
func (p *diskPending) drop() {
	if p.tmp != "" {
		p.d.root.Remove(p.tmp)
		p.tmp = ""
	}
}

func (p *diskPending) Commit(rec Record) (Record, error) {
	if p.done {
		return Record{}, errEnded
	}
	rec, err := stamp(p.req, rec, p.Size(), p.sum.Sum(nil))
	if err != nil {
		return Record{}, err
	}
	if p.early.Load() > 0 {
		// What never had its turn is no part of it.
		if err := p.file.Truncate(p.Size()); err != nil {
			return Record{}, p.d.fail("store "+p.req.String(), err)
		}
	}
	if err := p.file.Sync(); err != nil {
		return Record{}, p.d.fail("store "+p.req.String(), err)
	}
	release, err := p.d.makeRoom(costOf(p.Size()))
	if err != nil {
		return Record{}, err
	}
	defer release()
	rec, err = p.commit(rec)
	if err != nil {
		return Record{}, p.d.fail("store "+p.req.String(), err)
	}
	p.done = true
	p.drop()
	p.d.uses.renewed(p.req.Module)
	return rec, nil
}

func (p *diskPending) commit(rec Record) (Record, error) {
	d, req, name := p.d, p.req, p.name
	d.intact(req, name) // a large zip is hashed before the lock is taken, and remembered under it
	unlock, err := d.lock(req.Module.Path)
	if err != nil {
		return Record{}, err
	}
	defer unlock()
	there := d.costs(versionName(name))
	a := d.account(req, name, there)
	defer a.close()
	defer d.hot.drop(name)
	if err := d.mayStand(req, a); err != nil {
		return Record{}, err
	}

	old, err := d.readRecord(req, name)
	known := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrDamaged) {
		return Record{}, err
	}
	if known {
		now, replace, err := settle(req, old, d.intact(req, name), rec)
		if err != nil {
			return Record{}, err
		}
		if !replace {
			if now != old {
				if err := d.writeRecord(name, now); err != nil {
					return Record{}, err
				}
			}
			return now, d.finish(req, name, there, intent{})
		}
		rec = now
		if _, err := d.root.Lstat(name); err == nil {
			// To have lost the evidence is better than to keep the wrong bytes.
			d.setAside(outdated(req, old, rec), name, func(body string) error {
				// By a second name, so that the first is never without a file.
				if d.root.Link(name, body) == nil {
					return nil
				}
				return d.root.Rename(name, body)
			})
		}
	}
	// The Record first: a file without one could not be told from any other,
	// and a Record without its file says only what the content must be.
	if err := d.writeRecord(name, rec); err != nil {
		return Record{}, err
	}
	*there.of(path.Ext(name)) = costOf(rec.Size)
	var note intent
	if there.has(suffixes[:]...) { // this one completes it
		if note, err = d.noteList(req.Module.Path); err != nil {
			return Record{}, err
		}
	}
	if err := d.rename(p.tmp, name, true); err != nil {
		return Record{}, err
	}
	p.tmp = ""
	// Others may have written to a linked file since it was hashed, so it is hashed
	// once more before it is served.
	if fi, err := p.file.Stat(); err == nil && !p.linked {
		d.known.Add(seenKey{name, identify(fi), rec.SHA256})
	}
	return rec, d.finish(req, name, there, note)
}

// finish lists the version if all of it is there, and makes sure that a crash does
// not undo what was renamed.
func (d *Disk) finish(req goproxy.Request, name string, there costs, note intent) error {
	var listErr error
	if there.has(suffixes[:]...) {
		listErr = d.addToList(req.Module)
	}
	err := errors.Join(syncDir(d.root, path.Dir(recordName(name))), syncDir(d.root, path.Dir(name)))
	// The artifact is stored with or without its line in the list. The note
	// stays where the line is missing; Versions mends the list, or the next start.
	if listErr == nil {
		note.done()
	}
	return err
}

// intact reports whether there is a file at name that agrees with its Record.
// Where it could not be told, good bytes take its place: that is always right.
func (d *Disk) intact(req goproxy.Request, name string) bool {
	b, err := d.open(req, name, false)
	if err == nil {
		b.Close()
	}
	return err == nil
}

func (d *Disk) writeRecord(name string, rec Record) error {
	data, err := seal(rec)
	if err != nil {
		return err
	}
	return d.write(recordName(name), data, true)
}

// temp makes a temporary file.
func (d *Disk) temp(suffix string) (f *os.File, name string, err error) {
	for range 2 {
		p, err := d.ready()
		if err != nil {
			return nil, "", err
		}
		name = fmt.Sprintf("%s/%d%s", p.name, d.seq.Add(1), suffix)
		f, err = d.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, name, err
		}
		// Somebody tidied up behind our back.
		if d.proc.CompareAndSwap(p, nil) {
			p.lock.Close()
		}
	}
	return nil, "", fmt.Errorf("%s/%s cannot be kept", d.dir, tmpDir)
}

// write puts data at name, whole or not at all. A durable write has its data and
// its new directories on the disk; the name itself is so after syncDir.
func (d *Disk) write(name string, data []byte, durable bool) error {
	f, tmp, err := d.temp("")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && durable {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = d.rename(tmp, name, durable)
	}
	if err != nil {
		d.root.Remove(tmp)
	}
	return err
}

// rename moves a temporary file to its place, the directories of which it makes.
func (d *Disk) rename(tmp, name string, durable bool) (err error) {
	dir := path.Dir(name)
	for try := range 2 {
		if durable {
			err = d.makeDirs(dir)
		} else if try > 0 {
			err = d.root.MkdirAll(dir, 0o777)
		}
		if err == nil {
			err = d.root.Rename(tmp, name)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// Gone since we saw it, or never made.
		for ; dir != "."; dir = path.Dir(dir) {
			d.dirs.Remove(dir)
		}
		dir, err = path.Dir(name), nil
	}
	return fmt.Errorf("%s or the directory of %s is gone", tmp, name)
}

// makeDirs makes a directory that survives a crash. That one is there already
// does not mean so: another may have made it just now. So each is synced into
// its parent once in the life of this process.
func (d *Disk) makeDirs(dir string) error {
	if dir == "." {
		return nil
	}
	if d.dirs.Has(dir) {
		return nil
	}
	parent := path.Dir(dir)
	if err := d.makeDirs(parent); err != nil {
		return err
	}
	if err := d.root.Mkdir(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := syncDir(d.root, parent); err != nil {
		return err
	}
	d.dirs.Add(dir)
	return nil
}

// An intent is a note, in a place that the next start reads, that a list is
// about to change. The zero intent is none.
type intent struct {
	d    *Disk
	name string
}

const intentSuffix = ".list"

// noteList notes that the list of a module is about to change.
func (d *Disk) noteList(modPath string) (intent, error) {
	f, name, err := d.temp(intentSuffix)
	if err != nil {
		return intent{}, err
	}
	_, err = f.WriteString(modPath)
	note := intent{d, name}
	if err = errors.Join(err, f.Close()); err != nil {
		note.done()
	}
	return note, err
}

func (i intent) done() {
	if i.d != nil {
		i.d.root.Remove(i.name)
	}
}

// addToList adds a version to its module's list, under the module's lock. A
// pseudo-version only makes the list be there: an empty list tells the go
// command to ask for @latest, no list tells it that there is no such module.
func (d *Disk) addToList(m module.Version) error {
	name, err := listName(m.Path)
	if err != nil {
		return err
	}
	data, err := d.root.ReadFile(name)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return err
	}
	list := data
	if !module.IsPseudoVersion(m.Version) {
		var ok bool
		if list, ok = insertVersion(data, m.Version); !ok {
			return d.relist(m.Path)
		}
	}
	if !missing && len(list) == len(data) {
		return nil
	}
	return d.write(name, list, true)
}

// insertVersion puts a version at its place in the text of a list, or gives the
// text back if it is there. It looks at a few lines only: a module may have tens
// of thousands of versions, and each is inserted. ok is false if one of these is
// no version; a text that is not in order otherwise, Versions mends.
func insertVersion(list []byte, version string) (_ []byte, ok bool) {
	line := []byte(version + "\n")
	if bytes.HasPrefix(list, line) || bytes.Contains(list, append([]byte{'\n'}, line...)) {
		return list, true
	}
	if len(list) > 0 && list[len(list)-1] != '\n' {
		return nil, false
	}
	low, high := 0, len(list) // line begins; those before low are less, those from high on are not
	for low < high {
		at := bytes.LastIndexByte(list[low:low+(high-low)/2], '\n') + 1 + low
		end := at + bytes.IndexByte(list[at:], '\n') + 1
		v := string(list[at : end-1])
		if !semver.IsValid(v) {
			return nil, false
		}
		if c := semver.Compare(v, version); c < 0 || c == 0 && v < version {
			low = end
		} else {
			high = at
		}
	}
	return slices.Concat(list[:low], line, list[low:]), true
}

// relist writes a module's list anew, under the module's lock.
func (d *Disk) relist(path string) error {
	name, err := listName(path)
	if err != nil {
		return err
	}
	_, files, err := d.scan(path, name)
	if err != nil {
		return err
	}
	return d.writeList(name, files)
}

func (d *Disk) writeList(name string, list []string) error {
	text := goproxy.FormatList(list)
	if data, err := d.root.ReadFile(name); err == nil && bytes.Equal(data, text) || errors.Is(err, fs.ErrNotExist) && len(text) == 0 {
		return nil
	}
	if err := d.write(name, text, true); err != nil {
		return err
	}
	return syncDir(d.root, path.Dir(name))
}

// scan finds the versions of which all is stored, and those of which all three
// files are there: a plain GOPROXY tree, which may have held files before it was
// ours, knows nothing of Records.
func (d *Disk) scan(modPath, listName string) (stored, files []string, err error) {
	seen := make(map[string]int) // escaped version → bits of what is there
	const allFiles, allRecords = 7, 7 << 3
	for i, dir := range [...]string{path.Dir(listName), path.Dir(recordName(listName))} {
		shift := 3 * i
		names, err := readNames(d.root, dir, -1)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, d.cannotTell(modPath, err)
		}
		for _, name := range names {
			if shift > 0 {
				name = strings.TrimSuffix(name, ".json")
			}
			for i, suffix := range [...]string{".info", ".mod", ".zip"} {
				if v, ok := strings.CutSuffix(name, suffix); ok {
					seen[v] |= 1 << (i + shift)
				}
			}
		}
	}
	for esc, bits := range seen {
		v, err := module.UnescapeVersion(esc)
		if bits&allFiles != allFiles || err != nil || module.IsPseudoVersion(v) || !goproxy.IsCanonical(module.Version{Path: modPath, Version: v}) {
			continue
		}
		files = append(files, v)
		if bits&allRecords == allRecords {
			stored = append(stored, v)
		}
	}
	return goproxy.SortVersions(stored), goproxy.SortVersions(files), nil
}

func (d *Disk) Versions(path string) ([]string, error) {
	name, err := listName(path)
	if err != nil {
		return nil, err
	}
	list, files, err := d.scan(path, name)
	if err != nil {
		return nil, err
	}
	data, err := d.root.ReadFile(name)
	if missing := errors.Is(err, fs.ErrNotExist); missing && len(files) > 0 || err == nil && !bytes.Equal(data, goproxy.FormatList(files)) {
		// A crash of the machine, or somebody else. Our answer does not depend
		// on it, so it is no failure if it cannot be mended.
		if unlock, err := d.lock(path); err == nil {
			defer unlock()
			d.relist(path)
		}
	}
	return list, nil
}

func (d *Disk) Walk(ctx context.Context, f func(goproxy.Request, error) error) error {
	err := d.walk(ctx, sumsDir, f)
	if errors.Is(err, fs.SkipAll) {
		return nil
	}
	return err
}

// walk goes by the Records: a file without one is not stored.
func (d *Disk) walk(ctx context.Context, dir string, f func(goproxy.Request, error) error) error {
	entries, err := readDir(d.root, dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return f(goproxy.Request{}, d.cannotTell(dir, err))
	}
	// In the order of whole paths, where a directory's name goes on with "/".
	key := func(e fs.DirEntry) string {
		if e.IsDir() {
			return e.Name() + "/"
		}
		return strings.TrimSuffix(e.Name(), ".json")
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(key(a), key(b)) })
	for _, e := range entries {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		name := dir + "/" + e.Name()
		if e.IsDir() {
			if name == sumsDir+"/"+sumdbDir {
				continue
			}
			if err := d.walk(ctx, name, f); err != nil {
				return err
			}
			continue
		}
		artifact, ok := strings.CutSuffix(strings.TrimPrefix(name, sumsDir+"/"), ".json")
		req, err := goproxy.ParsePath(artifact)
		if !ok || err != nil || !req.Immutable() {
			continue // nothing of ours
		}
		if _, err := d.root.Lstat(artifact); errors.Is(err, fs.ErrNotExist) {
			continue // a pin
		}
		if err := f(req, nil); err != nil {
			return err
		}
	}
	return nil
}

func (d *Disk) Probe() error {
	const what = "write, sync and read back a test file"
	f, tmp, err := d.temp(".probe")
	if err != nil {
		return d.fail(what, err)
	}
	defer d.root.Remove(tmp)
	defer f.Close()
	data := []byte(strings.Repeat(rand.Text(), 100))
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if err != nil {
		return d.fail(what, err)
	}
	back, err := d.root.ReadFile(tmp)
	if err == nil && !bytes.Equal(back, data) {
		err = errors.New("what was read is not what was written")
	}
	if err == nil {
		err = d.root.Remove(tmp)
	}
	return d.fail(what, err)
}

// syncParent is syncDir for the directory of name; one that is gone needs none.
func syncParent(root *rootDir, name string) error {
	if err := syncDir(root, path.Dir(name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// readDir lists a directory, in no order.
func readDir(root *rootDir, dir string) ([]fs.DirEntry, error) {
	f, err := root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ReadDir(-1)
}

// readNames lists the names in a directory, in no order: all, or with n > 0 no
// more than n. It looks at none of them, as readDir does.
func readNames(root *rootDir, dir string, n int) ([]string, error) {
	f, err := root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(n)
	if err == io.EOF {
		err = nil
	}
	return names, err
}

// readSmall reads a file of ours, and of one that has grown beyond max no more.
func readSmall(root *rootDir, name string, max int64) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, max))
}
