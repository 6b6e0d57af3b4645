package modcache

import "os"

// Lockable is why f cannot be locked as the go command locks files of the module cache;
// nil if it can, or somebody else has locked it. Not all file systems have locks. f is
// locked until it is closed.
func Lockable(f *os.File) error {
	_, err := lockFile(f, true)
	return err
}
