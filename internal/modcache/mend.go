package modcache

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
)

const (
	// lockPatience is how long a go command that is at work on a version is waited for.
	lockPatience = 5 * time.Second
	lockPause    = 50 * time.Millisecond
	// rounds is how often a version is looked at again: what one thing hid (no
	// permission, a zip that could not be read) shows when it is mended.
	rounds = 3
	// together is how many versions are mended at once: most of it is waiting for sources.
	together = 8
)

// errWritten says that a file is no longer the one that was looked at, or soon is not.
var errWritten = errors.New("a go command is writing it just now")

// errOther says that sources have other bytes than a private module had before.
var errOther = errors.New("the sources have other bytes now than were recorded when it came, and nobody says which are right")

// Mend looks at everything, and mends what is damaged. Whatever a file is replaced
// by is there and verified before the file goes, so that whoever breaks it off, or a
// crash, leaves nothing worse than it was. The error is that of ctx, with a report of
// what was done until then.
func (k *Cache) Mend(ctx context.Context) (Report, error) {
	bad, err := k.check(ctx)
	if err != nil {
		return k.report(), err
	}
	k.mu.Lock()
	found := k.rep.Damages
	k.rep.Damages = nil
	k.mu.Unlock()

	// What is in the way of others first: directories, and what lies where one belongs.
	var rest []Damage
	for _, d := range found {
		switch {
		case d.Module != (module.Version{}) || isList(d):
			rest = append(rest, d)
		default:
			k.found(k.mendPlace(ctx, d))
		}
	}
	bad = append(bad, k.hidden(ctx, bad, k.report().Damages)...)
	var mu sync.Mutex
	mended := map[module.Version][]Damage{}
	each(ctx, max(k.c.Parallel, together), bad, func(m module.Version) {
		ds, busy := k.mendVersion(ctx, m)
		if busy {
			k.count(func(r *Report) { r.Busy = append(r.Busy, m) })
		}
		mu.Lock()
		defer mu.Unlock()
		mended[m] = ds
	})
	for _, ds := range mended {
		k.found(ds...)
	}
	for _, d := range rest {
		if _, ok := mended[d.Module]; !ok && !isList(d) { // ctx has ended
			k.found(d.done(Failed, context.Cause(ctx)))
		}
	}
	if ctx.Err() != nil {
		return k.report(), context.Cause(ctx)
	}
	// The lists last, as they say which versions there are.
	for _, d := range rest {
		// What was removed may have been what it lacked.
		if isList(d) && len(k.readList(filepath.Join(k.root, filepath.FromSlash(path.Dir(d.File))))) > 0 {
			k.found(k.mendList(d))
		}
	}
	return k.report(), nil
}

func isList(d Damage) bool { return strings.HasSuffix(d.File, "/@v/list") }

// hidden are further versions that are damaged: those that could not be seen for what
// was in the way, and those of which directories have gone with it.
func (k *Cache) hidden(ctx context.Context, known []module.Version, mended []Damage) (more []module.Version) {
	mended = slices.DeleteFunc(slices.Clone(mended), func(d Damage) bool { return d.Kind != NotADirectory && d.Kind != Denied })
	if k.c.Only != nil || len(mended) == 0 {
		return nil
	}
	versions := slices.DeleteFunc(k.survey(ctx).versions, func(m module.Version) bool {
		st := k.place(m)
		near := func(d Damage) bool {
			return strings.HasPrefix(k.rel(st.at), d.File+"/") || strings.HasPrefix(k.rel(st.tree), d.File+"/")
		}
		return slices.Contains(known, m) || st == nil || k.seen[m] && !slices.ContainsFunc(mended, near)
	})
	var mu sync.Mutex
	each(ctx, k.c.Parallel, versions, func(m module.Version) {
		st := k.look(ctx, m, !k.seen[m])
		mu.Lock()
		defer mu.Unlock()
		if len(st.damages) > 0 {
			more = append(more, m)
		}
	})
	return more
}

// done says what has become of a damage.
func (d Damage) done(how Done, err error) Damage {
	if d.Done, d.Err = how, err; err != nil && how != Left {
		d.Done = Failed
		d.Err = plain(err)
	}
	return d
}

