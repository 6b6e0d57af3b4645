// Package storetest is what every store.Store must pass, and stores that count
// or fail on demand for the tests of those who use one.
//
// It is no part of the program: only tests import it. It holds what a Store's
// doc comments promise; what only a disk can do wrong is tested beside Disk.
package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/store"
)

// Kinds are those of artifacts, in the order in which they should be committed.
var Kinds = []goproxy.Kind{goproxy.Info, goproxy.Mod, goproxy.Zip}

// Req is a request for one file of path@version.
func Req(kind goproxy.Kind, path, version string) goproxy.Request {
	return goproxy.Request{Kind: kind, Module: module.Version{Path: path, Version: version}}
}

// H1 is an h1 that stands for data: every content has its own.
func H1(data string) string {
	sum := sha256.Sum256([]byte("h1 of " + data))
	return fmt.Sprintf("h1:%x", sum[:8])
}

// RecordOf is the Record to commit data with as an artifact of this kind.
func RecordOf(kind goproxy.Kind, data string) store.Record {
	rec := store.Record{Source: "a"}
	if kind != goproxy.Info {
		rec.H1 = H1(data)
	}
	return rec
}

// Commit writes and commits data with rec.
func Commit(s store.Store, req goproxy.Request, data string, rec store.Record) (store.Record, error) {
	p, err := s.Create(req)
	if err != nil {
		return store.Record{}, err
	}
	defer p.Abort()
	if _, err := io.WriteString(p, data); err != nil {
		return store.Record{}, err
	}
	return p.Commit(rec)
}

// Put commits data as RecordOf has it, and fails the test if that fails.
func Put(t testing.TB, s store.Store, req goproxy.Request, data string) store.Record {
	t.Helper()
	rec, err := Commit(s, req, data, RecordOf(req.Kind, data))
	if err != nil {
		t.Fatalf("commit of %s: %v", req, err)
	}
	return rec
}

// PutVersion commits the three files of path@version.
func PutVersion(t testing.TB, s store.Store, path, version string) {
	t.Helper()
	for _, k := range Kinds {
		req := Req(k, path, version)
		Put(t, s, req, "content of "+req.String())
	}
}

// Get reads a whole artifact.
func Get(s store.Store, req goproxy.Request) (string, error) {
	b, err := s.Open(req)
	if err != nil {
		return "", err
	}
	defer b.Close()
	data, err := io.ReadAll(b.Content)
	return string(data), err
}

// Has fails the test unless req is stored with this content and a Record of it.
func Has(t testing.TB, s store.Store, req goproxy.Request, data string) {
	t.Helper()
	b, err := s.Open(req)
	if err != nil {
		t.Errorf("Open(%s) = %v; want %.20q", req, err, data)
		return
	}
	defer b.Close()
	got, err := io.ReadAll(b.Content)
	if err != nil || string(got) != data {
		t.Errorf("%s reads as %.20q, %v; want %.20q", req, got, err, data)
	}
	if b.Bytes != nil && string(b.Bytes) != data {
		t.Errorf("%s has Bytes %.20q; want %.20q", req, b.Bytes, data)
	}
	if len(data) > 1 {
		part := make([]byte, 1)
		if n, err := b.ReadAt(part, 1); n != 1 || part[0] != data[1] {
			t.Errorf("ReadAt(1) of %s = %d, %v, %q; want %q", req, n, err, part, data[1])
		}
	}
	sum := sha256.Sum256([]byte(data))
	if b.Record.Size != int64(len(data)) || b.Record.SHA256 != hex.EncodeToString(sum[:]) {
		t.Errorf("%s has the record %+v, which is not that of its content", req, b.Record)
	}
	if rec, err := s.Record(req); err != nil || rec != b.Record {
		t.Errorf("Record(%s) = %+v, %v; Open says %+v", req, rec, err, b.Record)
	}
	if err := s.Check(req); err != nil {
		t.Errorf("Check(%s) = %v", req, err)
	}
}

