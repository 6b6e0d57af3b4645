package faults

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// A Front is a listener before a source, with the fault of a Switch in it: those
// of the network at each new connection, all others at each request, as Handler
// has them.
//
// A connection that is there already when a fault of the network is put in stays
// as it is. When the fault is taken out, what it swallowed is answered.
type Front struct {
	Source http.Handler // the source as it is
	Fault  *Switch
	// Met, if not nil, is called for each connection and request that meets the
	// fault, with the word of KindOf, "connection", or "other", and once more with
	// "impossible" where the fault cannot be had. It must be safe for concurrent
	// use.
	Met func(kind string)

	release func() // gives the port free that Listen keeps for Serve; nil if it is not kept
}

// URL is where a client is to be sent that shall meet f at a Front at addr, an
// address of 127.0.0.1.
func (f Fault) URL(addr net.Addr) string {
	_, port, err := net.SplitHostPort(addr.String())
	e, ferr := find(f.Name)
	switch {
	case err != nil || ferr != nil || e.wire == nil:
	case e.wire.nameless:
		return "http://" + net.JoinHostPort(noName, port)
	case e.wire.elsewhere: // it is the name that leads astray
		return "https://" + net.JoinHostPort("localhost", port)
	case e.wire.tls:
		return "https://" + addr.String()
	}
	return "http://" + addr.String()
}

// noName is one that no name server may know (RFC 6761).
const noName = "source.invalid"

