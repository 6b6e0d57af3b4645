//go:build linux

package main

import (
	"archive/zip"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/store"
)

// This file alone knows how internal/store lays files out: it writes them directly,
// since to commit a million versions would take hours. Whoever changes the layout
// changes it here; proveStore notices if it was forgotten.

// versionsEach is how many versions each module of a made-up store has.
const versionsEach = 20

// A storeGen writes made-up module versions into a store's directory.
type storeGen struct {
	dir    string
	time   time.Time               // of all versions
	shared bool                    // all zips have the same bytes, which makes a large store possible; no client would take them
	sums   map[module.Version]sums // of what was written, unless shared
	links  map[string]*linked      // content that many names share
	dirs   map[string]bool         // made already
	sample []goproxy.Request       // one of each kind, to be proven
}

// A linked is a file with many names. A file system allows a file so many.
type linked struct {
	name string
	n    int
}

const maxLinks = 60_000 // ext4 has 65,000

func newStoreGen(dir string, shared bool) *storeGen {
	return &storeGen{dir: dir, shared: shared, time: time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC),
		sums: map[module.Version]sums{}, links: map[string]*linked{}, dirs: map[string]bool{}}
}

func modPath(i int) string    { return fmt.Sprintf("bench.example/group%02d/module%06d", i%100, i) }
func modVersion(k int) string { return fmt.Sprintf("v1.%d.0", k) }
func infoText(vers string) []byte {
	return fmt.Appendf(nil, `{"Version":%q,"Time":"2025-06-01T12:00:00Z"}`, vers)
}

// modText is a go.mod of the usual size.
func modText(path string) []byte {
	b := fmt.Appendf(nil, "module %s\n\ngo 1.21\n\nrequire (\n", path)
	for i := range 12 {
		b = fmt.Appendf(b, "\tbench.example/required/by/everybody/number%02d v1.%d.0\n", i, i)
	}
	return append(b, ")\n"...)
}

// fill writes whole modules until there are n versions, or progress, which is called
// now and then unless it is nil, fails.
func (g *storeGen) fill(n int, progress func(done int) error) error {
	shared, sharedSums, err := moduleZip("bench.example/shared", "v1.0.0", modText("bench.example/shared"), 600)
	if err != nil {
		return err
	}
	for i := 0; i*versionsEach < n; i++ {
		path := modPath(i)
		mod := modText(path)
		var list []byte
		for k := range versionsEach {
			m := module.Version{Path: path, Version: modVersion(k)}
			data, s := shared, sharedSums
			if g.shared {
				s.mod, err = modSum(mod)
			} else if data, s, err = moduleZip(path, m.Version, mod, 600); err == nil {
				g.sums[m] = s
			}
			if err != nil {
				return err
			}
			if err := g.add(m, infoText(m.Version), mod, data, s); err != nil {
				return err
			}
			list = append(list, m.Version+"\n"...)
		}
		if err := g.write(goproxy.Request{Kind: goproxy.List, Module: module.Version{Path: path}}.Path(), list); err != nil {
			return err
		}
		if progress != nil && i%500 == 499 {
			if err := progress((i + 1) * versionsEach); err != nil {
				return err
			}
		}
	}
	return nil
}

// add writes one version: three files and their Records.
func (g *storeGen) add(m module.Version, info, mod, data []byte, s sums) error {
	for _, f := range []struct {
		kind goproxy.Kind
		data []byte
		h1   string
	}{{goproxy.Info, info, ""}, {goproxy.Mod, mod, s.mod}, {goproxy.Zip, data, s.zip}} {
		req := goproxy.Request{Kind: f.kind, Module: m}
		if err := g.put(req, f.data, f.h1); err != nil {
			return err
		}
		if len(g.sample) < 6 {
			g.sample = append(g.sample, req)
		}
	}
	return nil
}

