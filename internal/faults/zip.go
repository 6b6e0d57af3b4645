package faults

import (
	"archive/zip"
	"bytes"
	"cmp"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/modsluice/sluice/internal/goproxy"
	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
)

// regions are the words that the fault flip takes: the first member's local
// header, its name in the directory, the data of the first, middle and last
// member, the directory's entry of the middle member, the end record, and that
// record's length of a comment.
var regions = []string{"local", "name", "data", "data-middle", "data-last", "directory", "end", "comment"}

// Mutations yields what a liar, or a broken line, could serve in place of the
// zip of mod, each under a short name: bits flipped in every region, cuts, bytes
// put before and behind, members added, taken, renamed and exchanged, other
// versions, other modules, things that are no zip. The order and the names are
// the same every time; the names have no spaces.
//
// None of them is right: read as the go command reads a zip, each is invalid or
// has another h1. What leaves the h1 as it is (members in another order, another
// compression, a local header that no reader looks at) is not among them. Each is
// read once to make sure, so the cost is that of hashing the zip some hundred
// times. A zip that cannot be read itself has no mutations that touch members.
func Mutations(zip []byte, mod module.Version) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		truth, err := digest(zip, mod)
		for name, data := range candidates(zip, mod) {
			if got, gotErr := digest(data, mod); err == nil && gotErr == nil && got == truth {
				continue
			}
			if bytes.Equal(data, zip) {
				continue
			}
			if !yield(name, data) {
				return
			}
		}
	}
}

// digest is the h1 of a zip for mod, or why the go command would refuse it.
func digest(data []byte, mod module.Version) (string, error) {
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return "", err
	}
	byName := make(map[string]*zip.File, len(z.File))
	var names []string
	var total uint64
	for _, f := range z.File {
		if !strings.HasPrefix(f.Name, mod.String()+"/") {
			return "", fmt.Errorf("%q is outside of the module's directory", f.Name)
		}
		total += f.UncompressedSize64
		if f.UncompressedSize64 > goproxy.MaxZip || total > goproxy.MaxZip {
			return "", fmt.Errorf("unpacked it is larger than %d bytes", goproxy.MaxZip)
		}
		names = append(names, f.Name)
		byName[f.Name] = f
	}
	return dirhash.Hash1(names, func(name string) (io.ReadCloser, error) { return byName[name].Open() })
}

// differs reports whether b, served in place of a, is a lie.
func differs(a, b []byte, mod module.Version) bool {
	ha, _ := digest(a, mod)
	hb, err := digest(b, mod)
	return err != nil || ha != hb
}

func flipped(data []byte, at int) []byte {
	data = slices.Clone(data)
	data[at] ^= 1
	return data
}

// flipRegion flips the first bit of the region that makes a difference.
func flipRegion(data []byte, mod module.Version, region string) ([]byte, error) {
	l, err := layoutOf(data)
	if err != nil {
		return nil, err
	}
	// Of members without bytes, such as directories, there is no data to flip.
	full := slices.DeleteFunc(slices.Clone(l.members), func(m member) bool { return m.size == 0 })
	if len(full) == 0 {
		full = l.members
	}
	first, middle, last := full[0], full[len(full)/2], full[len(full)-1]
	var from, n int
	switch region {
	case "local":
		from, n = first.local, 4
	case "name":
		from, n = first.central+centralName, first.nameLen
	case "data":
		from, n = first.data+first.size/2, first.size-first.size/2
	case "data-middle":
		from, n = middle.data+middle.size/2, middle.size-middle.size/2
	case "data-last":
		from, n = last.data+last.size/2, last.size-last.size/2
	case "directory":
		from, n = middle.central+16, 4 // the checksum
	case "end":
		from, n = l.end+8, 4 // the numbers of entries
	case "comment":
		from, n = l.end+20, 2
	}
	for at := from; at < from+min(n, 16); at++ {
		if m := flipped(data, at); differs(data, m, mod) {
			return m, nil
		}
	}
	return nil, impossible("no bit in the region %s makes a difference", region)
}

// A layout says where things are in a zip.
type layout struct {
	members []member // at least one, in the directory's order
	end     int      // the end record
}

type member struct {
	local, central int // its two headers
	data, size     int // its compressed bytes
	nameLen        int // in the directory
	descriptor     int // the checksum behind the data; 0 if there is none
}

