//go:build unix

package store

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
)

func TestWhatWasReadBeforeADropIsNotKeptAfterIt(t *testing.T) {
	h, err := newHotLayer(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	req := goproxy.Request{Kind: goproxy.Mod, Module: module.Version{Path: "a.test/m", Version: "v1.0.0"}}
	gen := h.generation()
	h.drop(req)
	h.add(req, hotEntry{data: []byte("old")}, gen)
	if e, ok := h.get(req); ok {
		t.Errorf("%q is kept, though it was dropped while it was read", e.data)
	}
	h.add(req, hotEntry{data: []byte("new")}, h.generation())
	if e, ok := h.get(req); !ok || string(e.data) != "new" {
		t.Errorf("get = %q, %t; want what was read after the drop", e.data, ok)
	}
	h.add(req.With(goproxy.Info), hotEntry{data: make([]byte, maxHot+1)}, h.generation())
	if _, ok := h.get(req.With(goproxy.Info)); ok {
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
