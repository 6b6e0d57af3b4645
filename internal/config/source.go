package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/modsluice/sluice/internal/goenv"
)

// A Source is what is special to one source of Config.Proxy, as its [[source]]
// table says. What files and variables hold is in it; Show shows none of that.
type Source struct {
	URL  string // as SourceURL spells it: the source it is about
	Name string // a short one, for display and switches; empty if it has none

	Timeout     time.Duration // 0: Sources.Timeout
	Connect     time.Duration // 0: Sources.Connect
	Connections int           // requests at once; 0 is no limit
	Rate        float64       // requests per second; 0 is no limit

	User, Password string // for Basic authorization; none if User is empty
	Token          string // for Bearer authorization; none if empty
	CA             string // certificates in PEM, trusted beside the system's; may be empty
	Cert, Key      string // the client certificate and its key in PEM; may be empty

	Proxy    string // a forward proxy's URL, NoForward, or empty: as the environment says
	NoProxy  string // hosts asked without it, in the form of NO_PROXY
	Resolver string // a URL of ResolverURL, or empty: the system's
	Family   string // one of Families

	Weight int // of the strategy Weighted
	Tier   int // lower ones are asked first

	// Where the secrets are from.
	PasswordFile, PasswordEnv string
	TokenFile, TokenEnv       string
	CAFile, CertFile, KeyFile string
}

// NoForward in Source.Proxy says that no forward proxy is used.
const NoForward = "none"

// Families are the values of Source.Family: race both, one of them alone, or one
// of them first.
func Families() []string { return []string{"auto", "4", "6", "prefer4", "prefer6"} }

// Values of Config.Sources.Strategy.
const (
	First = "first" // of lists.merge
	Union = "union"

	Ordered          = "ordered"
	LeastConnections = "least-connections"
	Weighted         = "weighted"
	LowestLatency    = "lowest-latency"
)

// ofSource is a Source where nothing is special.
func ofSource(url string) Source { return Source{URL: url, Family: "auto", Weight: 1} }

// SourceOf is what is special to the source with that URL, an entry of Proxy.
func (c *Config) SourceOf(entryURL string) Source {
	u := SourceURL(entryURL)
	for _, s := range c.Source {
		if s.URL == u {
			return s
		}
	}
	return ofSource(u)
}

// SourceURL is the one spelling of a source's URL: without credentials, query,
// a port that goes without saying, and slashes at the end.
func SourceURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	c := url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host), Path: strings.TrimRight(u.Path, "/"), RawPath: strings.TrimRight(u.RawPath, "/")}
	if p := u.Port(); p == "443" && u.Scheme == "https" || p == "80" && u.Scheme == "http" {
		c.Host = strings.TrimSuffix(c.Host, ":"+p)
	}
	return c.String()
}

// SourceKeys lists the keys of a [[source]] table in the order of the documentation.
func SourceKeys() []Key { return sourceKeys(&Source{}) }

