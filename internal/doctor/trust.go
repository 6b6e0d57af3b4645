package doctor

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/modsluice/sluice/internal/finding"
)

// PublicRoots are the authorities that browsers trust, as they were when this program
// was built. They are there to be compared with, and no connection trusts them.
var PublicRoots = sync.OnceValue(func() *x509.CertPool {
	pool := x509.NewCertPool()
	for r := range bundle.Roots() {
		c, err := x509.ParseCertificate(r.Certificate)
		switch {
		case err != nil:
		case r.Constraint == nil:
			pool.AddCert(c)
		default:
			pool.AddCertWithConstraint(c, r.Constraint)
		}
	}
	return pool
})

// public reports whether a chain is one that everybody trusts.
func (s *Subject) public(w way, chain []*x509.Certificate, host string) bool {
	return s.PublicRoots != nil && w.net.Verify(chain, host, s.PublicRoots()) == nil
}

// reached are the addresses that accepted a connection, one of each family at most, in
// the order in which the go command prefers them.
type reached []netip.AddrPort

// signed is what a handshake showed of a certificate that is not trusted.
type signed struct {
	host, issuer string
	key          [sha256.Size]byte // of the certificate's public key
}

// A shake is how one handshake ended.
type shake struct {
	addr  netip.AddrPort
	chain []*x509.Certificate
	err   error
	took  time.Duration
	out   Outcome
}

// handshake makes one with each address family, as what a family has accepted it may
// still swallow.
func (s *Subject) handshake(ctx context.Context, w way, host, source string, addrs reached) Outcome {
	if len(addrs) == 0 {
		return Outcome{State: Unknown, Text: "there is no address to connect to"}
	}
	shakes := make([]shake, len(addrs))
	var wg sync.WaitGroup
	for i, addr := range addrs {
		wg.Go(func() {
			x := &shakes[i]
			x.addr = addr
			conn, err := w.net.Connect(ctx, source, addr)
			if err != nil {
				x.err, x.out = err, s.failed(err, w.url.Host)
				return
			}
			begin := time.Now()
			x.chain, x.err = w.net.Handshake(ctx, source, conn, host)
			x.took = time.Since(begin)
		})
	}
	wg.Wait()
	good := slices.IndexFunc(shakes, func(x shake) bool { return x.err == nil })
	if good < 0 {
		return s.untrusted(ctx, w, host, source, shakes[0])
	}
	for i, x := range shakes {
		if !x.addr.Addr().Is6() || x.err == nil || x.chain != nil {
			continue
		}
		// The go command stays with the address that accepted first.
		state := Warn
		if i == 0 {
			state = Fail
		}
		return s.mean(state, finding.IPv6Broken, w.url.Host, fmt.Sprintf("by IPv6 the connection stands and the handshake does not come to an end (%s), by IPv4 it does", reason(x.err)))
	}
	x := shakes[good]
	issuer := issuerOf(x.chain)
	text := fmt.Sprintf("signed by %q, until %s, in %s", issuer, x.chain[0].NotAfter.UTC().Format(time.DateOnly), short(x.took))
	if s.PublicRoots != nil && !s.public(w, x.chain, host) {
		text += "; that is no public authority, and one that is trusted here"
	}
	return Outcome{State: OK, Text: text}
}

// issuerOf is who signed the last certificate of a chain.
func issuerOf(chain []*x509.Certificate) string {
	if len(chain) == 0 {
		return ""
	}
	last := chain[len(chain)-1]
	return finding.OneLine(cmp.Or(strings.Join(last.Issuer.Organization, " "), last.Issuer.CommonName), 80)
}

// untrusted is what a handshake that failed means.
func (s *Subject) untrusted(ctx context.Context, w way, host, source string, x shake) Outcome {
	out := x.out
	if out.Finding == nil {
		out = s.failed(x.err, w.url.Host)
	}
	switch code := out.Finding.Code; {
	case x.chain == nil:
		out = s.cut(ctx, w, host, source, x, out)
	case code == finding.SourceTLSUnknownCA, code == finding.NoCABundle, code == finding.SourceTLSExpired && s.public(w, x.chain, host):
		out = s.stranger(w, host, x, out)
	case code == finding.SourceTLSHostname && selfSigned(x.chain[0]):
		out.Text += "; it is signed by itself, as those of routers and login pages are"
	case code == finding.SourceTLSExpired:
		c := x.chain[0]
		for _, y := range x.chain {
			if now := time.Now(); now.After(y.NotAfter) || now.Before(y.NotBefore) {
				c = y
				break
			}
		}
		out.Text = fmt.Sprintf("the certificate is valid from %s to %s, and the clock here says %s", stamp(c.NotBefore), stamp(c.NotAfter), stamp(time.Now()))
		out.Finding.Confidence = finding.Medium // until the clock is known
	}
	if addr := x.addr.Addr(); isLie(host, addr) {
		return s.mean(Fail, finding.DNSHijackOrPortal, w.url.Host, fmt.Sprintf("the name leads to %s, which cannot be its own: %s", addr, out.Text))
	}
	return s.fakeIP(out, w.url, x.addr.Addr())
}

