package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modsluice/sluice/internal/goproxy"
)

const (
	// quotaSlack is how many bytes are freed beside what is needed, so that not
	// every commit has to evict; of a small quota, no more than a part of 64.
	quotaSlack = 1 << 20

	// fullPause is how long nothing is stored after eviction found nothing that
	// it may drop. What it may drop is not looked for at each request.
	fullPause = time.Minute

	// evictionTold is how often at most evictions are logged.
	evictionTold = time.Minute
)

// quota is what a process knows of the quota. The numbers that all processes
// share are in the slots.
type quota struct {
	keep     atomic.Pointer[func(modPath string) bool]
	inFlight atomic.Int64 // bytes that are being committed
	wanted   atomic.Bool  // a count
	count    sync.Mutex   // held while this process counts

	evicted, freed atomic.Int64 // versions and bytes so far

	mu     sync.Mutex // guards the following
	full   error      // nil: there was room when it was last looked for
	until  time.Time  // when to look again
	recent [2]int64   // versions and bytes that were evicted since told
	told   time.Time
}

// SetKeep replaces Options.Keep.
func (d *Disk) SetKeep(keep func(modPath string) bool) {
	if keep == nil {
		keep = func(string) bool { return false }
	}
	d.quota.keep.Store(&keep)
}

// fullNow is why there is no room, if that was found out a short while ago.
func (q *quota) fullNow() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.full != nil && time.Now().Before(q.until) {
		return q.full
	}
	return nil
}

// setFull remembers whether there is room, and reports whether that is news.
func (q *quota) setFull(err error) (news bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	news = (err == nil) != (q.full == nil)
	q.full, q.until = err, time.Now().Add(fullPause)
	return news
}

// makeRoom evicts until what is stored, what is being committed and cost more
// bytes are within the quota. Until release is called these count as being
// committed. No lock may be held.
func (d *Disk) makeRoom(cost int64) (release func(), err error) {
	if d.opts.Quota == 0 {
		return func() {}, nil
	}
	if cost > d.opts.Quota {
		return nil, fmt.Errorf("store: this file alone is larger than the quota of %s, so it is not kept; raise store.quota: %w (%w)", mebibytes(d.opts.Quota), ErrNoSpace, ErrTooLarge)
	}
	d.quota.inFlight.Add(cost)
	release = func() { d.quota.inFlight.Add(-cost) }
	if err := d.evict(cost); err != nil {
		release()
		return nil, d.fail("evict", err)
	}
	return release, nil
}

// excess is by how much the quota is exceeded, negative if it is not.
func (d *Disk) excess() int64 {
	n := d.quota.inFlight.Load() // first: what ends meanwhile counts twice, rather than not at all
	return n + d.Usage().Bytes - d.opts.Quota
}

// evict makes what is stored and being committed, cost of it by the caller, fit
// into the quota.
func (d *Disk) evict(cost int64) error {
	for first := true; ; first = false {
		if d.excess() <= 0 {
			if d.quota.setFull(nil) {
				d.opts.Log.Info("there is room in the store again")
			}
			return nil
		}
		if err := d.quota.fullNow(); err != nil {
			return err
		}
		if first {
			d.flushUses()
		}
		more, err := d.evictSome()
		if err != nil {
			return err
		}
		if !more {
			if d.excess() <= 0 {
				continue
			}
			return d.cannotEvict(cost)
		}
	}
}

// cannotEvict is the error of a quota that cannot be kept to but by storing nothing.
func (d *Disk) cannotEvict(cost int64) error {
	u := d.Usage()
	if u.Bytes+cost <= u.Quota {
		return fmt.Errorf("store: more is being stored at once than the quota of %s has room for; raise store.quota: %w (%w)", mebibytes(u.Quota), ErrNoSpace, ErrTooLarge)
	}
	why := "all of it is private or pinned, which is never evicted"
	mend := "raise store.quota, or move the store to a larger disk without one"
	if !u.Known {
		why, mend = "it is still being counted", "wait for that, or raise store.quota"
	}
	err := fmt.Errorf("store: %s are stored of a quota of %s and %s, so nothing new is kept; %s: %w", mebibytes(u.Bytes), mebibytes(u.Quota), why, mend, ErrNoSpace)
	if d.quota.setFull(err) {
		d.opts.Log.Warn("the quota of the store is used up and nothing may be evicted; modules are verified and served through",
			slog.Int64("bytes", u.Bytes), slog.Int64("quota", u.Quota), slog.Any("err", err))
	}
	d.wantCount()
	return err
}

