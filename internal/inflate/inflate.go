// Package inflate decompresses DEFLATE data, almost three times as fast as
// compress/flate: every zip that comes is read through once to be verified, and that
// is most of the work. It accepts exactly what compress/flate does.
//
// The format is RFC 1951. The ways to be fast (a bit buffer of 64 bits that is
// filled without a branch per byte, tables that give the whole of a symbol, copies
// in words) are those that all fast decoders share.
package inflate

import (
	"encoding/binary"
	"errors"
	"io"
	"math/bits"
)

var (
	// ErrCorrupt says that the data is no DEFLATE stream.
	ErrCorrupt = errors.New("the compressed data is damaged")
	// ErrShort says that the data ends before the stream does.
	ErrShort = errors.New("the compressed data is cut short")
)

const (
	litBits  = 11 // of the first table of literals and lengths
	distBits = 9  // of the first table of distances
	codeBits = 7  // of the lengths of codes, which are no longer

	maxLit  = 286 // symbols that may stand in a stream
	maxDist = 30
	maxCode = 15 // bits
)

// An entry of a table says what to do after some bits:
//
//	bits 0-5    how many bits are taken away: of the code, and extra ones
//	bits 8-11   how many of them are the code; of a link, the bits of its table
//	bits 13-15  the kind; none of literals, lengths and distances
//	bits 16-30  the literal, the length or distance without extra bits, or where the table begins
//	bit 31      it is a literal
type entry uint32

const (
	kindOdd  entry = 1 << 15 // in all kinds
	kindBad        = kindOdd // no code begins so
	kindLink       = kindOdd | 1<<14
	kindEnd        = kindOdd | 1<<13
	kindMask       = kindLink | kindEnd
	literal  entry = 1 << 31
)

func (e entry) bits() uint    { return uint(e & 63) }
func (e entry) code() uint    { return uint(e >> 8 & 15) }
func (e entry) value() uint   { return uint(e >> 16 & 0x7fff) }
func (e entry) kind() entry   { return e & kindMask }
func (e entry) literal() bool { return int32(e) < 0 }

func withValue(n int) entry  { return entry(n) << 16 }
func withExtra(n uint) entry { return entry(n) }
func withCode(n uint) entry  { return entry(n)<<8 | entry(n) }

// A Decoder has the tables and the buffers, a quarter of a megabyte. Its zero value
// is ready for use, by one goroutine at a time.
type Decoder struct {
	reader
	w     io.Writer
	total int64         // bytes written
	out   int           // where in space the next byte goes
	done  int           // how much of space is written
	space [1 << 17]byte // what has come out last

	// A further table of 2^n entries is that of n+1 symbols at least, so there are
	// far less than a thousand entries in all of them.
	lit     [1<<litBits + 1024]entry
	dist    [1<<distBits + 512]entry
	code    [1 << codeBits]entry // of the lengths of codes
	lengths [maxLit + maxDist + 32]uint8
	sorted  [maxLit + maxDist + 32]uint16 // symbols, in the order of their codes
	isFixed bool                          // lit and dist are those of the fixed code
}

// What symbols mean, without the bits of their codes.
var litMeans, distMeans, codeMeans = means()

func means() (lit [288]entry, dist [32]entry, code [19]entry) {
	for i := range 256 {
		lit[i] = literal | withValue(i)
	}
	lit[256] = kindEnd
	length := 3
	for i := 257; i < 285; i++ {
		n := uint(max(0, (i-261)/4))
		lit[i] = withExtra(n) | withValue(length)
		length += 1 << n
	}
	lit[285] = withValue(258)
	lit[286], lit[287], dist[30], dist[31] = kindBad, kindBad, kindBad, kindBad
	distance := 1
	for i := range maxDist {
		n := uint(max(0, i/2-1))
		dist[i] = withExtra(n) | withValue(distance)
		distance += 1 << n
	}
	for i := range code {
		code[i] = literal | withValue(i)
	}
	return lit, dist, code
}