// stranger is the outcome of a certificate whose authority is not trusted here.
func (s *Subject) stranger(w way, host string, x shake, out Outcome) Outcome {
	issuer := issuerOf(x.chain)
	leaf := x.chain[0]
	switch {
	case s.public(w, x.chain, host):
		// The list here is none, old, or another one: nobody has replaced anything.
		code, text := finding.CAStoreStale, fmt.Sprintf("the certificate is signed by %q, which everybody else trusts and this machine does not: its list of authorities is old or cut", issuer)
		if noRoots(x.err) {
			code, text = finding.NoCABundle, fmt.Sprintf("the certificate is signed by %q, a public authority, and there is no list of authorities here", issuer)
		}
		out = s.mean(Fail, code, w.url.Host, text)
		if runtime.GOOS == "darwin" || runtime.GOOS == "windows" { // whose own rules may be stricter
			out.Finding.Confidence = finding.Medium
		}
		s.otherList(&out, w, x.chain, host)
		return out
	case incomplete(x.chain):
		out = s.mean(Fail, finding.MissingIntermediate, w.url.Host, fmt.Sprintf("the certificate is signed by %q, whose own certificate the server does not send", finding.OneLine(leaf.Issuer.CommonName, 80)))
		if !hasSCT(leaf) {
			out.Finding.Confidence = finding.Medium
		}
		return out
	case selfSigned(leaf):
		out.Text = fmt.Sprintf("the certificate is signed by %q, which is itself, and not trusted here", issuer)
	default:
		out.Text = fmt.Sprintf("the certificate is signed by %q, which is not trusted here", issuer)
		if s.PublicRoots != nil {
			out.Text += " and is no public authority"
		}
		out.Text += inspector(issuer)
	}
	if s.otherList(&out, w, x.chain, host) {
		return out
	}
	if out.Finding.Code != finding.SourceTLSUnknownCA {
		return out // where nobody is trusted, that nobody trusts it says nothing
	}
	s.install(&out, s.Getenv("SSL_CERT_FILE"))
	out.Fact = signed{host, issuer, sha256.Sum256(leaf.RawSubjectPublicKeyInfo)}
	return out
}

// otherList makes the outcome what it is where a variable leads to another list of
// authorities than that of the system, which has the one that lacks; false if none does.
func (s *Subject) otherList(out *Outcome, w way, chain []*x509.Certificate, host string) bool {
	roots := s.usual()
	if roots == nil || w.net.Verify(chain, host, roots) != nil {
		return false
	}
	var names, fix []string
	for _, name := range []string{"SSL_CERT_FILE", "SSL_CERT_DIR"} {
		value := s.Getenv(name)
		if value == "" {
			continue
		}
		out.Text += fmt.Sprintf("; %s=%s leads to another one than that of the system, which has it", name, value)
		names = append(names, name)
		if s.Place == finding.PowerShell {
			fix = append(fix, "Remove-Item env:"+name)
		} else {
			fix = append(fix, "unset "+name)
		}
	}
	if len(names) == 0 {
		return false
	}
	out.Subject, out.Finding.Mend, out.Finding.Fix = strings.Join(names, ", "), "take the variable away, or have it name the list of the system", fix
	return true
}

// anchors are the directories for authorities of one's own, and what makes the list
// anew.
var anchors = []struct{ dir, update string }{
	{"/usr/local/share/ca-certificates", "update-ca-certificates"},
	{"/etc/pki/ca-trust/source/anchors", "update-ca-trust"},
	{"/etc/ca-certificates/trust-source/anchors", "update-ca-trust"},
	{"/etc/pki/trust/anchors", "update-ca-certificates"},
}

// install writes how an authority is added on this very system.
func (s *Subject) install(out *Outcome, file string) {
	if s.Place != finding.Terminal {
		return
	}
	look := slices.Clone(out.Finding.Fix[:1])
	switch {
	case file != "" && !strings.ContainsAny(file, "'\n"):
		// Go reads this file alone, so what is added to the system's list has no effect.
		out.Finding.Mend = "see who issued it; if that is your company, add its root certificate to the file of SSL_CERT_FILE"
		out.Finding.Fix = append(look, "cat FILE | sudo tee -a '"+file+"'")
	case runtime.GOOS == "darwin":
		out.Finding.Fix = append(look, "sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain FILE")
	default:
		for _, a := range anchors {
			if info, err := os.Stat(a.dir); err == nil && info.IsDir() {
				out.Finding.Fix = append(look, fmt.Sprintf("sudo cp FILE %s/company.crt && sudo %s", a.dir, a.update))
				return
			}
		}
	}
}

// usual are the authorities of the system's own list, past the variables that name
// another; nil if there is none at the usual places.
func (s *Subject) usual() *x509.CertPool {
	files := s.caFiles
	if files == nil {
		files = []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem"}
	}
	for _, name := range files {
		data, err := os.ReadFile(filepath.FromSlash(name))
		pool := x509.NewCertPool()
		if err == nil && pool.AppendCertsFromPEM(data) {
			return pool
		}
	}
	return nil
}