// evictSome evicts the next ones in the order of their last use, as many as are
// needed and a few more, but no more than one meal has. More is false when there
// are none left.
func (d *Disk) evictSome() (more bool, err error) {
	unlock, err := d.lockNumber(lockEvict)
	if err != nil {
		return false, err
	}
	defer unlock()
	excess := d.excess()
	if excess <= 0 {
		return true, nil // another was here
	}
	need := excess + min(quotaSlack, d.opts.Quota/64)
	m, err := d.nextMeal()
	if err != nil || m.file == "" {
		return false, err
	}
	end := m.off
	var modules []string // in the order of the log
	victims := map[string][]use{}
	for line := range strings.SplitAfterSeq(m.text, "\n") {
		if need <= 0 {
			break
		}
		end += int64(len(line))
		u, mod, ok := parseUse(strings.TrimSuffix(line, "\n"))
		if !ok || slices.ContainsFunc(victims[mod.Path], func(v use) bool { return v.version == u.version }) {
			continue
		}
		if cost := d.evictable(u, mod.Path); cost > 0 {
			need -= cost
			if victims[mod.Path] == nil {
				modules = append(modules, mod.Path)
			}
			victims[mod.Path] = append(victims[mod.Path], u)
		}
	}
	for _, modPath := range modules {
		if err := d.evictVersions(modPath, victims[modPath]); err != nil {
			return false, err
		}
	}
	// After that: who dies before it leaves lines of versions that are gone.
	return true, d.ate(m.file, end)
}

// evictable is what evicting a version would free: 0 if it was used again since,
// is gone, or is to be kept.
func (d *Disk) evictable(u use, modPath string) int64 {
	if last := d.lastUse(u.version); last == 0 || last > u.at || (*d.quota.keep.Load())(modPath) {
		return 0
	}
	for _, suffix := range suffixes {
		data, err := readSmall(d.root, recordName(u.version+suffix), maxRecord)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		rec, perr := parseRecord(data)
		// What cannot be told is kept, to be looked at by Check.
		if err != nil || perr != nil || rec.H1 != "" && rec.Verified == "" {
			return 0
		}
	}
	return d.costs(u.version).sum()
}

// evictVersions removes those of a module that are still evictable: from the list
// first, then the zips, which rely on the rest.
func (d *Disk) evictVersions(modPath string, victims []use) (err error) {
	unlock, err := d.lock(modPath)
	if err != nil {
		return err
	}
	defer unlock()
	list, err := listName(modPath)
	if err != nil {
		return err
	}
	freed := map[string]int64{}
	victims = slices.DeleteFunc(victims, func(u use) bool {
		freed[u.version] = d.evictable(u, modPath)
		return freed[u.version] == 0
	})
	if len(victims) == 0 {
		return nil
	}
	var gone []string
	for _, u := range victims {
		if _, m, ok := parseUse(strings.TrimSuffix(u.format(), "\n")); ok {
			gone = append(gone, m.Version)
		}
	}
	note, err := d.noteList(modPath)
	if err == nil {
		err = d.unlistAll(modPath, list, gone)
	}
	late := err != nil && noSpace(err) // the list then follows the zips, which make the room for it
	if err != nil && !late {
		return err
	}
	err = nil
	defer func() {
		if err != nil || late {
			err = errors.Join(err, d.relist(modPath)) // by what is left
		}
		if err == nil {
			note.done()
		}
	}()
	var stuck []string // what cannot be removed has its turn again at the end of the log
	for i, suffix := range suffixes {
		for _, u := range victims {
			if slices.Contains(stuck, u.version) {
				continue
			}
			if rerr := d.evictFile(u.version+suffix, modPath); rerr != nil {
				stuck, err = append(stuck, u.version), errors.Join(err, rerr)
			}
		}
		if i == 0 {
			// Not even a crash of the machine may leave a zip without the rest.
			if serr := syncParent(d.root, list); serr != nil {
				return errors.Join(err, serr)
			}
		}
	}
	if len(stuck) > 0 {
		if a := d.shardAccount(shardOf(modPath)); a != nil {
			d.noteUses(logGen(a.f), stuck, suffixes[:]...)
			a.close()
		}
	}
	for _, u := range victims {
		if !slices.Contains(stuck, u.version) {
			d.tellEvicted(freed[u.version])
		}
	}
	if !late {
		d.tidy(list)
	}
	return err
}