// sourceKeys are the keys of a table; they set s.
func sourceKeys(s *Source) []Key {
	to := func(p any) func(*Config) any { return func(*Config) any { return p } }
	return []Key{
		{Name: "source.url", Kind: KindURL, Example: "https://a.example", DefaultHelp: "none; it must be there",
			Help: "the source that the table is about, as it stands in proxy", field: to(&s.URL)},
		{Name: "source.name", Kind: KindName, Example: "corp", DefaultHelp: "the URL", check: checkName,
			Help: "short name for switches and drills", field: to(&s.Name)},
		{Name: "source.timeout", Kind: KindDuration, Example: "30s", DefaultHelp: "sources.timeout", min: 1,
			Help: "the longest that it may make no progress, and the longest that a request waits for its limits", field: to(&s.Timeout)},
		{Name: "source.connect", Kind: KindDuration, Example: "10s", DefaultHelp: "sources.connect", min: 1,
			Help: "the longest that connecting may take, and again the TLS handshake", field: to(&s.Connect)},
		{Name: "source.connections", Kind: KindNumber, Default: "0", max: 100_000,
			Help: "the most requests to it at once; 0 is no limit", field: to(&s.Connections)},
		{Name: "source.rate", Kind: KindRate, Default: "0",
			Help: "the most requests to it in a second; 0 is no limit", field: to(&s.Rate)},
		{Name: "source.user", Kind: KindName, Example: "ann", DefaultHelp: "none",
			Help: "user for Basic authorization", field: to(&s.User), check: checkUser},
		{Name: "source.password_file", Kind: KindFile, Example: "/etc/sluice/password", DefaultHelp: "none", check: checkPath,
			Help: "file with the password for user", field: to(&s.PasswordFile)},
		{Name: "source.password_env", Kind: KindVariable, Example: "CORP_PASSWORD", DefaultHelp: "none", check: checkVariable,
			Help: "environment variable with the password for user", field: to(&s.PasswordEnv)},
		{Name: "source.token_file", Kind: KindFile, Example: "/etc/sluice/token", DefaultHelp: "none", check: checkPath,
			Help: "file with a token for Bearer authorization", field: to(&s.TokenFile)},
		{Name: "source.token_env", Kind: KindVariable, Example: "CORP_TOKEN", DefaultHelp: "none", check: checkVariable,
			Help: "environment variable with a token for Bearer authorization", field: to(&s.TokenEnv)},
		{Name: "source.ca_file", Kind: KindFile, Example: "/etc/sluice/ca.pem", DefaultHelp: "none", check: checkPath,
			Help: "file with certificates (PEM) that are trusted beside the system's, for this source only", field: to(&s.CAFile)},
		{Name: "source.cert_file", Kind: KindFile, Example: "/etc/sluice/client.pem", DefaultHelp: "none", check: checkPath,
			Help: "file with the client certificate (PEM)", field: to(&s.CertFile)},
		{Name: "source.key_file", Kind: KindFile, Example: "/etc/sluice/client.key", DefaultHelp: "none", check: checkPath,
			Help: "file with the key of the client certificate (PEM)", field: to(&s.KeyFile)},
		{Name: "source.proxy", Kind: KindForward, Example: "http://proxy.corp.example:3128", check: checkForward,
			DefaultHelp: "HTTP_PROXY, HTTPS_PROXY, NO_PROXY",
			Help:        `forward proxy on the way to it: http://, socks5:// or "none"`, field: to(&s.Proxy)},
		{Name: "source.no_proxy", Kind: KindNoProxy, Example: "corp.example,10.0.0.0/8", DefaultHelp: "none", check: checkNoProxy,
			Help: "hosts asked without forward proxy, in the form of NO_PROXY", field: to(&s.NoProxy)},
		{Name: "source.resolver", Kind: KindResolver, Example: "https://dns.example.com/dns-query", DefaultHelp: "the system's", check: checkResolver,
			Help: "who looks names up for it: https:// (DoH), tls:// (DoT), udp:// or an IP address", field: to(&s.Resolver)},
		{Name: "source.family", Kind: KindChoice, Default: "auto", Choices: Families(),
			Help: "IP version: race both, one of them alone, or one of them first", field: to(&s.Family)},
		{Name: "source.weight", Kind: KindNumber, Default: "1", max: 1_000_000,
			Help: "its share among the sources of its tier, for the strategy weighted; 0: none while another is well", field: to(&s.Weight)},
		{Name: "source.tier", Kind: KindNumber, Default: "0", max: 1_000_000,
			Help: "sources of a lower tier are asked first", field: to(&s.Tier)},
	}
}

// A sourceTable is one [[source]] of the file.
type sourceTable struct {
	where  string            // of the table
	values map[string]value  // by key name
	lines  map[string]string // by key name, also of those with mistakes
	broken bool              // a mistake has been reported for it
}

// addSource begins a [[source]] table.
func (f *parsedFile) addSource(line int) {
	f.sources = append(f.sources, sourceTable{where: f.where(line), values: make(map[string]value), lines: make(map[string]string)})
}

// sourceArray takes source = [{…}, …], the other way to write [[source]].
func (f *parsedFile) sourceArray(line int, v *unstable.Node) {
	const form = "write [[source]] and its url below"
	if v.Kind != unstable.Array {
		f.fail(line, "source", "", "it must be a table, not %s; %s", describe(v.Kind), form)
		return
	}
	for it := v.Children(); it.Next(); {
		elem := it.Node()
		if elem.Kind != unstable.InlineTable {
			f.fail(line, "source", "", "each must be a table, not %s; %s", describe(elem.Kind), form)
			continue
		}
		f.addSource(f.lineAt(elem.Raw.Offset))
		for fields := elem.Children(); fields.Next(); {
			path, line := f.keyPath(fields.Node())
			f.sourceField(append([]string{"source"}, path...), line, fields.Node().Value())
		}
	}
}