// HasNot fails the test unless the store knows that it has no such artifact.
func HasNot(t testing.TB, s store.Store, req goproxy.Request) {
	t.Helper()
	b, err := s.Open(req)
	if err == nil {
		b.Close()
	}
	if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, store.ErrDamaged) {
		t.Errorf("Open(%s) = %v; want it not to exist", req, err)
	}
	if err := s.Check(req); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Check(%s) = %v; want it not to exist", req, err)
	}
}

// Run demands of the stores that open makes, all of them empty, what every
// store promises.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s store.Store)
	}{
		{"what was never committed does not exist", testEmpty},
		{"nothing is visible before Commit and all of it after", testVisibility},
		{"a pending artifact stays readable until Abort", testPending},
		{"only artifacts of canonical versions are stored", testInvalid},
		{"nothing is stored without content or without its h1", testContentless},
		{"the same content may be committed again and again", testIdempotence},
		{"other content is refused and changes nothing", testConflict},
		{"what a checksum database vouches for replaces what was only pinned", testVerified},
		{"the same content in other bytes leaves the first bytes in place", testRecompressed},
		{"the first info stays", testInfo},
		{"of many who commit at once one wins and all learn who", testRace},
		{"a reader sees one content or the other while it is replaced", testReplaceRace},
		{"versions are those of which all three files are there", testVersions},
		{"a stored pseudo-version is in no list", testPseudo},
		{"answers are kept as they came", testAnswers},
		{"files of checksum databases are kept as they came", testFiles},
		{"names that lead elsewhere are refused", testNames},
		{"a swap succeeds only on what it knows", testSwap},
		{"of many who swap at once every one counts", testSwapRace},
		{"quarantine keeps the evidence", testQuarantine},
		{"a discarded artifact is gone and its pin stays", testDiscard},
		{"a forgotten artifact may be followed by any other", testForget},
		{"walk names every artifact in the order of paths", testWalk},
		{"walk ends when it is told to", testWalkEnds},
		{"probe leaves nothing", testProbe},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) { c.test(t, open(t)) })
	}
}

const (
	modPath = "a.test/Mod"
	version = "v1.0.0"
)

var (
	info = Req(goproxy.Info, modPath, version)
	mod  = Req(goproxy.Mod, modPath, version)
	zip  = Req(goproxy.Zip, modPath, version)
)

func testEmpty(t *testing.T, s store.Store) {
	for _, k := range Kinds {
		req := info.With(k)
		HasNot(t, s, req)
		if _, err := s.Record(req); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Record(%s) = %v; want it not to exist", req, err)
		}
	}
	if list, err := s.Versions(modPath); err != nil || len(list) != 0 {
		t.Errorf("Versions = %q, %v; want none", list, err)
	}
	if list, err := s.Quarantined(); err != nil || len(list) != 0 {
		t.Errorf("Quarantined = %v, %v; want none", list, err)
	}
}

func testVisibility(t *testing.T, s store.Store) {
	for _, k := range Kinds {
		req := info.With(k)
		data := strings.Repeat("content of "+k.String(), 1000)
		p, err := s.Create(req)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Abort()
		for part := range slices.Chunk([]byte("thrown away"), 3) {
			p.Write(part)
		}
		if err := p.Reset(); err != nil || p.Size() != 0 {
			t.Fatalf("Reset = %v; Size is %d", err, p.Size())
		}
		for part := range slices.Chunk([]byte(data), 777) {
			if n, err := p.Write(part); n != len(part) || err != nil {
				t.Fatalf("Write of %d = %d, %v", len(part), n, err)
			}
		}
		HasNot(t, s, req)
		if sum := sha256.Sum256([]byte(data)); p.Sum() != hex.EncodeToString(sum[:]) {
			t.Errorf("Sum = %s; want %x", p.Sum(), sum)
		}
		want := RecordOf(k, data)
		want.Time = time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))
		got, err := p.Commit(want)
		if err != nil {
			t.Fatal(err)
		}
		if got.H1 != want.H1 || got.Source != "a" || !got.Time.Equal(want.Time) || got.Time.Location() != time.UTC {
			t.Errorf("Commit = %+v; want %+v, in UTC", got, want)
		}
		Has(t, s, req, data)
		if rec, err := s.Record(req); err != nil || rec != got {
			t.Errorf("Record = %+v, %v; Commit said %+v", rec, err, got)
		}
		Has(t, s, req, data) // and again, from wherever it is kept now
	}
	p, err := s.Create(Req(goproxy.Mod, modPath, "v1.0.1"))
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(p, "data")
	p.Abort()
	HasNot(t, s, Req(goproxy.Mod, modPath, "v1.0.1"))
}

