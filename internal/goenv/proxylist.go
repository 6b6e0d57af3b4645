package goenv

import (
	"errors"
	"fmt"
	"net/url"
	pathpkg "path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A Kind says what an entry of a proxy list is.
type Kind uint8

// The zero Kind is none of them.
const (
	HTTP   Kind = 1 + iota // a module proxy, http or https
	File                   // a tree of files laid out as a proxy, file://
	Direct                 // version control
	Off                    // nothing: the request fails here
)

// An Entry is one source of a proxy list.
type Entry struct {
	Kind Kind
	URL  string // complete, with its credentials; or "direct" or "off"

	// FallBackOnError is true for an entry followed by "|": any error goes on
	// to the next entry, and not only 404 and 410. It is never set for Direct
	// and Off, behind which the go command does not look.
	FallBackOnError bool
}

// Name is the entry for messages: its URL without credentials.
func (e Entry) Name() string { return Redact(e.URL) }

// A List is a GOPROXY list as the go command walks it. Direct and Off can only
// be its last entry.
type List []Entry

// String is the list in GOPROXY syntax, with its credentials: ParseProxyList
// makes the same list of it.
func (l List) String() string {
	var b strings.Builder
	for i, e := range l {
		b.WriteString(e.URL)
		switch {
		case e.FallBackOnError:
			b.WriteByte('|')
		case i < len(l)-1:
			b.WriteByte(',')
		}
	}
	return b.String()
}

// Redacted is the list in GOPROXY syntax without its credentials.
func (l List) Redacted() string {
	c := slices.Clone(l)
	for i := range c {
		c[i].URL = c[i].Name()
	}
	return c.String()
}

// ParseProxyList reads s as the go command reads GOPROXY: entries separated by
// "," or "|", spaces around them and empty ones ignored, nothing read behind
// "direct" or "off", "https://" understood before a host. What the go command
// refuses is refused, and so is a URL without a host, or with a port that is
// none, at which the go command fails later. No error shows credentials.
func ParseProxyList(s string) (List, error) {
	var list List
	for n := 1; s != ""; n++ {
		text, sep := s, byte(0)
		if i := strings.IndexAny(s, ",|"); i >= 0 {
			text, sep, s = s[:i], s[i], s[i+1:]
		} else {
			s = ""
		}
		text = strings.TrimSpace(text)
		switch text {
		case "":
			n-- // an empty entry is none
			continue
		case "off":
			return append(list, Entry{Kind: Off, URL: text}), nil
		case "direct":
			return append(list, Entry{Kind: Direct, URL: text}), nil
		}
		e := Entry{Kind: HTTP, URL: text, FallBackOnError: sep == '|'}
		if impliesHTTPS(text) {
			e.URL = "https://" + text
		}
		u, err := parseURL(e.URL)
		switch {
		case err != nil:
		case u.Scheme == "file":
			e.Kind = File
			if *u != (url.URL{Scheme: u.Scheme, Path: u.Path, RawPath: u.RawPath}) {
				err = errors.New("has more than a path, or less than two slashes before it; write file:///path/to/tree")
			}
		case u.Scheme == "":
			err = noScheme(text)
		case u.Scheme != "http" && u.Scheme != "https":
			err = fmt.Errorf("has the scheme %s, and only https, http and file work; write https://proxy.example.com", u.Scheme)
		case u.Host == "" || u.Hostname() == "":
			err = errors.New("has no host; write https://proxy.example.com")
		default:
			err = checkPort(u)
		}
		if err != nil {
			return nil, fmt.Errorf("entry %d of the proxy list, %q, %w", n, Redact(text), err)
		}
		list = append(list, e)
	}
	if len(list) == 0 {
		return nil, errors.New(`the proxy list has no entries; write https://proxy.example.com, or "direct", or "off"`)
	}
	return list, nil
}

// checkPort says what is wrong with the port of a URL: url.Parse takes any number.
func checkPort(u *url.URL) error {
	port := u.Port()
	if n, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || n == 0) {
		return fmt.Errorf("has the port %.20s, and ports are numbers from 1 to 65535; write https://proxy.example.com:8443", port)
	}
	return nil
}

// impliesHTTPS is the rule of modfetch.proxyList: single words are reserved, and
// what has ":/" or is an absolute path must be a complete URL.
func impliesHTTPS(s string) bool {
	return strings.ContainsAny(s, ".:/") && !strings.Contains(s, ":/") && !filepath.IsAbs(s) && !pathpkg.IsAbs(s)
}

