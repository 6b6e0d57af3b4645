//go:build linux

package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/dirhash"
)

// reverseVar makes this program a reverse proxy: the address, the URL of the
// source and "hash" or nothing, separated by "|".
const reverseVar = "SLUICE_BENCH_REVERSE"

// startReverse starts the standard library's reverse proxy, which keeps nothing,
// knows nothing and verifies nothing: what a proxy costs that does no work at all.
// One that hashes also does what it takes to check a zip before its last block goes
// out: it keeps the zip in a file and takes its hash with x/mod's code.
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
			resp.Body = &hashed{resp.Body, file, resp.ContentLength}
			return nil
		}
	}
	return http.ListenAndServe(addr, p)
}

// hashed is the body of a zip, whose last block comes when its hash has been taken.
type hashed struct {
	io.ReadCloser
	file *os.File
	left int64 // bytes that are still to come
}

func (h *hashed) Read(p []byte) (int, error) {
	n, err := h.ReadCloser.Read(p)
	if _, werr := h.file.Write(p[:n]); werr != nil {
		return 0, werr
	}
	if h.left -= int64(n); h.left == 0 && n > 0 {
		if _, herr := dirhash.HashZip(h.file.Name(), dirhash.Hash1); herr != nil {
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