func testPending(t *testing.T, s store.Store) {
	p, err := s.Create(zip)
	if err != nil {
		t.Fatal(err)
	}
	read := func(when string) {
		t.Helper()
		got := make([]byte, 10)
		if n, err := p.ReadAt(got, 2); n != 4 || err != io.EOF || string(got[:n]) != "cdef" {
			t.Errorf("%s, ReadAt = %q, %v; want cdef and EOF", when, got[:n], err)
		}
		if p.Size() != 6 {
			t.Errorf("%s, Size = %d; want 6", when, p.Size())
		}
	}
	io.WriteString(p, "abc")
	io.WriteString(p, "def")
	read("before Commit")
	if _, err := p.Commit(store.Record{}); err == nil {
		t.Error("Commit of a zip without h1 succeeded")
	}
	read("after a Commit that failed")
	if _, err := p.Commit(RecordOf(goproxy.Zip, "abcdef")); err != nil {
		t.Fatal(err)
	}
	read("after Commit")
	if _, err := p.Commit(RecordOf(goproxy.Zip, "abcdef")); err == nil {
		t.Error("a second Commit succeeded")
	}
	if _, err := p.Write([]byte("x")); err == nil {
		t.Error("Write after Commit succeeded")
	}
	if err := p.Reset(); err == nil {
		t.Error("Reset after Commit succeeded")
	}
	p.Abort()
	p.Abort()
	if _, err := p.ReadAt(make([]byte, 1), 0); err == nil || err == io.EOF {
		t.Errorf("ReadAt after Abort = %v; want an error", err)
	}
	Has(t, s, zip, "abcdef")

	p, err = s.Create(mod)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(p, "x")
	p.Abort()
	if _, err := p.Commit(RecordOf(goproxy.Mod, "x")); err == nil {
		t.Error("Commit after Abort succeeded")
	}
	HasNot(t, s, mod)
}

func testInvalid(t *testing.T, s store.Store) {
	for _, req := range []goproxy.Request{
		{},
		Req(goproxy.List, modPath, ""),
		Req(goproxy.Latest, modPath, ""),
		Req(goproxy.Info, modPath, "master"),
		Req(goproxy.Info, modPath, "v1.2"),
		Req(goproxy.Zip, modPath, "v2.0.0"),
		Req(goproxy.Mod, modPath, "../../x"),
		Req(goproxy.Mod, "../a.test/m", version),
		Req(goproxy.Zip, "", version),
		Req(goproxy.Zip, "a.test/m", ""),
	} {
		if _, err := s.Open(req); !errors.Is(err, fs.ErrInvalid) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open(%s) = %v; want it to be invalid", req, err)
		}
		if _, err := s.Record(req); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("Record(%s) = %v; want it to be invalid", req, err)
		}
		if err := s.Check(req); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("Check(%s) = %v; want it to be invalid", req, err)
		}
		if _, err := s.Create(req); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("Create(%s) = %v; want it to be invalid", req, err)
		}
		if err := s.Discard(req, store.Evidence{}, true); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("Discard(%s) = %v; want it to be invalid", req, err)
		}
	}
	if _, err := s.Versions("../x"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("Versions(../x) = %v; want it to be invalid", err)
	}
}

func testContentless(t *testing.T, s store.Store) {
	for _, k := range Kinds {
		if _, err := Commit(s, info.With(k), "", RecordOf(k, "")); err == nil {
			t.Errorf("an empty %s was committed", k)
		}
	}
	for _, k := range Kinds[1:] {
		if _, err := Commit(s, info.With(k), "data", store.Record{}); err == nil {
			t.Errorf("a %s without h1 was committed", k)
		}
	}
	for _, k := range Kinds {
		HasNot(t, s, info.With(k))
	}
}

