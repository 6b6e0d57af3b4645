package doctor

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/upstream"
)

// A forwards is what the variables for forward proxies say, as one program reads them.
type forwards struct{ http, https, no string }

// route is the host of the forward proxy for u by the rules of the go command (those of
// golang.org/x/net/http/httpproxy); "" goes past it.
func (f forwards) route(u *url.URL) string {
	value := map[string]string{"http": f.http, "https": f.https}[u.Scheme]
	p, err := url.Parse(value)
	if err != nil || p.Scheme == "" || p.Host == "" {
		p, err = url.Parse("http://" + value)
	}
	if value == "" || err != nil || f.past(u) {
		return ""
	}
	return p.Host
}

// past reports whether the list of exceptions has the host of u.
func (f forwards) past(u *url.URL) bool {
	host, port, err := net.SplitHostPort(strings.ToLower(upstream.HostPort(u)))
	if err != nil || host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	isIP := err == nil
	if ip = ip.Unmap(); isIP && ip.IsLoopback() {
		return true
	}
	for _, e := range strings.Split(strings.ToLower(f.no), ",") {
		e = strings.TrimSpace(e)
		if e == "*" {
			return true
		}
		if p, err := netip.ParsePrefix(e); err == nil {
			if isIP && p.Masked().Contains(ip) {
				return true
			}
			continue
		}
		name, at, err := net.SplitHostPort(e)
		if err != nil {
			name, at = e, ""
		}
		if name == "" || at != "" && at != port {
			continue
		}
		if a, err := netip.ParseAddr(name); err == nil {
			if isIP && a.Unmap() == ip {
				return true
			}
			continue
		}
		domain, below := strings.CutPrefix(strings.TrimPrefix(name, "*"), ".")
		if strings.HasPrefix(name, "*") && !below { // *corp stands for itself
			continue
		}
		if !isIP && (strings.HasSuffix(host, "."+domain) || !below && host == domain) {
			return true
		}
	}
	return false
}

// asGo is the forward proxy as the go command reads it: capital letters come first.
func (s *Subject) asGo() forwards {
	get := func(name string) string {
		if v := s.Getenv(name); v != "" {
			return v
		}
		return s.Getenv(strings.ToLower(name))
	}
	return forwards{get("HTTP_PROXY"), get("HTTPS_PROXY"), get("NO_PROXY")}
}

// asGit is the same as curl, and Git with it, reads it: small letters come first, and
// HTTP_PROXY does not count in capital ones.
func (s *Subject) asGit() forwards {
	get := func(name string) string {
		if v := s.Getenv(strings.ToLower(name)); v != "" {
			return v
		}
		return s.Getenv(name)
	}
	return forwards{s.Getenv("http_proxy"), get("HTTPS_PROXY"), get("NO_PROXY")}
}

// byVariables are the addresses that are asked as the variables say, and not as a
// [[source]] table does.
func (s *Subject) byVariables() (list []*url.URL) {
	c := s.asGo()
	for _, src := range s.Sources {
		if src.URL == nil {
			continue
		}
		p, err := src.Net.Forward(src.URL)
		if err == nil && (p == nil) == (c.route(src.URL) == "") && (p == nil || p.Host == c.route(src.URL)) {
			list = append(list, src.URL)
		}
	}
	return list
}

// spelledTwice are the variables that are set in capital and in small letters, to
// different values.
func (s *Subject) spelledTwice() (names []string) {
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"} {
		big, small := s.Getenv(name), s.Getenv(strings.ToLower(name))
		if big != "" && small != "" && big != small {
			names = append(names, name)
		}
	}
	return names
}

