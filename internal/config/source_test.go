package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// withFiles is the input of a file beside others, each "MODE CONTENT" by its path.
func withFiles(file string, files map[string]string) Input {
	in := input(file)
	in.ReadFile = func(path string) ([]byte, fs.FileMode, error) {
		text, ok := files[path]
		if !ok {
			return nil, 0, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		}
		var mode fs.FileMode
		m, content, _ := strings.Cut(text, " ")
		fmt.Sscanf(m, "%o", &mode)
		return []byte(content), mode, nil
	}
	return in
}

// keyPair is a certificate and its key in PEM.
func keyPair(t *testing.T) (cert, key string) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{}, priv.Public(), priv)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

func TestASourcesTableSetsWhatIsSpecialToIt(t *testing.T) {
	cert, key := keyPair(t)
	in := withFiles(`proxy = "https://A.example:443/mod/|http://b.example,file:///srv/mod,direct"
[sources]
strategy = "lowest-latency"
[[source]]
url = "a.example/mod"
name = "corp"
timeout = "5s"
connect = "1s"
connections = 16
rate = 2.5
user = "ann"
password_file = "/pw"
ca_file = "/ca"
cert_file = "/cert"
key_file = "/key"
proxy = "socks5://u:hush@127.0.0.1:1080"
no_proxy = "corp.example,10.0.0.0/8"
resolver = "192.0.2.1"
family = "prefer4"
weight = 0
tier = 2
[[source]]
url = "http://b.example/"
token_env = "SLUICE_B_TOKEN"
proxy = "none"
resolver = "https://dns.example.com"
[[source]]
url = "file:///srv/mod"
tier = 9
`, map[string]string{"/pw": "600 pa ss\n", "/ca": "644 " + cert, "/cert": "644 " + cert, "/key": "640 " + key})
	in.Environ = []string{"SLUICE_B_TOKEN=t0k"}
	l, err := Load(in)
	if err != nil {
		t.Fatal(err)
	}
	want := []Source{{
		URL: "https://a.example/mod", Name: "corp", Timeout: 5 * time.Second, Connect: time.Second, Connections: 16, Rate: 2.5,
		User: "ann", Password: "pa ss", PasswordFile: "/pw", CA: cert, CAFile: "/ca", Cert: cert, CertFile: "/cert", Key: key, KeyFile: "/key",
		Proxy: "socks5://u:hush@127.0.0.1:1080", NoProxy: "corp.example,10.0.0.0/8", Resolver: "udp://192.0.2.1:53", Family: "prefer4", Weight: 0, Tier: 2,
	}, {
		URL: "http://b.example", Token: "t0k", TokenEnv: "SLUICE_B_TOKEN", Proxy: NoForward, Resolver: "https://dns.example.com:443/dns-query", Family: "auto", Weight: 1,
	}, {
		URL: "file:///srv/mod", Family: "auto", Weight: 1, Tier: 9,
	}}
	if !reflect.DeepEqual(l.Source, want) {
		t.Errorf("got\n%+v\nwant\n%+v", l.Source, want)
	}
	if !slices.ContainsFunc(l.Warnings, func(w Error) bool {
		return strings.Contains(w.Text, "the secret for b.example goes there unencrypted")
	}) {
		t.Errorf("the warnings are %v", l.Warnings)
	}
	if l.Sources.Strategy != LowestLatency {
		t.Errorf("strategy = %s", l.Sources.Strategy)
	}
	for i, entry := range l.Proxy[:3] {
		if got := l.SourceOf(entry.URL); !reflect.DeepEqual(got, want[i]) {
			t.Errorf("the table of %s is %+v", entry.URL, got)
		}
	}
	if got := l.SourceOf("https://other.example"); got.Weight != 1 || got.Family != "auto" || got.URL != "https://other.example" {
		t.Errorf("without a table: %+v", got)
	}
	if len(l.Warnings) != 2 || l.Warnings[0].Error() != "sluice.toml:15: source.key_file: other users may read the secret in /key (mode 0640); make it 0600: chmod 600 /key" {
		t.Errorf("warnings: %v", l.Warnings)
	}

	var rows []string
	for _, r := range l.Show() {
		if r.Key == "source" {
			rows = append(rows, r.Value+" | "+r.From.String())
		}
	}
	wantRows := []string{
		"https://a.example/mod; name corp; timeout 5s; connect 1s; connections 16; rate 2.5; user ann; password set, from /pw; ca set, from /ca; cert set, from /cert; " +
			"key set, from /key; proxy socks5://xxxxx@127.0.0.1:1080; no_proxy corp.example,10.0.0.0/8; resolver udp://192.0.2.1:53; family prefer4; weight 0; tier 2 | file (sluice.toml:4)",
		"http://b.example; token set, from SLUICE_B_TOKEN; proxy none; resolver https://dns.example.com:443/dns-query | file (sluice.toml:4)",
		"file:///srv/mod; tier 9 | file (sluice.toml:4)",
	}
	if !slices.Equal(rows, wantRows) {
		t.Errorf("config show:\n%s\nwant:\n%s", strings.Join(rows, "\n"), strings.Join(wantRows, "\n"))
	}

	in.Environ = []string{"SLUICE_B_TOKEN=hush"}
	other, err := Load(in)
	if err != nil {
		t.Fatal(err)
	}
	changes := Diff(l.Config, other.Config)
	if len(changes) != 1 || changes[0].String() != "source: other credentials" {
		t.Errorf("a token that has changed is told as %v", changes)
	}
	if all := fmt.Sprint(l.Show(), changes, l.Warnings); strings.Contains(all, "pa ss") || strings.Contains(all, "t0k") || strings.Contains(all, "hush") || strings.Contains(all, "BEGIN") {
		t.Errorf("a secret shows in %s", all)
	}
}

