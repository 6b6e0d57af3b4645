//go:build !darwin && !windows

// The go command, as it is released, finds names by Go's own resolver. So does Sluice,
// however it was built: with cgo it would ask the C library wherever nsswitch.conf names
// more than files and dns, and doctor would call well what the go command cannot find.
// GODEBUG=netdns=cgo in the environment outranks this.

//go:debug netdns=go
package main
