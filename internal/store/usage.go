package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/modsluice/sluice/internal/goproxy"
)

// How much is stored is known without a look at what is stored: a file has a slot
// for each shard, which changes only under the shard's lock, together with the
// artifacts. While a version changes, its slot holds the sum of all others and
// the name of that one; so whoever takes the lock after a process that died
// midway looks at that one version, and the sum is right again.
const (
	usageDir   = ourDir + "/usage"
	totalsFile = usageDir + "/totals"

	slotSize   = 1024
	slotHead   = 104
	maxPending = slotSize - slotHead
	slotMagic  = 0x31555153 // "SQU1"
)

// A Usage is how much of its quota a store uses. An artifact counts as what it
// takes of a disk: blocks of 4 KiB, and one more for its Record. Answers, the
// files of checksum databases and quarantine do not count.
type Usage struct {
	Quota    int64     // bytes; 0 is none
	Known    bool      // false: not counted, or not to the end; Bytes and Versions then are what was counted so far
	Bytes    int64     // of all artifacts
	Versions int64     // of which anything is stored
	Counting bool      // a count has begun and not ended
	Counted  time.Time // when the last count ended; zero: never, since all was kept account of from the first
	Evicted  int64     // versions that this process has evicted
	Freed    int64     // bytes that it has evicted
	Full     error     // why nothing new is stored for want of quota; nil if it is
}

// A slot is what is known of a shard. The zero slot knows nothing.
type slot struct {
	known           bool
	gen             uint64 // of the log of uses
	counting        uint64 // the generation that a count is making; 0: none is
	bytes, versions int64  // without pending
	newBytes        int64  // what the count has found so far, without pending
	newVersions     int64
	marks           int64  // modules that it has counted
	counted         int64  // unix seconds of the end of the last count
	evicted         int64  // unix seconds of the last eviction
	held            int64  // what pending counted for before
	pending         string // the version that is changing, as versionName has it; empty: none
}

func (s slot) format() []byte {
	b := make([]byte, slotSize)
	le := binary.LittleEndian
	le.PutUint32(b, slotMagic)
	if s.known {
		le.PutUint32(b[8:], 1)
	}
	le.PutUint32(b[12:], uint32(len(s.pending)))
	for i, v := range [...]uint64{s.gen, s.counting, uint64(s.bytes), uint64(s.versions), uint64(s.newBytes), uint64(s.newVersions), uint64(s.marks), uint64(s.counted), uint64(s.evicted), uint64(s.held)} {
		le.PutUint64(b[16+8*i:], v)
	}
	copy(b[slotHead:], s.pending)
	le.PutUint32(b[4:], crc32.ChecksumIEEE(b[8:]))
	return b
}

// parseSlot reads a slot; one that is torn, or was never written, is not ok.
func parseSlot(b []byte) (s slot, ok bool) {
	le := binary.LittleEndian
	if len(b) != slotSize || le.Uint32(b) != slotMagic || le.Uint32(b[4:]) != crc32.ChecksumIEEE(b[8:]) {
		return slot{}, false
	}
	n := le.Uint32(b[12:])
	if n > maxPending || le.Uint32(b[8:]) > 1 {
		return slot{}, false
	}
	s.known = le.Uint32(b[8:]) == 1
	for i, p := range [...]*uint64{&s.gen, &s.counting} {
		*p = le.Uint64(b[16+8*i:])
	}
	for i, p := range [...]*int64{&s.bytes, &s.versions, &s.newBytes, &s.newVersions, &s.marks, &s.counted, &s.evicted, &s.held} {
		*p = int64(le.Uint64(b[32+8*i:]))
	}
	s.pending = string(b[slotHead : slotHead+n])
	return s, true
}

// add counts a version that takes bytes, or with times -1 counts it no more.
func (s *slot) add(bytes, times int64) {
	if bytes == 0 {
		return
	}
	s.bytes, s.versions = s.bytes+times*bytes, s.versions+times
	if s.counting != 0 {
		s.newBytes, s.newVersions = s.newBytes+times*bytes, s.newVersions+times
	}
}

