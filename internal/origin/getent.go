package origin

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
)

// SystemLookup asks the system's own resolver for the addresses of host, as programs
// with the C library do, through the program getent. environ is the whole environment.
// The error is a *net.DNSError with IsNotFound where the system says that there are
// none; any other says that it could not be told, as without getent.
func SystemLookup(ctx context.Context, environ []string, host string) ([]netip.Addr, error) {
	getent, err := lookPath(getenv(environ, "PATH"), "getent")
	if err != nil {
		return nil, err
	}
	if host == "" || strings.HasPrefix(host, "-") {
		return nil, errors.New("it is no name of a host")
	}
	c := &command{path: getent, args: []string{"ahosts", host}, dir: "/", env: environ}
	stdout, _, err := c.run(ctx)
	// getent(1): 2, a key could not be found.
	if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() == 2 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	if err != nil {
		return nil, err
	}
	addrs := ahosts(string(stdout))
	if len(addrs) == 0 {
		return nil, errors.New("getent printed no address")
	}
	return addrs, nil
}

// ahosts reads what getent ahosts prints: an address, what kind of socket, and on some
// lines the name.
func ahosts(out string) (addrs []netip.Addr) {
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if a, err := netip.ParseAddr(f[0]); err == nil && !slices.Contains(addrs, a.Unmap()) {
			addrs = append(addrs, a.Unmap())
		}
	}
	return addrs
}
