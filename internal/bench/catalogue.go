package bench

import (
	_ "embed"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/modsluice/sluice/internal/goenv"
)

// A Listed mirror is a line of a catalogue.
type Listed struct {
	Name string // to ask for it by; lower case
	URL  string // without a slash at its end
	Note string // what was last known of it; may be empty
}

//go:embed mirrors.txt
var embedded string

// Catalogue is the catalogue that Sluice comes with. The caller owns the result.
func Catalogue() []Listed {
	list, err := ParseCatalogue("mirrors.txt", []byte(embedded))
	if err != nil {
		panic(err) // a test reads it
	}
	return list
}

const (
	// maxLine is the longest line of a catalogue, in bytes; one that is longer is none.
	maxLine = 4 << 10
	// MaxCatalogue is the largest catalogue that is read, in bytes.
	MaxCatalogue = 1 << 20
)

var listedName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,39}$`)

// reserved are words that stand for something else where a mirror may be named.
var reserved = []string{"best", "default", "direct", "off"}

// ParseCatalogue reads a catalogue: a line for each mirror, of a name, a URL and a note,
// separated by spaces; empty lines and those that begin with # say nothing. The error
// has the name of the file, and the line, and no credentials.
func ParseCatalogue(file string, data []byte) ([]Listed, error) {
	var list []Listed
	at := map[string]int{} // line by name and by URL
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		bad := func(format string, args ...any) ([]Listed, error) {
			return nil, fmt.Errorf("%s:%d: %s", file, n, fmt.Sprintf(format, args...))
		}
		line = strings.TrimSpace(strings.TrimPrefix(line, "\ufeff"))
		switch {
		case line == "" || line[0] == '#':
			continue
		case len(line) > maxLine:
			return bad("the line is %d bytes long, more than %d; it must be NAME URL NOTE", len(line), maxLine)
		case !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return r != '\t' && !unicode.IsPrint(r) }):
			return bad("the line holds bytes that are no printable text; it must be NAME URL NOTE")
		}
		f := strings.Fields(line)
		if len(f) < 2 {
			return bad("it must be NAME URL NOTE, such as: corp https://proxy.example.com our own, in the cellar")
		}
		l := Listed{Name: f[0], URL: strings.TrimRight(f[1], "/"), Note: strings.Join(f[2:], " ")}
		u, err := url.Parse(l.URL)
		switch {
		case slices.Contains(reserved, l.Name):
			return bad("the name %s stands for something else; choose another", l.Name)
		case !listedName.MatchString(l.Name):
			return bad("%q is no name of a mirror: up to 40 small letters, digits, dots, dashes and underscores, the first a letter or digit", shown(l.Name))
		case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
			return bad("%q is no address of a mirror; write https://HOST or https://HOST/PATH", shown(l.URL))
		case !isPort(u.Port()):
			return bad("the address of %s has the port %.20s, and ports are numbers from 1 to 65535; write https://HOST:8443", l.Name, u.Port())
		case u.User != nil:
			return bad("the address of %s has credentials, which others would read here; put them into the netrc file", l.Name)
		case u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(l.URL, "?#,|'\"`\\$"):
			return bad("the address of %s has characters that a GOPROXY list cannot hold; write https://HOST or https://HOST/PATH", l.Name)
		case at[l.Name] > 0:
			return bad("the name %s is that of line %d too; give each mirror a name of its own", l.Name, at[l.Name])
		case at[l.URL] > 0:
			return bad("the address of %s is that of line %d too; leave one of them out", l.Name, at[l.URL])
		}
		at[l.Name], at[l.URL] = n, n
		list = append(list, l)
	}
	return list, nil
}

// isPort reports whether s is a port, or none is given.
func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return s == "" || err == nil && n > 0
}

// shown is text for a message: without credentials, and not too long.
func shown(s string) string {
	if s = goenv.Redact(s); utf8.RuneCountInString(s) > 80 {
		s = string([]rune(s)[:79]) + "…"
	}
	return s
}

// Extend is list with the mirrors of more: in place of those of the same name or URL,
// the others at the end. The caller owns the result.
func Extend(list, more []Listed) []Listed {
	list = slices.Clone(list)
	for _, m := range more {
		list = slices.DeleteFunc(list, func(l Listed) bool { return l.Name != m.Name && l.URL == m.URL })
		if i := slices.IndexFunc(list, func(l Listed) bool { return l.Name == m.Name }); i >= 0 {
			list[i] = m
		} else {
			list = append(list, m)
		}
	}
	return list
}