// logGen is the generation to which uses are appended: the newest, also where a
// count has come to some shards only. Or lines would not be in the order of time.
func logGen(f *os.File) (gen uint64) {
	_, all := readSlots(f)
	for _, s := range all {
		gen = max(gen, s.gen, s.counting)
	}
	return gen
}

const block = 4 << 10

// costOf is what an artifact of so many bytes counts for.
func costOf(size int64) int64 { return (size+block-1)/block*block + block }

// versionName is the common name of the files of a version: req.Path() without
// its suffix.
func versionName(name string) string { return strings.TrimSuffix(name, path.Ext(name)) }

var suffixes = [...]string{".zip", ".mod", ".info"} // in the order in which they are evicted

// costs are what the artifacts of a version count for, in the order of suffixes;
// 0 is one that is not there, or of which that cannot be told.
type costs [len(suffixes)]int64

func (c costs) sum() (n int64) {
	for _, cost := range c {
		n += cost
	}
	return n
}

// of is that of the artifact with a suffix.
func (c *costs) of(suffix string) *int64 { return &c[slices.Index(suffixes[:], suffix)] }

// has reports whether the version has an artifact of each of these suffixes.
func (c costs) has(some ...string) bool {
	for _, suffix := range some {
		if *c.of(suffix) == 0 {
			return false
		}
	}
	return true
}

// costs are those of a version, by what is there this moment.
func (d *Disk) costs(version string) (c costs) {
	for i, suffix := range suffixes {
		c[i] = d.cost(version + suffix)
	}
	return c
}

// cost is what the artifact at name counts for, by what is there this moment: 0 if
// it is not, or that cannot be told.
func (d *Disk) cost(name string) int64 {
	if _, ok := d.root.size(recordName(name)); !ok {
		return 0
	}
	size, ok := d.root.size(name)
	if !ok {
		return 0
	}
	return costOf(size)
}