// put writes an artifact and its Record.
func (g *storeGen) put(req goproxy.Request, data []byte, h1 string) error {
	sum := sha256.Sum256(data)
	r := store.Record{Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:]), H1: h1, Source: "bench", Time: g.time}
	if h1 != "" {
		r.Verified = dbName
	}
	rec, err := sealRecord(r)
	if err != nil {
		return err
	}
	name := req.Path()
	if err := g.write(name, data); err != nil {
		return err
	}
	return g.write(".sluice/sums/"+name+".json", rec)
}

// sealRecord is the form in which the store keeps a Record.
func sealRecord(r store.Record) ([]byte, error) {
	value, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(value)
	return fmt.Appendf(nil, "{\"value\":%s,\"check\":%q}\n", value, hex.EncodeToString(sum[:])), nil
}

// write makes a file, in a large store by another name for one of the same content.
func (g *storeGen) write(name string, data []byte) error {
	file := filepath.Join(g.dir, filepath.FromSlash(name))
	if dir := filepath.Dir(file); !g.dirs[dir] {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		g.dirs[dir] = true
	}
	if !g.shared {
		return os.WriteFile(file, data, 0o644)
	}
	if l := g.links[string(data)]; l != nil && l.n < maxLinks {
		err := os.Link(l.name, file)
		if err == nil {
			l.n++
			return nil
		}
		if !errors.Is(err, syscall.EMLINK) {
			return err
		}
	}
	g.links[string(data)] = &linked{file, 1}
	return os.WriteFile(file, data, 0o644)
}

// big adds a version whose zip has about size bytes that do not compress.
func (g *storeGen) big(path string, size int64) (module.Version, error) {
	m := module.Version{Path: path, Version: "v1.0.0"}
	mod := modText(path)
	data, s, err := moduleZip(path, m.Version, mod, size)
	if err != nil {
		return m, err
	}
	g.sums[m] = s
	if err := g.write(path+"/@v/list", []byte(m.Version+"\n")); err != nil {
		return m, err
	}
	return m, g.add(m, infoText(m.Version), mod, data, s)
}

// moduleZip makes a module zip of size bytes of payload, and its hashes.
func moduleZip(path, vers string, mod []byte, size int64) ([]byte, sums, error) {
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	prefix := path + "@" + vers + "/"
	for _, f := range []struct {
		name string
		data io.Reader
	}{
		{"go.mod", bytes.NewReader(mod)},
		{"payload.bin", io.LimitReader(rand.Reader, size)},
	} {
		w, err := z.CreateHeader(&zip.FileHeader{Name: prefix + f.name, Method: zip.Store})
		if err == nil {
			_, err = io.Copy(w, f.data)
		}
		if err != nil {
			return nil, sums{}, err
		}
	}
	if err := z.Close(); err != nil {
		return nil, sums{}, err
	}
	var s sums
	r, err := zip.NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		return nil, s, err
	}
	s.zip, err = dirhash.Hash1([]string{prefix + "go.mod", prefix + "payload.bin"}, func(name string) (io.ReadCloser, error) { return r.Open(name) })
	if err == nil {
		s.mod, err = modSum(mod)
	}
	return buf.Bytes(), s, err
}

func modSum(mod []byte) (string, error) {
	return dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(mod)), nil })
}

// proveStore opens a few of what was written by the store's own rules.
func (g *storeGen) proveStore() error {
	d, err := store.OpenDisk(g.dir, store.Options{})
	if err != nil {
		return err
	}
	defer d.Close()
	for _, req := range g.sample {
		if err := d.Check(req); err != nil {
			return fmt.Errorf("the store does not take what bench/storegen.go writes, whose layout must follow internal/store: %w", err)
		}
	}
	list, err := d.Versions(modPath(0))
	if err != nil || len(g.sample) > 0 && len(list) != versionsEach {
		return fmt.Errorf("the store lists %d of %d versions of what bench/storegen.go wrote, whose layout must follow internal/store (%v)", len(list), versionsEach, err)
	}
	return nil
}
