package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/store/storetest"
)

// small is what an artifact of up to 4 KiB counts for, its record included.
const small = 8 << 10

// plenty is a quota that no test reaches.
const plenty = 1 << 40

func TestDiskWithAQuotaKeepsThePromise(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		dir := t.TempDir()
		d := openDisk(t, dir, store.Options{Quota: plenty})
		t.Cleanup(func() { isAccounted(t, d, dir) })
		return d
	})
}

// onDisk is what a look at the whole directory finds: versions of which
// anything is stored, and what that counts for.
func onDisk(t testing.TB, dir string) (bytes, versions int64) {
	t.Helper()
	seen := map[string]bool{}
	for _, name := range names(t, dir) {
		artifact, ok := strings.CutPrefix(strings.TrimSuffix(name, ".json"), ".sluice/sums/")
		if !ok || strings.HasPrefix(artifact, "sumdb/") {
			continue
		}
		fi, err := os.Stat(filepath.Join(dir, artifact))
		if err != nil {
			continue // a pin
		}
		bytes += (fi.Size()+4095)/4096*4096 + 4096
		seen[strings.TrimSuffix(artifact, filepath.Ext(artifact))] = true
	}
	return bytes, int64(len(seen))
}

// isAccounted fails the test unless the store knows what it holds.
func isAccounted(t testing.TB, d *store.Disk, dir string) {
	t.Helper()
	bytes, versions := onDisk(t, dir)
	if u := d.Usage(); !u.Known || u.Bytes != bytes || u.Versions != versions {
		t.Errorf("the usage is %+v; there are %d bytes of %d versions", u, bytes, versions)
	}
}

// vouched is the Record to commit data with as something that may be evicted.
func vouched(kind goproxy.Kind, data string) store.Record {
	rec := storetest.RecordOf(kind, data)
	if kind != goproxy.Info {
		rec.Verified = "sum.test"
	}
	return rec
}

// putVouched commits the three files of a version, which then counts for 3*small.
func putVouched(d *store.Disk, path, version string) error {
	for _, k := range storetest.Kinds {
		req := storetest.Req(k, path, version)
		data := "content of " + req.String()
		if _, err := storetest.Commit(d, req, data, vouched(k, data)); err != nil {
			return fmt.Errorf("%s: %w", req, err)
		}
	}
	return nil
}

func mustPut(t testing.TB, d *store.Disk, path string, versions ...string) {
	t.Helper()
	for _, v := range versions {
		if err := putVouched(d, path, v); err != nil {
			t.Fatal(err)
		}
	}
}