// mendPlace mends what belongs to no version.
func (k *Cache) mendPlace(ctx context.Context, d Damage) Damage {
	if ctx.Err() != nil {
		return d.done(Failed, context.Cause(ctx))
	}
	name := filepath.Join(k.root, filepath.FromSlash(d.File))
	switch d.Kind {
	case Denied:
		return d.done(Allowed, k.allow(name))
	case SumDBDamaged, SumDBContradict:
		f, err := os.Open(name)
		if err == nil {
			defer f.Close()
			if ok, lerr := lockFile(f, true); lerr == nil && !ok {
				return d.done(Left, errWritten)
			}
			if fi, serr := f.Stat(); serr == nil && fi.ModTime().After(k.born) {
				return d.done(Left, errWritten)
			}
		}
		return d.done(Removed, os.Remove(name))
	case NotAFile, NotADirectory, Unreachable:
		fi, err := os.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			return d.done(Removed, nil) // with a directory above
		}
		if err == nil && fi.Mode()&fs.ModeSymlink != 0 {
			return d.done(Removed, os.Remove(name)) // and never what it leads to
		}
		if err == nil {
			err = removeAll(name)
		}
		return d.done(Removed, err)
	}
	return d.done(Left, errors.New("it mends itself"))
}

// allow gives the user of the cache what it needs of a file or directory, or of what a
// link leads to; outside of the cache only of its own.
func (k *Cache) allow(name string) error {
	name, err := filepath.EvalSymlinks(name)
	if err != nil {
		return err
	}
	fi, err := os.Lstat(name)
	if err != nil {
		return err
	}
	if rel, err := filepath.Rel(k.root, name); !k.user.owns(fi) && (err != nil || !filepath.IsLocal(rel)) {
		// A link leads there, and whoever made it decides nothing about what is others'.
		return fmt.Errorf("it is outside of the module cache, at %s, and belongs to another user", name)
	}
	if !k.user.owns(fi) {
		if err := k.user.give(name); err != nil {
			return err
		}
		if again, err := os.Lstat(name); err != nil || !k.user.owns(again) {
			return fmt.Errorf("only its owner or root can give it to this user; write sudo chown -R %d '%s'", k.user.id(), k.c.Dir)
		}
	}
	perm := fs.FileMode(0o600)
	if fi.IsDir() {
		perm = 0o700
	}
	if k.inTree(name) {
		perm &= 0o500 // what is extracted stays as it is
	}
	return os.Chmod(name, fi.Mode().Perm()|perm)
}

// inTree reports whether a name is that of something extracted.
func (k *Cache) inTree(name string) bool {
	return !strings.HasPrefix(name, filepath.Join(k.root, "cache")+string(filepath.Separator)) && strings.Contains(k.rel(name), "@")
}

// lock takes the lock under which the go command downloads a version.
func (k *Cache) lock(ctx context.Context, st *state) (unlock func(), busy bool, err error) {
	name := st.path("lock")
	if fi, err := os.Lstat(name); err == nil && !fi.Mode().IsRegular() {
		if fi.Mode()&fs.ModeSymlink != 0 {
			err = os.Remove(name)
		} else {
			err = removeAll(name)
		}
		if err != nil {
			return nil, false, err
		}
	} else if err == nil && !k.user.may(fi, 6) {
		if err := k.allow(name); err != nil {
			return nil, false, err
		}
	}
	if err := k.mkdirs(filepath.Dir(name)); err != nil {
		return nil, false, err
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, false, err
	}
	k.user.give(name) // it was made just now, or is the user's
	for end := time.Now().Add(lockPatience); ; {
		ok, err := lockFile(f, true)
		if ok {
			return func() { f.Close() }, false, nil
		}
		if err != nil || time.Now().After(end) || ctx.Err() != nil {
			f.Close()
			return nil, err == nil && ctx.Err() == nil, errors.Join(err, context.Cause(ctx))
		}
		time.Sleep(lockPause)
	}
}

