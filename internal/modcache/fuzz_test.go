package modcache

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/modsluice/sluice/internal/modtest"
)

func FuzzReadZip(f *testing.F) {
	m := module.Version{Path: "one.test/m", Version: "v1.0.0"}
	w := modtest.New(f)
	w.Add(m.Path, m.Version, modtest.Files{"go.mod": "module one.test/m\n", "a/b.go": "package b\n"})
	f.Add(w.Zip(m))
	f.Add([]byte("PK\x05\x06" + strings.Repeat("\x00", 18)))
	name := filepath.Join(f.TempDir(), "f.zip")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(name, data, 0o666); err != nil {
			t.Fatal(err)
		}
		c, err := readZip(context.Background(), name, m)
		if err != nil {
			return
		}
		if h1, err := dirhash.HashZip(name, dirhash.Hash1); err != nil || h1 != c.h1 {
			t.Fatalf("it is %s here, and %s, %v for the go command", c.h1, h1, err)
		}
	})
}

func FuzzSumFiles(f *testing.F) {
	f.Add("one.test/m@v1.0.0", []byte("3\none.test/m v1.0.0 h1:"+strings.Repeat("A", 43)+"=\n\ngo.sum database tree\n4\n"+strings.Repeat("A", 43)+"=\n\n"))
	f.Add("tile/8/0/000.p/2", []byte(strings.Repeat("x", 64)))
	f.Add("tile/8/1/x001/000", []byte{})
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		if tile, hashes, err := parseTile(name, data); err == nil && (tile.Path() != name || len(hashes)*tlog.HashSize != len(data)) {
			t.Fatalf("%q with %d bytes is taken for %v with %d hashes", name, len(data), tile, len(hashes))
		}
		if r, err := parseRecord(name, data); err == nil && len(r.sums) == 0 {
			t.Fatalf("%q says nothing", data)
		}
	})
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"v1.0.0.zip123.tmp", "v1.0.0.info.tmp", "!upper", "Upper", "!!", "a!", "m@v1.0.0", "lookup/a/lookup/b", "x/tile/8/0/000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if esc, err := module.EscapePath(s); err == nil && !strings.Contains(esc, "/") && foreign(esc) {
			t.Fatalf("%q is the escaped form of %q, and is held for none", esc, s)
		}
		if kind, ok := tmpOf(s, "v1.0.0"); ok && !strings.HasPrefix(s, "v1.0.0."+kind) {
			t.Fatalf("%q is taken for a temporary %s", s, kind)
		}
		if db, what, ok := sumPath(s); ok && strings.Trim(db+"/"+what, "/") != strings.Trim(s, "/") {
			t.Fatalf("%q is split into %q and %q", s, db, what)
		}
	})
}
