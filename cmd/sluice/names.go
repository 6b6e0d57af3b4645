package main

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"runtime"

	"github.com/modsluice/sluice/internal/config"
	"github.com/modsluice/sluice/internal/doctor"
	"github.com/modsluice/sluice/internal/origin"
	"github.com/modsluice/sluice/internal/upstream"
)

// A resolverFlag is the address of a resolver; the zero value is none.
type resolverFlag struct {
	text string
	url  *url.URL
}

func (f *resolverFlag) String() string { return f.text }
func (f *resolverFlag) Type() string   { return "URL" }
func (f *resolverFlag) Set(s string) error {
	u, err := config.ResolverURL(s)
	if err != nil {
		return err
	}
	if u.Scheme == "udp" { // whoever lies here could lie in its name
		return fmt.Errorf("a second opinion has to come encrypted: write https://dns.example.com/dns-query or tls://192.0.2.1:853")
	}
	f.text, f.url = s, u
	return nil
}

// names is how this machine finds names, for doctor. second is the resolver for a second
// opinion.
func (e *env) names(second resolverFlag) (doctor.Names, error) {
	var n doctor.Names
	switch runtime.GOOS {
	case "windows":
		n.Hosts = filepath.Join(e.getenv("SystemRoot"), "System32", "drivers", "etc", "hosts")
	case "darwin": // its resolver does not go by resolv.conf, nor does Go's there
		n.Hosts = "/etc/hosts"
	default:
		n.Conf, n.Hosts = "/etc/resolv.conf", "/etc/hosts"
		n.System = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return origin.SystemLookup(ctx, e.environ, host)
		}
		n.GoHasSystem = e.goHasCgo
	}
	if second.url != nil {
		dns, err := upstream.NewDNS(second.url, nil)
		if err != nil {
			return n, misuse("--doh: %w", err)
		}
		n.Opinion, n.OpinionName = dns, second.url.Host
	}
	return n, nil
}

// goHasCgo reports whether the go command here was built with cgo, and so may ask the
// system's resolver.
func (e *env) goHasCgo() bool {
	name, err := origin.FindGo(e.getenv("PATH"))
	if err != nil {
		return false
	}
	bi, err := buildinfo.ReadFile(name)
	if err != nil {
		return false
	}
	for _, set := range bi.Settings {
		if set.Key == "CGO_ENABLED" {
			return set.Value == "1"
		}
	}
	return false
}
