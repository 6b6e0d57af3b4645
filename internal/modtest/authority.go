package modtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An Authority signs certificates: a public one, a company's, a gateway's.
type Authority struct {
	File string // its own certificate, PEM
	PEM  []byte // the same
	// URL is where its own certificate is to be had, which those that it issues say, as
	// those of public authorities do; "" is nowhere.
	URL string

	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	made int64
}

// NewAuthority makes an authority of that name, valid from ten years ago until in
// ten years, whose file lasts as long as the test.
func NewAuthority(t testing.TB, name string) *Authority {
	t.Helper()
	return newAuthority(t, name, 0, nil)
}

// NewAuthorityOfSize is NewAuthority with a certificate of exactly so many bytes, so
// that it can stand in the place of another one.
func NewAuthorityOfSize(t testing.TB, name string, size int) *Authority {
	t.Helper()
	pad := 1
	for range 1000 { // a signature takes a byte more or less
		a := newAuthority(t, name, pad, nil)
		if n := len(a.cert.Raw); n == size {
			return a
		} else if pad += size - n; pad < 1 {
			t.Fatalf("modtest: a certificate of %d bytes is too small for an authority", size)
		}
	}
	t.Fatalf("modtest: no certificate of %d bytes came about", size)
	return nil
}

// Under makes an authority of that name, whose certificate a signs: one that has to be
// sent along with what it issues.
func (a *Authority) Under(name string) *Authority {
	a.t.Helper()
	return newAuthority(a.t, name, 0, a)
}

// netscapeComment is an extension that means nothing to anybody.
var netscapeComment = asn1.ObjectIdentifier{2, 16, 840, 1, 113730, 1, 13}

// newAuthority makes one that by signs, or it itself, with pad bytes that mean nothing.
func newAuthority(t testing.TB, name string, pad int, by *Authority) *Authority {
	t.Helper()
	a := &Authority{t: t, made: 1}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(a.made), Subject: pkix.Name{CommonName: name, Organization: []string{name}},
		NotBefore: time.Now().AddDate(-10, 0, 0), NotAfter: time.Now().AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if pad > 0 {
		value, err := asn1.MarshalWithParams(strings.Repeat("x", pad), "ia5")
		if err != nil {
			t.Fatal(err)
		}
		c.ExtraExtensions = []pkix.Extension{{Id: netscapeComment, Value: value}}
	}
	if by != nil {
		by.made++
		c.SerialNumber = big.NewInt(by.made)
		a.key, c.Raw = by.sign(c)
	} else {
		a.cert = c
		a.key, c.Raw = a.sign(c)
	}
	a.cert = c
	a.PEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	a.File = filepath.Join(t.TempDir(), "ca.crt")
	a.write(a.File, a.PEM)
	return a
}

// sign makes a key and a certificate for it; that of the authority itself if there
// is no key of its own yet.
func (a *Authority) sign(c *x509.Certificate) (*ecdsa.PrivateKey, []byte) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	by := a.key
	if by == nil {
		by = key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, by)
	if err != nil {
		a.t.Fatal(err)
	}
	return key, der
}

func (a *Authority) write(name string, data []byte) {
	a.t.Helper()
	if err := os.WriteFile(name, data, 0o644); err != nil {
		a.t.Fatal(err)
	}
}

// Issue makes a certificate for names and addresses that is valid from one time to
// another; zero times are a day ago and a year ahead.
func (a *Authority) Issue(from, to time.Time, names ...string) tls.Certificate {
	a.t.Helper()
	if from.IsZero() {
		from = time.Now().AddDate(0, 0, -1)
	}
	if to.IsZero() {
		to = time.Now().AddDate(1, 0, 0)
	}
	a.made++
	c := &x509.Certificate{
		SerialNumber: big.NewInt(a.made), Subject: pkix.Name{CommonName: names[0]}, NotBefore: from, NotAfter: to,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, n)
		}
	}
	if a.URL != "" {
		c.IssuingCertificateURL = []string{a.URL}
	}
	key, der := a.sign(c)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Files writes a certificate and its key as PEM files, for servers that read such.
func (a *Authority) Files(c tls.Certificate) (cert, key string) {
	a.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		a.t.Fatal(err)
	}
	dir := a.t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	var chain []byte
	for _, one := range c.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: one})...)
	}
	a.write(cert, chain)
	a.write(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return cert, key
}