// mkdirs makes directories of the cache.
func (k *Cache) mkdirs(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := k.mkdirs(filepath.Dir(dir)); err != nil {
		return err
	}
	err := os.Mkdir(dir, 0o777)
	if err == nil {
		return k.user.give(dir)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// mendVersion mends one version, under its lock.
func (k *Cache) mendVersion(ctx context.Context, m module.Version) (ds []Damage, busy bool) {
	st := k.look(ctx, m, false)
	before := st.damages
	all := func(err error) []Damage {
		for i := range before {
			before[i] = before[i].done(Failed, err)
		}
		return before
	}
	unlock, busy, err := k.lock(ctx, st)
	switch {
	case busy:
		return nil, true
	case err != nil:
		return all(err), false
	}
	defer unlock()
	w := &work{k: k, ctx: ctx}
	for _, d := range before {
		if d.File == k.rel(st.path("lock")) { // it could be taken
			how := Removed
			if d.Kind == Denied {
				how = Allowed
			}
			ds = append(ds, d.done(how, nil))
		}
	}
	for range rounds {
		st = k.look(ctx, m, false)
		if ctx.Err() != nil {
			w.err(st.damages, context.Cause(ctx))
			break
		}
		st.damages = slices.DeleteFunc(st.damages, func(d Damage) bool {
			return slices.ContainsFunc(ds, func(old Damage) bool { return old.Kind == d.Kind && old.File == d.File && old.Done == Left })
		})
		if len(st.damages) == 0 {
			return ds, false
		}
		w.st, w.told = st, map[int]bool{}
		w.mend()
		ds = append(ds, st.damages...)
		if slices.ContainsFunc(st.damages, func(d Damage) bool { return d.Done == Failed }) {
			return ds, false
		}
	}
	if st = k.look(ctx, m, false); ctx.Err() != nil {
		w.err(st.damages, context.Cause(ctx))
		return append(ds, st.damages...), false
	}
	for _, d := range st.damages {
		if !slices.ContainsFunc(ds, func(old Damage) bool { return old.Kind == d.Kind && old.File == d.File && old.Done == Left }) {
			ds = append(ds, d.done(Failed, errors.New("it is damaged again, or still")))
		}
	}
	return ds, false
}

// A work is the mending of one version, whose lock is held.
type work struct {
	k    *Cache
	ctx  context.Context
	st   *state
	told map[int]bool // which of st's damages are dealt with
}

func (w *work) err(ds []Damage, err error) {
	for i := range ds {
		ds[i] = ds[i].done(Failed, err)
	}
}

// is tells what became of the damages that belong to one of the kinds, or files.
func (w *work) is(how Done, err error, of func(Damage) bool) {
	for i, d := range w.st.damages {
		if !w.told[i] && of(d) {
			w.told[i] = true
			w.st.damages[i] = d.done(how, err)
		}
	}
}

func (w *work) file(suffix string) func(Damage) bool {
	name := w.k.rel(w.st.path(suffix))
	return func(d Damage) bool { return d.File == name }
}

// mend does a round.
func (w *work) mend() {
	st, k := w.st, w.k
	if len(st.denied) > 0 {
		var errs []error
		// From above to below, or what is below cannot be reached.
		slices.SortFunc(st.denied, func(a, b string) int { return len(a) - len(b) })
		for _, name := range st.denied {
			errs = append(errs, k.allow(name))
		}
		w.is(Allowed, errors.Join(errs...), func(d Damage) bool { return d.Kind == Denied })
		if errors.Join(errs...) == nil {
			w.drop() // all others may have been because of that
			return
		}
	}
	zip := func(d Damage) bool { return w.file("zip")(d) || w.file("ziphash")(d) }
	switch {
	case st.zipBad:
		how, err := w.fetchZip()
		w.is(how, err, zip)
		if err != nil {
			w.is(Failed, err, func(d Damage) bool { return strings.HasPrefix(d.File, k.rel(st.tree)) })
		}
	case st.hashDrop:
		w.is(Removed, removeAll(st.path("ziphash")), zip)
	case st.hashBad && st.zip != nil:
		w.is(Rewritten, w.writeHash(st.zip.h1), zip)
	}
	if st.treeBad {
		inTree := func(d Damage) bool { return d.File == k.rel(st.tree) }
		switch {
		case slices.ContainsFunc(st.damages, func(d Damage) bool { return inTree(d) && d.Done == Failed }):
		case st.zip == nil || st.zipBad: // it has to come first; a tree that is no directory goes then
			how, err := w.fetchZip()
			if err == nil || how == Left {
				how, err = Rewritten, w.extract()
			}
			w.is(how, err, inTree)
		default:
			w.is(Rewritten, w.extract(), inTree)
		}
	}
	if st.infoBad {
		w.is(Fetched, w.fetchSmall(goproxy.Info), w.file("info"))
	}
	if st.modBad {
		how, err := Fetched, w.fetchSmall(goproxy.Mod)
		if errors.Is(err, errSame) {
			how = Left
		}
		w.is(how, err, w.file("mod"))
	}
	var errs []error
	for _, name := range st.remove {
		errs = append(errs, removeAll(name))
	}
	w.is(Removed, errors.Join(errs...), func(d Damage) bool { return d.Kind == Leftover })
	w.drop()
}

// drop takes out the damages that nothing was done about yet: the next look tells
// them anew if they are still there.
func (w *work) drop() {
	i := -1
	w.st.damages = slices.DeleteFunc(w.st.damages, func(d Damage) bool { i++; return !w.told[i] })
}

// errSame says that the sources have what is in the cache.
var errSame = errors.New("the sources have the same bytes, so what says otherwise may be wrong")

// fetchZip gets the zip anew. If it is Left, err says why.
func (w *work) fetchZip() (Done, error) {
	st, k := w.st, w.k
	req := goproxy.Request{Kind: goproxy.Zip, Module: st.m}
	tmp, file, err := w.fetch(req)
	if err != nil {
		return Failed, err
	}
	defer os.Remove(tmp) // it is gone where all went well
	z, err := readZip(w.ctx, tmp, st.m)
	if err != nil {
		return Failed, fmt.Errorf("what the sources have is no better: %w", err)
	}
	old := ""
	if st.zip != nil {
		old = st.zip.h1
	}
	switch {
	case st.want != "" && z.h1 != st.want && old == z.h1:
		return Left, errSame
	case st.want != "" && z.h1 != st.want:
		return Failed, fmt.Errorf("the sources have %s, and %s has %s", z.h1, st.wantBy, st.want)
	case st.want == "" && !file.Vouched && st.recorded != "" && z.h1 != st.recorded && z.h1 != old:
		return Failed, errOther
	}
	if st.hashBad || st.recorded != z.h1 {
		if err := w.writeHash(z.h1); err != nil {
			return Failed, err
		}
	}
	if err := k.replace(tmp, st.path("zip")); err != nil {
		return Failed, err
	}
	st.zip, st.zipBad, st.hashBad, st.recorded = z, false, false, z.h1
	return Fetched, nil
}

// writeHash writes the record of the zip's hash.
func (w *work) writeHash(h1 string) error {
	return w.write(w.st.path("ziphash"), strings.NewReader(h1))
}

// write replaces a file of the version.
func (w *work) write(name string, r io.Reader) error {
	tmp, _, err := w.tmp(r, true)
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	return w.k.replace(tmp, name)
}

// tmp writes a temporary file of the name that the go command gives those of zips,
// so that it removes what a crash leaves of ours. Where it is to be durable, not even
// a loss of power leaves less than there was.
func (w *work) tmp(r io.Reader, durable bool) (name string, size int64, err error) {
	var b [4]byte
	rand.Read(b[:])
	name = fmt.Sprintf("%s%d.tmp", w.st.path("zip"), uint32(b[0])|uint32(b[1])<<8|uint32(b[2])<<16|uint32(b[3])<<24)
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return "", 0, err
	}
	size, err = io.Copy(f, ctxReader{w.ctx, r})
	if err == nil && durable {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = w.k.user.give(name)
	}
	if err != nil {
		os.Remove(name)
		return "", 0, err
	}
	return name, size, nil
}

// fetch gets a file into a temporary one.
func (w *work) fetch(req goproxy.Request) (tmp string, _ *File, err error) {
	if w.k.c.Source == nil {
		return "", nil, errors.New("there is no source that it could come from")
	}
	f, err := w.k.c.Source.Fetch(w.ctx, req)
	if err != nil {
		return "", nil, err
	}
	tmp, size, err := w.tmp(f.Body, true)
	if err = errors.Join(err, f.Body.Close()); err != nil {
		if tmp != "" {
			os.Remove(tmp)
		}
		return "", nil, err
	}
	w.k.count(func(r *Report) {
		r.Fetched++
		r.FetchedBytes += size
		if f.Stored {
			r.Stored++
		}
	})
	return tmp, f, nil
}

// fetchSmall gets the .info or .mod anew.
func (w *work) fetchSmall(kind goproxy.Kind) error {
	st := w.st
	tmp, file, err := w.fetch(goproxy.Request{Kind: kind, Module: st.m})
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	data, err := readSmall(tmp, kind.Limit())
	if err != nil {
		return err
	}
	name := st.path(kind.String())
	if kind == goproxy.Info {
		// As the go command would have written it.
		if data, err = keptInfo(data, st.m); err == nil {
			if tmp, _, err = w.tmp(bytes.NewReader(data), true); err == nil {
				defer os.Remove(tmp)
			}
		}
	} else if err = goproxy.CheckMod(data); err == nil {
		old, _ := readSmall(name, kind.Limit())
		h1 := modHash(data)
		switch {
		case bytes.Equal(old, data):
			err = errSame
		case st.wantMod != "" && h1 != st.wantMod:
			err = fmt.Errorf("the sources have %s, and %s has %s", h1, st.wantModBy, st.wantMod)
		case st.wantMod == "" && !file.Vouched && st.zip != nil && !st.zipBad && st.zip.goMod != nil && modHash(data) != hash1(map[string]sum{"go.mod": st.zip.files["go.mod"]}, ""):
			err = errOther
		}
	}
	if err != nil {
		return err
	}
	return w.k.replace(tmp, name)
}

// replace puts a file in the place of another, or of what lies there.
func (k *Cache) replace(tmp, name string) error {
	if fi, err := os.Lstat(name); err == nil && fi.IsDir() {
		if err := removeAll(name); err != nil {
			return err
		}
	}
	err := os.Rename(tmp, name)
	if err != nil && runtime.GOOS == "windows" && os.Remove(name) == nil {
		err = os.Rename(tmp, name) // it does not replace what is read-only
	}
	return err
}

// removeAll removes a directory of the cache, whose directories may be read-only; of
// a link, the link.
func removeAll(name string) error {
	if fi, err := os.Lstat(name); err == nil && fi.IsDir() {
		filepath.WalkDir(name, func(name string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				// For nobody else: what cannot be removed stays.
				if fi, err := d.Info(); err == nil {
					os.Chmod(name, fi.Mode().Perm()|0o700)
				}
			}
			return nil
		})
	}
	return os.RemoveAll(name)
}

