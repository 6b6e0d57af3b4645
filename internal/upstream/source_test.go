package upstream_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/upstream"
)

// mutual is a TLS server that asks for a client certificate, and insists on one
// of pool unless that is nil. It answers with the name of the client.
func mutual(t *testing.T, server tls.Certificate, pool *x509.CertPool, h http.HandlerFunc) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tc := &tls.Config{Certificates: []tls.Certificate{server}, ClientAuth: tls.RequestClientCert}
	if pool != nil {
		tc.ClientCAs, tc.ClientAuth = pool, tls.RequireAndVerifyClientCert
	}
	srv := &http.Server{TLSConfig: tc, Handler: h, ErrorLog: log.New(io.Discard, "", 0), Protocols: new(http.Protocols)}
	srv.Protocols.SetHTTP1(true) // over HTTP/2, net/http does not pass on what the server says to a missing certificate
	var wg sync.WaitGroup
	t.Cleanup(func() { srv.Close(); wg.Wait() })
	wg.Go(func() { srv.ServeTLS(ln, "", "") })
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return "https://localhost:" + port
}

func clients(r *http.Request) int { return len(r.TLS.PeerCertificates) }

func TestAClientCertificateIsShownToTheSourceAndToNobodyElse(t *testing.T) {
	until := time.Now().Add(time.Hour)
	serverCert, serverPool := certificate(t, "localhost", until)
	clientCert, clientPool := certificate(t, "client.test", until)
	otherCert, otherPool := certificate(t, "localhost", until)
	roots := serverPool

	var seen []string
	var mu sync.Mutex
	note := func(who string, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, fmt.Sprintf("%s %s: %d %q", who, r.URL.Path, clients(r), r.Header.Get("Authorization")))
	}
	other := mutual(t, serverCert, nil, func(w http.ResponseWriter, r *http.Request) { note("other", r); io.WriteString(w, "data") })
	var own string
	own = mutual(t, serverCert, clientPool, func(w http.ResponseWriter, r *http.Request) {
		note("own", r)
		if strings.HasSuffix(r.URL.Path, ".mod") {
			http.Redirect(w, r, own+"/again", http.StatusFound)
			return
		}
		http.Redirect(w, r, other+"/end", http.StatusFound)
	})
	c := upstream.NetConfig{
		TLS: &tls.Config{RootCAs: roots}, Certificate: &clientCert, Authorization: "Bearer t0k",
		Named: []string{strings.TrimPrefix(other, "https://")},
	}
	if data, err := get(t, c, own); err != nil || data != "data" {
		t.Fatalf("%q, %v", data, err)
	}
	want := []string{`own /rsc.io/quote/@v/v1.5.2.mod: 1 "Bearer t0k"`, `own /again: 1 "Bearer t0k"`, `other /end: 0 ""`}
	if !slices.Equal(seen, want) {
		t.Errorf("seen %q\nwant %q", seen, want)
	}

	// Not named, and therefore behind the guard: no certificate goes there either.
	c.Named = nil
	if _, err := get(t, c, own); !upstream.IsGuard(err) {
		t.Errorf("a redirect into this machine: %v", err)
	}
	c.Certificate = nil
	_, err := get(t, c, own)
	wantError(t, err, upstream.StageTLS, 0, "certificate")
	c.Certificate, c.TLS = &otherCert, &tls.Config{RootCAs: otherPool}
	_, err = get(t, c, own)
	wantError(t, err, upstream.StageTLS, 0, "unknown authority")
	c.TLS = &tls.Config{RootCAs: roots}
	_, err = get(t, c, own)
	wantError(t, err, upstream.StageTLS, 0)
}

func TestAuthorizationGoesToTheSourceAlone(t *testing.T) {
	var got []string
	other := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = append(got, "other "+r.Header.Get("Authorization"))
	})
	own := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = append(got, "own "+r.Header.Get("Authorization"))
		http.Redirect(w, r, other.URL+"/x", http.StatusFound)
	})
	c := upstream.NetConfig{Authorization: "Basic YW5uOnB3", Named: []string{other.Addr}}
	if _, err := get(t, c, own.URL); err != nil {
		t.Fatal(err)
	}
	if want := []string{"own Basic YW5uOnB3", "other "}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	own.Stop()
	if _, err := get(t, c, own.URL); err == nil || strings.Contains(err.Error(), "YW5u") {
		t.Errorf("the error shows credentials: %v", err)
	}
}

// A socks is a SOCKS5 server (RFC 1928, RFC 1929) for tests.
type socks struct {
	mu       sync.Mutex
	asked    []string // the host:port of each CONNECT
	password string   // of user ann; none is asked for if empty
	refuse   byte     // the reply if not 0
	to       string   // where all connections lead
}