// build makes the table of a code, given the lengths of its symbols' codes. A code
// must use all its bits, or have a single symbol of one bit, or none at all.
func (d *Decoder) build(table []entry, first uint, lengths []uint8, means []entry) bool {
	var count, next [maxCode + 1]int
	for _, n := range lengths {
		count[n&maxCode]++
	}
	none := count[0]
	left, place := 1, none
	for n := 1; n <= maxCode; n++ {
		left = left<<1 - count[n] // codes of n bits that are not in use
		next[n] = place
		place += count[n]
	}
	if left != 0 {
		if used := len(lengths) - none; used > 1 || used == 1 && count[1] == 0 {
			return false
		}
		for i := range table[:1<<first] {
			table[i] = kindBad
		}
		for sym, n := range lengths {
			if n > 0 {
				for i := 0; i < 1<<first; i += 2 {
					table[i] = means[sym] + withCode(1)
				}
			}
		}
		return true
	}
	sorted := &d.sorted // by length, those without a code before all others
	for sym, n := range lengths {
		sorted[next[n&maxCode]] = uint16(sym)
		next[n&maxCode]++
	}
	syms := sorted[none:len(lengths)]

	// Codes stand in the stream the other way round, and so they are counted. The
	// table grows with them: what it says of size bits, it says twice of one bit more.
	n, at, size := uint(1), 0, 2
	count[0] = 0
	for {
		for count[n] == 0 {
			if n++; n > first {
				break
			}
			copy(table[size:2*size], table[:size])
			size *= 2
		}
		if n > first {
			break
		}
		count[n]--
		table[at] = means[syms[0]] + withCode(n)
		syms = syms[1:]
		if at == size-1 {
			for ; size < 1<<first; size *= 2 {
				copy(table[size:2*size], table[:size])
			}
			return true
		}
		at = after(at, size-1)
	}
	// Longer codes have further tables, as large as the codes in each demand.
	free := 1 << first
	for head, begin := -1, 0; ; {
		for count[n] == 0 {
			n++
		}
		if at&(1<<first-1) != head {
			head, begin = at&(1<<first-1), free
			more := n - first
			for used := count[n]; used < 1<<more; used = used<<1 + count[first+more] {
				more++
			}
			if free += 1 << more; free > len(table) {
				return false // there is room for all; see Decoder
			}
			table[head] = kindLink | entry(first) | entry(more)<<8 | withValue(begin)
		}
		count[n]--
		e := means[syms[0]] + withCode(n-first)
		syms = syms[1:]
		for i := begin + at>>first; i < free; i += 1 << (n - first) {
			table[i] = e
		}
		if at == 1<<n-1 {
			return true
		}
		at = after(at, 1<<n-1)
	}
}

// after gives the code that follows code, both with their first bit lowest; all are
// the bits of a code, and code is not the last.
func after(code, all int) int {
	bit := 1 << (bits.Len(uint(code^all)) - 1)
	return code&(bit-1) | bit
}

// order is the order in which the lengths of the codes of lengths stand.
var order = [...]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

const (
	window = 1 << 15 // how far back a copy may begin
	// room is what must be free in space for one turn of block: three literals, or two
	// and a copy of the longest, which is made in pieces of up to 32 bytes.
	room = 2 + 258 + 32
)

// Copy decompresses what r gives and writes it to w, and returns how many bytes
// that were. It may read more of r than belongs to the stream. An error is one of
// r, of w, ErrCorrupt or ErrShort.
func (d *Decoder) Copy(w io.Writer, r io.Reader) (int64, error) {
	d.reader.reset(r)
	d.w, d.total, d.out, d.done = w, 0, 0, 0
	defer func() { d.w, d.r = nil, nil }()
	for {
		if !d.need(3) {
			return d.total, d.short()
		}
		final, kind := d.take(1), d.take(2)
		var err error
		switch kind {
		case 0:
			err = d.stored()
		case 1:
			d.fixed()
			err = d.block()
		case 2:
			if err = d.dynamic(); err == nil {
				err = d.block()
			}
		default:
			err = ErrCorrupt
		}
		if err == nil && final == 1 {
			err = d.flush()
			return d.total, err
		}
		if err != nil {
			return d.total, err
		}
	}
}

