package store

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/seen"
)

// What was used when is a log: a line for each use, in files by the hour of the
// use. The time of a version's last use is also that of its Records, so that a
// line is out of date if they are younger: then there is another line further
// on. Eviction eats the log from its old end, and no line is ever looked for.
//
// A count writes all lines anew, as files of the next generation; the old ones
// go when it is done.
const (
	usesDir   = usageDir + "/log"
	eatenFile = usageDir + "/eaten" // how far eviction has come: a file's name, and an offset

	// useGrain is how much later a use has to be than the last one to be noted.
	useGrain = time.Hour

	// useFlush is how often uses are written down. A crash forgets those since,
	// and those of one time are in no order.
	useFlush = 5 * time.Second

	// maxUses bounds those that wait to be written; further ones are noted when
	// they come again.
	maxUses = 4096

	// useChunk is how much of the log is read at once, in bytes.
	useChunk = 64 << 10
)

// A use is a line of the log.
type use struct {
	at      int64  // unix microseconds
	version string // as versionName has it
}

func (u use) format() string { return strconv.FormatInt(u.at, 10) + " " + u.version + "\n" }

// parseUse reads a line without its end. Of a line that no use has, ok is false.
func parseUse(line string) (u use, m module.Version, ok bool) {
	at, version, _ := strings.Cut(line, " ")
	n, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return use{}, m, false
	}
	req, err := goproxy.ParsePath(version + ".zip")
	if err != nil || req.Kind != goproxy.Zip || !goproxy.IsCanonical(req.Module) {
		return use{}, m, false
	}
	return use{n, version}, req.Module, true
}

// useFile is the file of the log for uses of that time.
func useFile(at int64, gen uint64) string {
	return fmt.Sprintf("%012d-%010d", max(at, 0)/time.Hour.Microseconds(), gen)
}

// useFileGen is the generation of a file of the log.
func useFileGen(name string) (gen uint64, ok bool) {
	hour, rest, ok := strings.Cut(name, "-")
	gen, err := strconv.ParseUint(rest, 10, 64)
	return gen, ok && err == nil && len(hour) == 12
}

// noteUses notes that versions are used now, under the lock of their shard, in
// the log and at their Records; touch is which of these, by the suffix of the file.
func (d *Disk) noteUses(gen uint64, versions []string, touch ...string) {
	now := time.Now().Truncate(time.Microsecond)
	uses := make([]use, 0, len(versions))
	for _, v := range versions {
		uses = append(uses, use{now.UnixMicro(), v})
	}
	// The line first: one too many does no harm, and one too few keeps a version
	// until the next count.
	if d.appendUses(gen, uses) != nil {
		return
	}
	for _, v := range versions {
		for _, suffix := range touch {
			d.root.Chtimes(recordName(v+suffix), now, now)
		}
	}
}

func (d *Disk) appendUses(gen uint64, uses []use) error {
	texts := map[string]*strings.Builder{}
	for _, u := range uses {
		name := useFile(u.at, gen)
		if texts[name] == nil {
			texts[name] = new(strings.Builder)
		}
		texts[name].WriteString(u.format())
	}
	// So that no file of the log is removed between its opening and its end.
	unlock, err := d.lockNumber(lockUses)
	if err != nil {
		return err
	}
	defer unlock()
	for name, text := range texts {
		err = errors.Join(err, d.appendFile(usesDir+"/"+name, text.String()))
	}
	return err
}

func (d *Disk) appendFile(name, text string) error {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_APPEND
	f, err := d.root.OpenFile(name, flags, 0o666)
	if errors.Is(err, fs.ErrNotExist) { // somebody tidied up behind our back
		if err = d.root.MkdirAll(path.Dir(name), 0o777); err == nil {
			f, err = d.root.OpenFile(name, flags, 0o666)
		}
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// useFiles lists the files of the log, oldest first.
func (d *Disk) useFiles() ([]string, error) {
	names, err := readNames(d.root, usesDir, -1)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		_, ok := useFileGen(name)
		return !ok
	})
	slices.Sort(names)
	return names, nil
}

// uses are those that wait to be written down.
type uses struct {
	noted *seen.Set[useKey]

	mu      sync.Mutex // guards the following
	waiting map[module.Version]struct{}
}

// A useKey stands for the uses of a version in one grain of time.
type useKey struct {
	m     module.Version
	grain int64
}

func newUses() *uses { return &uses{noted: seen.New[useKey](1<<16, 2*useGrain)} }

