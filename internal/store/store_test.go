package store_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/store"
	"github.com/modsluice/sluice/internal/store/storetest"
)

const modPath = "a.test/Mod"

func TestMemKeepsThePromise(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return store.NewMem() })
}

func TestDiskKeepsThePromise(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return openDisk(t, t.TempDir(), store.Options{}) })
}

func TestDiskWithoutHotLayerKeepsThePromise(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return openDisk(t, t.TempDir(), cold) })
}

func TestAWrappedStoreKeepsThePromise(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return storetest.Count(store.NewMem()) })
}

// cold is a store that looks at the disk each time.
var cold = store.Options{HotBytes: -1}

func openDisk(t testing.TB, dir string, o store.Options) *store.Disk {
	t.Helper()
	d, err := store.OpenDisk(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := d.Writable(); err != nil {
		t.Fatal(err)
	}
	return d
}

func file(dir string, req goproxy.Request) string {
	return filepath.Join(dir, filepath.FromSlash(req.Path()))
}

func recordFile(dir string, req goproxy.Request) string {
	return filepath.Join(dir, ".sluice", "sums", filepath.FromSlash(req.Path())+".json")
}

func write(t testing.TB, name, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(data), 0o666); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// names lists the files below dir, slash-separated, without directories.
func names(t testing.TB, dir string) []string {
	t.Helper()
	var list []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			list = append(list, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestTheDirectoryIsAPlainGOPROXYTree(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, store.Options{})
	storetest.PutVersion(t, d, modPath, "v1.0.0")
	storetest.PutVersion(t, d, modPath, "v1.1.0-RC.1")
	storetest.PutVersion(t, d, "a.test/pseudo", "v0.0.0-20260102030405-abcdefabcdef")
	storetest.Put(t, d, storetest.Req(goproxy.Mod, "a.test/only", "v1.0.0"), "data")
	if err := d.WriteFile("sum.test/lookup/a.test/m@v1.0.0", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := d.SwapFile("other.test/latest", nil, []byte("x")); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, name := range names(t, dir) {
		if !strings.HasPrefix(name, ".sluice/") {
			got = append(got, name)
		}
	}
	want := []string{
		"a.test/!mod/@v/list",
		"a.test/!mod/@v/v1.0.0.info", "a.test/!mod/@v/v1.0.0.mod", "a.test/!mod/@v/v1.0.0.zip",
		"a.test/!mod/@v/v1.1.0-!r!c.1.info", "a.test/!mod/@v/v1.1.0-!r!c.1.mod", "a.test/!mod/@v/v1.1.0-!r!c.1.zip",
		"a.test/only/@v/v1.0.0.mod",
		"a.test/pseudo/@v/list",
		"a.test/pseudo/@v/v0.0.0-20260102030405-abcdefabcdef.info", "a.test/pseudo/@v/v0.0.0-20260102030405-abcdefabcdef.mod", "a.test/pseudo/@v/v0.0.0-20260102030405-abcdefabcdef.zip",
		"sumdb/other.test/latest", "sumdb/other.test/supported",
		"sumdb/sum.test/lookup/a.test/m@v1.0.0", "sumdb/sum.test/supported",
	}
	if !slices.Equal(got, want) {
		t.Errorf("there are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := read(t, filepath.Join(dir, "a.test/!mod/@v/list")); got != "v1.0.0\nv1.1.0-RC.1\n" {
		t.Errorf("the list is %q", got)
	}
	if err := d.Discard(storetest.Req(goproxy.Zip, modPath, "v1.0.0"), store.Evidence{}, false); err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(dir, "a.test/!mod/@v/list")); got != "v1.1.0-RC.1\n" {
		t.Errorf("after a Discard the list is %q", got)
	}
}

func TestSmallArtifactsAreHeldInMemoryAndZipsAreFiles(t *testing.T) {
	d := openDisk(t, t.TempDir(), store.Options{})
	storetest.PutVersion(t, d, modPath, "v1.0.0")
	large := storetest.Req(goproxy.Mod, modPath, "v1.1.0")
	storetest.Put(t, d, large, strings.Repeat("x", 300<<10))
	for req, inMemory := range map[goproxy.Request]bool{
		storetest.Req(goproxy.Info, modPath, "v1.0.0"): true,
		storetest.Req(goproxy.Mod, modPath, "v1.0.0"):  true,
		storetest.Req(goproxy.Zip, modPath, "v1.0.0"):  false,
		large: false,
	} {
		b, err := d.Open(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, isFile := b.Content.(*os.File); isFile == inMemory || (b.Bytes != nil) != inMemory {
			t.Errorf("%s is a %T with Bytes %.10q", req, b.Content, b.Bytes)
		}
		b.Close()
	}
}

func TestAHotArtifactNeedsNoDisk(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, store.Options{})
	req := storetest.Req(goproxy.Mod, modPath, "v1.0.0")
	storetest.Put(t, d, req, "data")
	storetest.Has(t, d, req, "data")
	if err := os.Rename(filepath.Join(dir, "a.test"), filepath.Join(dir, "b.test")); err != nil {
		t.Fatal(err)
	}
	if got, err := storetest.Get(d, req); err != nil || got != "data" {
		t.Errorf("Open = %q, %v without the file; want it from memory", got, err)
	}
	if n := testing.AllocsPerRun(100, func() {
		b, _ := d.Open(req)
		b.Close()
	}); n > 8 {
		t.Errorf("Open of a hot artifact allocates %v times", n)
	}
	w := d.Warm(req.Path())
	if w == nil || w.Request != req || string(w.Bytes) != "data" || w.Record.Size != 4 {
		t.Errorf("Warm = %+v", w)
	}
	if n := testing.AllocsPerRun(100, func() { d.Warm("a.test/!mod/@v/v1.0.0.mod") }); n > 0 {
		t.Errorf("Warm allocates %v times", n)
	}
	if err := d.Check(req); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Check = %v; want it to look at the disk", err)
	}
	storetest.HasNot(t, d, req) // Check has noticed
	if w := d.Warm(req.Path()); w != nil {
		t.Errorf("Warm = %+v of what is gone", w)
	}
}

// damages are what happens to files, each with its name.
var damages = map[string]func(data []byte) []byte{
	"emptied":  func([]byte) []byte { return nil },
	"cut":      func(data []byte) []byte { return data[:len(data)/2] },
	"grown":    func(data []byte) []byte { return append(data, 'x') },
	"flipped":  func(data []byte) []byte { data[len(data)/3] ^= 4; return data },
	"replaced": func(data []byte) []byte { return slices.Repeat([]byte{0}, len(data)) },
}

// damage changes a file in place and, where there is a ctime, gives it its old
// mtime, so that all that tells is the ctime. A coarse clock may need more than
// one try to move that.
func damage(t *testing.T, name string, how func([]byte) []byte) {
	t.Helper()
	before, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	data := how([]byte(read(t, name)))
	for range 1000 {
		write(t, name, string(data))
		if hasCtime {
			if err := os.Chtimes(name, before.ModTime(), before.ModTime()); err != nil {
				t.Fatal(err)
			}
		}
		if after, err := os.Stat(name); err != nil || ctime(after) != ctime(before) {
			return
		}
	}
	t.Fatal("the file system keeps no ctime")
}

func TestDamageIsNoticedBeforeOpenReturns(t *testing.T) {
	for how, f := range damages {
		for _, k := range storetest.Kinds {
			for _, size := range []int{100, 400 << 10} {
				t.Run(fmt.Sprintf("%s %d bytes %s", k, size, how), func(t *testing.T) {
					dir := t.TempDir()
					d, other := openDisk(t, dir, cold), openDisk(t, dir, store.Options{})
					req, data := storetest.Req(k, modPath, "v1.0.0"), strings.Repeat("x", size)
					storetest.Put(t, d, req, data)
					storetest.Has(t, d, req, data) // found good, and remembered
					damage(t, file(dir, req), f)
					for _, d := range []*store.Disk{d, other, openDisk(t, dir, store.Options{})} {
						b, err := d.Open(req)
						if err == nil {
							b.Close()
						}
						if !errors.Is(err, store.ErrDamaged) || errors.Is(err, fs.ErrNotExist) {
							t.Errorf("Open = %v; want ErrDamaged", err)
						}
						if err := d.Check(req); !errors.Is(err, store.ErrDamaged) {
							t.Errorf("Check = %v; want ErrDamaged", err)
						}
					}
					if rec, err := d.Record(req); err != nil || rec.Size != int64(size) {
						t.Errorf("Record = %+v, %v; want the pin to stay", rec, err)
					}
					// The same content mends it, no other does.
					if k != goproxy.Info {
						if _, err := storetest.Commit(d, req, "other", storetest.RecordOf(k, "other")); !errors.Is(err, store.ErrConflict) {
							t.Errorf("Commit of other content = %v; want ErrConflict", err)
						}
					}
					storetest.Put(t, d, req, data)
					storetest.Has(t, d, req, data)
					storetest.Has(t, other, req, data)
					if list, err := d.Quarantined(); err != nil || len(list) != 1 {
						t.Errorf("Quarantined = %v, %v; want the damaged bytes", list, err)
					}
				})
			}
		}
	}
}

func TestDamageOfARecordIsNoticedAndMended(t *testing.T) {
	for how, f := range damages {
		dir := t.TempDir()
		d := openDisk(t, dir, cold)
		req := storetest.Req(goproxy.Zip, modPath, "v1.0.0")
		storetest.Put(t, d, req, "data")
		if how == "grown" {
			f = func(b []byte) []byte { return append(b, "{}"...) }
		}
		damage(t, recordFile(dir, req), f)
		if _, err := storetest.Get(d, req); !errors.Is(err, store.ErrDamaged) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: Open = %v; want ErrDamaged", how, err)
		}
		if _, err := d.Record(req); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%s: Record = %v; want ErrDamaged", how, err)
		}
		storetest.Put(t, d, req, "data")
		storetest.Has(t, d, req, "data")
	}
}

