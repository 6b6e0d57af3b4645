package origin

import (
	"testing"

	"golang.org/x/sys/unix"
)

// adoptOrphans makes the test process a parent of orphans, as the first process
// of a container is one.
func adoptOrphans(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) })
}
