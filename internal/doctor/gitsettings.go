package doctor

import (
	"encoding/xml"
	"errors"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// gitSettings are what git has been told, in the order in which it reads it.
type gitSettings []gitSetting

type gitSetting struct{ key, value string } // section and name in small letters

// parseGitSettings reads what git config --null --list prints.
func parseGitSettings(out string) (set gitSettings) {
	for entry := range strings.SplitSeq(out, "\x00") {
		if key, value, _ := strings.Cut(entry, "\n"); key != "" {
			set = append(set, gitSetting{key, value})
		}
	}
	return set
}

// last is the value that counts of a key that has one.
func (g gitSettings) last(key string) (value string) {
	for _, s := range g {
		if s.key == key {
			value = s.value
		}
	}
	return value
}

// rewrite is what git makes of an address by url.BASE.insteadOf, of which the longest
// match counts, and the BASE that did it; "" if none did.
func (g gitSettings) rewrite(address string) (to, base string) {
	longest := -1
	for _, s := range g {
		b, ok := strings.CutPrefix(s.key, "url.")
		if b, ok2 := strings.CutSuffix(b, ".insteadof"); ok && ok2 && len(s.value) > longest && strings.HasPrefix(address, s.value) {
			longest, base = len(s.value), b
		}
	}
	if longest < 0 {
		return address, ""
	}
	return base + address[longest:], base
}

// helpers are the credential helpers that git would ask about an address, by name; an
// empty one takes those before it out.
func (g gitSettings) helpers(address string) (names []string) {
	for _, s := range g {
		scope, ok := strings.CutPrefix(s.key, "credential.")
		scope, ok2 := strings.CutSuffix(scope, "helper")
		if !ok || !ok2 {
			continue
		}
		if scope = strings.TrimSuffix(scope, "."); scope != "" && !scopeCovers(scope, address) {
			continue
		}
		if s.value == "" {
			names = nil
			continue
		}
		// What a shell would set for the helper alone may be a token.
		words := slices.DeleteFunc(strings.Fields(strings.TrimPrefix(s.value, "!")), func(w string) bool { return strings.Contains(w, "=") })
		name := append(words, "?")[0]
		names = append(names, name[strings.LastIndexAny(name, `/\`)+1:])
	}
	return names
}

// own reports whether git has settings for the connection to an address that the go
// command does not know: a proxy, authorities, a certificate.
func (g gitSettings) own(address string) bool {
	for _, s := range g {
		scope, ok := strings.CutPrefix(s.key, "http.")
		if !ok {
			continue
		}
		name := scope
		if i := strings.LastIndexByte(scope, '.'); i >= 0 {
			if name = scope[i+1:]; !scopeCovers(scope[:i], address) {
				continue
			}
		}
		switch name {
		case "proxy", "sslcainfo", "sslcapath", "sslcert", "sslbackend", "sslverify":
			return true
		}
	}
	return false
}

// connection is the value of http.NAME for the connection to an address, and the key that
// it stands under; "" if there is none. A setting for the address outranks one for all.
func (g gitSettings) connection(address, name string) (value, key string) {
	var all, here gitSetting
	for _, s := range g {
		scope, ok := strings.CutPrefix(s.key, "http.")
		scope, ok2 := strings.CutSuffix(scope, name)
		switch {
		case !ok || !ok2 || scope != "" && !strings.HasSuffix(scope, "."):
		case scope == "":
			all = s
		case scopeCovers(strings.TrimSuffix(scope, "."), address):
			here = s
		}
	}
	if here.key != "" {
		all = here
	}
	return all.value, all.key
}

// unverified says by which setting git takes any certificate of an address; "" if it does
// not.
func (g gitSettings) unverified(address string) (by string) {
	value, key := g.connection(address, "sslverify")
	switch strings.ToLower(value) {
	case "false", "no", "off", "0":
		return key
	}
	return ""
}

// scopeCovers reports whether settings for one URL hold for another: the same scheme
// and host, where * stands for one part, and a path that it begins with.
func scopeCovers(scope, address string) bool {
	s, err := url.Parse(scope)
	a, aerr := url.Parse(address)
	if err != nil || aerr != nil || s.Host == "" || s.Scheme != a.Scheme {
		return false
	}
	want, have := strings.Split(s.Hostname(), "."), strings.Split(a.Hostname(), ".")
	if len(want) != len(have) || s.Port() != "" && s.Port() != a.Port() {
		return false
	}
	for i := range want {
		if want[i] != "*" && !strings.EqualFold(want[i], have[i]) {
			return false
		}
	}
	path := strings.TrimSuffix(s.Path, "/")
	return path == "" || a.Path == path || strings.HasPrefix(a.Path, path+"/")
}

// A remoteAddress is where a repository is, as git reads it.
type remoteAddress struct {
	scheme     string // https, http, ssh, git, file
	user, host string // host without port
	port       string // "" is the usual one
}

var scpLike = regexp.MustCompile(`^(?:([^@/:\s]+)@)?([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):([^/].*|/.*)?$`)

// helperAddress is what git gives to a program git-remote-NAME, which may do anything.
var helperAddress = regexp.MustCompile(`^[A-Za-z0-9+.-]+::`)

// parseRemote reads the address of a repository; false if it is none that this knows.
func parseRemote(address string) (r remoteAddress, ok bool) {
	if helperAddress.MatchString(address) {
		return r, false
	}
	if strings.Contains(address, "://") {
		u, err := url.Parse(address)
		if err != nil || u.Hostname() == "" {
			return r, false
		}
		r = remoteAddress{scheme: strings.ToLower(u.Scheme), user: u.User.Username(), host: u.Hostname(), port: u.Port()}
		if r.scheme == "git+ssh" || r.scheme == "ssh+git" {
			r.scheme = "ssh"
		}
		return r, true
	}
	if m := scpLike.FindStringSubmatch(address); m != nil {
		return remoteAddress{scheme: "ssh", user: m[1], host: strings.Trim(m[2], "[]")}, true
	}
	return r, false
}

// A goImport is what a page says of where a module is.
type goImport struct{ prefix, vcs, repo string }

// parseGoImports reads the go-import tags of a page, as cmd/go/internal/vcs does.
func parseGoImports(r io.Reader) (imports []goImport, err error) {
	d := xml.NewDecoder(r)
	d.CharsetReader = func(charset string, in io.Reader) (io.Reader, error) {
		if c := strings.ToLower(charset); c != "utf-8" && c != "ascii" {
			return nil, errors.New("the page is not in UTF-8")
		}
		return in, nil
	}
	d.Strict = false
	attr := func(e xml.StartElement, name string) string {
		for _, a := range e.Attr {
			if strings.EqualFold(a.Name.Local, name) {
				return a.Value
			}
		}
		return ""
	}
	for {
		t, err := d.RawToken()
		if err != nil {
			if !errors.Is(err, io.EOF) && len(imports) == 0 {
				return nil, err
			}
			return imports, nil
		}
		switch e := t.(type) {
		case xml.StartElement:
			if strings.EqualFold(e.Name.Local, "body") {
				return imports, nil
			}
			if strings.EqualFold(e.Name.Local, "meta") && attr(e, "name") == "go-import" {
				if f := strings.Fields(attr(e, "content")); len(f) == 3 || len(f) == 4 {
					imports = append(imports, goImport{f[0], f[1], f[2]})
				}
			}
		case xml.EndElement:
			if strings.EqualFold(e.Name.Local, "head") {
				return imports, nil
			}
		}
	}
}

// importOf is the tag that is about a module; false if there is none. One that leads to
// a module proxy comes first.
func importOf(imports []goImport, path string) (found goImport, ok bool) {
	for _, i := range imports {
		if path != i.prefix && !strings.HasPrefix(path, i.prefix+"/") {
			continue
		}
		if !ok || i.vcs == "mod" {
			found, ok = i, true
		}
	}
	return found, ok
}
