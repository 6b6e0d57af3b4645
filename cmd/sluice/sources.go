package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"runtime"

	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/upstream"
)

// readSecret reads a file that a [[source]] table names, with its mode where that
// says who may read it.
func readSecret(path string) ([]byte, fs.FileMode, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	data, err := io.ReadAll(f)
	if runtime.GOOS == "windows" {
		return data, 0, err
	}
	return data, info.Mode(), err
}

// sourceNet is the Net of one source: the common one, or where its table asks for
// something special, one of its own.
func (p *parts) sourceNet(common upstream.NetConfig, s config.Source) (*upstream.Net, error) {
	c, own, err := netConfig(common, s)
	if err != nil {
		return nil, err
	}
	if !own {
		return p.net, nil
	}
	n := upstream.NewNet(c)
	p.nets = append(p.nets, n)
	return n, nil
}

// netConfig is common with what the table of a source asks for; own reports whether
// that is anything at all.
func netConfig(common upstream.NetConfig, s config.Source) (c upstream.NetConfig, own bool, err error) {
	c = common
	plain := s
	plain.Name, plain.Weight, plain.Tier = "", 1, 0
	if plain == (config.Source{URL: s.URL, Family: string(upstream.AutoFamily), Weight: 1}) {
		return c, false, nil
	}
	c.Timeout = cmp.Or(s.Timeout, c.Timeout)
	c.Connect = min(cmp.Or(s.Connect, c.Connect), c.Timeout)
	c.Requests, c.Rate, c.Family = s.Connections, s.Rate, upstream.Family(s.Family)
	switch {
	case s.Token != "":
		c.Authorization = "Bearer " + s.Token
	case s.User != "":
		c.Authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(s.User+":"+s.Password))
	}
	if s.CA != "" {
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM([]byte(s.CA)) {
			return c, true, misuse("source %s: %s has no certificate that can be used", s.URL, s.CAFile)
		}
		c.TLS = &tls.Config{RootCAs: roots}
	}
	if s.Cert != "" {
		cert, err := tls.X509KeyPair([]byte(s.Cert), []byte(s.Key))
		if err != nil {
			return c, true, misuse("source %s: %s: %w", s.URL, s.CertFile, err)
		}
		c.Certificate = &cert
	}
	switch s.Proxy {
	case "":
	case config.NoForward:
		c.Proxy = nil
	default:
		u, err := config.ForwardURL(s.Proxy)
		if err != nil {
			return c, true, misuse("source %s: proxy: %w", s.URL, err)
		}
		c.Proxy = http.ProxyURL(u) // to loopback addresses too: it was asked for
	}
	c.Proxy = upstream.Except(s.NoProxy, c.Proxy)
	if s.Resolver != "" {
		u, err := url.Parse(s.Resolver)
		if err != nil {
			return c, true, misuse("source %s: resolver: %w", s.URL, err)
		}
		dns, err := upstream.NewDNS(u, c.TLS)
		if err != nil {
			return c, true, misuse("source %s: resolver: %w", s.URL, err)
		}
		c.Resolver = dns
	}
	return c, true, nil
}

// closeNets drops the connections that are not in use.
func (p *parts) closeNets() {
	p.net.Close()
	for _, n := range p.nets {
		n.Close()
	}
}
