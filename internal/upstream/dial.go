package upstream

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// A Family says which IP version connects to a source. The zero value is AutoFamily.
type Family string

// The families. Those that prefer one give the other its turn after raceDelay.
const (
	AutoFamily Family = "auto" // both, as RFC 8305 has it
	IPv4       Family = "4"    // never the other
	IPv6       Family = "6"
	PreferIPv4 Family = "prefer4"
	PreferIPv6 Family = "prefer6"
)

// A Resolver looks names up. A *net.Resolver is one, and so is *DNS.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

const (
	// raceDelay is how long an address has the field for itself before the next
	// one is tried beside it. A handshake round the earth takes less.
	raceDelay = 300 * time.Millisecond
	// maxAddresses bounds what one name may make us dial.
	maxAddresses = 16
)

// network is the family as net.Resolver names it.
func (f Family) network() string {
	switch f {
	case IPv4:
		return "ip4"
	case IPv6:
		return "ip6"
	}
	return "ip"
}

// order is the order in which addresses are tried: the preferred family first,
// then by turns, so that one dead family costs one raceDelay however many
// addresses it has.
func (f Family) order(addrs []netip.Addr) []netip.Addr {
	var first, second []netip.Addr
	for _, a := range addrs {
		a = a.Unmap()
		switch {
		case f == IPv4 && !a.Is4() || f == IPv6 && a.Is4() || slices.Contains(first, a) || slices.Contains(second, a):
		case a.Is4() == (f == IPv4 || f == PreferIPv4):
			first = append(first, a)
		default:
			second = append(second, a)
		}
	}
	var l []netip.Addr
	for i := range max(len(first), len(second)) {
		if i < len(first) {
			l = append(l, first[i])
		}
		if i < len(second) {
			l = append(l, second[i])
		}
	}
	return l[:min(len(l), maxAddresses)]
}

// A dialer connects by its own resolver and choice of addresses.
type dialer struct {
	one      *net.Dialer // to one address; its Control is the guard's, its Timeout is for all
	resolver Resolver
	family   Family
}

// DialContext connects to the first address of a host that accepts.
func (d *dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return d.one.DialContext(ctx, network, addr)
	}
	ctx, cancel := context.WithTimeout(ctx, d.one.Timeout)
	defer cancel()
	found, err := d.resolver.LookupNetIP(ctx, d.family.network(), host)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	var addrs []string
	for _, ip := range d.family.order(found) {
		addrs = append(addrs, net.JoinHostPort(ip.String(), port))
	}
	if len(addrs) == 0 {
		err := &net.DNSError{Err: "it has no address of the IP version that is wanted", Name: host, IsNotFound: true}
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	return race(ctx, addrs, func(ctx context.Context, addr string) (net.Conn, error) {
		return d.one.DialContext(ctx, network, addr)
	})
}

// race tries addresses in their order, the next one when the last has failed or
// raceDelay is over, and returns the first connection; the others are given up.
// It returns after its last goroutine.
func race(ctx context.Context, addrs []string, dial func(ctx context.Context, addr string) (net.Conn, error)) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		i    int
		conn net.Conn
		err  error
	}
	results := make(chan result)
	errs := make([]error, len(addrs))
	started, running := 0, 0
	start := func() {
		i := started
		started++
		running++
		go func() {
			conn, err := dial(ctx, addrs[i])
			results <- result{i, conn, err}
		}()
	}
	start()
	next := time.NewTimer(raceDelay)
	defer next.Stop()
	var won net.Conn
	for running > 0 {
		more := false
		select {
		case r := <-results:
			running--
			switch {
			case r.err != nil:
				errs[r.i] = r.err
				more = true
			case won == nil:
				won = r.conn
				cancel()
			default:
				r.conn.Close()
			}
		case <-next.C:
			more = true
		}
		if more && won == nil && started < len(addrs) && ctx.Err() == nil {
			start()
			next.Reset(raceDelay)
		}
	}
	if won != nil {
		return won, nil
	}
	return nil, joined(errs)
}

// joined is all errors in one line, with the first of each text.
func joined(errs []error) error {
	var all error
	for _, err := range errs {
		switch {
		case err == nil || all != nil && strings.Contains(all.Error(), err.Error()):
		case all == nil:
			all = err
		default:
			all = fmt.Errorf("%w; %w", all, err)
		}
	}
	return all
}

// Except makes a NetConfig.Proxy that goes past the forward proxy to the hosts of
// noProxy, a list in the form of NO_PROXY, and else does as proxy does.
func Except(noProxy string, proxy func(*http.Request) (*url.URL, error)) func(*http.Request) (*url.URL, error) {
	if strings.TrimSpace(noProxy) == "" || proxy == nil {
		return proxy
	}
	return func(r *http.Request) (*url.URL, error) {
		if noForward(noProxy, r.URL) {
			return nil, nil
		}
		return proxy(r)
	}
}

// noForward reports whether a NO_PROXY list names the host of u: by "*", as it
// is, as one below a domain, or as an address in a network; with a port, at that
// port only.
func noForward(list string, u *url.URL) bool {
	host, port, err := net.SplitHostPort(hostPort(u))
	if err != nil {
		return false
	}
	host = strings.TrimSuffix(host, ".")
	ip, iperr := netip.ParseAddr(host)
	for entry := range strings.SplitSeq(strings.ToLower(list), ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		if entry == "*" {
			return true
		}
		if p, err := netip.ParsePrefix(entry); err == nil {
			if iperr == nil && p.Contains(ip.Unmap()) {
				return true
			}
			continue
		}
		if h, p, err := net.SplitHostPort(entry); err == nil {
			if p != port {
				continue
			}
			entry = h
		}
		if e, err := netip.ParseAddr(strings.Trim(entry, "[]")); err == nil {
			if iperr == nil && e.Unmap() == ip.Unmap() {
				return true
			}
			continue
		}
		entry = strings.TrimPrefix(entry, "*")
		if strings.HasPrefix(entry, ".") && strings.HasSuffix(host, entry) || host == entry || strings.HasSuffix(host, "."+entry) && !strings.HasPrefix(entry, ".") {
			return true
		}
	}
	return false
}