const (
	localName   = 30 // where the name is in a local header
	centralName = 46 // and in the directory
)

// layoutOf reads a zip of the plain kind: no comment, no zip64.
func layoutOf(data []byte) (*layout, error) {
	bad := func(why string) (*layout, error) { return nil, impossible("the zip cannot be taken apart: %s", why) }
	le := binary.LittleEndian
	end := bytes.LastIndex(data, []byte("PK\x05\x06"))
	if end < 0 || end+22 > len(data) {
		return bad("it has no end record")
	}
	n, at := int(le.Uint16(data[end+10:])), int(le.Uint32(data[end+16:]))
	if n == 0 || n == 0xffff {
		return bad("it has no members, or too many")
	}
	l := &layout{end: end}
	for range n {
		if at < 0 || at+centralName > end || string(data[at:at+4]) != "PK\x01\x02" {
			return bad("its directory is damaged")
		}
		m := member{
			central: at,
			local:   int(le.Uint32(data[at+42:])),
			size:    int(le.Uint32(data[at+20:])),
			nameLen: int(le.Uint16(data[at+28:])),
		}
		if m.local+localName > len(data) {
			return bad("a member is outside of it")
		}
		m.data = m.local + localName + int(le.Uint16(data[m.local+26:])) + int(le.Uint16(data[m.local+28:]))
		next := at + centralName + m.nameLen + int(le.Uint16(data[at+30:])) + int(le.Uint16(data[at+32:]))
		if m.data+m.size+16 > end || next > end {
			return bad("a member is outside of it")
		}
		if le.Uint16(data[at+8:])&8 != 0 {
			m.descriptor = m.data + m.size
			if string(data[m.descriptor:m.descriptor+4]) == "PK\x07\x08" {
				m.descriptor += 4
			}
		}
		l.members = append(l.members, m)
		at = next
	}
	return l, nil
}

// A file is one member of a zip, unpacked.
type file struct {
	name string
	data []byte
}

// unpack reads all members. A zip of more than goproxy.MaxZip is refused.
func unpack(data []byte) ([]file, error) {
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, impossible("the zip cannot be read: %v", err)
	}
	var files []file
	left := int64(goproxy.MaxZip)
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			return nil, impossible("the zip cannot be read: %v", err)
		}
		body, err := io.ReadAll(io.LimitReader(r, left+1))
		r.Close()
		left -= int64(len(body))
		if err != nil || left < 0 {
			return nil, impossible("the zip cannot be read: %s: %v", f.Name, cmp.Or(err, io.ErrShortBuffer))
		}
		files = append(files, file{f.Name, body})
	}
	if len(files) == 0 {
		return nil, impossible("the zip is empty")
	}
	return files, nil
}