func noScheme(text string) error {
	switch lower := strings.ToLower(text); {
	case lower == "direct" || lower == "off":
		return fmt.Errorf("must be written in small letters: %s", lower)
	case strings.HasPrefix(text, "//"):
		return errors.New("has no scheme; write https: before it")
	case strings.HasPrefix(text, "/"):
		return errors.New("is a path and not a URL; write file:// before it")
	default:
		return errors.New(`is no URL, and no word that the go command knows; write https://proxy.example.com, or "direct", or "off"`)
	}
}

// parseURL parses an URL. Its errors are sentences' ends that show no part of
// the URL, since any part may be one of a password.
func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err == nil {
		return u, nil
	}
	what := err.Error()
	switch {
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return nil, errors.New("has a control character in it; write it anew by hand")
	case strings.Contains(s, " "):
		return nil, errors.New(`has a space in it; separate entries by "," or "|"`)
	case strings.ContainsAny(s, `"'`):
		return nil, errors.New("has a quote in it; write it without quotes")
	case strings.Contains(what, "userinfo"):
		return nil, errors.New("has a user name or password with characters that a URL cannot hold; write them as %XX")
	case strings.Contains(what, "invalid URL escape"):
		return nil, errors.New("has a % that does not begin an escape such as %20; write % itself as %25")
	case strings.Contains(what, "port"):
		return nil, errors.New("has a port that is no number; write https://proxy.example.com:8443, and : / @ in a password as %3A %2F %40")
	default:
		return nil, errors.New("is not a well-formed URL; write https://proxy.example.com")
	}
}

// CheckProxyList reports what in a GOPROXY value does not do what it seems to do,
// one sentence each, beginning with the error of ParseProxyList if there is one.
// fixed is the list as it was probably meant, in GOPROXY syntax and with its
// credentials; it is empty if there is nothing to mend or no safe guess.
func CheckProxyList(s string) (notes []string, fixed string) {
	list, err := ParseProxyList(s)
	if err != nil {
		notes = append(notes, err.Error())
	}
	tokens := proxyTokens(s)
	var seen []string
	var end string // direct or off, once met
	for i, t := range tokens {
		switch name := Redact(t.text); {
		case end != "":
			notes = append(notes, fmt.Sprintf("%q stands behind %q, where the go command stops reading", name, end))
		case t.text == "direct" || t.text == "off":
			end = t.text
			continue
		case (t.sep == ' ' || t.sep == ';') && i < len(tokens)-1 && err == nil:
			what := map[byte]string{' ': "space", ';': "semicolon"}[t.sep]
			notes = append(notes, fmt.Sprintf(`a %s after %q does not separate entries; write "," or "|"`, what, name))
		case slices.Contains(seen, t.text):
			notes = append(notes, fmt.Sprintf("%q is in the list twice", name))
		}
		seen = append(seen, t.text)
	}
	for _, e := range list {
		u, err := url.Parse(e.URL)
		if err != nil || e.Kind == Direct || e.Kind == Off {
			continue
		}
		switch {
		case u.Host == "http" || u.Host == "https":
			name := e.Name()
			if !strings.Contains(s, e.URL) { // the scheme before it is ours
				name = strings.TrimPrefix(name, "https://")
			}
			notes = append(notes, fmt.Sprintf("%q names a host called %q; a colon is missing after it", name, u.Host))
		case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
			notes = append(notes, fmt.Sprintf("%q has a query or fragment, which the go command keeps behind every path it asks for", e.Name()))
		case u.User != nil && u.Scheme == "http":
			notes = append(notes, fmt.Sprintf("%q sends its password unencrypted; use https", e.Name()))
		}
	}
	if len(notes) == 0 {
		return nil, ""
	}
	if l, err := ParseProxyList(mendProxyList(tokens)); err == nil && l.String() != list.String() {
		fixed = l.String()
	}
	return notes, fixed
}

// MisreadProxyList is CheckProxyList for whoever is about to use the list: meant is the
// list as it was probably meant if that asks others than s does, or in another order, so
// that s must not be used; it is empty if the notes are only to be told.
func MisreadProxyList(s string) (notes []string, meant string) {
	notes, fixed := CheckProxyList(s)
	if fixed == "" {
		return notes, ""
	}
	asked := func(s string) (urls []string) {
		list, _ := ParseProxyList(s)
		for _, e := range list {
			if !slices.Contains(urls, e.URL) { // that one is named twice harms nobody
				urls = append(urls, e.URL)
			}
		}
		return urls
	}
	if slices.Equal(asked(s), asked(fixed)) {
		return notes, ""
	}
	return notes, fixed
}

// A proxyToken is a word of a proxy list and the separator behind it: "|", ",",
// or what stands in for one.
type proxyToken struct {
	text string
	sep  byte
}

