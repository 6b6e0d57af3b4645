package store_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"sync"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/store"
)

func TestWhatComesEarlyIsPartOfAnArtifactOnlyOnceItIsWritten(t *testing.T) {
	const part = 4 << 10
	d := openDisk(t, t.TempDir(), store.Options{})
	req := goproxy.Request{Kind: goproxy.Zip, Module: module.Version{Path: modPath, Version: "v1.0.0"}}
	data := bytes.Repeat([]byte("0123456789abcdef"), part)
	p, err := d.Create(req)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Abort()
	early := p.(store.Early)
	var wg sync.WaitGroup
	for off := part; off < len(data); off += part {
		wg.Go(func() {
			if _, err := early.WriteAt(data[off:off+part], int64(off)); err != nil {
				t.Error(err)
			}
		})
	}
	if _, err := p.Write(data[:part]); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if _, err := early.WriteAt([]byte("past the end"), int64(len(data))); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data[:part])
	if n, s := p.Size(), p.Sum(); n != part || s != hex.EncodeToString(sum[:]) {
		t.Errorf("%d bytes, %s, where %d were written", n, s, part)
	}
	rest := make([]byte, len(data)-part)
	if _, err := p.ReadAt(rest, part); err != nil || !bytes.Equal(rest, data[part:]) {
		t.Errorf("what came early is read back otherwise: %v", err)
	}
	if _, err := p.Write(rest); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Commit(store.Record{H1: "h1:a"}); err != nil {
		t.Fatal(err)
	}
	b, err := d.Open(req)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if is, err := io.ReadAll(b.Content); err != nil || !bytes.Equal(is, data) {
		t.Errorf("stored: %d bytes, %v", len(is), err)
	}
	if err := d.Check(req); err != nil {
		t.Error(err)
	}
}
