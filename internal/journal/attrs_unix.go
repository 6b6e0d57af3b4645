//go:build linux || darwin

package journal

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// keepAttrs gives temp the extended attributes of the file that it replaces, access
// control lists among them. Those that the system gives by itself may differ.
func keepAttrs(temp, of string) error {
	names, err := listAttrs(of)
	if err != nil {
		return err
	}
	for _, name := range names {
		value, err := getAttr(of, name)
		if err == nil {
			err = unix.Lsetxattr(temp, name, value, 0)
		}
		system := strings.HasPrefix(name, "security.") || strings.HasPrefix(name, "trusted.") || strings.HasPrefix(name, "com.apple.")
		if err != nil && !system && !errors.Is(err, noAttr) {
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
