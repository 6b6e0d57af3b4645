package server

import (
	"context"
	"net"
)

// InFlight is how many requests s is answering.
func InFlight(s *Server) int64 { return s.inFlight.Load() }

// WithConn is ctx for the requests of a connection, as Serve makes it.
func WithConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, newConn(c))
}

// ParseHead is parseHead: the method is GET or HEAD, n is 0 if the head does not
// stand alone, whole is false if there may be more of it to come.
func ParseHead(b []byte) (method, path string, n int, whole bool) {
	h, n, what := parseHead(b)
	method = "HEAD"
	if h.get {
		method = "GET"
	}
	return method, h.path, n, what != beginsPart
}

// OpenWires is how many connections s holds.
func OpenWires(s *Server) (n int) {
	s.wires.Range(func(any, any) bool { n++; return true })
	return n
}
