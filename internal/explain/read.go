package explain

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Bounds of what is held in memory at once, in bytes. A line longer than maxLine
// is read as several.
const (
	maxLine  = 8 << 10
	maxWord  = 1 << 10 // how far before that a word may begin that is left whole
	maxChunk = 1 << 20
)

// A line is one line of the log as a person would see it: no control sequences,
// valid UTF-8.
type line struct {
	text string
	low  string // text with ASCII letters in lower case, so that both have the same offsets
	// number is that of the line of the input which it is, or is a part of, from 1.
	number int
}

// A lineReader reads the lines of a text in any of the encodings that logs come
// in: UTF-8, UTF-16 (PowerShell's redirection), and where that fits nothing, Latin-1.
type lineReader struct {
	r       *bufio.Reader
	buf     []byte
	rest    int      // how much at the end of buf belongs to the next part of a line
	halved  bool     // the line before was cut within a word
	pending []string // lines that one line of the input stood for
	skipLF  bool     // a CR ended the line before
	ended   int      // how many lines of the input have ended, by an LF
	number  int      // of the line that was read last
	program bool     // it is no text, and has no lines
}

func newLineReader(r io.Reader) *lineReader {
	br := bufio.NewReaderSize(r, 64<<10)
	first, _ := br.Peek(512)
	head := first[:min(len(first), 128)]
	switch {
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf")):
		br.Discard(3)
	case bytes.HasPrefix(head, []byte("\xff\xfe")):
		br.Discard(2)
		br = bufio.NewReaderSize(&utf16Reader{r: br, hi: 1}, 64<<10)
	case bytes.HasPrefix(head, []byte("\xfe\xff")):
		br.Discard(2)
		br = bufio.NewReaderSize(&utf16Reader{r: br, hi: 0}, 64<<10)
	default:
		// UTF-16 without a mark: half of what is mostly ASCII is zero bytes.
		var zeros [2]int
		for i, b := range head {
			if b == 0 {
				zeros[i%2]++
			}
		}
		if n := len(head) / 3; n > 0 && zeros[1] > n && zeros[0] == 0 {
			br = bufio.NewReaderSize(&utf16Reader{r: br, hi: 1}, 64<<10)
		} else if n > 0 && zeros[0] > n && zeros[1] == 0 {
			br = bufio.NewReaderSize(&utf16Reader{r: br, hi: 0}, 64<<10)
		} else if isProgram(first) {
			return &lineReader{r: br, program: true}
		}
	}
	return &lineReader{r: br}
}

// isProgram reports whether a file that begins with head is an executable or another file
// for machines: a quarter of it is characters that no text has. Zeros alone are what a
// rotated log begins with, and a zero or two to a line are the frames of a container's log.
func isProgram(head []byte) bool {
	controls := 0
	var kinds [' ']bool
	for _, c := range head {
		if c < ' ' && !strings.ContainsRune("\t\n\r\f\b\a\x1b", rune(c)) {
			controls++
			kinds[c] = c > 2 // those up to 2 are a frame's kind
		}
	}
	n := 0
	for _, seen := range kinds {
		if seen {
			n++
		}
	}
	return controls*4 > len(head) && n >= 3
}

// next gives the next line, or io.EOF after the last one.
func (l *lineReader) next() (line, error) {
	if l.program {
		if _, err := io.Copy(io.Discard, l.r); err != nil { // who writes it shall be able to end
			return line{}, err
		}
		return line{}, io.EOF
	}
	for len(l.pending) == 0 {
		halved := l.halved
		raw, whole, err := l.raw()
		if err != nil {
			return line{}, err
		}
		text := clean(raw)
		if halved {
			text = halfSecret.ReplaceAllString(text, "***@")
		}
		if whole {
			if inner := unwrapJSON(text); inner != nil {
				l.pending = inner
				continue
			}
		}
		return line{text: text, low: lower(text), number: l.number}, nil
	}
	text := l.pending[0]
	l.pending = l.pending[1:]
	return line{text: text, low: lower(text), number: l.number}, nil
}