// stored lists the versions of which the zip is there, and fails the test if one
// lacks the rest, or the list is not that of those of which all is there.
func stored(t testing.TB, d *store.Disk, dir, path string) (list []string) {
	t.Helper()
	have := map[string]int{}
	err := d.Walk(t.Context(), func(req goproxy.Request, err error) error {
		if req.Module.Path == path {
			have[req.Module.Version] |= 1 << req.Kind
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for v, kinds := range have {
		if kinds&(1<<goproxy.Zip) != 0 {
			list = append(list, v)
			if kinds != 1<<goproxy.Info|1<<goproxy.Mod|1<<goproxy.Zip {
				t.Errorf("of %s@%s the zip is there without the rest", path, v)
			}
		}
	}
	goproxy.SortVersions(list)
	name := filepath.Join(filepath.Dir(file(dir, storetest.Req(goproxy.Zip, path, "v1.0.0"))), "list")
	got, err := os.ReadFile(name)
	if err != nil && (!errors.Is(err, fs.ErrNotExist) || len(list) > 0) || string(got) != string(goproxy.FormatList(list)) {
		t.Errorf("the list of %s is %q, %v; want %q", path, got, err, list)
	}
	return list
}

// inBubble runs a test on a fake clock, with a store of that quota.
func inBubble(t *testing.T, quota int64, o store.Options, test func(t *testing.T, d *store.Disk, dir string)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		o.Quota, o.HotBytes, o.Reserve = quota, -1, -1
		test(t, openDisk(t, dir, o), dir)
	})
}

func TestWhatWasUsedLongestAgoIsEvictedFirst(t *testing.T) {
	inBubble(t, 5*3*small, store.Options{}, func(t *testing.T, d *store.Disk, dir string) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { d.Run(ctx); close(done) }()
		defer func() { cancel(); <-done }()
		for _, v := range []string{"v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0", "v1.4.0"} {
			mustPut(t, d, modPath, v)
			time.Sleep(2 * time.Hour)
		}
		for _, v := range []string{"v1.2.0", "v1.0.0"} {
			if _, err := storetest.Get(d, storetest.Req(goproxy.Mod, modPath, v)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Hour)
		}
		left := []string{"v1.0.0", "v1.1.0", "v1.2.0", "v1.3.0", "v1.4.0"}
		for i, out := range []string{"v1.1.0", "v1.3.0", "v1.4.0", "v1.2.0", "v1.0.0"} {
			mustPut(t, d, "a.test/new", fmt.Sprintf("v1.%d.0", i))
			left = slices.DeleteFunc(left, func(v string) bool { return v == out })
			if got := stored(t, d, dir, modPath); !slices.Equal(got, left) {
				t.Fatalf("after %d new versions %q are left; want %q", i+1, got, left)
			}
			isAccounted(t, d, dir)
		}
		if u := d.Usage(); u.Evicted != 5 || u.Freed != 5*3*small || u.Full != nil {
			t.Errorf("usage %+v; want 5 versions evicted", u)
		}
		// Nothing of the evicted is left behind, not even directories.
		if _, err := os.Stat(filepath.Join(dir, "a.test/!mod")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the directory of a module of which nothing is left: %v", err)
		}
		if _, err := d.Record(storetest.Req(goproxy.Zip, modPath, "v1.0.0")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Record of what was evicted: %v", err)
		}
	})
}

// What is committed as Run looks is in flight and stored at once for a moment.
func TestAStoreThatIsJustFullEvictsNothing(t *testing.T) {
	d := openDisk(t, t.TempDir(), store.Options{Quota: 2 * 3 * small})
	over, cancel := context.WithCancel(t.Context())
	cancel()
	var wg sync.WaitGroup
	var stop atomic.Bool
	wg.Go(func() {
		for !stop.Load() {
			d.Run(over) // looks once
		}
	})
	end := sync.OnceFunc(func() {
		stop.Store(true)
		wg.Wait()
	})
	defer end()
	mustPut(t, d, modPath, "v1.0.0")
	for range 20 {
		mustPut(t, d, modPath, "v1.1.0")
		for _, k := range storetest.Kinds {
			if err := d.Discard(storetest.Req(k, modPath, "v1.1.0"), store.Evidence{}, true); err != nil {
				t.Error(err)
			}
		}
	}
	end()
	if u := d.Usage(); u.Evicted > 0 {
		t.Errorf("%d versions were evicted from a store that was never too full", u.Evicted)
	}
	storetest.Has(t, d, storetest.Req(goproxy.Zip, modPath, "v1.0.0"), "content of "+storetest.Req(goproxy.Zip, modPath, "v1.0.0").String())
}