// The flag that leaves a source out for a day does not make its table a mistake.
func TestATableMayBeAboutASourceThatAFlagLeavesOut(t *testing.T) {
	in := input("proxy = 'https://a.example,https://b.example'\n[[source]]\nurl = 'https://b.example'\ntier = 1")
	in.Flags = map[string]string{"proxy": "https://c.example"}
	if _, err := Load(in); err != nil {
		t.Error(err)
	}
}

func TestEachMistakeInASourcesTableHasItsSentence(t *testing.T) {
	cert, _ := keyPair(t)
	_, otherKey := keyPair(t)
	files := map[string]string{"/pw": "600 hush", "/two": "600 hush\nhush", "/empty": "600 \n", "/bearer": "600 Bearer hush", "/cert": "644 " + cert, "/key": "600 " + otherKey}
	const a = "proxy = 'https://a.example|https://b.example|https://u:hush@c.example|http://[::1]:8080|file:///srv,direct'\n"
	table := func(s string) string { return a + "[[source]]\nurl = 'https://a.example'\n" + s }
	for _, tt := range []struct{ file, want string }{
		{a + "[source]\nurl='x'", "sluice.toml:2: source: there can be several, so it needs two brackets; write [[source]]"},
		{a + "[[sources]]\nurl='x'", "sluice.toml:2: sources: there is one only; write [sources], or [[source]] for what is special to one of them"},
		{a + "source = 'x'", "sluice.toml:2: source: it must be a table, not a string; write [[source]] and its url below"},
		{a + "source = [1]", "sluice.toml:2: source: each must be a table, not a number"},
		{a + "source = [{url='https://a.example'},\n{name='x'}]", "sluice.toml:3: source: a source needs its URL"},
		{a + "[[source]]\ntier = 1", `sluice.toml:2: source: a source needs its URL; write url = "https://a.example" as it stands in proxy`},
		{a + "[[source]]\nurl = 'https://a.exmaple'", `sluice.toml:3: source.url: no source in proxy is "https://a.exmaple"; write one of those there (did you mean "https://a.example"?)`},
		{a + "[[source]]\nurl = 'https://quite.different.test'", "write one of those there: https://a.example, https://b.example, https://c.example, http://[::1]:8080, file:///srv"},
		{a + "[[source]]\nurl = 'https://u:hush@a.example'", "sluice.toml:3: source.url: credentials do not belong here; remove them, and write user and password_file below"},
		{a + "[[source]]\nurl = 'direct'", `"direct" is no source with settings of its own`},
		{a + "[[source]]\nurl = 'https://a.example|https://b.example'", "is not the URL of one source"},
		{a + "[[source]]\nurl = ''", "sluice.toml:3: source.url: it is empty; write https://a.example"},
		{table("[[source]]\nurl='https://A.example/'"), "sluice.toml:5: source.url: there is a table for this source at sluice.toml:3 already"},
		{table("name='x'\n[[source]]\nurl='https://b.example'\nname='x'"), `sluice.toml:7: source.name: the source at sluice.toml:4 is called "x" already`},
		{table("name='a b'"), "only letters, digits, and - _ ."},
		{table("name='direct'"), "is a word of proxy lists"},
		{table("name='offline'"), "is a word of sluice switch"},
		{table("timout='5s'"), `sluice.toml:4: source.timout: there is no such key; remove it (did you mean "source.timeout"?)`},
		{table("password='hush'"), `did you mean "source.password_file"?`},
		{table("listen=':1'"), "listen does not belong to [[source]]"},
		{table("timeout=5"), `a duration needs its unit, in quotes; write timeout = "5s"`},
		{table("timeout='0s'"), "it must be more than 0; write 30s"},
		{table("timeout='5s'\ntimeout='6s'"), "it is set at sluice.toml:4 already"},
		{table("connections='5'"), "it must be a number without quotes; write connections = 0"},
		{table("connections=-1"), "it must not be negative; write 0"},
		{table("rate=-0.5"), "it must be a number from 0 to 1000000"},
		{table("rate=nan"), "it must be a number from 0 to 1000000"},
		{table("rate='5'"), "it must be a number without quotes; write rate = 0"},
		{table("weight=1.5"), "it must be a number, not a fraction"},
		{table("user='a:b'"), "has no colon"},
		{table("password_file='/pw'"), `sluice.toml:4: source.password_file: a password needs its user; write user = "ann"`},
		{table("user='ann'\npassword_file='/pw'\npassword_env='X'"), "sluice.toml:6: source.password_env: it is set beside password_file; remove one of the two"},
		{table("user='ann'\ntoken_file='/pw'"), "source.token_file: it is set beside user; a request carries one or the other"},
		{table("user='ann'\npassword_file='/none'"), `sluice.toml:5: source.password_file: there is no file "/none"; make it, or correct the path`},
		{table("user='ann'\npassword_file='/empty'"), `the file "/empty" is empty`},
		{table("user='ann'\npassword_file='/two'"), `what "/two" holds is more than one line`},
		{table("token_file='/bearer'"), `it must be without "Bearer"`},
		{table("token_env='CORP_TOKEN'"), "sluice.toml:4: source.token_env: the environment variable CORP_TOKEN is not set"},
		{table("token_env='$CORP_TOKEN'"), "it is not the name of an environment variable"},
		{table("token_file='~/t'"), "~ is understood by shells only"},
		{a + "[[source]]\nurl='https://c.example'\nuser='bob'", "the URL in proxy has credentials already"},
		{table("ca_file='/pw'"), `the file "/pw" has no certificate in PEM form`},
		{table("cert_file='/cert'"), `a client certificate needs both its files; write key_file = "/etc/sluice/client.key"`},
		{table("key_file='/key'"), `a client certificate needs both its files; write cert_file = `},
		{table("cert_file='/cert'\nkey_file='/key'"), "the certificate and its key cannot be used: tls: private key does not match"},
		{table("proxy='https://p.example:1'"), "is neither http nor socks5; write http://proxy.corp.example:3128"},
		{table("proxy='p.example:3128'"), `"p.example:3128" is not a URL; write http://proxy.corp.example:3128`},
		{table("proxy='http://p.example/x'"), "more or less than a host with its port"},
		{table("no_proxy='http://x'"), "is no host, domain or network"},
		{table("resolver='dns.example.com'"), "is neither https, tls, udp nor an IP address"},
		{table("resolver='http://dns.example.com'"), "http is not encrypted"},
		{table("resolver='tls://192.0.2.1:99999'"), `the port "99999" is not a number`},
		{table("resolver='udp://192.0.2.1/x'"), "more or less than a resolver's address"},
		{table("family='ipv4'"), `"ipv4" is none of auto, 4, 6, prefer4, prefer6`},
		{a + "[[source]]\nurl='http://[::1]:8080'\nfamily='4'", "the URL has the address ::1 of the other family"},
		{a + "[[source]]\nurl='file:///srv'\ntimeout='5s'", "the source is a directory and not asked over a network; remove it"},
		{"[sources]\nstrategy = 'weigthed'", `(did you mean "weighted"?)`},
	} {
		l, err := Load(withFiles(tt.file, files))
		errs, _ := errors.AsType[Errors](err)
		if len(errs) != 1 || !strings.Contains(fmt.Sprint(err), tt.want) {
			t.Errorf("%s\ngives: %v\nwant one with: %s", tt.file, err, tt.want)
		}
		if strings.Contains(fmt.Sprint(err, l.Show()), "hush") {
			t.Errorf("a secret shows in %v", err)
		}
	}
}

