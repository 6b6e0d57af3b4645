package doctor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modsluice/sluice/internal/finding"
	"github.com/modsluice/sluice/internal/modtest"
)

// A signer is an authority, or a server that one signed for.
type signer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// sign makes a certificate by another, or by itself if that is nil; set makes it what it
// is to be.
func sign(t *testing.T, by *signer, name string, set func(*x509.Certificate)) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signKey(t, by, key, name, set)
}

func signKey(t *testing.T, by *signer, key *ecdsa.PrivateKey, name string, set func(*x509.Certificate)) *signer {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{Organization: []string{name}, CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true}
	set(c)
	from := &signer{c, key}
	if by != nil {
		from = by
	}
	der, err := x509.CreateCertificate(rand.Reader, c, from.cert, &key.PublicKey, from.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{cert, key}
}

func asCA(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign }

// forHosts makes a server's certificate.
func forHosts(hosts ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.DNSNames, c.KeyUsage, c.ExtKeyUsage = hosts, x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
}

func both(a, b func(*x509.Certificate)) func(*x509.Certificate) {
	return func(c *x509.Certificate) { a(c); b(c) }
}

func logged(c *x509.Certificate) {
	c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: sctOID, Value: []byte{4, 0}})
}

func naming(c *x509.Certificate) { c.IssuingCertificateURL = []string{"http://ca.example.com/ca.cer"} }

func pool(signers ...*signer) *x509.CertPool {
	p := x509.NewCertPool()
	for _, s := range signers {
		p.AddCert(s.cert)
	}
	return p
}

// chain is what a server shows.
func chain(leaf *signer, more ...*signer) tls.Certificate {
	c := tls.Certificate{Certificate: [][]byte{leaf.cert.Raw}, PrivateKey: leaf.key}
	for _, m := range more {
		c.Certificate = append(c.Certificate, m.cert.Raw)
	}
	return c
}

// over serves h by TLS at an address.
func over(t *testing.T, addr string, c *tls.Config, h http.Handler) (*modtest.Server, error) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	srv := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(tls.NewListener(ln, c)) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return &modtest.Server{Addr: ln.Addr().String(), URL: "https://" + ln.Addr().String()}, nil
}

func (s *scene) by(c *tls.Config) {
	s.t.Helper()
	srv, err := over(s.t, "127.0.0.1:0", c, s.world.Handler())
	if err != nil {
		s.t.Fatal(err)
	}
	s.source = srv
}

// The three ways in which a certificate may be judged: by this machine, by everybody, by
// what it is itself.
func TestWhomACertificateIsTrustedByIsToldApart(t *testing.T) {
	world := sign(t, nil, "World CA", asCA)     // everybody trusts it
	company := sign(t, nil, "Company CA", asCA) // nobody else does
	middle := sign(t, world, "World Middle", asCA)
	companyMiddle := sign(t, company, "Company Middle", asCA)
	leaf := forHosts("source")
	stale := finding.CAStoreStale
	if noRoots(x509.UnknownAuthorityError{}) { // where these tests run
		stale = finding.NoCABundle
	}
	key := sign(t, nil, "", asCA).key
	old := signKey(t, nil, key, "Crossed CA", both(asCA, func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	}))
	renewed := signKey(t, nil, key, "Crossed CA", asCA)
	for _, tt := range []struct {
		name       string
		cert       tls.Certificate
		platform   *x509.CertPool
		public     *x509.CertPool // nil: that of the world
		want, text string
		confidence finding.Confidence
	}{
		{name: "by everybody", cert: chain(sign(t, middle, "s", leaf), middle), platform: pool(world, company), want: "well", text: `signed by "World CA", until`},
		{name: "by this machine alone, as where a company looks into everything", cert: chain(sign(t, company, "s", leaf)), platform: pool(world, company), want: "well", text: "that is no public authority, and one that is trusted here"},
		{name: "by everybody but this machine", cert: chain(sign(t, middle, "s", leaf), middle), platform: pool(company), want: "broken " + string(stale), text: `signed by "World CA"`, confidence: finding.High},
		{name: "by everybody but this machine, whose own is out of date", cert: chain(sign(t, renewed, "s", leaf)), platform: pool(old), public: pool(renewed), want: "broken " + string(stale)},
		{name: "by nobody", cert: chain(sign(t, company, "s", leaf)), platform: pool(world), want: "broken SL-TLS-001", text: `signed by "Company CA", which is not trusted here and is no public authority`},
		{name: "by nobody, and it names a product", cert: chain(sign(t, sign(t, nil, "Zscaler Root CA", asCA), "s", leaf)), platform: pool(world), want: "broken SL-TLS-001", text: "by its name a product that looks into TLS connections"},
		{name: "by nobody but itself", cert: chain(sign(t, nil, "s", both(asCA, leaf))), platform: pool(world), want: "broken SL-TLS-001", text: "which is itself, and not trusted here"},
		{name: "by somebody who is missing", cert: chain(sign(t, middle, "s", both(leaf, logged))), platform: pool(world), want: "broken SL-TLS-008", text: `signed by "World Middle", whose own certificate the server does not send`, confidence: finding.High},
		{name: "by somebody who is missing, it seems", cert: chain(sign(t, middle, "s", both(leaf, naming))), platform: pool(world), want: "broken SL-TLS-008", confidence: finding.Medium},
		{name: "by nobody, with all in between", cert: chain(sign(t, companyMiddle, "s", both(leaf, naming)), companyMiddle), platform: pool(world), want: "broken SL-TLS-001"},
		{name: "made out to another, by itself", cert: chain(sign(t, nil, "router", both(asCA, forHosts("router.example.com")))), platform: pool(world), want: "broken SL-TLS-003", text: "signed by itself"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t)
			s.by(&tls.Config{Certificates: []tls.Certificate{tt.cert}})
			s.roots = tt.platform
			sub := s.subject()
			sub.PublicRoots = func() *x509.CertPool {
				if tt.public != nil {
					return tt.public
				}
				return pool(world)
			}
			r := Run(t.Context(), "", sub.Checks(), time.Minute)
			all := r.Text(TextOptions{All: true})
			if said(r) != tt.want || len(r.Findings) > 1 {
				t.Errorf("%s, want %s alone, in\n%s", said(r), tt.want, all)
			}
			if !strings.Contains(all, tt.text) || tt.want == "well" && tt.platform.Equal(pool(world)) && strings.Contains(all, "no public") {
				t.Errorf("%q is missing in\n%s", tt.text, all)
			}
			if tt.confidence != "" && len(r.Findings) > 0 && r.Findings[0].Confidence != tt.confidence {
				t.Errorf("the confidence is %s, want %s", r.Findings[0].Confidence, tt.confidence)
			}
		})
	}
}

