//go:build linux || darwin

package journal

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// keepAttrs gives temp the extended attributes of the file that it replaces, as far as they
// are the user's: what somebody has written there, and access control lists, without which
// the mode would let in whom they keep out. If one of these cannot be given to temp, the file
// is not replaced. All others a file system or the system gives to each file by itself
// (labels, the lists of servers such as system.nfs4_acl, which follow the mode, how it is
// stored): they are kept where that is possible, and else the new file has its own.
func keepAttrs(temp, of string) error {
	names, err := listAttrs(of)
	if err != nil {
		return err
	}
	return carryAttrs(names, temp, of, getAttr, func(file, name string, value []byte) error { return unix.Lsetxattr(file, name, value, 0) })
}

// carryAttrs is keepAttrs for the attributes of these names.
func carryAttrs(names []string, temp, of string, get func(file, name string) ([]byte, error), set func(file, name string, value []byte) error) error {
	for _, name := range names {
		value, err := get(of, name)
		if err == nil {
			// What it has already need not be set, which may not be allowed.
			if has, herr := get(temp, name); herr == nil && has != nil && bytes.Equal(has, value) {
				continue
			}
			err = set(temp, name, value)
		}
		if err != nil && users(name) && !errors.Is(err, noAttr) {
			return fmt.Errorf("its attribute %s would be lost: %w", name, err)
		}
	}
	return nil
}

// listAttrs lists the attributes of a file; none where its file system has no such thing.
func listAttrs(name string) ([]string, error) {
	for {
		n, err := unix.Llistxattr(name, nil)
		if n <= 0 || err != nil {
			if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOSYS) {
				err = nil
			}
			return nil, err
		}
		buf := make([]byte, n)
		switch n, err = unix.Llistxattr(name, buf); {
		case errors.Is(err, unix.ERANGE):
			continue // there are more now
		case err != nil:
			return nil, err
		}
		return strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00"), nil
	}
}

func getAttr(name, attr string) ([]byte, error) {
	for {
		n, err := unix.Lgetxattr(name, attr, nil)
		if n <= 0 || err != nil {
			return nil, err
		}
		buf := make([]byte, n)
		if n, err = unix.Lgetxattr(name, attr, buf); errors.Is(err, unix.ERANGE) {
			continue
		} else if err != nil {
			return nil, err
		}
		return buf[:n], nil
	}
}