// exceptions checks that the go command goes past the forward proxy where it is meant
// to, and that Git goes the same way.
func (s *Subject) exceptions() Outcome {
	c := s.asGo()
	if c.http == "" && c.https == "" {
		return Outcome{State: NA, Text: "there is no forward proxy"}
	}
	urls := s.byVariables()
	for _, u := range urls {
		entry, better := s.meantPast(u)
		if entry == "" {
			continue
		}
		out := s.mean(Warn, finding.ForwardVariables, "NO_PROXY", fmt.Sprintf("NO_PROXY has %q, a form that the go command does not take, so %s is asked through %s; write %s", finding.OneLine(entry, 80), u.Hostname(), c.route(u), strings.Join(meant(entry), ",")))
		s.export(&out, "NO_PROXY", better)
		return out
	}
	if twice := s.spelledTwice(); len(twice) > 0 {
		git := s.asGit()
		say := func(host string) string {
			if host == "" {
				return "directly"
			}
			return "through " + host
		}
		for _, u := range urls {
			if a, b := c.route(u), git.route(u); a != b {
				return s.mean(Warn, finding.ForwardVariables, strings.Join(twice, ", "), fmt.Sprintf("%s is set in capital and in small letters, and not alike: %s is asked %s by the go command, which reads the capital ones first, and %s by Git and curl, which read the small ones", strings.Join(twice, " and "), u.Hostname(), say(a), say(b)))
			}
		}
		return Outcome{State: OK, Text: strings.Join(twice, " and ") + " differs in capital and small letters, which makes no difference for the sources"}
	}
	past := 0
	for _, u := range urls {
		if c.route(u) == "" {
			past++
		}
	}
	return Outcome{State: OK, Text: fmt.Sprintf("%d of %d sources are asked past it", past, len(urls))}
}

// export makes setting a variable the fix, where a shell is there to do it.
func (s *Subject) export(out *Outcome, name, value string) {
	if strings.ContainsAny(value, "'\n\\") || finding.Redact(value) != value {
		return
	}
	switch s.Place {
	case finding.Terminal:
		out.Finding.Fix = []string{"export " + name + "='" + value + "'"}
	case finding.PowerShell:
		out.Finding.Fix = []string{"$env:" + name + " = '" + value + "'"}
	}
}

// meantPast is the entry of NO_PROXY that was meant for a host and is in a form that the
// go command does not take, and the whole list in one that it does; "" if there is none.
func (s *Subject) meantPast(u *url.URL) (entry, better string) {
	c := s.asGo()
	if c.route(u) == "" {
		return "", ""
	}
	var list []string
	for _, e := range strings.Split(c.no, ",") {
		forms := meant(e)
		if forms == nil {
			list = append(list, strings.TrimSpace(e))
			continue
		}
		list = append(list, forms...)
		alone := c
		alone.no = strings.Join(forms, ",")
		if entry == "" && alone.route(u) == "" {
			entry = strings.TrimSpace(e)
		}
	}
	if entry == "" {
		return "", ""
	}
	return entry, strings.Join(slices.DeleteFunc(list, func(e string) bool { return e == "" }), ",")
}

// meant is an entry of NO_PROXY in forms that the go command takes; nil if it takes it as
// it is, or nobody could say what is meant.
func meant(entry string) []string {
	e := strings.ToLower(strings.TrimSpace(entry))
	if parts := strings.FieldsFunc(e, func(r rune) bool { return strings.ContainsRune(" \t\r\n;|", r) }); len(parts) > 1 {
		var list []string
		for _, p := range parts {
			if forms := meant(p); forms != nil {
				list = append(list, forms...)
			} else {
				list = append(list, p)
			}
		}
		return list
	}
	if _, rest, ok := strings.Cut(e, "://"); ok {
		e, _, _ = strings.Cut(rest, "/")
		if forms := meant(e); forms != nil {
			return forms
		}
		return one(e)
	}
	if host, mask, ok := strings.Cut(e, "/"); ok {
		if _, err := netip.ParsePrefix(e); err == nil {
			return nil
		}
		ip, err := netip.ParseAddr(host)
		if m := net.ParseIP(mask); err == nil && ip.Is4() && m != nil && m.To4() != nil {
			if ones, bits := net.IPMask(m.To4()).Size(); bits == 32 {
				return []string{netip.PrefixFrom(ip, ones).Masked().String()}
			}
		}
		return one(host)
	}
	if inner, ok := strings.CutPrefix(e, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			return one(inner)
		}
		return nil
	}
	if p, ok := network(e); ok {
		return []string{p}
	}
	if rest, ok := strings.CutPrefix(e, "*"); ok && rest != "" && rest[0] != '.' {
		return one(rest)
	}
	return nil
}

func one(e string) []string {
	if e == "" {
		return nil
	}
	return []string{e}
}

// network reads the beginning of an IPv4 address, as 10.1.* or 10.1. have it.
func network(e string) (string, bool) {
	trimmed := strings.TrimRight(e, ".*")
	parts := strings.Split(trimmed, ".")
	if trimmed == e || len(parts) > 3 {
		return "", false
	}
	ip, err := netip.ParseAddr(strings.Join(append(parts, "0", "0", "0")[:4], "."))
	if err != nil {
		return "", false
	}
	return netip.PrefixFrom(ip, 8*len(parts)).String(), true
}