func TestOneKeyInTheCertificatesOfTwoHostsIsThatOfSomethingBetween(t *testing.T) {
	s := newScene(t)
	key := sign(t, nil, "", asCA).key
	s.by(&tls.Config{Certificates: []tls.Certificate{chain(signKey(t, sign(t, nil, "One", asCA), key, "s", forHosts("source")))}})
	sums, err := over(t, "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{chain(signKey(t, sign(t, nil, "Two", asCA), key, "s", forHosts("sums")))}}, s.db)
	if err != nil {
		t.Fatal(err)
	}
	s.sums, s.roots = sums, pool(sign(t, nil, "World CA", asCA))
	r := s.want("broken SL-TLS-001")
	if !slices.ContainsFunc(r.Findings[0].Evidence, func(e string) bool { return strings.HasPrefix(e, "one key is in the certificates") }) || len(r.Findings) != 1 {
		t.Errorf("%s", r.Text(TextOptions{All: true}))
	}
}

func TestAVariableThatLeadsToAnotherListIsNamed(t *testing.T) {
	world := sign(t, nil, "World CA", asCA)
	list := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(list, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: world.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		list []string // of the system
		env  func(string) string
		want []string // the fix; nil: not that
	}{
		{[]string{"nowhere", list}, env("SSL_CERT_FILE", "/srv/own.pem"), []string{"unset SSL_CERT_FILE"}},
		{[]string{list}, env("SSL_CERT_DIR", "/srv/own"), []string{"unset SSL_CERT_DIR"}},
		{[]string{list}, variables("SSL_CERT_FILE", "/srv/own.pem", "SSL_CERT_DIR", "/srv/own"), []string{"unset SSL_CERT_FILE", "unset SSL_CERT_DIR"}},
		{[]string{"nowhere"}, env("SSL_CERT_FILE", "/srv/own.pem"), nil}, // nobody says that it would help
		{[]string{list}, variables(), nil},
	} {
		s := newScene(t)
		s.by(&tls.Config{Certificates: []tls.Certificate{chain(sign(t, world, "s", forHosts("source")))}})
		s.roots = pool(sign(t, nil, "Own CA", asCA))
		sub := s.subject()
		sub.Getenv, sub.caFiles, sub.PublicRoots = tt.env, tt.list, func() *x509.CertPool { return pool(world) }
		r := Run(t.Context(), "", sub.Checks(), time.Minute)
		if len(r.Findings) != 1 || r.Findings[0].Cause != finding.CauseTLSUnknownCA || slices.Equal(r.Findings[0].Commands, tt.want) != (tt.want != nil) {
			t.Errorf("%v: %s", tt.want, r.Text(TextOptions{All: true}))
		}
	}
}

func TestAVariableThatKeepsACompanysAuthorityAwayIsNamed(t *testing.T) {
	company := sign(t, nil, "Company CA", asCA)
	list := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(list, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: company.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newScene(t)
	s.by(&tls.Config{Certificates: []tls.Certificate{chain(sign(t, company, "s", forHosts("source")))}})
	s.roots = pool(sign(t, nil, "World CA", asCA))
	sub := s.subject()
	sub.Getenv, sub.caFiles, sub.PublicRoots = env("SSL_CERT_FILE", "/srv/own.pem"), []string{list}, func() *x509.CertPool { return s.roots }
	r := Run(t.Context(), "", sub.Checks(), time.Minute)
	if len(r.Findings) != 1 || r.Findings[0].Cause != finding.CauseTLSUnknownCA || !slices.Equal(r.Findings[0].Commands, []string{"unset SSL_CERT_FILE"}) {
		t.Errorf("%s", r.Text(TextOptions{All: true}))
	}
}

func TestTheAuthorityIsAddedToTheListThatGoReads(t *testing.T) {
	s := newScene(t).subject()
	out := s.mean(Fail, finding.SourceTLSUnknownCA, "proxy.example.com", "")
	s.install(&out, "/etc/own.pem")
	if fix := out.Finding.Fix; len(fix) != 2 || fix[1] != "cat FILE | sudo tee -a '/etc/own.pem'" {
		t.Errorf("with SSL_CERT_FILE: %q", fix)
	}
	s.Place = finding.GitHub
	out = s.mean(Fail, finding.SourceTLSUnknownCA, "proxy.example.com", "")
	want := slices.Clone(out.Finding.Fix)
	if s.install(&out, "/etc/own.pem"); !slices.Equal(out.Finding.Fix, want) {
		t.Errorf("in a place with words of its own: %q", out.Finding.Fix)
	}
}

// A filter on the way cuts handshakes by what it sees of them.
func TestWhyAHandshakeIsCutIsFoundOutByOthers(t *testing.T) {
	world := sign(t, nil, "World CA", asCA)
	own, other := chain(sign(t, world, "s", forHosts("source"))), chain(sign(t, world, "o", forHosts("other.example.com")))
	large := func(h *tls.ClientHelloInfo) bool { return slices.Contains(h.SupportedCurves, tls.X25519MLKEM768) }
	for _, tt := range []struct {
		name       string
		cert       tls.Certificate
		cut        func(n int32, h *tls.ClientHelloInfo) bool
		alert      func(h *tls.ClientHelloInfo) bool // refuses as the protocol has it
		want, text string
		confidence finding.Confidence
	}{
		{name: "nothing is cut", cert: own, want: "well"},
		{name: "names that the server does not know are refused, and ours it knows", cert: own, alert: func(h *tls.ClientHelloInfo) bool { return h.ServerName != "source" }, want: "well"},
		{name: "the name is", cert: own, cut: func(_ int32, h *tls.ClientHelloInfo) bool { return h.ServerName == "source" }, want: "broken SL-TLS-009", text: "with the certificate of this very name", confidence: finding.High},
		{name: "the name is, and behind it may be anybody", cert: other, cut: func(_ int32, h *tls.ClientHelloInfo) bool { return h.ServerName == "source" }, want: "broken SL-TLS-009", confidence: finding.Medium},
		{name: "the name is, and others are refused", cert: own, cut: func(_ int32, h *tls.ClientHelloInfo) bool { return h.ServerName == "source" }, alert: func(h *tls.ClientHelloInfo) bool { return true }, want: "broken SL-TLS-009", confidence: finding.Medium},
		{name: "everything is", cert: own, cut: func(int32, *tls.ClientHelloInfo) bool { return true }, want: "broken SL-TLS-004"},
		{name: "the size is", cert: own, cut: func(_ int32, h *tls.ClientHelloInfo) bool { return large(h) }, want: "broken SL-TLS-004", text: "fits in one packet passes"},
		{name: "the first one is", cert: own, cut: func(n int32, _ *tls.ClientHelloInfo) bool { return n == 1 }, want: "impaired SL-TLS-004", text: "only when it was made again"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t)
			var n atomic.Int32
			s.by(&tls.Config{Certificates: []tls.Certificate{tt.cert}, GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
				switch i := n.Add(1); {
				case tt.cut != nil && tt.cut(i, h):
					h.Conn.Close()
					return nil, errors.New("cut")
				case tt.alert != nil && tt.alert(h):
					return nil, errors.New("refused")
				}
				return nil, nil
			}})
			s.roots = pool(world)
			r := s.want(tt.want)
			all := r.Text(TextOptions{All: true})
			if !strings.Contains(all, tt.text) || len(r.Findings) > 1 {
				t.Errorf("%q is missing in\n%s", tt.text, all)
			}
			if tt.confidence != "" && len(r.Findings) > 0 && r.Findings[0].Confidence != tt.confidence {
				t.Errorf("the confidence is %s, want %s", r.Findings[0].Confidence, tt.confidence)
			}
			if tt.name == "the size is" && (len(r.Findings[0].Commands) != 1 || !strings.Contains(r.Findings[0].Commands[0], "tlsmlkem=0")) {
				t.Errorf("the fix is %q", r.Findings[0].Commands)
			}
		})
	}
}

