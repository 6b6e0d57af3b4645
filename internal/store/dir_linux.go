package store

import (
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A rootDir is an os.Root that goes to a file in one step where the kernel can
// keep to the directory by itself (openat2, Linux 5.6 and later). An os.Root walks
// to it, a step for each directory on the way, which is most of what storing a
// small file costs. Whatever the one step cannot do, or fails at in a way that is
// not plain, the os.Root does again: what comes of it is the same.
type rootDir struct {
	*os.Root
	walks atomic.Bool // the kernel cannot, or may not

	mu  sync.RWMutex // held for writing to close top
	top *os.File     // nil if walks
}

func newRootDir(r *os.Root) *rootDir {
	d := &rootDir{Root: r}
	var err error
	if d.top, err = r.Open("."); err == nil {
		var fd int
		if fd, err = d.at(".", unix.O_PATH|unix.O_DIRECTORY, 0); err == nil {
			unix.Close(fd)
		}
	}
	d.walks.Store(err != nil)
	return d
}

// Close closes it.
func (d *rootDir) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.walks.Store(true); d.top != nil {
		d.top.Close()
	}
	return d.Root.Close()
}

// at opens name below the directory, without leaving it.
func (d *rootDir) at(name string, flag int, perm fs.FileMode) (int, error) {
	how := unix.OpenHow{Flags: uint64(flag | unix.O_CLOEXEC), Resolve: unix.RESOLVE_BENEATH}
	if flag&unix.O_PATH == 0 {
		how.Flags |= unix.O_LARGEFILE // which is refused beside O_PATH, where it is not 0
	}
	if flag&unix.O_CREAT != 0 {
		how.Mode = uint64(perm.Perm())
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.walks.Load() {
		return -1, unix.ENOSYS
	}
	for {
		fd, err := unix.Openat2(int(d.top.Fd()), name, &how)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// plain reports whether an error says all there is to say. Others come of links
// that lead out, of a race, or of a kernel without openat2.
func plain(err error) bool {
	switch err {
	case unix.ENOENT, unix.EEXIST, unix.EACCES, unix.EROFS, unix.ENOSPC, unix.EDQUOT, unix.EMFILE, unix.ENFILE, unix.EIO, unix.ENOTDIR:
		return true
	}
	return false
}

// parent opens the directory that name is in. It is not to be read.
func (d *rootDir) parent(name string) (fd int, base string, err error) {
	dir, base := path.Split(name)
	if base == "" || base == "." || base == ".." {
		return -1, "", unix.EINVAL
	}
	if dir == "" {
		dir = "."
	}
	fd, err = d.at(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	return fd, base, err
}

// file is the open file fd.
func (d *rootDir) file(fd int, name string) *os.File {
	return os.NewFile(uintptr(fd), d.Name()+"/"+name)
}

// Open is as of os.Root.
func (d *rootDir) Open(name string) (*os.File, error) { return d.OpenFile(name, os.O_RDONLY, 0) }

// OpenFile is as of os.Root.
func (d *rootDir) OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	if name != "" && perm&^fs.ModePerm == 0 && !strings.HasSuffix(name, "/") {
		fd, err := d.at(name, flag, perm)
		if err == nil {
			return d.file(fd, name), nil
		}
		if plain(err) {
			return nil, &os.PathError{Op: "openat", Path: name, Err: err}
		}
	}
	return d.Root.OpenFile(name, flag, perm)
}

// ReadFile is as of os.Root.
func (d *rootDir) ReadFile(name string) ([]byte, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data := make([]byte, 0, min(fi.Size(), 1<<20)+1)
	for {
		n, err := f.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if err == io.EOF {
			return data, nil
		}
		if err != nil {
			return data, err
		}
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
	}
}

// Lstat is as of os.Root.
func (d *rootDir) Lstat(name string) (fs.FileInfo, error) {
	if name != "" && !strings.HasSuffix(name, "/") {
		fd, err := d.at(name, unix.O_PATH|unix.O_NOFOLLOW, 0)
		if err == nil {
			f := d.file(fd, name)
			defer f.Close()
			return f.Stat()
		}
		if plain(err) {
			return nil, &os.PathError{Op: "statat", Path: name, Err: err}
		}
	}
	return d.Root.Lstat(name)
}

// Chtimes is as of os.Root.
func (d *rootDir) Chtimes(name string, atime, mtime time.Time) error {
	if name != "" && !atime.IsZero() && !mtime.IsZero() && !strings.HasSuffix(name, "/") {
		if fd, err := d.at(name, unix.O_PATH, 0); err == nil {
			times := []unix.Timespec{unix.NsecToTimespec(atime.UnixNano()), unix.NsecToTimespec(mtime.UnixNano())}
			err = unix.UtimesNanoAt(fd, "", times, unix.AT_EMPTY_PATH)
			unix.Close(fd)
			if err == nil {
				return nil
			}
		}
	}
	return d.Root.Chtimes(name, atime, mtime)
}

// size is how many bytes there are at name, of a link in itself. It is not ok if
// there is nothing, or that cannot be told.
func (d *rootDir) size(name string) (n int64, ok bool) {
	if name != "" && !strings.HasSuffix(name, "/") {
		fd, err := d.at(name, unix.O_PATH|unix.O_NOFOLLOW, 0)
		if err == nil {
			var st unix.Stat_t
			err = unix.Fstat(fd, &st)
			unix.Close(fd)
			if err == nil {
				return st.Size, true
			}
		}
		if plain(err) {
			return 0, false
		}
	}
	fi, err := d.Root.Lstat(name)
	if err != nil {
		return 0, false
	}
	return fi.Size(), true
}

// Remove is as of os.Root.
func (d *rootDir) Remove(name string) error {
	if fd, base, err := d.parent(name); err == nil {
		err = unix.Unlinkat(fd, base, 0)
		unix.Close(fd)
		if err == nil {
			return nil
		}
		if err == unix.ENOENT {
			return &os.PathError{Op: "removeat", Path: name, Err: err}
		}
	} else if err == unix.ENOENT {
		return &os.PathError{Op: "removeat", Path: name, Err: err}
	}
	return d.Root.Remove(name)
}

// Mkdir is as of os.Root.
func (d *rootDir) Mkdir(name string, perm fs.FileMode) error {
	if perm&^fs.ModePerm == 0 {
		if fd, base, err := d.parent(name); err == nil {
			err = unix.Mkdirat(fd, base, uint32(perm))
			unix.Close(fd)
			if err == nil {
				return nil
			}
			if plain(err) {
				return &os.PathError{Op: "mkdirat", Path: name, Err: err}
			}
		}
	}
	return d.Root.Mkdir(name, perm)
}

// MkdirAll is as of os.Root.
func (d *rootDir) MkdirAll(name string, perm fs.FileMode) error {
	if fd, err := d.at(name, unix.O_PATH|unix.O_DIRECTORY, 0); err == nil {
		unix.Close(fd)
		return nil
	}
	return d.Root.MkdirAll(name, perm)
}

// Rename is as of os.Root.
func (d *rootDir) Rename(old, new string) error {
	err := d.both(old, new, unix.Renameat)
	if err == nil {
		return nil
	}
	if plain(err) {
		return &os.LinkError{Op: "renameat", Old: old, New: new, Err: err}
	}
	return d.Root.Rename(old, new)
}

// Link is as of os.Root.
func (d *rootDir) Link(old, new string) error {
	err := d.both(old, new, func(ofd int, obase string, nfd int, nbase string) error {
		return unix.Linkat(ofd, obase, nfd, nbase, 0)
	})
	if err == nil {
		return nil
	}
	if plain(err) {
		return &os.LinkError{Op: "linkat", Old: old, New: new, Err: err}
	}
	return d.Root.Link(old, new)
}

// both does something with two names in their directories.
func (d *rootDir) both(old, new string, do func(ofd int, obase string, nfd int, nbase string) error) error {
	ofd, obase, err := d.parent(old)
	if err != nil {
		return err
	}
	defer unix.Close(ofd)
	nfd, nbase, err := d.parent(new)
	if err != nil {
		return err
	}
	defer unix.Close(nfd)
	return do(ofd, obase, nfd, nbase)
}