func pack(files []file) ([]byte, error) {
	var b bytes.Buffer
	zw := zip.NewWriter(&b)
	for _, f := range files {
		w, err := zw.Create(f.name)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	err := zw.Close()
	return b.Bytes(), err
}

// repack is the zip with its files as edit leaves them.
func repack(data []byte, edit func([]file) []file) ([]byte, error) {
	files, err := unpack(data)
	if err != nil {
		return nil, err
	}
	return pack(edit(files))
}

// madeUp is a small zip of a module that the zip asked for is not.
func madeUp(m module.Version) ([]byte, error) {
	return pack([]file{
		{m.String() + "/go.mod", []byte("module " + m.Path + "\n")},
		{m.String() + "/other.go", []byte("package other\n")},
	})
}

// renamed is the zip of one module version with the names of another.
func renamed(data []byte, from, to module.Version) ([]byte, error) {
	return repack(data, func(files []file) []file {
		for i, f := range files {
			if rest, ok := strings.CutPrefix(f.name, from.String()+"/"); ok {
				files[i].name = to.String() + "/" + rest
			}
		}
		return files
	})
}

func withMember(data []byte, name, body string) ([]byte, error) {
	return repack(data, func(files []file) []file { return append(files, file{name, []byte(body)}) })
}

func withCaseClash(data []byte, mod module.Version) ([]byte, error) {
	files, err := unpack(data)
	if err != nil {
		return nil, err
	}
	prefix := mod.String() + "/"
	// Not the go.mod, whose case has a rule of its own.
	for _, f := range slices.Backward(files) {
		if other := swapCase(strings.TrimPrefix(f.name, prefix)); other != "" && strings.HasPrefix(f.name, prefix) {
			return pack(append(files, file{prefix + other, f.data}))
		}
	}
	return nil, impossible("no name in the zip has a letter")
}

func withBadCRC(data []byte) ([]byte, error) {
	l, err := layoutOf(data)
	if err != nil {
		return nil, err
	}
	m := l.members[len(l.members)-1]
	data = slices.Clone(data)
	data[m.central+16] ^= 1
	data[m.local+14] ^= 1
	if m.descriptor != 0 {
		data[m.descriptor] ^= 1
	}
	return data, nil
}

// bombSize is what the bomb unpacks to, more than the go command allows.
const bombSize = 1 << 30

// withBomb adds a member of bombSize zeros, which declares its size or a small
// one.
func withBomb(data []byte, mod module.Version, declared bool) ([]byte, error) {
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, impossible("the zip cannot be read: %v", err)
	}
	deflated, crc, err := deflatedZeros(bombSize)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	zw := zip.NewWriter(&b)
	for _, f := range z.File {
		if err := zw.Copy(f); err != nil {
			return nil, err
		}
	}
	h := &zip.FileHeader{
		Name:               mod.String() + "/zeros.bin",
		Method:             zip.Deflate,
		CRC32:              crc,
		CompressedSize64:   uint64(len(deflated)),
		UncompressedSize64: bombSize,
	}
	if !declared {
		h.UncompressedSize64 = 1024
	}
	w, err := zw.CreateRaw(h)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(deflated); err != nil {
		return nil, err
	}
	err = zw.Close()
	return b.Bytes(), err
}

// deflatedZeros compresses n zeros, a multiple of 1 MiB, without going through
// them: behind the first, each MiB deflates to the same bytes.
func deflatedZeros(n int) ([]byte, uint32, error) {
	block := make([]byte, 1<<20)
	var b bytes.Buffer
	fw, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		return nil, 0, err
	}
	var ends [2]int
	for i := range ends {
		fw.Write(block) // a bytes.Buffer takes it
		fw.Flush()
		ends[i] = b.Len()
	}
	fw.Close()
	all := b.Bytes()
	first, again, tail := all[:ends[0]], all[ends[0]:ends[1]], all[ends[1]:]
	out := slices.Concat(first, bytes.Repeat(again, n/len(block)-1), tail)
	var crc uint32
	for range n / len(block) {
		crc = crc32.Update(crc, crc32.IEEETable, block)
	}
	return out, crc, nil
}

// A field is a part of a zip's header, by its offset there.
type field struct {
	name string
	at   int
}

var (
	localFields = []field{{"signature", 0}, {"needs", 4}, {"flags", 6}, {"method", 8}, {"time", 10}, {"crc", 14},
		{"packed", 18}, {"size", 22}, {"name-length", 26}, {"extra-length", 28}, {"name", localName}}
	centralFields = []field{{"signature", 0}, {"made-by", 4}, {"needs", 6}, {"flags", 8}, {"method", 10}, {"time", 12}, {"crc", 16},
		{"packed", 20}, {"size", 24}, {"name-length", 28}, {"extra-length", 30}, {"comment-length", 32}, {"disk", 34},
		{"attributes", 38}, {"offset", 42}, {"name", centralName}}
	endFields = []field{{"signature", 0}, {"disk", 4}, {"entries-here", 8}, {"entries", 10}, {"directory-size", 12},
		{"directory-offset", 16}, {"comment-length", 20}}
)

// candidates are mutations of which some may be harmless.
func candidates(data []byte, mod module.Version) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for _, part := range []func([]byte, module.Version, func(string, []byte) bool) bool{
			cutCandidates, flipCandidates, memberCandidates, foreignCandidates,
		} {
			if !part(data, mod, yield) {
				return
			}
		}
	}
}

