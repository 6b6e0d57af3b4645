//go:build unix

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/modsluice/sluice/internal/faults"
	"github.com/modsluice/sluice/internal/modtest"
)

// A badWire is what stands at the address of a source that serves no modules.
type badWire struct {
	url  string
	wrap []string // before the command of whoever is to see it: a mount namespace; nil: everybody sees it
}

// bound is a loopback socket that nobody listens at: its port stays ours, and
// connections are refused.
func bound(t *modtest.Scope) (fd int, addr string) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	t.Must(err)
	syscall.CloseOnExec(fd)
	t.Cleanup(func() { syscall.Close(fd) })
	t.Must(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	sa, err := syscall.Getsockname(fd)
	t.Must(err)
	return fd, fmt.Sprintf("127.0.0.1:%d", sa.(*syscall.SockaddrInet4).Port)
}

func refused(_ *matrix, t *modtest.Scope, _ int) *badWire {
	_, addr := bound(t)
	return &badWire{url: "http://" + addr}
}

// blackHole is a listener whose queue is full and never taken from: the system
// drops what else would connect.
func blackHole(_ *matrix, t *modtest.Scope, _ int) *badWire {
	fd, addr := bound(t)
	t.Must(syscall.Listen(fd, 0))
	for range 16 {
		c, err := net.DialTimeout("tcp", addr, 200*time.Millisecond)
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			return &badWire{url: "http://" + addr}
		}
		t.Must(err)
		t.Cleanup(func() { c.Close() })
	}
	t.Skipf("this system takes connections beyond the queue of a listener, so nothing is dropped")
	return nil
}

func tlsStalled(_ *matrix, t *modtest.Scope, _ int) *badWire {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	t.Must(err)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { faults.BlackHole(ctx, ln) })
	t.Cleanup(func() { stop(); wg.Wait() })
	return &badWire{url: "https://" + ln.Addr().String()}
}

// tlsUnknownCA has all modules, under a certificate that nobody here vouches for.
func tlsUnknownCA(m *matrix, t *modtest.Scope, _ int) *badWire {
	return &badWire{url: modtest.ServeH2TLS(t, m.well()).URL}
}

// dnsDead is a name whose name server takes questions and never answers.
func dnsDead(_ *matrix, t *modtest.Scope, i int) *badWire {
	const server = "127.83.76.53"
	if i == 0 { // one name server does for all names
		c, err := net.ListenPacket("udp", server+":53")
		if err != nil {
			t.Skipf("a name server of one's own needs port 53 of %s: %v", server, err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for buf := make([]byte, 512); ; {
				if _, _, err := c.ReadFrom(buf); err != nil {
					return
				}
			}
		})
		t.Cleanup(func() { c.Close(); wg.Wait() })
	}
	return &badWire{url: "http://" + hostName(i) + ":8080", wrap: withFiles(t, "127.0.0.1 localhost\n", "nameserver "+server+"\n")}
}

// dnsLying is a name that leads to a machine of somebody else, which has a valid
// certificate, of its own name.
func dnsLying(m *matrix, t *modtest.Scope, i int) *badWire {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	t.Must(err)
	srv := &http.Server{
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{m.portal}},
		ErrorLog:  log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, "<!DOCTYPE html>\n<title>Sign in</title>\n")
		}),
	}
	var wg sync.WaitGroup
	wg.Go(func() { srv.ServeTLS(ln, "", "") })
	t.Cleanup(func() { srv.Close(); wg.Wait() })
	hosts := "127.0.0.1 localhost\n"
	for i := range sourceCount {
		hosts += "127.0.0.1 " + hostName(i) + "\n"
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return &badWire{url: "https://" + hostName(i) + ":" + port, wrap: withFiles(t, hosts, "nameserver 127.0.0.1\n")}
}

func hostName(i int) string { return string(rune('a'+i)) + ".mirror.example.com" }

// withFiles is the beginning of a command line whose rest runs in a mount
// namespace with its own /etc/hosts and /etc/resolv.conf.
func withFiles(t *modtest.Scope, hosts, resolv string) []string {
	dir := t.TempDir()
	for name, text := range map[string]string{"hosts": hosts, "resolv.conf": resolv} {
		t.Must(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	wrap := []string{"unshare", "-m", "sh", "-c", `mount --bind "$0/hosts" /etc/hosts && mount --bind "$0/resolv.conf" /etc/resolv.conf && exec "$@"`, dir}
	args := append(wrap[1:len(wrap):len(wrap)], "true")
	if out, err := exec.CommandContext(t.Context(), wrap[0], args...).CombinedOutput(); err != nil {
		t.Skipf("a name that resolves as told needs a mount namespace (root on Linux, with unshare): %v %s", err, strings.TrimSpace(string(out)))
	}
	return wrap
}

// newPortal makes an authority and a certificate signed by it, for a host that is
// no source.
func newPortal() (cert tls.Certificate, caPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return cert, nil, err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "faultmatrix authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "portal"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"portal.example.com"},
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	if err != nil {
		return cert, nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, key)
	if err != nil {
		return cert, nil, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), nil
}
