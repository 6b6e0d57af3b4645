package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Verify checks a chain, the leaf first, as a handshake of n does, but by other
// authorities.
func (n *Net) Verify(chain []*x509.Certificate, host string, roots *x509.CertPool) error {
	if len(chain) == 0 {
		return errors.New("there is no certificate")
	}
	o := x509.VerifyOptions{Roots: roots, DNSName: host, Intermediates: x509.NewCertPool(), CurrentTime: time.Now()}
	if n.c.TLS != nil && n.c.TLS.Time != nil {
		o.CurrentTime = n.c.TLS.Time()
	}
	for _, cert := range chain[1:] {
		o.Intermediates.AddCert(cert)
	}
	_, err := chain[0].Verify(o)
	return err
}

// Greet makes a TLS handshake over conn that differs from that of the sources, for who
// wants to know what it is that something on the way does not like: it asks for name, or
// for none if that is "", and small leaves out the key share that makes the first message
// longer than one packet. It trusts nobody, gives the certificates that the other side
// shows, sends nothing more, and closes conn.
func (n *Net) Greet(ctx context.Context, conn net.Conn, name string, small bool) ([]*x509.Certificate, error) {
	defer conn.Close()
	c := &tls.Config{ServerName: name, NextProtos: []string{"h2", "http/1.1"}}
	c.InsecureSkipVerify = true // nothing is sent to whoever it is
	if small {
		c.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384}
	}
	tc := tls.Client(conn, c)
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return tc.ConnectionState().PeerCertificates, nil
}

type knownKey struct{}

type known struct {
	host  string
	addrs []netip.Addr
}

// Knowing makes what is asked within the context connect to host at addrs, without
// looking it up.
func Knowing(ctx context.Context, host string, addrs []netip.Addr) context.Context {
	return context.WithValue(ctx, knownKey{}, known{host, addrs})
}

// dialKnown is dial, but for a host whose addresses the context knows.
func dialKnown(one *net.Dialer, f Family, dial func(ctx context.Context, network, addr string) (net.Conn, error)) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		k, ok := ctx.Value(knownKey{}).(known)
		host, port, err := net.SplitHostPort(addr)
		if !ok || err != nil || !strings.EqualFold(host, k.host) {
			return dial(ctx, network, addr)
		}
		var addrs []string
		for _, ip := range f.order(k.addrs) {
			addrs = append(addrs, net.JoinHostPort(ip.String(), port))
		}
		if len(addrs) == 0 {
			return dial(ctx, network, addr)
		}
		ctx, cancel := context.WithTimeout(ctx, one.Timeout)
		defer cancel()
		return race(ctx, addrs, func(ctx context.Context, addr string) (net.Conn, error) { return one.DialContext(ctx, network, addr) })
	}
}
