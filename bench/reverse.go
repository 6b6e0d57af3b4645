//go:build linux

package main

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/modsluice/sluice/internal/inflate"
)

// reverseVar makes this program a reverse proxy: the address, the URL of the
// source and "hash" or nothing, separated by "|".
const reverseVar = "SLUICE_BENCH_REVERSE"

// startReverse starts the standard library's reverse proxy, which keeps nothing,
// knows nothing and verifies nothing: what a proxy costs that does no work at all.
// One that hashes also does what it takes to check a zip before its last block goes
// out: it keeps the zip in a file and takes its hash, with Sluice's decompressor.
func (l *lab) startReverse(ctx context.Context, sourceURL string, hash bool) (*process, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	name, further := "reverse", ""
	if hash {
		name, further = "hashing", "hash"
	}
	return l.startRole(ctx, name, reverseVar, "/", addr, sourceURL, further)
}

// serveReverse is that proxy.
func serveReverse(addr, sourceURL, further string) error {
	source, err := url.Parse(sourceURL)
	if err != nil {
		return err
	}
	p := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(source) },
		// As many connections as there are workers of the go command stay open.
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
	}
	if further != "" {
		p.ModifyResponse = func(resp *http.Response) error {
			if resp.StatusCode != http.StatusOK || !strings.HasSuffix(resp.Request.URL.Path, ".zip") {
				return nil
			}
			file, err := os.CreateTemp("", "zip-*")
			if err != nil {
				return err
			}
			resp.Body = &hashed{ReadCloser: resp.Body, file: file, left: resp.ContentLength}
			return nil
		}
	}
	return http.ListenAndServe(addr, p)
}

// hashed is the body of a zip, whose last block comes when its hash has been taken.
type hashed struct {
	io.ReadCloser
	file *os.File
	size int64 // of what has come
	left int64 // bytes that are still to come
}

func (h *hashed) Read(p []byte) (int, error) {
	n, err := h.ReadCloser.Read(p)
	if _, werr := h.file.Write(p[:n]); werr != nil {
		return 0, werr
	}
	h.size += int64(n)
	if h.left -= int64(n); h.left == 0 && n > 0 {
		if _, herr := hashZip(h.file, h.size); herr != nil {
			return 0, herr
		}
	}
	return n, err
}

func (h *hashed) Close() error {
	h.file.Close()
	os.Remove(h.file.Name())
	return h.ReadCloser.Close()
}

var decoders = sync.Pool{New: func() any { return new(inflate.Decoder) }}

// hashZip is dirhash.HashZip with Sluice's decompressor: the least that it takes to
// know what is in a zip.
func hashZip(r io.ReaderAt, size int64) (string, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return "", err
	}
	d := decoders.Get().(*inflate.Decoder)
	defer decoders.Put(d)
	slices.SortFunc(z.File, func(a, b *zip.File) int { return strings.Compare(a.Name, b.Name) })
	all, one := sha256.New(), sha256.New()
	for _, f := range z.File {
		at, err := f.DataOffset()
		if err != nil {
			return "", err
		}
		packed := io.NewSectionReader(r, at, int64(f.CompressedSize64))
		one.Reset()
		if f.Method == zip.Deflate {
			_, err = d.Copy(one, packed)
		} else {
			_, err = io.Copy(one, packed)
		}
		if err != nil {
			return "", err
		}
		fmt.Fprintf(all, "%x  %s\n", one.Sum(nil), f.Name)
	}
	return "h1:" + base64.StdEncoding.EncodeToString(all.Sum(nil)), nil
}
