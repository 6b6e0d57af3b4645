//go:build !linux

package store

import "os"

// A rootDir is an os.Root.
type rootDir struct{ *os.Root }

// size is how many bytes there are at name, of a link in itself. It is not ok if
// there is nothing, or that cannot be told.
func (d *rootDir) size(name string) (n int64, ok bool) {
	fi, err := d.Lstat(name)
	if err != nil {
		return 0, false
	}
	return fi.Size(), true
}

func newRootDir(r *os.Root) *rootDir { return &rootDir{r} }