// renew notes that m is about to be completed, however often it was used of late.
func (u *uses) renew(m module.Version) {
	if u == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.waiting == nil {
		u.waiting = map[module.Version]struct{}{}
	}
	u.waiting[m] = struct{}{}
}

// renewed takes that back: its commit has noted the use.
func (u *uses) renewed(m module.Version) {
	if u == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.waiting, m)
}

// used notes that m was asked for. It is called for each request, and does nothing
// for most of them; a nil *uses never does.
func (u *uses) used(m module.Version) {
	if u == nil {
		return
	}
	key := useKey{m, time.Now().UnixNano() / int64(useGrain)}
	if u.noted.Has(key) {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.waiting) >= maxUses {
		return
	}
	if u.waiting == nil {
		u.waiting = map[module.Version]struct{}{}
	}
	u.waiting[m] = struct{}{}
	u.noted.Add(key)
}

// flushUses writes down what was used since the last time.
func (d *Disk) flushUses() {
	if d.uses == nil {
		return
	}
	d.uses.mu.Lock()
	waiting := d.uses.waiting
	d.uses.waiting = nil
	d.uses.mu.Unlock()
	if len(waiting) == 0 {
		return
	}
	byShard := map[int][]string{}
	for m := range waiting {
		if name := (goproxy.Request{Kind: goproxy.Zip, Module: m}).Path(); name != "" {
			n := shardOf(m.Path)
			byShard[n] = append(byShard[n], versionName(name))
		}
	}
	for n, versions := range byShard {
		unlock, err := d.lockNumber(n)
		if err != nil {
			continue
		}
		if a := d.shardAccount(n); a != nil {
			versions = slices.DeleteFunc(versions, func(v string) bool { return d.lastUse(v) == 0 })
			d.noteUses(logGen(a.f), versions, suffixes[:]...)
			a.close()
		}
		unlock()
	}
}

// lastUse is when a version was last used, in unix microseconds; 0 if it is not
// there. Some file systems have coarser times; then it is a little too early, and
// a line that is out of date passes for the last one.
func (d *Disk) lastUse(version string) (at int64) {
	for _, suffix := range suffixes {
		if fi, err := d.root.Lstat(recordName(version + suffix)); err == nil {
			if _, ok := d.root.size(version + suffix); ok {
				at = max(at, fi.ModTime().UnixMicro(), 1)
			}
		}
	}
	return at
}

// A meal is a part of the log, to be eaten.
type meal struct {
	file string
	off  int64 // where it begins
	text string
}

// nextMeal reads on in the log, under lockEvict; a meal without a file is the end.
func (d *Disk) nextMeal() (meal, error) {
	unlock, err := d.lockNumber(lockUses) // so that nobody is in the middle of a line
	if err != nil {
		return meal{}, err
	}
	defer unlock()
	names, err := d.useFiles()
	if err != nil {
		return meal{}, err
	}
	eaten, off := d.eaten()
	for _, name := range names {
		m := meal{file: name}
		if name == eaten {
			m.off = off
		}
		f, err := d.root.Open(usesDir + "/" + name)
		if err != nil {
			return meal{}, err
		}
		buf := make([]byte, useChunk)
		n, err := f.ReadAt(buf, m.off)
		f.Close()
		if n > 0 {
			m.text = string(buf[:n])
			if n == len(buf) {
				m.text = m.text[:cmp.Or(strings.LastIndexByte(m.text, '\n')+1, n)]
			}
			return m, nil
		}
		if err != io.EOF {
			return meal{}, err
		}
		// Eaten up. A file of the same name may come again, and is then to be
		// eaten from its start.
		if err := d.ate(name, 0); err != nil {
			return meal{}, err
		}
		if err := d.root.Remove(usesDir + "/" + name); err != nil {
			return meal{}, err
		}
	}
	return meal{}, nil
}

// eaten is how far the log has been eaten.
func (d *Disk) eaten() (file string, off int64) {
	data, _ := readSmall(d.root, eatenFile, useChunk)
	file, num, _ := strings.Cut(strings.TrimSpace(string(data)), " ")
	off, err := strconv.ParseInt(num, 10, 64)
	if _, ok := useFileGen(file); !ok || err != nil || off < 0 {
		return "", 0
	}
	return file, off
}

// ate notes that the log has been eaten up to there, after what was in it has
// been dealt with.
func (d *Disk) ate(file string, off int64) error {
	return d.write(eatenFile, fmt.Appendf(nil, "%s %d\n", file, off), false)
}
