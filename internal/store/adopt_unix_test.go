//go:build unix

package store_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/store/storetest"
)

// zip is what is adopted as.
var zip = storetest.Req(goproxy.Zip, "a.test/adopted", "v1.0.0")

// adoption is a store with a file beside it, on one file system.
func adoption(t *testing.T, data string) (d *store.Disk, file string) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "file.zip")
	if err := os.WriteFile(file, []byte(data), 0o666); err != nil {
		t.Fatal(err)
	}
	d, err := store.OpenDisk(filepath.Join(dir, "store"), store.Options{Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, file
}

// adopt offers a file to a new pending artifact. The caller must Abort it.
func adopt(t *testing.T, d *store.Disk, file string) (store.Adopter, bool) {
	t.Helper()
	p, err := d.Create(zip)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	a := p.(store.Adopter)
	return a, a.Adopt(f, fi)
}

// same reports whether the stored zip is the file itself, under another name.
func same(t *testing.T, d *store.Disk, file string) bool {
	t.Helper()
	a, err := os.Stat(file)
	b, err2 := os.Stat(filepath.Join(d.Dir(), zip.Path()))
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return os.SameFile(a, b)
}

// reflinks reports whether the file system of dir shares blocks between files.
func reflinks(t *testing.T, dir string) bool {
	t.Helper()
	src := filepath.Join(dir, "reflink")
	if err := os.WriteFile(src, []byte("x"), 0o666); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g, err := os.Create(src + ".to")
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	return store.Reflink(g, f) == nil
}

func holds(t *testing.T, file, want string) {
	t.Helper()
	if got, err := os.ReadFile(file); err != nil || string(got) != want {
		t.Errorf("%s has %.20q, %v; want %.20q", file, got, err, want)
	}
}

func TestAFileIsStoredWithoutACopy(t *testing.T) {
	data := strings.Repeat("content ", 50000)
	d, file := adoption(t, data)
	p, ok := adopt(t, d, file)
	defer p.Abort()
	if !ok || p.Size() != int64(len(data)) {
		t.Fatalf("Adopt = %v, %d bytes; want all %d", ok, p.Size(), len(data))
	}
	storetest.HasNot(t, d, zip)
	part := make([]byte, 7)
	if n, err := p.ReadAt(part, 8); n != 7 || string(part) != "content" {
		t.Errorf("ReadAt = %q, %v", part[:n], err)
	}
	if _, err := p.Commit(storetest.RecordOf(zip.Kind, data)); err != nil {
		t.Fatal(err)
	}
	storetest.Has(t, d, zip, data)
	holds(t, file, data)
	if !reflinks(t, filepath.Dir(file)) && !same(t, d, file) {
		t.Error("the stored file is another one")
	}

	// The other name may go, as go clean -modcache has it.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	storetest.Has(t, d, zip, data)
}

func TestAnAdoptedFileIsLeftAsItIsByWhatIsWrittenNext(t *testing.T) {
	const data = "somebody's file"
	d, file := adoption(t, data)
	p, ok := adopt(t, d, file)
	defer p.Abort()
	if !ok {
		t.Fatal("it is not adopted")
	}
	if !reflinks(t, filepath.Dir(file)) {
		if n, err := io.WriteString(p, "more"); err == nil {
			t.Errorf("Write = %d bytes into a file that is not ours", n)
		}
	}
	if err := p.Reset(); err != nil || p.Size() != 0 {
		t.Fatalf("Reset = %v; Size = %d", err, p.Size())
	}
	holds(t, file, data)
	if _, err := io.WriteString(p, "ours"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Commit(storetest.RecordOf(zip.Kind, "ours")); err != nil {
		t.Fatal(err)
	}
	storetest.Has(t, d, zip, "ours")
	holds(t, file, data)

	q, _ := adopt(t, d, file)
	q.Abort()
	holds(t, file, data)
}

// Whoever could write to the file could write into the store; whoever could not
// read the store's files could not read this one.
func TestAFileOfOtherRightsIsNotLinked(t *testing.T) {
	for name, change := range map[string]func(file string) error{
		"others may write to it":   func(f string) error { return os.Chmod(f, 0o666) },
		"only its owner may read":  func(f string) error { return os.Chmod(f, 0o600) },
		"it is somebody else's":    func(f string) error { return os.Chown(f, 65534, -1) },
		"it is some other group's": func(f string) error { return os.Chown(f, -1, 65534) },
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			d, file := adoption(t, "content")
			if err := change(file); err != nil {
				modtest.Need(t, "root", !os.IsPermission(err))
				t.Fatal(err)
			}
			p, ok := adopt(t, d, file)
			defer p.Abort()
			if !ok {
				return
			}
			if _, err := p.Commit(storetest.RecordOf(zip.Kind, "content")); err != nil {
				t.Fatal(err)
			}
			if same(t, d, file) {
				t.Error("it is linked")
			}
		})
	}
}

