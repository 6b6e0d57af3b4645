package modcache

import (
	"archive/zip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/inflate"
)

var (
	// ErrTaken says that a version is left to the go command: somebody is at work on
	// it, or there is something of its zip already.
	ErrTaken = errors.New("a go command is at work on it, or was")
	// ErrFull says that the disk is nearly full.
	ErrFull = errors.New("there is not enough room on the disk of the module cache")
)

const (
	// layReserve is how many bytes of the disk are left free; on a small one it is a
	// twentieth.
	layReserve = 256 << 20
	// block is what a file takes at least, in bytes.
	block = 4 << 10
)

// A Layer lays module versions into a module cache, so that they are as the go command
// leaves them that downloads them: a go command that finds them neither downloads,
// hashes nor unpacks them. What it is given has been verified. It is safe for
// concurrent use, also by several processes and beside go commands.
//
// The order of all writes is that of cmd/go/internal/modfetch, under the same lock:
// whatever breaks it off, the go command repairs what is there.
type Layer struct {
	dir      string
	writable bool
	slots    chan *unpacker // as many as work at once; nil ones are made when needed
}

// NewLayer begins with the module cache dir, an absolute path, which it makes if it is
// not there, as the go command does. writable is whether directories of extracted
// modules may be written to (-modcacherw); as many versions as there are processors
// are unpacked at once.
func NewLayer(dir string, writable bool) (*Layer, error) {
	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("the module cache %q is no absolute path, so the go command does not use it either", dir)
	}
	if err := os.MkdirAll(filepath.Join(dir, "cache", "download"), 0o777); err != nil {
		return nil, err
	}
	l := &Layer{dir: dir, writable: writable, slots: make(chan *unpacker, min(runtime.GOMAXPROCS(0), 16))}
	for range cap(l.slots) {
		l.slots <- nil
	}
	return l, nil
}

// A Claim is a version that nobody else lays or downloads until Release.
type Claim struct {
	l    *Layer
	m    module.Version
	at   string // the files in @v, without their suffixes
	tree string // where the zip is unpacked
	lock *os.File
}

