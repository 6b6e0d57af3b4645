package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

// The steps of a connection, one at a time, for who wants to know at which of them
// it fails. Each is made as the sources of n make it, and its errors are told apart
// as theirs are.

// Forward is the forward proxy that a request for u goes through; nil if it goes
// directly.
func (n *Net) Forward(u *url.URL) (*url.URL, error) {
	if n.c.Proxy == nil {
		return nil, nil
	}
	return n.c.Proxy(&http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: http.Header{}})
}

// Lookup gives the addresses of host in the order in which they would be tried. An
// error is an *Error of the source.
func (n *Net) Lookup(ctx context.Context, source, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	var r Resolver = net.DefaultResolver
	if n.c.Resolver != nil {
		r = n.c.Resolver
	}
	found, err := r.LookupNetIP(ctx, n.c.Family.network(), host)
	if err == nil && len(n.c.Family.order(found)) == 0 {
		err = &net.DNSError{Err: "it has no address of the IP version that is wanted", Name: host, IsNotFound: true}
	}
	if err != nil {
		return nil, &Error{Source: source, Stage: StageDNS, Err: err}
	}
	return n.c.Family.order(found), nil
}

// Connect connects to one ip:port; the caller must Close the connection. An error is
// an *Error of the source.
func (n *Net) Connect(ctx context.Context, source string, addr netip.AddrPort) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: n.c.Connect}).DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return nil, &Error{Source: source, Stage: StageConnect, Err: err}
	}
	return conn, nil
}

// Handshake makes a TLS connection to host over conn, sends nothing more, and gives
// the certificates that the other side shows also where they are not to be trusted,
// which the error, an *Error of the source, then says. It closes conn.
func (n *Net) Handshake(ctx context.Context, source string, conn net.Conn, host string) ([]*x509.Certificate, error) {
	defer conn.Close()
	c := &tls.Config{}
	if n.c.TLS != nil {
		c = n.c.TLS.Clone()
	}
	if n.c.Certificate != nil {
		c.Certificates = []tls.Certificate{*n.c.Certificate}
	}
	c.ServerName, c.NextProtos = host, []string{"h2", "http/1.1"}
	c.InsecureSkipVerify = true // done below, so that the certificates are still there where it fails
	ctx, cancel := context.WithTimeout(ctx, n.c.Connect)
	defer cancel()
	tc := tls.Client(conn, c)
	if err := tc.HandshakeContext(ctx); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no answer to the TLS handshake within %v: %w", n.c.Connect, err)
		}
		return nil, &Error{Source: source, Stage: StageTLS, Err: err}
	}
	chain := tc.ConnectionState().PeerCertificates
	if len(chain) == 0 {
		return nil, &Error{Source: source, Stage: StageTLS, Err: errors.New("it shows no certificate")}
	}
	now := time.Now
	if c.Time != nil {
		now = c.Time
	}
	o := x509.VerifyOptions{Roots: c.RootCAs, DNSName: host, Intermediates: x509.NewCertPool(), CurrentTime: now()}
	for _, cert := range chain[1:] {
		o.Intermediates.AddCert(cert)
	}
	if _, err := chain[0].Verify(o); err != nil {
		return chain, &Error{Source: source, Stage: StageTLS, Err: &tls.CertificateVerificationError{UnverifiedCertificates: chain, Err: err}}
	}
	return chain, nil
}
