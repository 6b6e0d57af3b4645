package mirror

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	modzip "golang.org/x/mod/zip"

	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/modtest"
)

var zipModule = module.Version{Path: "zip.test/m", Version: "v1.0.0"}

// theirs is what x/mod says of a zip: its h1, or why it is refused.
func theirs(t testing.TB, data []byte) (string, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "m.zip")
	if err := os.WriteFile(name, data, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := modzip.CheckZip(zipModule, name); err != nil {
		return "", err
	}
	return dirhash.HashZip(name, dirhash.Hash1)
}

// ours is what we say of it.
func ours(t testing.TB, data []byte) (string, error) {
	z, err := readZip(bytes.NewReader(data), int64(len(data)), zipModule)
	if err != nil {
		return "", err
	}
	if _, err := z.hash(t.Context()); err != nil {
		return "", err
	}
	if _, err := z.goMod(); err != nil {
		return "", fmt.Errorf("go.mod cannot be read, though hash could: %w", err)
	}
	return z.hash(t.Context())
}

func agree(t testing.TB, name string, data []byte) (ok bool) {
	t.Helper()
	want, werr := theirs(t, data)
	got, err := ours(t, data)
	switch {
	case (err == nil) != (werr == nil):
		t.Errorf("%s: we say %v, x/mod says %v", name, err, werr)
	case got != want:
		t.Errorf("%s: our h1 is %s, x/mod's %s", name, got, want)
	}
	return err == nil
}