// extract makes the tree what the zip has. Of one that was whole once, what is right
// stays untouched; one that is not there, or was broken off, is marked as the go
// command marks it until all is there.
func (w *work) extract() error {
	st, k := w.st, w.k
	fi, err := os.Lstat(st.tree)
	mark := st.path("partial")
	writable := k.c.Writable
	switch {
	case err == nil && fi.IsDir():
		if _, err := os.Lstat(mark); err != nil {
			writable = fi.Mode().Perm()&0o200 != 0
		}
	default:
		if err := os.WriteFile(mark, nil, 0o666); err != nil {
			return err
		}
		if err == nil {
			err = os.Remove(st.tree)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := k.mkdirs(filepath.Dir(st.tree)); err != nil {
			return err
		}
	}
	x := &extraction{w: w, opened: map[string]fs.FileMode{}}
	err = x.all()
	// Above last, or what is below could not be reached.
	dirs := slices.SortedFunc(keys(x.opened), func(a, b string) int { return len(b) - len(a) })
	for _, dir := range dirs {
		perm := x.opened[dir]
		if !writable {
			perm &^= 0o222
		}
		err = errors.Join(err, os.Chmod(dir, perm))
	}
	if err == nil {
		err = removeAll(mark)
	}
	return err
}

// An extraction is what extract does file by file.
type extraction struct {
	w      *work
	opened map[string]fs.FileMode // directories that were made or made writable, and what they shall have in the end
}

func (x *extraction) all() error {
	st := x.w.st
	have, err := readTree(x.w.ctx, st.tree, st.k.user, func(int64) bool { return true })
	if x.w.ctx.Err() != nil {
		return context.Cause(x.w.ctx)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// What the zip does not have goes first, since it may lie where a directory belongs.
	for _, name := range slices.AppendSeq(slices.Clone(have.strange), keys(have.files)) {
		if _, ok := st.zip.files[name]; ok && !slices.Contains(have.strange, name) || st.made(name) {
			continue
		}
		if err := x.open(path.Dir(name)); err != nil {
			return err
		}
		if err := os.Remove(x.at(name)); err != nil {
			return err
		}
		// Directories that held nothing else.
		for dir := path.Dir(name); dir != "." && !st.zip.hasDir(dir); dir = path.Dir(dir) {
			if x.open(path.Dir(dir)) != nil || os.Remove(x.at(dir)) != nil {
				break
			}
			delete(x.opened, x.at(dir))
		}
	}
	z, err := zip.OpenReader(st.path("zip"))
	if err != nil {
		return err
	}
	defer z.Close()
	for _, zf := range z.File {
		name := strings.TrimPrefix(zf.Name, st.m.Path+"@"+st.m.Version+"/")
		want, ok := st.zip.files[name]
		if !ok || have.files[name] == want {
			continue
		}
		if err := x.file(zf, name); err != nil {
			return err
		}
	}
	if len(st.zip.files) == 0 {
		return x.open(".")
	}
	return nil
}

func (c *contents) hasDir(dir string) bool {
	for name := range c.files {
		if strings.HasPrefix(name, dir+"/") {
			return true
		}
	}
	return false
}

func (x *extraction) at(name string) string {
	return filepath.Join(x.w.st.tree, filepath.FromSlash(name))
}

// open makes a directory of the tree, or lets us write into it.
func (x *extraction) open(dir string) error {
	if dir != "." {
		if _, err := os.Lstat(x.at(dir)); errors.Is(err, fs.ErrNotExist) {
			if err := x.open(path.Dir(dir)); err != nil {
				return err
			}
		}
	}
	at := x.at(dir)
	if _, ok := x.opened[at]; ok {
		return nil
	}
	fi, err := os.Lstat(at)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.Mkdir(at, 0o777); err != nil {
			return err
		}
		if err := x.w.k.user.give(at); err != nil {
			return err
		}
		if fi, err = os.Lstat(at); err == nil {
			x.opened[at] = fi.Mode().Perm()
		}
		return err
	}
	if err != nil {
		return err
	}
	if x.opened[at] = fi.Mode().Perm(); fi.Mode().Perm()&0o300 == 0o300 {
		return nil
	}
	return os.Chmod(at, fi.Mode().Perm()|0o700)
}

func (x *extraction) file(zf *zip.File, name string) error {
	if err := x.open(path.Dir(name)); err != nil {
		return err
	}
	r, err := zf.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	tmp, _, err := x.w.tmp(io.LimitReader(r, int64(zf.UncompressedSize64)), false)
	if err != nil {
		return err
	}
	defer os.Remove(tmp)
	perm := fs.FileMode(0o444)
	if x.w.st.m.Path == toolchain {
		perm = 0o555 // the go command makes some of its programs executable, and not anew
	}
	if err := os.Chmod(tmp, perm); err != nil {
		return err
	}
	return x.w.k.replace(tmp, x.at(name))
}

// mendList writes the list of a directory @v anew, as the go command does.
func (k *Cache) mendList(d Damage) Damage {
	name := filepath.Join(k.root, filepath.FromSlash(d.File))
	fi, err := os.Lstat(name)
	switch {
	case err == nil && fi.Mode()&fs.ModeSymlink != 0:
		err = os.Remove(name)
	case err == nil && !fi.Mode().IsRegular():
		err = removeAll(name)
	case err == nil && !k.user.may(fi, 6):
		err = k.allow(name)
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	if err != nil {
		return d.done(Failed, err)
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return d.done(Failed, err)
	}
	defer f.Close()
	if ok, err := lockFile(f, true); err != nil {
		return d.done(Failed, err)
	} else if !ok {
		return d.done(Left, errWritten)
	}
	k.user.give(name)
	list, _ := listOf(filepath.Dir(name))
	if _, err = f.WriteAt([]byte(list), 0); err == nil {
		err = f.Truncate(int64(len(list)))
	}
	if d.Kind == Denied {
		return d.done(Allowed, err)
	}
	return d.done(Rewritten, err)
}
