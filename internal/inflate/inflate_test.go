package inflate_test

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/modsluice/sluice/internal/inflate"
)

// deflate compresses data.
func deflate(t testing.TB, data []byte, level int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(data)
	w.Close()
	return b.Bytes()
}

// samples are texts of all kinds: for each, other blocks and codes are made.
func samples() map[string][]byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 200<<10)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	skewed := make([]byte, 300<<10) // long codes: the commonest byte is half of all, the next a quarter …
	for i := range skewed {
		skewed[i] = byte(min(rnd.ExpFloat64()*3, 255))
	}
	var text bytes.Buffer
	for i := range 20000 {
		fmt.Fprintf(&text, "func f%d(a, b int) (int, error) { return a*%d + b, nil }\n", rnd.IntN(i+1), rnd.IntN(1000))
	}
	var far bytes.Buffer // distances up to the longest
	for range 30 {
		far.Write(noise[rnd.IntN(1000):][:4000])
		far.WriteString(strings.Repeat("ab", rnd.IntN(500)))
	}
	return map[string][]byte{
		"empty": nil, "one": []byte("a"), "short": []byte("package a\n"), "zeros": make([]byte, 100<<10), "runs": []byte(strings.Repeat("abc", 50000)),
		"noise": noise, "skewed": skewed, "text": text.Bytes(), "far": far.Bytes(),
	}
}

func TestWhatWasCompressedComesOutAgain(t *testing.T) {
	var d inflate.Decoder
	for name, data := range samples() {
		for _, level := range []int{flate.HuffmanOnly, 0, 1, 6, 9} {
			src := deflate(t, data, level)
			for how, r := range readers(src) {
				var b bytes.Buffer
				if n, err := d.Copy(&b, r); err != nil || !bytes.Equal(b.Bytes(), data) || n != int64(len(data)) {
					t.Errorf("%s, level %d, %s: %d bytes of %d, %v", name, level, how, n, len(data), err)
				}
			}
			if _, err := d.Copy(io.Discard, bytes.NewReader(append(src, "what follows"...))); err != nil {
				t.Errorf("%s, level %d, with something behind: %v", name, level, err)
			}
			for _, cut := range []int{0, 1, len(src) / 2, len(src) - 1} {
				if n, err := d.Copy(io.Discard, bytes.NewReader(src[:cut])); !errors.Is(err, inflate.ErrShort) {
					t.Errorf("%s, level %d, cut at %d of %d: %d bytes, %v", name, level, cut, len(src), n, err)
				}
				broken := errors.New("broken")
				if _, err := d.Copy(io.Discard, io.MultiReader(bytes.NewReader(src[:cut]), iotest.ErrReader(broken))); err != broken {
					t.Errorf("%s, level %d, broken at %d of %d: %v", name, level, cut, len(src), err)
				}
			}
			full := errors.New("full")
			for takes := range 4 {
				writes := 0
				w := writer(func(p []byte) (int, error) {
					if writes++; writes > takes {
						return 0, full
					}
					return len(p), nil
				})
				if _, err := d.Copy(w, bytes.NewReader(src)); (err == full) != (writes > takes) || err != nil && err != full {
					t.Errorf("%s, level %d, into what takes %d writes of %d: %v", name, level, takes, writes, err)
				}
			}
		}
	}
}

// agree compares a Decoder with compress/flate on anything.
func agree(t *testing.T, d *inflate.Decoder, src []byte) {
	t.Helper()
	const most = 1 << 20
	want, werr := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(src)), most+1))
	if len(want) > most {
		return
	}
	for how, r := range readers(src) {
		var b bytes.Buffer
		_, err := d.Copy(&b, r)
		if (err == nil) != (werr == nil) {
			t.Fatalf("%s %x: %v, and compress/flate says %v", how, src, err, werr)
		}
		if err == nil && !bytes.Equal(b.Bytes(), want) {
			t.Fatalf("%s %x: %q, and compress/flate gives %q", how, src, b.Bytes(), want)
		}
	}
}

