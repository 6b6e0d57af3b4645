package doctor

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/modtest"
)

func variables(kv ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(kv); i += 2 {
			if kv[i] == name {
				return kv[i+1]
			}
		}
		return ""
	}
}

// The hosts of NO_PROXY that the go command takes, by golang.org/x/net/http/httpproxy.
func TestNO_PROXYIsReadAsTheGoCommandReadsIt(t *testing.T) {
	for _, tt := range []struct {
		list, url string
		past      bool
	}{
		{"", "https://proxy.example.com", false}, {"*", "https://proxy.example.com", true},
		{"example.com", "https://proxy.example.com", true}, {"EXAMPLE.com", "https://Proxy.Example.com", true}, {"example.com", "https://example.com", true}, {"example.com", "https://myexample.com", false},
		{".example.com", "https://proxy.example.com", true}, {".example.com", "https://example.com", false}, {"*.example.com", "https://proxy.example.com", true}, {"*.example.com", "https://example.com", false},
		{"*example.com", "https://proxy.example.com", false}, {"a, example.com ,b", "https://proxy.example.com", true}, {"a example.com", "https://proxy.example.com", false},
		{"example.com:443", "https://proxy.example.com", true}, {"example.com:80", "https://proxy.example.com", false}, {"https://example.com", "https://example.com", false},
		{"10.0.0.0/8", "https://10.1.2.3", true}, {"10.0.0.1/8", "http://10.1.2.3", true}, {"10.0.0.0/8", "https://goproxy.corp", false}, {"10.1.2.3", "https://10.1.2.3", true}, {"10.1.2.3:443", "https://10.1.2.3", true},
		{"10.*", "https://10.1.2.3", false}, {"::1", "http://[::1]:80", true}, {"2001:db8::/32", "http://[2001:db8::1]", true}, {"[2001:db8::1]", "http://[2001:db8::1]", false}, {"[2001:db8::1]:80", "http://[2001:db8::1]", true},
		{"", "http://localhost:7070", true}, {"", "http://127.0.0.9", true},
	} {
		u, err := url.Parse(tt.url)
		if err != nil {
			t.Fatal(err)
		}
		if got := (forwards{no: tt.list}).past(u); got != tt.past {
			t.Errorf("%q, %s: %v, want %v", tt.list, tt.url, got, tt.past)
		}
	}
}

func TestAFormOfNO_PROXYThatGoDoesNotTakeIsPutRight(t *testing.T) {
	for entry, want := range map[string]string{
		"example.com": "", ".example.com": "", "*.example.com": "", "10.0.0.0/8": "", "*": "", "10.1.2.3": "", "2001:db8::1": "", "example.com:443": "", "": "", "..": "", "10.0.0.1-9": "", "corp.*": "",
		"*example.com": "example.com", "a.example b.example": "a.example b.example", "a.example;*b.example": "a.example b.example", "https://goproxy.corp:8443/x": "goproxy.corp:8443", "goproxy.corp/": "goproxy.corp",
		"10.*": "10.0.0.0/8", "192.168.1.*": "192.168.1.0/24", "192.168.*.*": "192.168.0.0/16", "10.": "10.0.0.0/8", "[2001:db8::1]": "2001:db8::1", "10.0.0.0/255.0.0.0": "10.0.0.0/8", "/8": "", "10.0.0.0/99": "10.0.0.0",
	} {
		if got := strings.Join(meant(entry), " "); got != want {
			t.Errorf("%q is meant as %q, want %q", entry, got, want)
		}
	}
}

func FuzzNO_PROXY(f *testing.F) {
	for _, s := range []string{"*a", "10.*", "a b;c", "https://[::1]:1/x", "[", "1.2.3.4/255.255.0.0", "://", "..", "*://*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, entry string) {
		for _, form := range meant(entry) {
			if form == "" || strings.ContainsAny(form, " ;|") && !strings.ContainsAny(entry, " ;|") {
				t.Errorf("%q is meant as %q", entry, form)
			}
		}
		u, _ := url.Parse("https://proxy.example.com")
		forwards{"http://p:1", "http://p:1", entry}.route(u)
	})
}

