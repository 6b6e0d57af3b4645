package modcache

import (
	"os"

	"golang.org/x/sys/unix"
)

// reflink makes dst, which is empty, share the blocks of src. File systems that
// cannot, or that do not hold both, say so at once.
func reflink(dst, src *os.File) error {
	d, err := dst.SyscallConn()
	if err != nil {
		return err
	}
	s, err := src.SyscallConn()
	if err != nil {
		return err
	}
	var cerr error
	err = d.Control(func(to uintptr) {
		err := s.Control(func(from uintptr) { cerr = unix.IoctlFileClone(int(to), int(from)) })
		if err != nil {
			cerr = err
		}
	})
	if err != nil {
		return err
	}
	return cerr
}