func cutCandidates(data []byte, _ module.Version, yield func(string, []byte) bool) bool {
	for p := 0; p < 100; p += 10 {
		if !yield(fmt.Sprintf("cut/%d%%", p), data[:len(data)*p/100]) {
			return false
		}
	}
	end := max(bytes.LastIndex(data, []byte("PK\x05\x06")), 0)
	junk := bytes.Repeat([]byte("junk"), 20<<10) // longer than a zip's comment may be
	return yield("cut/last-byte", data[:max(len(data)-1, 0)]) &&
		yield("cut/end-record", data[:end]) &&
		yield("without/first-byte", data[min(1, len(data)):]) &&
		yield("without/middle-byte", slices.Concat(data[:len(data)/2], data[min(len(data)/2+1, len(data)):])) &&
		yield("append/byte", append(slices.Clone(data), 0)) &&
		yield("append/junk", slices.Concat(data, junk)) &&
		yield("append/empty-end-record", slices.Concat(data, []byte("PK\x05\x06"), make([]byte, 18))) &&
		yield("append/itself", slices.Concat(data, data)) &&
		yield("prepend/byte", slices.Concat([]byte{0}, data)) &&
		yield("prepend/junk", slices.Concat(junk, data)) &&
		yield("zeros", make([]byte, len(data))) &&
		yield("zeros-in-the-middle", slices.Concat(data[:len(data)/3], make([]byte, len(data)/3), data[len(data)/3*2:])) &&
		yield("halves-exchanged", slices.Concat(data[len(data)/2:], data[:len(data)/2]))
}

func flipCandidates(data []byte, _ module.Version, yield func(string, []byte) bool) bool {
	for p := 5; p < 100; p += 10 {
		if at := len(data) * p / 100; at < len(data) && !yield(fmt.Sprintf("flip/%d%%", p), flipped(data, at)) {
			return false
		}
	}
	l, err := layoutOf(data)
	if err != nil {
		return true
	}
	flip := func(base int, where string, fields []field) bool {
		for _, f := range fields {
			if !yield("flip/"+where+"/"+f.name, flipped(data, base+f.at)) {
				return false
			}
		}
		return true
	}
	done := make(map[int]bool)
	for _, w := range []field{{"first", 0}, {"middle", len(l.members) / 2}, {"last", len(l.members) - 1}} {
		if done[w.at] {
			continue
		}
		done[w.at] = true
		m := l.members[w.at]
		var body []field
		if m.size > 0 {
			body = []field{{"first-byte", 0}, {"middle-byte", m.size / 2}, {"last-byte", m.size - 1}}
		}
		if m.descriptor != 0 {
			body = append(body, field{"descriptor", m.descriptor - m.data})
		}
		if !flip(m.local, w.name+"/local", localFields) || !flip(m.data, w.name+"/data", body) || !flip(m.central, w.name+"/directory", centralFields) {
			return false
		}
	}
	return flip(l.end, "end", endFields)
}