func TestADamagedArtifactCanBeDiscarded(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, store.Options{})
	storetest.PutVersion(t, d, modPath, "v1.0.0")
	req := storetest.Req(goproxy.Zip, modPath, "v1.0.0")
	damage(t, file(dir, req), damages["cut"])
	if err := d.Discard(req, store.Evidence{Reason: "cut"}, false); err != nil {
		t.Fatal(err)
	}
	storetest.HasNot(t, d, req)
	list, err := d.Quarantined()
	if err != nil || len(list) != 1 || list[0].Size == 0 {
		t.Fatalf("Quarantined = %+v, %v", list, err)
	}
	if got := read(t, filepath.Join(list[0].Dir, "body")); int64(len(got)) != list[0].Size {
		t.Errorf("the body has %d bytes; evidence says %d", len(got), list[0].Size)
	}
	if v, err := d.Versions(modPath); err != nil || len(v) != 0 {
		t.Errorf("Versions = %q, %v", v, err)
	}
}

func TestSomethingElseInPlaceOfAnArtifactIsDamage(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, cold)
	req := storetest.Req(goproxy.Zip, modPath, "v1.0.0")
	storetest.Put(t, d, req, "data")
	if err := os.Remove(file(dir, req)); err != nil {
		t.Fatal(err)
	}
	storetest.HasNot(t, d, req)
	write(t, filepath.Join(file(dir, req), "x"), "a directory, and not an empty one")
	if _, err := storetest.Get(d, req); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("Open of a directory = %v; want ErrDamaged", err)
	}
	storetest.Put(t, d, req, "data")
	storetest.Has(t, d, req, "data")
}