// flush writes what has come out, and makes room for more.
func (d *Decoder) flush() error {
	n, err := d.w.Write(d.space[d.done:d.out])
	d.total += int64(n)
	if err != nil {
		return err
	}
	if d.out > window {
		copy(d.space[:window], d.space[d.out-window:d.out])
		d.out = window
	}
	d.done = d.out
	return nil
}

// A reader takes bits from src, which is what has been read of r. have bits of it
// are in buf; those above them are what follows in src, or zero.
type reader struct {
	r    io.Reader
	err  error // why no more can be read of r: io.EOF at its end
	in   [1 << 16]byte
	src  []byte // of in
	at   int
	buf  uint64
	have uint
}

func (r *reader) reset(from io.Reader) {
	r.r, r.err, r.src, r.at, r.buf, r.have = from, nil, r.in[:0], 0, 0, 0
}

// load reads more, unless there are eight bytes left, or nothing comes any more.
func (r *reader) load() {
	for nothing := 0; len(r.src)-r.at < 8 && r.err == nil; {
		kept := copy(r.in[:], r.src[r.at:])
		n, err := r.r.Read(r.in[kept:])
		r.src, r.at, r.err = r.in[:kept+n], 0, err
		if n > 0 || err != nil {
			nothing = 0
		} else if nothing++; nothing == 100 {
			r.err = io.ErrNoProgress
		}
	}
}

// fill makes have at least 56, unless src ends.
func (r *reader) fill() {
	if len(r.src)-r.at < 8 {
		r.load()
	}
	if len(r.src)-r.at >= 8 {
		r.buf |= binary.LittleEndian.Uint64(r.src[r.at:]) << r.have
		n := (63 - r.have) >> 3
		r.at += int(n)
		r.have += n << 3
		return
	}
	for r.have <= 56 && r.at < len(r.src) {
		r.buf |= uint64(r.src[r.at]) << r.have
		r.at++
		r.have += 8
	}
}

// short is the error of a stream that does not go on.
func (r *reader) short() error {
	if r.err != nil && r.err != io.EOF {
		return r.err
	}
	return ErrShort
}

func (r *reader) need(n uint) bool {
	if r.have < n {
		r.fill()
	}
	return r.have >= n
}

func (r *reader) take(n uint) uint {
	v := uint(r.buf & (1<<n - 1))
	r.buf >>= n
	r.have -= n
	return v
}

