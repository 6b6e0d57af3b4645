package mirror

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"path"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/inflate"
)

const (
	// maxLicense is the go command's limit for a LICENSE file, in bytes.
	maxLicense = 16 << 20
	// maxDirectory is the most bytes that a zip's directory may take: room for a
	// few hundred thousand files.
	maxDirectory = 32 << 20
)

// A ZipError says which rule of https://go.dev/ref/mod#zip-files a zip breaks.
type ZipError struct {
	File string // the member, or "" for the zip itself
	Err  error
	// Damaged tells bytes that are no whole zip from a zip with wrong contents.
	Damaged bool
}

func (e *ZipError) Error() string {
	if e.File == "" {
		return "the zip is not a module zip: " + e.Err.Error()
	}
	return fmt.Sprintf("the zip is not a module zip: %q: %v", e.File, e.Err)
}

// Unwrap gives the cause.
func (e *ZipError) Unwrap() error { return e.Err }

// A moduleZip is a zip whose directory obeys the rules. Its members have not
// been read yet; hash reads them all.
type moduleZip struct {
	r      io.ReaderAt
	size   int64
	prefix string
	files  []*zip.File // all members, directories too, by name
}

// readZip checks a zip's directory by the module zip rules, as x/mod/zip.CheckZip
// does for a file.
func readZip(r io.ReaderAt, size int64, mod module.Version) (*moduleZip, error) {
	bad := func(file string, err error) (*moduleZip, error) { return nil, &ZipError{File: file, Err: err} }
	if size > goproxy.MaxZip {
		return nil, &tooLargeError{goproxy.MaxZip}
	}
	dir := &directoryReader{r: r, left: maxDirectory}
	zr, err := zip.NewReader(dir, size)
	if dir.left < 0 {
		return bad("", fmt.Errorf("its directory is larger than %d bytes", maxDirectory))
	}
	dir.done = true // members are read through it too
	if err != nil {
		head := make([]byte, 64)
		n, _ := r.ReadAt(head, 0)
		if bytes.HasPrefix(bytes.TrimLeft(head[:n], " \t\r\n"), []byte("<")) {
			err = &formError{finding.SourceHTML, "it is an HTML page; a login page or filter may stand in between"}
		}
		return nil, &ZipError{Err: err, Damaged: true}
	}
	z := &moduleZip{r: r, size: size, prefix: mod.Path + "@" + mod.Version + "/"}
	seen := make(collisions, len(zr.File))
	var total, packed int64
	for _, f := range zr.File {
		name, ok := strings.CutPrefix(f.Name, z.prefix)
		if !ok {
			return bad(f.Name, fmt.Errorf("the name does not begin with %q", z.prefix))
		}
		z.files = append(z.files, f)
		// Members may share their bytes, so that reading them takes longer than the
		// zip is large; not without an end.
		if packed += int64(min(f.CompressedSize64, uint64(size))); packed > 2*goproxy.MaxZip {
			return bad(f.Name, errors.New("the members lie one over the other"))
		}
		if name == "" {
			continue
		}
		name, isDir := strings.CutSuffix(name, "/")
		if path.Clean(name) != name {
			return bad(f.Name, errors.New("the name is not clean"))
		}
		if err := module.CheckFilePath(name); err != nil {
			return bad(f.Name, err)
		}
		if err := seen.add(name, isDir); err != nil {
			return bad(f.Name, err)
		}
		if isDir {
			continue
		}
		if base := path.Base(name); strings.EqualFold(base, "go.mod") && name != "go.mod" {
			return bad(f.Name, errors.New("a go.mod belongs in the module's root directory, in lower case"))
		}
		n := int64(f.UncompressedSize64)
		if n < 0 || n > goproxy.MaxZip-total {
			return bad("", &formError{finding.ZipTooLarge, fmt.Sprintf("its contents are larger than %d bytes", int64(goproxy.MaxZip))})
		}
		total += n
		if name == "go.mod" && n > goproxy.MaxMod || name == "LICENSE" && n > maxLicense {
			return bad(f.Name, errors.New("the file is larger than 16 MiB"))
		}
	}
	slices.SortStableFunc(z.files, func(a, b *zip.File) int { return strings.Compare(a.Name, b.Name) })
	for i := len(z.files) - 2; i >= 0; i-- {
		if z.files[i].Name == z.files[i+1].Name { // a directory, which may be there twice; dirhash reads the last
			z.files[i] = z.files[i+1]
		}
	}
	return z, nil
}

