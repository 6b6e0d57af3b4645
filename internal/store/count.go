package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"
)

// A count looks at everything that is stored, one module at a time under its
// lock, while all else goes on. Which modules it has counted lies in a file for
// each shard: whoever changes one that it has not, counts it for it. So it takes
// no matter in which order it comes by, nor whether it is broken off; the next
// one goes on where it ended.
const (
	countedFile = usageDir + "/counted-" // and the number of the shard: 8 bytes for each module
	countLock   = usageDir + "/counting"

	// recountAfter is how old a count may be: it mends what a crash of the
	// machine or somebody with a broom made untrue.
	recountAfter = 7 * 24 * time.Hour

	// logPerVersion is how long the log of uses may be, in bytes for each version
	// stored, before a count writes it anew.
	logPerVersion = 1 << 10
	leastLog      = 4 << 20

	// countWork is how long a count works before it rests, countRest times as long.
	countWork = 10 * time.Millisecond
	countRest = 3

	checkLog = time.Hour // how often the log's length is looked at
)

// ErrCounting: another process counts already.
var ErrCounting = errors.New("another process is counting the store")

// Run does what a quota needs beside the requests, until ctx ends: it writes down
// what was used, counts a store of which it is not known what it holds, and
// evicts where the quota is exceeded. Without a quota it only waits.
func (d *Disk) Run(ctx context.Context) {
	if d.opts.Quota == 0 {
		<-ctx.Done()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.countWhenDue(ctx)
	}()
	defer func() { <-done }()
	tick := time.NewTicker(useFlush)
	defer tick.Stop()
	for {
		if d.proc.Load() != nil {
			d.settleLeft()
			d.flushUses()
			// Only for what is stored: who commits makes room for it, and what is
			// committed just now would count twice for a moment.
			if u := d.Usage(); u.Bytes > u.Quota && u.Full == nil {
				d.evict(0) // what goes wrong, the next commit says
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// wantCount asks Run for a count, unless the last one is young.
func (d *Disk) wantCount() {
	if time.Since(d.Usage().Counted) > time.Hour {
		d.quota.wanted.Store(true)
	}
}

func (d *Disk) countWhenDue(ctx context.Context) {
	tick := time.NewTicker(useFlush)
	defer tick.Stop()
	var looked time.Time
	for {
		if _, err := d.ready(); err == nil {
			u := d.Usage()
			due := !u.Known || u.Counting || d.quota.wanted.Load()
			if time.Since(looked) >= checkLog {
				looked = time.Now()
				due = due || d.logLength() > max(leastLog, logPerVersion*u.Versions) || !u.Counted.IsZero() && time.Since(u.Counted) > recountAfter
			}
			if due {
				d.quota.wanted.Store(false)
				if err := d.Count(ctx, countRest); err != nil && ctx.Err() == nil && !errors.Is(err, ErrCounting) {
					d.opts.Log.Warn("the store could not be counted, so its quota may not be kept to", slog.Any("err", err))
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// logLength is how long the log of uses is, in bytes.
func (d *Disk) logLength() (n int64) {
	names, _ := d.useFiles()
	for _, name := range names {
		if fi, err := d.root.Lstat(usesDir + "/" + name); err == nil {
			n += fi.Size()
		}
	}
	return n
}

// Count counts what is stored, and keeps account of it from then on. It rests
// rest times as long as it works. The error matches ErrCounting while another
// process counts, and that of ctx if it was broken off.
func (d *Disk) Count(ctx context.Context, rest int) error {
	if _, err := d.ready(); err != nil {
		return err
	}
	d.quota.count.Lock()
	defer d.quota.count.Unlock()
	unlock, err := d.lockNumber(lockSweep) // as where a store is set up
	if err == nil {
		err = d.startUsage(false)
		unlock()
	}
	if err != nil {
		return d.fail("count", err)
	}
	lock, err := d.root.OpenFile(countLock, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return d.fail("count", err)
	}
	defer lock.Close()
	if ok, err := tryLock(lock); !ok {
		return d.fail("count", cmp.Or(err, ErrCounting))
	}
	before := d.Usage()
	gen, err := d.beginCount()
	if err != nil {
		return d.fail("count", err)
	}
	start := time.Now()
	err = d.countTree(ctx, sumsDir, &pace{rest: time.Duration(rest), since: start})
	if err == nil {
		err = d.endCount(gen)
	}
	if err != nil {
		return d.fail("count", err)
	}
	after := d.Usage()
	attrs := []any{slog.Int64("bytes", after.Bytes), slog.Int64("versions", after.Versions), slog.Duration("took", time.Since(start).Round(time.Millisecond))}
	if before.Known {
		attrs = append(attrs, slog.Int64("drift", after.Bytes-before.Bytes))
	}
	d.opts.Log.Info("the store has been counted", attrs...)
	return nil
}

// A pace makes work rest.
type pace struct {
	rest  time.Duration // times as long as it works
	since time.Time
}

func (p *pace) step(ctx context.Context) error {
	if worked := time.Since(p.since); worked >= countWork && p.rest > 0 {
		select {
		case <-ctx.Done():
		case <-time.After(worked * p.rest):
		}
		p.since = time.Now()
	}
	return context.Cause(ctx)
}

// beginCount has all shards counted, or goes on with what was broken off.
func (d *Disk) beginCount() (gen uint64, err error) {
	f, err := d.totals(os.O_RDONLY)
	if err != nil {
		return 0, err
	}
	_, all := readSlots(f)
	f.Close()
	var counting, last uint64
	for _, s := range all {
		counting, last = max(counting, s.counting), max(last, s.gen)
	}
	gen = counting
	if gen == 0 {
		gen = last + 1
	}
	return gen, d.eachShard(func(a *account) error {
		if a.s.counting == gen {
			return nil
		}
		a.s.counting, a.s.newBytes, a.s.newVersions, a.s.marks = gen, 0, 0, 0
		return nil
	})
}

// endCount makes what was counted what is known.
func (d *Disk) endCount(gen uint64) error {
	now := time.Now().Unix()
	err := d.eachShard(func(a *account) error {
		if a.s.counting != gen {
			return fmt.Errorf("shard %d of %s was changed by somebody else", a.n, totalsFile)
		}
		a.s = slot{known: true, gen: gen, bytes: a.s.newBytes, versions: a.s.newVersions, counted: now, evicted: a.s.evicted}
		return nil
	})
	if err != nil {
		return err
	}
	for n := range lockShards {
		d.root.Remove(fmt.Sprintf("%s%02d", countedFile, n))
	}
	unlock, err := d.lockNumber(lockUses)
	if err != nil {
		return err
	}
	defer unlock()
	names, err := d.useFiles()
	for _, name := range names {
		if g, _ := useFileGen(name); g < gen {
			err = errors.Join(err, d.root.Remove(usesDir+"/"+name))
		}
	}
	return err
}

func (d *Disk) eachShard(f func(a *account) error) error {
	for n := range lockShards {
		unlock, err := d.lockNumber(n)
		if err != nil {
			return err
		}
		a := d.shardAccount(n)
		if a == nil {
			err = fmt.Errorf("%s is gone", totalsFile)
		} else if err = f(a); err == nil {
			a.close()
		} else {
			a.f.Close()
		}
		unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// countTree counts the modules of which there are Records below dir.
func (d *Disk) countTree(ctx context.Context, dir string, p *pace) error {
	entries, err := readDir(d.root, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // tidied away meanwhile
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := dir + "/" + e.Name()
		if !e.IsDir() || name == sumsDir+"/"+sumdbDir {
			continue
		}
		if e.Name() != "@v" {
			if err := d.countTree(ctx, name, p); err != nil {
				return err
			}
			continue
		}
		modPath, err := module.UnescapePath(strings.TrimPrefix(dir, sumsDir+"/"))
		if err != nil {
			continue // nothing of ours
		}
		if err := d.countModule(modPath); err != nil {
			return err
		}
		if err := p.step(ctx); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

func (d *Disk) countModule(modPath string) error {
	unlock, err := d.lock(modPath)
	if err != nil {
		return err
	}
	defer unlock()
	a := d.shardAccount(shardOf(modPath))
	if a == nil {
		return fmt.Errorf("%s is gone", totalsFile)
	}
	defer a.close()
	if a.s.counting == 0 || a.counted(modPath) {
		return nil
	}
	return a.count(modPath)
}

// markOf stands for a module among those counted.
func markOf(modPath string) []byte {
	sum := sha256.Sum256([]byte(modPath))
	return sum[:8]
}

// counted reports whether the count has been at this module.
func (a *account) counted(modPath string) bool {
	f, err := a.d.root.Open(fmt.Sprintf("%s%02d", countedFile, a.n))
	if err != nil {
		return false
	}
	defer f.Close()
	marks := make([]byte, 8*a.s.marks)
	n, _ := f.ReadAt(marks, 0)
	mark := markOf(modPath)
	for m := range slices.Chunk(marks[:n], 8) {
		if slices.Equal(m, mark) {
			return true
		}
	}
	return false
}

// count counts a module, in place of the count or for it.
func (a *account) count(modPath string) error {
	list, err := listName(modPath)
	if err != nil {
		return err
	}
	dir := path.Dir(list)
	entries, err := readDir(a.d.root, path.Dir(recordName(list)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// By roots of their own: the way to each file is as short as can be.
	files, err := a.d.root.OpenRoot(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	found := map[string]int64{}
	last := map[string]int64{}
	if files != nil {
		defer files.Close()
		for _, e := range entries {
			name, ok := strings.CutSuffix(e.Name(), ".json")
			version := versionName(name)
			if _, _, parsed := parseUse("0 " + dir + "/" + version); !ok || !slices.Contains(suffixes[:], path.Ext(name)) || !parsed {
				continue // nothing of ours
			}
			fi, err := files.Lstat(name)
			if err != nil {
				continue // a pin
			}
			found[version] += costOf(fi.Size())
			if rfi, err := e.Info(); err == nil {
				last[version] = max(last[version], rfi.ModTime().UnixMicro())
			}
		}
	}
	var uses []use
	var bytes int64
	for version, cost := range found {
		bytes += cost
		uses = append(uses, use{last[version], dir + "/" + version})
	}
	slices.SortFunc(uses, func(a, b use) int {
		return cmp.Or(cmp.Compare(a.at, b.at), strings.Compare(a.version, b.version))
	})
	if len(uses) > 0 {
		if err := a.d.appendUses(a.s.counting, uses); err != nil {
			return err
		}
	}
	f, err := a.d.root.OpenFile(fmt.Sprintf("%s%02d", countedFile, a.n), os.O_WRONLY|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(markOf(modPath), 8*a.s.marks)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	// What was marked counts once the slot says so, together with the numbers.
	a.s.newBytes, a.s.newVersions, a.s.marks = a.s.newBytes+bytes, a.s.newVersions+int64(len(found)), a.s.marks+1
	return nil
}
