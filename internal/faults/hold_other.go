//go:build !unix

package faults

// Hold takes no address here: another program may get the port.
func Hold(addr string) (at string, release func(), err error) { return addr, func() {}, nil }