func TestPrivateAndPinnedVersionsAreNeverEvicted(t *testing.T) {
	var log strings.Builder
	o := store.Options{
		Keep: func(path string) bool { return strings.HasPrefix(path, "corp.test/") },
		Log:  slog.New(slog.NewTextHandler(&log, nil)),
	}
	inBubble(t, 4*3*small, o, func(t *testing.T, d *store.Disk, dir string) {
		mustPut(t, d, "corp.test/private", "v1.0.0")
		storetest.PutVersion(t, d, "a.test/pinned", "v1.0.0")
		for i := range 6 {
			time.Sleep(time.Hour)
			mustPut(t, d, modPath, fmt.Sprintf("v1.%d.0", i))
		}
		kept := func() {
			t.Helper()
			for _, path := range []string{"corp.test/private", "a.test/pinned"} {
				if got := stored(t, d, dir, path); len(got) != 1 {
					t.Errorf("%s was evicted", path)
				}
			}
			isAccounted(t, d, dir)
		}
		kept()
		if got := stored(t, d, dir, modPath); !slices.Equal(got, []string{"v1.4.0", "v1.5.0"}) {
			t.Errorf("%q are left; want the last two", got)
		}
		storetest.PutVersion(t, d, "a.test/pinned2", "v1.0.0")
		storetest.PutVersion(t, d, "a.test/pinned3", "v1.0.0")
		if strings.Contains(log.String(), "used up") {
			t.Errorf("said too early:\n%s", &log)
		}
		// Now there is nothing left that may go.
		var err error
		for range 3 {
			if err = putVouched(d, modPath, "v1.9.0"); !errors.Is(err, store.ErrNoSpace) {
				t.Fatalf("Commit = %v; want ErrNoSpace", err)
			}
		}
		if !strings.Contains(err.Error(), "private or pinned") || !strings.Contains(err.Error(), "store.quota") {
			t.Errorf("the error does not say why and what to do: %v", err)
		}
		if n := strings.Count(log.String(), "used up"); n != 1 {
			t.Errorf("it was told %d times; want once:\n%s", n, &log)
		}
		if d.Usage().Full == nil {
			t.Error("the usage does not say so")
		}
		kept()
		// Once something is no longer private, there is room again.
		d.SetKeep(nil)
		if err := d.Count(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		mustPut(t, d, modPath, "v1.9.0")
		if got := stored(t, d, dir, "corp.test/private"); len(got) != 0 {
			t.Error("what is no longer private was not evicted")
		}
		if d.Usage().Full != nil || !strings.Contains(log.String(), "there is room in the store again") {
			t.Errorf("it was not told that there is room again: %v\n%s", d.Usage().Full, &log)
		}
	})
}

func TestAFileLargerThanTheQuotaEvictsNothing(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, store.Options{Quota: 10 * small})
	mustPut(t, d, modPath, "v1.0.0", "v1.1.0")
	big := strings.Repeat("x", 10*small)
	if _, err := storetest.Commit(d, storetest.Req(goproxy.Zip, "a.test/big", "v1.0.0"), big, vouched(goproxy.Zip, big)); !errors.Is(err, store.ErrNoSpace) || !errors.Is(err, store.ErrTooLarge) || strings.Contains(err.Error(), "\n") {
		t.Errorf("Commit = %v; want ErrNoSpace and ErrTooLarge", err)
	}
	if got := stored(t, d, dir, modPath); len(got) != 2 {
		t.Errorf("%q are left; want both", got)
	}
	isAccounted(t, d, dir)
}

func TestWhatIsBeingReadIsReadToItsEnd(t *testing.T) {
	d := openDisk(t, t.TempDir(), store.Options{Quota: 3 * 3 * small})
	mustPut(t, d, modPath, "v1.0.0")
	b, err := d.Open(storetest.Req(goproxy.Zip, modPath, "v1.0.0"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	mustPut(t, d, modPath, "v1.1.0", "v1.2.0", "v1.3.0", "v1.4.0", "v1.5.0", "v1.6.0")
	storetest.HasNot(t, d, storetest.Req(goproxy.Zip, modPath, "v1.0.0"))
	if data, err := io.ReadAll(b.Content); err != nil || !strings.HasPrefix(string(data), "content of") {
		t.Errorf("what was evicted reads as %q, %v", data, err)
	}
}

func TestTheQuotaHoldsAmongManyWhoCommitAtOnce(t *testing.T) {
	dir := t.TempDir()
	const quota = 20 * 3 * small
	d := openDisk(t, dir, store.Options{Quota: quota})
	var wg sync.WaitGroup
	var refused atomic.Int64
	for g := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			for range 60 {
				err := putVouched(d, fmt.Sprintf("a.test/m%d", r.IntN(30)), fmt.Sprintf("v1.%d.0", r.IntN(30)))
				// Whoever has had no turn for long may have its first files evicted.
				if err != nil && !strings.Contains(err.Error(), "perhaps evicted") {
					t.Error(err)
				} else if err != nil {
					refused.Add(1)
				}
				if u := d.Usage(); u.Bytes > quota {
					t.Errorf("%d bytes are stored of a quota of %d", u.Bytes, quota)
				}
			}
		})
	}
	wg.Wait()
	if n := refused.Load(); n > 4*60/2 {
		t.Errorf("%d of %d versions were evicted before they were whole", n, 4*60)
	}
	isAccounted(t, d, dir)
	if u := d.Usage(); u.Evicted == 0 || u.Bytes < quota/2 {
		t.Errorf("usage %+v; want a store that is nearly full", u)
	}
	for m := range 30 {
		stored(t, d, dir, fmt.Sprintf("a.test/m%d", m))
	}
}