func TestAFileWithoutRecordIsNotTrusted(t *testing.T) {
	dir := t.TempDir()
	for _, k := range storetest.Kinds {
		write(t, file(dir, storetest.Req(k, modPath, "v1.0.0")), "somebody's")
	}
	list := filepath.Join(dir, "a.test/!mod/@v/list")
	write(t, list, "v1.0.0\n")
	d := openDisk(t, dir, store.Options{})
	for _, k := range storetest.Kinds {
		storetest.HasNot(t, d, storetest.Req(k, modPath, "v1.0.0"))
	}
	if v, err := d.Versions(modPath); err != nil || len(v) != 0 {
		t.Errorf("Versions = %q, %v; want none", v, err)
	}
	if got := read(t, list); got != "v1.0.0\n" {
		t.Errorf("the list of a foreign tree has become %q", got)
	}
	storetest.PutVersion(t, d, modPath, "v1.0.0")
	storetest.PutVersion(t, d, modPath, "v1.1.0")
	if v, err := d.Versions(modPath); err != nil || !slices.Equal(v, []string{"v1.0.0", "v1.1.0"}) {
		t.Errorf("Versions = %q, %v", v, err)
	}
}

func TestALostListIsMended(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, store.Options{})
	storetest.PutVersion(t, d, modPath, "v1.0.0")
	storetest.PutVersion(t, d, modPath, "v1.1.0")
	list := filepath.Join(dir, "a.test/!mod/@v/list")
	for _, wrong := range []string{"", "v1.0.0\n", "v1.0.0\nv1.1.0\nv1.2.0\n", "<html>", "\x00\x00"} {
		write(t, list, wrong)
		if v, err := d.Versions(modPath); err != nil || len(v) != 2 {
			t.Errorf("Versions = %q, %v", v, err)
		}
		if got := read(t, list); got != "v1.0.0\nv1.1.0\n" {
			t.Errorf("the list %q became %q", wrong, got)
		}
	}
	os.Remove(list)
	storetest.PutVersion(t, d, modPath, "v1.0.0") // changes nothing, but sees that the list is gone
	d.Versions(modPath)
	if got := read(t, list); got != "v1.0.0\nv1.1.0\n" {
		t.Errorf("the removed list became %q", got)
	}
}