func (f *parsedFile) sourceField(path []string, line int, v *unstable.Node) {
	t := &f.sources[len(f.sources)-1]
	name := join(path)
	keys := SourceKeys()
	k, ok := find(keys, name)
	switch {
	case ok:
		bad := len(f.errs)
		if text, ok := f.text(k, line, v, t.lines); ok {
			t.values[name] = value{text, From{File, f.where(line)}}
		}
		t.broken = t.broken || len(f.errs) > bad
	default:
		t.broken = true
		if k, ok := find(f.keys, join(path[1:])); ok && len(path) > 1 {
			f.fail(line, name, "", "%s does not belong to [[source]]; move it to the top of the file, before the first [table]", k.Name)
			return
		}
		f.fail(line, name, suggestSource(name, keys), "there is no such key; remove it")
	}
}

func suggestSource(name string, keys []Key) string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.Name
	}
	if s, ok := map[string]string{
		"source.password": "source.password_file", "source.token": "source.token_file", "source.username": "source.user",
		"source.ca": "source.ca_file", "source.cert": "source.cert_file", "source.key": "source.key_file", "source.dns": "source.resolver",
		"source.rps": "source.rate", "source.limit": "source.connections", "source.http_proxy": "source.proxy", "source.https_proxy": "source.proxy",
		"source.ip": "source.family", "source.priority": "source.tier",
	}[strings.ToLower(name)]; ok {
		return s
	}
	return nearest(strings.ToLower(name), names)
}

