package journal

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// tryLock takes the lock of f against everyone who opened the file separately, until f
// is closed, and reports whether it could.
func tryLock(f *os.File) (bool, error) {
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return false, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "LockFileEx", Path: f.Name(), Err: err}
	}
	return true, nil
}

// syncDir does nothing: NTFS keeps the names in its journal, and a directory cannot be
// synced.
func syncDir(string) error { return nil }

// mayWrite does not know before: the write tells.
func mayWrite(string) error { return nil }

// linked is false: that a file has further names is not to be had with its size and time.
func linked(fs.FileInfo) bool { return false }

// keepOwner does nothing: a new file has the access list of its directory.
func keepOwner(string, fs.FileInfo) error { return nil }