// stored copies a block that is not compressed.
func (d *Decoder) stored() error {
	d.take(d.have & 7)
	if !d.need(32) {
		return d.short()
	}
	n := int(d.take(16))
	if d.take(16) != uint(^uint16(n)) {
		return ErrCorrupt
	}
	for d.have > 0 && n > 0 { // what was read ahead; eight bytes at most, for which there is room
		d.space[d.out] = byte(d.take(8))
		d.out++
		n--
		if len(d.space)-d.out < room {
			if err := d.flush(); err != nil {
				return err
			}
		}
	}
	if d.have == 0 {
		d.buf = 0 // of what comes next there may be something in it
	}
	if n > 0 && len(d.space)-d.out < room { // symbols may have left less
		if err := d.flush(); err != nil {
			return err
		}
	}
	for n > 0 {
		if d.at == len(d.src) {
			if d.load(); d.at == len(d.src) {
				return d.short()
			}
		}
		k := copy(d.space[d.out:len(d.space)-room+1], d.src[d.at:min(len(d.src), d.at+n)])
		d.at += k
		d.out += k
		n -= k
		if len(d.space)-d.out < room {
			if err := d.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// fixed makes the tables of the code that need not be sent.
func (d *Decoder) fixed() {
	if d.isFixed {
		return
	}
	l := d.lengths[:288]
	for i := range l {
		switch {
		case i < 144:
			l[i] = 8
		case i < 256:
			l[i] = 9
		case i < 280:
			l[i] = 7
		default:
			l[i] = 8
		}
	}
	d.build(d.lit[:], litBits, l, litMeans[:])
	l = d.lengths[:32]
	for i := range l {
		l[i] = 5
	}
	d.build(d.dist[:], distBits, l, distMeans[:])
	d.isFixed = true
}

// dynamic reads the tables of a block.
func (d *Decoder) dynamic() error {
	r := &d.reader
	if !r.need(14) {
		return r.short()
	}
	lits, dists, codes := int(r.take(5))+257, int(r.take(5))+1, int(r.take(4))+4
	if lits > maxLit || dists > maxDist {
		return ErrCorrupt
	}
	d.isFixed = false
	var codeLengths [19]uint8
	for _, i := range order[:codes] {
		if !r.need(3) {
			return r.short()
		}
		codeLengths[i] = uint8(r.take(3))
	}
	if !d.build(d.code[:], codeBits, codeLengths[:], codeMeans[:]) {
		return ErrCorrupt
	}
	l := d.lengths[:lits+dists]
	for i := 0; i < len(l); {
		r.fill()
		e := d.code[r.buf&(1<<codeBits-1)]
		if e.kind() == kindBad {
			return r.bad()
		}
		if e.bits() > r.have {
			return r.short()
		}
		r.take(e.bits())
		sym := e.value()
		if sym < 16 {
			l[i] = uint8(sym)
			i++
			continue
		}
		var again, extra uint
		var what uint8
		switch sym {
		case 16:
			if i == 0 {
				return ErrCorrupt
			}
			again, extra, what = 3, 2, l[i-1]
		case 17:
			again, extra = 3, 3
		default:
			again, extra = 11, 7
		}
		if !r.need(extra) {
			return r.short()
		}
		again += r.take(extra)
		if int(again) > len(l)-i {
			return ErrCorrupt
		}
		for range again {
			l[i] = what
			i++
		}
	}
	if !d.build(d.lit[:], litBits, l[:lits], litMeans[:]) || !d.build(d.dist[:], distBits, l[lits:], distMeans[:]) {
		return ErrCorrupt
	}
	return nil
}

// bad is the error of bits that are no code: it may be that they are not all there.
func (r *reader) bad() error {
	if r.at == len(r.src) && r.have < maxCode {
		return r.short()
	}
	return ErrCorrupt
}

// block decompresses the rest of a block.
func (d *Decoder) block() error {
	for {
		if len(d.space)-d.out < room {
			if err := d.flush(); err != nil {
				return err
			}
		}
		d.load()
		run := d.symbol // the last bytes, with every bound looked at
		if len(d.src)-d.at >= 8 {
			run = d.symbols
		}
		if end, err := run(); end || err != nil {
			return err
		}
	}
}

// symbols decompresses as long as there is room, and input for a turn. It reports
// whether the block has ended.
func (d *Decoder) symbols() (end bool, err error) {
	const litMask, distMask = 1<<litBits - 1, 1<<distBits - 1
	lit, dist := &d.lit, &d.dist
	dst, out := &d.space, uint(d.out)
	src, at, buf, have := d.src, uint(d.at), d.buf, d.have
	// A copy makes at most 258 bytes, and takes at most 48 bits.
	for at+8 <= uint(len(src)) && out <= uint(len(dst)-room) {
		buf |= binary.LittleEndian.Uint64(src[at:at+8]) << (have & 63)
		at += (63 - have) >> 3
		have |= 56

		e := lit[buf&litMask]
		if e.literal() {
			buf >>= e & 63
			have -= uint(e & 63)
			dst[out] = byte(e >> 16)
			out++
			e = lit[buf&litMask]
			if e.literal() {
				buf >>= e & 63
				have -= uint(e & 63)
				dst[out] = byte(e >> 16)
				out++
				e = lit[buf&litMask]
				if e.literal() {
					buf >>= e & 63
					have -= uint(e & 63)
					dst[out] = byte(e >> 16)
					out++
					continue
				}
			}
			// There are enough bits for a code now, but perhaps not for a whole copy.
			if at+8 > uint(len(src)) {
				break
			}
			buf |= binary.LittleEndian.Uint64(src[at:at+8]) << (have & 63)
			at += (63 - have) >> 3
			have |= 56
		}
		if e&kindOdd != 0 {
			if e.kind() == kindLink {
				buf >>= e & 63
				have -= uint(e & 63)
				e = lit[e.value()+uint(buf)&(1<<(e>>8&15)-1)]
				if e.literal() {
					buf >>= e & 63
					have -= uint(e & 63)
					dst[out] = byte(e >> 16)
					out++
					continue
				}
			}
			if e&kindOdd != 0 {
				if e.kind() == kindEnd {
					d.out, d.at, d.buf, d.have = int(out), int(at), buf>>(e&63), have-uint(e&63)
					return true, nil
				}
				return false, ErrCorrupt
			}
		}
		x := buf & (1<<(e&63) - 1)
		buf >>= e & 63
		have -= uint(e & 63)
		length := uint(e>>16) + uint(x>>(e>>8&15))

		e = dist[buf&distMask]
		if e&kindOdd != 0 {
			if e.kind() != kindLink {
				return false, ErrCorrupt
			}
			buf >>= e & 63
			have -= uint(e & 63)
			e = dist[e.value()+uint(buf)&(1<<(e>>8&15)-1)]
			if e&kindOdd != 0 { // 30 and 31 are only in the fixed code, which has no links
				return false, ErrCorrupt
			}
		}
		x = buf & (1<<(e&63) - 1)
		buf >>= e & 63
		have -= uint(e & 63)
		back := uint(e>>16) + uint(x>>(e>>8&15))
		if back > out {
			return false, ErrCorrupt
		}
		from := out - back
		to := out + length
		switch {
		case back >= 16:
			*(*[16]byte)(dst[out : out+16]) = *(*[16]byte)(dst[from : from+16])
			*(*[16]byte)(dst[out+16 : out+32]) = *(*[16]byte)(dst[from+16 : from+32])
			for out += 32; out < to; out += 16 {
				*(*[16]byte)(dst[out : out+16]) = *(*[16]byte)(dst[out-back : out-back+16])
			}
		case back >= 8:
			for ; out < to; out += 8 {
				*(*[8]byte)(dst[out : out+8]) = *(*[8]byte)(dst[out-back : out-back+8])
			}
		case back == 1:
			same := uint64(dst[from]) * 0x0101010101010101
			for ; out < to; out += 8 {
				binary.LittleEndian.PutUint64(dst[out:out+8], same)
			}
		default:
			for ; out < to; out++ {
				dst[out] = dst[out-back]
			}
		}
		out = to
	}
	d.out, d.at, d.buf, d.have = int(out), int(at), buf, have
	return false, nil
}

// symbol decompresses one symbol, of what may be the end of the input.
func (d *Decoder) symbol() (end bool, err error) {
	e, err := d.next(d.lit[:], litBits)
	if err != nil {
		return false, err
	}
	switch {
	case e.kind() == kindEnd:
		return true, nil
	case e.literal():
		d.space[d.out] = byte(e.value())
		d.out++
		return false, nil
	}
	length := int(e.value() + d.take(e.bits()-e.code()))
	if e, err = d.next(d.dist[:], distBits); err != nil {
		return false, err
	}
	back := int(e.value() + d.take(e.bits()-e.code()))
	if back > d.out {
		return false, ErrCorrupt
	}
	for range length {
		d.space[d.out] = d.space[d.out-back]
		d.out++
	}
	return false, nil
}

// next takes a symbol's code; its extra bits are there.
func (d *Decoder) next(table []entry, first uint) (entry, error) {
	d.fill()
	e := table[d.buf&(1<<first-1)]
	if e.kind() == kindLink {
		if e.bits() > d.have {
			return 0, d.short()
		}
		d.take(e.bits())
		e = table[e.value()+uint(d.buf)&(1<<e.code()-1)]
	}
	if e.kind() == kindBad {
		return 0, d.bad()
	}
	if e.bits() > d.have {
		return 0, d.short()
	}
	d.take(e.code())
	return e, nil
}
