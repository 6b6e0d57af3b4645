package journal

import "golang.org/x/sys/unix"

// noAttr says that an attribute is not there any more.
const noAttr = unix.ENOATTR