func testIdempotence(t *testing.T, s store.Store) {
	for _, k := range Kinds {
		first := Put(t, s, info.With(k), "data")
		rec := RecordOf(k, "data")
		rec.Source = "b"
		second, err := Commit(s, info.With(k), "data", rec)
		if err != nil || second != first {
			t.Errorf("the second Commit of a %s = %+v, %v; want the Record of the first, %+v", k, second, err, first)
		}
		Has(t, s, info.With(k), "data")
	}
}

func testConflict(t *testing.T, s store.Store) {
	for _, k := range Kinds[1:] {
		req := info.With(k)
		first := Put(t, s, req, "data")
		if _, err := Commit(s, req, "other", RecordOf(k, "other")); !errors.Is(err, store.ErrConflict) {
			t.Errorf("Commit of another %s = %v; want ErrConflict", k, err)
		}
		Has(t, s, req, "data")
		if rec, err := s.Record(req); err != nil || rec != first {
			t.Errorf("Record = %+v, %v; want that of the first", rec, err)
		}
	}
}

func testVerified(t *testing.T, s store.Store) {
	for _, k := range Kinds[1:] {
		req := info.With(k)
		first := Put(t, s, req, "pinned")
		rec := RecordOf(k, "pinned")
		rec.Verified = "sum.test"
		got, err := Commit(s, req, "pinned", rec)
		if err != nil || got.Verified != "sum.test" || got.Time != first.Time || got.SHA256 != first.SHA256 {
			t.Errorf("Commit of the same, verified = %+v, %v; want the first, now verified", got, err)
		}
		Has(t, s, req, "pinned")
		for _, v := range []string{"", "sum.test", "other.test"} {
			rec := RecordOf(k, "other")
			rec.Verified = v
			if _, err := Commit(s, req, "other", rec); !errors.Is(err, store.ErrConflict) {
				t.Errorf("Commit of another %s over a verified one (verified by %q) = %v; want ErrConflict", k, v, err)
			}
		}
		if got, err := Commit(s, req, "pinned", RecordOf(k, "pinned")); err != nil || got.Verified != "sum.test" {
			t.Errorf("an unverified Commit gives %+v, %v; want it to stay verified", got, err)
		}
		Has(t, s, req, "pinned")

		req = Req(k, modPath, "v1.1.0")
		Put(t, s, req, "wrong")
		Has(t, s, req, "wrong")
		rec = RecordOf(k, "right")
		rec.Verified = "sum.test"
		if got, err := Commit(s, req, "right", rec); err != nil || got.H1 != rec.H1 || got.Verified != "sum.test" {
			t.Errorf("Commit of what is verified over what is not = %+v, %v", got, err)
		}
		Has(t, s, req, "right")
	}
	list, err := s.Quarantined()
	if err != nil || len(list) != 2 || list[0].Got != H1("wrong") || list[0].Want != H1("right") {
		t.Errorf("Quarantined = %+v, %v; want what was replaced", list, err)
	}
}

func testRecompressed(t *testing.T, s store.Store) {
	first := Put(t, s, zip, "data")
	rec := RecordOf(goproxy.Zip, "data") // the same h1 …
	got, err := Commit(s, zip, "data, compressed otherwise", rec)
	if err != nil || got != first {
		t.Errorf("Commit = %+v, %v; want the Record of the first, %+v", got, err, first)
	}
	Has(t, s, zip, "data")
	rec.Verified = "sum.test"
	if got, err = Commit(s, zip, "data, compressed otherwise", rec); err != nil || got.SHA256 != first.SHA256 || got.Verified != "sum.test" {
		t.Errorf("Commit = %+v, %v; want the first bytes, now verified", got, err)
	}
	Has(t, s, zip, "data")
}

func testInfo(t *testing.T, s store.Store) {
	first := Put(t, s, info, `{"Version":"v1.0.0"}`)
	for _, v := range []string{"", "sum.test"} {
		rec := RecordOf(goproxy.Info, "")
		rec.Verified = v
		if got, err := Commit(s, info, `{"Version":"v1.0.0","Time":"2026-01-02T03:04:05Z"}`, rec); err != nil || got != first {
			t.Errorf("Commit = %+v, %v; want the Record of the first", got, err)
		}
	}
	Has(t, s, info, `{"Version":"v1.0.0"}`)
}

