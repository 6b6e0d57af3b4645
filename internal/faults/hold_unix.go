//go:build unix

package faults

import (
	"net/netip"
	"syscall"
)

// Hold takes the address of a port, port 0 for any free one, without listening there:
// dials are refused, and nobody who asks for any free port gets this one, nor does a
// connection that goes out. at is what it took. On Linux whoever asks for this very port
// and sets SO_REUSEADDR, as net.Listen does, may listen there all the same. release gives
// it free. The error says that somebody has it already, or that addr is no address and
// port. On systems that are no Unix it takes nothing, and at is addr.
func Hold(addr string) (at string, release func(), err error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return "", nil, err
	}
	family, sa := syscall.AF_INET6, syscall.Sockaddr(&syscall.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16()})
	if ap.Addr().Is4() {
		family, sa = syscall.AF_INET, &syscall.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}
	}
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return "", nil, err
	}
	// Connections of before may be in their last minute.
	if err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err == nil {
		err = syscall.Bind(fd, sa)
	}
	if err == nil {
		sa, err = syscall.Getsockname(fd)
	}
	if err != nil {
		syscall.Close(fd)
		return "", nil, err
	}
	port := ap.Port()
	switch sa := sa.(type) {
	case *syscall.SockaddrInet4:
		port = uint16(sa.Port)
	case *syscall.SockaddrInet6:
		port = uint16(sa.Port)
	}
	return netip.AddrPortFrom(ap.Addr(), port).String(), func() { syscall.Close(fd) }, nil
}