// A directoryReader reads as much as a zip's directory may take, before members
// are read: archive/zip makes an object of each entry, and a zip of the largest
// size could hold ten million.
type directoryReader struct {
	r    io.ReaderAt
	left int64 // negative once it was not enough
	done bool  // from now on members are read, by several at once
}

func (d *directoryReader) ReadAt(p []byte, off int64) (int, error) {
	if d.done {
		return d.r.ReadAt(p, off)
	}
	if d.left -= int64(len(p)); d.left < 0 {
		return 0, errors.New("the zip's directory is too large")
	}
	return d.r.ReadAt(p, off)
}

// hash reads every member, which checks its CRC, and gives the zip's h1 as
// x/mod/sumdb/dirhash.HashZip does: directories count, as empty files.
func (z *moduleZip) hash(ctx context.Context) (string, error) {
	for _, f := range z.files {
		if strings.Contains(f.Name, "\n") {
			return "", &ZipError{File: f.Name, Err: errors.New("the name has a line break")}
		}
	}
	sums := make([][sha256.Size]byte, len(z.files))
	errs := make([]error, len(z.files))
	var next atomic.Int64
	var failed atomic.Bool
	work := func() {
		for i := next.Add(1) - 1; i < int64(len(z.files)) && !failed.Load() && ctx.Err() == nil; i = next.Add(1) - 1 {
			select {
			case s := <-scratches:
				errs[i] = s.guarded(&sums[i], z.r, z.files[i])
			case <-ctx.Done():
				return
			}
			if errs[i] != nil {
				failed.Store(true) // those before it have been begun, so the first error is among them
			}
		}
	}
	var wg sync.WaitGroup
	for range min(cap(scratches), int(z.size/parallelFrom)) {
		wg.Go(work)
	}
	work()
	wg.Wait()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	sum := sha256.New()
	for i, f := range z.files {
		if errs[i] != nil {
			return "", &ZipError{File: f.Name, Err: errs[i], Damaged: true}
		}
		fmt.Fprintf(sum, "%s  %s\n", hex.EncodeToString(sums[i][:]), f.Name)
	}
	return "h1:" + base64.StdEncoding.EncodeToString(sum.Sum(nil)), nil
}

// parallelFrom is how many bytes of a zip are worth another processor.
const parallelFrom = 1 << 20

// A scratch is what it takes to read one member. There are as many as it makes
// sense to read at once in this process.
type scratch struct {
	inflate inflate.Decoder
	sha     hash.Hash
	crc     uint32
	left    uint64 // bytes that may still come
	buf     []byte // for what is not compressed
}

var scratches = func() chan *scratch {
	c := make(chan *scratch, min(runtime.GOMAXPROCS(0), 16))
	for range cap(c) {
		c <- nil // made when it is needed
	}
	return c
}()

// Write takes what comes out of a member.
func (s *scratch) Write(p []byte) (int, error) {
	if uint64(len(p)) > s.left {
		return 0, errMemberSize
	}
	s.left -= uint64(len(p))
	s.crc = crc32.Update(s.crc, crc32.IEEETable, p)
	s.sha.Write(p)
	return len(p), nil
}

// guarded is sum with the scratch s, which may be nil, given back. A panic is a bug,
// and an error of the member: it must not end the process, whoever made the zip.
func (s *scratch) guarded(to *[sha256.Size]byte, r io.ReaderAt, f *zip.File) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("an internal error: %v\n%s", p, debug.Stack())
			s = nil // nobody knows its state
		}
		scratches <- s
	}()
	if s == nil {
		s = &scratch{sha: sha256.New()}
	}
	return s.sum(to, r, f)
}