func testRace(t *testing.T, s store.Store) {
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		data := fmt.Sprintf("content %d", i%2)
		wg.Go(func() { _, errs[i] = Commit(s, zip, data, RecordOf(goproxy.Zip, data)) })
	}
	wg.Wait()
	got, err := Get(s, zip)
	if err != nil {
		t.Fatal(err)
	}
	for i, err := range errs {
		if won := got == fmt.Sprintf("content %d", i%2); won != (err == nil) || !won && !errors.Is(err, store.ErrConflict) {
			t.Errorf("%q is stored, but the Commit of content %d gave %v", got, i%2, err)
		}
	}
	Has(t, s, zip, got)
}

func testReplaceRace(t *testing.T, s store.Store) {
	for i := range 20 {
		req := Req(Kinds[1+i%2], modPath, fmt.Sprintf("v1.0.%d", i))
		Put(t, s, req, "wrong")
		var wg sync.WaitGroup
		var done atomic.Bool
		for range 3 {
			wg.Go(func() {
				for !done.Load() {
					if got, err := Get(s, req); err != nil || got != "wrong" && got != "right" {
						t.Errorf("read %q, %v in the middle of a replacement", got, err)
					}
				}
			})
		}
		wg.Go(func() {
			defer done.Store(true)
			rec := RecordOf(req.Kind, "right")
			rec.Verified = "sum.test"
			if _, err := Commit(s, req, "right", rec); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		Has(t, s, req, "right")
	}
}

func testVersions(t *testing.T, s store.Store) {
	want := func(list ...string) {
		t.Helper()
		if got, err := s.Versions(modPath); err != nil || !slices.Equal(got, list) {
			t.Errorf("Versions = %q, %v; want %q", got, err, list)
		}
	}
	var done []string
	for i, v := range []string{"v1.10.0", "v1.9.0", "v1.9.1-RC.1", "v2.0.0+incompatible"} {
		for j := range Kinds {
			want(done...)
			Put(t, s, Req(Kinds[(i+j)%3], modPath, v), "data") // each time another one is the last
		}
		done = goproxy.SortVersions(append(done, v))
		want(done...)
	}
	PutVersion(t, s, modPath+"/v2", "v2.0.0")
	PutVersion(t, s, modPath+"/sub", "v0.1.0")
	want("v1.9.0", "v1.9.1-RC.1", "v1.10.0", "v2.0.0+incompatible")
	if err := s.Discard(Req(goproxy.Mod, modPath, "v1.10.0"), store.Evidence{Reason: "test"}, false); err != nil {
		t.Fatal(err)
	}
	want("v1.9.0", "v1.9.1-RC.1", "v2.0.0+incompatible")
	Put(t, s, Req(goproxy.Mod, modPath, "v1.10.0"), "data")
	want("v1.9.0", "v1.9.1-RC.1", "v1.10.0", "v2.0.0+incompatible")
}

func testPseudo(t *testing.T, s store.Store) {
	PutVersion(t, s, modPath, "v0.0.0-20260102030405-abcdefabcdef")
	if got, err := s.Versions(modPath); err != nil || len(got) != 0 {
		t.Errorf("Versions = %q, %v; want none", got, err)
	}
}

func testAnswers(t *testing.T, s store.Store) {
	reqs := []goproxy.Request{
		Req(goproxy.List, modPath, ""),
		Req(goproxy.Latest, modPath, ""),
		Req(goproxy.Info, modPath, "master"),
		Req(goproxy.Info, modPath, "feature"),
		Req(goproxy.Info, modPath, "feature.info/x"), // its path goes through that of feature
		Req(goproxy.Info, modPath, "Feature"),
	}
	answer := func(req goproxy.Request, n int) store.Answer {
		return store.Answer{Body: fmt.Appendf(nil, "answer %d\n\x00 to %s", n, req), Source: "a \"b\"\n", Time: time.Date(2026, 1, 2, 3, 4, n, 5, time.UTC)}
	}
	for n := range 2 {
		for _, req := range reqs {
			if _, err := s.Answer(req); n == 0 && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Answer(%s) = %v; want it not to exist", req, err)
			}
			if err := s.SetAnswer(req, answer(req, n)); err != nil {
				t.Errorf("SetAnswer(%s) = %v", req, err)
			}
		}
		for _, req := range reqs {
			got, err := s.Answer(req)
			want := answer(req, n)
			if err != nil || !bytes.Equal(got.Body, want.Body) || got.Source != want.Source || got.Time != want.Time {
				t.Errorf("Answer(%s) = %+v, %v; want %+v", req, got, err, want)
			}
		}
	}
	if err := s.SetAnswer(reqs[0], store.Answer{Time: time.Unix(1, 0)}); err != nil {
		t.Error(err)
	}
	if a, err := s.Answer(reqs[0]); err != nil || len(a.Body) != 0 {
		t.Errorf("an empty answer reads as %+v, %v", a, err)
	}
	for _, req := range []goproxy.Request{{}, info, mod, zip, Req(goproxy.List, "../x", ""), Req(goproxy.Info, modPath, "../x")} {
		if _, err := s.Answer(req); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("Answer(%s) = %v; want it to be invalid", req, err)
		}
		if err := s.SetAnswer(req, store.Answer{}); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("SetAnswer(%s) = %v; want it to be invalid", req, err)
		}
	}
}

