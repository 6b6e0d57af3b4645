//go:build linux

package main

import (
	"archive/zip"
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/dirhash"
)

// The proxies that stand for the least cost hand on what the source has, and the
// one that hashes really opens the zips: it cannot finish one that is none.
func TestAReverseProxyHandsOnAndTheHashingOneOpensZips(t *testing.T) {
	l, err := newLab(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	tree := filepath.Join(l.dir, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	var good bytes.Buffer
	z := zip.NewWriter(&good)
	w, err := z.Create("example.com/m@v1.0.0/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "module example.com/m\n")
	if w, err = z.CreateHeader(&zip.FileHeader{Name: "example.com/m@v1.0.0/a", Method: zip.Store}); err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "stored")
	z.Close()
	bad := bytes.Repeat([]byte("no zip "), 100_000)
	for name, data := range map[string][]byte{"good.zip": good.Bytes(), "bad.zip": bad} {
		if err := os.WriteFile(filepath.Join(tree, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := dirhash.HashZip(filepath.Join(tree, "good.zip"), dirhash.Hash1)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := hashZip(bytes.NewReader(good.Bytes()), int64(good.Len())); got != want || err != nil {
		t.Errorf("the hash is %s, %v; x/mod says %s", got, err, want)
	}
	src, err := newSource(tree, http.NotFoundHandler())
	if err != nil {
		t.Fatal(err)
	}
	defer src.close()
	for _, hash := range []bool{false, true} {
		p, err := l.startReverse(t.Context(), "http://"+src.addr(), hash)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string][]byte{"good.zip": good.Bytes(), "bad.zip": bad} {
			resp, err := http.Get(p.url + "/" + name)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if whole := err == nil && bytes.Equal(got, want); whole == (hash && name == "bad.zip") {
				t.Errorf("hashing %v: %s: %s, %d bytes of %d, %v", hash, name, resp.Status, len(got), len(want), err)
			}
		}
		p.stop()
	}
}
