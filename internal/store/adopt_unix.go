//go:build unix

package store

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"syscall"

	"golang.org/x/sys/unix"
)

func sameDevice(a, b fs.FileInfo) bool {
	x, ok := a.Sys().(*syscall.Stat_t)
	y, ok2 := b.Sys().(*syscall.Stat_t)
	return ok && ok2 && x.Dev == y.Dev
}

// sameRights reports whether the same people may read and write both files.
func sameRights(a, b fs.FileInfo) bool {
	x, ok := a.Sys().(*syscall.Stat_t)
	y, ok2 := b.Sys().(*syscall.Stat_t)
	return ok && ok2 && x.Uid == y.Uid && x.Gid == y.Gid && a.Mode() == b.Mode()
}

// tempLink makes a temporary file of ours a second name of file, and opens it for
// reading. A symbolic link is not followed.
func (d *Disk) tempLink(file string) (*os.File, string, error) {
	p, err := d.ready()
	if err != nil {
		return nil, "", err
	}
	dir, err := d.root.Open(p.name)
	if err != nil {
		return nil, "", err
	}
	defer dir.Close()
	name := fmt.Sprintf("%s/%d.link", p.name, d.seq.Add(1))
	c, err := dir.SyscallConn()
	if err != nil {
		return nil, "", err
	}
	var lerr error
	err = c.Control(func(fd uintptr) {
		lerr = unix.Linkat(unix.AT_FDCWD, file, int(fd), path.Base(name), 0)
	})
	if err == nil {
		err = lerr
	}
	if err != nil {
		return nil, "", err
	}
	// What was linked may be no file: of a named pipe, opening waits for its writer.
	fi, err := d.root.Lstat(name)
	if err == nil && !fi.Mode().IsRegular() {
		err = fs.ErrInvalid
	}
	var f *os.File
	if err == nil {
		f, err = d.root.Open(name)
	}
	if err != nil {
		d.root.Remove(name)
		return nil, "", err
	}
	return f, name, nil
}