func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// sctOID marks the promise of a public log to list the certificate, which only public
// authorities get (RFC 6962).
var sctOID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}

func hasSCT(c *x509.Certificate) bool {
	for _, e := range c.Extensions {
		if e.Id.Equal(sctOID) {
			return true
		}
	}
	return false
}

// incomplete reports whether a chain ends before the authority that a public log, or
// the certificate itself by naming where its issuer's is to be had, says there is: roots
// of companies sign without either.
func incomplete(chain []*x509.Certificate) bool {
	leaf := chain[0]
	if selfSigned(leaf) || !hasSCT(leaf) && len(leaf.IssuingCertificateURL) == 0 {
		return false
	}
	return !slices.ContainsFunc(chain[1:], func(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, leaf.RawIssuer) })
}

// inspectors are words in the names of authorities that belong to products which look
// into TLS connections. They name what was found by other evidence, and prove nothing.
var inspectors = []string{"netskope", "goskope", "zscaler", "umbrella", "fortinet", "fortigate", "palo alto", "sophos", "check point", "forcepoint", "websense", "blue coat", "bluecoat",
	"symantec web", "mcafee", "skyhigh", "kaspersky", "eset ", "avast", "avg ", "bitdefender", "charles proxy", "fiddler", "mitmproxy", "portswigger", "sonicwall", "watchguard", "barracuda", "cloudflare gateway"}

func inspector(issuer string) string {
	low := strings.ToLower(issuer) + " "
	if slices.ContainsFunc(inspectors, func(w string) bool { return strings.Contains(low, w) }) {
		return ", by its name a product that looks into TLS connections"
	}
	return ""
}

// helloTime is the longest that each handshake of a comparison may take, all of which
// are made at once: a good one takes a tenth.
const helloTime = 1500 * time.Millisecond

// otherName is sent to the address of a source, and to nobody else: RFC 2606 keeps it for
// examples.
const otherName = "www.example.com"

// cut finds out why a handshake ended without an answer, by others with the same
// address: the same again, a smaller one, one without a name, one with another name.
func (s *Subject) cut(ctx context.Context, w way, host, source string, x shake, out Outcome) Outcome {
	if out.Finding.Code != finding.SourceTLSHandshake || !isCut(x.err) {
		return out
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return out // there is no name to be seen on the way
	}
	ctx, cancel := context.WithTimeout(ctx, helloTime)
	defer cancel()
	type end struct {
		chain []*x509.Certificate
		err   error
	}
	hellos := []struct{ name, small string }{{host, ""}, {host, "small"}, {"", ""}, {otherName, ""}}
	ends := make([]end, len(hellos))
	var wg sync.WaitGroup
	for i, h := range hellos {
		wg.Go(func() {
			conn, err := w.net.Connect(ctx, source, x.addr)
			if err != nil {
				ends[i].err = err
				return
			}
			ends[i].chain, ends[i].err = w.net.Greet(ctx, conn, h.name, h.small != "")
		})
	}
	wg.Wait()
	again, small, bare, other := ends[0], ends[1], ends[2], ends[3]
	switch {
	case again.err == nil:
		warn := s.mean(Warn, finding.SourceTLSHandshake, w.url.Host, "the handshake came to an end only when it was made again; the first time: "+reason(x.err))
		warn.Finding.Confidence = finding.Medium
		return warn
	case small.err == nil:
		out = s.mean(Fail, finding.SourceTLSHandshake, w.url.Host, "a handshake that fits in one packet passes, and the usual one, which takes two, does not: something on the way drops it")
		out.Finding.Mend = "have smaller handshakes made, until whoever runs what is on the way has mended it"
		out.Finding.Fix = slices.DeleteFunc(slices.Clone(out.Finding.Fix), func(cmd string) bool { return !strings.Contains(cmd, "mlkem") })
		return out
	}
	// A refusal in the protocol is an answer of the server too.
	answers := func(e end) bool { return e.err == nil || !isCut(e.err) && ctx.Err() == nil && !isTimeout(e.err) }
	if !answers(bare) && !answers(other) {
		return out
	}
	how := "without a name"
	if !answers(bare) {
		how = "for another name"
	}
	out = s.mean(Fail, finding.NameFiltered, w.url.Host, fmt.Sprintf("the handshake for this name is cut (%s), and one with the same address %s is answered", reason(x.err), how))
	// It may be the server that does so with names it does not know, unless it shows that
	// it knows this one.
	out.Finding.Confidence = finding.Medium
	for _, e := range []end{bare, other} {
		if len(e.chain) > 0 && e.chain[0].VerifyHostname(host) == nil {
			out.Finding.Confidence = finding.High
			out.Text += ", with the certificate of this very name"
			break
		}
	}
	return out
}

// isCut reports whether a handshake ended without a word of the other side.
func isCut(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, context.DeadlineExceeded) || isTimeout(err)
}
