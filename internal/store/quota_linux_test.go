package store_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/store/storetest"
)

func TestAReadOnlyStoreWithAQuotaIsServed(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, store.Options{})
	mustPut(t, d, modPath, "v1.0.0", "v1.1.0")
	d.Close()
	if os.Geteuid() == 0 {
		dir = readOnly(t, dir)
	} else if err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			t.Cleanup(func() { os.Chmod(name, 0o777) })
			err = os.Chmod(name, 0o555)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	d, err := store.OpenDisk(dir, store.Options{Quota: small, HotBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d.Run(ctx)
	for _, v := range []string{"v1.0.0", "v1.1.0"} {
		req := storetest.Req(goproxy.Zip, modPath, v)
		storetest.Has(t, d, req, "content of "+req.String())
	}
	isAccounted(t, d, dir)
	if err := putVouched(d, modPath, "v1.2.0"); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("Commit = %v; want ErrReadOnly", err)
	}
	if err := d.Count(t.Context(), 0); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("Count = %v; want ErrReadOnly", err)
	}
}

func TestAFullDiskLeavesTheAccountRight(t *testing.T) {
	dir := t.TempDir()
	mount(t, "tmpfs", dir, "tmpfs", 0, "size=1m")
	d := openDisk(t, dir, store.Options{Reserve: -1, Quota: plenty, HotBytes: -1})
	put := func(path string, i int) (err error) {
		for _, k := range storetest.Kinds {
			data := strings.Repeat("x", 20<<10)
			if err == nil {
				_, err = storetest.Commit(d, storetest.Req(k, path, fmt.Sprintf("v1.%d.0", i)), data, vouched(k, data))
			}
		}
		return err
	}
	var full error
	for i := 0; full == nil; i++ {
		full = put(modPath, i)
	}
	if !errors.Is(full, store.ErrNoSpace) {
		t.Fatalf("Commit = %v; want ErrNoSpace", full)
	}
	isAccounted(t, d, dir)
	d.Close()
	// A quota makes the room that the disk lacks, though there is none for a note.
	d = openDisk(t, dir, store.Options{Reserve: -1, Quota: 400 << 10, HotBytes: -1})
	runUntil(t, d, func() bool { return d.Usage().Bytes <= 400<<10 })
	isAccounted(t, d, dir)
	stored(t, d, dir, modPath)
	for i := range 20 {
		if err := put("a.test/new", i); err != nil {
			t.Errorf("Commit with a quota of less than the disk: %v", err)
		}
	}
	isAccounted(t, d, dir)
}