// fixed is a resolver that gives the same for each name.
type fixed []netip.Addr

func (f fixed) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	if len(f) == 0 {
		return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
	}
	return f, nil
}

func addrs(texts ...string) (f fixed) {
	for _, x := range texts {
		f = append(f, netip.MustParseAddr(x))
	}
	return f
}

func TestAFamilyThatAcceptsAndThenSwallowsIsFound(t *testing.T) {
	world := sign(t, nil, "World CA", asCA)
	good := chain(sign(t, world, "s", forHosts("source")))
	swallow := &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		h.Conn.Close()
		return nil, errors.New("cut")
	}}
	for _, tt := range []struct {
		name string
		six  *tls.Config
		from fixed
		want string
	}{
		{"both are well", &tls.Config{Certificates: []tls.Certificate{good}}, addrs("::1", "127.0.0.1"), "well"},
		{"IPv6 swallows", swallow, addrs("::1", "127.0.0.1"), "broken SL-NET-006"},
		{"only IPv6 is announced, and well", &tls.Config{Certificates: []tls.Certificate{good}}, addrs("::1"), "well"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t)
			s.by(&tls.Config{Certificates: []tls.Certificate{good}})
			_, port, _ := net.SplitHostPort(s.source.Addr)
			_, err := over(t, net.JoinHostPort("::1", port), tt.six, s.world.Handler())
			modtest.Need(t, "IPv6", err == nil)
			s.roots, s.resolver = pool(world), tt.from
			s.want(tt.want)
		})
	}
}