func TestATornAnswerDoesNotExist(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, store.Options{})
	req := storetest.Req(goproxy.List, modPath, "")
	for how, f := range damages {
		if err := d.SetAnswer(req, store.Answer{Body: []byte("v1.0.0\n")}); err != nil {
			t.Fatal(err)
		}
		found := names(t, filepath.Join(dir, ".sluice/answers"))
		if len(found) != 1 {
			t.Fatalf("the answer is in %q", found)
		}
		damage(t, filepath.Join(dir, ".sluice/answers", found[0]), f)
		if _, err := d.Answer(req); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: Answer = %v; want it not to exist", how, err)
		}
	}
}

func TestATornChecksumFileDoesNotExist(t *testing.T) {
	const name = "sum.test/tile/8/0/001"
	for how, f := range damages {
		for _, which := range []string{"sumdb/" + name, ".sluice/sums/sumdb/" + name + ".json"} {
			dir := t.TempDir()
			d := openDisk(t, dir, store.Options{})
			for _, data := range []string{"before", "now, longer"} {
				if err := d.WriteFile(name, []byte(data)); err != nil {
					t.Fatal(err)
				}
			}
			if how == "grown" {
				f = func(b []byte) []byte { return append(b, "{}"...) }
			}
			damage(t, filepath.Join(dir, which), f)
			if _, err := d.ReadFile(name); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s %s: ReadFile = %v; want it not to exist", which, how, err)
			}
			if err := d.SwapFile(name, nil, []byte("again")); err != nil {
				t.Errorf("%s %s: SwapFile = %v", which, how, err)
			}
			if data, err := d.ReadFile(name); err != nil || string(data) != "again" {
				t.Errorf("%s %s: ReadFile = %q, %v after it was written again", which, how, data, err)
			}
		}
	}
}

