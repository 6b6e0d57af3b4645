package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/goproxy"
	"github.com/modsluice/sluice/internal/modtest"
	"github.com/modsluice/sluice/internal/upstream"
)

// ask gets a .mod from the first source of a configuration file.
func ask(t *testing.T, file string, common upstream.NetConfig) (string, error) {
	t.Helper()
	l, err := config.Load(config.Input{Path: "sluice.toml", Data: []byte(file), CacheDir: t.TempDir(), ReadFile: readSecret})
	if err != nil {
		t.Fatal(err)
	}
	p := &parts{net: upstream.NewNet(common)}
	defer p.closeNets()
	n, err := p.sourceNet(common, l.SourceOf(l.Proxy[0].URL))
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(l.Proxy[0].URL)
	if err != nil {
		t.Fatal(err)
	}
	a, err := upstream.NewHTTPSource(n, u).Get(t.Context(), goproxy.Request{Kind: goproxy.Mod, Module: module.Version{Path: "rsc.io/quote", Version: "v1.5.2"}})
	if err != nil {
		return "", err
	}
	defer a.Body.Close()
	data, err := io.ReadAll(a.Body)
	return string(data), err
}

func TestASourcesTableMakesItsConnections(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.ToSlash(path)
	}
	srv := modtest.ServeH2TLS(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s by %s", r.Header.Get("Authorization"), r.Header.Get("Via"))
	}))
	forward := modtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "not here", http.StatusTeapot)
	}))
	plain := modtest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "plain") }))
	head := func(u, rest string) string {
		return fmt.Sprintf("proxy = %q\ngosumdb = 'off'\n[[source]]\nurl = %[1]q\n%s", u, rest)
	}
	through := upstream.NetConfig{Via: "sluice-x", Proxy: func(*http.Request) (*url.URL, error) { return url.Parse(forward.URL) }}
	direct := upstream.NetConfig{Via: "sluice-x"}
	ca := "ca_file = '" + filepath.ToSlash(srv.CAFile) + "'\n"
	for _, tt := range []struct {
		name, file string
		common     upstream.NetConfig
		want       string // what it says, or the error
	}{
		{"nothing special", head(plain.URL, "tier = 3"), direct, "plain"},
		{"unknown authority", head(srv.URL, ""), direct, "certificate"},
		{"its authority", head(srv.URL, ca), direct, " by 1.1 sluice-x"},
		{"token", head(srv.URL, ca+"token_file = '"+write("token", "t0k\n")+"'"), direct, "Bearer t0k by 1.1 sluice-x"},
		{"password", head(srv.URL, ca+"user = 'ann'\npassword_file = '"+write("pw", "p:w\r\n")+"'"), direct, "Basic YW5uOnA6dw== by 1.1 sluice-x"},
		{"the environment's forward proxy", head(plain.URL, "family = '4'"), through, "teapot"},
		{"none", head(plain.URL, "proxy = 'none'"), through, "plain"},
		{"an exception", head(plain.URL, "no_proxy = '127.0.0.0/8'"), through, "plain"},
		{"another's exception", head(plain.URL, "no_proxy = 'corp.example'"), through, "teapot"},
		{"a forward proxy of its own, to loopback too", head(plain.URL, "proxy = '"+forward.URL+"'"), direct, "teapot"},
		{"a resolver that is not there", head("http://a.test", "resolver = 'tls://"+dead(t)+"'"), direct, "the resolver does not answer"},
		{"localhost past the resolver", head(strings.Replace(plain.URL, "127.0.0.1", "localhost", 1), "resolver = 'tls://"+dead(t)+"'"), direct, "plain"},
	} {
		data, err := ask(t, tt.file, tt.common)
		if got := data + fmt.Sprint(err); !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, %v; want %q", tt.name, data, err, tt.want)
		}
	}
}

// dead is an address at which nobody listens.
func dead(t *testing.T) string {
	s := modtest.Serve(t, nil)
	s.Stop()
	return s.Addr
}

func TestTheCertificatesOfOneSourceAreNotTrustedElsewhere(t *testing.T) {
	srv := modtest.ServeH2TLS(t, http.NotFoundHandler())
	p := &parts{net: upstream.NewNet(upstream.NetConfig{TLS: &tls.Config{}})}
	defer p.closeNets()
	ca, err := os.ReadFile(srv.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	s := config.Source{URL: srv.URL, CA: string(ca), Family: "auto", Weight: 1}
	n, err := p.sourceNet(upstream.NetConfig{}, s)
	if err != nil || n == p.net {
		t.Fatalf("%v, %v", n, err)
	}
	u, _ := url.Parse(srv.URL)
	if _, err := n.Get(t.Context(), "A", u); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("the source itself: %v", err)
	}
	if _, err := p.net.Get(t.Context(), "B", u); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("by another source's Net: %v", err)
	}
	if n, _ := p.sourceNet(upstream.NetConfig{}, config.Source{URL: srv.URL, Name: "x", Family: "auto", Weight: 7, Tier: 1}); n != p.net {
		t.Error("a source without anything special has a Net of its own")
	}
}
