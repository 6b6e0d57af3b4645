package store

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An asRoot is what a store does in its directory.
type asRoot interface {
	OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error)
	ReadFile(name string) ([]byte, error)
	Lstat(name string) (fs.FileInfo, error)
	Chtimes(name string, atime, mtime time.Time) error
	Remove(name string) error
	Mkdir(name string, perm fs.FileMode) error
	MkdirAll(name string, perm fs.FileMode) error
	Rename(old, new string) error
	Link(old, new string) error
}

// What the kernel does in one step is what an os.Root does in several: also with
// links that lead out of the directory, and whatever else may lie in it.
func TestOneStepToAFileEndsWhereAWalkDoes(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	// play does everything with everything, and tells what came of it.
	play := func(open func(string) asRoot) (said []string) {
		dir := t.TempDir()
		for name, target := range map[string]string{"in": "d", "out": outside, "up": "../" + filepath.Base(dir) + "x", "loop": "loop", "file": "d/f", "gone": "d/nothing", "outfile": outside + "/secret"} {
			if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		r := open(dir)
		say := func(what string, err error, more ...any) {
			text := "ok"
			if err != nil {
				text = fmt.Sprintf("%T %v", err, err)
			}
			said = append(said, strings.ReplaceAll(fmt.Sprint(what, ": ", text, " ", more), dir, "DIR"))
		}
		say("mkdirall", r.MkdirAll("d/e", 0o777))
		say("mkdirall", r.MkdirAll("d/e", 0o777))
		names := []string{"d", "d/f", "d/g", "d/e", "d/e/f", "in", "in/f", "out", "out/secret", "up/x", "loop", "file", "gone", "outfile", "none", "none/f", "d/f/x", ".", "", "/etc", "..", "d/..", "d/../d/f", "../x", "d/", "d/f/"}
		for i, name := range names {
			for _, flag := range []int{os.O_WRONLY | os.O_CREATE | os.O_EXCL, os.O_RDONLY, os.O_RDWR | os.O_CREATE, os.O_WRONLY | os.O_TRUNC} {
				f, err := r.OpenFile(name, flag, 0o640)
				if err == nil && flag != os.O_RDONLY {
					fmt.Fprint(f, name)
				}
				say(fmt.Sprintf("open %q %x", name, flag), err)
				if f != nil {
					fi, err := f.Stat()
					say("stat", err, f.Name(), fi.Mode(), fi.IsDir())
					f.Close()
				}
			}
			data, err := r.ReadFile(name)
			say(fmt.Sprintf("read %q", name), err, string(data))
			at := time.Unix(2e9+int64(i), 123456000)
			say(fmt.Sprintf("chtimes %q", name), r.Chtimes(name, time.Unix(1, 0), at))
			if f, err := r.OpenFile(name, os.O_RDONLY, 0); err == nil { // where a link leads
				fi, err := f.Stat()
				say("times", err, fi.ModTime().Equal(at))
				f.Close()
			}
			fi, err := r.Lstat(name)
			say(fmt.Sprintf("lstat %q", name), err)
			if d, ok := r.(*rootDir); ok {
				n, ok := d.size(name)
				if ok != (err == nil) || ok && n != fi.Size() {
					t.Errorf("the size of %q is said to be %d, %v; lstat says %v, %v", name, n, ok, fi, err)
				}
			}
			if err == nil {
				say("lstat", nil, fi.Name(), fi.Mode(), fi.Mode().IsRegular() && fi.Size() > 0, fi.ModTime().Equal(at))
			}
		}
		for _, name := range append(names, "d/new", "none/new", "out/new", "in/new2") {
			say(fmt.Sprintf("mkdir %q", name), r.Mkdir(name, 0o755))
			say(fmt.Sprintf("link %q", name), r.Link("d/f", name))
			say(fmt.Sprintf("link from %q", name), r.Link(name, "d/linked"))
			say("remove", r.Remove("d/linked"))
		}
		for _, name := range names {
			say(fmt.Sprintf("rename to %q", name), r.Rename("d/g", name))
			say(fmt.Sprintf("rename from %q", name), r.Rename(name, "d/g"))
		}
		for _, name := range names {
			say(fmt.Sprintf("remove %q", name), r.Remove(name))
		}
		err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
			say("left "+name, err, e.Type())
			return nil
		})
		say("walk", err)
		return said
	}
	roots := func(dir string) *os.Root {
		r, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		return r
	}
	want := play(func(dir string) asRoot { return roots(dir) })
	for _, walks := range []bool{false, true} {
		got := play(func(dir string) asRoot {
			d := newRootDir(roots(dir))
			if d.walks.Load() {
				if fd, err := unix.Openat2(unix.AT_FDCWD, dir, &unix.OpenHow{Flags: unix.O_PATH}); err == nil {
					unix.Close(fd)
					t.Error("the kernel has openat2, and it is not used")
				}
			}
			d.walks.Store(walks)
			t.Cleanup(func() { d.Close() })
			return d
		})
		for i := range max(len(got), len(want)) {
			if i >= len(got) || i >= len(want) || got[i] != want[i] {
				t.Errorf("walks: %v: %s\nan os.Root says %s", walks, got[min(i, len(got)-1)], want[min(i, len(want)-1)])
			}
		}
	}
	if data, err := os.ReadFile(filepath.Join(outside, "secret")); err != nil || string(data) != "secret" {
		t.Errorf("what is outside: %q, %v", data, err)
	}
	if left, _ := os.ReadDir(outside); len(left) != 1 {
		t.Errorf("outside there is %v", left)
	}
}