// proxyTokens splits at whatever its author may have taken for a separator.
func proxyTokens(s string) []proxyToken {
	s = strings.TrimPrefix(strings.TrimSpace(s), "GOPROXY=")
	isSep := func(r rune) bool { return strings.ContainsRune(",|; \t\r\n\"'", r) }
	var tokens []proxyToken
	for s = strings.TrimLeftFunc(s, isSep); s != ""; {
		i := strings.IndexFunc(s, isSep)
		if i < 0 {
			return append(tokens, proxyToken{text: s})
		}
		t := proxyToken{s[:i], ' '}
		rest := strings.TrimLeftFunc(s[i:], isSep)
		if sep := s[i : len(s)-len(rest)]; strings.Contains(sep, "|") {
			t.sep = '|'
		} else if strings.Contains(sep, ",") {
			t.sep = ','
		} else if strings.Contains(sep, ";") {
			t.sep = ';'
		}
		tokens, s = append(tokens, t), rest
	}
	return tokens
}

func mendProxyList(tokens []proxyToken) string {
	var words []string
	var bars []bool // any error goes on behind the word
	var end string
	for _, t := range tokens {
		switch lower := strings.ToLower(t.text); lower {
		case "direct", "off":
			if end == "" {
				end = lower
			}
			continue
		}
		for _, scheme := range []string{"https", "http"} {
			if rest, ok := strings.CutPrefix(t.text, scheme+"//"); ok {
				t.text = scheme + "://" + rest
			} else if rest, ok := strings.CutPrefix(t.text, scheme+":/"); ok && !strings.HasPrefix(rest, "/") {
				t.text = scheme + "://" + rest
			}
		}
		if strings.HasPrefix(t.text, "//") {
			t.text = "https:" + t.text
		} else if strings.HasPrefix(t.text, "/") {
			t.text = "file://" + t.text
		}
		if slices.Contains(words, t.text) {
			// Who stood before it is followed by what followed it, and is not gone past
			// at an error at which it would not have been.
			bars[len(bars)-1] = bars[len(bars)-1] && t.sep == '|'
			continue
		}
		words, bars = append(words, t.text), append(bars, t.sep == '|')
	}
	var b strings.Builder
	for i, w := range words {
		b.WriteString(w)
		if bars[i] {
			b.WriteByte('|')
		} else {
			b.WriteByte(',')
		}
	}
	return strings.TrimSuffix(b.String()+end, ",")
}

const redacted = "xxxxx"

// Redact hides what may be a credential in s, which may be a URL, a proxy list, a
// GOSUMDB value, or something that was meant to be one: user names, passwords,
// queries. Where it is in doubt it hides too much.
func Redact(s string) string {
	// A part reaches from behind one "://" into the scheme of the next, so its
	// last "@" ends a user name or password, whatever characters that has.
	parts := strings.Split(s, "://")
	for i, p := range parts {
		parts[i] = redactPart(p)
	}
	return strings.Join(parts, "://")
}

func redactPart(p string) string {
	var b strings.Builder
	if at := strings.LastIndexByte(p, '@'); at >= 0 {
		// Entries before the one with the "@", and an "@" in the path of a
		// well-formed URL, can stay.
		for {
			i := strings.IndexAny(p[:at], ",|; \t\r\n/")
			if i < 0 || !looksLikeHost(p[:i]) {
				break
			}
			if p[i] == '/' {
				j := strings.IndexAny(p[i:at], ",|; \t\r\n")
				if j < 0 {
					return b.String() + redactWords(p)
				}
				i += j
			}
			b.WriteString(redactWords(p[:i+1]))
			p, at = p[i+1:], at-i-1
		}
		b.WriteString(redacted)
		p = p[at:]
	}
	return b.String() + redactWords(p)
}

// redactWords hides queries, and what follows a colon but is no port.
func redactWords(p string) string {
	const seps = ",|; \t\r\n"
	var b strings.Builder
	for p != "" {
		word := p
		if i := strings.IndexAny(p, seps); i >= 0 {
			word = p[:i+1]
		}
		p = p[len(word):]
		body := strings.TrimRight(word, seps)
		tail := word[len(body):]
		if i := strings.IndexByte(body, '?'); i >= 0 {
			body = body[:i+1] + redacted
		}
		host, path := body, ""
		if i := strings.IndexAny(body, "/?#"); i >= 0 {
			host, path = body[:i], body[i:]
		}
		if i := strings.IndexByte(host, ':'); i >= 0 && !strings.HasPrefix(strings.TrimPrefix(host, "@"), "[") && strings.Trim(host[i+1:], "0123456789") != "" {
			host = host[:i+1] + redacted
		}
		b.WriteString(host + path + tail)
	}
	return b.String()
}

// looksLikeHost tells "proxy.example.com:8443" from what may be a token or
// "user:password".
func looksLikeHost(s string) bool {
	host, port, _ := strings.Cut(s, ":")
	return strings.Contains(host, ".") && strings.Trim(port, "0123456789") == ""
}
