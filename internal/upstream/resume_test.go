package upstream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/upstream"
)

var bigZip = goproxy.Request{Kind: goproxy.Zip, Module: module.Version{Path: "big.test/m", Version: "v1.0.0"}}

// A cutter serves one file over connections that break after some bytes.
type cutter struct {
	data  []byte
	every int64
	etag  func(n int) string // of the n'th request
	spoil func(w http.ResponseWriter, r *http.Request) bool

	n     atomic.Int64
	bytes atomic.Int64
}

// limited lets so many bytes through and then breaks the connection.
type limited struct {
	http.ResponseWriter
	left int64
	c    *cutter
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(int64(len(p)), l.left)
	l.ResponseWriter.Write(p[:n])
	l.c.bytes.Add(n)
	if l.left -= n; l.left == 0 {
		http.NewResponseController(l.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return int(n), nil
}

func (c *cutter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := c.n.Add(1)
	if c.etag != nil {
		w.Header().Set("ETag", c.etag(int(n)))
	}
	if c.spoil != nil && c.spoil(w, r) {
		return
	}
	http.ServeContent(&limited{w, c.every, c}, r, "", time.Time{}, bytes.NewReader(c.data))
}

func (c *cutter) fetch(t *testing.T) ([]byte, error) {
	s := serve(t, c.ServeHTTP)
	src := upstream.NewHTTPSource(newNet(t, upstream.NetConfig{}), parse(t, s.URL))
	a, err := src.Get(t.Context(), bigZip)
	if err != nil {
		return nil, err
	}
	defer a.Body.Close()
	return io.ReadAll(a.Body)
}

// pattern is n bytes, of which each 2 KiB are alike. Nobody may change them: there is
// one copy for all tests.
func pattern(n int) []byte { return patterned()[:n] }

var patterned = sync.OnceValue(func() []byte {
	const period = 2048
	b := make([]byte, 160<<20)
	for i := range period {
		b[i] = byte(i * 7 >> 3)
	}
	for done := period; done < len(b); done *= 2 {
		copy(b[done:], b[:done])
	}
	return b
})

func TestAZipWhoseConnectionIsCutGoesOnWhereItBrokeOff(t *testing.T) {
	c := &cutter{data: pattern(20 << 20), every: 2 << 20, etag: func(int) string { return `"one"` }}
	data, err := c.fetch(t)
	if err != nil || !bytes.Equal(data, c.data) {
		t.Fatalf("%d bytes, %v", len(data), err)
	}
	if twice := c.bytes.Load() - int64(len(c.data)); twice*20 > int64(len(c.data)) {
		t.Errorf("%d bytes came twice", twice)
	}
	if n := c.n.Load(); n < 10 || n > 11 {
		t.Errorf("%d requests", n)
	}
}

func TestWhatCannotBeGoneOnWithIsAFailure(t *testing.T) {
	whole := func(w http.ResponseWriter, r *http.Request) { // as a server that knows no ranges
		w.Header().Set("Content-Length", strconv.Itoa(1<<20))
		w.Write(pattern(1 << 19))
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	partial := func(contentRange string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Range") == "" {
				return false
			}
			w.Header().Set("Content-Range", contentRange)
			w.WriteHeader(206)
			w.Write(pattern(100))
			return true
		}
	}
	for name, c := range map[string]*cutter{
		"no ranges":     {spoil: func(w http.ResponseWriter, r *http.Request) bool { whole(w, r); return true }},
		"other file":    {etag: func(n int) string { return fmt.Sprintf(`"%d"`, n) }},
		"other start":   {spoil: partial("bytes 0-99/1048576")},
		"other size":    {spoil: partial("bytes 524288-1048575/1048577")},
		"no range said": {spoil: partial("")},
		"nonsense":      {spoil: partial("bytes 9-1/x")},
		"gone by now": {spoil: func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Range") != "" {
				http.Error(w, "gone", 404)
				return true
			}
			return false
		}},
		"a byte each": {every: 1},
	} {
		t.Run(name, func(t *testing.T) {
			c.data = pattern(1 << 20)
			if c.every == 0 {
				c.every = 1 << 19
			}
			data, err := c.fetch(t)
			e, ok := errors.AsType[*upstream.Error](err)
			if !ok || e.Stage != upstream.StageBody || int64(len(data)) > 4*c.every {
				t.Errorf("%d bytes, %v", len(data), err)
			}
			if n := c.n.Load(); n > 4 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

func TestARangeIsAskedForWithAStrongValidatorAlone(t *testing.T) {
	for etag, want := range map[string]string{`"strong"`: `"strong"`, `W/"weak"`: ""} {
		got := "none"
		c := &cutter{data: pattern(1 << 20), every: 1 << 19, etag: func(int) string { return etag }}
		c.spoil = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Range") != "" {
				got = r.Header.Get("If-Range")
			}
			return false
		}
		if data, err := c.fetch(t); err != nil || !bytes.Equal(data, c.data) || got != want {
			t.Errorf("%s: If-Range %q, %d bytes, %v", etag, got, len(data), err)
		}
	}
}

func TestAResumeThatLiesIsNotHeldAgainstTheSource(t *testing.T) {
	lying := &cutter{data: pattern(1 << 20), every: 1 << 19}
	lying.spoil = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasPrefix(r.Header.Get("Range"), "bytes=524288-") {
			return false
		}
		w.Header().Set("Content-Range", "bytes 524288-1048575/1048576")
		w.WriteHeader(206)
		w.Write(make([]byte, 1<<19))
		return true
	}
	good := &cutter{data: pattern(1 << 20), every: 1 << 21}
	c := upstream.Chain{Health: upstream.NewHealth(upstream.HealthConfig{})}
	var names []string
	for i, h := range []*cutter{lying, good} {
		src := upstream.NewHTTPSource(newNet(t, upstream.NetConfig{}), parse(t, serve(t, h.ServeHTTP).URL))
		names = append(names, src.Name())
		c.Links = append(c.Links, upstream.Link{Source: src, FallBack: i == 0})
	}
	by := ""
	_, err := c.Fetch(t.Context(), bigZip, func(_ context.Context, src upstream.Source, a *upstream.Answer) error {
		data, err := io.ReadAll(a.Body)
		if by = src.Name(); err == nil && !bytes.Equal(data, good.data) {
			err = lie{errors.New("wrong hash")}
		}
		return err
	})
	if err != nil || by != names[1] || len(c.Health.Report(names[0]).Lies) > 0 {
		t.Errorf("from %s: %v; %+v", by, err, c.Health.Report(names[0]))
	}
}

func TestASourceThatIsGoneMidwayIsNotCalledForEver(t *testing.T) {
	c := &cutter{data: pattern(1 << 20), every: 1 << 19}
	s := serve(t, c.ServeHTTP)
	src := upstream.NewHTTPSource(newNet(t, upstream.NetConfig{}), parse(t, s.URL))
	a, err := src.Get(t.Context(), bigZip)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	if _, err := io.ReadFull(a.Body, make([]byte, 1<<10)); err != nil {
		t.Fatal(err)
	}
	s.Stop() // refuses connections from now on
	if n, err := io.Copy(io.Discard, a.Body); err == nil || n >= 1<<19 {
		t.Errorf("%d more bytes came from a source that was gone, %v", n, err)
	}
	if n := c.n.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
}