func TestWhatTheVariablesOfForwardProxiesDoNotSayIsFound(t *testing.T) {
	forward := modtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no such host", http.StatusBadGateway) }))
	const dead = "http://127.0.0.1:1"
	for _, tt := range []struct {
		name  string
		chain string // "" is the source, at 127.0.0.1
		vars  []string
		works bool // the forward proxy forwards to the source
		want  string
		text  string // in the evidence
		fix   string
	}{
		{name: "none is set", want: "well"},
		{name: "one that serves", chain: "http://proxy.example.com", works: true, vars: []string{"HTTP_PROXY", "FORWARD"}, want: "well"},
		{name: "both spellings, alike", chain: "http://proxy.example.com", works: true, vars: []string{"HTTP_PROXY", "FORWARD", "http_proxy", "FORWARD"}, want: "well"},
		{name: "exceptions spelled in two ways that make no difference", chain: "http://proxy.example.com", works: true, vars: []string{"HTTP_PROXY", "FORWARD", "http_proxy", "FORWARD", "NO_PROXY", "localhost,.corp", "no_proxy", ".corp localhost"}, want: "well"},
		{name: "a form that Go does not take, for others", chain: "http://proxy.example.com", works: true, vars: []string{"HTTP_PROXY", "FORWARD", "NO_PROXY", "192.168.*,*corp.example,a b"}, want: "well"},
		{name: "the spellings lead to different ways", chain: "http://proxy.example.com", works: true, vars: []string{"HTTP_PROXY", "FORWARD", "http_proxy", dead}, want: "impaired SL-FWD-004", text: "HTTP_PROXY is set in capital and in small letters, and not alike"},
		{name: "the exceptions do", chain: "http://proxy.example.com", works: true, vars: []string{"HTTP_PROXY", "FORWARD", "http_proxy", "FORWARD", "NO_PROXY", ".corp", "no_proxy", "example.com"}, want: "impaired SL-FWD-004", text: "by Git and curl"},
		{name: "the capital letters lead to a dead one", chain: "http://proxy.example.com", vars: []string{"HTTP_PROXY", dead, "http_proxy", "FORWARD"}, want: "broken SL-FWD-002", text: "http_proxy says otherwise", fix: `export HTTP_PROXY="$http_proxy"`},
		{name: "a star without a dot", chain: "http://goproxy.corp.example", vars: []string{"HTTP_PROXY", "FORWARD", "NO_PROXY", "localhost, *corp.example"}, want: "broken SL-FWD-002", text: `NO_PROXY has "*corp.example", a form that the go command does not take`, fix: "export NO_PROXY='localhost,corp.example'"},
		{name: "spaces between", chain: "http://goproxy.corp.example", vars: []string{"HTTP_PROXY", "FORWARD", "NO_PROXY", "localhost corp.example"}, want: "broken SL-FWD-002", fix: "export NO_PROXY='localhost,corp.example'"},
		{name: "a star behind, and the forward proxy serves all the same", chain: "http://192.0.2.7", works: true, vars: []string{"HTTP_PROXY", "FORWARD", "NO_PROXY", "192.0.*"}, want: "impaired SL-FWD-004", text: "write 192.0.0.0/16"},
		{name: "a CGI program", chain: "http://proxy.example.com", vars: []string{"HTTP_PROXY", "FORWARD", "REQUEST_METHOD", "GET"}, want: "broken SL-FWD-002", text: "REQUEST_METHOD", fix: "unset REQUEST_METHOD"},
		{name: "ALL_PROXY, which Go does not read", chain: "http://proxy.example.com", vars: []string{"ALL_PROXY", "FORWARD"}, want: "broken SL-FWD-002", text: "ALL_PROXY is set, which the go command does not read", fix: `export HTTP_PROXY="$ALL_PROXY"`},
		{name: "HTTP_PROXY for https", chain: "https://proxy.example.com", vars: []string{"HTTP_PROXY", "FORWARD"}, want: "broken SL-FWD-002", text: "HTTP_PROXY is set, which counts for http:// alone", fix: `export HTTPS_PROXY="$HTTP_PROXY"`},
		{name: "ALL_PROXY, past which the source is", chain: "http://proxy.example.com", vars: []string{"ALL_PROXY", "FORWARD", "NO_PROXY", "example.com"}, want: "broken SL-DNS-001"},
		{name: "ALL_PROXY, and all is well", vars: []string{"ALL_PROXY", "FORWARD"}, want: "well"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t)
			at := forward
			if tt.works { // whatever the host is, it is our source
				at = s.source
			}
			if tt.chain != "" {
				s.chain = tt.chain
			}
			vars := slices.Clone(tt.vars)
			for i := range vars {
				vars[i] = strings.ReplaceAll(vars[i], "FORWARD", at.URL)
			}
			get := variables(vars...)
			sub := &Subject{Getenv: get}
			s.way = func(r *http.Request) (*url.URL, error) {
				switch host := sub.asGo().route(r.URL); {
				case host == "" || r.URL.Hostname() == "sums":
					return nil, nil
				case get("REQUEST_METHOD") != "": // as net/http says it
					return nil, errors.New("refusing to use HTTP_PROXY value in CGI environment; see golang.org/s/cgihttpproxy")
				default:
					return url.Parse("http://" + host)
				}
			}
			real := s.subject()
			real.Getenv = get
			r := Run(t.Context(), "", real.Checks(), time.Minute)
			all := r.Text(TextOptions{All: true})
			if said(r) != tt.want || len(r.Findings) > 1 {
				t.Errorf("%s, want %s alone, in\n%s", said(r), tt.want, all)
			}
			if !strings.Contains(all, tt.text) || tt.fix != "" && (len(r.Findings) == 0 || !slices.Equal(r.Findings[0].Commands, []string{tt.fix})) {
				t.Errorf("%q or the fix %q is missing in\n%s", tt.text, tt.fix, all)
			}
		})
	}
}