// loadSources makes Source of the file's tables. known are the proxy lists of
// all layers: a table may be about a source that a flag leaves out today.
func (l *Loaded) loadSources(in Input, tables []sourceTable, known []goenv.List) (errs Errors) {
	l.From["source"] = From{Layer: Default}
	if len(tables) > 0 {
		l.From["source"] = From{File, tables[0].where}
	}
	urls, withUser := map[string]bool{}, map[string]bool{}
	var names []string
	for _, list := range known {
		for _, e := range list {
			if e.Kind != goenv.HTTP && e.Kind != goenv.File {
				continue
			}
			name := SourceURL(e.URL)
			if u, err := url.Parse(e.URL); err == nil && u.User != nil {
				withUser[name] = true
			}
			if !urls[name] {
				names = append(names, name)
			}
			urls[name] = true
		}
	}
	byURL, byName := map[string]string{}, map[string]string{}
	for _, t := range tables {
		s := ofSource("")
		where := func(key string) string {
			if w := t.lines[key]; w != "" {
				return w
			}
			return t.where
		}
		bad := len(errs)
		fail := func(key, format string, args ...any) {
			errs = append(errs, Error{Where: where(key), Key: key, Text: oneLine(fmt.Sprintf(format, args...))})
		}
		keys := sourceKeys(&s)
		for _, k := range keys {
			v, ok := t.values[k.Name]
			if !ok {
				continue
			}
			for _, text := range k.set(nil, v.text) {
				fail(k.Name, "%s", text)
			}
		}
		has := func(key string) bool { _, ok := t.values[key]; return ok }
		if !has("source.url") && t.lines["source.url"] == "" {
			errs = append(errs, Error{Where: t.where, Key: "source", Text: `a source needs its URL; write url = "https://a.example" as it stands in proxy`})
		}
		if s.URL != "" {
			if w := byURL[s.URL]; w != "" {
				fail("source.url", "there is a table for this source at %s already; make one of the two", w)
			}
			byURL[s.URL] = where("source.url")
			if !urls[s.URL] {
				e := Error{Where: where("source.url"), Key: "source.url", Suggest: nearest(s.URL, names)}
				e.Text = fmt.Sprintf("no source in proxy is %s; write one of those there", quoteKey(s.URL))
				if e.Suggest == "" && len(names) > 0 {
					e.Text += ": " + strings.Join(names, ", ")
				}
				errs = append(errs, e)
			}
		}
		if s.Name != "" {
			if w := byName[s.Name]; w != "" {
				fail("source.name", "the source at %s is called %q already; choose another name", w, s.Name)
			}
			byName[s.Name] = where("source.name")
		}
		both := func(a, b, why string) {
			if has(a) && has(b) {
				fail(b, "it is set beside %s; %s", Key{Name: a}.leaf(), why)
			}
		}
		both("source.password_file", "source.password_env", "remove one of the two")
		both("source.token_file", "source.token_env", "remove one of the two")
		for _, k := range []string{"source.token_file", "source.token_env"} {
			both("source.user", k, "a request carries one or the other, a user or a token; remove one of the two")
		}
		for _, k := range []string{"source.user", "source.token_file", "source.token_env"} {
			if has(k) && withUser[s.URL] {
				fail(k, "the URL in proxy has credentials already; remove one of the two")
			}
		}
		for _, k := range []string{"source.password_file", "source.password_env"} {
			if has(k) && !has("source.user") && t.lines["source.user"] == "" {
				fail(k, "a password needs its user; write user = \"ann\"")
			}
		}
		for _, k := range [][2]string{{"source.cert_file", "source.key_file"}, {"source.key_file", "source.cert_file"}} {
			if has(k[0]) && t.lines[k[1]] == "" {
				other, _ := find(keys, k[1])
				fail(k[0], "a client certificate needs both its files; write %s", other.assignment())
			}
		}
		if ip, err := netip.ParseAddr(hostOf(s.URL)); err == nil {
			if s.Family == "4" && !ip.Unmap().Is4() || s.Family == "6" && ip.Unmap().Is4() {
				fail("source.family", "it is %q, and the URL has the address %s of the other family; remove it", s.Family, ip)
			}
		}
		if strings.HasPrefix(s.URL, "file:") {
			for _, k := range keys {
				switch k.Name {
				case "source.url", "source.name", "source.weight", "source.tier":
				default:
					if has(k.Name) {
						fail(k.Name, "the source is a directory and not asked over a network; remove it")
					}
				}
			}
		}
		if s.Resolver != "" {
			if u, err := ResolverURL(s.Resolver); err == nil {
				s.Resolver = u.String()
			}
		}
		if !t.broken {
			errs = append(errs, l.readSecrets(in, &s, where)...)
		}
		if u, err := url.Parse(s.URL); err == nil && u.Scheme == "http" && !Loopback(u.Hostname()) && (s.Password != "" || s.Token != "") {
			l.Warnings = append(l.Warnings, Error{Where: where("source.url"), Key: "source.url",
				Text: "the secret for " + u.Host + " goes there unencrypted, and can be read on the way; use https if it has it"})
		}
		if len(errs) == bad && !t.broken {
			l.Source = append(l.Source, s)
		}
	}
	return errs
}

// readSecrets reads the files and variables that a table names.
func (l *Loaded) readSecrets(in Input, s *Source, where func(key string) string) (errs Errors) {
	fail := func(key, format string, args ...any) {
		errs = append(errs, Error{Where: where(key), Key: key, Text: oneLine(fmt.Sprintf(format, args...))})
	}
	read := func(key, path string, secret bool) string {
		if path == "" {
			return ""
		}
		if in.ReadFile == nil {
			fail(key, "there are no files here to be read")
			return ""
		}
		data, mode, err := in.ReadFile(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			fail(key, "there is no file %s; make it, or correct the path", quoteKey(path))
		case err != nil:
			fail(key, "the file cannot be read: %v", err)
		case strings.TrimSpace(string(data)) == "":
			fail(key, "the file %s is empty", quoteKey(path))
		}
		if err == nil && secret && mode.Perm()&0o077 != 0 {
			l.Warnings = append(l.Warnings, Error{Where: where(key), Key: key,
				Text: fmt.Sprintf("other users may read the secret in %s (mode %04o); make it 0600: chmod 600 %[1]s", oneLine(path), mode.Perm())})
		}
		return string(data)
	}
	line := func(key, text, from string) string {
		text = strings.TrimRight(text, "\r\n")
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			fail(key, "what %s holds is more than one line; a secret is one", quoteKey(from))
		}
		return text
	}
	variable := func(key, name string) string {
		if name == "" {
			return ""
		}
		for _, kv := range in.Environ { // the first mention counts, as in package os
			if n, text, ok := strings.Cut(kv, "="); ok && n == name && text != "" {
				return line(key, text, name)
			}
		}
		fail(key, "the environment variable %s is not set", name)
		return ""
	}
	secret := func(fileKey, path, envKey, name string) string {
		if path != "" {
			return line(fileKey, read(fileKey, path, true), path)
		}
		return variable(envKey, name)
	}
	s.Password = secret("source.password_file", s.PasswordFile, "source.password_env", s.PasswordEnv)
	s.Token = secret("source.token_file", s.TokenFile, "source.token_env", s.TokenEnv)
	if strings.Contains(s.Token, " ") {
		key := "source.token_file"
		if s.TokenFile == "" {
			key = "source.token_env"
		}
		fail(key, `there is a space in the token; it must be without "Bearer" and spaces`)
	}
	s.CA = read("source.ca_file", s.CAFile, false)
	if s.CA != "" && len(errs) == 0 && !x509.NewCertPool().AppendCertsFromPEM([]byte(s.CA)) {
		fail("source.ca_file", "the file %s has no certificate in PEM form (-----BEGIN CERTIFICATE-----)", quoteKey(s.CAFile))
	}
	s.Cert, s.Key = read("source.cert_file", s.CertFile, false), read("source.key_file", s.KeyFile, true)
	if s.Cert != "" && s.Key != "" {
		if _, err := tls.X509KeyPair([]byte(s.Cert), []byte(s.Key)); err != nil {
			fail("source.cert_file", "the certificate and its key cannot be used: %v", err)
		}
	}
	return errs
}

