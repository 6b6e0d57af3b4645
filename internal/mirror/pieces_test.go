package mirror_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/upstream"
)

// Every answer of the source comes at 2 MB/s, so that one connection would take 24 s.
func TestAThrottledZipComesInPiecesToManyClientsAndTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := modtest.New(t)
		m := w.Big("big.test/m", "v1.0.0", 48<<20)
		truth := w.Zip(m)
		drip, err := faults.Parse("zip:drip=2000000")
		if err != nil {
			t.Fatal(err)
		}
		pipe := modtest.Pipe(t, faults.Handler(w.Handler(), faults.Always(drip)))
		n := upstream.NewNet(upstream.NetConfig{Pieces: 4, Wrap: func(string, http.RoundTripper) http.RoundTripper { return pipe }})
		t.Cleanup(n.Close)
		src := upstream.NewHTTPSource(n, &url.URL{Scheme: "http", Host: "a.test"})
		r := newRig(t, parts{sources: []upstream.Source{src}, sums: sumsOf(t, w.SumDB("sumdb.test"), nil), store: openDisk(t, t.TempDir())})
		r.chain.Health = upstream.NewHealth(upstream.HealthConfig{Heartbeat: -1})
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				res, err := r.Get(t.Context(), zipOf(m), mirror.Options{})
				if err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
				defer res.Close()
				if i == 2 { // one that leaves stops nobody
					io.CopyN(io.Discard, body(res), 20<<20)
					return
				}
				left := same(truth)
				if _, err := io.CopyBuffer(&left, struct{ io.Reader }{body(res)}, make([]byte, 64<<10)); err != nil || len(left) > 0 {
					t.Errorf("client %d: %v, %d bytes short", i, err, len(left))
				}
			})
		}
		wg.Wait()
		took := time.Since(start) // of the bubble's own clock
		r.Settle()
		r.want(zipOf(m), truth)
		r.wantStored(zipOf(m), true)
		if kept := r.count("sluice_zip_connections_total", "kept"); kept < 2 || took > 16*time.Second {
			t.Errorf("%v further connections, and it took %v", kept, took)
		}
		if n := r.count("sluice_zip_pieces_bytes_total"); n < float64(len(truth))/3 || n > float64(len(truth)) {
			t.Errorf("%v of %d bytes came in pieces", n, len(truth))
		}
		if log := fmt.Sprint(r.log); strings.Count(log, "large zip over several connections") != 1 {
			t.Errorf("the log: %s", log)
		}
	})
}