func TestAFileIsReadableAtEveryStepOfAWrite(t *testing.T) {
	const name = "sum.test/latest"
	dir := t.TempDir()
	d := openDisk(t, dir, store.Options{})
	d.SwapFile(name, nil, []byte("one"))
	d.SwapFile(name, []byte("one"), []byte("two"))
	write(t, filepath.Join(dir, "sumdb", name), "one") // as after a crash between sum and file
	if data, err := d.ReadFile(name); err != nil || string(data) != "one" {
		t.Errorf("ReadFile = %q, %v; want what was there before the crash", data, err)
	}

	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if data, err := d.ReadFile(name); err != nil || len(data) == 0 {
					t.Errorf("ReadFile = %q, %v in the middle of a write", data, err)
					return
				}
			}
		})
	}
	for n := range 200 {
		if err := d.WriteFile(name, fmt.Appendf(nil, "head %d", n)); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
}

func TestQuarantineKeepsBodiesUpToItsLimit(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, store.Options{Quarantine: 100})
	put := func(reason string, size int) {
		t.Helper()
		if err := d.Quarantine(store.Evidence{Reason: reason}, strings.NewReader(strings.Repeat("x", size))); err != nil {
			t.Fatal(err)
		}
	}
	put("fits", 60)
	put("too large at all", 101)
	put("too large now", 41)
	put("fits exactly", 40)
	req := storetest.Req(goproxy.Zip, modPath, "v1.0.0")
	storetest.Put(t, d, req, "data")
	if err := d.Discard(req, store.Evidence{Reason: "discarded"}, true); err != nil {
		t.Fatal(err)
	}
	storetest.HasNot(t, d, req)
	list, err := d.Quarantined()
	if err != nil || len(list) != 5 {
		t.Fatalf("Quarantined = %+v, %v; want five", list, err)
	}
	for _, ev := range list {
		body, err := os.ReadFile(filepath.Join(ev.Dir, "body"))
		if fits := strings.HasPrefix(ev.Reason, "fits"); fits != (err == nil) || fits != (ev.NoBody == "") || fits && len(body) != int(ev.Size) {
			t.Errorf("%s: %d bytes are there, %v; evidence is %+v", ev.Reason, len(body), err, ev)
		}
	}
	if left := tmpLeft(t, dir); len(left) != 0 {
		t.Errorf("left in tmp: %q", left)
	}
}

// tmpLeft lists what lies in tmp beside the locks of the living.
func tmpLeft(t testing.TB, dir string) []string {
	return slices.DeleteFunc(names(t, filepath.Join(dir, ".sluice/tmp")), func(name string) bool { return strings.HasSuffix(name, "/lock") })
}

func TestUnreadableEvidenceIsListed(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, store.Options{})
	write(t, filepath.Join(dir, ".sluice/quarantine/x/evidence.json"), "{")
	list, err := d.Quarantined()
	if err != nil || len(list) != 1 || !strings.Contains(list[0].Reason, "cannot be read") || filepath.Base(list[0].Dir) != "x" {
		t.Errorf("Quarantined = %+v, %v", list, err)
	}
}

func TestSymbolicLinksAreNotFollowedOut(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	d := openDisk(t, dir, cold)
	req := storetest.Req(goproxy.Zip, modPath, "v1.0.0")
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Skip("no symbolic links here:", err)
		}
	}

	// A file that is a link to the very same bytes.
	storetest.Put(t, d, req, "data")
	if err := os.Rename(file(dir, req), filepath.Join(outside, "zip")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(outside, "zip"), file(dir, req)); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	if got, err := storetest.Get(d, req); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("Open through a link = %q, %v; want ErrDamaged", got, err)
	}
	storetest.Put(t, d, req, "data")
	storetest.Has(t, d, req, "data")
	if got := read(t, filepath.Join(outside, "zip")); got != "data" {
		t.Errorf("the file outside is now %q", got)
	}
	os.Remove(filepath.Join(outside, "zip"))

	// Directories that lead out.
	link(outside, "b.test")
	if _, err := storetest.Commit(d, storetest.Req(goproxy.Zip, "b.test/m", "v1.0.0"), "data", storetest.RecordOf(goproxy.Zip, "data")); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Commit through a link = %v; want an error that is no 404", err)
	}
	link(outside, "sumdb")
	if err := d.WriteFile("sum.test/latest", []byte("x")); err == nil {
		t.Error("WriteFile through a link succeeded")
	}
	write(t, filepath.Join(outside, "sum.test/latest"), "secret")
	if data, err := d.ReadFile("sum.test/latest"); err == nil {
		t.Errorf("ReadFile through a link = %q", data)
	}
	os.RemoveAll(filepath.Join(outside, "sum.test"))
	if got := names(t, outside); len(got) != 0 {
		t.Errorf("outside there is now %q", got)
	}
}