func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// text is everything that makes the source what it is, secrets included.
func (s Source) text() string {
	return s.describe(func(k Key) string { return k.text(nil) }) + fmt.Sprintf("; %q", []string{s.Password, s.Token, s.CA, s.Cert, s.Key})
}

// show is the source in one line, without secrets.
func (s Source) show() string {
	return s.describe(func(k Key) string {
		v := k.text(nil)
		switch k.Kind {
		case KindFile, KindVariable:
			return "set, from " + v
		case KindForward, KindURL, KindResolver:
			return goenv.Redact(v)
		}
		return v
	})
}

func (s Source) describe(value func(Key) string) string {
	var parts []string
	for _, k := range sourceKeys(&s) {
		if v := k.text(nil); v == k.Default || v == "" || k.Kind == KindDuration && v == "0s" {
			continue
		}
		if k.Name == "source.url" {
			parts = append(parts, value(k))
			continue
		}
		parts = append(parts, strings.NewReplacer("_file", "", "_env", "").Replace(k.leaf())+" "+value(k))
	}
	return strings.Join(parts, "; ")
}

// setSourceURL takes the URL of a table.
func setSourceURL(p *string, text string) error {
	const form = `write url = "https://a.example" as it stands in proxy`
	list, err := goenv.ParseProxyList(text)
	switch {
	case err != nil || len(list) != 1:
		return fmt.Errorf("%s is not the URL of one source; %s", quoteKey(text), form)
	case list[0].Kind == goenv.Direct || list[0].Kind == goenv.Off:
		return fmt.Errorf("%q is no source with settings of its own; [origin] has those of version control", list[0].URL)
	}
	if u, err := url.Parse(list[0].URL); err == nil && u.User != nil {
		return errors.New("credentials do not belong here; remove them, and write user and password_file below")
	}
	*p = SourceURL(list[0].URL)
	return nil
}

func checkName(s string) error {
	switch {
	case s == "direct" || s == "off":
		return fmt.Errorf("%q is a word of proxy lists; choose another name", s)
	case slices.Contains([]string{"source", "prefer", "none", "look-ahead", "origin", "offline", "on"}, s):
		return fmt.Errorf("%q is a word of sluice switch; choose another name", s)
	}
	return checkLabel(s)
}

// checkLabel says what is wrong with a name for people.
func checkLabel(s string) error {
	ok := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_.", r)
	}
	switch {
	case len(s) > 40:
		return errors.New("it is longer than 40 characters; choose a shorter one")
	case strings.ContainsFunc(s, func(r rune) bool { return !ok(r) }):
		return errors.New("only letters, digits, and - _ . may be in it")
	}
	return nil
}

func checkUser(s string) error {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == ':' }) {
		return errors.New("a user for Basic authorization has no colon and no control character in it")
	}
	return nil
}