// unforwarded makes a failure on the direct way what it most likely is where a variable
// names a forward proxy that the go command does not use for such addresses.
func (s *Subject) unforwarded(out Outcome, w way) Outcome {
	if out.State != Fail || !slices.Contains([]finding.Code{finding.SourceDNS, finding.SourceConnectTimeout, finding.SourceRefused, finding.SourceNoRoute}, out.Finding.Code) {
		return out
	}
	c := s.asGo()
	if c.https != "" && w.url.Scheme == "https" || c.http != "" && w.url.Scheme == "http" {
		return out // it is past that on purpose
	}
	name := ""
	for _, n := range []string{"ALL_PROXY", "all_proxy"} {
		if name == "" && s.Getenv(n) != "" {
			name = n
		}
	}
	for _, n := range []string{"HTTP_PROXY", "http_proxy"} {
		if name == "" && s.Getenv(n) != "" && w.url.Scheme == "https" {
			name = n
		}
	}
	as := forwards{s.Getenv(name), s.Getenv(name), c.no}
	if name == "" || as.route(w.url) == "" {
		return out
	}
	want := strings.ToUpper(w.url.Scheme) + "_PROXY"
	why := "which the go command does not read"
	if strings.EqualFold(name, "HTTP_PROXY") {
		why = "which counts for http:// alone"
	}
	out = s.mean(Fail, finding.ForwardProxyBroken, w.url.Host, fmt.Sprintf("%s; %s is set, %s, so %s is asked directly", out.Text, name, why, w.url.Hostname()))
	out.Finding.Confidence = finding.Medium
	out.Finding.Mend = "name the forward proxy in " + want + " too"
	switch s.Place {
	case finding.Terminal:
		out.Finding.Fix = []string{fmt.Sprintf(`export %s="$%s"`, want, name)}
	case finding.PowerShell:
		out.Finding.Fix = []string{fmt.Sprintf(`$env:%s = "$env:%s"`, want, name)}
	}
	return out
}

// misread adds to the failure of a forward proxy what the variables show of its reason.
func (s *Subject) misread(out Outcome, u *url.URL) Outcome {
	if out.State != Fail || out.Finding.Code != finding.ForwardProxyBroken {
		return out
	}
	shell := s.Place == finding.Terminal
	name := strings.ToUpper(u.Scheme) + "_PROXY"
	small := strings.ToLower(name)
	value := s.Getenv(name)
	if value == "" {
		name, value = small, s.Getenv(small)
	}
	switch {
	case strings.Contains(out.Text, "CGI environment"):
		out.Text = name + " does not count where REQUEST_METHOD is set, as in a CGI program, so that no request can name a proxy"
		out.Finding.Mend = "take REQUEST_METHOD out of the environment of the build"
		if shell {
			out.Finding.Fix = []string{"unset REQUEST_METHOD"}
		}
	case strings.Contains(out.Text, "first record does not look like a TLS handshake") && strings.HasPrefix(value, "https://"):
		out.Text += "; " + name + " begins with https://, and the proxy does not speak TLS"
		out.Finding.Mend = "write http:// there; what goes through the proxy is encrypted all the same"
		if shell {
			out.Finding.Fix = []string{fmt.Sprintf(`export %s="http://${%s#https://}"`, name, name)}
		}
	case name != small && slices.Contains(s.spelledTwice(), name) && s.asGo().route(u) != s.asGit().route(u):
		out.Text += fmt.Sprintf("; %s says otherwise, and the go command reads %s first", small, name)
		out.Finding.Mend = "set both spellings to the proxy that works"
		out.Explains = append(out.Explains, "settings.noproxy")
		if shell {
			out.Finding.Fix = []string{fmt.Sprintf(`export %s="$%s"`, name, small)}
		}
	case value != "" && strings.HasPrefix(out.Text, out.Subject+" cannot be connected to") && s.asGo().route(u) == out.Subject:
		out.Text += "; " + name + " names it"
		out.Finding.Mend = "correct the address in " + name + ", or take the variable away where this network lets one out without"
		var names []string
		for _, n := range slices.Compact([]string{name, small}) {
			if s.Getenv(n) != "" {
				names = append(names, n)
			}
		}
		switch s.Place {
		case finding.Terminal:
			out.Finding.Fix = []string{"unset " + strings.Join(names, " ")}
		case finding.PowerShell:
			out.Finding.Fix = []string{"Remove-Item env:" + name}
		}
	}
	return out
}
