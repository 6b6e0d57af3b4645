//go:build !unix

package modtest

// hold takes no address here: another program may get the port.
func hold(string) (release func(), err error) { return func() {}, nil }
