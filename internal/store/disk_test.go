//go:build unix

package store

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"github.com/modsluice/sluice/internal/goproxy"
)

func TestWhatWasReadBeforeADropIsNotKeptAfterIt(t *testing.T) {
	h, err := newHotLayer(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	const name = "a.test/m/@v/v1.0.0.mod"
	gen := h.generation()
	h.drop(name)
	h.add(name, &Warm{Bytes: []byte("old")}, gen)
	if w := h.get(name); w != nil {
		t.Errorf("%q is kept, though it was dropped while it was read", w.Bytes)
	}
	h.add(name, &Warm{Bytes: []byte("new")}, h.generation())
	if w := h.get(name); w == nil || string(w.Bytes) != "new" {
		t.Errorf("get = %+v; want what was read after the drop", w)
	}
	h.add("large", &Warm{Bytes: make([]byte, maxHot+1)}, h.generation())
	if h.get("large") != nil {
		t.Error("something large is kept")
	}
}

func TestAFailedWriteIsOfOneKind(t *testing.T) {
	d := &Disk{dir: "/data"}
	for _, c := range []struct{ err, want error }{
		{fs.ErrNotExist, nil},
		{syscall.ENOENT, nil},
		{syscall.EIO, syscall.EIO},
		{syscall.ENOSPC, ErrNoSpace},
		{syscall.EACCES, ErrReadOnly},
		{syscall.EROFS, ErrReadOnly},
		{errors.Join(syscall.ENOSPC, fs.ErrNotExist), ErrNoSpace},
		{errSwap("x"), ErrConflict},
	} {
		err := d.fail("write", fmt.Errorf("somewhere: %w", c.err))
		if c.want != nil && !errors.Is(err, c.want) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("fail(%v) = %v; want %v, and no 404", c.err, err, c.want)
		}
	}
	if err := d.fail("write", nil); err != nil {
		t.Errorf("fail(nil) = %v", err)
	}
}

func TestAVersionIsInsertedAtItsPlace(t *testing.T) {
	var want []string
	var list []byte
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		v := fmt.Sprintf("v%d.%d.%d", r.IntN(2), r.IntN(12), r.IntN(12))
		switch r.IntN(4) {
		case 0:
			v += fmt.Sprintf("-rc.%d", r.IntN(12))
		case 1:
			v = fmt.Sprintf("v%d.0.0+incompatible", 2+r.IntN(12))
		}
		var ok bool
		if list, ok = insertVersion(list, v); !ok {
			t.Fatalf("%s was refused by %q", v, list)
		}
		if !slices.Contains(want, v) {
			want = append(want, v)
		}
		goproxy.SortVersions(want)
		if string(list) != string(goproxy.FormatList(want)) {
			t.Fatalf("with %s the list is\n%swant\n%s", v, list, goproxy.FormatList(want))
		}
	}
	for _, bad := range []string{"v1.0.0", "what is this\n", "v1.0.0\n\n"} {
		if got, ok := insertVersion([]byte(bad), "v0.9.0"); ok && len(got) == len(bad) {
			t.Errorf("insertVersion(%q) = %q", bad, got)
		}
	}
	if _, ok := insertVersion([]byte("<html>\n"), "v1.0.0"); ok {
		t.Error("a page is taken for a list")
	}
}
