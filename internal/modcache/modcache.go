// Package modcache examines a module cache of the go command (GOMODCACHE), and
// mends what is damaged in it and nothing else.
//
// It asks no source itself: what has to come again comes through a Source. It
// starts no go command, and does not disturb one that runs: a version is judged
// and mended under the lock that the go command downloads it under.
//
// Which files there are, who writes them and when, and what the go command takes
// for whole, is said by cmd/go/internal/modfetch alone. So it is no damage that a
// lock file is there (they stay), that a zip or an .info is missing (they come when
// they are needed), or that directories can be written (-modcacherw).
package modcache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
)

// A Kind says in a word what is damaged and how; it is permanent.
type Kind string

// The kinds of damage.
const (
	ZipDamaged      Kind = "zip-damaged"      // it is no zip, or one of its files cannot be read
	ZipForeign      Kind = "zip-foreign"      // it is the zip of another module, or breaks the rules of module zips
	ZipChanged      Kind = "zip-changed"      // it is whole, and not what was recorded, or what go.sum says
	ZipHashMissing  Kind = "ziphash-missing"  // there is a zip or a tree, and no record of its hash
	ZipHashDamaged  Kind = "ziphash-damaged"  // there is no hash in it
	ZipHashWrong    Kind = "ziphash-wrong"    // the zip is right, and the record is not
	InfoDamaged     Kind = "info-damaged"     // it is not the JSON of a version
	InfoForeign     Kind = "info-foreign"     // it is that of another version
	ModDamaged      Kind = "mod-damaged"      // it is no go.mod
	ModChanged      Kind = "mod-changed"      // it is one, and not the right one
	ListDamaged     Kind = "list-damaged"     // it holds what is no version
	ListWrong       Kind = "list-wrong"       // it has others than there are
	TreePartial     Kind = "tree-partial"     // extracting was broken off
	TreeMissing     Kind = "tree-missing"     // files of the zip are not there
	TreeChanged     Kind = "tree-changed"     // files are not those of the zip
	TreeExtra       Kind = "tree-extra"       // there are files that the zip does not have
	NotAFile        Kind = "not-a-file"       // a directory, link or device where a file belongs
	NotADirectory   Kind = "not-a-directory"  // a file or link where a directory belongs
	Denied          Kind = "denied"           // owner or permissions keep the user of the cache from it
	Leftover        Kind = "leftover"         // of a go command that was broken off
	Unreachable     Kind = "unreachable"      // under a name that no module or version is escaped to
	SumDBDamaged    Kind = "sumdb-damaged"    // a file of a checksum database that is none
	SumDBContradict Kind = "sumdb-contradict" // one that contradicts the others
)

// Heals reports whether the go command mends such damage by itself, when it needs what
// is damaged: no build fails because of it, while the sources can be reached.
func (kind Kind) Heals() bool {
	return slices.Contains([]Kind{ZipHashMissing, ZipHashDamaged, InfoDamaged, TreePartial, Leftover}, kind)
}

// A Done is what has become of a damage.
type Done string

// What becomes of damage. The zero value is that nothing was tried.
const (
	Fetched   Done = "fetched"   // came again from the sources
	Rewritten Done = "rewritten" // made again of what is here
	Removed   Done = "removed"   // and comes again when the go command needs it, if it ever does
	Allowed   Done = "allowed"   // permissions or owner were changed
	Left      Done = "left"      // on purpose; Err says why
	Failed    Done = "failed"    // is as it was; Err says why
)

// A Damage is one thing that is damaged.
type Damage struct {
	Kind   Kind
	Module module.Version // the zero value for what belongs to no version
	File   string         // in the cache, with slashes
	Text   string         // what is the matter with it
	// Contested is whether cache and record agree, and go.sum says something else: then
	// it may be go.sum that is wrong.
	Contested bool

	Done Done  // by Mend
	Err  error // of Left and Failed
}