// Listen is a listener for Serve, at a free port of 127.0.0.1. Where the fault is
// that nobody listens, it is closed already. On Linux nobody who asks for any free
// port gets this one before Serve has ended, also while it is closed.
func (f *Front) Listen() (net.Listener, error) {
	addr := "127.0.0.1:0"
	if runtime.GOOS == "linux" { // elsewhere nobody can listen at what is held
		if at, release, err := Hold(addr); err == nil {
			addr, f.release = at, release
		}
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil && f.release != nil { // not every kernel that calls itself Linux lets us have it twice
		f.free()
		ln, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if fault, _ := f.Fault.now(); err == nil && fault.Name == "refused" {
		ln.Close()
	}
	return ln, err
}

// Serve serves at ln until ctx is done, and returns ctx's cause after it has
// closed ln and every connection and all handlers have returned; or the error of
// ln if that fails first.
func (f *Front) Serve(ctx context.Context, ln net.Listener) error {
	defer f.free()
	addr := ln.Addr().String()
	for opened := false; ; opened = true { // by us; Listen's may be closed
		if fault, _ := f.Fault.now(); fault.Name != "refused" {
			err := f.open(ctx, ln)
			if !errors.Is(err, errShut) && (opened || !errors.Is(err, net.ErrClosed)) {
				return err
			}
		}
		ln.Close()
		for {
			fault, changed := f.Fault.now()
			if fault.Name != "refused" {
				break
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		var err error
		var lc net.ListenConfig
		if ln, err = lc.Listen(ctx, "tcp", addr); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("somebody has taken the port %s while the fault kept it closed: %w", addr, err)
		}
	}
}

func (f *Front) free() {
	if f.release != nil {
		f.release()
		f.release = nil
	}
}

// errShut says that connections are to be refused from now on.
var errShut = errors.New("connections are refused")

// open serves at ln until ctx is done or the fault is that nobody listens.
func (f *Front) open(ctx context.Context, ln net.Listener) error {
	ctx, shut := context.WithCancelCause(ctx)
	s := newSite(http.HandlerFunc(f.serve))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer s.close()
	defer shut(nil)
	wg.Go(func() {
		for {
			fault, changed := f.Fault.now()
			if fault.Name == "refused" {
				shut(errShut)
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	})
	return accept(ctx, ln, func(ctx context.Context, c net.Conn) {
		t := track(c)
		var well net.Conn = t
		if fault, ok := f.Fault.Pick(nil); ok {
			e, err := find(fault.Name)
			if err == nil && e.wire != nil {
				f.met("connection")
				well = e.wire.enter(ctx, t, fault, "127.0.0.1", "::1", "localhost")
			}
		}
		if well != nil {
			s.serve(ctx, well, t)
		}
	})
}

func (f *Front) met(kind string) {
	if f.Met != nil {
		f.Met(kind)
	}
}

func (f *Front) serve(w http.ResponseWriter, r *http.Request) {
	fault, ok := f.Fault.Pick(r)
	if e, err := find(fault.Name); ok && err == nil && e.wire != nil {
		if e.wire.elsewhere {
			page(http.StatusOK)(&exchange{w: w, r: r})
			return
		}
		ok = false // the connection has met it
	}
	if !ok {
		f.Source.ServeHTTP(w, r)
		return
	}
	if fault.Means(r) {
		f.met(cmp.Or(KindOf(r), "other"))
	}
	handler(f.Source, Always(fault), func() { f.met("impossible") }).ServeHTTP(w, r)
}

// A wire is a fault of the network.
type wire struct {
	tls       bool // it is one of TLS
	nameless  bool // the name leads nowhere
	elsewhere bool // the name leads to somebody else

	// dial is the error of connecting to host:port; nil where there is none.
	dial func(ctx context.Context, host, port string) error
	// meet is what HTTP is to be spoken on at the server's end of the connection
	// c, nil if on nothing. It may keep c until ctx is done or the fault is over.
	// The names are those for which a certificate would be right.
	meet func(ctx context.Context, c net.Conn, f Fault, names []string) net.Conn
}

// enter is meet, or c itself where there is none.
func (w *wire) enter(ctx context.Context, c net.Conn, f Fault, names ...string) net.Conn {
	if w.meet == nil {
		return c
	}
	return w.meet(ctx, c, f, names)
}

func refuse(ctx context.Context, host, port string) error {
	if t := httptrace.ContextClientTrace(ctx); t != nil && t.ConnectStart != nil {
		t.ConnectStart("tcp", net.JoinHostPort(host, port))
	}
	return &net.OpError{Op: "dial", Net: "tcp", Addr: hostPort(net.JoinHostPort(host, port)), Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
}

func unknownName(ctx context.Context, host, _ string) error {
	err := &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	if t := httptrace.ContextClientTrace(ctx); t != nil {
		if t.DNSStart != nil {
			t.DNSStart(httptrace.DNSStartInfo{Host: host})
		}
		if t.DNSDone != nil {
			t.DNSDone(httptrace.DNSDoneInfo{Err: err})
		}
	}
	return &net.OpError{Op: "dial", Net: "tcp", Err: err}
}

// A hostPort is an address as it was asked for.
type hostPort string

func (hostPort) Network() string  { return "tcp" }
func (a hostPort) String() string { return string(a) }

// swallow keeps the connection, unread and unanswered, until the fault is over.
func swallow(ctx context.Context, c net.Conn, f Fault, _ []string) net.Conn {
	select {
	case <-f.until:
		return c
	case <-ctx.Done():
		return nil
	}
}

func slam(_ context.Context, c net.Conn, _ Fault, _ []string) net.Conn {
	resetConn(c)
	return nil
}

// stall is swallow for a TLS handshake, after which there is no certificate that
// a client would trust.
func stall(ctx context.Context, c net.Conn, f Fault, names []string) net.Conn {
	swallow(ctx, c, f, names)
	return nil
}

// hello reads what a TLS client says first, so that closing does not reset.
func hello(c net.Conn) {
	var head [5]byte
	if _, err := io.ReadFull(c, head[:]); err == nil {
		io.CopyN(io.Discard, c, int64(head[3])<<8|int64(head[4]))
	}
}

func plainTLS(_ context.Context, c net.Conn, _ Fault, _ []string) net.Conn {
	hello(c)
	io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	return nil
}

func alert(_ context.Context, c net.Conn, _ Fault, _ []string) net.Conn {
	hello(c)
	const fatal, handshakeFailure = 2, 40
	c.Write([]byte{21, 3, 3, 0, 2, fatal, handshakeFailure})
	return nil
}

func badCertificate(expired bool) func(context.Context, net.Conn, Fault, []string) net.Conn {
	return func(_ context.Context, c net.Conn, _ Fault, names []string) net.Conn {
		return underCertificate(c, names, expired)
	}
}

func somebodyElse(_ context.Context, c net.Conn, _ Fault, _ []string) net.Conn {
	return underCertificate(c, []string{"portal.example"}, false)
}

// underCertificate speaks TLS on c with a certificate for names that nobody
// vouches for.
func underCertificate(c net.Conn, names []string, expired bool) net.Conn {
	cert, err := certificate(names, expired)
	if err != nil {
		return nil
	}
	return tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
}

func certificate(names []string, expired bool) (tls.Certificate, error) {
	now := time.Now()
	make := func(serial int64, cn string, to time.Time) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: cn}, NotBefore: now.Add(-48 * time.Hour), NotAfter: to}
	}
	ca := make(1, "an authority that nobody knows", now.Add(24*time.Hour))
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	leaf := make(2, names[0], now.Add(24*time.Hour))
	if expired {
		leaf.NotAfter = now.Add(-24 * time.Hour)
	}
	leaf.KeyUsage, leaf.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, n)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// A site is an HTTP/1.1 server for connections that are handed to it.
type site struct {
	srv   *http.Server
	conns chan net.Conn
	done  chan struct{} // closed when it takes no more
	once  sync.Once
	wg    sync.WaitGroup // its goroutines, those of net/http among them
}

func newSite(h http.Handler) *site {
	s := &site{conns: make(chan net.Conn), done: make(chan struct{})}
	s.srv = &http.Server{
		Handler:  h,
		ErrorLog: log.New(io.Discard, "", 0), // of clients that do not trust the certificate
		ConnState: func(_ net.Conn, st http.ConnState) {
			switch st {
			case http.StateNew:
				s.wg.Add(1)
			case http.StateClosed, http.StateHijacked: // who hijacks closes as its last act, for which serve waits
				s.wg.Done()
			}
		},
	}
	s.wg.Go(func() { s.srv.Serve(s) })
	return s
}

// serve hands c, which is over t, to the server, and returns when t is closed.
func (s *site) serve(ctx context.Context, c net.Conn, t *tracked) {
	select {
	case s.conns <- c:
		defer context.AfterFunc(ctx, func() { t.Close() })()
		<-t.closed
	case <-s.done:
	case <-ctx.Done():
	}
}

// close ends every connection, and waits.
func (s *site) close() {
	s.srv.Close()
	s.wg.Wait()
}

// Accept, Close and Addr make it the server's listener.
func (s *site) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

func (s *site) Close() error {
	s.once.Do(func() { close(s.done) })
	return nil
}

func (s *site) Addr() net.Addr { return hostPort("site:80") }

// A tracked connection tells when it is closed.
type tracked struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func track(c net.Conn) *tracked { return &tracked{Conn: c, closed: make(chan struct{})} }

func (t *tracked) Close() error {
	err := t.Conn.Close()
	t.once.Do(func() { close(t.closed) })
	return err
}

func (t *tracked) SetLinger(sec int) error {
	if l, ok := t.Conn.(interface{ SetLinger(sec int) error }); ok {
		return l.SetLinger(sec)
	}
	return nil
}