func testFiles(t *testing.T, s store.Store) {
	const tile = "sum.test/tile/8/0/x001/234"
	if _, err := s.ReadFile(tile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadFile = %v; want it not to exist", err)
	}
	for _, name := range []string{tile, tile + ".p/5", "sum.test/lookup/a.test/!mod@v1.0.0", "sum.test/lookup/a.test/!mod/v2@v2.0.0"} {
		for _, data := range []string{"first", "second", "second", ""} {
			if err := s.WriteFile(name, []byte(data)); err != nil {
				t.Errorf("WriteFile(%s) = %v", name, err)
			}
			if got, err := s.ReadFile(name); err != nil || string(got) != data {
				t.Errorf("ReadFile(%s) = %q, %v; want %q", name, got, err, data)
			}
		}
	}
	for _, name := range []string{"sum.test/tile/8", "other.test/supported"} {
		if _, err := s.ReadFile(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("ReadFile(%s) = %v; want it not to exist", name, err)
		}
	}
	if data, err := s.ReadFile("sum.test/supported"); err != nil || len(data) != 0 {
		t.Errorf("ReadFile(supported) = %q, %v; want it to be there, empty", data, err)
	}
}

func testNames(t *testing.T, s store.Store) {
	for _, name := range []string{
		"", ".", "..", "/", "sum.test", "sum.test/", "/sum.test/latest", "../x", "../../etc/passwd", "sum.test/../../x", "sum.test/../x/y",
		"./sum.test/latest", "sum.test/./latest", "sum.test//latest", `sum.test\..\..\x/y`, `sum.test/..\x`, "sum.test/a\x00b", "sum.test/a\nb",
		"sum.test/\xff", "sum.test/" + strings.Repeat("x", 300),
	} {
		if _, err := s.ReadFile(name); !errors.Is(err, fs.ErrInvalid) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("ReadFile(%q) = %v; want it to be refused", name, err)
		}
		if err := s.WriteFile(name, []byte("x")); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("WriteFile(%q) = %v; want it to be refused", name, err)
		}
		if err := s.SwapFile(name, nil, []byte("x")); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("SwapFile(%q) = %v; want it to be refused", name, err)
		}
	}
}

func testSwap(t *testing.T, s store.Store) {
	const name = "sum.test/latest"
	for _, c := range []struct {
		old, new string
		ok       bool
	}{
		{"x", "one", false},
		{"", "one", true},
		{"", "two", false},
		{"two", "three", false},
		{"one", "two", true},
		{"two", "", true},
		{"two", "one", false},
		{"", "three", true},
	} {
		before, _ := s.ReadFile(name)
		err := s.SwapFile(name, []byte(c.old), []byte(c.new))
		after, _ := s.ReadFile(name)
		switch {
		case c.ok && (err != nil || string(after) != c.new):
			t.Errorf("SwapFile(%q → %q) = %v, and %q is there", c.old, c.new, err, after)
		case !c.ok && (!errors.Is(err, store.ErrConflict) || !bytes.Equal(before, after)):
			t.Errorf("SwapFile(%q → %q) on %q = %v, and %q is there; want ErrConflict", c.old, c.new, before, err, after)
		}
	}
}