// evictFile removes an artifact and its Record, if they are there, under the lock.
func (d *Disk) evictFile(name, modPath string) error {
	req, err := goproxy.ParsePath(name)
	if err != nil {
		return err
	}
	there := d.costs(versionName(name))
	if !there.has(path.Ext(name)) {
		return nil
	}
	a := d.account(req, name, there)
	if a != nil {
		a.unused = true
		a.s.evicted = time.Now().Unix()
		defer a.close()
	}
	defer d.hot.drop(name)
	for _, name := range [...]string{name, recordName(name)} {
		if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// unlistAll takes versions from a module's list.
func (d *Disk) unlistAll(modPath, name string, gone []string) error {
	data, err := d.root.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	list, err := goproxy.ParseList(data, modPath)
	if err != nil {
		return d.relist(modPath)
	}
	drop := make(map[string]bool, len(gone))
	for _, v := range gone {
		drop[v] = true
	}
	return d.writeList(name, slices.DeleteFunc(list, func(v string) bool { return drop[v] }))
}

// tidy removes the directories of a module of which nothing is left but its list.
func (d *Disk) tidy(list string) {
	dir := path.Dir(list)
	names, err := readNames(d.root, dir, 2)
	if err != nil || len(names) > 1 || len(names) == 1 && names[0] != path.Base(list) {
		return
	}
	if data, err := d.root.ReadFile(list); err == nil && len(data) > 0 {
		return
	}
	d.root.Remove(list)
	for _, dir := range [...]string{dir, path.Dir(recordName(list))} {
		// A directory that is not empty stays.
		for dir != "." && dir != sumsDir && d.root.Remove(dir) == nil {
			d.dirs.Remove(dir)
			dir = path.Dir(dir)
		}
	}
}

// zipPatience is longer than a zip is on its way.
const zipPatience = time.Hour

// mayStand reports why a zip is not to be stored: the .info and .mod that it
// relies on may have been evicted since its caller saw to them.
func (d *Disk) mayStand(req goproxy.Request, a *account) error {
	if a == nil || req.Kind != goproxy.Zip || a.there.has(".info", ".mod") {
		return nil
	}
	if time.Since(time.Unix(a.s.evicted, 0)) < zipPatience {
		return errors.New("its .info and .mod are not there, perhaps evicted while it was on its way, and no zip is kept without them; it will be kept when it is asked for again")
	}
	return nil
}

// tellEvicted counts a version that was evicted, and logs now and then how many.
func (d *Disk) tellEvicted(cost int64) {
	q := &d.quota
	q.evicted.Add(1)
	q.freed.Add(cost)
	q.mu.Lock()
	q.recent[0]++
	q.recent[1] += cost
	recent := q.recent
	tell := q.told.IsZero() || time.Since(q.told) >= evictionTold
	if tell {
		q.recent, q.told = [2]int64{}, time.Now()
	}
	q.mu.Unlock()
	if tell {
		u := d.Usage()
		d.opts.Log.Info("versions that were used longest ago are evicted", slog.Int64("versions", recent[0]), slog.Int64("freed", recent[1]),
			slog.Int64("bytes", u.Bytes), slog.Int64("quota", u.Quota))
	}
}