func TestADirectoryThatCannotBeUsedIsAnError(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "x")
	for _, name := range []string{"file", "file/below"} {
		if d, err := store.OpenDisk(filepath.Join(dir, name), store.Options{}); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, name)) {
			t.Errorf("OpenDisk(%s) = %v, %v; want an error that names it", name, d, err)
		}
	}
}

func TestOpenSweepsWhatTheDeadLeftAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, store.Options{})
	living, err := d.Create(storetest.Req(goproxy.Zip, modPath, "v1.0.0"))
	if err != nil {
		t.Fatal(err)
	}
	defer living.Abort()
	io.WriteString(living, "data")
	tmp := filepath.Join(dir, ".sluice/tmp")
	write(t, filepath.Join(tmp, "1-dead/lock"), "")
	write(t, filepath.Join(tmp, "1-dead/1"), "half")
	write(t, filepath.Join(tmp, "2-older/sub/body"), "half")
	write(t, filepath.Join(tmp, "stray"), "half")
	// One that died after it had made a version complete, before it could list it.
	storetest.PutVersion(t, d, "a.test/listed", "v1.0.0")
	os.Remove(filepath.Join(dir, "a.test/listed/@v/list"))
	write(t, filepath.Join(tmp, "3-dead/7.list"), "a.test/listed")
	write(t, filepath.Join(tmp, "3-dead/8.list"), "")
	write(t, filepath.Join(tmp, "3-dead/9.list"), "../../x")
	openDisk(t, dir, store.Options{})
	if left := tmpLeft(t, dir); len(left) != 1 {
		t.Errorf("left in tmp: %q; want what is being written", left)
	}
	if got := read(t, filepath.Join(dir, "a.test/listed/@v/list")); got != "v1.0.0\n" {
		t.Errorf("the list is %q", got)
	}
	if _, err := living.Commit(storetest.RecordOf(goproxy.Zip, "data")); err != nil {
		t.Error(err)
	}
	living.Abort()
	if left := tmpLeft(t, dir); len(left) != 0 {
		t.Errorf("left in tmp: %q", left)
	}
	d.Close()
	if left := names(t, tmp); len(left) != 1 {
		t.Errorf("left in tmp after Close: %q; want the lock of the other", left)
	}
}

func TestAStoreSurvivesThatItsDirectoryIsTidiedUp(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, cold)
	storetest.PutVersion(t, d, modPath, "v1.0.0")
	for _, gone := range []string{".sluice/tmp", ".sluice/lock", ".sluice/sums", ".sluice/answers", ".sluice/quarantine", "a.test", "sumdb", ".sluice"} {
		if err := os.RemoveAll(filepath.Join(dir, gone)); err != nil {
			t.Fatal(err)
		}
		storetest.HasNot(t, d, storetest.Req(goproxy.Zip, modPath, "v9.0.0+incompatible"))
		storetest.PutVersion(t, d, modPath, "v1.0.0")
		storetest.Has(t, d, storetest.Req(goproxy.Zip, modPath, "v1.0.0"), "content of "+storetest.Req(goproxy.Zip, modPath, "v1.0.0").String())
		if err := d.Quarantine(store.Evidence{Reason: "test"}, strings.NewReader("x")); err != nil {
			t.Errorf("%s: Quarantine = %v", gone, err)
		}
		if err := d.SetAnswer(storetest.Req(goproxy.List, modPath, ""), store.Answer{}); err != nil {
			t.Errorf("%s: SetAnswer = %v", gone, err)
		}
		old, _ := d.ReadFile("sum.test/latest")
		if err := d.SwapFile("sum.test/latest", old, []byte("head "+gone)); err != nil {
			t.Errorf("%s: SwapFile = %v", gone, err)
		}
		if err := d.Probe(); err != nil {
			t.Errorf("%s: Probe = %v", gone, err)
		}
	}
}