func testSwapRace(t *testing.T, s store.Store) {
	const name, workers, rounds = "sum.test/latest", 4, 10
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range rounds {
				for {
					old, err := s.ReadFile(name)
					if err != nil && !errors.Is(err, fs.ErrNotExist) {
						t.Error(err)
						return
					}
					err = s.SwapFile(name, old, append(bytes.Clone(old), 'x'))
					if err == nil {
						break
					}
					if !errors.Is(err, store.ErrConflict) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if data, err := s.ReadFile(name); err != nil || len(data) != workers*rounds {
		t.Errorf("%d of %d swaps are left, %v", len(data), workers*rounds, err)
	}
}

func testQuarantine(t *testing.T, s store.Store) {
	ev := store.Evidence{Module: modPath, Version: version, Kind: "zip", Source: "a", Reason: "its h1 is wrong", Want: "h1:x", Got: "h1:y", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	if err := s.Quarantine(ev, strings.NewReader("body")); err != nil {
		t.Fatal(err)
	}
	later := ev
	later.Reason, later.Time, later.Size, later.SHA256 = "no body", ev.Time.Add(time.Hour), 7, "abc"
	if err := s.Quarantine(later, nil); err != nil {
		t.Fatal(err)
	}
	list, err := s.Quarantined()
	if err != nil || len(list) != 2 {
		t.Fatalf("Quarantined = %+v, %v; want two", list, err)
	}
	sum := sha256.Sum256([]byte("body"))
	ev.Size, ev.SHA256 = 4, hex.EncodeToString(sum[:])
	for i, want := range []store.Evidence{ev, later} {
		got := list[i]
		got.Dir, got.NoBody = "", ""
		if got != want {
			t.Errorf("Quarantined[%d] = %+v; want %+v", i, got, want)
		}
	}
	HasNot(t, s, zip)
	failing := io.MultiReader(strings.NewReader("bo"), &failingReader{})
	if err := s.Quarantine(store.Evidence{Reason: "unreadable"}, failing); !errors.Is(err, ErrInjected) {
		t.Errorf("Quarantine of an unreadable body = %v; want the reader's error", err)
	}
	if list, err := s.Quarantined(); err != nil || len(list) != 3 || list[2].Reason != "unreadable" || list[2].Time.IsZero() || list[2].NoBody == "" {
		t.Errorf("Quarantined = %+v, %v; want the evidence all the same", list, err)
	}
}

type failingReader struct{}

func (*failingReader) Read([]byte) (int, error) { return 0, ErrInjected }

func testDiscard(t *testing.T, s store.Store) {
	for _, k := range Kinds {
		req := info.With(k)
		if err := s.Discard(req, store.Evidence{}, false); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Discard of nothing = %v; want it not to exist", err)
		}
		rec := Put(t, s, req, "data")
		Has(t, s, req, "data")
		if err := s.Discard(req, store.Evidence{Reason: "test"}, false); err != nil {
			t.Fatal(err)
		}
		HasNot(t, s, req)
		if got, err := s.Record(req); err != nil || got != rec {
			t.Errorf("Record = %+v, %v after Discard; want it to stay", got, err)
		}
		if err := s.Discard(req, store.Evidence{}, false); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a second Discard = %v; want it not to exist", err)
		}
		if k == goproxy.Info {
			Put(t, s, req, "other data")
			Has(t, s, req, "other data")
			continue
		}
		if _, err := Commit(s, req, "other", RecordOf(k, "other")); !errors.Is(err, store.ErrConflict) {
			t.Errorf("Commit of other content after Discard = %v; want ErrConflict", err)
		}
		HasNot(t, s, req)
		// The same content comes back, maybe in other bytes, and is as old as it was.
		got, err := Commit(s, req, "data in other bytes", RecordOf(k, "data"))
		if err != nil || got.Time != rec.Time || got.SHA256 == rec.SHA256 {
			t.Errorf("Commit = %+v, %v; want the new bytes and the time of the first", got, err)
		}
		Has(t, s, req, "data in other bytes")
	}
	list, err := s.Quarantined()
	if err != nil || len(list) != 3 || list[0].Module != modPath || list[0].Version != version || list[0].Kind != "info" || list[0].Size != 4 || list[0].SHA256 == "" {
		t.Errorf("Quarantined = %+v, %v; want three with everything filled in", list, err)
	}
}

func testForget(t *testing.T, s store.Store) {
	for _, k := range Kinds {
		req := info.With(k)
		Put(t, s, req, "data")
		if err := s.Discard(req, store.Evidence{Reason: "test"}, true); err != nil {
			t.Fatal(err)
		}
		HasNot(t, s, req)
		if _, err := s.Record(req); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Record = %v; want it forgotten", err)
		}
		Put(t, s, req, "other")
		Has(t, s, req, "other")
		if err := errors.Join(s.Discard(req, store.Evidence{}, false), s.Discard(req, store.Evidence{}, true)); err != nil {
			t.Errorf("forgetting what was discarded = %v", err)
		}
		if err := s.Discard(req, store.Evidence{}, true); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("forgetting what is forgotten = %v; want it not to exist", err)
		}
	}
}