// startUsage keeps account of what is stored from now on. What is there already
// (fresh is false) is unknown until it is counted.
func (d *Disk) startUsage(fresh bool) error {
	if err := d.root.MkdirAll(usesDir, 0o777); err != nil {
		return err
	}
	if _, err := d.root.Lstat(totalsFile); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	one := slot{known: fresh, gen: 1}.format()
	// Not by a temporary file of ours: to make that anew may need the lock that is
	// held here.
	f, err := d.root.OpenFile(totalsFile+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Write(bytes.Repeat(one, lockShards))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return d.root.Rename(totalsFile+".new", totalsFile)
}

// totals opens the slots. The error matches fs.ErrNotExist where no account is kept.
func (d *Disk) totals(flag int) (*os.File, error) { return d.root.OpenFile(totalsFile, flag, 0) }

// readSlot reads slot n; one that cannot be read knows nothing but the
// generation, which all have in common.
func readSlot(f *os.File, n int) slot {
	b := make([]byte, slotSize)
	if _, err := f.ReadAt(b, int64(n)*slotSize); err == nil {
		if s, ok := parseSlot(b); ok {
			return s
		}
	}
	return slot{gen: logGen(f)}
}

// slotBuffers are for readSlots: every commit reads all slots.
var slotBuffers = sync.Pool{New: func() any { return new([lockShards * slotSize]byte) }}

// readSlots reads all slots without their locks, and reports whether each is whole.
func readSlots(f *os.File) (ok bool, all []slot) {
	buf := slotBuffers.Get().(*[lockShards * slotSize]byte)
	defer slotBuffers.Put(buf)
	b := buf[:]
	all = make([]slot, lockShards)
	for range 3 { // a slot may be read while it is written
		ok = true
		n, _ := f.ReadAt(b, 0)
		for i := range all {
			whole := false
			if (i+1)*slotSize <= n {
				all[i], whole = parseSlot(b[i*slotSize : (i+1)*slotSize])
			}
			ok = ok && whole
		}
		if ok {
			break
		}
	}
	return ok, all
}

// Usage is how much is stored, as far as is known. It does not look at what is
// stored.
func (d *Disk) Usage() Usage {
	u := Usage{Quota: d.opts.Quota, Evicted: d.quota.evicted.Load(), Freed: d.quota.freed.Load(), Full: d.quota.fullNow()}
	f, err := d.totals(os.O_RDONLY)
	if err != nil {
		return u
	}
	defer f.Close()
	known, all := readSlots(f)
	u.Known = known
	for _, s := range all {
		u.Counting = u.Counting || s.counting != 0
		if s.known {
			u.Bytes, u.Versions = u.Bytes+s.bytes+s.held, u.Versions+s.versions
		} else {
			u.Known = false
			u.Bytes, u.Versions = u.Bytes+s.newBytes+s.held, u.Versions+s.newVersions
		}
		if s.held > 0 {
			u.Versions++
		}
		if s.counted != 0 && (u.Counted.IsZero() || u.Counted.Unix() > s.counted) {
			u.Counted = time.Unix(s.counted, 0).UTC()
		}
	}
	return u
}

// An account is open while a version changes, under its module's lock. The nil
// account is that of a store of which none is kept.
type account struct {
	d       *Disk
	f       *os.File
	n       int
	s       slot
	version string
	there   costs  // of it, when the account was opened
	suffix  string // of the one file of it that changes; empty: it may be any
	unused  bool   // it changes because nobody uses it
}

// account opens that of the version to which the artifact at name belongs, which
// counts for there. What goes wrong with it is no reason not to store anything: a
// count will mend it.
func (d *Disk) account(req goproxy.Request, name string, there costs) *account {
	a := d.shardAccount(shardOf(req.Module.Path))
	if a == nil {
		return nil
	}
	a.version, a.there, a.suffix = versionName(name), there, path.Ext(name)
	a.begin(req.Module.Path)
	return a
}

// shardAccount opens that of a shard, whose lock is held, and settles what a
// dead process has left open.
func (d *Disk) shardAccount(n int) *account {
	f, err := d.totals(os.O_RDWR)
	if err != nil {
		return nil
	}
	a := &account{d: d, f: f, n: n, s: readSlot(f, n)}
	if a.s.pending != "" {
		a.version = a.s.pending
		a.settle()
		a.version = ""
	}
	return a
}

func (a *account) begin(modPath string) {
	if a.s.counting != 0 && !a.counted(modPath) {
		a.count(modPath) // or a count could miss it: it may have read the directory above already
	}
	cost := a.there.sum()
	a.s.add(cost, -1)
	if len(a.version) <= maxPending {
		a.s.pending, a.s.held = a.version, cost
	} // Of a longer name, only a crash this moment would be unaccounted for.
	a.write()
}

// settle counts the version as it now is, and notes that it was used.
func (a *account) settle() {
	now, touch := a.there, []string{a.suffix}
	if a.suffix == "" {
		now, touch = a.d.costs(a.version), suffixes[:]
	} else {
		*now.of(a.suffix) = a.d.cost(a.version + a.suffix)
	}
	cost := now.sum()
	a.s.add(cost, 1)
	if cost > 0 && !a.unused {
		a.d.noteUses(logGen(a.f), []string{a.version}, touch...)
	}
	a.s.pending, a.s.held = "", 0
}

func (a *account) write() { a.f.WriteAt(a.s.format(), int64(a.n)*slotSize) }

// close ends the account: what is there now is what counts.
func (a *account) close() {
	if a == nil {
		return
	}
	if a.version != "" {
		a.settle()
	}
	a.write()
	a.f.Close()
}

// settleLeft settles what dead processes have left open.
func (d *Disk) settleLeft() {
	f, err := d.totals(os.O_RDONLY)
	if err != nil {
		return
	}
	defer f.Close()
	_, all := readSlots(f)
	for n, s := range all {
		if s.pending == "" {
			continue
		}
		if unlock, err := d.lockNumber(n); err == nil {
			d.shardAccount(n).close()
			unlock()
		}
	}
}

// mebibytes words a number of bytes for people.
func mebibytes(n int64) string {
	switch {
	case n >= 10<<30:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 10<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