// readers give src in pieces of other sizes.
func readers(src []byte) map[string]io.Reader {
	m := map[string]io.Reader{"whole": bytes.NewReader(src), "with its end": iotest.DataErrReader(bytes.NewReader(src))}
	if len(src) < 4096 {
		m["by bytes"] = iotest.OneByteReader(bytes.NewReader(src))
	} else {
		m["by halves"] = iotest.HalfReader(bytes.NewReader(src))
	}
	return m
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func TestDamageIsNoticedAsByTheStandardLibrary(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	var d inflate.Decoder
	for _, data := range samples() {
		for _, level := range []int{flate.HuffmanOnly, 0, 1, 9} {
			whole := deflate(t, data[:min(len(data), 3000)], level)
			for range 300 {
				src := bytes.Clone(whole)
				for range 1 + rnd.IntN(3) {
					src[rnd.IntN(len(src))] ^= 1 << rnd.IntN(8)
				}
				agree(t, &d, src)
			}
		}
	}
	for range 20000 {
		src := make([]byte, rnd.IntN(60))
		for i := range src {
			src[i] = byte(rnd.Uint32())
		}
		if len(src) > 0 {
			src[0] = src[0]&^6 | byte(rnd.IntN(3))<<1
		}
		agree(t, &d, src)
	}
}

func FuzzInflate(f *testing.F) {
	for _, data := range samples() {
		f.Add(deflate(f, data[:min(len(data), 500)], 9))
		f.Add(deflate(f, data[:min(len(data), 500)], flate.HuffmanOnly))
	}
	var d inflate.Decoder
	f.Fuzz(func(t *testing.T, src []byte) { agree(t, &d, src) })
}

func BenchmarkInflate(b *testing.B) {
	data := samples()["text"]
	src := deflate(b, data, 6)
	b.Run("here", func(b *testing.B) {
		var d inflate.Decoder
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			if _, err := d.Copy(io.Discard, bytes.NewReader(src)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("compress-flate", func(b *testing.B) {
		r := flate.NewReader(nil)
		b.SetBytes(int64(len(data)))
		for b.Loop() {
			r.(flate.Resetter).Reset(bytes.NewReader(src), nil)
			if _, err := io.Copy(io.Discard, r); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// A bitWriter is a stream that is written bit by bit.
type bitWriter struct {
	b []byte
	n uint
}

func (w *bitWriter) bit(v int) {
	if w.n%8 == 0 {
		w.b = append(w.b, 0)
	}
	w.b[w.n/8] |= byte(v) << (w.n % 8)
	w.n++
}
func (w *bitWriter) lsb(v, n int) {
	for i := 0; i < n; i++ {
		w.bit(v >> i & 1)
	}
}
func (w *bitWriter) msb(v, n int) {
	for i := n - 1; i >= 0; i-- {
		w.bit(v >> i & 1)
	}
}

// atTheEdge is a stream in which one turn of the decoder gives two literals and the
// end of a block where the last of the buffer is, and a stored block follows, whose
// header is all that was read ahead.
func atTheEdge(shift, turns int) []byte {
	w := &bitWriter{}
	for range shift { // empty fixed blocks: ten bits each
		w.lsb(0, 1)
		w.lsb(1, 2)
		w.msb(0, 7)
	}
	// dynamic block: literals 97.. of lengths 1..15, EOB 15
	w.lsb(0, 1)
	w.lsb(2, 2)
	w.lsb(0, 5)  // 257
	w.lsb(0, 5)  // 1 dist
	w.lsb(15, 4) // 19
	// code lengths all of 16 symbols 0..15 with 4 bits
	for _, i := range [...]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15} {
		if i < 16 {
			w.lsb(4, 3)
		} else {
			w.lsb(0, 3)
		}
	}
	lens := make([]int, 258)
	for i := 0; i < 15; i++ {
		lens[97+i] = i + 1
	}
	lens[256] = 15
	for _, l := range lens {
		w.msb(l, 4)
	}
	lit := func(i int) { // length i+1: i ones, then zero, but the last of 15
		for k := 0; k < i; k++ {
			w.bit(1)
		}
		w.bit(0)
	}
	eob := func() { w.msb(1<<15-1, 15) }
	lit(12) // 13 bits: one turn of its own
	for range turns * 3 {
		lit(0)
	}
	lit(0)
	lit(0)
	eob()
	// stored, final
	w.lsb(1, 1)
	w.lsb(0, 2)
	for w.n%8 != 0 {
		w.bit(0)
	}
	data := bytes.Repeat([]byte("x"), 1000)
	w.lsb(len(data), 16)
	w.lsb(^len(data)&0xffff, 16)
	w.b = append(w.b, data...)
	return w.b
}

func TestBlocksMayEndAnywhereInTheBuffer(t *testing.T) {
	var d inflate.Decoder
	for shift := range 16 {
		for turns := 43590; turns < 43605; turns++ { // wherever the buffer is taken for full
			agree(t, &d, atTheEdge(shift, turns))
		}
	}
	rnd := rand.New(rand.NewPCG(7, 9))
	for range 60 {
		var b, plain bytes.Buffer
		for plain.Len() < 300000 {
			w, err := flate.NewWriter(&b, []int{0, 1, 6, flate.HuffmanOnly}[rnd.IntN(4)])
			if err != nil {
				t.Fatal(err)
			}
			data := make([]byte, rnd.IntN(40000))
			for i, k := 0, 1+rnd.IntN(256); i < len(data); i++ {
				data[i] = byte(rnd.IntN(k))
			}
			w.Write(data)
			w.Flush()
			plain.Write(data)
		}
		b.Write(deflate(t, nil, 1))
		agree(t, &d, b.Bytes())
	}
	if _, err := d.Copy(io.Discard, silent{}); err != io.ErrNoProgress {
		t.Errorf("of a reader that gives nothing: %v", err)
	}
}

// randomCode gives the lengths of a code of some of the symbols: all the bits are
// used, and none is longer than 15 bits.
func randomCode(rnd *rand.Rand, symbols []int, all int) []int {
	leaves := []int{0}
	for len(leaves) < len(symbols) {
		i := rnd.IntN(len(leaves))
		if rnd.IntN(2) == 0 {
			i = len(leaves) - 1 // deep ones are rare otherwise
		}
		if leaves[i] < 15 {
			leaves[i]++
			leaves = append(leaves, leaves[i])
		}
	}
	lengths := make([]int, all)
	for i, s := range rnd.Perm(len(symbols)) {
		lengths[symbols[s]] = leaves[i]
	}
	return lengths
}

// codes gives each symbol its code.
func codes(lengths []int) []int {
	c, next := make([]int, len(lengths)), 0
	for n := 1; n <= 15; n++ {
		for s, l := range lengths {
			if l == n {
				c[s] = next
				next++
			}
		}
		next <<= 1
	}
	return c
}

// dynamic begins a block with the codes of those lengths, of 286 literals and 30
// distances.
func (w *bitWriter) dynamic(final bool, lits, dists []int) {
	if w.lsb(0, 1); final {
		w.b[len(w.b)-1] |= 1 << ((w.n - 1) % 8)
	}
	w.lsb(2, 2)
	w.lsb(29, 5)
	w.lsb(29, 5)
	w.lsb(15, 4)
	for _, i := range [...]int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15} {
		w.lsb(4&^(i>>4<<2), 3)
	}
	for _, l := range slices.Concat(lits, dists) {
		w.msb(l, 4)
	}
}

// A code of one symbol has one bit, of which the other value is no code.
func TestCodesThatDoNotUseAllBits(t *testing.T) {
	var d inflate.Decoder
	for bits := range 16 {
		for _, code := range []int{0, 1} {
			w := &bitWriter{}
			lits, dists := make([]int, 286), make([]int, 30)
			lits['a'], lits[256], lits[257], dists[0] = 1, 2, 2, bits
			w.dynamic(true, lits, dists)
			w.msb(0, 1) // a
			w.msb(3, 2) // the shortest copy
			w.msb(code, max(bits, 1))
			w.msb(2, 2) // end
			w.lsb(0, 32)
			agree(t, &d, w.b)

			w = &bitWriter{}
			lits['a'], lits[257] = 0, 0
			lits[256] = bits
			w.dynamic(true, lits, dists)
			w.msb(code, max(bits, 1))
			w.lsb(0, 32)
			agree(t, &d, w.b)
		}
	}
	w := &bitWriter{}
	lits, dists := make([]int, 286), make([]int, 30)
	lits['a'], lits[256], lits[257], dists[0] = 1, 2, 2, 1
	w.dynamic(true, lits, dists)
	w.msb(0b0_11_0_10, 6)
	var b bytes.Buffer
	if _, err := d.Copy(&b, bytes.NewReader(w.b)); err != nil || b.String() != "aaaa" {
		t.Errorf("a distance code of one bit: %q, %v", b.String(), err)
	}
}

func TestCodesOfAnyShape(t *testing.T) {
	whole := 0 // streams, rather than such as reach too far back
	rnd := rand.New(rand.NewPCG(5, 6))
	var d inflate.Decoder
	for i := range 2000 {
		w := &bitWriter{}
		out := 0
		for blocks := 1 + rnd.IntN(2); blocks > 0; blocks-- {
			some := func(n, most int) []int { return rnd.Perm(most)[:n] }
			symbols := []int{256}
			for _, s := range some(1+rnd.IntN(285), 286) {
				if s != 256 {
					symbols = append(symbols, s)
				}
			}
			if len(symbols) == 1 {
				symbols = append(symbols, 'a')
			}
			lits := randomCode(rnd, symbols, 286)
			dists := randomCode(rnd, some(2+rnd.IntN(29), 30), 30)
			w.dynamic(blocks == 1, lits, dists)
			lc, dc := codes(lits), codes(dists)
			for range rnd.IntN(400) {
				s := symbols[rnd.IntN(len(symbols))]
				switch {
				case s < 256:
					w.msb(lc[s], lits[s])
					out++
				case s > 256:
					ds := rnd.IntN(30)
					if dists[ds] == 0 || out < 1<<(ds/2+1) && rnd.IntN(500) > 0 {
						continue // it would reach too far
					}
					w.msb(lc[s], lits[s])
					if s > 264 && s < 285 {
						w.lsb(int(rnd.Uint32()), (s-261)/4)
					}
					w.msb(dc[ds], dists[ds])
					if ds > 3 {
						w.lsb(int(rnd.Uint32()), ds/2-1)
					}
					out += 3
				}
			}
			w.msb(lc[256], lits[256])
		}
		if _, err := d.Copy(io.Discard, bytes.NewReader(w.b)); err == nil {
			whole++
		}
		agree(t, &d, w.b)
		if i%200 == 0 {
			for cut := range w.b {
				agree(t, &d, w.b[:cut])
			}
		}
	}
	if whole < 1900 {
		t.Errorf("%d of 2000 streams are whole", whole)
	}
}

type silent struct{}

func (silent) Read([]byte) (int, error) { return 0, nil }