// forgetUsage makes a store what an earlier version of Sluice left.
func forgetUsage(t testing.TB, dir string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(dir, ".sluice/usage")); err != nil {
		t.Fatal(err)
	}
}

func TestAnOldStoreIsCountedBesideAllElse(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, store.Options{})
	for m := range 20 {
		mustPut(t, d, fmt.Sprintf("a.test/m%02d", m), "v1.0.0", "v1.1.0")
	}
	d.Close()
	forgetUsage(t, dir)
	// What was used when is what the records' times say.
	for m := range 20 {
		for _, v := range []string{"v1.0.0", "v1.1.0"} {
			for _, k := range storetest.Kinds {
				at := time.Now().Add(-time.Duration(m+1) * 24 * time.Hour)
				if err := os.Chtimes(recordFile(dir, storetest.Req(k, fmt.Sprintf("a.test/m%02d", m), v)), at, at); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	const quota = 30 * 3 * small
	d = openDisk(t, dir, store.Options{Quota: quota})
	if u := d.Usage(); u.Known || u.Bytes != 0 {
		t.Errorf("usage %+v before it was counted; want unknown", u)
	}
	mustPut(t, d, "a.test/before", "v1.0.0")
	storetest.HasNot(t, d, storetest.Req(goproxy.Zip, "a.test/none", "v1.0.0"))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { d.Run(ctx) })
	for i := 0; !d.Usage().Known; i++ {
		mustPut(t, d, "a.test/meanwhile", fmt.Sprintf("v1.%d.0", i%5))
	}
	mustPut(t, d, "a.test/after", "v1.0.0")
	cancel()
	wg.Wait()
	isAccounted(t, d, dir)
	if u := d.Usage(); u.Bytes > quota || u.Counted.IsZero() || u.Counting {
		t.Errorf("usage %+v; want a count, and no more than the quota", u)
	}
	for m := range 20 {
		path := fmt.Sprintf("a.test/m%02d", m)
		got := stored(t, d, dir, path)
		if m == 0 && len(got) == 0 || m == 19 && len(got) != 0 {
			t.Errorf("%s has %q left", path, got)
		}
	}
	for _, path := range []string{"a.test/before", "a.test/meanwhile", "a.test/after"} {
		if len(stored(t, d, dir, path)) == 0 {
			t.Errorf("%s was evicted before older ones", path)
		}
	}
}

func TestACountGoesOnWhereItWasBrokenOff(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, store.Options{})
	for m := range 50 {
		mustPut(t, d, fmt.Sprintf("a.test/m%02d", m), "v1.0.0")
	}
	forgetUsage(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	broken := errors.New("broken off")
	cancel()
	if err := d.Count(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Fatalf("Count = %v; want it broken off (%v)", err, broken)
	}
	u := d.Usage()
	if u.Known || !u.Counting || u.Versions == 0 || u.Versions == 50 {
		t.Errorf("usage %+v; want a part, and that it is not known", u)
	}
	// What changes meanwhile counts once, whether it has been counted or not.
	for m := range 50 {
		path := fmt.Sprintf("a.test/m%02d", m)
		if m%2 == 0 {
			mustPut(t, d, path, "v1.1.0")
		} else if err := d.Discard(storetest.Req(goproxy.Zip, path, "v1.0.0"), store.Evidence{}, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Count(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	isAccounted(t, d, dir)
}

func TestACountMendsWhatSomebodyElseChanged(t *testing.T) {
	dir := t.TempDir()
	var log strings.Builder
	d := openDisk(t, dir, store.Options{Quota: plenty, Log: slog.New(slog.NewTextHandler(&log, nil))})
	mustPut(t, d, modPath, "v1.0.0", "v1.1.0")
	if err := os.Remove(file(dir, storetest.Req(goproxy.Zip, modPath, "v1.0.0"))); err != nil {
		t.Fatal(err)
	}
	if err := d.Count(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	isAccounted(t, d, dir)
	if want := fmt.Sprintf("drift=%d", -small); !strings.Contains(log.String(), want) {
		t.Errorf("the drift was not told, %s:\n%s", want, &log)
	}
}

func TestATornAccountIsUnknownAndThenCounted(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, store.Options{Quota: plenty})
	mustPut(t, d, modPath, "v1.0.0", "v1.1.0")
	damage(t, filepath.Join(dir, ".sluice/usage/totals"), func(b []byte) []byte { return b[:len(b)/2] })
	if d.Usage().Known {
		t.Error("half of the account is taken for all of it")
	}
	mustPut(t, d, modPath, "v1.2.0")
	if err := d.Count(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	isAccounted(t, d, dir)
}

// runUntil has Run run until done says so.
func runUntil(t testing.TB, d *store.Disk, done func() bool) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { d.Run(ctx) })
	for !done() && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	cancel()
	wg.Wait()
}

func TestALowerQuotaIsReachedWithoutACommit(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, store.Options{Quota: plenty})
	for i := range 10 {
		mustPut(t, d, modPath, fmt.Sprintf("v1.%d.0", i))
	}
	d.Close()
	d = openDisk(t, dir, store.Options{Quota: 4 * 3 * small})
	runUntil(t, d, func() bool { return d.Usage().Bytes <= 4*3*small })
	isAccounted(t, d, dir)
	if got := stored(t, d, dir, modPath); !slices.Equal(got, []string{"v1.7.0", "v1.8.0", "v1.9.0"}) && !slices.Equal(got, []string{"v1.6.0", "v1.7.0", "v1.8.0", "v1.9.0"}) {
		t.Errorf("%q are left; want the last ones", got)
	}
}

func TestAStoreWithoutAQuotaEvictsNothingAndKeepsAccount(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, store.Options{})
	mustPut(t, d, modPath, "v1.0.0", "v1.1.0", "v1.2.0")
	isAccounted(t, d, dir)
	if u := d.Usage(); u.Quota != 0 || u.Evicted != 0 {
		t.Errorf("usage %+v", u)
	}
	// And so it does for another process that has one.
	d = openDisk(t, dir, store.Options{Quota: 2 * 3 * small})
	mustPut(t, d, modPath, "v1.3.0")
	isAccounted(t, d, dir)
	if got := stored(t, d, dir, modPath); !slices.Contains(got, "v1.3.0") || len(got) > 2 {
		t.Errorf("%q are left", got)
	}
}

// Somebody who tidies up takes the account with it, and the place where we keep what
// is not finished. A count makes both anew, and waits for no lock that it holds.
func TestACountAfterSomebodyTidiedUp(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, store.Options{Quota: 10 << 20})
	storetest.Put(t, d, storetest.Req(goproxy.Mod, modPath, "v1.0.0"), "data")
	if err := os.RemoveAll(filepath.Join(dir, ".sluice")); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- d.Count(t.Context(), 0) }()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Count = %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Count waits for itself")
	}
	storetest.Put(t, d, storetest.Req(goproxy.Mod, modPath, "v1.1.0"), "more")
}