// A Report is what was looked at, found and done.
type Report struct {
	Versions int   // looked at
	Bytes    int64 // of zips and trees that were read
	Skipped  int   // versions whose zip or tree was not read to its end, because of MaxBytes, MaxTime or the context
	Unasked  int   // versions that the checksum database could not be asked about
	Unread   error // why, of the first
	Damages  []Damage
	Busy     []module.Version // a go command is at work on them

	Fetched      int   // files that came from the sources
	FetchedBytes int64 // their size
	Stored       int   // of Fetched, those that Sluice had already
}

// A Config says what is examined, and how.
type Config struct {
	Dir string // GOMODCACHE, an absolute path
	// Sums is what go.sum says, as its lines have it: the version of a go.mod ends in
	// "/go.mod". Nil is fine.
	Sums map[module.Version]string
	// Database asks a checksum database for the hashes of the zip and the go.mod; nil
	// asks nobody. covered is false if it has no say about the module.
	Database func(ctx context.Context, m module.Version) (zip, gomod string, covered bool, err error)
	// Only are the versions to look at; nil is all, and all else in the cache.
	Only     []module.Version
	MaxBytes int64 // of zips and trees that are read; 0 is no limit
	// MaxTime is how long after Open zips and trees are read. What is not read by then is
	// Skipped, and all else is looked at. 0 is no limit.
	MaxTime  time.Duration
	Parallel int // versions at once; 0 is as many as there are processors
	// Progress is told how many of the versions are done, one call at a time. Nil is fine.
	Progress func(done, total int)

	// Owner is whether root, if it runs this, asks what the owner of Dir may, and not what
	// it may itself.
	Owner bool

	Source   Source // for Mend
	Writable bool   // directories of extracted modules may be written to (-modcacherw)
}

// A Source has the files of module versions.
type Source interface {
	// Fetch is a file of a module version. The caller closes its Body; a Read error
	// other than io.EOF means that nothing of it may be used.
	Fetch(ctx context.Context, req goproxy.Request) (*File, error)
}

// A File is one that a Source has.
type File struct {
	Body    io.ReadCloser
	Vouched bool // a checksum database says that this is what it must be
	Stored  bool // nobody had to be asked for it
}

// A Cache is one that is examined. It is safe for concurrent use.
type Cache struct {
	c    Config
	root string // Dir, without links
	down string // cache/download in it
	user user   // whose it is
	born time.Time

	mu      sync.Mutex // guards the following
	left    int64      // of MaxBytes
	rep     Report
	records map[module.Version]string // what sound records of checksum databases say, as Sums
	seen    map[module.Version]bool   // versions that the first survey saw
}

// Open begins with a cache. The error matches fs.ErrNotExist if there is none.
func Open(c Config) (*Cache, error) {
	if !filepath.IsAbs(c.Dir) {
		return nil, fmt.Errorf("the module cache %q is no absolute path, so the go command does not use it either", c.Dir)
	}
	root, err := filepath.EvalSymlinks(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("the module cache cannot be looked at: %w", err)
	}
	fi, err := os.Stat(root)
	if err != nil {
		return nil, fmt.Errorf("the module cache cannot be looked at: %w", err)
	}
	if !fi.IsDir() {
		return nil, fmt.Errorf("the module cache %s is a file, and no directory", c.Dir)
	}
	k := &Cache{c: c, root: root, down: filepath.Join(root, "cache", "download"), records: map[module.Version]string{}, seen: map[module.Version]bool{}, left: c.MaxBytes, born: time.Now()}
	k.user = userOf(fi, c.Owner)
	return k, nil
}

// Check looks at everything and changes nothing. The error is that of ctx, with a
// report of what was found until then.
func (k *Cache) Check(ctx context.Context) (Report, error) {
	_, err := k.check(ctx)
	return k.report(), err
}