// sum gives the SHA-256 of a member, all of which it checks as archive/zip does.
func (s *scratch) sum(to *[sha256.Size]byte, r io.ReaderAt, f *zip.File) error {
	if f.Method != zip.Deflate || strings.HasSuffix(f.Name, "/") {
		if s.buf == nil {
			s.buf = make([]byte, copyBuffer)
		}
		s.sha.Reset()
		err := copyMember(s.sha, f, s.buf)
		s.sha.Sum(to[:0])
		return err
	}
	at, err := f.DataOffset()
	if err != nil {
		return err
	}
	s.sha.Reset()
	s.crc, s.left = 0, f.UncompressedSize64
	if _, err := s.inflate.Copy(s, io.NewSectionReader(r, at, int64(f.CompressedSize64))); err != nil {
		return err
	}
	if s.left > 0 {
		return errMemberSize
	}
	described := f.Flags&flagDescriptor != 0
	if described {
		crc, err := descriptor(r, at+int64(f.CompressedSize64))
		if err != nil {
			return err
		}
		if crc != f.CRC32 {
			return zip.ErrChecksum
		}
	}
	if s.crc != f.CRC32 && (f.CRC32 != 0 || described) {
		return zip.ErrChecksum
	}
	s.sha.Sum(to[:0])
	return nil
}

// descriptor reads the checksum behind a member's data, at off. It has a signature, which
// some leave out, and two sizes, which the directory has, too.
func descriptor(r io.ReaderAt, off int64) (crc uint32, err error) {
	var b [16]byte // in one go: a zip has many of them, and its directory follows the last
	n, err := r.ReadAt(b[:], off)
	size := 12
	if binary.LittleEndian.Uint32(b[:]) == descriptorSignature {
		size = 16
	}
	switch {
	case n >= size:
	case err == io.EOF:
		return 0, io.ErrUnexpectedEOF
	default:
		return 0, err
	}
	return binary.LittleEndian.Uint32(b[size-12:]), nil
}

const (
	flagDescriptor      = 0x8 // sizes and checksum follow the data
	descriptorSignature = 0x08074b50
)

var errMemberSize = errors.New("the file has another size than the zip's directory says")

func copyMember(w io.Writer, f *zip.File, buf []byte) error {
	rc, err := f.Open()
	if err != nil {
		return err
	}
	defer rc.Close()
	// The directory's size was checked; a member that holds more than it says is
	// an error of archive/zip, and this bounds it all the same.
	n, err := io.CopyBuffer(w, io.LimitReader(rc, int64(f.UncompressedSize64)+1), buf)
	if err == nil && n != int64(f.UncompressedSize64) {
		err = errMemberSize
	}
	return err
}

// goMod is the go.mod in the zip, or nil if it has none.
func (z *moduleZip) goMod() ([]byte, error) {
	for _, f := range z.files {
		if f.Name == z.prefix+"go.mod" {
			var b bytes.Buffer
			err := copyMember(&b, f, make([]byte, copyBuffer))
			return b.Bytes(), err
		}
	}
	return nil, nil
}

// collisions finds names that a file system without case, or one with, cannot
// hold side by side. The key is the folded name.
type collisions map[string]struct {
	name  string
	isDir bool
}

func (c collisions) add(name string, isDir bool) error {
	for ; name != "."; name, isDir = path.Dir(name), true {
		key := fold(name)
		other, ok := c[key]
		switch {
		case !ok:
			c[key] = struct {
				name  string
				isDir bool
			}{name, isDir}
		case other.name != name:
			return fmt.Errorf("the name differs from %q only in case", other.name)
		case other.isDir != isDir:
			return fmt.Errorf("%q is both a file and a directory", name)
		case !isDir:
			return errors.New("the name occurs twice")
		default:
			return nil // a directory seen before, and so are its parents
		}
	}
	return nil
}

// fold maps names that differ only in case to one.
func fold(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf || 'A' <= r && r <= 'Z' }) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		// SimpleFold cycles through the equivalents: take the least, and of the
		// letters A to Z the lower case, so that the fast path above agrees.
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		if 'A' <= least && least <= 'Z' {
			least += 'a' - 'A'
		}
		return least
	}, s)
}
