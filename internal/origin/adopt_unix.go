//go:build unix && !linux

package origin

import "os"

// adopts reports whether orphans of our descendants become our children.
func adopts() bool { return os.Getpid() == 1 }