func (k *Cache) report() Report {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.rep
	r.Damages = slices.Clone(r.Damages)
	slices.SortFunc(r.Damages, func(a, b Damage) int {
		return cmp.Or(strings.Compare(a.File, b.File), strings.Compare(string(a.Kind), string(b.Kind)), strings.Compare(a.Text, b.Text))
	})
	module.Sort(r.Busy)
	return r
}

func (k *Cache) found(ds ...Damage) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.rep.Damages = append(k.rep.Damages, ds...)
}

// check finds the damage, and says which versions are there and which are damaged.
func (k *Cache) check(ctx context.Context) (bad []module.Version, err error) {
	versions := k.c.Only
	if versions == nil {
		s := k.survey(ctx)
		k.found(k.checkSums(ctx)...)
		for _, dir := range s.lists {
			if ctx.Err() == nil {
				k.found(k.checkList(dir)...)
			}
		}
		k.found(s.damages...)
		versions, k.seen = s.versions, s.seen
	} else {
		versions = slices.DeleteFunc(slices.Clone(versions), func(m module.Version) bool { return !goproxy.IsCanonical(m) })
		k.found(k.above(ctx, versions)...)
	}
	var mu sync.Mutex
	done := 0
	each(ctx, k.c.Parallel, versions, func(m module.Version) {
		ds, busy := k.judge(ctx, m)
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		switch {
		case busy:
			k.mu.Lock()
			k.rep.Busy = append(k.rep.Busy, m)
			k.mu.Unlock()
		case len(ds) > 0:
			bad = append(bad, m)
			k.found(ds...)
		}
		done++
		if k.c.Progress != nil {
			k.c.Progress(done, len(versions))
		}
	})
	module.Sort(bad)
	if ctx.Err() != nil {
		return bad, context.Cause(ctx)
	}
	return bad, nil
}

// each calls f for each of the list, some at once, until ctx ends.
func each[T any](ctx context.Context, parallel int, list []T, f func(T)) {
	if parallel <= 0 {
		parallel = runtime.GOMAXPROCS(0)
	}
	ch := make(chan T)
	var wg sync.WaitGroup
	for range min(parallel, len(list)) {
		wg.Go(func() {
			for x := range ch {
				f(x)
			}
		})
	}
feed:
	for _, x := range list {
		select {
		case ch <- x:
		case <-ctx.Done():
			break feed
		}
	}
	close(ch)
	wg.Wait()
}

// judge is the damage of a version, or that a go command is at work on it.
func (k *Cache) judge(ctx context.Context, m module.Version) (ds []Damage, busy bool) {
	st := k.look(ctx, m, true)
	if len(st.damages) == 0 {
		return nil, false
	}
	// A go command at work looks like one that was broken off, but for its lock.
	release, busy := k.peek(st.path("lock"))
	if busy {
		return nil, true
	}
	defer release()
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	if st.skipped { // what was too much then is too much now
		cancel()
	}
	return k.lookWithin(ctx, reading, m, false).damages, false
}

// peek takes a lock that is there, to see whether somebody else has it.
func (k *Cache) peek(name string) (release func(), busy bool) {
	fi, err := os.Lstat(name)
	if err != nil || !fi.Mode().IsRegular() {
		return func() {}, false // nobody works without it, or with what it is
	}
	f, err := os.Open(name)
	if err != nil {
		return func() {}, false
	}
	if ok, err := lockFile(f, false); err == nil && !ok {
		f.Close()
		return func() {}, true
	}
	return func() { f.Close() }, false
}

// afford takes so many bytes from what may still be read.
func (k *Cache) afford(n int64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.c.MaxBytes > 0 && n > k.left {
		return false
	}
	k.left -= n
	return true
}

func (k *Cache) count(f func(*Report)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f(&k.rep)
}

// rel is the name of a file for people and programs.
func (k *Cache) rel(name string) string {
	if r, err := filepath.Rel(k.root, name); err == nil {
		return filepath.ToSlash(r)
	}
	return name
}

// plain is an error without the name of the file, which is told beside it.
func plain(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err
	}
	return err
}