func checkVariable(s string) error {
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("=$%{}", r) }) {
		return errors.New("it is not the name of an environment variable; write CORP_PASSWORD")
	}
	return nil
}

// ForwardURL is the forward proxy that Source.Proxy names; nil if it names none.
func ForwardURL(s string) (*url.URL, error) {
	if s == "" || s == NoForward {
		return nil, nil
	}
	const form = `write http://proxy.corp.example:3128, socks5://127.0.0.1:1080, or "none"`
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Opaque != "" || u.Host == "" && u.Scheme != "" || strings.ContainsAny(u.Host, ", "):
		return nil, fmt.Errorf("%s is not a URL; %s", quoteKey(s), form)
	case u.Scheme != "http" && u.Scheme != "socks5" && u.Scheme != "socks5h":
		return nil, fmt.Errorf("%s is neither http nor socks5; %s", quoteKey(s), form)
	case u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%s is more or less than a host with its port; %s", quoteKey(s), form)
	}
	return u, nil
}

func checkForward(s string) error {
	_, err := ForwardURL(s)
	return err
}

func checkNoProxy(s string) error {
	for h := range strings.SplitSeq(s, ",") {
		h = strings.TrimSpace(h)
		if _, err := netip.ParsePrefix(h); err == nil || h == "" {
			continue
		}
		if strings.ContainsAny(h, "/@ ") {
			return fmt.Errorf("%s is no host, domain or network; write corp.example,10.0.0.0/8", quoteKey(h))
		}
	}
	return nil
}

func checkResolver(s string) error {
	if s == "" {
		return nil
	}
	_, err := ResolverURL(s)
	return err
}

// ResolverURL reads who is asked for addresses: https://HOST/PATH (DoH),
// tls://HOST:PORT (DoT) or udp://HOST:PORT, also an IP address alone or with a
// port. The URL it makes always has one of these schemes, and its port.
func ResolverURL(s string) (*url.URL, error) {
	const form = `write https://dns.example.com/dns-query, tls://192.0.2.1:853, or 192.0.2.1:53`
	raw := s
	if ip, err := netip.ParseAddr(s); err == nil {
		raw = "udp://" + net.JoinHostPort(ip.String(), "53")
	} else if _, err := netip.ParseAddrPort(s); err == nil {
		raw = "udp://" + s
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" {
		return nil, fmt.Errorf("%s is no URL and no IP address; %s", quoteKey(s), form)
	}
	port, ok := map[string]string{"https": "443", "tls": "853", "udp": "53"}[u.Scheme]
	switch {
	case !ok && u.Scheme == "http":
		return nil, fmt.Errorf("http is not encrypted, which DNS over HTTPS must be; %s", form)
	case !ok:
		return nil, fmt.Errorf("%s is neither https, tls, udp nor an IP address; %s", quoteKey(s), form)
	case u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && strings.Trim(u.Path, "/") != "":
		return nil, fmt.Errorf("%s is more or less than a resolver's address; %s", quoteKey(s), form)
	}
	if u.Port() != "" {
		port = u.Port()
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return nil, fmt.Errorf("the port %s is not a number from 1 to 65535; %s", quoteKey(port), form)
		}
	}
	c := &url.URL{Scheme: u.Scheme, Host: net.JoinHostPort(strings.ToLower(u.Hostname()), port)}
	if u.Scheme == "https" {
		if c.Path, c.RawPath = u.Path, u.RawPath; strings.Trim(c.Path, "/") == "" {
			c.Path, c.RawPath = "/dns-query", ""
		}
	}
	return c, nil
}

func parseRate(s string) (float64, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0 && f <= 1e6) {
		return 0, errors.New("it must be a number from 0 to 1000000, such as 5 or 0.5")
	}
	return f, nil
}

// namedVariables are the variables that tables name for secrets.
func namedVariables(tables []sourceTable) []string {
	var names []string
	for _, t := range tables {
		names = append(names, t.values["source.password_env"].text, t.values["source.token_env"].text)
	}
	return slices.DeleteFunc(names, func(s string) bool { return s == "" })
}

// Loopback reports whether a host, as it stands in a URL, is this machine, so that
// what is sent to it leaves by no wire.
func Loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
}