func TestErrorsOfWritingAreNever404(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, store.Options{})
	p, err := d.Create(storetest.Req(goproxy.Zip, modPath, "v1.0.0"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Abort()
	io.WriteString(p, "data")
	if err := os.RemoveAll(filepath.Join(dir, ".sluice/tmp")); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Commit(storetest.RecordOf(goproxy.Zip, "data")); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Commit of a file that was removed = %v; want an error that is no 404", err)
	}
	storetest.HasNot(t, d, storetest.Req(goproxy.Zip, modPath, "v1.0.0"))
	storetest.Put(t, d, storetest.Req(goproxy.Zip, modPath, "v1.0.0"), "data")
}

func TestALowDiskTurnsCreateOff(t *testing.T) {
	dir := t.TempDir()
	d := openDisk(t, dir, store.Options{Reserve: 1 << 60})
	if _, err := d.Create(storetest.Req(goproxy.Zip, modPath, "v1.0.0")); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("Create = %v; want ErrNoSpace", err)
	}
	if err := d.SetAnswer(storetest.Req(goproxy.List, modPath, ""), store.Answer{}); err != nil {
		t.Errorf("SetAnswer = %v; want what is small to go on", err)
	}
	free, total, err := d.Space()
	if err != nil || free <= 0 || total < free {
		t.Errorf("Space = %d, %d, %v", free, total, err)
	}
}

