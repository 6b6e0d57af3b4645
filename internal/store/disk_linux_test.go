package store_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/store/storetest"
)

// cannot skips a test that this machine does not allow; with SLUICE_STRICT=1,
// where everything has to be tested, it fails it.
func cannot(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("SLUICE_STRICT") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// mount mounts something on dir for the time of the test.
func mount(t *testing.T, source, dir, fstype string, flags uintptr, data string) {
	t.Helper()
	if err := syscall.Mount(source, dir, fstype, flags, data); err != nil {
		cannot(t, "cannot mount a %s here, it takes root: %v", fstype, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// readOnly is a second name for dir that cannot be written below.
func readOnly(t *testing.T, dir string) string {
	t.Helper()
	ro := t.TempDir()
	mount(t, dir, ro, "bind mount", syscall.MS_BIND, "")
	if err := syscall.Mount("", ro, "", syscall.MS_REMOUNT|syscall.MS_BIND|syscall.MS_RDONLY, ""); err != nil {
		cannot(t, "cannot make a bind mount read-only here: %v", err)
	}
	return ro
}

func TestAReadOnlyStoreIsServedAndSaysThatItKeepsNothing(t *testing.T) {
	for name, filled := range map[string]bool{"filled": true, "empty": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			zip, list := storetest.Req(goproxy.Zip, modPath, "v1.0.0"), storetest.Req(goproxy.List, modPath, "")
			if filled {
				d := openDisk(t, dir, store.Options{})
				storetest.PutVersion(t, d, modPath, "v1.0.0")
				d.SetAnswer(list, store.Answer{Body: []byte("v1.0.0\n")})
				d.WriteFile("sum.test/latest", []byte("head"))
				d.Quarantine(store.Evidence{Reason: "test"}, nil)
				d.Close()
			}
			d, err := store.OpenDisk(readOnly(t, dir), store.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if filled {
				for _, k := range storetest.Kinds {
					storetest.Has(t, d, zip.With(k), "content of "+zip.With(k).String())
				}
				if a, err := d.Answer(list); err != nil || string(a.Body) != "v1.0.0\n" {
					t.Errorf("Answer = %+v, %v", a, err)
				}
				if data, err := d.ReadFile("sum.test/latest"); err != nil || string(data) != "head" {
					t.Errorf("ReadFile = %q, %v", data, err)
				}
				if q, err := d.Quarantined(); err != nil || len(q) != 1 {
					t.Errorf("Quarantined = %+v, %v", q, err)
				}
			} else {
				storetest.HasNot(t, d, zip)
				if q, err := d.Quarantined(); err != nil || len(q) != 0 {
					t.Errorf("Quarantined = %+v, %v", q, err)
				}
			}
			if v, err := d.Versions(modPath); err != nil || len(v) > 0 != filled {
				t.Errorf("Versions = %q, %v", v, err)
			}
			_, cerr := d.Create(zip)
			for what, err := range map[string]error{
				"Writable":   d.Writable(),
				"Create":     cerr,
				"SetAnswer":  d.SetAnswer(list, store.Answer{}),
				"WriteFile":  d.WriteFile("sum.test/latest", []byte("x")),
				"SwapFile":   d.SwapFile("sum.test/latest", []byte("head"), []byte("x")),
				"Quarantine": d.Quarantine(store.Evidence{}, strings.NewReader("x")),
				"Discard":    d.Discard(zip, store.Evidence{}, true),
				"Probe":      d.Probe(),
			} {
				if !errors.Is(err, store.ErrReadOnly) || errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), "\n") {
					t.Errorf("%s = %v; want ErrReadOnly, in one sentence", what, err)
				}
			}
		})
	}
}

func TestAFullDiskIsNoSpace(t *testing.T) {
	dir := t.TempDir()
	mount(t, "tmpfs", dir, "tmpfs", 0, "size=1m")
	d := openDisk(t, dir, store.Options{Reserve: -1})
	storetest.PutVersion(t, d, modPath, "v1.0.0")
	zip := storetest.Req(goproxy.Zip, modPath, "v1.1.0")
	p, err := d.Create(zip)
	if err != nil {
		t.Fatal(err)
	}
	chunk := []byte(strings.Repeat("x", 64<<10))
	for err == nil {
		_, err = p.Write(chunk)
	}
	if !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("Write = %v; want ErrNoSpace", err)
	}
	size := p.Size()
	if n, err := p.ReadAt(make([]byte, 10), size-10); n != 10 {
		t.Errorf("what was written before is not there: ReadAt = %d, %v", n, err)
	}
	for what, err := range map[string]error{
		"SetAnswer": d.SetAnswer(storetest.Req(goproxy.List, modPath, ""), store.Answer{Body: chunk}),
		"WriteFile": d.WriteFile("sum.test/tile/8/0/000", chunk),
		"Probe":     d.Probe(),
	} {
		if !errors.Is(err, store.ErrNoSpace) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s = %v; want ErrNoSpace", what, err)
		}
	}
	// What there is goes on being served, and a download goes on in memory.
	for _, k := range storetest.Kinds {
		req := storetest.Req(k, modPath, "v1.0.0")
		storetest.Has(t, d, req, "content of "+req.String())
	}
	s, err := store.Scratch(dir, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Abort()
	for n := range 8 {
		if _, err := s.Write(chunk); err != nil {
			t.Errorf("Write %d to a scratch = %v", n, err)
		}
	}
	got := make([]byte, 8*len(chunk))
	if n, err := s.ReadAt(got, 0); n != len(got) || strings.Trim(string(got), "x") != "" {
		t.Errorf("a scratch reads as %d bytes of %d, %v", n, len(got), err)
	}
	// Reset gives the room back.
	if err := p.Reset(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(p, "data")
	if _, err := p.Commit(storetest.RecordOf(goproxy.Zip, "data")); err != nil {
		t.Errorf("Commit after Reset = %v", err)
	}
	p.Abort()
	storetest.Has(t, d, zip, "data")
	if left := tmpLeft(t, dir); len(left) != 0 {
		t.Errorf("left in tmp: %q", left)
	}
}

func TestAStoreOpenedOnAFullDiskIsWrittenOnceThereIsRoom(t *testing.T) {
	dir := t.TempDir()
	mount(t, "tmpfs", dir, "tmpfs", 0, "size=64k")
	fill := filepath.Join(dir, "fill")
	if f, err := os.Create(fill); err != nil {
		t.Fatal(err)
	} else {
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		f.Close()
	}
	d, err := store.OpenDisk(dir, store.Options{Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	req := storetest.Req(goproxy.Mod, modPath, "v1.0.0")
	if _, err := storetest.Commit(d, req, "data", storetest.RecordOf(req.Kind, "data")); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("Commit on a full disk = %v; want ErrNoSpace", err)
	}
	storetest.HasNot(t, d, req)
	os.Remove(fill)
	storetest.Put(t, d, req, "data")
	storetest.Has(t, d, req, "data")
}

func TestAStoreOnATinyFileSystemLeavesATwentiethAlone(t *testing.T) {
	dir := t.TempDir()
	mount(t, "tmpfs", dir, "tmpfs", 0, "size=4m")
	d := openDisk(t, dir, store.Options{})
	storetest.Put(t, d, storetest.Req(goproxy.Zip, modPath, "v1.0.0"), strings.Repeat("x", 3<<20))
	write(t, filepath.Join(dir, "fill"), strings.Repeat("x", 900<<10))
	if _, err := d.Create(storetest.Req(goproxy.Zip, modPath, "v1.1.0")); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("Create = %v; want ErrNoSpace", err)
	}
}
