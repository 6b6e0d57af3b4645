package mirror_test

import (
	"io"
	"runtime"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"github.com/modsluice/sluice/internal/mirror"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/upstream"
)

// maxGrowth is how much the heap may grow while many clients fetch one large zip.
const maxGrowth = 64 << 20

// crowd lets clients fetch one cold zip at once, and gives the most by which the
// heap grew meanwhile, in bytes.
func crowd(t *testing.T, size int64, clients int) int64 {
	w := modtest.New(t)
	m := w.Big("crowd.test/m", "v1.0.0", size)
	truth, whole := w.ZipReader(m)
	truth.Close()
	r := newRig(t, parts{sources: []upstream.Source{serve(t, w.Handler())}, sums: sumsOf(t, w.SumDB("sumdb.test"), nil), store: openDisk(t, t.TempDir())})
	heap := func() int64 {
		s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(s)
		return int64(s[0].Value.Uint64())
	}
	runtime.GC()
	before, most := heap(), int64(0)
	done := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			most = max(most, heap()-before)
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	}()
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			res, err := r.Get(t.Context(), zipOf(m), mirror.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Close()
			if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{body(res)}, make([]byte, 64<<10)); err != nil || n != whole {
				t.Error(n, err)
			}
		})
	}
	wg.Wait()
	close(done)
	<-watched
	r.Settle()
	if n := w.Hits(zipOf(m).Path()); n != 1 {
		t.Errorf("the source was asked %d times", n)
	}
	r.Close()
	return most
}

func TestACrowdDoesNotTakeMemoryForALargeZip(t *testing.T) {
	if testing.Short() {
		t.Skip("skipped: gigabytes go through")
	}
	size := int64(300 << 20)
	if raced {
		size = 2 * maxGrowth // kept once, it would be too much
	}
	grown := crowd(t, size, 50)
	t.Logf("the heap grew by up to %d MiB", grown>>20)
	if grown > maxGrowth {
		t.Errorf("the heap grew by %d bytes; want at most %d", grown, maxGrowth)
	}
}
