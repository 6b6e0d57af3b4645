package store_test

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/store/storetest"
)

// figures are what a store of some size costs.
type figures struct {
	versions    int
	count       time.Duration // once
	start       time.Duration // the shortest of some
	heap        int64         // bytes, after a warm mix
	warm        time.Duration // of one Open from the disk, the shortest of some rounds
	openAllocs  float64
	startAllocs float64
	evict       time.Duration // of one version
	evictAllocs float64
}

const mix = 500 // requests of a warm mix, the same for each store

func measure(t testing.TB, versions int) (f figures) {
	f.versions = versions
	dir := t.TempDir()
	const each = 20
	modules := versions / each
	storetest.Generate(t, dir, modules, each)
	o := store.Options{HotBytes: -1, Reserve: -1, Quota: plenty}
	d := openDisk(t, dir, o)
	begin := time.Now()
	if err := d.Count(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	f.count = time.Since(begin)
	u := d.Usage()
	if !u.Known || u.Versions != int64(versions) || u.Bytes != int64(versions)*3*small {
		t.Fatalf("usage %+v of %d versions", u, versions)
	}
	d.Close()

	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	f.start = time.Hour
	open := func() {
		begin := time.Now()
		d, err := store.OpenDisk(dir, o)
		if err != nil || !d.Usage().Known {
			t.Fatal(err, d.Usage())
		}
		f.start = min(f.start, time.Since(begin))
		d.Close()
	}
	f.startAllocs = testing.AllocsPerRun(5, open)

	before := heap()
	d, err := store.OpenDisk(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	round := func() {
		for i := range mix {
			// Spread over the whole store, in as many modules of each: these are then used.
			b, err := d.Open(storetest.Generated(storetest.Kinds[i%3], i%10*modules/10, i/10%each))
			if err != nil {
				t.Fatal(err)
			}
			b.Close()
		}
	}
	f.warm = time.Hour
	f.openAllocs = testing.AllocsPerRun(10, func() {
		begin := time.Now()
		round()
		f.warm = min(f.warm, time.Since(begin)/mix)
	}) / mix
	f.heap = heap() - before

	d.Close()
	o.Quota = u.Bytes - small
	if d, err = store.OpenDisk(dir, o); err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	f.evict = time.Hour
	n := 0
	var m1, m2 runtime.MemStats
	runtime.ReadMemStats(&m1)
	begin = time.Now()
	for ; n < 20; n++ {
		if err := putVouched(d, "new.test/m", fmt.Sprintf("v1.%d.0", n)); err != nil {
			t.Fatal(err)
		}
	}
	f.evict = time.Since(begin) / time.Duration(n)
	runtime.ReadMemStats(&m2)
	f.evictAllocs = float64(m2.Mallocs-m1.Mallocs) / float64(n)
	if u := d.Usage(); u.Evicted == 0 || u.Bytes > u.Quota {
		t.Errorf("usage %+v after %d commits into a full store", u, n)
	}
	return f
}

// Of times only their order of magnitude is judged, since others use the machine;
// what does not depend on them is judged strictly. SLUICE_E2E_FULL=1 has a million
// versions, and judges the time to start.
func TestNothingGrowsWithTheStore(t *testing.T) {
	if testing.Short() {
		t.Skip("it makes a store of many files")
	}
	large := 30_000
	full := os.Getenv("SLUICE_E2E_FULL") == "1"
	if full {
		large = 1_000_000
	}
	a, b := measure(t, 1000), measure(t, large)
	for _, f := range []figures{a, b} {
		t.Logf("%8d versions: counted in %v, start %v (%.0f allocs), heap %d KiB, warm Open %v (%.1f allocs), commit that evicts %v (%.0f allocs)",
			f.versions, f.count.Round(time.Millisecond), f.start, f.startAllocs, f.heap>>10, f.warm, f.openAllocs, f.evict, f.evictAllocs)
	}
	t.Logf("ratios: start %.2f, heap %.2f, warm Open %.2f, eviction %.2f", float64(b.start)/float64(a.start), float64(b.heap)/float64(a.heap), float64(b.warm)/float64(a.warm), float64(b.evict)/float64(a.evict))
	const noise = 64 << 10
	if float64(b.heap) > 1.2*float64(a.heap)+noise {
		t.Errorf("the heap grows from %d to %d bytes", a.heap, b.heap)
	}
	for _, c := range []struct {
		what string
		a, b float64
	}{{"start", a.startAllocs, b.startAllocs}, {"Open", a.openAllocs, b.openAllocs}, {"eviction", a.evictAllocs, b.evictAllocs}} {
		if c.b > 1.3*c.a+20 {
			t.Errorf("%s makes %.0f allocations in the large store, %.0f in the small one", c.what, c.b, c.a)
		}
	}
	if full && b.start > time.Second {
		t.Errorf("a store of %d versions starts in %v", b.versions, b.start)
	}
}

// A module with many versions: what one more costs, and the list of all.
func BenchmarkAModuleOfManyVersions(b *testing.B) {
	for _, n := range []int{100, 20_000} {
		dir := b.TempDir()
		storetest.Generate(b, dir, 1, n)
		d := openDisk(b, dir, store.Options{Reserve: -1, Quota: plenty})
		if err := d.Count(b.Context(), 0); err != nil {
			b.Fatal(err)
		}
		next := 0
		b.Run(fmt.Sprintf("commit/%d", n), func(b *testing.B) {
			for b.Loop() {
				next++
				if err := putVouched(d, storetest.GeneratedModule(0), fmt.Sprintf("v1.5000.%d", next)); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("versions/%d", n), func(b *testing.B) {
			for b.Loop() {
				if list, err := d.Versions(storetest.GeneratedModule(0)); err != nil || len(list) != n+next {
					b.Fatal(len(list), err)
				}
			}
		})
		b.Run(fmt.Sprintf("open/%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := storetest.Get(d, storetest.Generated(goproxy.Mod, 0, n/2)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