// halfSecret is the rest of a user and password, the front of which was cut off.
var halfSecret = regexp.MustCompile(`^[^\s/"']*@`)

// openSecret is a user and the front of a password, the rest of which is cut off.
// Digits alone are a port.
var openSecret = regexp.MustCompile(`(://)[^\s/"'@:]*:[^\s/"'@]*[^\s/"'@0-9:.,;)\]][^\s/"'@]*$`)

// brokenSecret is a user and password within which a line was broken.
var brokenSecret = regexp.MustCompile(`(://)[^\s/"'@]*:[^\s/"'@]*(?: [^\s/"'@]*)?@`)

// maskBroken takes the secrets out of s that have lost their shape where a line was
// broken; before is the line before it.
func maskBroken(before, s string) string {
	if openSecret.MatchString(before) {
		s = halfSecret.ReplaceAllString(s, "***@")
	}
	return openSecret.ReplaceAllString(brokenSecret.ReplaceAllString(s, "${1}***@"), "${1}***")
}

// raw reads up to the next LF, CR or CR LF, or as much of a line as is looked at,
// which ends between words if it can: half a password looks like none.
func (l *lineReader) raw() (b []byte, whole bool, err error) {
	l.buf = append(l.buf[:0], l.buf[len(l.buf)-l.rest:]...)
	l.rest, l.halved = 0, false
	for {
		peek, err := l.r.Peek(max(1, min(l.r.Buffered(), maxLine-len(l.buf))))
		if len(peek) == 0 {
			if len(l.buf) > 0 && errors.Is(err, io.EOF) {
				l.number = l.ended + 1
				return l.buf, true, nil
			}
			return nil, false, err
		}
		if l.skipLF && peek[0] == '\n' {
			l.r.Discard(1)
			l.skipLF = false
			l.ended++
			continue
		}
		l.skipLF = false
		if n := bytes.IndexAny(peek, "\r\n"); n >= 0 {
			l.skipLF = peek[n] == '\r'
			l.buf = append(l.buf, peek[:n]...)
			l.number = l.ended + 1
			if !l.skipLF {
				l.ended++
			}
			l.r.Discard(n + 1)
			return l.buf, true, nil
		}
		l.buf = append(l.buf, peek...)
		l.r.Discard(len(peek))
		if len(l.buf) >= maxLine {
			l.number = l.ended + 1
			if n := bytes.LastIndexByte(l.buf[maxLine-maxWord:], ' '); n >= 0 {
				l.rest = maxWord - n - 1
				return l.buf[:len(l.buf)-l.rest], false, nil
			}
			l.halved = true
			return l.buf, false, nil
		}
	}
}

// clean is b without what a terminal would act on instead of showing it.
func clean(b []byte) string {
	plain := true
	for _, c := range b {
		if c < ' ' && c != '\t' || c >= 0x7f {
			plain = false
			break
		}
	}
	if plain {
		return string(b)
	}
	var s string
	if utf8.Valid(b) || mostlyUTF8(b) {
		s = string(bytes.ToValidUTF8(b, []byte("\uFFFD")))
	} else {
		r := make([]rune, len(b))
		for i, c := range b {
			r[i] = rune(c)
		}
		s = string(r)
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return '\t'
		case r == '\u2018' || r == '\u2019': // as git and others quote
			return '\''
		case r == '\u201c' || r == '\u201d':
			return '"'
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsGraphic(r):
			return r
		}
		return -1
	}, dropEscapes(s))
}

// mostlyUTF8 tells UTF-8 with a character cut in two, as truncation leaves it,
// from another encoding.
func mostlyUTF8(b []byte) bool {
	bad, multi := 0, 0
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			bad++
		} else if n > 1 {
			multi++
		}
		b = b[n:]
	}
	return multi > 2*bad
}