func TestASourcesTableIsNotSetByFlagOrVariable(t *testing.T) {
	in := input("")
	in.Environ = []string{"SLUICE_SOURCE=https://a.example"}
	in.Flags = map[string]string{"source": "https://a.example"}
	_, err := Load(in)
	if errs, _ := errors.AsType[Errors](err); len(errs) != 2 || !strings.Contains(err.Error(), "SLUICE_SOURCE: source: settings of one source stand in the configuration file only") {
		t.Errorf("%v", err)
	}
}

func TestAResolverIsWrittenInManyWaysAndKeptInOne(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1": "udp://192.0.2.1:53", "192.0.2.1:5353": "udp://192.0.2.1:5353", "2001:db8::1": "udp://[2001:db8::1]:53", "[2001:db8::1]:53": "udp://[2001:db8::1]:53",
		"udp://dns.corp.example": "udp://dns.corp.example:53", "tls://192.0.2.1": "tls://192.0.2.1:853", "tls://DNS.example.com:8853/": "tls://dns.example.com:8853",
		"https://dns.example.com": "https://dns.example.com:443/dns-query", "https://dns.example.com:8443/q/x": "https://dns.example.com:8443/q/x",
	} {
		u, err := ResolverURL(in)
		if err != nil || u.String() != want {
			t.Errorf("%s is %v, %v; want %s", in, u, err, want)
			continue
		}
		if again, err := ResolverURL(want); err != nil || again.String() != want {
			t.Errorf("%s is not kept: %v, %v", want, again, err)
		}
	}
}
