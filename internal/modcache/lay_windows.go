package modcache

import (
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// alike is not told here: files are copied.
func alike(a, b fs.FileInfo) bool { return false }

// space is how many bytes of a file system are free for us, of how many in all.
func space(dir string) (free, total int64, err error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, 0, err
	}
	var f, t uint64
	if err := windows.GetDiskFreeSpaceEx(name, &f, &t, nil); err != nil {
		return 0, 0, &os.PathError{Op: "GetDiskFreeSpaceEx", Path: dir, Err: err}
	}
	return int64(f), int64(t), nil
}
