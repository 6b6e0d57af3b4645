package store

import (
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
)

// An Adopter is a Pending that can have a file's content without copying it.
type Adopter interface {
	Pending

	// Adopt makes the content of f, of which fi is the Stat, that of a Pending to
	// which nothing has been written and which nobody reads yet. f stays the
	// caller's, unchanged. It reports false where the file system cannot do that,
	// or the file is not fit for it; then nothing has happened, and its bytes may
	// be written instead. Size and Sum are those of the bytes that were taken, not
	// of what f may have had before. After true, Write fails until a Reset.
	Adopt(f *os.File, fi fs.FileInfo) bool
}

var _ Adopter = (*diskPending)(nil)

var errAdopted = errors.New("store: this pending artifact is somebody's file, which is not written to")

// Adopt shares the blocks of f with a file of ours where the file system keeps
// such files apart as soon as one is written to (reflink). Elsewhere it gives f a
// second name here (hard link), if nobody can change f, or read it, who could not
// do the same with a file of our own making: same owner, group and permissions.
// Those who own the store can still write into it through the first name, as they
// can into every file of it: like all damage, that shows in the file's stat, and
// it is hashed before it is served again.
func (p *diskPending) Adopt(f *os.File, fi fs.FileInfo) bool {
	own, err := p.file.Stat()
	if err != nil || p.done || p.linked || p.Size() != 0 || !fi.Mode().IsRegular() || fi.Size() == 0 {
		return false
	}
	if reflink(p.file, f) == nil {
		if p.take() {
			return true
		}
		p.file.Truncate(0)
		return false
	}
	// A file that lies elsewhere may be on a file system that hangs, so that one is
	// not even asked for.
	if !sameDevice(own, fi) || !sameRights(own, fi) {
		return false
	}
	link, name, err := p.d.tempLink(f.Name())
	if err != nil {
		return false
	}
	// The name may lead to another file by now, or have led to it all the time.
	now, err := link.Stat()
	if err == nil && os.SameFile(fi, now) && now.Mode().IsRegular() && sameRights(own, now) {
		file, tmp := p.file, p.tmp
		p.file, p.tmp, p.linked = link, name, true
		if p.take() {
			file.Close()
			p.d.root.Remove(tmp)
			return true
		}
		p.file, p.tmp, p.linked = file, tmp, false
	}
	link.Close()
	p.d.root.Remove(name)
	return false
}

// take hashes what our own name leads to now, and makes it what was written.
func (p *diskPending) take() bool {
	h := sha256.New()
	n, err := io.Copy(h, io.NewSectionReader(p.file, 0, 1<<62))
	if err != nil || n == 0 {
		return false
	}
	p.sum = h
	p.size.Store(n)
	return true
}