func (s *socks) serve(c net.Conn) {
	head := make([]byte, 2)
	read := func(n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(c, b); err != nil {
			return make([]byte, n)
		}
		return b
	}
	copy(head, read(2))
	methods := read(int(head[1]))
	if s.password != "" {
		if !slices.Contains(methods, 2) {
			c.Write([]byte{5, 0xff})
			return
		}
		c.Write([]byte{5, 2})
		read(1)
		user := read(int(read(1)[0]))
		pw := read(int(read(1)[0]))
		if string(user) != "ann" || string(pw) != s.password {
			c.Write([]byte{1, 1})
			return
		}
		c.Write([]byte{1, 0})
	} else {
		c.Write([]byte{5, 0})
	}
	req := read(4)
	var host string
	switch req[3] {
	case 1:
		host = net.IP(read(4)).String()
	case 3:
		host = string(read(int(read(1)[0])))
	case 4:
		host = net.IP(read(16)).String()
	}
	port := binary.BigEndian.Uint16(read(2))
	s.mu.Lock()
	s.asked = append(s.asked, net.JoinHostPort(host, fmt.Sprint(port)))
	s.mu.Unlock()
	if s.refuse != 0 {
		c.Write([]byte{5, s.refuse, 0, 1, 0, 0, 0, 0, 0, 0})
		return
	}
	there, err := net.Dial("tcp", s.to)
	if err != nil {
		return
	}
	defer there.Close()
	c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(there, c); there.Close() })
	io.Copy(c, there)
	c.Close()
	wg.Wait()
}

func TestASOCKS5ProxyLooksUpTheNameItself(t *testing.T) {
	plain := serve(t, text("plain"))
	s := &socks{to: plain.Addr, password: "p w"}
	addr := listen(t, s.serve)
	for _, scheme := range []string{"socks5", "socks5h"} {
		c := upstream.NetConfig{Proxy: http.ProxyURL(parse(t, scheme+"://ann:p%20w@"+addr))}
		if data, err := get(t, c, "http://inside.test/mod"); err != nil || data != "plain" {
			t.Errorf("%s: %q, %v", scheme, data, err)
		}
	}
	if want := []string{"inside.test:80", "inside.test:80"}; !slices.Equal(s.asked, want) {
		t.Errorf("it was asked for %q", s.asked)
	}
	_, err := get(t, upstream.NetConfig{Proxy: http.ProxyURL(parse(t, "socks5://ann:wr0ng@"+addr))}, "http://inside.test/mod")
	wantError(t, err, upstream.StageProxy, 0, addr)
	if strings.Contains(err.Error(), "wr0ng") {
		t.Errorf("the error shows credentials: %v", err)
	}
	s.refuse = 5
	_, err = get(t, upstream.NetConfig{Proxy: http.ProxyURL(parse(t, "socks5://ann:p%20w@"+addr))}, "http://inside.test/mod")
	wantError(t, err, upstream.StageProxy, 0, "connection refused")
	dead := serve(t, nil)
	dead.Stop()
	_, err = get(t, upstream.NetConfig{Proxy: http.ProxyURL(parse(t, "socks5://"+dead.Addr))}, "http://inside.test/mod")
	wantError(t, err, upstream.StageProxy, 0, "connection refused")
}

func TestHostsOfNoProxyAreAskedWithoutTheForwardProxy(t *testing.T) {
	f := &forward{}
	fp := modtest.Serve(t, f)
	srv := serve(t, text("data"))
	secure := modtest.ServeH2TLS(t, text("data"))
	through := http.ProxyURL(parse(t, fp.URL))
	for _, tt := range []struct {
		list  string
		asked int
	}{{"", 2}, {"other.test", 2}, {srv.Addr, 1}, {"127.0.0.0/8", 0}, {"*", 0}} {
		f.asked = nil
		c := upstream.NetConfig{Proxy: upstream.Except(tt.list, through), TLS: &tls.Config{RootCAs: secure.CA}}
		for _, base := range []string{srv.URL, secure.URL} {
			if data, err := get(t, c, base); err != nil || data != "data" {
				t.Errorf("no_proxy %q: %q, %v", tt.list, data, err)
			}
		}
		if len(f.asked) != tt.asked {
			t.Errorf("no_proxy %q: the forward proxy was asked %q", tt.list, f.asked)
		}
	}
	if upstream.Except("x", nil) != nil {
		t.Error("there is no forward proxy, and yet one is asked for")
	}
}
