package upstream_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/upstream"
)

func TestAPartIsWhatStandsThereOrSaysThatThereAreNoParts(t *testing.T) {
	w := modtest.New(t)
	mod := w.Big("example.com/big", "v1.0.0", 100<<10)
	zip := goproxy.Request{Kind: goproxy.Zip, Module: mod}
	whole := w.Zip(mod)
	source := func(h http.Handler) *upstream.HTTPSource {
		n := upstream.NewNet(upstream.NetConfig{})
		t.Cleanup(n.Close)
		return upstream.NewHTTPSource(n, parse(t, modtest.Serve(t, h).URL))
	}
	p, err := source(w.Handler()).Part(t.Context(), zip, 1000, 50)
	if err != nil || !p.Ranged || p.Size != int64(len(whole)) || !bytes.Equal(p.Data, whole[1000:1050]) {
		t.Errorf("%+v, %v", p, err)
	}
	p, err = source(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		w.Handler().ServeHTTP(rw, r)
	})).Part(t.Context(), zip, 1000, 50)
	if err != nil || p.Ranged || len(p.Data) > 0 || p.Size != int64(len(whole)) {
		t.Errorf("%+v, %v", p, err)
	}
	_, err = source(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Range", "bytes 0-49/*")
		rw.WriteHeader(http.StatusPartialContent)
		rw.Write(whole[:50])
	})).Part(t.Context(), zip, 1000, 50)
	if err == nil || !strings.Contains(err.Error(), `asked for bytes 1000 to 1049, it answered with "bytes 0-49/*"`) {
		t.Error(err)
	}
	if _, err = source(w.Handler()).Part(t.Context(), zip.With(goproxy.Zip), int64(len(whole)), 1); err == nil {
		t.Error("a part behind the end")
	}
}

func TestAMeasuredZipThatBreaksOffStaysBrokenOff(t *testing.T) {
	w := modtest.New(t)
	zip := goproxy.Request{Kind: goproxy.Zip, Module: w.Big("example.com/big", "v1.0.0", 100<<10)}
	f, err := faults.Parse("cut-first") // a second request for the rest would be well served
	if err != nil {
		t.Fatal(err)
	}
	var asked modtest.Requests
	n := upstream.NewNet(upstream.NetConfig{})
	t.Cleanup(n.Close)
	src := upstream.NewHTTPSource(n, parse(t, modtest.Serve(t, asked.Count(faults.Handler(w.Handler(), faults.Always(f)))).URL))
	a, err := src.Once(t.Context(), zip)
	if err == nil {
		_, err = io.ReadAll(a.Body)
		a.Body.Close()
	}
	if err == nil || len(asked.Log()) != 1 {
		t.Errorf("%v, after %v", err, asked.Log())
	}
	if _, err := src.Once(t.Context(), goproxy.Request{Kind: goproxy.Zip, Module: module.Version{Path: "example.com/none", Version: "v1.0.0"}}); err == nil {
		t.Error("no error for what is not there")
	}
}