func TestAnHTTPSAddressOfAPlainForwardProxyIsPutRight(t *testing.T) {
	s := newScene(t).subject()
	s.Getenv = variables("HTTPS_PROXY", "https://forward.example.com:3128")
	u, _ := url.Parse("https://proxy.example.com")
	out := s.misread(s.mean(Fail, finding.ForwardProxyBroken, u.Host, "proxyconnect tcp: tls: first record does not look like a TLS handshake"), u)
	if want := []string{`export HTTPS_PROXY="http://${HTTPS_PROXY#https://}"`}; !slices.Equal(out.Finding.Fix, want) {
		t.Errorf("%q, want %q", out.Finding.Fix, want)
	}
}

func TestAForwardProxyThatIsNotThereIsNamedWithItsVariables(t *testing.T) {
	u, _ := url.Parse("https://proxy.example.com")
	dead := func(s *Subject) Outcome {
		return s.misread(s.mean(Fail, finding.ForwardProxyBroken, "192.0.2.9:3128", "192.0.2.9:3128 cannot be connected to: dial tcp 192.0.2.9:3128: connect: connection refused"), u)
	}
	for _, tt := range []struct {
		place finding.Place
		vars  []string
		fix   []string
		text  string
	}{
		{finding.Terminal, []string{"HTTPS_PROXY", "http://192.0.2.9:3128"}, []string{"unset HTTPS_PROXY"}, "HTTPS_PROXY names it"},
		{finding.Terminal, []string{"https_proxy", "192.0.2.9:3128"}, []string{"unset https_proxy"}, "https_proxy names it"},
		{finding.Terminal, []string{"HTTPS_PROXY", "http://192.0.2.9:3128", "https_proxy", "http://192.0.2.9:3128"}, []string{"unset HTTPS_PROXY https_proxy"}, "HTTPS_PROXY names it"},
		{finding.PowerShell, []string{"HTTPS_PROXY", "http://192.0.2.9:3128"}, []string{"Remove-Item env:HTTPS_PROXY"}, "HTTPS_PROXY names it"},
		// That of a [[source]] table is in no variable.
		{finding.Terminal, []string{"HTTPS_PROXY", "http://192.0.2.10:3128"}, finding.At(finding.ForwardProxyBroken, finding.Terminal).Fix, "connection refused"},
	} {
		s := newScene(t).subject()
		s.Getenv, s.Place = variables(tt.vars...), tt.place
		if out := dead(s); !slices.Equal(out.Finding.Fix, tt.fix) || !strings.HasSuffix(out.Text, tt.text) {
			t.Errorf("%q: %q and %q, want %q and %q", tt.vars, out.Text, out.Finding.Fix, tt.text, tt.fix)
		}
	}
}