func TestWhatIsNoFitFileIsNotAdopted(t *testing.T) {
	d, file := adoption(t, "content")
	refused := func(why string, f *os.File, fi os.FileInfo) {
		t.Helper()
		p, err := d.Create(zip)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Abort()
		if p.(store.Adopter).Adopt(f, fi) {
			t.Errorf("%s, and it is adopted", why)
		}
		// As before, its bytes can be written.
		if n, err := io.WriteString(p, "x"); n != 1 || err != nil || p.Size() != 1 {
			t.Errorf("%s; then Write = %d, %v; Size = %d", why, n, err, p.Size())
		}
	}
	open := func(file string) (*os.File, os.FileInfo) {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		fi, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		return f, fi
	}
	f, fi := open(filepath.Dir(file))
	refused("it is a directory", f, fi)
	empty := file + ".empty"
	if err := os.WriteFile(empty, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	f, fi = open(empty)
	refused("it is empty", f, fi)
	if reflinks(t, filepath.Dir(file)) {
		return // which goes by the open file
	}
	other := file + ".other"
	if err := os.WriteFile(other, []byte("CONTENT"), 0o666); err != nil {
		t.Fatal(err)
	}
	f, fi = open(file)
	if err := os.Rename(other, file); err != nil {
		t.Fatal(err)
	}
	refused("its name leads to another file by now", f, fi)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	refused("its name is gone", f, fi)
	if err := os.Symlink("elsewhere", file); err != nil {
		t.Fatal(err)
	}
	refused("its name is a symbolic link", f, fi)
}

func TestAFileOnAnotherFileSystemIsNotAdopted(t *testing.T) {
	d, _ := adoption(t, "content")
	shm, err := os.MkdirTemp("/dev/shm", "sluice-test-*")
	modtest.Need(t, "/dev/shm", err == nil)
	defer os.RemoveAll(shm)
	file := filepath.Join(shm, "file.zip")
	if err := os.WriteFile(file, []byte("content"), 0o666); err != nil {
		t.Fatal(err)
	}
	a, err := os.Stat(shm)
	b, err2 := os.Stat(d.Dir())
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	modtest.Need(t, "/dev/shm beside a disk", a.Sys().(*syscall.Stat_t).Dev != b.Sys().(*syscall.Stat_t).Dev)
	p, ok := adopt(t, d, file)
	defer p.Abort()
	if ok {
		t.Error("it is adopted across file systems")
	}
}

// The one hazard of a second name: what is written in place through the first.
func TestAChangeThroughTheOtherNameIsNoticed(t *testing.T) {
	const data = "what was verified"
	for _, when := range []string{"before Commit", "after Commit"} {
		d, file := adoption(t, data)
		old := time.Now().Add(-time.Hour)
		if err := os.Chtimes(file, old, old); err != nil {
			t.Fatal(err)
		}
		// It stays as large as before, and as old.
		change := func() {
			f, err := os.OpenFile(file, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt([]byte("WHAT"), 0); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(file, old, old); err != nil {
				t.Fatal(err)
			}
		}
		p, ok := adopt(t, d, file)
		defer p.Abort()
		if !ok {
			t.Fatal("it is not adopted")
		}
		if when == "before Commit" {
			change()
		}
		if _, err := p.Commit(storetest.RecordOf(zip.Kind, data)); err != nil {
			t.Fatal(err)
		}
		if when == "after Commit" {
			change()
		}
		if reflinks(t, filepath.Dir(file)) {
			storetest.Has(t, d, zip, data)
		} else if _, err := storetest.Get(d, zip); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("changed %s, Open = %v; want it damaged", when, err)
		}
	}
}
