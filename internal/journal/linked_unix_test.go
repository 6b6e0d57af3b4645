//go:build linux

package journal_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAFileWithFurtherNamesKeepsThem(t *testing.T) {
	d := newDesk(t)
	d.put("env", "A=1, and much more\n", 0o604)
	if err := os.Link(d.name("env"), d.name("other")); err != nil {
		t.Fatal(err)
	}
	d.do("use", d.plan("env", "A=2\n"))
	d.has("env", "A=2\n")
	d.has("other", "A=2\n")
	d.undo("", false)
	d.has("env", "A=1, and much more\n")
	d.has("other", "A=1, and much more\n")
	if info, err := os.Stat(d.name("other")); err != nil || info.Mode().Perm() != 0o604 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	d.tidy()
}

func TestAttributesOfAFileStay(t *testing.T) {
	d := newDesk(t)
	d.put("env", "A=1\n", 0o600)
	if err := unix.Setxattr(d.name("env"), "user.sluice.test", []byte("kept"), 0); err != nil {
		t.Skipf("the file system of the test keeps no attributes: %v", err)
	}
	d.do("use", d.plan("env", "A=2\n"))
	buf := make([]byte, 16)
	if n, err := unix.Getxattr(d.name("env"), "user.sluice.test", buf); err != nil || string(buf[:n]) != "kept" {
		t.Errorf("after the change it is %q, %v", buf[:max(n, 0)], err)
	}
	d.undo("", false)
	if n, err := unix.Getxattr(d.name("env"), "user.sluice.test", buf); err != nil || string(buf[:n]) != "kept" {
		t.Errorf("after the undo it is %q, %v", buf[:max(n, 0)], err)
	}
}