func memberCandidates(data []byte, mod module.Version, yield func(string, []byte) bool) bool {
	prefix := mod.String() + "/"
	name := func(s string) string { return strings.TrimPrefix(s, prefix) }
	for _, c := range []struct {
		name string
		edit func(f []file) []file
	}{
		{"member/none", func([]file) []file { return nil }},
		{"member/first-missing", func(f []file) []file { return f[1:] }},
		{"member/last-missing", func(f []file) []file { return f[:len(f)-1] }},
		{"member/twice", func(f []file) []file { return append(f, f[0]) }},
		{"member/twice-with-other-content", func(f []file) []file { return append(f, file{f[0].name, []byte("package other\n")}) }},
		{"member/twice-the-right-one-last", func(f []file) []file {
			return append([]file{{f[0].name, []byte("package other\n")}}, f...)
		}},
		{"member/extra", func(f []file) []file { return append(f, file{prefix + "extra.go", []byte("package extra\n")}) }},
		{"member/extra-empty", func(f []file) []file { return append(f, file{prefix + "extra.txt", nil}) }},
		{"member/extra-directory", func(f []file) []file { return append(f, file{prefix + "extra/", nil}) }},
		{"member/extra-go.mod-below", func(f []file) []file {
			return append(f, file{prefix + "sub/go.mod", []byte("module " + mod.Path + "/sub\n")})
		}},
		{"member/other-go.mod", func(f []file) []file {
			f = slices.DeleteFunc(f, func(f file) bool { return f.name == prefix+"go.mod" })
			return append(f, file{prefix + "go.mod", []byte("module " + mod.Path + "\n\nrequire example.com/extra v1.0.0\n")})
		}},
		{"member/renamed", func(f []file) []file { f[0].name += ".go"; return f }},
		{"member/emptied", func(f []file) []file { f[len(f)-1].data = nil; return f }},
		{"member/one-byte-less", func(f []file) []file { d := &f[len(f)-1].data; *d = (*d)[:max(len(*d)-1, 0)]; return f }},
		{"member/one-byte-more", func(f []file) []file { d := &f[len(f)-1].data; *d = append(*d, '\n'); return f }},
		{"member/crlf", func(f []file) []file {
			for i := range f {
				f[i].data = bytes.ReplaceAll(f[i].data, []byte("\n"), []byte("\r\n"))
			}
			return f
		}},
		{"member/exchanged", func(f []file) []file {
			f[0].data, f[len(f)-1].data = f[len(f)-1].data, f[0].data
			return f
		}},
		{"member/reordered", func(f []file) []file { slices.Reverse(f); return f }}, // harmless: shows that the filter works
		{"name/zipslip", func(f []file) []file {
			return append(f, file{prefix + "../../zipslip.go", []byte("package zipslip\n")})
		}},
		{"name/absolute", func(f []file) []file { return append(f, file{"/absolute.go", []byte("package absolute\n")}) }},
		{"name/backslash", func(f []file) []file { return append(f, file{prefix + `..\..\back.go`, []byte("package back\n")}) }},
		{"name/nul", func(f []file) []file { return append(f, file{prefix + "nul\x00.go", []byte("package nul\n")}) }},
		{"name/newline", func(f []file) []file { return append(f, file{prefix + "new\nline.go", []byte("package line\n")}) }},
		{"name/device", func(f []file) []file { return append(f, file{prefix + "aux.go", []byte("package aux\n")}) }},
		{"name/dot-slash", func(f []file) []file { f[0].name = prefix + "./" + name(f[0].name); return f }},
		{"name/outside", func(f []file) []file { return append(f, file{"outside.go", []byte("package outside\n")}) }},
		{"name/no-prefix", func(f []file) []file {
			for i := range f {
				f[i].name = name(f[i].name)
			}
			return f
		}},
	} {
		if files, err := unpack(data); err != nil {
			break
		} else if m, err := pack(c.edit(files)); err == nil && !yield(c.name, m) {
			return false
		}
	}
	for _, c := range []struct {
		name string
		make func() ([]byte, error)
	}{
		{"case-clash", func() ([]byte, error) { return withCaseClash(data, mod) }},
		{"bad-crc", func() ([]byte, error) { return withBadCRC(data) }},
		{"bomb/declared", func() ([]byte, error) { return withBomb(data, mod, true) }},
		{"bomb/hidden", func() ([]byte, error) { return withBomb(data, mod, false) }},
	} {
		if m, err := c.make(); err == nil && !yield(c.name, m) {
			return false
		}
	}
	return true
}

func foreignCandidates(data []byte, mod module.Version, yield func(string, []byte) bool) bool {
	other := module.Version{Path: mod.Path, Version: bump(mod.Version)}
	try := func(name string, m []byte, err error) bool { return err != nil || yield(name, m) }
	m, err := renamed(data, mod, other)
	if !try("other-version", m, err) {
		return false
	}
	m, err = renamed(data, mod, module.Version{Path: mod.Path + "/other", Version: mod.Version})
	if !try("other-path", m, err) {
		return false
	}
	m, err = madeUp(module.Version{Path: "example.com/other", Version: "v1.0.0"})
	if !try("other-module", m, err) {
		return false
	}
	m, err = madeUp(mod) // another module's files under this one's name
	if !try("other-module-renamed", m, err) {
		return false
	}
	m, err = repack(data, func(files []file) []file { // as the version before may have been
		for i := range files {
			if strings.HasSuffix(files[i].name, ".go") {
				files[i].data = append(files[i].data, "\n// As it was before.\n"...)
			}
		}
		return files
	})
	if !try("old-zip", m, err) {
		return false
	}
	m, err = pack([]file{{mod.String() + ".zip", data}})
	return try("zip-in-zip", m, err) &&
		yield("html", []byte(portal)) &&
		yield("json", []byte(`{"error":"no such module"}`)) &&
		yield("text", []byte("not found\n")) &&
		yield("tar", slices.Concat([]byte(mod.String()), make([]byte, 1024)))
}
