package bench

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/mod/sumdb/dirhash"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/upstream"
)

// scratchMemory is how many bytes of one zip are held in memory where no temporary file
// takes them.
const scratchMemory = 1 << 20

// A kept zip is one that came: of ten mirrors at once, zips of thirty megabytes each would
// fill the memory of a small machine, so they lie in temporary files. Its Write never
// fails: a zip that cannot be kept is measured all the same.
type kept struct {
	p   store.Pending // nil: it can be kept nowhere
	err error         // why not all of it was kept
}

func (r *run) keep() *kept {
	k := &kept{}
	k.p, k.err = store.Scratch(r.Scratch, scratchMemory)
	return k
}

func (k *kept) Write(b []byte) (int, error) {
	if k.err == nil {
		_, k.err = k.p.Write(b)
	}
	return len(b), nil
}

func (k *kept) drop() {
	if k.p != nil {
		k.p.Abort()
	}
}

// zip asks for the zip of the i'th module of the sample, if that is fetched.
func (r *run) zip(ctx context.Context, s *subject, i int, counts bool) {
	m, top := r.sample[i], i == r.top
	if m.Zip != Yes {
		return
	}
	if m.Bytes > r.Bytes-s.bytes {
		s.stop("its budget of bytes is spent")
		return
	}
	req := goproxy.Request{Kind: goproxy.Zip, Module: m.mod()}
	k := r.keep()
	defer k.drop()
	a, err := r.get(ctx, s, req, max(r.Answer, r.Time/time.Duration(r.Rounds+1)), nil, counts, k)
	if top && m.Bytes >= largeZip && a.size >= largeZip && (err == nil || a.cut) {
		f := s.figures(counts)
		f.throughput = append(f.throughput, float64(a.size)/1e6/max(a.whole, time.Millisecond).Seconds()) // clocks have steps
	}
	if err != nil {
		return
	}
	if k.err != nil {
		s.came(req)
		s.unkept(k.err)
		return
	}
	h1, err := r.hash(k)
	switch {
	case err == nil:
		s.came(req)
		s.saw(fileOf(req), h1)
	case a.size == 0:
		s.wrong(req, errEmpty, counts)
		return
	case looksLikePage(k.p):
		s.wrong(req, errors.New("an HTML page came in place of the zip"), counts)
		return
	case a.told: // all came that was to come, so these are the bytes that it has
		s.came(req)
		s.saw(fileOf(req), "no zip: "+finding.OneLine(err.Error(), 120))
		return
	default:
		s.fail(req, &upstream.Error{Source: s.Source.Name(), Stage: upstream.StageBody, Err: fmt.Errorf("the zip is damaged, and nothing said where it ends: %w", err)}, counts)
		return
	}
	if top && s.parts == Untold {
		r.partsOf(ctx, s, req, k)
	}
}

// unkept says once that zips were not checked.
func (s *subject) unkept(err error) {
	if !s.unchecked {
		s.unchecked = true
		s.why = append(s.why, finding.OneLine("the bytes of its large zips were not checked, since there is no room for them here: "+err.Error(), 300))
	}
}

type hashed struct {
	h1  string
	err error
}

// hash is the h1 of a zip. Equal ones are read once, and one is read at a time, since its
// directory may be large.
func (r *run) hash(k *kept) (string, error) {
	r.reading <- struct{}{}
	defer func() { <-r.reading }()
	h, ok := r.sums[k.p.Sum()]
	if !ok {
		h.h1, h.err = hashZip(k.p, k.p.Size())
		r.sums[k.p.Sum()] = h
	}
	return h.h1, h.err
}

// hashZip reads all members of a zip, which checks their CRCs. A module's zip holds
// 500 MiB at most, and what a mirror sends may say anything.
func hashZip(r io.ReaderAt, size int64) (string, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return "", err
	}
	var names []string
	files := map[string]*zip.File{}
	left := int64(goproxy.MaxZip)
	for _, f := range z.File {
		names = append(names, f.Name)
		files[f.Name] = f
		if left -= int64(min(f.UncompressedSize64, goproxy.MaxZip+1)); left < 0 {
			return "", errors.New("its contents are larger than those of any module")
		}
	}
	return dirhash.Hash1(names, func(name string) (io.ReadCloser, error) { return files[name].Open() })
}

func looksLikePage(r io.ReaderAt) bool {
	head := make([]byte, 512)
	n, _ := r.ReadAt(head, 0)
	return bytes.HasPrefix(bytes.TrimSpace(head[:n]), []byte("<"))
}