// packed makes a zip of name, content pairs.
func packed(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	zw := zip.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		w, err := zw.Create(files[i])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// oddZips are zips at the edges of the rules, which nobody may change: some are made of
// much, once for all tests.
func oddZips(t testing.TB) map[string][]byte {
	odd.Do(func() { odd.zips = makeOddZips(t) })
	if odd.zips == nil {
		t.Fatal("the odd zips could not be made; another test says why")
	}
	return odd.zips
}

var odd struct {
	sync.Once
	zips map[string][]byte
}

func makeOddZips(t testing.TB) map[string][]byte {
	p := zipModule.String() + "/"
	big := func(name string, n int) []byte { return packed(t, p+name, strings.Repeat("x", n)) }
	return map[string][]byte{
		"plain":                     packed(t, p+"go.mod", "module zip.test/m\n", p+"a.go", "package a\n", p+"b/b.go", "package b\n"),
		"empty":                     packed(t),
		"without go.mod":            packed(t, p+"a.go", "package a\n"),
		"with directories":          packed(t, p, "", p+"a/", "", p+"a/a.go", "package a\n", p+"b/", ""),
		"a directory twice":         packed(t, p+"a/", "", p+"a/", "", p+"a/a.go", "package a\n"),
		"the prefix twice":          packed(t, p, "", p, "", p+"a.go", "package a\n"),
		"a file twice":              packed(t, p+"a.go", "package a\n", p+"a.go", "package a\n"),
		"a file and a directory":    packed(t, p+"a", "x", p+"a/b.go", "package b\n"),
		"a directory and a file":    packed(t, p+"a/b.go", "package b\n", p+"a", "x"),
		"a directory as file":       packed(t, p+"a/", "", p+"a", "x"),
		"cases of a directory":      packed(t, p+"a/x.go", "", p+"A/y.go", ""),
		"cases of a directory, 2":   packed(t, p+"sub/x.go", "", p+"sub/y.go", "", p+"Sub/", ""),
		"cases of a letter":         packed(t, p+"straße.go", "", p+"STRASSE.go", "", p+"\u212a.go", "", p+"k.go", ""),
		"Kelvin and k":              packed(t, p+"\u212a.go", "", p+"k.go", ""),
		"long s":                    packed(t, p+"\u017f.go", "", p+"S.go", ""),
		"upper case beyond ASCII":   packed(t, p+"Ä.go", "", p+"ä.go", ""),
		"one upper case":            packed(t, p+"README", "", p+"readme.md", ""),
		"GO.MOD":                    packed(t, p+"GO.MOD", "module zip.test/m\n"),
		"go.mod below":              packed(t, p+"sub/go.mod", "module zip.test/m/sub\n"),
		"go.mod as directory":       packed(t, p+"go.mod/", "", p+"a.go", ""),
		"go.mod as directory, file": packed(t, p+"go.mod/a.go", "package a\n"),
		"LICENSE, large":            big("LICENSE", maxLicense+1),
		"LICENSE, just so":          big("LICENSE", maxLicense),
		"go.mod, large":             big("go.mod", goproxy.MaxMod+1),
		"other file, large":         big("license", maxLicense+1),
		"no prefix":                 packed(t, "a.go", ""),
		"prefix without slash":      packed(t, strings.TrimSuffix(p, "/"), ""),
		"other version":             packed(t, "zip.test/m@v1.0.1/a.go", ""),
		"dots":                      packed(t, p+"a/../b.go", ""),
		"double slash":              packed(t, p+"a//b.go", ""),
		"slash at the front":        packed(t, p+"/b.go", ""),
		"dot":                       packed(t, p+".", ""),
		"hidden":                    packed(t, p+".gitignore", "", p+"_x/.y", ""),
		"dot at the end":            packed(t, p+"a./b.go", ""),
		"space":                     packed(t, p+"a b.go", ""),
		"device":                    packed(t, p+"con.go", ""),
		"device below":              packed(t, p+"x/AUX/y.go", ""),
		"tilde":                     packed(t, p+"longna~1.go", ""),
		"colon":                     packed(t, p+"a:b.go", ""),
		"newline":                   packed(t, p+"a\nb.go", ""),
		"not UTF-8":                 packed(t, p+"\xff.go", ""),
		"vendor":                    packed(t, p+"vendor/modules.txt", "", p+"vendor/x.test/y/y.go", ""),
	}
}

func TestWeJudgeZipsAsXModDoes(t *testing.T) {
	good, bad := 0, 0
	count := func(ok bool) {
		if ok {
			good++
		} else {
			bad++
		}
	}
	odd := oddZips(t)
	for name, data := range odd {
		count(agree(t, name, data))
	}
	n := 0
	for _, base := range []string{"plain", "with directories", "vendor", "without go.mod"} {
		for name, data := range faults.Mutations(odd[base], zipModule) {
			if strings.HasPrefix(name, "bomb/") && base != "plain" {
				continue // a gigabyte each
			}
			count(agree(t, base+": "+name, data))
			n++
		}
	}
	w := modtest.New(t)
	w.Add(zipModule.Path, zipModule.Version, modtest.Files{"go.mod": "module zip.test/m\n", "a/b/c.go": "package c\n", "LICENSE": "as you like it\n"})
	count(agree(t, "made by x/mod", w.Zip(zipModule)))
	if got, err := ours(t, w.Zip(zipModule)); err != nil || got != w.H1Zip(zipModule) {
		t.Errorf("%s, %v; want %s", got, err, w.H1Zip(zipModule))
	}
	t.Logf("agreed on %d good zips and %d bad ones, %d of them mutations", good, bad, n)
}

func FuzzZip(f *testing.F) {
	for _, data := range oddZips(f) {
		if len(data) < 10<<10 {
			f.Add(data)
		}
	}
	for name, data := range faults.Mutations(oddZips(f)["with directories"], zipModule) {
		if len(data) < 10<<10 && !strings.HasPrefix(name, "bomb/") {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) { agree(t, "the fuzzed one", data) })
}

// A bomb costs no more than the limits say, however it is made.
func TestABombIsDefused(t *testing.T) {
	w := modtest.New(t)
	w.Add(zipModule.Path, zipModule.Version, nil)
	plain := w.Zip(zipModule)
	bombs := map[string][]byte{}
	for name, data := range faults.Mutations(plain, zipModule) {
		if strings.HasPrefix(name, "bomb/") {
			bombs[name] = data
		}
	}
	if len(bombs) != 2 {
		t.Fatalf("%d bombs", len(bombs))
	}
	codes := map[string]finding.Code{"bomb/declared": finding.ZipTooLarge, "bomb/hidden": finding.ZipDamaged}
	for name, data := range bombs {
		read := &countingReader{Reader: bytes.NewReader(data)}
		z, err := readZip(read, int64(len(data)), zipModule)
		if err == nil {
			_, err = z.hash(t.Context())
		}
		if err == nil || read.n.Load() > 2*int64(len(data))+1<<20 {
			t.Errorf("%s: %v after reading %d bytes of %d", name, err, read.n.Load(), len(data))
		}
		if code := sourceCodeOf(err); code != codes[name] {
			t.Errorf("%s: %s, %v", name, code, err)
		}
	}
	// A directory that is larger than anybody's memory should be: read, it would
	// make millions of objects.
	entry := directoryEntry(zipModule.String()+"/a.go", 0, 0)
	n := (400 << 20) / len(entry)
	huge := &repeated{body: entry, size: int64(n * len(entry)), tail: endRecord(n, n*len(entry), 0)}
	read := &countingReader{Reader: huge}
	if _, err := readZip(read, huge.size+int64(len(huge.tail)), zipModule); err == nil || read.n.Load() > maxDirectory+1<<20 {
		t.Errorf("a huge directory: %v after reading %d bytes", err, read.n.Load())
	} else if ze, ok := errors.AsType[*ZipError](err); !ok || ze.Damaged || !strings.Contains(err.Error(), "directory is larger") {
		t.Errorf("a huge directory: %v", err)
	}
	// Members that lie one over the other make much work of little.
	var dir []byte
	const members, size = 8, 300 << 20
	for i := range members {
		dir = append(dir, directoryEntry(fmt.Sprintf("%s/%d.go", zipModule, i), size, 0)...)
	}
	over := &repeated{body: make([]byte, 1), size: size, tail: append(dir, endRecord(members, len(dir), size)...)}
	if _, err := readZip(over, over.size+int64(len(over.tail)), zipModule); err == nil || !strings.Contains(err.Error(), "one over the other") {
		t.Errorf("overlapping members: %v", err)
	}
}

// directoryEntry is an entry of a zip's directory for a stored member at the
// beginning of the zip.
func directoryEntry(name string, packed, size uint32) []byte {
	b := append([]byte("PK\x01\x02"), make([]byte, 42)...)
	binary.LittleEndian.PutUint32(b[20:], packed)
	binary.LittleEndian.PutUint32(b[24:], size)
	binary.LittleEndian.PutUint16(b[28:], uint16(len(name)))
	return append(b, name...)
}

// endRecord is the end of a zip with so many entries.
func endRecord(entries, size, offset int) []byte {
	b := append([]byte("PK\x05\x06"), make([]byte, 18)...)
	binary.LittleEndian.PutUint16(b[8:], uint16(entries))
	binary.LittleEndian.PutUint16(b[10:], uint16(entries))
	binary.LittleEndian.PutUint32(b[12:], uint32(size))
	binary.LittleEndian.PutUint32(b[16:], uint32(offset))
	return b
}

// repeated is body over and over, size bytes of it, and a tail.
type repeated struct {
	body []byte
	size int64
	tail []byte
}

func (r *repeated) ReadAt(p []byte, off int64) (int, error) {
	for i := range p {
		switch at := off + int64(i); {
		case at < r.size:
			p[i] = r.body[at%int64(len(r.body))]
		case at < r.size+int64(len(r.tail)):
			p[i] = r.tail[at-r.size]
		default:
			return i, io.EOF
		}
	}
	return len(p), nil
}

func sourceCodeOf(err error) finding.Code {
	if fe, ok := errors.AsType[*formError](err); ok {
		return fe.code
	}
	if ze, ok := errors.AsType[*ZipError](err); ok && ze.Damaged {
		return finding.ZipDamaged
	}
	return finding.ZipRules
}

type countingReader struct {
	Reader io.ReaderAt
	n      atomic.Int64 // members are read side by side
}

func (r *countingReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.Reader.ReadAt(p, off)
	r.n.Add(int64(n))
	return n, err
}
