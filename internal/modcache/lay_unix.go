//go:build unix

package modcache

import (
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// alike reports whether two files are on one file system, and the same people may read
// and write both.
func alike(a, b fs.FileInfo) bool {
	x, ok := a.Sys().(*syscall.Stat_t)
	y, ok2 := b.Sys().(*syscall.Stat_t)
	return ok && ok2 && x.Dev == y.Dev && x.Uid == y.Uid && x.Gid == y.Gid && a.Mode() == b.Mode() && a.Mode().IsRegular()
}

// space is how many bytes of a file system are free for us, of how many in all.
func space(dir string) (free, total int64, err error) {
	var s unix.Statfs_t
	for {
		if err = unix.Statfs(dir, &s); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		return 0, 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(s.Bavail) * int64(s.Bsize), int64(s.Blocks) * int64(s.Bsize), nil
}