func TestManyGoroutinesLoseNoVersion(t *testing.T) {
	dir := t.TempDir()
	disks := []*store.Disk{openDisk(t, dir, store.Options{}), openDisk(t, dir, store.Options{})}
	var wg sync.WaitGroup
	var want []string
	for i := range 24 {
		v := fmt.Sprintf("v1.%d.0", i)
		want = append(want, v)
		for j, k := range storetest.Kinds {
			wg.Go(func() {
				d := disks[(i+j)%2]
				if _, err := storetest.Commit(d, storetest.Req(k, modPath, v), "data", storetest.RecordOf(k, "data")); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	goproxy.SortVersions(want)
	if got := read(t, filepath.Join(dir, "a.test/!mod/@v/list")); got != string(goproxy.FormatList(want)) {
		t.Errorf("the list is %q; want %q", got, want)
	}
	for _, d := range disks {
		if got, err := d.Versions(modPath); err != nil || !slices.Equal(got, want) {
			t.Errorf("Versions = %q, %v; want %q", got, err, want)
		}
	}
}

func TestDiscardIsNeverUndoneByAReaderOfTheHotLayer(t *testing.T) {
	d := openDisk(t, t.TempDir(), store.Options{})
	req := storetest.Req(goproxy.Mod, modPath, "v1.0.0")
	for n := range 50 {
		data := fmt.Sprint("data ", n)
		storetest.Put(t, d, req, data)
		var wg sync.WaitGroup
		var done atomic.Bool
		for range 3 {
			wg.Go(func() {
				for !done.Load() {
					if got, err := storetest.Get(d, req); err == nil && got != data || err != nil && !errors.Is(err, fs.ErrNotExist) {
						t.Errorf("Open = %q, %v; want %q or nothing", got, err, data)
					}
				}
			})
		}
		wg.Go(func() {
			defer done.Store(true)
			if err := d.Discard(req, store.Evidence{}, true); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		storetest.HasNot(t, d, req)
	}
}

func TestScratchKeepsBytesWhereverItCan(t *testing.T) {
	for name, c := range map[string]struct {
		dir string
		max int64
	}{
		"file":   {t.TempDir(), 0},
		"memory": {"", 1 << 20},
		"nofile": {filepath.Join(t.TempDir(), "missing"), 1 << 20},
	} {
		p, err := store.Scratch(c.dir, c.max)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		io.WriteString(p, "thrown away")
		p.Reset()
		for range 10 {
			io.WriteString(p, "0123456789")
		}
		got := make([]byte, 20)
		if n, err := p.ReadAt(got, 95); n != 5 || err != io.EOF || string(got[:5]) != "56789" {
			t.Errorf("%s: ReadAt = %q, %v", name, got[:n], err)
		}
		if n, err := p.ReadAt(got, 15); n != 20 || err != nil || string(got) != "56789012345678901234" {
			t.Errorf("%s: ReadAt in the middle = %q, %v", name, got[:n], err)
		}
		if n, err := p.ReadAt(got, 200); n != 0 || err != io.EOF {
			t.Errorf("%s: ReadAt past the end = %d, %v", name, n, err)
		}
		rec, err := p.Commit(store.Record{H1: "h1:x"})
		if err != nil || rec.Size != 100 || len(rec.SHA256) != 64 || rec.H1 != "h1:x" || p.Size() != 100 {
			t.Errorf("%s: Commit = %+v, %v", name, rec, err)
		}
		p.Abort()
		p.Abort()
		if _, err := p.Write(nil); err == nil {
			t.Errorf("%s: Write after Abort succeeded", name)
		}
		if c.max == 0 {
			if left := names(t, c.dir); len(left) != 0 {
				t.Errorf("%s: left behind: %q", name, left)
			}
		}
	}
	if _, err := store.Scratch("", 0); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("Scratch without a place = %v; want ErrNoSpace", err)
	}
	p, err := store.Scratch("", 10)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Abort()
	if n, err := io.WriteString(p, "0123456789"); n != 10 || err != nil {
		t.Errorf("Write = %d, %v", n, err)
	}
	if n, err := io.WriteString(p, "x"); n != 0 || !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("Write past the limit = %d, %v; want ErrNoSpace", n, err)
	}
}

func TestFailNthFailsEveryOperationInTurn(t *testing.T) {
	journey := func(s store.Store) error {
		req := storetest.Req(goproxy.Zip, modPath, "v1.0.0")
		p, err := s.Create(req)
		if err != nil {
			return err
		}
		defer p.Abort()
		steps := []func() error{
			p.Reset,
			func() error { _, err := p.Write([]byte("data")); return err },
			func() error { _, err := p.ReadAt(make([]byte, 1), 0); return err },
			func() error { _, err := p.Commit(storetest.RecordOf(goproxy.Zip, "data")); return err },
			func() error { _, err := storetest.Get(s, req); return err },
			s.Probe,
		}
		for _, step := range steps {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	}
	var fired []string
	for n := 0; ; n++ {
		s := storetest.FailNth(store.NewMem(), n)
		err := journey(s)
		if !s.Fired() {
			if err != nil {
				t.Error(err)
			}
			break
		}
		if !errors.Is(err, storetest.ErrInjected) {
			t.Errorf("%s failed, but the journey gave %v", s.Which(), err)
		}
		fired = append(fired, s.Which())
	}
	if want := []string{"Create", "Pending.Reset", "Pending.Write", "Pending.ReadAt", "Pending.Commit", "Open", "Probe"}; !slices.Equal(fired, want) {
		t.Errorf("failed in turn: %q; want %q", fired, want)
	}
	s := storetest.Count(store.NewMem())
	if err := journey(s); err != nil || s.Fired() || s.Calls("Open") != 1 || s.Calls("Walk") != 0 {
		t.Errorf("Count changes what it counts: %v, %v", err, s)
	}
}
