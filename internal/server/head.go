package server

import "bytes"

// A head is the head of a request, as far as an answer from memory needs it.
type head struct {
	get  bool   // GET, else HEAD
	path string // what Mirror.Warm takes; "" if the answer cannot come from memory
}

// What is at the beginning of what a client sent.
type begins int

const (
	beginsPart   begins = iota // a head that is not whole, or nothing
	beginsAlone                // a whole head of a GET or HEAD without a body
	beginsOthers               // anything else; only net/http can tell where it ends
)

// parseHead reads the head at the beginning of b, and gives its length if it is
// one that stands alone. It is strict: what net/http would read in another way,
// or what is right and rare, is beginsOthers. The rules are those of RFC 9112.
func parseHead(b []byte) (h head, n int, what begins) {
	if len(b) > 0 && b[0] != 'G' && b[0] != 'H' {
		return head{}, 0, beginsOthers
	}
	n = bytes.Index(b, []byte("\r\n\r\n"))
	if n < 0 {
		if hopeless(b) {
			return head{}, 0, beginsOthers
		}
		return head{}, 0, beginsPart
	}
	line, rest := cutLine(b[:n+2])
	n += 4
	get, target, ok := requestLine(line)
	if !ok {
		return head{}, 0, beginsOthers
	}
	h.get = get
	hosts, plain := 0, true
	for len(rest) > 0 {
		line, rest = cutLine(rest)
		i := bytes.IndexByte(line, ':')
		if i <= 0 || !token(line[:i]) || !visible(line[i+1:], true) {
			return head{}, 0, beginsOthers
		}
		switch classOf(line[:i]) {
		case fieldHost:
			v := bytes.Trim(line[i+1:], " \t")
			for _, c := range v {
				if !hostBytes[c] {
					return head{}, 0, beginsOthers
				}
			}
			hosts++
		case fieldFrames:
			return head{}, 0, beginsOthers
		case fieldConnection:
			if !bytes.EqualFold(bytes.Trim(line[i+1:], " \t"), []byte("keep-alive")) {
				return head{}, 0, beginsOthers
			}
		case fieldChanges:
			plain = false
		}
	}
	if hosts != 1 {
		return head{}, 0, beginsOthers
	}
	if plain {
		h.path = pathOf(target)
	}
	return h, n, beginsAlone
}

// hopeless reports whether a part of a head can be none that stands alone,
// whatever follows. net/http may not wait for more of it: to it, an LF ends a
// line, and a request line that is wrong is the end.
func hopeless(b []byte) bool {
	for from := 0; ; {
		i := bytes.IndexByte(b[from:], '\n')
		if i < 0 {
			return false
		}
		i += from
		if i == 0 || b[i-1] != '\r' {
			return true
		}
		if from == 0 {
			if _, _, ok := requestLine(b[:i-1]); !ok {
				return true
			}
		}
		from = i + 1
	}
}

// requestLine reads the line of a GET, or of a HEAD.
func requestLine(line []byte) (get bool, target []byte, ok bool) {
	if target, get = bytes.CutPrefix(line, []byte("GET ")); !get {
		if target, ok = bytes.CutPrefix(line, []byte("HEAD ")); !ok {
			return false, nil, false
		}
	}
	target, ok = bytes.CutSuffix(target, []byte(" HTTP/1.1"))
	return get, target, ok && visible(target, false)
}

// cutLine cuts a line and its end off b, which ends in one.
func cutLine(b []byte) (line, rest []byte) {
	i := bytes.Index(b, []byte("\r\n"))
	return b[:i], b[i+2:]
}

// visible reports whether b has printable ASCII alone, and spaces and tabs where
// they may be.
func visible(b []byte, spaces bool) bool {
	for _, c := range b {
		if (c <= ' ' || c > '~') && !(spaces && (c == ' ' || c == '\t')) {
			return false
		}
	}
	return true
}

var tokenBytes, hostBytes, pathBytes = set("!#$%&'*+-.^_`|~"), set("-._:[]"), set("-._~/@!+")

// set is letters, digits and others.
func set(others string) (s [256]bool) {
	for c := range s {
		s[c] = '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
	}
	for _, c := range []byte(others) {
		s[c] = true
	}
	return s
}

func token(b []byte) bool {
	for _, c := range b {
		if !tokenBytes[c] {
			return false
		}
	}
	return true
}

// What a header field means for an answer from memory.
type fieldClass int

const (
	fieldOther      fieldClass = iota // nothing
	fieldHost                         // must be there, once
	fieldConnection                   // may say what is so anyway
	fieldChanges                      // another answer
	fieldFrames                       // perhaps a body, or another protocol
)

// fieldClasses are the fields that mean something, by their length and in small letters.
var fieldClasses = func() (all [32][]struct {
	name  string
	class fieldClass
}) {
	add := func(class fieldClass, names ...string) {
		for _, n := range names {
			all[len(n)] = append(all[len(n)], struct {
				name  string
				class fieldClass
			}{n, class})
		}
	}
	add(fieldHost, "host")
	add(fieldConnection, "connection")
	add(fieldChanges, "range", "if-none-match", "if-modified-since", "via", "if-match", "if-unmodified-since", "if-range", "disable-module-fetch")
	add(fieldFrames, "content-length", "transfer-encoding", "expect", "upgrade", "http2-settings", "trailer", "te")
	return all
}()

func classOf(name []byte) fieldClass {
	if len(name) >= len(fieldClasses) {
		return fieldOther
	}
	for _, f := range fieldClasses[len(name)] {
		if equalFold(name, f.name) {
			return f.class
		}
	}
	return fieldOther
}

// equalFold reports whether b is s, which is of the same length and in small letters.
func equalFold(b []byte, s string) bool {
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != s[i] {
			return false
		}
	}
	return true
}

// pathOf is the path of a request target without its first slash, decoded; "" if
// it is not spelled as go commands do, who write ! as %21 and + as %2B.
func pathOf(target []byte) string {
	if len(target) < 2 || target[0] != '/' {
		return ""
	}
	target = target[1:]
	var room [256]byte
	path := room[:0]
	for i := 0; i < len(target); i++ {
		c := target[i]
		if c == '%' && i+2 < len(target) && target[i+1] == '2' {
			switch target[i+2] {
			case '1':
				c = '!'
			case 'B', 'b':
				c = '+'
			}
			i += 2
		}
		if !pathBytes[c] {
			return ""
		}
		path = append(path, c)
	}
	return string(path)
}