func testWalk(t *testing.T, s store.Store) {
	var want []string
	for _, m := range []module.Version{
		{Path: "a.test/m", Version: "v1.0.0"},
		{Path: "a.test/m", Version: "v1.0.0-a"},
		{Path: "a.test/m", Version: "v1.0.0-a.mod-x"},
		{Path: "a.test/m-x", Version: "v1.0.0"},
		{Path: "a.test/m/v2", Version: "v2.0.0"},
		{Path: "a.test/M", Version: "v0.0.0-20260102030405-abcdefabcdef"},
		{Path: "a.test", Version: "v1.0.0"},
	} {
		for _, k := range Kinds {
			req := goproxy.Request{Kind: k, Module: m}
			Put(t, s, req, "data")
			want = append(want, req.Path())
		}
	}
	pin := Req(goproxy.Zip, "a.test/m", "v1.5.0")
	Put(t, s, pin, "data")
	if err := s.Discard(pin, store.Evidence{}, false); err != nil {
		t.Fatal(err)
	}
	s.WriteFile("sum.test/lookup/a.test/m@v1.0.0", []byte("data"))
	s.SetAnswer(Req(goproxy.List, "a.test/m", ""), store.Answer{})
	slices.Sort(want)
	var got []string
	err := s.Walk(t.Context(), func(req goproxy.Request, err error) error {
		got = append(got, req.Path())
		if err == nil {
			err = s.Check(req)
		}
		return err
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("Walk = %v, and went\n%s\nwant\n%s", err, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func testWalkEnds(t *testing.T, s store.Store) {
	PutVersion(t, s, modPath, version)
	n := 0
	walk := func(ctx context.Context, answer error) error {
		n = 0
		return s.Walk(ctx, func(goproxy.Request, error) error { n++; return answer })
	}
	if err := walk(t.Context(), ErrInjected); err != ErrInjected || n != 1 {
		t.Errorf("Walk = %v after %d; want the error of the first", err, n)
	}
	if err := walk(t.Context(), fs.SkipAll); err != nil || n != 1 {
		t.Errorf("Walk = %v after %d; want SkipAll to end it", err, n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := walk(ctx, nil); !errors.Is(err, context.Canceled) || n != 0 {
		t.Errorf("Walk = %v after %d; want it cancelled", err, n)
	}
}

func testProbe(t *testing.T, s store.Store) {
	if err := s.Probe(); err != nil {
		t.Error(err)
	}
	if err := s.Walk(t.Context(), func(req goproxy.Request, err error) error { return fmt.Errorf("%s: %w", req, err) }); err != nil {
		t.Errorf("after Probe there is %v", err)
	}
}
