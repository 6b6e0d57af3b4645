package journal

import (
	"strings"

	"golang.org/x/sys/unix"
)

// noAttr says that an attribute is not there any more.
const noAttr = unix.ENODATA

// users reports whether an attribute is the user's to set and to lose; keepAttrs says what
// the others are.
func users(name string) bool {
	return strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "system.posix_acl_")
}
