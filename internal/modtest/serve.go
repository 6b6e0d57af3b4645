package modtest

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
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/modsluice/sluice/internal/faults"
)

// stopBudget is how long Stop waits for handlers after their connections are
// closed. One that runs on is a goroutine that nobody waits for.
const stopBudget = time.Minute

// A Server serves a handler on a loopback address until its test ends.
type Server struct {
	URL    string         // "http://127.0.0.1:PORT", no slash at the end
	Addr   string         // "127.0.0.1:PORT"
	CA     *x509.CertPool // the authority that signed its certificate; nil without TLS
	CAFile string         // the same as a PEM file, for SSL_CERT_FILE

	t       testing.TB
	handler http.Handler
	tls     *tls.Config

	mu     sync.Mutex // guards the following
	srv    *http.Server
	served chan struct{} // closed when srv.Serve has returned
	active int           // handlers running
	ended  chan struct{} // gets a token when a handler ends

	release func() // gives the address free; nil while it is not kept
}

// Serve starts an HTTP/1.1 server.
func Serve(t testing.TB, h http.Handler) *Server {
	t.Helper()
	s := &Server{t: t, handler: h}
	s.start("127.0.0.1:0")
	s.URL = "http://" + s.Addr
	return s
}

// ServeH2TLS starts an HTTPS server that speaks HTTP/2, and HTTP/1.1 to clients
// that want that, under a certificate for 127.0.0.1 and localhost which only CA
// vouches for.
func ServeH2TLS(t testing.TB, h http.Handler) *Server {
	t.Helper()
	cert, ca, err := newCertificate()
	if err != nil {
		t.Fatalf("modtest: certificate: %v", err)
	}
	s := &Server{
		t:       t,
		handler: h,
		tls:     &tls.Config{Certificates: []tls.Certificate{cert}},
		CA:      x509.NewCertPool(),
		CAFile:  filepath.Join(t.TempDir(), "ca.pem"),
	}
	s.CA.AppendCertsFromPEM(ca)
	if err := os.WriteFile(s.CAFile, ca, 0o666); err != nil {
		t.Fatal(err)
	}
	s.start("127.0.0.1:0")
	s.URL = "https://" + s.Addr
	return s
}

func (s *Server) start(addr string) {
	s.t.Helper()
	// Kept first: then nobody gets the port while we stop, or start again.
	at, release, err := faults.Hold(addr)
	if err != nil {
		s.t.Fatalf("modtest: %v", err)
	}
	ln, err := net.Listen("tcp", at)
	if err != nil { // not every system lets us have it twice
		release()
		release = nil
		ln, err = net.Listen("tcp", addr)
	}
	if err != nil {
		s.t.Fatalf("modtest: %v", err)
	}
	s.Addr, s.release = ln.Addr().String(), release // nobody else has s yet
	s.t.Cleanup(s.free)
	s.t.Cleanup(s.Stop)
	s.serve(ln)
}

func (s *Server) serve(ln net.Listener) {
	srv := &http.Server{
		TLSConfig: s.tls.Clone(),
		ErrorLog:  log.New(io.Discard, "", 0),
		Protocols: new(http.Protocols),
	}
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serveHTTP(srv, w, r) })
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetHTTP2(s.tls != nil)
	served := make(chan struct{})
	s.mu.Lock()
	s.srv, s.served, s.ended = srv, served, make(chan struct{}, 1)
	s.mu.Unlock()
	go func() {
		defer close(served)
		if s.tls != nil {
			srv.ServeTLS(ln, "", "")
		} else {
			srv.Serve(ln)
		}
	}()
}

func (s *Server) serveHTTP(srv *http.Server, w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	stopped := s.srv != srv // and the request had been read, no more, as it was
	if !stopped {
		s.active++
	}
	s.mu.Unlock()
	if stopped {
		panic(http.ErrAbortHandler)
	}
	defer func() {
		s.mu.Lock()
		s.active--
		ended := s.ended
		s.mu.Unlock()
		select {
		case ended <- struct{}{}:
		default:
		}
	}()
	s.handler.ServeHTTP(w, r)
}

// Stop closes the listener and every connection, and waits for the handlers:
// the server is dead, and dials are refused until the test ends: nobody else gets
// its port. Stopping twice is fine.
func (s *Server) Stop() {
	s.mu.Lock()
	srv, served, ended := s.srv, s.served, s.ended
	s.srv = nil
	s.mu.Unlock()
	if srv == nil {
		return
	}
	srv.Close()
	<-served
	s.mu.Lock()
	kept := s.release != nil
	s.mu.Unlock()
	if s.Addr != "" && !kept {
		if _, release, err := faults.Hold(s.Addr); err == nil { // else somebody has it already
			s.mu.Lock()
			s.release = release
			s.mu.Unlock()
		}
	}
	timeout := time.NewTimer(stopBudget)
	defer timeout.Stop()
	for {
		s.mu.Lock()
		n := s.active
		s.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-ended:
		case <-timeout.C:
			s.t.Errorf("modtest: %d handlers of %s still run %v after their connections were closed", n, s.URL, stopBudget)
			return
		}
	}
}

// free gives the server's address free.
func (s *Server) free() {
	s.mu.Lock()
	release := s.release
	s.release = nil
	s.mu.Unlock()
	if release != nil {
		release()
	}
}

// Start serves again after Stop, at the same address.
func (s *Server) Start() {
	s.t.Helper()
	ln, err := net.Listen("tcp", s.Addr)
	if err != nil {
		s.free()
		ln, err = net.Listen("tcp", s.Addr)
	}
	if err != nil {
		s.t.Fatalf("modtest: start again: %v", err)
	}
	s.serve(ln)
}

// Client is a new HTTP client that trusts this server, decompresses nothing and
// follows redirects. Its idle connections are closed when the test ends.
func (s *Server) Client() *http.Client {
	tr := &http.Transport{DisableCompression: true, Protocols: new(http.Protocols)}
	tr.Protocols.SetHTTP1(true)
	if s.CA != nil {
		tr.TLSClientConfig = &tls.Config{RootCAs: s.CA}
		tr.Protocols.SetHTTP2(true)
	}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// Pipe serves h in process and returns the transport that leads there, whatever
// the host of a URL: HTTP/1.1 over net.Pipe, no socket, so that it may be used in
// a testing/synctest bubble.
func Pipe(t testing.TB, h http.Handler) *http.Transport {
	ln := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	s := &Server{t: t, handler: h, URL: "a pipe"}
	s.serve(ln)
	tr := &http.Transport{DialContext: ln.dial, DisableCompression: true}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		s.Stop()
	})
	return tr
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-l.closed:
		return nil, errors.New("connection refused: the server behind the pipe has stopped")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// newCertificate makes an authority and a loopback certificate signed by it.
func newCertificate() (cert tls.Certificate, caPEM []byte, err error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return cert, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return cert, nil, err
	}
	ca := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "modtest authority"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2),
		Subject:      pkix.Name{CommonName: "modtest server"},
		NotBefore:    ca.NotBefore,
		NotAfter:     ca.NotAfter,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		DNSNames:     []string{"localhost"},
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return cert, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	if err != nil {
		return cert, nil, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), nil
}