// dropEscapes takes out the control sequences of ECMA-48: colours, cursor moves,
// titles, links.
func dropEscapes(s string) string {
	if !strings.ContainsAny(s, "\x1b\u009b\u009d") {
		return s
	}
	var out strings.Builder
	for len(s) > 0 {
		i := strings.IndexAny(s, "\x1b\u009b\u009d")
		if i < 0 {
			out.WriteString(s)
			break
		}
		out.WriteString(s[:i])
		var kind byte
		if s[i] == '\x1b' {
			if s = s[i+1:]; s == "" {
				break
			}
			kind, s = s[0], s[1:]
		} else {
			kind = map[bool]byte{true: '[', false: ']'}[strings.HasPrefix(s[i:], "\u009b")]
			s = s[i+len("\u009b"):]
		}
		switch kind {
		case '[':
			n := strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '?' })
			if n < 0 {
				return out.String()
			}
			_, size := utf8.DecodeRuneInString(s[n:])
			s = s[n+size:]
		case ']', 'P', 'X', '^', '_':
			n := strings.IndexAny(s, "\x07\x1b\u009c")
			switch {
			case n < 0:
				return out.String()
			case strings.HasPrefix(s[n:], "\x1b\\"):
				s = s[n+2:]
			case s[n] == '\x1b':
				s = s[n:]
			default:
				_, size := utf8.DecodeRuneInString(s[n:])
				s = s[n+size:]
			}
		}
	}
	return out.String()
}

// lower is s with its ASCII letters in lower case.
func lower(s string) string {
	for i := range len(s) {
		if c := s[i]; 'A' <= c && c <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if c := b[i]; 'A' <= c && c <= 'Z' {
					b[i] = c + 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

// logKeys are what log shippers and the go command's -json call the text.
var logKeys = []string{"log", "msg", "message", "error", "err", "text", "line", "output", "stderr", "stdout", "err.text"}

// unwrapJSON gives the lines that a JSON object on one line stands for, or nil.
func unwrapJSON(s string) []string {
	t := strings.TrimSpace(s)
	if i := strings.IndexByte(t, '{'); i > 0 && i < 80 && strings.HasSuffix(t, "}") && strings.HasPrefix(t[i:], `{"`) {
		t = t[i:]
	}
	if !strings.HasPrefix(t, `{"`) || !strings.HasSuffix(t, "}") {
		return nil
	}
	var obj map[string]any
	if json.Unmarshal([]byte(t), &obj) != nil {
		return nil
	}
	var lines []string
	for _, key := range logKeys {
		for k, v := range obj {
			text, ok := v.(string)
			if !ok || lower(k) != key {
				continue
			}
			for part := range strings.SplitSeq(strings.TrimRight(text, "\r\n"), "\n") {
				if part = clean([]byte(strings.TrimRight(part, "\r"))); !slices.Contains(lines, part) {
					lines = append(lines, part)
				}
			}
		}
	}
	return lines
}

// A utf16Reader turns UTF-16 into UTF-8.
type utf16Reader struct {
	r   *bufio.Reader
	hi  int // which byte of a pair is the high one
	out []byte
	u   rune // a high surrogate that waits for its other half, or 0
}

func (u *utf16Reader) Read(p []byte) (int, error) {
	for len(u.out) == 0 {
		var pair [2]byte
		for range 4096 {
			if _, err := io.ReadFull(u.r, pair[:]); err != nil {
				if len(u.out) > 0 {
					break
				}
				if errors.Is(err, io.ErrUnexpectedEOF) {
					err = io.EOF
				}
				return 0, err
			}
			c := rune(pair[u.hi])<<8 | rune(pair[1-u.hi])
			switch {
			case u.u != 0:
				c, u.u = utf16.DecodeRune(u.u, c), 0
			case utf16.IsSurrogate(c):
				u.u = c
				continue
			}
			u.out = utf8.AppendRune(u.out, c)
		}
	}
	n := copy(p, u.out)
	u.out = u.out[n:]
	return n, nil
}