// A second opinion is asked where the user names one, and the certificate decides.
func TestASecondOpinionIsBelievedOnlyWhereItWorks(t *testing.T) {
	world := sign(t, nil, "World CA", asCA)
	good, strange := chain(sign(t, world, "s", forHosts("source"))), chain(sign(t, sign(t, nil, "Portal", asCA), "s", forHosts("source")))
	for _, tt := range []struct {
		name        string
		here, there fixed
		want, text  string
	}{
		{"both agree", addrs("127.0.0.1"), addrs("127.0.0.1"), "well", "source is the same there"},
		{"they differ, and here it works", addrs("127.0.0.1"), addrs("127.0.0.3"), "well", "and what was found here works"},
		{"the other one may not be asked", addrs("127.0.0.1"), nil, "well", "n/a"},
		{"here somebody else answers", addrs("127.0.0.2"), addrs("127.0.0.1"), "broken SL-DNS-003", "the name leads to 127.0.0.2 here, where it does not work, and to 127.0.0.1 by second.example.com, where it does"},
		{"somebody else answers at both", addrs("127.0.0.2"), addrs("127.0.0.3"), "broken SL-TLS-001", "where it does not work either"},
		{"here it is denied", nil, addrs("127.0.0.1"), "broken SL-DNS-009", "it works at 127.0.0.1"},
		{"it is denied by both", nil, nil, "broken SL-DNS-001", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScene(t)
			s.by(&tls.Config{Certificates: []tls.Certificate{good}})
			_, port, _ := net.SplitHostPort(s.source.Addr)
			_, err := over(t, "127.0.0.2:"+port, &tls.Config{Certificates: []tls.Certificate{strange}}, s.world.Handler())
			modtest.Need(t, "the address 127.0.0.2", err == nil)
			s.roots, s.resolver = pool(world), tt.here
			sub := s.subject()
			sub.Names.Opinion, sub.Names.OpinionName = tt.there, "second.example.com"
			sub.SumDB = nil // at the same addresses, and of no matter here
			r := Run(t.Context(), "", sub.Checks(), time.Minute)
			all := r.Text(TextOptions{All: true})
			if said(r) != tt.want || !strings.Contains(all, tt.text) || len(r.Findings) > 1 {
				t.Errorf("%s, want %s with %q, in\n%s", said(r), tt.want, tt.text, all)
			}
		})
	}
}

// The bundle is there to be compared with. Were it the fallback of the process, a machine
// without any list would seem to have one.
func TestTheListOfPublicAuthoritiesIsNobodysFallback(t *testing.T) {
	if PublicRoots().Equal(x509.NewCertPool()) {
		t.Error("the list is empty")
	}
	if system, err := x509.SystemCertPool(); err == nil && system.Equal(PublicRoots()) {
		t.Error("the system's list is ours")
	}
}
