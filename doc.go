// Package sluice is the root of a program, not a library: everything importable
// is under internal, and the program is cmd/sluice. It holds the test of who may
// import whom; docs/architecture.md is the picture of the same.
package sluice