// Claim takes the lock of a version, under which the go command downloads it: one that
// wants the version waits for Release. The caller must Release it. The error matches
// ErrTaken if the version is not to be had; after any other, none is.
func (l *Layer) Claim(m module.Version) (*Claim, error) {
	// The trees of these two are no copies of their zips.
	if !goproxy.IsCanonical(m) || m.Path == toolchain || m.Path == fips140 {
		return nil, ErrTaken
	}
	escPath, err1 := module.EscapePath(m.Path)
	escVers, err2 := module.EscapeVersion(m.Version)
	if errors.Join(err1, err2) != nil {
		return nil, ErrTaken
	}
	c := &Claim{l: l, m: m, at: filepath.Join(l.dir, "cache", "download", filepath.FromSlash(escPath), "@v", escVers),
		tree: filepath.Join(l.dir, filepath.FromSlash(escPath)+"@"+escVers)}
	if c.begun() {
		return nil, ErrTaken
	}
	if err := os.MkdirAll(filepath.Dir(c.at), 0o777); err != nil {
		return nil, err
	}
	if fi, err := os.Lstat(c.path("lock")); err == nil && !fi.Mode().IsRegular() {
		return nil, ErrTaken
	}
	f, err := os.OpenFile(c.path("lock"), os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	ok, err := lockFile(f, true)
	if err == nil && (!ok || c.begun()) {
		err = ErrTaken
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	c.lock = f
	return c, nil
}

func (c *Claim) path(suffix string) string { return c.at + "." + suffix }

// begun reports whether there is something of the version's zip. What a go command
// left half done, a go command ends: it knows what it was about.
func (c *Claim) begun() bool {
	return slices.ContainsFunc([]string{c.path("zip"), c.path("ziphash"), c.path("partial"), c.tree}, there)
}

// there reports whether a name is in use, or cannot be told.
func there(name string) bool {
	_, err := os.Lstat(name)
	return !errors.Is(err, fs.ErrNotExist)
}

// Release gives the version free. The lock file stays, as the go command's do.
func (c *Claim) Release() { c.lock.Close() }

// A Laid version is what Lay lays down.
type Laid struct {
	Info []byte // as a proxy gives it; nil leaves it to the go command
	Mod  []byte // nil leaves it to the go command
	// Zip is a zip of Size bytes that keeps to the rules of module zips, and H1 its
	// hash. Where Zip is an *os.File, of a file that nobody writes to, the cache shares
	// it if the file system can.
	Zip  io.ReaderAt
	Size int64
	H1   string
}

// Lay lays the version down. After an error, or when ctx ends, the cache has nothing
// of the version, or what the go command goes on from. The error matches ErrFull if
// that is why.
func (c *Claim) Lay(ctx context.Context, v Laid) error {
	if !isHash(v.H1) {
		return fmt.Errorf("%q is no hash of a zip", v.H1)
	}
	files, size, err := members(v.Zip, v.Size, c.m)
	if err != nil {
		return err
	}
	var u *unpacker
	select {
	case u = <-c.l.slots:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { c.l.slots <- u }()
	if err := enough(c.l.dir, size+v.Size); err != nil {
		return err
	}
	c.sweep()
	if v.Info != nil {
		if err := c.info(v.Info); err != nil {
			return err
		}
	}
	if v.Mod != nil {
		if err := c.mod(v.Mod); err != nil {
			return err
		}
	}
	if err := c.zip(ctx, v); err != nil {
		return err
	}
	if u == nil {
		u = &unpacker{}
	}
	return c.unpack(ctx, u, v.Zip, files)
}

// enough reports ErrFull unless so many bytes, and the reserve, are free.
func enough(dir string, need int64) error {
	free, total, err := space(dir)
	if err != nil {
		return nil // a file system that does not say; it will say when it is full
	}
	if reserve := min(layReserve, total/20); free-need < reserve {
		return fmt.Errorf("%w: %d MiB are free, and %d MiB are wanted", ErrFull, free>>20, (need+reserve)>>20)
	}
	return nil
}

// sweep removes what a broken off download left. Its temporary files are of nobody, as
// the lock is ours.
func (c *Claim) sweep() {
	dir, vers := filepath.Split(c.at)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), vers+".zip") && strings.HasSuffix(e.Name(), ".tmp") {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// tmp makes a temporary file of the name that the go command gives those of zips, so
// that it removes what a crash leaves of ours.
func (c *Claim) tmp() (f *os.File, err error) {
	for range 1000 {
		name := c.path("zip") + strconv.Itoa(rand.IntN(1e9)) + ".tmp"
		if f, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666); !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return f, err
}

// write makes a file that nobody sees before it is whole.
func (c *Claim) write(name string, data []byte) error {
	f, err := c.tmp()
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// revInfo is what the go command keeps of an .info, which it writes anew
// (cmd/go/internal/modfetch.RevInfo).
type revInfo struct {
	Version string
	Time    time.Time
	Origin  *revOrigin `json:",omitempty"`
}

type revOrigin struct {
	VCS       string `json:",omitempty"`
	URL       string `json:",omitempty"`
	Subdir    string `json:",omitempty"`
	Hash      string `json:",omitempty"`
	TagPrefix string `json:",omitempty"`
	TagSum    string `json:",omitempty"`
	Ref       string `json:",omitempty"`
	RepoSum   string `json:",omitempty"`
}

// keptInfo is the .info that the go command keeps of what a proxy has answered.
func keptInfo(data []byte, m module.Version) ([]byte, error) {
	if _, err := goproxy.ParseInfo(data, m); err != nil {
		return nil, err
	}
	var info revInfo
	if err := json.Unmarshal(data, &info); err != nil {
		return nil, err
	}
	if o := info.Origin; o != nil { // as writeDiskStat does
		o.TagSum, o.TagPrefix, o.RepoSum = "", "", ""
		if module.IsPseudoVersion(info.Version) {
			o.Ref = ""
		}
	}
	return json.Marshal(info)
}

func (c *Claim) info(data []byte) error {
	if there(c.path("info")) {
		return nil
	}
	data, err := keptInfo(data, c.m)
	if err != nil {
		return fmt.Errorf(".info: %w", err)
	}
	return c.write(c.path("info"), data)
}

// mod writes the .mod, and the list of all versions that have one. The go command
// locks the list alone, and after; to have the lock before means not to wait for it
// with a list that lacks a version.
func (c *Claim) mod(data []byte) error {
	if there(c.path("mod")) {
		return nil
	}
	dir := filepath.Dir(c.at)
	list, err := os.OpenFile(filepath.Join(dir, "list"), os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	defer list.Close()
	if ok, err := lockFile(list, true); err != nil || !ok {
		return err // whoever writes it just now is a go command, which gets the .mod too
	}
	// The go command writes a list for each .mod that it writes: broken off in between, it
	// mends the list as it writes the .mod.
	if err := writeList(list, dir, filepath.Base(c.at)); err != nil {
		return err
	}
	return c.write(c.path("mod"), data)
}

// writeList makes a list that is locked that of the versions in dir and one more. As the go
// command does, it makes room for it first: what is broken off has zeroes in it.
func writeList(f *os.File, dir, more string) error {
	text, _ := listOf(dir, more)
	if err := f.Truncate(0); err != nil {
		return err
	}
	if err := f.Truncate(int64(len(text))); err != nil {
		return err
	}
	if _, err := f.WriteAt([]byte(text), 0); err != nil {
		f.Truncate(0)
		return err
	}
	return nil
}

// zip lays the zip and the record of its hash. Whoever sees the zip sees the record.
func (c *Claim) zip(ctx context.Context, v Laid) error {
	tmp, err := c.share(ctx, v)
	if err != nil {
		return err
	}
	if err = c.write(c.path("ziphash"), []byte(v.H1)); err == nil {
		err = os.Rename(tmp, c.path("zip"))
	}
	if err != nil {
		os.Remove(tmp)
		os.Remove(c.path("ziphash"))
	}
	return err
}

// share gives a temporary name to the zip. It shares the blocks of the file where the
// file system keeps such files apart as soon as one is written to (reflink). Elsewhere
// the file gets a second name (hard link), if it is as one that the go command would
// make, same owner, group and permissions: so nobody can change it who could not
// before, and neither name goes with the other. What cannot be shared is copied.
func (c *Claim) share(ctx context.Context, v Laid) (name string, err error) {
	f, err := c.tmp()
	if err != nil {
		return "", err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			os.Remove(f.Name())
		}
	}()
	name = f.Name()
	if from, ok := v.Zip.(*os.File); ok {
		if reflink(f, from) == nil {
			if fi, err := f.Stat(); err == nil && fi.Size() == v.Size {
				return name, nil
			}
			if err := f.Truncate(0); err != nil {
				return "", err
			}
		} else if second(name, f, from, v.Size) {
			return name, nil
		}
	}
	n, err := io.Copy(f, ctxReader{ctx, io.NewSectionReader(v.Zip, 0, v.Size)})
	if err == nil && n != v.Size {
		err = io.ErrUnexpectedEOF
	}
	return name, err
}

// second makes name, that of the empty file own, a second name of from, if that is of
// the size and has the rights of own. Where it does not, own is there as before.
func second(name string, own, from *os.File, size int64) bool {
	mine, err1 := own.Stat()
	fi, err2 := from.Stat()
	if errors.Join(err1, err2) != nil || fi.Size() != size || !alike(mine, fi) {
		return false
	}
	other := strings.TrimSuffix(name, ".tmp") + "l.tmp"
	if os.Link(from.Name(), other) != nil {
		return false
	}
	// The name of from may be another file's by now.
	now, err := os.Lstat(other)
	if err == nil && os.SameFile(now, fi) && alike(mine, now) && os.Rename(other, name) == nil {
		return true
	}
	os.Remove(other)
	return false
}

// members are the files of a zip that are unpacked, and the room they take. That they
// keep to the rules was verified before; those that protect what is outside of the
// tree are checked all the same.
func members(r io.ReaderAt, size int64, m module.Version) (files []member, room int64, err error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, 0, err
	}
	prefix := m.Path + "@" + m.Version + "/"
	for _, f := range z.File {
		name, ok := strings.CutPrefix(f.Name, prefix)
		if !ok {
			return nil, 0, fmt.Errorf("%q is no file of this version", short(f.Name))
		}
		if name == "" || strings.HasSuffix(name, "/") {
			continue // the go command makes no directories without files
		}
		if err := module.CheckFilePath(name); err != nil {
			return nil, 0, err
		}
		if path.Clean(name) != name {
			return nil, 0, fmt.Errorf("%q is no clean name", short(name))
		}
		if f.UncompressedSize64 > goproxy.MaxZip || room > goproxy.MaxZip*2 {
			return nil, 0, errTooMuch
		}
		room += int64(f.UncompressedSize64) + block
		files = append(files, member{f, name})
	}
	return files, room, nil
}

// A member is a file of a zip.
type member struct {
	*zip.File
	name string // in the module
}

// unpack extracts a zip to its final place, which is marked until all is there.
func (c *Claim) unpack(ctx context.Context, u *unpacker, r io.ReaderAt, files []member) (err error) {
	mark := c.path("partial")
	if err := os.MkdirAll(filepath.Dir(c.tree), 0o777); err != nil {
		return err
	}
	if err := os.WriteFile(mark, nil, 0o666); err != nil {
		return err
	}
	if err := os.Mkdir(c.tree, 0o777); err != nil {
		os.Remove(mark)
		return err
	}
	defer func() {
		if p := recover(); p != nil { // a bug, which is not to end what is run
			err = fmt.Errorf("an internal error: %v\n%s", p, debug.Stack())
		}
		if err != nil && removeAll(c.tree) == nil {
			os.Remove(mark)
		}
	}()
	dirs := []string{c.tree}
	made := map[string]bool{".": true}
	var makeDir func(dir string) error
	makeDir = func(dir string) error {
		if made[dir] {
			return nil
		}
		if err := makeDir(path.Dir(dir)); err != nil {
			return err
		}
		at := filepath.Join(c.tree, filepath.FromSlash(dir))
		made[dir] = true
		dirs = append(dirs, at)
		return os.Mkdir(at, 0o777)
	}
	for _, f := range files {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := makeDir(path.Dir(f.name)); err != nil {
			return err
		}
		if err := u.file(ctx, filepath.Join(c.tree, filepath.FromSlash(f.name)), r, f.File); err != nil {
			return fmt.Errorf("%q: %w", short(f.name), err)
		}
	}
	if err := os.Remove(mark); err != nil {
		return err
	}
	if !c.l.writable {
		for _, dir := range slices.Backward(dirs) { // what is below first, and as far as it goes
			if fi, err := os.Lstat(dir); err == nil {
				os.Chmod(dir, fi.Mode()&^0o222)
			}
		}
	}
	return nil
}

// An unpacker writes the files of zips, one at a time.
type unpacker struct {
	inflate inflate.Decoder
	buf     []byte // for what is not compressed

	// Of the file that is written.
	ctx  context.Context
	to   *os.File
	left uint64 // bytes that may still come
	crc  uint32
}

var errSize = errors.New("the file has another size than the zip's directory says")

// Write takes what comes out of a zip.
func (u *unpacker) Write(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	if uint64(len(p)) > u.left {
		return 0, errSize
	}
	u.left -= uint64(len(p))
	u.crc = crc32.Update(u.crc, crc32.IEEETable, p)
	return u.to.Write(p)
}

// file unpacks one file.
func (u *unpacker) file(ctx context.Context, name string, r io.ReaderAt, f *zip.File) (err error) {
	at, err := f.DataOffset()
	if err != nil {
		return err
	}
	u.ctx, u.left, u.crc = ctx, f.UncompressedSize64, 0
	if u.to, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, u.to.Close())
		u.to, u.ctx = nil, nil
	}()
	data := io.NewSectionReader(r, at, int64(f.CompressedSize64))
	switch f.Method {
	case zip.Deflate:
		_, err = u.inflate.Copy(u, data)
	case zip.Store:
		if u.buf == nil {
			u.buf = make([]byte, 64<<10)
		}
		_, err = io.CopyBuffer(u, struct{ io.Reader }{data}, u.buf)
	default:
		err = zip.ErrAlgorithm
	}
	switch {
	case err != nil:
		return err
	case u.left > 0:
		return errSize
	case f.CRC32 != 0 && u.crc != f.CRC32:
		return zip.ErrChecksum
	}
	return nil
}
